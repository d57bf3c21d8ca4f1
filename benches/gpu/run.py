"""One command, one card: ours, the Python stack and the bare limits in one run; correctness first, the table last. See README.md."""

import argparse
import glob
import gzip
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def memory_total():
    """Bytes of memory that this machine, or the control group of this process, has."""
    with open("/proc/meminfo") as file:
        total = int(re.search(r"MemTotal: +(\d+) kB", file.read())[1]) << 10
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            return min(total, int(file.read()))
    except (OSError, ValueError):  # No such group, or `max`.
        return total


def has_card(device):
    """Whether a card is used. One that is there and would not be is said at once: figures without it mean nothing."""
    if device == "cpu":
        return False
    if glob.glob("/dev/nvidia[0-9]*") or os.path.exists("/dev/dxg"):
        return True
    listed = ""
    if shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    if listed.startswith("GPU ") or device.startswith("cuda"):
        sys.exit(f"no /dev/nvidia[0-9]* here, so that no card would be used; nvidia-smi -L: {listed.strip() or 'nothing'}. --device cpu goes without one")
    return False


def arguments():
    """Flags; what follows from them and from the machine is added to them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trommel", help="the program [default: beside this script, or target/release]")
    parser.add_argument("--photos", help="folder of real photos, at most 4 MiB of which are used [default: `photos` beside this script, else noise]")
    parser.add_argument("--out", default="gpu-results", help="folder for table.md, results.json and the log")
    parser.add_argument("--work", help="folder for what is made, on a disk [default: in the system's temporary folder]")
    parser.add_argument("--data", help="folder for shards and weights [default: in /dev/shm where 24 GiB are free there, else in --work]")
    parser.add_argument("--seconds", type=float, default=250, help="for all of it: what does not fit is left out, and said")
    parser.add_argument("--measure", type=float, default=3, help="seconds of each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="times that every section that measures is run; medians are shown")
    parser.add_argument("--only", help="sections, by comma, in this order")
    parser.add_argument("--skip", default="", help="sections, by comma")
    parser.add_argument("--list", action="store_true", help="name the sections")
    parser.add_argument("--pictures", type=int, default=20000, help="pictures made of each size; more shards are links to them")
    parser.add_argument("--samples", type=int, default=500, help="samples a shard")
    parser.add_argument("--memory", type=float, metavar="GIB", help="memory that the program may take, in GiB [default: 48, or half of a machine with less than 72]; say it where memory grows with use")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:0: what the program is told")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few pictures: tries this script on a CPU in a minute")
    args = parser.parse_args()
    args.cores = len(os.sched_getaffinity(0))
    if args.list:
        args.device = "cpu"
    args.card = has_card(args.device)
    # Beside it lie the shards: 24 GiB in /dev/shm.
    args.memory_total = memory_total()
    if args.memory is None:
        args.memory = 48 << 30 if args.memory_total >= 72 << 30 else args.memory_total // 2
    elif args.memory > 0:
        args.memory = int(args.memory * 2**30)
    else:
        parser.error("--memory: more than 0 GiB")
    if not args.card:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # A program that is told nothing runs with its default flags; it takes the card by itself.
    args.device_flag = None if args.device == "auto" else args.device
    args.prune_name, args.small_name = ("tiny-a", "tiny-b") if args.tiny else ("ViT-B-16-plus-240", "ViT-B-32")
    args.prune_model, args.small_model = args.prune_name, args.small_name
    args.points, args.dim, args.view = 167_000, 640, 224
    args.batch, args.train_batch, args.steps, args.workers = 256, 1024, 32, max(1, args.cores - 1)
    # Most shards that the program leaves open on a card: `MOST_OPEN_SHARDS` in pipelines/ledger_memory.rs.
    args.open_shards = 32
    args.names = max(max(100_000, args.pictures) // args.samples, 3 * args.open_shards)
    if args.tiny:
        args.pictures, args.samples, args.points, args.dim, args.view = min(args.pictures, 96), 24, 3000, 64, 32
        args.batch, args.train_batch, args.steps, args.names, args.measure = 16, 32, 8, 16, min(args.measure, 0.4)
    return args


def places(args):
    """Makes the folders."""
    own = f"trommel-gpu-{os.getpid()}"  # What is removed at the end is never a folder that was given.
    args.work = os.path.join(os.path.abspath(args.work or os.environ.get("TMPDIR", "/tmp")), own)
    if args.data is None:
        shared = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
        roomy = shared and shared.f_bavail * shared.f_frsize > 24 << 30 and os.access("/dev/shm", os.W_OK)
        args.data = "/dev/shm" if roomy else args.work
    args.data = os.path.join(args.data, f"{own}-data")
    args.data, args.out = os.path.abspath(args.data), os.path.abspath(args.out)
    for place in (args.work, args.data, args.out):
        os.makedirs(place, exist_ok=True)
    if args.photos is None and os.path.isdir(os.path.join(HERE, "photos")):
        args.photos = os.path.join(HERE, "photos")
    if args.tiny:
        for name in ("prune_name", "small_name"):
            path = os.path.join(args.work, getattr(args, name) + ".json")
            with open(path, "w") as file:
                json.dump(TINY, file)
            setattr(args, name.replace("name", "model"), path)


def find_program(args):
    """The program under test; one that was packed is unpacked first."""
    packed = os.path.join(HERE, "bin")
    for name in sorted(os.listdir(packed)) if os.path.isdir(packed) and not args.trommel else []:
        if name.endswith(".gz"):
            os.makedirs(os.path.join(args.work, "bin"), exist_ok=True)
            place = os.path.join(args.work, "bin", name[:-3])
            with gzip.open(os.path.join(packed, name)) as source, open(place, "wb") as into:
                shutil.copyfileobj(source, into, 1 << 20)
            os.chmod(place, 0o755)
    tree = os.path.join(HERE, "..", "..", "target", "release", "trommel")
    for path in filter(None, (args.trommel, os.path.join(packed, "trommel"), os.path.join(args.work, "bin", "trommel"), tree, shutil.which("trommel"))):
        if os.path.isfile(path):
            return os.path.abspath(path)
    sys.exit("no program: build it (`cargo build --release`), or give --trommel")


def unpack_wheels(args):
    """Wheels beside this script of packages that are missing here are unpacked, not installed: none of them needs more."""
    place = os.path.join(args.work, "site")
    for wheel in sorted(os.listdir(os.path.join(HERE, "wheels"))) if os.path.isdir(os.path.join(HERE, "wheels")) else []:
        with zipfile.ZipFile(os.path.join(HERE, "wheels", wheel)) as archive:
            package = next(name.split("/")[0] for name in archive.namelist() if name.endswith("/__init__.py"))
            if importlib.util.find_spec(package) is None:
                archive.extractall(place)
    if os.path.isdir(place):
        sys.path.append(place)
    missing = [name for name in ("torch", "torchvision", "open_clip", "webdataset", "PIL", "pyarrow", "safetensors") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"missing here: {', '.join(missing)}. README.md says which wheels to carry")


def plan(args):
    """(name, section, seconds at most, measures) in the order in which they are worth the time, and the rows with what is wanted."""
    import checks
    import rows as r
    import words

    big, small = args.prune_name, args.small_name
    todo = [
        ("limits", r.limits, 25, False),
        ("weights", words.weights, 40, False),
        ("prune-400", r.prune("400x350", "large"), 130, True),
        ("prune-640", r.prune("640x480", "large"), 115, True),
        ("embedder", r.embedder("prune"), 40, True),
        ("embed-400", r.embed("400x350"), 60, True),
        ("embed-640", r.embed("640x480"), 60, True),
        ("train", r.train, 75, True),
        ("step", r.step, 50, True),
        ("together", r.together, 60, True),
        ("join", r.join_ours, 30, True),
        ("decode-400", r.decode("400x350"), 50, True),
        ("decode-640", r.decode("640x480"), 50, True),
        ("losses", checks.losses, 60, False),
        ("embedder-small", r.embedder("small"), 40, True),
        ("features", checks.features, 60, False),
        ("join-exact", checks.join_exact, 60, False),
        ("prune-400-few", r.prune("400x350", "small"), 85, True),
        ("prune-640-few", r.prune("640x480", "small"), 85, True),
        ("decoders", checks.decoders, 60, False),
        ("embed-flags", r.embed_flags, 60, True),
        ("variants", r.variants, 60, False),
    ]
    many, few = f"{args.points:,} points", f"{min(1000, args.points):,} points"
    rows = [
        (f"prune {big}, {many}, 400x350", 3.0, "stack"), (f"prune {big}, {many}, 640x480", 3.0, "stack"),
        (f"prune {big}, {few}, 400x350", None, "stack"), (f"prune {big}, {few}, 640x480", None, "stack"),
        (f"embed {small}, 400x350", 6.0, "stack"), (f"embed {small}, 640x480", 4.0, "stack"),
        (f"embed {small}, 400x350, default flags", None, "stack"), (f"embed {small}, 400x350, f16, 256", None, "stack"),
        (f"embedder alone, {big}", 1.0, "stack"), (f"embedder alone, {small}", None, "stack"),
        (f"train {small}, batch {args.train_batch}, 400x350", 1.8, "stack"), (f"training step alone, {small}", None, "stack"),
        ("prune and train together, raw samples/s", 0.95, "limit"),
        (f"join alone, {args.points:,} points, rows/s", None, "stack"),
        ("decode alone with the view, 400x350", None, "stack"), ("decode alone with the view, 640x480", None, "stack"),
    ]
    return todo, rows


def facts(b, program):
    """Names and versions of what is compared, and where the libraries lie."""
    import ours

    version = subprocess.run([program.path, "--version"], capture_output=True, text=True, env=program.env, check=False).stdout.strip()
    b.facts["trommel"] = version or program.path
    driver = ""
    if shutil.which("nvidia-smi") and b.args.card:
        words = ["nvidia-smi", "--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
        driver = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    b.facts["driver"] = driver or "none"
    names = ("libtorch_cpu.so", "libtorch_cuda.so", "libcudart.so.13", "libnvrtc.so.13", "libnvjpeg.so.13")
    b.facts["libraries"] = {name: ours.find_library(name, program.folders) for name in names}
    with open("/proc/cpuinfo") as file:
        text = file.read()
    b.facts["cpu"] = (re.search(r"model name\s*: (.*)", text) or [0, "?"])[1]
    b.facts["memory"] = f"{b.args.memory_total / 2**30:.1f} GiB, of which the program gets --memory {b.args.memory / 2**30:.1f} GiB"
    for name in ("trommel", "driver", "libraries", "cpu", "memory"):
        b.say(f"{name}: {b.facts[name]}")
    b.say("flags of the program: " + "; ".join(f"{command} {len(program.flags(command))}" for command in ("prune", "embed", "train", "bench")))


def cut_off(*_):
    """A signal ends the run as Ctrl-C does: with the table of what was found."""
    raise KeyboardInterrupt


class NoCard:
    """Stands for the card's use where there is no card."""

    def busy(self, *_):
        """Nothing."""

    def stop(self):
        """Nothing."""


def main():
    args = arguments()
    if args.list:
        print("\n".join(name for name, *_ in plan(args)[0]))
        return
    places(args)
    unpack_wheels(args)
    import bench
    import ours
    import table

    with open(os.path.join(args.out, "log.txt"), "wb", buffering=0) as log:
        card = ours.Card(os.path.join(args.out, "card.log")) if args.card else NoCard()
        program = ours.Program(find_program(args), args.work, log, args.card)
        b = bench.Bench(args, program, card, log)
        todo, rows = plan(args)
        chosen = args.only.split(",") if args.only else [name for name, *_ in todo if name not in ("decoders", "embed-flags", "variants")]
        chosen = [name for name in chosen if name not in args.skip.split(",")]
        unknown = set(chosen) - {name for name, *_ in todo}
        if unknown:
            sys.exit(f"no such section: {', '.join(sorted(unknown))}; --list names them")
        command = "run.py " + shlex.join(sys.argv[1:])
        signal.signal(signal.SIGTERM, cut_off)
        try:
            b.make_pictures()
            try:
                facts(b, program)
                b.facts["hello"] = b.ask("hello", limit=90)
                b.say(f"torch side: {b.facts['hello']}")
            except Exception as error:
                b.check("start", "FAILED", f"{type(error).__name__}: {error}")
            known = {name: rest for name, *rest in todo}
            once = ("points", "join checked", ("decoded", "400x350"), ("decoded", "640x480"))
            steps = [(name, *known[name][:2]) for name in chosen]
            again = [step for step in steps if known[step[0]][2]]
            for name, section, most in steps + [("again", None, 0), *again] * (args.rounds - 1):
                if section is None:  # What was measured is measured anew; what was made stays.
                    b.kept = {name: b.kept[name] for name in b.kept if name in once}
                    continue
                if args.seconds - (time.monotonic() - b.began) < 6:
                    b.check(f"section {name}", "NOT RUN", "no time left")
                    continue
                b.section_ends = time.monotonic() + most * max(1, args.measure / 3)
                b.say(f"section {name}, {min(most, b.left()):.0f} s at most")
                try:
                    section(b)
                except Exception as error:  # Whatever it is: the other sections go on.
                    b.check(f"section {name}", "FAILED", f"{type(error).__name__}: {error}")
                table.write(b, rows, command)
        except KeyboardInterrupt:
            b.check("the whole", "CUT OFF", "by a signal")
        finally:
            b.end_server()
            if b.maker is not None:
                os.killpg(b.maker.pid, signal.SIGKILL)
            card.stop()
            text = table.write(b, rows, command)
            for place in (args.data, args.work):
                shutil.rmtree(place, ignore_errors=True)
        print(text, flush=True)


if __name__ == "__main__":
    main()
