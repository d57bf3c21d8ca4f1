"""The sections that ask how fast it is: each a row or two of the table, and each may fail alone."""

import glob
import json
import math
import os
import random

from checks import check_decoder, check_join, decoder_flag, open_clip_features, say_features
from ours import rate_in
from pictures import caption
from words import bench_words, embed_words, on_machine, points, prune_words, weights, weights_of


def limits(b):
    """Bare limits, and the join alone: work of the card only, while the pictures are made."""
    b.limits.update(b.ask("alone.limits"))
    found = b.ask("alone.join", points=b.args.points, dim=b.args.dim, rows=4096 if b.args.card else 256, seconds=b.args.measure / 2)
    b.figure(f"join alone, {b.args.points:,} points, rows/s", "stack", found["per_second"], "torch: matmul and max, f16")


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


def peer(b, row, ask):
    """Measures the Python stack's side of a row. It comes behind ours: one that fails or hangs costs its own figure alone."""
    try:
        ask()
    except RuntimeError as error:
        b.figure(row, "stack", None, str(error))


def shards_for(b, rate, one):
    """So many shards that a card's `rate` a second lasts half as long again as a measurement: beginning and end count. Without a card by the rate of
    one shard, `one`."""
    rate = rate if b.args.card else 2 * one["report"]["samples_per_second"]
    return math.ceil(max(1.5 * rate * b.args.measure, 2 * b.args.samples) / b.args.samples)


def shards_to_prune(b, one):
    """At least three times as many as are open at once: what a shard begins with (`operators/decide/known_maxima.rs`) is what was durable then, so that
    the first ones confirm far more than those of a long run."""
    return max(shards_for(b, 5000, one), 3 * b.args.open_shards) if b.args.card else shards_for(b, 5000, one)


def judged(b, row, done, one=None):
    """The rate of a judging run: what it judged beyond a run of one shard, `one`, over the time that it took beyond it. Beginning,
    filling and draining are in both. Without `one`, by its own summary."""
    report = done["report"]
    total = lambda of: of["kept"] + of["dropped"] + of["rejected"]
    rate, seconds = report["samples_per_second"], report["seconds"]
    note = f"{total(report):,} in {done['wall_seconds']:.1f} s of a process"
    if one and seconds > one["report"]["seconds"]:
        rate = (total(report) - total(one["report"])) / (seconds - one["report"]["seconds"])
        note += f", {total(one['report']):,} in {one['wall_seconds']:.1f} s; with beginning and end {report['samples_per_second']:,.0f}"
    note += f"; bottleneck {report.get('spent', {}).get('bottleneck', '?')}"
    by = report.get("spent", {}).get("decoded_by")
    if by:
        note += f"; decoded on the card {by['card']:,}, on the CPU {by['cpu']:,} {by['cpu_because'] or ''}"
    join = report.get("join")
    if join and join["rows"]:
        note += f"; {join['confirmed'] / join['rows']:,.1f} products a row confirmed"
    if report["dropped"]:
        note += f"; dropped {100 * report['dropped'] / total(report):.1f} %"
    if done["card"]:
        note += f"; card busy {done['card']['sm']} % of the process, {done['card']['memory_mib'] / 1024:.1f} GiB"
    note += f"; host {done['peak_resident_mib'] / 1024:.1f} GiB"
    if report["rejected"]:
        note += f"; REJECTED {report['rejected']}"
    b.figure(row, "ours", rate, note)
    return rate


def one_shard(b, label, words):
    """A run of one shard, of the first size that is asked for: what beginning, filling and draining take."""
    if ("one", label) not in b.kept:
        b.kept["one", label] = b.ours(f"{label}, one shard", words)
    return b.kept["one", label]


def prune(size, benchmark):
    """A section: `trommel prune` with default flags beside the Python stack."""
    def section(b):
        row = prune_row(b, size, benchmark)
        one = one_shard(b, f"prune, {benchmark}", prune_words(b, size, 1, b.folder("prune"), benchmark)[0])
        run = b.folder("prune")
        words, _ = prune_words(b, size, shards_to_prune(b, one), run, benchmark)
        b.kept["ours", size, benchmark] = judged(b, row, b.ours(f"prune {size}, {benchmark}", words, 75), one)
        if (size, benchmark) == ("400x350", "large") and not b.kept.get("join checked"):
            b.kept["join checked"] = True
            check_join(b, run, "join of the timed run")
        peer(b, row, lambda: prune_stack(b, size))
    return section


def embed_stack(b, row, size):
    """The Python stack with the small model."""
    found = b.ask("loaders.prune", model=b.args.small_model, shards=b.shards(size, 32), batch=b.args.batch, workers=b.args.workers,
                  benchmarks=None, seconds=b.args.measure, limit=45)
    b.figure(row, "stack", found[""]["per_second"])


def embed(size):
    """A section: `trommel embed` with default flags beside the Python stack."""
    def section(b):
        weights(b)
        row = f"embed {b.args.small_name}, {size}"
        one = one_shard(b, "embed", embed_words(b, size, 1, b.folder("embed"))[0])
        run = b.folder("embed")
        words, _ = embed_words(b, size, shards_for(b, 14_000, one), run)
        b.kept["embed", size] = judged(b, row, b.ours(f"embed {size}", words), one)
        if size == "400x350":
            say_features(b, "features of the timed run beside open_clip f32 on Pillow's pixels", open_clip_features(b), run, 5e-4)
        if b.args.card and decoder_flag(b) and not b.kept.get(("decoded", size)):
            b.kept["decoded", size] = True
            check_decoder(b, run, size)
        peer(b, row, lambda: embed_stack(b, row, size))
    return section


def embed_flags(b):
    """`trommel embed` with f16 and batches of 256 by flags, beside its defaults."""
    weights(b)
    for name, more in (("default flags", {}), ("f16, 256", {"embed_precision__or__precision": "f16", "embed_batch__or__batch": 256})):
        if not b.args.card and more:
            more = {"embed_batch__or__batch": 32}
        one = b.ours(f"embed, {name}, one shard", embed_words(b, "400x350", 1, b.folder("embed"), **more)[0])
        words, _ = embed_words(b, "400x350", shards_for(b, 4000, one), b.folder("embed"), **more)
        judged(b, f"embed {b.args.small_name}, 400x350, {name}", b.ours(f"embed, {name}", words), one)


def stage_alone(b, row, stage, limit=30, **more):
    """A stage alone by `trommel bench`; its report's other figures are the note."""
    done = b.ours(f"bench {stage}", bench_words(b, stage, **more), limit)
    report = done["report"] or {}
    rate = report.get("mean_samples_per_second") or rate_in(report)  # The peers' are means too.
    if rate is None:
        raise RuntimeError(f"`trommel bench --stage {stage} --json` named no rate: {str(report)[:200]}")
    told = {name: rate_in(value) if isinstance(value, dict) else value for name, value in report.items()}
    told = [f"{name.replace('_', ' ')} {value:,.6g}" for name, value in told.items() if isinstance(value, (int, float)) and value != rate]
    b.figure(row, "ours", rate, "ours: " + ", ".join(told[:10]) if told else "")
    return rate


def model_words(b, kind):
    """The pruning or the small model, for `trommel bench`."""
    model = b.args.prune_model if kind == "prune" else b.args.small_model
    weights(b)
    return {"model": model, "pretrained": weights_of(b, model)}


def embedder(kind):
    """A section: the embedder alone beside open_clip's eager forward pass."""
    def section(b):
        words = model_words(b, kind)
        row = f"embedder alone, {b.args.prune_name if kind == 'prune' else b.args.small_name}"

        def stack():
            found = b.ask("alone.embedder", model=words["model"], batch=b.args.batch, seconds=b.args.measure, limit=30)
            b.figure(row, "stack", found["per_second"], ", ".join(f"open_clip {k} {v:,.0f}" for k, v in found["of"].items()))

        b.kept["embedder", kind] = stage_alone(b, row, "embed", seconds=b.args.measure, **words)
        peer(b, row, stack)
    return section


def variants(b):
    """What other ways to compute the embedder would give: for a look, not for the table."""
    if b.program.flag("bench", "--variants"):
        done = b.ours("bench embed, variants", bench_words(b, "embed", seconds=1, variants=True, **model_words(b, "prune")), 60)
        for variant in (done["report"] or {}).get("variants", []):
            b.say(f"  {variant}")


def step_stack(b):
    """open_clip's training step alone."""
    captions = [caption(random.Random(number)) for number in range(512)]
    found = b.ask("alone.step", model=b.args.small_model, batch=b.args.train_batch, seconds=b.args.measure, captions=captions, limit=40)
    b.figure(f"training step alone, {b.args.small_name}", "stack", found["per_second"],
             f"captions of {found['mean_tokens']:.1f} tokens, batch {b.args.train_batch}, card {found['peak_card_gib'] or 0:.1f} GiB")


def step(b):
    """The training step alone."""
    row = f"training step alone, {b.args.small_name}"
    b.kept["step"] = stage_alone(
        b, row, "train", limit=45, model=b.args.small_model, random_init=0, batch=b.args.train_batch, steps=b.args.steps // 2,
        precision=None if b.args.card else "f32",
    )
    peer(b, row, lambda: step_stack(b))


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


def train_stack(b, row, size):
    """webdataset and open_clip."""
    found = b.ask("loaders.train", model=b.args.small_model, shards=b.shards(size, 32), batch=b.args.train_batch,
                  part=max(b.args.train_batch // 4, 1), workers=b.args.workers, seconds=b.args.measure, limit=60)
    b.figure(row, "stack", found["per_second"], f"Python's losses {found['losses'][0]} to {found['losses'][-1]}")


def train(b):
    """Training from shards beside webdataset and open_clip."""
    row, size = f"train {b.args.small_name}, batch {b.args.train_batch}, 400x350", "400x350"
    run = b.folder("train", False)
    shards, _ = b.brace(size, b.args.names)
    words = ["train", shards, "--run", run, "--model", b.args.small_model, "--batch", b.args.train_batch, "--steps", b.args.steps]
    words += ["--precision", "bf16", "--json"] + b.program.options("train", **on_machine(b))
    b.kept["train"], _ = train_run(b, row, words, run)
    peer(b, row, lambda: train_stack(b, row, size))


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
    """The join alone: by `trommel bench` where it has that stage, else from what the join's threads were busy in the run that was timed."""
    row = f"join alone, {b.args.points:,} points, rows/s"
    if "join" in b.program.stages():
        words = bench_words(b, "join", points=b.args.points, dim=b.args.dim, rows=1024, seconds=b.args.measure / 2)
        report = b.ours("bench join", words, 45, reports_failure=True)["report"]
        told = [f"{of['work']} {of['rows_per_second']:,.0f} (CPU {of['cpu_rows_per_second']:,.0f})" for of in report["figures"]]
        b.figure(row, "ours", report["figures"][0]["rows_per_second"], f"ours, on {report['on']}: " + ", ".join(told))
        detail = f"{report['compared_rows']} rows; {report['differences']} differ {report.get('first_difference') or ''}"
        b.check("join alone, device beside CPU", report["differences"] == 0, detail)
    else:
        report = timed(b, "prune 400x350, large")
        b.figure(row, "ours", report["samples_per_second"] / report["spent"]["join"], "ours: samples a second that its threads were busy, in the timed run")


def timed(b, label):
    """The report of a run that was timed before, for what its stages were busy."""
    reports = [at["report"] for at in b.profiles if at["label"] == label and at["report"]]
    if not reports:
        raise RuntimeError(f"this program measures no such stage alone, and `{label}` has not been timed")
    return reports[-1]


def decode(size):
    """A section: decoding alone, by the program, by Pillow in processes, by nvJPEG."""
    def section(b):
        row = f"decode alone with the view, {size}"
        shards = b.shards(size, b.args.cores)

        def stack():
            found = b.ask("alone.pillow", shards=shards, size=b.args.view, processes=b.args.cores, limit=30)
            b.figure(row, "stack", found["per_second"], f"Pillow, decoded only: {found['decode_only']:,.0f}")
            found = b.ask("alone.nvjpeg", shards=shards[:4], seconds=b.args.measure / 2, limit=20)
            b.figure(row, "limit", found["per_second"], "limit: torchvision's nvJPEG in groups of 256, decoded only")

        if "decode" in b.program.stages():
            words = bench_words(b, "decode", pictures=shards[0], view=b.args.view, seconds=b.args.measure / 2)
            report = b.ours(f"bench decode {size}", words, 45, reports_failure=True)["report"]
            best = {by: max((of for of in report["rates"] if of["by"] == by), key=lambda of: of["per_second"], default=None) for by in ("card", "cpu")}
            told = [f"{by} {of['per_second']:,.0f} (groups of {of['group']}, {of['lanes']} at a time)" for by, of in best.items() if of]
            lanes = [f"{of['lanes']}: {of['per_second']:,.0f}" for of in report["rates"] if of["by"] == "card" and of["group"] > 32]
            told += ["by lanes " + ", ".join(lanes)] if lanes else []
            b.figure(row, "ours", max(of["per_second"] for of in best.values() if of), "ours: " + ", ".join(told))
            views = report["views"]
            if views["pictures"]:
                detail = f"{views['equal']} of {views['pictures']} views equal, {views['refused']} refused"
                b.check(f"decode alone, card beside CPU, {size}", views["equal"] == views["pictures"], detail)
        else:
            report = timed(b, f"embed {size}")
            rate = report["samples_per_second"] / report["spent"]["decode"] * b.args.cores
            b.figure(row, "ours", rate, "ours: samples a second that a decoding thread was busy in the timed run, times the cores")
        peer(b, row, stack)
    return section
