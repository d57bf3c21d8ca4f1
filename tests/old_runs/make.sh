#!/usr/bin/env bash
# Run folders as an older program leaves them, killed in the middle: `tests/old_runs/make.sh PROGRAM OUT.tar.zst`.
# runs.tar.zst was made by the program of commit f364393 (`git worktree add DIR f364393`, `cargo build` there). Paths are relative:
# who resumes unpacks it anywhere and works inside. The model is as small as one can be that knows all of CLIP's vocabulary, so that
# its checkpoints can be kept here.
set -euo pipefail
program=$(realpath "$1") out=$(realpath -m "$2") here=$(realpath "$(dirname "$0")") room=$(mktemp -d)
python3 "$here/inputs.py" "$room/old"
cd "$room/old"

judging=(--benchmark val=radii/val --rule drop-over-radius --embedder model.json --embedder-weights weights.safetensors --threads 1)
training=(--rule random:80% --model model.json --pretrained weights.safetensors --batch 16 --precision f32 --lr 1e-3 --warmup 2
  --window 32 --threads 1 --save-every 2 --keep-checkpoints 1 --steps 32)
newest() { ls "$1/checkpoints" 2>/dev/null | sed -n 's/^step_0*//p' | sort -n | tail -1; }
# Kills a session as soon as `reached` says so; one that has ended was no kill.
killed() {
  setsid "$program" "${@:2}" 2>/dev/null & local session=$!
  until [ "$($1)" -ge 1 ]; do kill -0 $session; sleep 0.002; done
  kill -KILL -- -$session
  wait $session || true
}

for set in reference benchmark; do
  "$program" embed $set -o embedded/$set --model model.json --pretrained weights.safetensors --threads 1
done
"$program" radii --reference embedded/reference --benchmark val=embedded/benchmark -o radii
rm -r embedded reference benchmark

committed() { cat prune/manifest/*.jsonl 2>/dev/null | grep -c committed || true; }
killed committed prune 'shards/{00000..00005}.tar' --run prune "${judging[@]}"
trained() { [ "$(newest train)" ] && [ "$(newest train)" -ge 8 ] && echo 1 || echo 0; }
killed trained train 'shards/{00000..00005}.tar' --run train "${training[@]}"
trained() { [ "$(newest two)" ] && [ "$(newest two)" -ge 2 ] && echo 1 || echo 0; }
killed trained launch --local 2 -- train 'shards/{00000..00005}.tar' --run two "${training[@]}"
mkdir arriving
for ordinal in 0 1 2; do
  cp -p shards/0000${ordinal}{.tar,_stats.json} arriving
  "$program" watch arriving --run watch --once --settle 0s --keep-epochs 3 "${judging[@]}"
done
cd ..
tar --sort=name --owner=0 --group=0 --numeric-owner -c old | zstd --ultra -22 --long=27 -q -f -o "$out"
ls -l "$out"
rm -r "$room"
