"""Makes the shards that both stacks read: WebDataset tars of JPEGs with captions, the same bytes for the same arguments and Pillow.

From a folder of real photos (JPEGs, or tars that hold some) by random crops, flips and brightness; without one, from smooth noise of
similar size in bytes. Encoded by Pillow at quality 90 with 4:2:0. More shards than are made are links to those that are: other names, the
same bytes.
"""

import argparse
import io
import json
import os
import random
import sys
import tarfile
import time
from multiprocessing import get_context

from PIL import Image, ImageFilter

PHOTO_BYTES = 4 << 20
WORDS = (
    "a the of in on with and at near under old new red blue green white small large young man woman dog cat horse bird car bus train boat "
    "street house window table chair kitchen bowl plate pizza cake fruit tree grass field mountain lake river beach sky cloud snow rain night "
    "morning city market bridge tower clock sign light shadow wooden glass metal standing sitting running holding looking riding walking "
    "vintage photograph portrait illustration poster print design pattern wallpaper background stock vector handmade cotton leather summer "
    "wedding garden flowers birthday gift original painting museum collection 2014 2019 No. 7 HD view over between people children group"
).split()


def caption(rng):
    """5 to 40 words, the median at 10: about what web captions have."""
    count = min(40, max(5, round(rng.lognormvariate(2.3, 0.55))))
    return " ".join(rng.choice(WORDS) for _ in range(count))


def jpegs_of(folder):
    """(name, bytes) of each JPEG in a folder and in its tars, in the order of their names."""
    for root, folders, files in sorted(os.walk(folder)):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(root, name)
            if name.lower().endswith((".jpg", ".jpeg")):
                with open(path, "rb") as file:
                    yield name, file.read()
            elif name.endswith(".tar"):
                with tarfile.open(path) as tar:
                    for member in tar:
                        if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg")):
                            yield os.path.basename(member.name), tar.extractfile(member).read()


def photos(folder, limit=PHOTO_BYTES):
    """(name, bytes) of ordinary photos, at most `limit` bytes of them: RGB, 300 pixels and more on each side, read whole by Pillow."""
    taken = 0
    for name, data in jpegs_of(folder):
        try:
            picture = Image.open(io.BytesIO(data))
            picture.load()
        except Exception:
            continue
        if picture.mode != "RGB" or min(picture.size) < 300 or taken + len(data) > limit:
            continue
        taken += len(data)
        yield name, data


def noise(seed, size=(800, 640)):
    """Something with a photo's falling spectrum: noise of several scales, upsampled and added."""
    rng = random.Random(f"noise {seed}")
    picture = Image.new("RGB", size, (128, 128, 128))
    for scale, weight in ((160, 0.55), (40, 0.35), (10, 0.25), (3, 0.16), (1, 0.07)):
        small = (max(1, size[0] // scale), max(1, size[1] // scale))
        layer = Image.frombytes("RGB", small, rng.randbytes(3 * small[0] * small[1]))
        picture = Image.blend(picture, layer.resize(size, Image.Resampling.BICUBIC), weight)
    return picture.filter(ImageFilter.GaussianBlur(0.5))


SOURCES = []


def load_sources(folder):
    """Runs once in each process."""
    pictures = []
    if folder:
        pictures = [Image.open(io.BytesIO(data)).convert("RGB") for _, data in photos(folder)]
    SOURCES.extend(pictures or (noise(seed) for seed in range(8)))


def picture(rng, size):
    """One JPEG of `size` (width, height)."""
    source = rng.choice(SOURCES)
    fits = min(source.width / size[0], source.height / size[1])
    scale = fits * rng.uniform(0.8, 1.0) if fits < 1.25 else rng.uniform(1.0, min(fits, 1.6))
    wide, high = int(size[0] * scale), int(size[1] * scale)
    left, top = rng.randint(0, source.width - wide), rng.randint(0, source.height - high)
    made = source.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + wide, top + high))
    if rng.random() < 0.5:
        made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    light = rng.uniform(0.8, 1.2)
    made = made.point([min(255, round(value * light)) for value in range(256)] * 3)
    out = io.BytesIO()
    made.save(out, "JPEG", quality=90, subsampling="4:2:0")
    return out.getvalue()


def shard(job):
    """Writes one shard; the bytes of its pictures."""
    path, number, samples, size, seed = job
    rng = random.Random(f"{seed} {size} {number}")
    total = 0
    with tarfile.open(path + ".part", "w", format=tarfile.USTAR_FORMAT) as tar:
        for at in range(samples):
            key = f"{number:05d}{at:04d}"
            for ending, data in (("jpg", picture(rng, size)), ("txt", caption(rng).encode())):
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                total += len(data) if ending == "jpg" else 0
    os.rename(path + ".part", path)
    return total


def make(out, sizes, count, samples, names, folder, processes, seed=0):
    """`count` pictures of each of `sizes` in shards of `samples`, in OUT/WxH/00000.tar and on; `names` names in all."""
    shards = max(1, count // samples)
    jobs = []
    for size in sizes:
        place = os.path.join(out, f"{size[0]}x{size[1]}")
        os.makedirs(place, exist_ok=True)
        jobs += [(os.path.join(place, f"{n:05d}.tar"), n, samples, size, seed) for n in range(shards)]
        for number in range(shards, max(names, shards)):
            link = os.path.join(place, f"{number:05d}.tar")
            if not os.path.lexists(link):
                os.symlink(f"{number % shards:05d}.tar", link)
    began = time.monotonic()
    with get_context("fork").Pool(processes, load_sources, (folder,)) as pool:
        totals = pool.map(shard, jobs, chunksize=1)
    made = [sum(totals[at * shards:(at + 1) * shards]) for at in range(len(sizes))]
    return {
        "pictures_of_each_size": shards * samples,
        "shards_of_each_size": shards,
        "samples_a_shard": samples,
        "source": "photos" if folder else "noise",
        "mean_jpeg_bytes": {f"{w}x{h}": total // (shards * samples) for (w, h), total in zip(sizes, made)},
        "seconds": round(time.monotonic() - began, 1),
    }


def main():
    """`pictures.py OUT [--photos DIR] ..`, or `pictures.py OUT --pick DIR`: copies what would be taken of DIR."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--photos", help="folder of real photos")
    parser.add_argument("--pick", metavar="DIR", help="make nothing: copy at most 4 MiB of DIR's photos to OUT, to be carried elsewhere")
    parser.add_argument("--size", action="append", help="WxH [default: 640x480 and 400x350]")
    parser.add_argument("--count", type=int, default=20000, help="pictures of each size")
    parser.add_argument("--samples", type=int, default=500, help="samples a shard")
    parser.add_argument("--names", type=int, default=0, help="shards by name: those beyond what is made are links")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    if args.pick:
        os.makedirs(args.out, exist_ok=True)
        total = 0
        for at, (_, data) in enumerate(photos(args.pick)):
            total += len(data)
            with open(os.path.join(args.out, f"{at:04d}.jpg"), "wb") as file:
                file.write(data)
        print(f"{total} bytes of photos", file=sys.stderr)
        return
    sizes = [tuple(int(side) for side in size.split("x")) for size in args.size or ["640x480", "400x350"]]
    print(json.dumps(make(args.out, sizes, args.count, args.samples, args.names, args.photos, args.processes)))


if __name__ == "__main__":
    main()
