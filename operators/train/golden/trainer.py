"""open_clip's own trainer over given batches, for the scripts beside it.

Peer: open_clip_torch 3.3.0 (open_clip_train), torch 2.11.0. `open_clip_train.main` runs whole, from its command line to
its checkpoints: groups of parameters, optimiser, schedule, accumulation, clipping, clamp. Its loader alone is replaced, so that both
sides have the same batches, and its losses are listened to.
"""

import json

import open_clip
import open_clip_train.main as trainer
from open_clip_train.data import DataInfo


class Given(list):
    """Batches in the place of a loader's."""

    @property
    def num_batches(self):
        return len(self)

    @property
    def num_samples(self):
        return sum(len(texts) for _, texts in self)


def known(folder, name, config):
    """A model's configuration under a name of open_clip's."""
    with open(f"{folder}/{name}.json", "w", encoding="utf-8") as out:
        json.dump(config, out)
    open_clip.add_model_config(f"{folder}/{name}.json")


def train(folder, run, batches, words, make=None):
    """Runs `python -m open_clip_train.main WORDS` into FOLDER/RUN, over all batches as often as `--epochs` says, each in so many equal
    parts as `--accum-freq` says. `make` gives a model that open_clip has no class for. This rank's loss of every step."""
    parts = int(words[words.index("--accum-freq") + 1]) if "--accum-freq" in words else 1
    loader = Given(pair for images, texts in batches for pair in zip(images.chunk(parts), texts.chunk(parts)))
    seen = []

    def heard(args):
        loss = open_clip.create_loss(args)
        loss.register_forward_hook(lambda _module, _given, losses: seen.append(sum(losses.values()).item()))
        return loss

    trainer.get_data = lambda *_, **__: {"train": DataInfo(loader)}
    trainer.create_loss = heard
    trainer.create_model_and_transforms = (lambda *_, **__: (make(), None, None)) if make else open_clip.create_model_and_transforms
    given = ["--train-data", "given", "--batch-size", str(len(loader[0][1])), "--device", "cpu", "--logs", str(folder), "--name", run]
    trainer.main(given + words)
    # Each part of a batch has the loss of all of it.
    losses = seen[parts - 1 :: parts]
    assert losses and len(losses) % len(batches) == 0 and len(seen) == parts * len(losses), (len(seen), len(batches))
    return losses
