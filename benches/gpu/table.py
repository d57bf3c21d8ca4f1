"""What was found, as one markdown page and as JSON."""

import json
import os
import statistics


def _number(values):
    if not values:
        return "-"
    middle = statistics.median(values)
    spread = f" ({min(values):,.0f} to {max(values):,.0f})" if len(values) > 1 else ""
    return (f"{middle:,.0f}" if middle >= 100 else f"{middle:,.2f}") + spread


def ratio(at, side):
    """The median of ours over the median of another side."""
    return statistics.median(at["ours"]) / statistics.median(at[side]) if at["ours"] and at[side] else None


def page(bench, rows, commands):
    """The markdown page: machine, checks, limits, and last the table of all rows."""
    facts, out = bench.facts, []
    hello = facts.get("hello", {})
    versions = ", ".join(f"{name} {version}" for name, version in hello.get("versions", {}).items())
    out += [
        f"## {hello.get('device', 'unknown device')}, {hello.get('cores', '?')} CPU cores",
        "",
        f"{facts.get('trommel', 'trommel')}; driver {facts.get('driver', '?')}, CUDA {hello.get('cuda', '?')}; {versions}.",
        f"Memory: {facts.get('memory', '?')}. Pictures: {facts.get('pictures', 'not made')}.",
        f"Command: `{commands}`.",
        "",
        "| check | verdict | detail |",
        "|--|--|--|",
    ]
    out += [f"| {check['what']} | {check['verdict']} | {check['detail']} |" for check in bench.checks]
    out += ["", "| bare limit | figure |", "|--|--|"]
    out += [f"| {name} | {value:,.1f} |" for name, value in bench.limits.items()]
    out += ["", "| row | ours | Python stack | ratio | at least | limit | of the limit | notes |", "|--|--|--|--|--|--|--|--|"]
    for name, wanted, against in rows:
        at = bench.figures.get(name)
        if at is None:
            continue
        share = ratio(at, "limit")
        cells = [
            name, _number(at["ours"]), _number(at["stack"]), f"{ratio(at, 'stack'):.2f}" if ratio(at, "stack") else "-",
            f"{wanted:.2f}{' of the limit' if against == 'limit' else ''}" if wanted else "-", _number(at["limit"]), f"{share:.2f}" if share else "-", "; ".join(at["notes"]),
        ]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def write(bench, rows, commands):
    """`table.md` and `results.json` in the output folder: after every section, so that a cut-off run leaves what it found."""
    text = page(bench, rows, commands)
    with open(os.path.join(bench.args.out, "table.md"), "w") as file:
        file.write(text)
    found = {"facts": bench.facts, "checks": bench.checks, "limits": bench.limits, "figures": bench.figures, "profiles": bench.profiles}
    with open(os.path.join(bench.args.out, "results.json"), "w") as file:
        json.dump(found, file, indent=1)
    return text
