"""The sections that ask whether it is right: features, pixels, joins, losses."""

import os

from words import embed_words, on_machine, points, prune_words, weights, weights_of


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
    for name, beside, most in (("card f32", "CPU f32", 3e-4), ("card f16", "CPU f32", 5e-4), ("card f32", reference, 5e-4), ("CPU f32", reference, 5e-4)):
        if name not in runs or beside != reference and beside not in runs:
            continue
        label = beside if beside in runs else "open_clip f32 on Pillow's pixels"
        say_features(b, f"features, {name} beside {label}", runs.get(beside, beside), runs[name], most)


def decoder_flag(b):
    """The flag that chooses the decoder; `None` where there is one decoder only."""
    return b.program.flag("embed", "--decode")


def check_decoder(b, run, size):
    """A run's features against those of its first shard decoded on the CPU: with equal pixels they are equal to the bit."""
    beside = b.folder("decoded-cpu")
    words, _ = embed_words(b, size, 1, beside)
    b.ours(f"embed {size}, decoded on the CPU", [*words, decoder_flag(b), "cpu"], 30)
    found = b.ask("exact.compare", left=beside, right=run)
    b.check(
        f"decoded by default beside the CPU, {size}", found.get("equal_to_the_bit", False),
        f"{found['rows']} rows, {found.get('rows_that_differ')} differ, largest difference {found.get('largest_difference')}",
    )


def decoders(b):
    """The card's decoder against the CPU's, a shard of each size."""
    weights(b)
    if decoder_flag(b) is None:
        b.check("decoding on the card", "not there", "`trommel embed` has no flag that chooses the decoder")
        return
    for size in ("400x350", "640x480"):
        run = b.folder("decoded")
        words, _ = embed_words(b, size, 1, run)
        b.ours(f"embed {size}, decoded by default", words, 30)
        check_decoder(b, run, size)


def check_join(b, run, what):
    """Scores, decisions and items of a run of `prune` against exact sums in f64 over its own stored vectors."""
    found = b.ask("exact.join", run=run, benchmark=points(b)["large"], name="test")
    detail = f"{found['rows']} rows x {b.args.points:,} points, {found['dropped']} dropped, {found['hits']} radii exceeded"
    b.check(f"{what} beside exact sums in f64", found["equal_to_the_bit"], detail + (f"; wrong {found['wrong']}: {found['first']}" if found["first"] else ""))


def join_exact(b):
    """The device's join against exact sums and against the CPU's, on one shard."""
    flag, runs = b.program.flag("prune", "--join"), {}
    for where in ("device", "cpu") if flag else ("",):
        runs[where] = b.folder("join")
        words, _ = prune_words(b, "400x350", 1, runs[where], "large")
        b.ours(f"prune, one shard, join {where}".strip(" ,"), words + ([flag, where] if flag else []), 40)
        check_join(b, runs[where], f"join {where}".strip())
    if flag:
        found = b.ask("exact.same_ledgers", left=runs["device"], right=runs["cpu"])
        b.check("ledgers of the device's join and the CPU's", found["equal"], f"{found['rows']} rows; columns that differ: {found['columns_that_differ']}")


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
        report = b.ours(f"train, 4 steps, {name}", words + b.program.options("train", **on_machine(b, **more)), 45)["report"]
        said[name] = (report["first_loss"], report["last_loss"])
    for name, most in (("card f32", 2e-3), ("card bf16", 5e-2)):
        if name in said:
            far = max(abs(a - c) for a, c in zip(said[name], said["CPU f32"]))
            b.check(f"losses, {name} beside CPU f32", f"within {most}" if far <= most else "DIFFERS", f"{said[name]} and {said['CPU f32']}")
