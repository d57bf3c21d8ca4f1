"""Runs the program under test: where its libraries are, which flags it has, and what each of its processes cost."""

import glob
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time


def site_folders():
    """Folders of libraries that torch's wheels and CUDA bring, torch's first."""
    spec = importlib.util.find_spec("torch")
    torch = os.path.dirname(spec.origin) if spec and spec.origin else None
    folders = [os.path.join(torch, "lib")] if torch else []
    for place in [os.path.dirname(torch)] * bool(torch) + sys.path:
        folders += sorted(glob.glob(os.path.join(place, "nvidia", "*", "lib")))
    folders += ["/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib"]
    return list(dict.fromkeys(folder for folder in folders if os.path.isdir(folder)))


def find_library(name, folders):
    """The path of a library in the folders, or as the system's loader knows it."""
    for folder in folders:
        if os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    found = re.search(rf"{re.escape(name)} .*=> (\S+)", listed)
    return found.group(1) if found else None


def lend_nvjpeg(folders, work):
    """A folder with `libnvjpeg.so.13` for a machine that has it inside torchvision only, under a name of its own."""
    if find_library("libnvjpeg.so.13", folders):
        return []
    spec = importlib.util.find_spec("torchvision")
    beside = os.path.dirname(os.path.dirname(spec.origin)) if spec and spec.origin else ""
    inside = sorted(glob.glob(os.path.join(beside, "torchvision.libs", "libnvjpeg.*.so.13")))
    if not inside:
        return []
    place = os.path.join(work, "lib")
    os.makedirs(place, exist_ok=True)
    link = os.path.join(place, "libnvjpeg.so.13")
    if not os.path.lexists(link):
        os.symlink(inside[0], link)
    return [place]


def threads_of(pid):
    """CPU seconds so far of each thread of a process, summed by name without its number."""
    ticks, found = os.sysconf("SC_CLK_TCK"), {}
    for task in glob.glob(f"/proc/{pid}/task/*/stat"):
        try:
            with open(task) as file:
                text = file.read()
        except OSError:
            continue
        name = re.sub(r"[-_ #:]*\d+$", "", text[text.index("(") + 1:text.rindex(")")])
        fields = text[text.rindex(")") + 2:].split()
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / ticks
    return found


class Program:
    """`trommel`, with the environment that lets it find libtorch, and a log of everything that it printed."""

    def __init__(self, path, work, log, card):
        self.path, self.card, self.log = path, card, log
        folders = site_folders()
        folders += lend_nvjpeg(folders, work)
        self.folders = folders
        before = os.environ.get("LD_LIBRARY_PATH")
        self.env = {**os.environ, "LD_LIBRARY_PATH": ":".join(folders + ([before] if before else []))}
        self.help = {}

    def flags(self, command):
        """The flags of a command; empty where it does not exist."""
        if command not in self.help:
            out = subprocess.run([self.path, command, "--help"], capture_output=True, text=True, env=self.env, timeout=60, check=False)
            self.help[command] = set(re.findall(r"--[a-z][a-z0-9-]*", out.stdout)) if out.returncode == 0 else set()
        return self.help[command]

    def flag(self, command, *names):
        """The first of `names` that the command has: flags are renamed, this script is not."""
        return next((name for name in names if name in self.flags(command)), None)

    def stages(self):
        """What `trommel bench` measures alone."""
        out = subprocess.run([self.path, "bench", "--help"], capture_output=True, text=True, env=self.env, timeout=60, check=False).stdout
        return set(re.findall(r"^ +- (\w+):", out, re.M)) | set(re.findall(r"\w+", "".join(re.findall(r"possible values: ([^\]]*)", out))))

    def options(self, command, **wanted):
        """`name="f16"` as flags; each name may be several in order of preference, joined by `|`. What the command lacks is left out."""
        words = []
        for names, value in wanted.items():
            flag = self.flag(command, *("--" + name.replace("_", "-") for name in names.split("__or__")))
            if flag and value is not None:
                words += [flag] if value is True else [flag, str(value)]
        return words

    def run(self, words, limit):
        """One process; never raises. Its report (`--json`), wall and CPU seconds, peak memory, CPU seconds by thread, end of its log."""
        began = time.monotonic()
        self.log.write(f"\n$ trommel {' '.join(map(str, words))}\n".encode())
        self.log.flush()
        process = subprocess.Popen(
            [self.path, *map(str, words)], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        out, err, threads, timed_out = [], [], {}, False
        readers = [threading.Thread(target=lambda pipe, into: into.append(pipe.read()), args=pair, daemon=True)
                   for pair in ((process.stdout, out), (process.stderr, err))]
        for reader in readers:
            reader.start()
        status = usage = None
        sampled = began
        while status is None:
            pid, code, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                status = os.waitstatus_to_exitcode(code)
                break
            now = time.monotonic()
            if now - sampled > 0.5:
                threads, sampled = threads_of(process.pid) or threads, now
            if now - began > limit and not timed_out:
                timed_out = True
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.01)
        process.returncode = status
        wall = time.monotonic() - began
        for reader in readers:
            reader.join(5)
        out, err = (b"".join(part).decode(errors="replace") for part in (out, err))
        self.log.write((err + out).encode())
        self.log.flush()
        report = None
        for line in out.splitlines():
            if line.startswith("{"):
                try:
                    report = json.loads(line)
                except ValueError:
                    pass
        said = [line for line in err.splitlines() if line.strip()]
        said += [line for line in said if line.startswith("error:")]  # The parser's hint follows its error.
        return {
            "status": "timeout" if timed_out else status,
            "ok": status in (0, 4) and not timed_out,
            "wall_seconds": round(wall, 2),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_resident_mib": usage.ru_maxrss // 1024,
            "cpu_seconds_by_thread": {k: round(v, 1) for k, v in sorted(threads.items(), key=lambda it: -it[1])[:10]},
            "report": report,
            "last_line": (f"no end after {limit:.0f} s" if timed_out else said[-1] if said else ""),
        }


def rate_in(report):
    """The samples (rows, images) a second that a report of `trommel bench` names, wherever in it."""
    if isinstance(report, dict):
        for key in ("samples_per_second", "per_second", "rows_per_second", "images_per_second", "pictures_per_second"):
            if isinstance(report.get(key), (int, float)):
                return float(report[key])
        for value in report.values():
            found = rate_in(value)
            if found is not None:
                return found
    if isinstance(report, list):
        return next((found for found in map(rate_in, report) if found is not None), None)
    return None


class Card:
    """The card's use, once a second, from `nvidia-smi dmon`; nothing where there is none."""

    def __init__(self, path):
        self.rows, self.process = [], None
        try:
            by_line = ["stdbuf", "-oL"] if shutil.which("stdbuf") else []
            words = [*by_line, "nvidia-smi", "dmon", "-s", "pum", "-d", "1"]
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return
        threading.Thread(target=self.read, args=(path,), daemon=True).start()

    def read(self, path):
        names = []
        with open(path, "w") as file:
            for line in self.process.stdout:
                words = line.split()
                if line.startswith("#") and "gpu" in words:
                    names = words[1:]
                    file.write("time " + " ".join(names) + "\n")
                elif names and not line.startswith("#"):
                    self.rows.append((time.monotonic(), dict(zip(names, words))))
                    file.write(time.strftime("%H:%M:%S ") + " ".join(words) + "\n")
                    file.flush()

    def busy(self, since, until):
        """Mean use in percent of the multiprocessors and of the JPEG engines, and the most memory in MiB, between two times."""
        rows = [row for at, row in self.rows if since <= at <= until]
        if not rows:
            return None
        number = lambda row, name: int(row.get(name, "0")) if row.get(name, "-").isdigit() else 0
        mean = lambda name: round(sum(number(row, name) for row in rows) / len(rows))
        return {"sm": mean("sm"), "jpg": mean("jpg"), "memory_mib": max(number(row, "fb") for row in rows), "watt": mean("pwr")}

    def stop(self):
        if self.process:
            self.process.terminate()
