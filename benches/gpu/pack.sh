#!/usr/bin/env bash
# Makes one folder that is carried to a machine with a card and needs nothing from the network there: program, library, wheels, photos,
# scripts. usage: pack.sh [--photos DIR] [--release DIR] [OUT]   (OUT: target/gpu-bench; with the tracked files at most 60 MiB, else status 1)
# Program and library are packed by gzip, half as large; run.py unpacks them. --gzip: says so, and changes nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3} photos="" release=$root/target/release out=$root/target/gpu-bench
while [ $# -gt 0 ]; do
    case $1 in
        --photos) photos=$2; shift 2 ;;
        --release) release=$2; shift 2 ;;
        --gzip) shift ;;
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
gzip -9 "$out"/bin/*
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
# What is carried with it where a whole working tree travels.
tree=$(cd "$root" && git ls-files -z 2>/dev/null | du -cm --apparent-size --files0-from=- 2>/dev/null | tail -n 1 | cut -f 1 || true)
echo "$out: $size MiB ($sizes; MiB before gzip); tracked files: ${tree:-0} MiB"
[ "$((size + ${tree:-0}))" -le 60 ] || { echo "more than 60 MiB with the tracked files" >&2; exit 1; }
