"""The Python module beside webdataset, torch's DataLoader and open_clip's training loop: WHAT and its arguments.

`trommel` is found by PYTHONPATH; what is kept, a table of (shard, key, index) says, which polars reads.
"""

import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import warnings
from pathlib import Path

import trommel


def webdatasets(shards, kept=None):
    """What webdataset reads, in its order; `kept` holds (shard's file name, key)."""
    import webdataset as wds

    urls = sorted(str(path) for path in Path(shards).glob("*.tar"))
    for sample in wds.DataPipeline(wds.SimpleShardList(urls), wds.tarfile_to_samples()):
        sample.pop("__local_path__", None)
        if kept is None or (Path(sample["__url__"]).name, sample["__key__"]) in kept:
            yield sample


def rows(split):
    import polars as pl

    table = pl.read_parquet(split)
    return set(table.select("shard", "key").iter_rows())


def same(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs), (len(ours), len(theirs))
    for one, other in zip(ours, theirs):
        assert one == other and list(one) == list(other), (list(one), list(other))
    return len(ours)


def by_key(samples):
    return sorted(samples, key=lambda sample: (sample["__url__"], sample["__key__"]))


def plain(shards):
    """In one process, and without torch."""
    count = same(trommel.samples(shards), webdatasets(shards))
    globbed = trommel.samples([Path(shards) / "*.tar"])
    assert same(globbed, trommel.samples(shards)) == count and not globbed.notices
    assert same(globbed, trommel.samples(shards)) == count, "a second time"
    print(count)


def torch_free(shards):
    data = trommel.samples(shards)
    count = sum(1 for _ in data)
    assert count and not any(name.split(".")[0] in ("torch", "webdataset") for name in sys.modules)
    # Whoever imports torch afterwards has an IterableDataset all the same.
    from torch.utils.data import DataLoader

    assert sum(1 for _ in DataLoader(data, batch_size=None)) == count


def split(shards, file, run):
    kept = rows(file)
    data = trommel.samples(shards, split=file)
    assert data.count == len(kept) > 0
    assert same(data, webdatasets(shards, kept)) == len(kept) and not data.notices, data.notices
    for form in ("txt", "npy", "split.json"):
        same(trommel.samples(shards, split=Path(file).with_suffix("." + form)), data)
    # A run's own decisions, as its ledger says them, shards and all.
    import polars as pl

    ledger = pl.read_parquet(trommel.ledger(run)).filter(pl.col("status") == "kept")
    kept = set(ledger.select("shard", "key").iter_rows())
    data = trommel.samples(run=run)
    assert data.count == ledger.height > 0 and same(data, webdatasets(shards, kept)) == ledger.height
    same(trommel.samples(shards, split=run), data)
    same(trommel.samples(run=run, split=file), webdatasets(shards, rows(file)))


def ranks(shards, file):
    """Ranks and workers: over all of them each sample once, whatever their numbers."""
    from torch.utils.data import DataLoader

    expected = by_key(webdatasets(shards, rows(file)))
    everything = by_key(webdatasets(shards))
    for world, workers in itertools.product((1, 2), (0, 1, 2)):
        os.environ["WORLD_SIZE"] = str(world)
        for due, data in ((expected, trommel.samples(shards, split=file)), (everything, trommel.samples(shards))):
            parts = []
            for rank in range(world):
                os.environ["RANK"] = str(rank)
                parts.append(list(DataLoader(data, batch_size=None, num_workers=workers)))
            del os.environ["RANK"]
            same(by_key(itertools.chain.from_iterable(parts)), due)
            if world > 1:
                assert all(parts), "a rank without samples"
    del os.environ["WORLD_SIZE"]
    # Spawned workers know nothing of this process but what is pickled.
    given = trommel.samples(shards, split=file, rank=1, world_size=2)
    loader = DataLoader(given, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    same(by_key(loader), by_key(given))
    # Who is given the object by a process that is no rank finds its own place.
    sent = pickle.dumps(trommel.samples(shards, split=file))
    os.environ.update(RANK="1", WORLD_SIZE="2")
    same(pickle.loads(sent), given)
    # Half of a place is none, and is told.
    del os.environ["WORLD_SIZE"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        same(by_key(trommel.samples(shards)), everything)
    assert any("RANK is set and WORLD_SIZE is not" in str(one.message) for one in told), told
    # Nor is a place that no rank has.
    for rank, world in (("2", "2"), ("-1", "2"), ("0", "0"), ("one", "2")):
        os.environ.update(RANK=rank, WORLD_SIZE=world)
        said = raised(ValueError, lambda: list(trommel.samples(shards)))
        assert f"RANK={rank} of WORLD_SIZE={world}" in said, said
    del os.environ["RANK"], os.environ["WORLD_SIZE"]
    import torch.multiprocessing as processes

    with tempfile.TemporaryDirectory() as folder:
        processes.spawn(grouped, args=(folder, shards, file), nprocs=2)


def grouped(rank, folder, shards, file):
    """A process of torch's own group of two, of which no variable tells: its place is the group's."""
    import torch.distributed as dist
    from torch.utils.data import DataLoader

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    data, given = trommel.samples(shards, split=file), trommel.samples(shards, split=file, rank=rank, world_size=2)
    same(data, given)
    if rank == 1:
        same(by_key(DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="spawn")), by_key(given))
    dist.barrier()
    dist.destroy_process_group()


def epochs(shards):
    from torch.utils.data import DataLoader

    def order(samples):
        return [url for url, _ in itertools.groupby(sample["__url__"] for sample in samples)]

    data = trommel.samples(shards, shuffle=True, seed=7)
    seen = [order(data) for _ in range(4)]
    assert len(set(map(tuple, seen))) > 1 and len({tuple(sorted(urls)) for urls in seen}) == 1
    data.set_epoch(0)
    assert [order(data) for _ in range(4)] == seen, "the same again"
    assert order(trommel.samples(shards, shuffle=True, seed=7, rank=0, world_size=2)) == seen[0][::2]
    data.set_epoch(0)
    loader = DataLoader(data, batch_size=None, num_workers=1, persistent_workers=True)
    assert [order(loader) for _ in range(4)] == seen


def pipeline(shards, file):
    import webdataset as wds

    stages = wds.decode("pilrgb"), wds.to_tuple("jpg", "txt", "__key__")
    ours = list(wds.DataPipeline(trommel.samples(shards, split=file), *stages))
    theirs = list(wds.DataPipeline(webdatasets(shards, rows(file)).__iter__, *stages))
    assert len(ours) == len(theirs) > 0
    for (image, text, key), (their_image, their_text, their_key) in zip(ours, theirs):
        assert (image.tobytes(), text, key) == (their_image.tobytes(), their_text, their_key)


def open_clip(shards, file):
    """open_clip's own loop over its own stages, two workers."""
    import types

    import open_clip as clip
    import torch
    import torchvision  # noqa: F401  looks for pandas before the trainer does
    import webdataset as wds
    from open_clip_train.data import DataInfo, filter_no_caption_or_no_image, log_and_continue
    from open_clip_train.train import train_one_epoch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
        output_dict=True,
    )
    preprocess = clip.image_transform(32, is_train=False)
    tokenizer = clip.get_tokenizer("ViT-B-32")
    kept = rows(file)
    data = wds.DataPipeline(
        trommel.samples(shards, split=file, shuffle=True),
        wds.select(filter_no_caption_or_no_image),
        wds.decode("pilrgb", handler=log_and_continue),
        wds.rename(image="jpg;png;jpeg;webp", text="txt", key="__key__"),
        wds.map_dict(image=preprocess, text=lambda text: tokenizer(text)[0]),
        wds.to_tuple("image", "text", "key"),
        wds.batched(8, partial=True),
    )
    loader = wds.WebLoader(data, batch_size=None, shuffle=False, num_workers=2, persistent_workers=True)
    seen = []

    class Noted:
        num_batches, num_samples = len(kept) // 8, len(kept)

        def __iter__(self):
            for images, texts, keys in loader:
                seen.extend(keys)
                yield images, texts

    args = types.SimpleNamespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=True, horovod=False, grad_clip_norm=None,
        rank=0, local_rank=0, log_local=False, log_every_n_steps=1, world_size=1, batch_size=8, wandb=False, tensorboard=False,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = clip.ClipLoss()
    before = [p.detach().clone() for p in model.parameters()]
    for epoch in range(2):
        seen.clear()
        train_one_epoch(model, {"train": DataInfo(Noted())}, loss, epoch, optimizer, None, None, None, args)
        captioned = {s["__key__"] for s in webdatasets(shards, kept) if "txt" in s and "jpg" in s}
        assert sorted(seen) == sorted(captioned) and len(seen) > 16, (len(seen), len(captioned))
    moved = sum(bool((p != q).any()) for p, q in zip(model.parameters(), before))
    assert moved > 10 and all(torch.isfinite(p).all() for p in model.parameters())
    print(len(seen))


def ledger(run, committed):
    """`committed` is what the manifest's good lines list."""
    import polars as pl
    import pyarrow.dataset as ds

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        files = trommel.ledger(run)
    assert [str(Path(file).relative_to(run)) for file in files] == json.loads(committed), files
    table = ds.dataset(files).to_table()
    assert table.num_rows == pl.read_parquet(files).height > 0
    print(table.num_rows, *(str(one.message) for one in told))


def raised(kind, call):
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def told(call):
    with warnings.catch_warnings(record=True) as all_told:
        warnings.simplefilter("always")
        out = call()
    return out, [str(one.message) for one in all_told if issubclass(one.category, trommel.NoticeWarning)]


def errors(shards, file, scratch):
    """What is lost raises, warns, or is asked about; and it is counted."""
    scratch = Path(scratch)
    tars = sorted(Path(shards).glob("*.tar"))
    whole = tars[0].read_bytes()
    said = raised(FileNotFoundError, lambda: trommel.samples(scratch / "none.tar"))
    assert "none.tar" in said, said
    raised(ValueError, lambda: trommel.samples())
    raised(ValueError, lambda: trommel.samples(shards, rank=2, world_size=2))
    raised(ValueError, lambda: trommel.samples(shards, split=tars[0]))
    # However a split's file would be read.
    for name in ("nope.txt", "nope.npy", "nope.keys", "nope.parquet", "nope.split.json", "nope"):
        said = raised(FileNotFoundError, lambda: trommel.samples(shards, split=scratch / name))
        assert name in said, said
    raised(ValueError, lambda: trommel.samples(shards, split=file, run=scratch))

    # Gone after it was listed, and of another size.
    for name, change in (("gone.tar", Path.unlink), ("grown.tar", lambda path: path.write_bytes(whole + bytes(512)))):
        path = scratch / name
        path.write_bytes(whole)
        data = trommel.samples([path, tars[1]])
        change(path)
        said = raised(trommel.ShardUnavailable, lambda: list(data))
        assert name in said and isinstance(trommel.ShardUnavailable(said), OSError)
        seen = []
        handled = trommel.samples([tars[1]], handler=lambda error: bool(seen.append(error)) or True)
        handled._shards = data._shards
        same(handled, [sample for sample in webdatasets(shards) if sample["__url__"] == str(tars[1])])
        assert [type(error) for error in seen] == [trommel.ShardUnavailable]
        unread = handled.notices["shard_unavailable"]
        assert (unread.count, unread.loss) == (1, True) and name in unread.first, unread
        stopping = trommel.samples([tars[1]], handler=lambda _: False)
        stopping._shards = data._shards
        assert list(stopping) == []
        # As a worker's error, it says the same in the process that waits for it.
        from torch.utils.data import DataLoader

        raised(trommel.ShardUnavailable, lambda: list(DataLoader(data, batch_size=None, num_workers=1)))

    # Cut off in the middle: whole samples come, the cut one is lost.
    cut = scratch / "cut.tar"
    cut.write_bytes(whole[: len(whole) // 2])
    data = trommel.samples([cut, tars[1]])
    out, said = told(lambda: list(data))
    first = [sample for sample in out if sample["__url__"] == str(cut)]
    theirs = [dict(sample, __url__=str(cut)) for sample in webdatasets(shards) if sample["__url__"] == str(tars[0])]
    assert 0 < len(first) < len(theirs) and first == theirs[: len(first)]
    assert len(said) == 1 and "cut.tar" in said[0] and data.notices["shard_cut_off"].loss, (said, data.notices)
    assert str(data.notices["shard_cut_off"]).startswith("shards cut off or damaged behind their first samples: 1 (first: cut.tar")
    import webdataset as wds

    raised(trommel.ShardDamaged, lambda: list(trommel.samples(cut, handler=wds.reraise_exception)))

    # No tar at all.
    page = scratch / "page.tar"
    page.write_text("<!DOCTYPE html><title>403</title>")
    data = trommel.samples(page)
    out, said = told(lambda: list(data))
    assert out == [] and len(said) == 1 and "an HTML page" in said[0], said
    assert data.notices["shard_html_page"].lost_samples == 1

    # What is passed over is told too, once.
    import io
    import tarfile

    odd = scratch / "odd.tar"
    with tarfile.open(odd, "w") as tar:
        for name in ("a.jpg", "README", "b.JPG", "b.jpg", "c.tar.gz", "d/.DS_Store", "d/e.f/g.Seg.PNG"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    data = trommel.samples(odd)
    out, said = told(lambda: list(data))
    names = [(sample["__key__"], *sorted(set(sample) - {"__key__", "__url__"})) for sample in out]
    assert names == [("a", "jpg"), ("b", "jpg"), ("b", "jpg"), ("c", "tar.gz"), ("d/e.f/g", "seg.png")], names
    assert len(said) == 3 and {"nameless_files", "repeated_members", "macos_files"} == set(data.notices), said

    # A split of other shards, and shards that are not the split's.
    said = raised(ValueError, lambda: trommel.samples(odd, split=file))
    assert "none of" in said, said
    moved = scratch / tars[0].name
    with tarfile.open(tars[0]) as source, tarfile.open(moved, "w") as tar:
        for member in reversed(source.getmembers()):
            tar.addfile(member, source.extractfile(member))
    some, said = told(lambda: trommel.samples(moved, split=file))
    line = f"{file}: samples that the split keeps of shards that are not given: "
    assert sum(one.startswith(line) for one in said) == 1 and some.notices["absent_shards"].count > 10, said
    said = raised(trommel.ShardChanged, lambda: list(some))
    assert tars[0].name in said, said
    handled = trommel.samples(moved, split=file, handler=lambda _: True)
    assert len(list(handled)) + handled.notices["shard_changed"].lost_samples == handled.count, handled.notices

    # A line that stands again is one sample, beside the first and anywhere.
    lines = Path(file).with_suffix(".txt").read_text().splitlines()
    twice = scratch / "twice.txt"
    for again in ([line for line in lines for _ in range(2)], lines + lines[:5]):
        twice.write_text("\n".join(again) + "\n")
        data, said = told(lambda: trommel.samples(shards, split=twice))
        assert data.count == len(list(data)) == len(lines)
        assert data.notices["repeated_lines"].count == len(again) - len(lines) and len(said) == 1, said

    # What a folder does not stand for.
    given = scratch / "given"
    (given / "below").mkdir(parents=True)
    for name in ("0.tar", "1.TAR", "below/2.tar"):
        (given / name).write_bytes(whole)
    data, said = told(lambda: trommel.samples(given))
    assert {"unread_shards", "shards_below"} == set(data.notices) and len(said) == 2, said


def other_runs(run):
    """A run of class folders names no shards."""
    said = raised(ValueError, lambda: trommel.samples(run=run))
    assert "and no shards: give the shards with the pictures" in said and "by keys alone" in said, said
    assert trommel.__version__.count(".") == 2


def lost_before(shards, run, splits):
    """Of five shards one is gone, one is a page, and in one nobody has a picture: the ledger has the two others."""
    import numpy as np
    import polars as pl

    shards, splits = Path(shards), Path(splits)
    rows = pl.read_parquet(trommel.ledger(run))
    kept, rejected = (rows.filter(pl.col("status") == word).height for word in ("kept", "rejected"))
    assert kept > 40 and rejected >= 5 and kept + rejected == 2 * 24 + 5

    def lost(notices):
        return {code: notice.lost_samples for code, notice in notices.items() if notice.loss}

    data, said = told(lambda: trommel.samples(run=run))
    assert lost(data.run_notices) == {"shard_gone": 24, "shard_html_page": 24, "rejected_before": rejected}
    assert sorted(said) == sorted(str(notice) for notice in data.run_notices.values() if notice.loss), said
    line = "shards that are gone, with their statistics or metadata left: 1, 24 samples lost (first: 00003, 24 samples)"
    assert line in said and not data.notices, said
    for time in (1, 2):
        out, said = told(lambda: list(data))
        assert len(out) == kept and not lost(data.notices)
        unread = data.notices["not_in_split"]
        assert unread.count == 2 and unread.first.endswith("00002.tar"), unread
        assert (str(unread) in said) == (time == 1), said
    # Whoever gives the shards finds by himself what is gone of them.
    data, said = told(lambda: trommel.samples(shards, split=run))
    assert lost(data.notices) == {"shard_gone": 24} and line in said
    assert lost(data.run_notices) == {"shard_html_page": 24, "rejected_before": rejected}
    data, said = told(lambda: trommel.samples([shards / "00000.tar", shards / "00001.tar"], split=splits / "all.parquet"))
    assert lost(data.run_notices) == {"rejected_before": rejected} and len(said) == 1 and not data.notices, said
    # All of them: nothing was lost.
    data, said = told(lambda: trommel.samples([shards / "00000.tar", shards / "00001.tar"]))
    assert not said and not data.run_notices

    # Lists that know a name more.
    keys, uids = splits / "more.keys", splits / "more.npy"
    keys.write_text((splits / "all.keys").read_text() + "~absent\n")
    listed = np.load(splits / "all.npy")
    np.save(uids, np.concatenate([listed, np.array([(2**64 - 1, 2**64 - 1)], listed.dtype)]))
    for more, code, first in ((keys, "absent_keys", "~absent"), (uids, "absent_uids", "f" * 32)):
        tars = [shards / "00000.tar", shards / "00001.tar"]
        data = trommel.samples(tars, split=more)
        for is_first in (True, False):
            out, said = told(lambda: list(data))
            assert len(out) == kept, (more, len(out))
            found = data.notices[code]
            assert found.count == 1 and found.first == f"{more}: {first}" and not found.loss, found
            assert said == ([str(found)] if is_first else []), said
        # Of two who share the shards neither knows.
        for rank in (0, 1):
            half = trommel.samples(tars, split=more, rank=rank, world_size=2)
            assert 0 < len(list(half)) < kept and not half.notices, half.notices
    # What stands in a shard that could not be had is not absent; once the shard is there again, all is known.
    lent = shards / "lent.tar"
    lent.write_bytes((shards / "00001.tar").read_bytes())
    data = trommel.samples([shards / "00000.tar", lent], split=keys, handler=lambda error: True)
    lent.unlink()
    for _ in range(2):
        assert 0 < len(list(data)) < kept and "absent_keys" not in data.notices, data.notices
    lent.write_bytes((shards / "00001.tar").read_bytes())
    assert len(list(data)) == kept and data.notices["absent_keys"].first == f"{keys}: ~absent", data.notices
    lent.unlink()
    # A key that stands for a sample in each of two shards is two samples, and is told.
    again = shards / "again"
    again.mkdir()
    (again / "00000.tar").write_bytes((shards / "00000.tar").read_bytes())
    data = trommel.samples([shards / "00000.tar", f"again={again}/00000.tar"], split=keys)
    out, said = told(lambda: list(data))
    assert data.notices["repeated_keys"].count == len(out) / 2 > 10, (data.notices, len(out))
    # Where the split says how many it keeps, there are more.
    twice = trommel.samples([shards / "00000.tar", f"again={again}/00000.tar"], split=splits / "all.keys")
    said = raised(ValueError, lambda: list(twice))
    assert f"{len(out)} samples here have its names, and it keeps {len(out) // 2} of them" in said, said


def disk_that_is_gone(shards, scratch):
    """A disk that is gone is waited for once, and not at each shard: this process's own memory opens as a file, and is not to be read."""
    import ctypes
    import struct

    opened, closed = 0x20, 0x18
    memory = f"/proc/{os.getpid()}/mem"
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, memory.encode(), opened | closed) >= 0

    def openings():
        events, count = os.read(watch, 1 << 16), 0
        while events:
            _, mask, _, name_bytes = struct.unpack_from("iIII", events)
            events, count = events[16 + name_bytes :], count + bool(mask & opened)
        return count

    names = [Path(scratch) / f"{at}.tar" for at in range(3)]
    for name in names:
        name.symlink_to(memory)
    seen = []
    data = trommel.samples(names, handler=lambda error: bool(seen.append((type(error), openings()))) or True)
    openings()
    assert list(data) == []
    (kind, first), *later = seen
    assert kind is trommel.ShardUnavailable and first > 1, seen
    assert later == [(kind, 1)] * 2, seen
    # Another set's shards are of the same disk; one from which bytes come is waited for again.
    again = trommel.samples(names[:1], handler=data._handler)
    openings()
    assert list(again) == [] and seen[-1] == (kind, 1), seen
    assert list(trommel.samples(shards))
    assert list(again) == [] and seen[-1] == (kind, first), seen


def interrupted(shards, scratch):
    """Ctrl-C ends the wait for a pipe's bytes, and the way over a member of 64 GiB, in which the interpreter does not look for signals."""
    pipe, large = Path(scratch) / "pipe.tar", Path(scratch) / "large.tar"
    os.mkfifo(pipe)
    holder = os.open(pipe, os.O_RDWR)
    os.write(holder, next(iter(sorted(Path(shards).glob("*.tar")))).read_bytes()[:700])
    member = tarfile.TarInfo("a.bin")
    member.size = 64 << 30
    large.write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    os.truncate(large, 512 + member.size + 1024)

    def bytes_read():
        return int(Path("/proc/self/io").read_text().split()[1])

    # Nobody writes to it, for now.
    silent = Path(scratch) / "silent.tar"
    os.mkfifo(silent)

    def write():
        silent.write_bytes(next(iter(sorted(Path(shards).glob("*.tar")))).read_bytes())

    writer = threading.Timer(0.5, write)
    writer.start()
    assert len(list(trommel.samples(silent))) > 10
    writer.join()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    # Whoever does not hear it meets the end of the pipe.
    end = threading.Timer(60, lambda: (os.close(holder), silent.write_bytes(b"")))
    end.daemon = True
    end.start()
    for path in (pipe, large, silent):
        before = bytes_read()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        raised(KeyboardInterrupt, lambda: list(trommel.samples(path)))
        assert bytes_read() - before < 48 << 30, path
        assert path == large or end.is_alive()
    end.cancel()


def command(script, shards, scratch):
    """The `trommel` command of the wheel, which is this program's own."""

    def run(status, *args):
        out = subprocess.run([script, *args], capture_output=True, text=True)
        assert out.returncode == status, (args, out)
        return out

    assert run(0, "--version").stdout.startswith("trommel ")
    assert "Usage: trommel" in run(0, "--help").stdout
    assert run(2, "select").stderr.startswith("error: ")
    run(0, "synth", scratch + "/made", "--shards", "2", "--samples", "4")
    assert sum(1 for _ in trommel.samples(scratch + "/made/shards")) == 8
    said = run(1, "prune", shards, "--rule", "random:50%", "--run", scratch + "/run").stderr
    assert "libtrommel_torch.so" in said and "cargo build" in said, said


if __name__ == "__main__":  # and not in a spawned worker
    globals()[sys.argv[1]](*sys.argv[2:])
