"""The sections: each answers one question, prints as it goes, and may fail alone."""

import glob
import json
import math
import os

from ours import rate_in


def limits(b):
    """Bare limits, and the join alone: work of the card only, while the pictures are made."""
    b.limits.update(b.ask("alone.limits"))
    found = b.ask("alone.join", points=b.args.points, dim=b.args.dim, rows=4096 if b.args.card else 256, seconds=b.args.measure / 2)
    b.figure(f"join alone, {b.args.points:,} points, rows/s", "stack", found["per_second"], "torch: matmul and max, f16")


def weights(b):
    """open_clip's weights from a seed, as files for both stacks."""
    for model in (b.args.prune_model, b.args.small_model):
        path = weights_of(b, model)
        if not os.path.exists(path):
            b.ask("weights", model=model, out=path)


def weights_of(b, model):
    """Where a model's weights are written."""
    return os.path.join(b.args.data, os.path.basename(model).replace(".json", "") + ".safetensors")


def embed_words(b, size, count, out, **more):
    """`trommel embed` with the small model, and how many samples that reads."""
    shards, samples = b.brace(size, count)
    wanted = {"device": b.args.device_flag, **more}
    model = b.args.small_model
    words = ["embed", shards, "-o", out, "--model", model, "--pretrained", weights_of(b, model), "--json"]
    return words + b.program.options("embed", **wanted), samples


def open_clip_features(b):
    """open_clip's features in f32, on Pillow's pixels, of the first shard."""
    reference = os.path.join(b.args.work, "open_clip.npy")
    if not os.path.exists(reference):
        b.ask("exact.features", model=b.args.small_model, shards=b.shards("400x350", 1), samples=b.args.samples, out=reference)
    return reference


def say_features(b, what, left, right, most):
    """A check of two sets of features."""
    found = b.ask("exact.compare", left=left, right=right)
    good = found["rows"] > 0 and found["missing"] == 0 and found["largest_difference"] <= most
    b.check(
        what, f"within {most}" if good else "DIFFERS",
        f"largest difference {found.get('largest_difference', 9):.1e}, smallest cosine {found.get('smallest_cosine', 0):.6f}, {found['rows']} rows",
    )


def features(b):
    """Features of the card against the CPU's and against open_clip's on Pillow's pixels; the decoders against each other."""
    weights(b)
    size, runs = "400x350", {}
    precise = {"embed_precision__or__precision": "f32"}
    wanted = {"card f32": precise, "card f16": {"embed_precision__or__precision": "f16"}, "CPU f32": {**precise, "device": "cpu"}}
    if not b.args.card:
        wanted = {"CPU f32": wanted["CPU f32"]}
    for name, more in wanted.items():
        out = b.folder("features")
        words, _ = embed_words(b, size, 1, out, **more)
        try:
            b.ours(f"embed, {name}", words, 40)
            runs[name] = out
        except RuntimeError as error:
            b.check(f"features, {name}", "FAILED", str(error))
    reference = open_clip_features(b)
    for name, beside, most in (("card f32", "CPU f32", 3e-4), ("card f16", "CPU f32", 5e-4), ("card f32", reference, 3e-3), ("CPU f32", reference, 3e-3)):
        if name not in runs or beside != reference and beside not in runs:
            continue
        label = beside if beside in runs else "open_clip f32 on Pillow's pixels"
        say_features(b, f"features, {name} beside {label}", runs.get(beside, beside), runs[name], most)


def decoders(b):
    """The card's decoder against the CPU's: with equal pixels the features are equal to the bit."""
    weights(b)
    flag = b.program.flag("embed", "--decoder", "--decode-on", "--decode-device", "--decode")
    if flag is None:
        b.check("decoding on the card", "not there", "`trommel embed` has no flag that chooses the decoder")
        return
    for size in ("400x350", "640x480"):
        outs = []
        for value in ("cpu", "card"):
            out = b.folder("decoders")
            words, _ = embed_words(b, size, 1, out)
            b.ours(f"embed {size}, decoded on the {value}", [*words, flag, value], 30)
            outs.append(out)
        found = b.ask("exact.compare", left=outs[1], right=outs[0])
        b.check(
            f"decoded on the card beside the CPU, {size}", found.get("equal_to_the_bit", False),
            f"{found['rows']} rows, {found.get('rows_that_differ')} differ, largest difference {found.get('largest_difference')}",
        )


def points(b):
    """Benchmarks whose radii drop about 5 % of such pictures."""
    if "points" in b.kept:
        return b.kept["points"]
    weights(b)
    reference = os.path.join(b.args.work, "radii.npy")
    samples = min(512, b.args.samples)
    b.ask("exact.features", model=b.args.prune_model, shards=b.shards("400x350", 2) + b.shards("640x480", 2), samples=samples, out=reference)
    folders = {}
    for name, count in (("large", b.args.points), ("small", min(1000, b.args.points))):
        folders[name] = os.path.join(b.args.work, f"points-{name}")
        b.ask("exact.points", folder=folders[name], count=count, of_features=reference, drop=0.05, seed=count)
    b.kept["points"] = folders
    return folders


def prune_words(b, size, count, run, benchmark, command="prune", **more):
    """A judging command with the large model's embedder, and how many samples that reads."""
    shards, samples = b.brace(size, count)
    model = b.args.prune_model
    architecture = os.path.basename(model).replace(".json", "")
    words = [command, shards, "--run", run, "--benchmark", f"test={points(b)[benchmark]}", "--rule", "drop-over-radius", "--embedder", model]
    words += ["--embedder-weights", weights_of(b, model), "--assume-model", architecture, "--json"]
    return words + b.program.options(command, **{"device": b.args.device_flag, **more}), samples


def check_join(b, run, what):
    """Scores and decisions of a run of `prune` against exact sums in f64 over its own stored vectors."""
    found = b.ask("exact.join", run=run, benchmark=points(b)["large"], name="test", rows=2048)
    detail = f"{found['rows']} rows x {b.args.points:,} points, {found['dropped']} dropped, {found['hits']} radii exceeded"
    b.check(f"{what} beside exact sums in f64", found["equal_to_the_bit"], detail + (f"; wrong {found['wrong']}: {found['first']}" if found["first"] else ""))


def join_exact(b):
    """The join by its default against exact sums, and the card's against the CPU's, on one shard."""
    run, beside = b.folder("join"), b.folder("join-cpu")
    words, _ = prune_words(b, "400x350", 1, run, "large")
    b.ours("prune, one shard", words, 40)
    check_join(b, run, "join")
    flag = b.program.flag("prune", "--join", "--join-on", "--join-device", "--joiner")
    if flag and b.args.card:
        words, _ = prune_words(b, "400x350", 1, beside, "large")
        b.ours("prune, one shard, the CPU's join", [*words, flag, "cpu"], 40)
        found = b.ask("exact.same_ledgers", left=run, right=beside)
        b.check("prune on the card beside the CPU's join", found["equal"], f"{found['rows']} rows; columns that differ: {found['columns_that_differ']}")


def losses(b):
    """The first losses on the card in bf16 against the CPU's in f32: the same order, the same initial weights."""
    weights(b)
    shards, _ = b.brace("400x350", 1 if b.args.card else 4)
    said = {}
    for name, more in (("CPU f32", {"device": "cpu", "precision": "f32"}), ("card f32", {"precision": "f32"}), ("card bf16", {"precision": "bf16"})):
        if name.startswith("card") and not b.args.card:
            continue
        words = ["train", shards, "--run", b.folder("losses", False), "--model", b.args.small_model, "--batch", 32, "--steps", 4, "--window", 64]
        words += ["--pretrained", weights_of(b, b.args.small_model), "--lr", "1e-5", "--json"]
        report = b.ours(f"train, 4 steps, {name}", words + b.program.options("train", **{"device": b.args.device_flag, **more}), 45)["report"]
        said[name] = (report["first_loss"], report["last_loss"])
    for name, most in (("card f32", 2e-3), ("card bf16", 5e-2)):
        if name in said:
            far = max(abs(a - c) for a, c in zip(said[name], said["CPU f32"]))
            b.check(f"losses, {name} beside CPU f32", f"within {most}" if far <= most else "DIFFERS", f"{said[name]} and {said['CPU f32']}")


def prune_row(b, size, benchmark):
    """The row's name."""
    return f"prune {b.args.prune_name}, {b.args.points if benchmark == 'large' else min(1000, b.args.points):,} points, {size}"


def prune_stack(b, size):
    """The Python stack, against both benchmarks in one loader."""
    if ("prune", size) not in b.kept:
        found = b.ask(
            "loaders.prune", model=b.args.prune_model, shards=b.shards(size, 32), batch=b.args.batch, workers=b.args.workers,
            benchmarks=points(b), seconds=b.args.measure, limit=60,
        )
        for name, of in found.items():
            b.figure(prune_row(b, size, name), "stack", of["per_second"], f"Python dropped {100 * of['dropped']:.1f} %")
        b.kept["prune", size] = found["large"]["per_second"]
    return b.kept["prune", size]


def shards_for(b, stack_rate, expected):
    """So many shards that a program `expected` times as fast runs half as long again as a measurement: its beginning and its end count."""
    return math.ceil(max(1.5 * stack_rate * expected * b.args.measure, 2 * b.args.samples) / b.args.samples)


def judged(b, row, done):
    """The rate of a judging run by its own summary: first byte to last commit, start-up apart."""
    report = done["report"]
    startup = done["wall_seconds"] - report["seconds"]
    total = report["kept"] + report["dropped"] + report["rejected"]
    spent = report.get("spent", {})
    note = f"{total:,} in {report['seconds']:.1f} s and {startup:.1f} s of start and end; bottleneck {spent.get('bottleneck', '?')}"
    if report["dropped"]:
        note += f"; dropped {100 * report['dropped'] / total:.1f} %"
    if done["card"]:
        note += f"; card busy {done['card']['sm']} % of the process"
    if report["rejected"]:
        note += f"; REJECTED {report['rejected']}"
    b.figure(row, "ours", report["samples_per_second"], note)
    return report["samples_per_second"]


def prune(size, benchmark):
    """A section: `trommel prune` with default flags beside the Python stack."""
    def section(b):
        stack, row = 0, prune_row(b, size, benchmark)
        try:
            stack = prune_stack(b, size)
        except RuntimeError as error:
            b.figure(row, "stack", None, str(error))
        run = b.folder("prune")
        words, _ = prune_words(b, size, shards_for(b, stack or 2000, 3), run, benchmark)
        b.kept["ours", size, benchmark] = judged(b, row, b.ours(f"prune {size}, {benchmark}", words))
        if (size, benchmark) == ("400x350", "large") and not b.kept.get("join checked"):
            b.kept["join checked"] = True
            check_join(b, run, "join of the timed run")
    return section


def prune_difference(b):
    """`trommel prune` on N and on 2N: what the second half took, start-up out."""
    walls, size = [], "400x350"
    for factor in (1, 2):
        words, samples = prune_words(b, size, factor * shards_for(b, b.kept.get(("prune", size), 2000), 2), b.folder("difference"), "large")
        walls.append((samples, b.ours(f"prune, {samples:,} samples", words)["wall_seconds"]))
    (few, short), (many, long) = walls
    if long > short:
        b.figure(prune_row(b, size, "large") + ", difference of two processes", "ours", (many - few) / (long - short), f"{walls}")


def embed(size, expected):
    """A section: `trommel embed` with default flags beside the Python stack."""
    def section(b):
        weights(b)
        stack, row = 0, f"embed {b.args.small_name}, {size}"
        try:
            found = b.ask("loaders.prune", model=b.args.small_model, shards=b.shards(size, 32), batch=b.args.batch, workers=b.args.workers,
                          benchmarks=None, seconds=b.args.measure, limit=45)
            stack = found[""]["per_second"]
            b.figure(row, "stack", stack)
        except RuntimeError as error:
            b.figure(row, "stack", None, str(error))
        run = b.folder("embed")
        words, _ = embed_words(b, size, shards_for(b, stack or 2000, expected), run)
        b.kept["embed", size] = judged(b, row, b.ours(f"embed {size}", words))
        if size == "400x350":
            say_features(b, "features of the timed run beside open_clip f32 on Pillow's pixels", open_clip_features(b), run, 3e-3)
    return section


def embed_flags(b):
    """`trommel embed` with f16 and batches of 256 by flags, beside its defaults."""
    weights(b)
    for name, more in (("default flags", {}), ("f16, 256", {"embed_precision__or__precision": "f16", "embed_batch__or__batch": 256})):
        if not b.args.card and more:
            more = {"embed_batch__or__batch": 32}
        words, _ = embed_words(b, "400x350", shards_for(b, 2000 if b.args.card else 100, 2), b.folder("embed"), **more)
        judged(b, f"embed {b.args.small_name}, 400x350, {name}", b.ours(f"embed, {name}", words))


def bench_words(b, stage, **more):
    """`trommel bench` of one stage."""
    if not b.program.flags("bench"):
        raise RuntimeError("this program has no `trommel bench`")
    words = ["bench", "--stage", stage]
    return words + b.program.options("bench", json=True, **{"device": b.args.device_flag, **more})


def stage_alone(b, row, stage, limit=30, **more):
    """A stage alone by `trommel bench`."""
    done = b.ours(f"bench {stage}", bench_words(b, stage, **more), limit)
    rate = rate_in(done["report"])
    if rate is None:
        raise RuntimeError(f"`trommel bench --stage {stage} --json` named no rate: {str(done['report'])[:200]}")
    b.figure(row, "ours", rate)
    return rate


def embedder(kind):
    """A section: the embedder alone beside open_clip's eager forward pass."""
    def section(b):
        model, name = (b.args.prune_model, b.args.prune_name) if kind == "prune" else (b.args.small_model, b.args.small_name)
        row = f"embedder alone, {name}"
        try:
            found = b.ask("alone.embedder", model=model, batch=b.args.batch, seconds=b.args.measure, limit=30)
            b.figure(row, "stack", found["per_second"], ", ".join(f"{k} {v:,.0f}" for k, v in found["of"].items()))
        except RuntimeError as error:
            b.figure(row, "stack", None, str(error))
        precision = "f16" if b.args.card else "f32"
        b.kept["embedder", kind] = stage_alone(
            b, row, "embed", model__or__embedder=model, random_init=0, precision__or__embed_precision=precision, batch__or__embed_batch=b.args.batch
        )
    return section


def step_stack(b):
    """open_clip's training step alone."""
    from pictures import caption
    import random

    captions = [caption(random.Random(number)) for number in range(512)]
    found = b.ask("alone.step", model=b.args.small_model, batch=b.args.train_batch, seconds=b.args.measure, captions=captions, limit=40)
    b.figure(f"training step alone, {b.args.small_name}", "stack", found["per_second"],
             f"captions of {found['mean_tokens']:.1f} tokens, batch {b.args.train_batch}, card {found['peak_card_gib'] or 0:.1f} GiB")


def step(b):
    """The training step alone."""
    row = f"training step alone, {b.args.small_name}"
    try:
        step_stack(b)
    except RuntimeError as error:
        b.figure(row, "stack", None, str(error))
    b.kept["step"] = stage_alone(b, row, "train", model=b.args.small_model, random_init=0, precision="bf16", batch=b.args.train_batch, limit=40)


def steps_of(run, skip):
    """Samples a second over the steps of a run but the first `skip`, from its metrics; the losses of the first and last step."""
    paths = glob.glob(os.path.join(run, "**", "metrics.jsonl"), recursive=True)
    lines = [json.loads(line) for path in paths for line in open(path)]
    counted = lines[skip:]
    if not counted:
        raise RuntimeError(f"{len(lines)} steps are too few")
    samples = counted[-1]["samples_seen"] - lines[skip - 1]["samples_seen"] if skip else counted[-1]["samples_seen"]
    seconds = sum(line["train/batch_time"] for line in counted)
    waited = sum(line["train/data_time"] for line in counted)
    return samples / seconds, waited / seconds, (lines[0]["train/loss"], lines[-1]["train/loss"]), len(counted)


def train_run(b, row, words, run, raw=False):
    """A training run, timed by its own lines a step but the first quarter; `raw`: in samples before the rule."""
    done = b.ours("train", words, 60)
    report, skip = done["report"], b.args.steps // 4
    rate, waited, losses_said, steps = steps_of(run, skip)
    seen = report["kept"] + report["dropped"]
    kept = report["kept"] / seen if raw and seen else 1.0
    note = f"{steps} steps after the first {skip}, waited {100 * waited:.0f} %, loss {losses_said[0]:.3f} to {losses_said[1]:.3f}"
    if done["card"]:
        note += f"; card memory {done['card']['memory_mib']:,} MiB"
    b.figure(row, "ours", rate / kept, note)
    return rate / kept, kept


def train(b):
    """Training from shards beside webdataset and open_clip."""
    row, size = f"train {b.args.small_name}, batch {b.args.train_batch}, 400x350", "400x350"
    try:
        part = max(b.args.train_batch // 4, 1)
        found = b.ask("loaders.train", model=b.args.small_model, shards=b.shards(size, 32), batch=b.args.train_batch, part=part,
                      workers=b.args.workers, seconds=b.args.measure, limit=60)
        b.figure(row, "stack", found["per_second"], f"Python's losses {found['losses'][0]} to {found['losses'][-1]}")
    except RuntimeError as error:
        b.figure(row, "stack", None, str(error))
    run = b.folder("train", False)
    shards, _ = b.brace(size, b.args.names)
    words = ["train", shards, "--run", run, "--model", b.args.small_model, "--batch", b.args.train_batch, "--steps", b.args.steps]
    words += ["--precision", "bf16", "--json"] + b.program.options("train", device=b.args.device_flag)
    b.kept["train"], _ = train_run(b, row, words, run)


def together(b):
    """Pruning and training in one graph, beside what the two alone allow on one card."""
    row = "prune and train together, raw samples/s"
    run = b.folder("together", False)
    words, _ = prune_words(b, "400x350", b.args.names, run, "large", "train")
    words += ["--model", b.args.small_model, "--batch", b.args.train_batch, "--steps", b.args.steps, "--precision", "bf16"]
    _, kept = train_run(b, row, words, run, raw=True)
    embed_alone = b.kept.get(("embedder", "prune")) or b.kept.get(("ours", "400x350", "large"))
    train_alone = b.kept.get("step") or b.kept.get("train")
    if embed_alone and train_alone:
        allowed = 1 / (1 / embed_alone + kept / train_alone)
        b.figure(row, "limit", allowed, f"{100 * kept:.1f} % kept; alone {embed_alone:,.0f} and {train_alone:,.0f}")


def join_ours(b):
    """The join alone by `trommel bench`; torch's figure is taken beside the bare limits."""
    stage_alone(b, f"join alone, {b.args.points:,} points, rows/s", "join", points=b.args.points, dim=b.args.dim)


def decode(size):
    """A section: decoding alone, by the program, by Pillow in processes, by nvJPEG."""
    def section(b):
        row = f"decode alone with the view, {size}"
        shards = b.shards(size, b.args.cores)
        try:
            found = b.ask("alone.pillow", shards=shards, size=b.args.view, processes=b.args.cores, limit=30)
            b.figure(row, "stack", found["per_second"], f"Pillow, decoded only: {found['decode_only']:,.0f}")
            found = b.ask("alone.nvjpeg", shards=shards[:4], seconds=b.args.measure / 2, limit=20)
            b.figure(row, "limit", found["per_second"], "limit: torchvision's nvJPEG in groups of 256, decoded only")
        except RuntimeError as error:
            b.figure(row, "stack", None, str(error))
        word, _ = b.brace(size, 4 * b.args.cores if b.args.card else 2)
        positional = [] if b.program.flag("bench", "--shards", "--input") else [word]
        words = bench_words(b, "decode", shards__or__input=word, model__or__embedder=b.args.small_model)
        done = b.ours(f"bench decode {size}", words + positional, 30)
        rate = rate_in(done["report"])
        if rate is None:
            raise RuntimeError(f"`trommel bench --stage decode --json` named no rate: {str(done['report'])[:200]}")
        b.figure(row, "ours", rate)
    return section
