"""The steps of a training run, by pyarrow and a naive order of the samples, against the table of `trommel why RUN --all`.

usage: steps.py RUN TABLE.parquet
The order is written after docs/design/time-and-order.md and the text of operators/core/hash.rs.
"""
import json
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet as pq

RUN, TABLE = Path(sys.argv[1]), sys.argv[2]
MASK = (1 << 64) - 1


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def word(h, w):
    return mix((h ^ w) + 0x9E3779B97F4A7C15 & MASK)


def text(h, s):
    h = word(h, len(s))
    for at in range(0, len(s), 8):
        h = word(h, int.from_bytes(s[at : at + 8], "little"))
    return h


def hashed(name, *fields):
    h = text(0, name.encode())
    for field in fields:
        h = text(h, field.encode()) if isinstance(field, str) else word(h, field)
    return h


plan = json.loads((RUN / "plan.json").read_text())["plan"]["shards"]
states = sorted((RUN / "checkpoints").glob("step_*/state.json"), key=lambda path: int(path.parent.name[5:]))
state = json.loads(states[-1].read_text())
training, done = json.loads(state["training"]), state["global_step"]
order, batch = training["order"], training["recipe"]["batch_samples"]
lanes, size, seed = order["lanes"], order["window_samples"], order["seed"]
turns = [json.loads(line) for line in (RUN / "irregular.jsonl").read_text().splitlines()][1:]
closed = {(turn["pass"], turn["window"]): turn["closed"] for turn in turns if "closed" in turn}
skipped = {(turn["pass"], *turn["skipped"]) for turn in turns if "skipped" in turn}
assert not any("given_up" in turn for turn in turns), turns

shards = {}
for part in (RUN / "ledger").glob("*.parquet"):
    ordinal, incarnation, _ = part.name.split(".")
    rows = pq.read_table(part).select(["shard", "key", "index", "status", "reason"]).to_pylist()
    known = shards.get(int(ordinal))
    if known is None or int(incarnation) < known[0]:
        shards[int(ordinal)] = (int(incarnation), rows)
assert sorted(shards) == list(range(len(plan))), sorted(shards)

due, before, number_of_pass = [], 0, 0
while before < done:
    p = number_of_pass
    dealt = sorted(range(len(plan)), key=lambda at: (hashed("shard", seed, p, plan[at]["name"]), at))
    queues = [[(at, row) for at in dealt[lane::lanes] for row in shards[at][1]] for lane in range(lanes)]
    windows, lost = [[]], []
    while any(queues):
        for queue in queues:
            if not queue:
                continue
            at, row = queue.pop(0)
            if row["status"] != "kept" or row["reason"] == "no_caption":
                continue
            if (p, at, row["index"]) in skipped:
                lost.append(row)
                continue
            windows[-1].append(row)
            if len(windows[-1]) == closed.get((p, len(windows) - 1), size):
                windows.append([])
    numbered = []
    for window, rows in enumerate(windows):
        places = sorted(range(len(rows)), key=lambda at: (hashed("window", seed, p, window, at), at))
        numbered += [rows[at] for at in places]
    batches = len(numbered) // batch
    for number, row in enumerate(numbered):
        step = before + number // batch
        turn = "left_over" if number // batch >= batches else "step" if step < done else "not_yet"
        where = (step, number % batch) if turn == "step" else (None, None)
        due.append((row["shard"], row["key"], row["index"], p, turn, *where))
    due += [(row["shard"], row["key"], row["index"], p, "skipped", None, None) for row in lost]
    before, number_of_pass = before + batches, p + 1

table = pq.read_table(TABLE)
assert table.column_names == ["shard", "key", "index", "pass", "turn", "step", "position"], table.column_names
said = json.loads(pq.read_metadata(TABLE).metadata[b"trommel.steps"])
assert (said["schema"], said["steps"], said["batch"], said["untold_samples"]) == (1, done, batch, 0), said
ours = list(zip(*(table[name].to_pylist() for name in table.column_names)))
assert len(set(ours)) == len(ours)
assert set(ours) == set(due), sorted(set(ours) ^ set(due), key=str)[:8]
in_steps = [(row[5], row[6]) for row in ours if row[4] == "step"]
assert in_steps == [(step, at) for step in range(done) for at in range(batch)], "not in the order of training"
counts = {turn: sum(row[4] == turn for row in ours) for turn in ("step", "left_over", "skipped", "not_yet")}
print(f"pyarrow {pyarrow.__version__}: {len(ours)} rows of {number_of_pass} passes, {counts}")
