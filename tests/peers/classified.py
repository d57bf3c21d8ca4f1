"""A classification set as CLIP_benchmark packs it, made of class folders.

usage: classified.py FOLDERS OUT [MAX_COUNT]
FOLDERS/CLASS/PICTURE, classes in the order of their names. By clip_benchmark's own converter.
"""
import sys
from importlib.metadata import version
from pathlib import Path

from clip_benchmark.webdataset_builder import convert_dataset, path_to_bytes

folders, out, most = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 7
classes = sorted(path.name for path in folders.iterdir() if path.is_dir())
pictures = [(str(path), at) for at, name in enumerate(classes) for path in sorted((folders / name).iterdir())]


class Pictures(list):
    """What the converter takes: pairs, with names and templates as attributes."""


dataset = Pictures(pictures)
dataset.classes = [name.replace("_", " ") for name in classes]
dataset.templates = ["a photo of a {c}.", "a sketch of the {c}"]
convert_dataset(dataset, "test", str(out), transform=path_to_bytes, max_count=most, verbose=False)
print(f"{len(dataset)} pictures of {len(classes)} classes, by clip_benchmark {version('clip-benchmark')}")
