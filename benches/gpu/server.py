"""The torch side as one process that is asked by JSON lines: `{"do": name, ..}` on stdin, `{"value": ..}` or `{"error": ..}` back.

One process for all sections, so that imports, models and the card's start-up are paid once; a section that hangs or breaks it costs
this process, and the next question starts another.
"""

import json
import os
import sys
import time
import traceback

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # What libraries print goes to the log.
PARENT = os.getpid()
sys.modules["transformers"] = None  # open_clip can do without, and importing it takes longer than all else.


def hello():
    """Versions, and what the device is."""
    import importlib.metadata as metadata

    import torch
    from models import CORES, CUDA

    names = ("torch", "torchvision", "open_clip_torch", "webdataset", "pillow", "timm", "numpy", "pyarrow")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    found = {"versions": versions, "cores": CORES, "cuda": torch.version.cuda, "device": "cpu"}
    if CUDA:
        card = torch.cuda.get_device_properties(0)
        found.update(device=card.name, card_gib=round(card.total_memory / 2**30, 1), multiprocessors=card.multi_processor_count)
    return found


def weights(model, out):
    """Writes open_clip's weights of `model` from seed 0 as safetensors, in f32."""
    from models import MODELS
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in MODELS.get(model)[0].state_dict().items()}
    save_file(state, out)
    return {"bytes": os.path.getsize(out)}


def answer(question):
    """Does what is asked."""
    do = question.pop("do")
    if do in ("hello", "weights"):
        return globals()[do](**question)
    import alone
    import exact
    import loaders

    room, name = do.split(".")
    found = getattr({"alone": alone, "exact": exact, "loaders": loaders}[room], name)(**question)
    alone.forget()
    return found


def main():
    for line in sys.stdin:
        began = time.monotonic()
        try:
            reply = {"value": answer(json.loads(line)), "seconds": round(time.monotonic() - began, 2)}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        if os.getpid() != PARENT:  # A worker process that came back here by mistake answers nothing.
            os._exit(1)
        print(json.dumps(reply), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
