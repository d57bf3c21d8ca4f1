#!/usr/bin/env bash
# Makes one folder that is carried to a machine with a card and needs nothing from the network there: program, library, wheels, photos,
# scripts. usage: pack.sh [--photos DIR] [--release DIR] [--gzip] [OUT]   (OUT: target/gpu-bench; at most 60 MiB, else status 1)
# --gzip: program and library half as large; run.py unpacks them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3} photos="" release=$root/target/release out=$root/target/gpu-bench zipped=""
while [ $# -gt 0 ]; do
    case $1 in
        --photos) photos=$2; shift 2 ;;
        --release) release=$2; shift 2 ;;
        --gzip) zipped=yes; shift ;;
        *) out=$1; shift ;;
    esac
done
mkdir -p "$out/bin" "$out/wheels"
rm -f "$out"/*.py "$out"/bin/*
cp "$here"/*.py "$here"/*.sh "$here"/README.md "$here"/wheels.txt "$out"
library=$release/deps/libtrommel_torch.so
[ -f "$library" ] || library=$release/libtrommel_torch.so
strip -o "$out/bin/trommel" "$release/trommel"
strip -o "$out/bin/libtrommel_torch.so" "$library"
sizes="program $(du -m "$out/bin/trommel" | cut -f 1), library $(du -m "$out/bin/libtrommel_torch.so" | cut -f 1)"
[ -z "$zipped" ] || gzip -9 "$out"/bin/*
# Only what is not there yet: a second pack needs no network.
while read -r wheel; do
    name=${wheel%%==*} version=${wheel##*==}
    ls "$out/wheels/$name-$version-"*.whl >/dev/null 2>&1 ||
        "$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 -d "$out/wheels" "$wheel"
done < "$here/wheels.txt"
if [ -n "$photos" ]; then
    rm -rf "$out/photos"
    "$python" "$here/pictures.py" "$out/photos" --pick "$photos"
fi
size=$(du -sm --apparent-size "$out" | cut -f 1)
echo "$out: $size MiB ($sizes)"
[ "$size" -le 60 ] || { echo "more than 60 MiB: --gzip" >&2; exit 1; }
