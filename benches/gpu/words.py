"""What both stacks are told to work on: weights, benchmarks, and the command lines of the program."""

import os


def weights(b):
    """open_clip's weights from a seed, as files for both stacks."""
    for model in (b.args.prune_model, b.args.small_model):
        path = weights_of(b, model)
        if not os.path.exists(path):
            b.ask("weights", model=model, out=path)


def weights_of(b, model):
    """Where a model's weights are written."""
    return os.path.join(b.args.data, os.path.basename(model).replace(".json", "") + ".safetensors")


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


def on_machine(b, **more):
    """Where a command computes, and with how much memory."""
    return {"device": b.args.device_flag, "memory": b.args.memory, **more}


def embed_words(b, size, count, out, **more):
    """`trommel embed` with the small model, and how many samples that reads."""
    shards, samples = b.brace(size, count)
    model = b.args.small_model
    words = ["embed", shards, "-o", out, "--model", model, "--pretrained", weights_of(b, model), "--json"]
    return words + b.program.options("embed", **on_machine(b, **more)), samples


def prune_words(b, size, count, run, benchmark, command="prune", **more):
    """A judging command with the large model's embedder, and how many samples that reads."""
    shards, samples = b.brace(size, count)
    model = b.args.prune_model
    architecture = os.path.basename(model).replace(".json", "")
    words = [command, shards, "--run", run, "--benchmark", f"test={points(b)[benchmark]}", "--rule", "drop-over-radius", "--embedder", model]
    words += ["--embedder-weights", weights_of(b, model), "--assume-model", architecture, "--json"]
    return words + b.program.options(command, **on_machine(b, **more)), samples


def bench_words(b, stage, **more):
    """`trommel bench` of one stage."""
    if not b.program.flags("bench"):
        raise RuntimeError("this program has no `trommel bench`")
    words = ["bench", "--stage", stage]
    return words + b.program.options("bench", json=True, **{"device": b.args.device_flag, **more})
