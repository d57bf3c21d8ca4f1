"""Image-text shards, pruned by Trommel, for any trainer and any reader of tables.

- :func:`samples` iterates over shards, or over what a split keeps of them, as WebDataset does: dicts of bytes, shared out among
  the workers of a ``DataLoader`` and the ranks of a training.
- :func:`ledger` lists the Parquet files that hold the fate of every sample of a run.

Neither needs torch. The command ``trommel`` comes with the module; what of it runs a model says what it needs.
"""

import os
import warnings
from typing import Union

from . import _trommel
from ._samples import Handler, Notice, NoticeWarning, Sample, Samples, samples
from ._errors import ShardChanged, ShardDamaged, ShardError, ShardUnavailable

__all__ = [
    "Handler",
    "Notice",
    "NoticeWarning",
    "Sample",
    "Samples",
    "ShardChanged",
    "ShardDamaged",
    "ShardError",
    "ShardUnavailable",
    "ledger",
    "samples",
]

__version__: str = _trommel.VERSION


def ledger(run: Union[str, "os.PathLike[str]"]) -> list[str]:
    """The Parquet files of a run's ledger, one row a sample, in the plan's order::

        polars.read_parquet(trommel.ledger("RUN"))
        pyarrow.dataset.dataset(trommel.ledger("RUN"))

    ``run`` is a run folder, or an epoch of a watch (``RUN/current/main``). A run may still be going on: the list has what is committed
    by now, each shard once, and nothing of what else lies in the folder. Shards of the plan that are not there yet are told by a
    :class:`NoticeWarning`.

    Raises ``OSError`` where there is no such folder, or one of its files is gone; ``ValueError`` where it is damaged.
    """
    files, missing = _trommel.ledger(run)
    if missing:
        told = f"{os.fspath(run)}: {missing} of {missing + len(files)} shards are not in the ledger (yet)"
        warnings.warn(told, NoticeWarning, stacklevel=2)
    return files
