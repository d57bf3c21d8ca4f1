"""What the sections share: the time that is left, the torch side, the program under test, and where figures go."""

import json
import os
import select
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


class OutOfTime(RuntimeError):
    """A section has no time left to begin or end in, or a part of one: what failed is said, and the others go on."""


class Bench:
    """One run of the benchmark."""

    def __init__(self, args, program, card, log):
        self.args, self.program, self.card, self.log = args, program, card, log
        self.began = time.monotonic()
        self.checks, self.figures, self.limits, self.facts, self.profiles = [], {}, {}, {}, []
        self.server = None
        self.maker = None
        self.runs = 0
        self.kept = {}
        self.section_ends = self.began + args.seconds

    # Time.

    def left(self):
        """Seconds of this section, and of the whole."""
        return min(self.began + self.args.seconds, self.section_ends) - time.monotonic()

    def say(self, text):
        """A progress line."""
        line = f"[{time.strftime('%H:%M:%S')} +{time.monotonic() - self.began:5.1f}] {text}"
        print(line, flush=True)
        self.log.write((line + "\n").encode())
        self.log.flush()

    # The torch side.

    def ask(self, do, limit=None, **question):
        """Asks the torch side; raises what it says is wrong, and `OutOfTime` where it does not answer (it is ended then)."""
        limit = min(limit or 1e9, self.left())
        if limit < 1:
            raise OutOfTime("no time left")
        if self.server is None or self.server.poll() is not None:
            self.server = subprocess.Popen(
                [sys.executable, "-u", os.path.join(HERE, "server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self.log, start_new_session=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self.log.write(f"\n? {do} {question}\n".encode())
        self.log.flush()
        self.server.stdin.write((json.dumps({"do": do, **question}) + "\n").encode())
        self.server.stdin.flush()
        ready, _, _ = select.select([self.server.stdout], [], [], limit)
        line = self.server.stdout.readline() if ready else b""
        if not line:
            self.end_server()
            raise OutOfTime(f"the torch side gave no answer to {do} in {limit:.0f} s" if not ready else f"the torch side died of {do}")
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(f"{do}: {reply['error']}")
        self.log.write(f"! {json.dumps(reply)}\n".encode())
        return reply["value"]

    def end_server(self):
        """Ends the torch side and its workers."""
        if self.server is not None:
            try:
                os.killpg(self.server.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.server.wait()
            self.server = None

    # The program under test.

    def ours(self, label, words, limit=45, reports_failure=False):
        """Runs `trommel`; raises where it fails, but for a report that `reports_failure` itself. What it cost goes to the profiles."""
        limit = min(limit, self.left())
        if limit < 2:
            raise OutOfTime("no time left")
        began = time.monotonic()
        done = self.program.run(words, limit)
        done["card"] = self.card.busy(began, time.monotonic())
        self.profiles.append({"label": label, "words": [str(word) for word in words], **done})
        report = done["report"] or {}
        spent = report.get("spent") or report.get("stages") or ""
        self.say(
            f"  trommel {label}: status {done['status']}, wall {done['wall_seconds']} s, inside {report.get('seconds', 0):.1f} s, "
            f"CPU {done['cpu_seconds']} s, resident {done['peak_resident_mib']} MiB, card {done['card']}, spent {spent}, "
            f"CPU s by thread {dict(list(done['cpu_seconds_by_thread'].items())[:6])}"
        )
        if not done["ok"] and not (reports_failure and report and done["status"] != "timeout"):
            raise RuntimeError(f"trommel {label}: status {done['status']}: {done['last_line']}")
        return done

    def folder(self, name, durable=True):
        """A fresh folder's path for a run: on the disk, or beside the shards, where what is large and not timed goes."""
        self.runs += 1
        return os.path.join(self.args.work if durable else self.args.data, "runs", f"{self.runs:02d}-{name}")

    # The pictures.

    def make_pictures(self):
        """Begins to make the shards, beside whatever follows."""
        args = self.args
        words = [sys.executable, os.path.join(HERE, "pictures.py"), args.data, "--count", args.pictures, "--samples", args.samples]
        words += ["--names", args.names] + (["--photos", args.photos] if args.photos else [])
        self.maker = subprocess.Popen(
            list(map(str, words)), stdout=subprocess.PIPE, stderr=self.log, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def shards(self, size, count):
        """The first `count` shards of a size, as a list; waits for them to be made."""
        if self.maker is not None:
            began = time.monotonic()
            try:  # All sections need them: it is nobody's time.
                out, _ = self.maker.communicate(timeout=max(1, self.began + self.args.seconds - began))
            except subprocess.TimeoutExpired:
                raise OutOfTime("the pictures were not made in time") from None
            self.section_ends += time.monotonic() - began
            if self.maker.returncode:
                raise RuntimeError("pictures.py failed: see the log")
            self.maker = None
            made = json.loads(out)
            sizes = ", ".join(f"{size} of {bytes / 1000:.0f} kB" for size, bytes in made["mean_jpeg_bytes"].items())
            self.facts["pictures"] = f"{made['pictures_of_each_size']:,} each of {sizes}, from {made['source']}, made in {made['seconds']} s"
            self.say(f"pictures {self.facts['pictures']} (waited {time.monotonic() - began:.1f} s)")
        count = max(1, min(count, self.args.names))
        return [os.path.join(self.args.data, size, f"{number:05d}.tar") for number in range(count)]

    def brace(self, size, count):
        """The same as one word for the program, and how many samples that is."""
        shards = self.shards(size, count)
        last = len(shards) - 1
        return os.path.join(self.args.data, size, f"{{00000..{last:05d}}}.tar"), len(shards) * self.args.samples

    # What is found.

    def check(self, what, good, detail):
        """A line of the correctness table."""
        self.checks.append({"what": what, "verdict": "equal" if good is True else "DIFFERS" if good is False else good, "detail": detail})
        self.say(f"  check {what}: {self.checks[-1]['verdict']}: {detail}")

    def figure(self, row, side, value, note=""):
        """A figure of `ours`, `stack` or `limit`; several rounds give several."""
        at = self.figures.setdefault(row, {"ours": [], "stack": [], "limit": [], "notes": []})
        if value is not None:
            at[side].append(value)
        if note and note not in at["notes"] and len(at[side]) <= 1:  # The first round's; results.json has all.
            at["notes"].append(note)
        if value is not None:
            self.say(f"  {row}: {side} {value:,.1f} {note}")
