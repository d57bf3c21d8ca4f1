"""Trains with open_clip on what `trommel select` prints: the printed command for an epoch, and open_clip's training loader sample by sample.

usage: open_clip_training.py "PRINTED COMMAND" SHARDS SPLIT.txt LOGS

open_clip 3.3.0 trains with webdataset up to 0.2.86 (with 1.0.2 its loader ends in KeyError 'fname', whatever the shards are): that one lies beside
the newer one in an older/ folder.
"""

import json
import os
import shlex
import sys
from types import SimpleNamespace

sys.path.insert(0, os.path.join(sys.prefix, "older"))

import open_clip  # noqa: E402
import torch  # noqa: E402
import webdataset  # noqa: E402
from open_clip_train.data import get_wds_dataset  # noqa: E402
from open_clip_train.main import main as train  # noqa: E402
from stream import source  # noqa: E402

# After so many, every sample has had its turn.
EPOCHS = 12

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def loaded(urls, samples, resampled):
    """open_clip's training loader, epoch after epoch: the captions that it gives, and how many it was to give."""
    args = SimpleNamespace(
        train_data=urls, val_data=None, train_num_samples=samples, val_num_samples=None, dataset_resampled=resampled,
        train_data_upsampling_factors=None, seed=0, batch_size=8, workers=2, world_size=1, rank=0, distributed=False,
    )
    info = get_wds_dataset(
        args, preprocess_img=lambda _: torch.zeros(3, 8, 8), is_train=True, tokenizer=lambda text: [text]
    )
    for epoch in range(EPOCHS):
        info.set_epoch(epoch)
        yield [text for _, texts in info.dataloader for text in texts], info.dataloader.num_samples


def main():
    command, pattern, listed, logs = sys.argv[1:]
    assert webdataset.__version__ == "0.2.86", webdataset.__version__
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "open_clip_train.main"], words
    given = dict(zip(words[3::2], words[4::2]))
    urls, samples = given["--train-data"], int(given["--train-num-samples"])
    with open(listed, encoding="utf-8") as lines:
        kept = source(pattern, set(lines.read().split("\n"))).values()
    due = {sample["txt"].decode() for sample in kept if "txt" in sample}
    # Trommel counts no blank captions; open_clip trains on them too.
    assert sum(bool(sample.get("txt", b"").strip()) for sample in kept) == samples, samples
    torch.set_num_threads(1)
    for resampled in (False, True):
        seen = set()
        for texts, told in loaded(urls, samples, resampled):
            assert len(texts) == told >= samples, (len(texts), told, samples)
            assert set(texts) <= due, set(texts) - due
            seen |= set(texts)
        # An epoch of open_clip's leaves some out and has others twice: its workers deal with whole batches of a shuffled stream.
        assert seen == due, due - seen

    configs = os.path.join(logs, "configs")
    os.makedirs(configs)
    with open(os.path.join(configs, "tiny-peer.json"), "w", encoding="utf-8") as out:
        json.dump(TINY, out)
    open_clip.add_model_config(configs)
    train([
        *words[3:], "--model", "tiny-peer", "--batch-size", "8", "--epochs", "1", "--workers", "2", "--warmup", "1", "--precision", "fp32",
        "--device", "cpu", "--logs", logs, "--name", "run",
    ])
    state = torch.load(os.path.join(logs, "run/checkpoints/epoch_1.pt"), weights_only=True)
    steps = {int(one["step"]) for one in state["optimizer"]["state"].values()}
    assert steps == {-(-samples // 16) * 2}, (steps, samples)
    print(f"trained: {samples} samples, {steps.pop()} steps")


if __name__ == "__main__":
    main()
