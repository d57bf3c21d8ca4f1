"""Samples of shards, shared out among ranks and workers."""

import hashlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple, Optional, Union

from . import _trommel
from ._errors import ShardChanged, ShardDamaged, ShardError, ShardUnavailable

Path = Union[str, "os.PathLike[str]"]
Sample = dict[str, Any]
"""``__key__`` and ``__url__`` as text, and each member's bytes by its extension, in lower case."""
Handler = Callable[[Exception], bool]
"""What is done about a shard's error, as in webdataset: it raises, or says whether to go on with the next shard."""

_Found = tuple[str, str, int, str, int, bool]
"""A finding of the compiled half: its code, what was found, how often, where first, samples lost, whether it is a loss."""
_UNREAD = ("not_in_split", "not_of_split")
"""Codes of shards of which the split keeps nothing: they are not read."""

_ERRORS: dict[str, type[ShardError]] = {
    "unavailable": ShardUnavailable,
    "changed": ShardChanged,
    "damaged": ShardDamaged,
}


class NoticeWarning(UserWarning):
    """Input that was lost or passed over."""


class Notice(NamedTuple):
    """One kind of finding."""

    text: str
    """What was found, in the plural."""
    count: int  # type: ignore[assignment]
    """How often."""
    first: str
    """Where it was found first."""
    lost_samples: int
    """Samples lost by it, as far as anybody knows."""
    loss: bool
    """Whether input was lost, and not merely passed over on purpose."""

    def __str__(self) -> str:
        lost = f", {self.lost_samples} samples lost" if self.lost_samples else ""
        return f"{self.text}: {self.count}{lost} (first: {self.first})"


class Samples:
    """What :func:`samples` gives. It can be iterated over again and again, pickled, and handed to a ``DataLoader``."""

    count: Optional[int]
    """Samples that the split keeps of these shards, over all ranks and workers; ``None`` where only reading can tell."""
    notices: dict[str, Notice]
    """What this process has found lost or passed over so far, by a code. (The workers of a ``DataLoader`` each have their own, and warn.)"""
    run_notices: dict[str, Notice]
    """What was lost or passed over before, by a code, and is not found again in the shards: where ``run`` names them, shards that were gone;
    where a run's decisions are taken, what it lost of its shards, and samples that it rejected; of a split's file, samples that could not
    be judged when it was made. It is not counted in :attr:`notices`; what of it is a loss warns when this object is made."""

    def __init__(
        self,
        shards: Union[Path, Sequence[Path], None] = None,
        split: Optional[Path] = None,
        run: Optional[Path] = None,
        *,
        shuffle: bool = False,
        seed: int = 0,
        handler: Optional[Handler] = None,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
    ) -> None:
        if (rank is None) != (world_size is None):
            raise ValueError("rank and world_size are given together")
        if rank is not None and world_size is not None:
            _check_rank(rank, world_size, f"rank {rank} of {world_size}")
        if shards is not None and split is not None and run is not None:
            raise ValueError("shards and a split are given: there is nothing left that the run could say")
        self.notices = {}
        self.run_notices = {}
        self.count = None
        self._epoch = 0
        self._knows_absent = False
        self._of_others = 0
        self._unread: set[str] = set()
        self._shuffle, self._seed, self._handler = shuffle, seed, handler
        self._place = None if rank is None or world_size is None else (rank, world_size)
        chosen = run if split is None else split
        self._split = None if chosen is None else os.fspath(chosen)
        if self._split is not None and os.path.isdir(self._split):
            # A watch shows its newest epoch by a link that moves on: all workers read the one that stands there now.
            self._split = os.path.realpath(self._split)
        if shards is not None:
            texts = [shards] if isinstance(shards, (str, os.PathLike)) else shards
            self._shards, lost = _trommel.plan([os.fspath(text) for text in texts])
            _add(self.notices, lost)
            for notice in self.notices.values():
                warnings.warn(str(notice), NoticeWarning, stacklevel=3)
        elif run is not None:
            newest = self._split if split is None else None
            self._shards, lost = _trommel.plan_of_run(newest or run)
            _add(self.run_notices, lost)
        else:
            raise ValueError("shards, or the run whose shards are meant")
        if self._split is not None:
            self._cover(self._split)
        for notice in self.run_notices.values():
            if notice.loss:
                warnings.warn(str(notice), NoticeWarning, stacklevel=3)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch the next iteration is: another order of the shards each time, where they are shuffled.

        Each iteration takes the next epoch by itself. The workers of a ``DataLoader`` are copies: without ``persistent_workers`` they
        start where this object stands, so call this before each epoch; with it they count on from there.
        """
        self._epoch = epoch

    def __call__(self) -> Iterator[Sample]:
        """The same as ``iter``: a stage of webdataset's pipelines where there is no torch."""
        return iter(self)

    def __iter__(self) -> Iterator[Sample]:
        shards = self._dealt()
        self._epoch += 1
        before = dict(self.notices)
        # Which names of a list never come is known to who reads all, and is the same each time.
        reads_all = len(shards) == len(self._shards) and not self._knows_absent
        has_read_all = reads_all
        split = None if self._split is None else _trommel.Split(self._split, reads_all)
        if split is not None and self._split is not None and self._split.endswith(".txt"):
            # A list of keys is read once, and not again for each shard.
            split.coverage([shard[1] for shard in shards])
        given = 0
        for ordinal, name, url, size in shards:
            shard = _trommel.Shard(ordinal, name, url, size, split)
            try:
                yield from shard
            finally:
                given += shard.given()
                word, why, found = shard.end()
                _add(self.notices, self._untold(name, found))
            if word is not None and not self._goes_on(_ERRORS[word](why)):
                return
            # Names that seem absent may stand in a shard that could not be read to its end.
            has_read_all = has_read_all and word not in ("unavailable", "changed")
        if split is not None and has_read_all:
            _add(self.notices, split.absent(given, self._of_others))
            self._knows_absent = True
        for code, notice in self.notices.items():
            if not notice.loss and before.get(code) != notice:
                warnings.warn(str(notice), NoticeWarning, stacklevel=2)

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is spawned knows nothing of the process group that this process belongs to. Where there is none yet, whoever gets
        # this object may be any rank, and asks for itself.
        rank, world_size = self._place or _rank()
        return {**self.__dict__, "_place": (rank, world_size) if world_size > 1 else self._place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # A `DataLoader` asks whether this is an `IterableDataset`, and webdataset's pipelines ask too. Torch need not be there, or may come
        # later than this object: so torch is told when somebody asks.
        data: Any = sys.modules.get("torch.utils.data")
        if data is not None:
            data.IterableDataset.register(Samples)
        return type(self)

    def _cover(self, split: str) -> None:
        """Counts what the split keeps of the shards, and tells what it keeps of others, and what was lost before."""
        opened = _trommel.Split(split)
        _add(self.run_notices, opened.lost())
        covered = opened.coverage([shard[1] for shard in self._shards])
        if covered is None:
            return
        self.count, others, first, absent = covered
        self._of_others = others
        if others and not self.count:
            raise ValueError(
                f"{split}: none of its {others} samples is of these shards: it names {first} and not {self._shards[0][1]}"
            )
        _add(self.notices, absent)
        for code, *_ in absent:
            warnings.warn(f"{split}: {self.notices[code]}", NoticeWarning, stacklevel=4)

    def _untold(self, shard: str, found: list[_Found]) -> list[_Found]:
        """Without what was told of this shard in an epoch before: that the split keeps nothing of it is the same each time."""
        if any(code in _UNREAD for code, *_ in found):
            if shard in self._unread:
                return [one for one in found if one[0] not in _UNREAD]
            self._unread.add(shard)
        return found

    def _dealt(self) -> list[tuple[int, str, str, Optional[int]]]:
        """This process's shards, in their order: to ranks by turns, and a rank's to its workers by turns."""
        shards = self._shards
        if self._shuffle:
            salt = f"{self._seed} {self._epoch} ".encode()
            shards = sorted(shards, key=lambda shard: hashlib.sha256(salt + shard[1].encode()).digest())
        rank, world_size = self._place or _rank()
        worker, workers = _worker()
        return shards[rank::world_size][worker::workers]

    def _goes_on(self, error: ShardError) -> bool:
        if self._handler is not None:
            return bool(self._handler(error))
        if not isinstance(error, ShardDamaged):
            raise error
        warnings.warn(str(error), NoticeWarning, stacklevel=3)
        return True


def samples(
    shards: Union[Path, Sequence[Path], None] = None,
    split: Optional[Path] = None,
    run: Optional[Path] = None,
    *,
    shuffle: bool = False,
    seed: int = 0,
    handler: Optional[Handler] = None,
    rank: Optional[int] = None,
    world_size: Optional[int] = None,
) -> Samples:
    """Samples of shards as dicts of bytes, as webdataset makes them.

    ::

        data = trommel.samples("laion/{00000..41407}.tar", split="core.parquet")
        loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=8)
        wds.DataPipeline(data, wds.decode("pilrgb"), wds.to_tuple("jpg", "txt"))

    Args:
        shards: As on the command line: paths, globs, brace ranges, folders, ``a::b`` lists, or several of them. ``None``: those of ``run``.
        split: Only samples that this split keeps: a file of ``trommel select``, or a run folder. ``None``: those that ``run`` keeps, or all.
        run: A run folder: names the shards, the split, or both, where they are not given.
        shuffle: The order of the shards is another one in each epoch, by ``seed`` and :meth:`Samples.set_epoch`. Samples of a shard stay
            in its order: ``wds.shuffle`` mixes them.
        handler: Asked about each shard's :class:`ShardError`, as webdataset's handlers are. Without one, a shard that cannot be had or
            has changed raises, and what is lost of a damaged one warns.
        rank, world_size: Which process of a training this is. Without: ``RANK`` and ``WORLD_SIZE``, else torch's process group.

    Order: shards in the order of their arguments (of globs and folders by name), samples as they stand in the tar. Shard i goes to rank
    i mod ``world_size``, and a rank's shards go to its workers by turns: each sample comes once, over all of them. Ranks need not
    get equal numbers.

    A sample has ``__key__``, ``__url__`` and its members by their extensions, in webdataset's own reading of names. Where webdataset
    raises for a member that comes twice, a new sample begins, as in open_clip. Whatever is lost or passed over is counted in
    :attr:`Samples.notices` and warned about: shards of which the split keeps nothing too, and keys and uids of a list that no sample has, once
    one process has read all shards (of several each sees its own, and nobody knows); it raises where more samples have had the names of a
    list than the split keeps. What a run or a split has lost before, shards that were
    gone or rejected and samples that could not be judged, is in :attr:`Samples.run_notices`.
    """
    return Samples(
        shards, split, run, shuffle=shuffle, seed=seed, handler=handler, rank=rank, world_size=world_size
    )


def _add(notices: dict[str, Notice], found: list[_Found]) -> None:
    """Takes in findings of the compiled half."""
    for code, text, count, first, lost, loss in found:
        known = notices.get(code, Notice(text, 0, first, 0, False))
        sums = (known.count + count, known.first, known.lost_samples + lost, known.loss or loss)
        notices[code] = Notice(known.text, *sums)


def _check_rank(rank: int, world_size: int, told: str) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"{told}: ranks count from 0")


def _rank() -> tuple[int, int]:
    """This process among those of a training. Torch is asked only where it is there already: without, it has no process group."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        told = f"RANK={os.environ['RANK']} of WORLD_SIZE={os.environ['WORLD_SIZE']} in the environment"
        try:
            rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        except ValueError:
            raise ValueError(f"{told}: these are no whole numbers") from None
        _check_rank(rank, world_size, told)
        return rank, world_size
    for name, other in (("RANK", "WORLD_SIZE"), ("WORLD_SIZE", "RANK")):
        if name in os.environ:
            told = f"{name} is set and {other} is not: neither says which process of a training this is"
            warnings.warn(told, NoticeWarning, stacklevel=2)
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _worker() -> tuple[int, int]:
    """This process among the workers of a ``DataLoader``."""
    data: Any = sys.modules.get("torch.utils.data")
    info = None if data is None else data.get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
