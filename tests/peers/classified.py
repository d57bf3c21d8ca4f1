"""A classification set as CLIP_benchmark packs it, made of class folders.

usage: classified.py FOLDERS OUT [MAX_COUNT]
FOLDERS/CLASS/PICTURE, classes in the order of their names. By clip_benchmark's own converter where it can be imported
(clip-benchmark 1.6.2), else by webdataset's ShardWriter in the layout that it documents.
"""
import sys
from pathlib import Path

folders, out, most = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 7
classes = sorted(path.name for path in folders.iterdir() if path.is_dir())
pictures = [(str(path), at) for at, name in enumerate(classes) for path in sorted((folders / name).iterdir())]


class Pictures(list):
    """What the converter takes: pairs, with names and templates as attributes."""


dataset = Pictures(pictures)
dataset.classes = [name.replace("_", " ") for name in classes]
dataset.templates = ["a photo of a {c}.", "a sketch of the {c}"]
try:
    from clip_benchmark.webdataset_builder import convert_dataset, path_to_bytes

    convert_dataset(dataset, "test", str(out), transform=path_to_bytes, max_count=most, verbose=False)
    by = "clip_benchmark's converter"
except ImportError:
    import webdataset

    (out / "test").mkdir(parents=True)
    sink = webdataset.ShardWriter(str(out / "test" / "%d.tar"), maxcount=most, verbose=0)
    for at, (path, label) in enumerate(dataset):
        sink.write({"__key__": f"s{at:07}", "jpg": Path(path).read_bytes(), "cls": label})
    shards = sink.shard
    sink.close()
    (out / "test" / "nshards.txt").write_text(f"{shards}\n")
    (out / "classnames.txt").write_text("\n".join(dataset.classes) + "\n")
    (out / "zeroshot_classification_templates.txt").write_text("\n".join(dataset.templates) + "\n")
    by = "webdataset's ShardWriter"
print(f"{len(dataset)} pictures of {len(classes)} classes, by {by}")
