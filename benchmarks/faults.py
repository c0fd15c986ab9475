"""Damaged inputs of every kind: what is refused, what is accepted, and what goes wrong.

Models, plans, hardware descriptions, settings, files of arrays and run folders are damaged by the mutators of
the tests, which know their structure, and repeat a mutant by its seed. Each is handed to what reads it, in a
process with 4 GB of memory, and a fault is: an error that is no message of ffebm's, a crash, more than 20 s
of a processor or 200 s on the clock, more memory, or a result that another reader does not get (of a model:
onnxruntime, where it runs it, unless onnx's reference evaluator sides with ffebm; those are listed).

`--record` keeps what was found, and the same command goes on from there.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tests import mutate_arrays, mutate_hardware, mutate_models, mutate_plans, mutate_runs, mutate_settings
from tests.mutants import Finding

Check = Callable[[Sequence[int], Path], list[Finding]]
COUNTS = {
    "models": 5000, "plans": 2000, "descriptions": 800, "settings": 700, "arrays": 1000, "runs": 500,
}  # fmt: skip
"""Kinds of inputs, and how many of each make 10,000."""
FAULTS = ("traceback", "crash", "hang", "memory", "other result")
TOGETHER = 50
"""Inputs behind which the record is written."""


def checker(kind: str) -> Check:
    """What examines the mutants of some seeds, in a folder."""
    checks: dict[str, Callable[[], Check]] = {
        "models": lambda: partial(mutate_models.check, mutate_models.seed_models()),
        "plans": lambda: partial(mutate_plans.check, mutate_plans.seed_plans()),
        "descriptions": lambda: mutate_hardware.check,
        "settings": lambda: mutate_settings.check,
        "arrays": lambda: mutate_arrays.check,
        "runs": lambda: partial(mutate_runs.check, mutate_runs.trained()),
    }
    return checks[kind]()


def examine(kind: str, seeds: range, seen: dict[str, Any], keep: Callable[[], None]) -> None:
    """Examine those of some seeds that the record does not hold yet.

    Args:
        kind: Of inputs.
        seeds: One an input.
        seen: Of this kind in the record: "kinds" of findings by number, and what is "listed".
        keep: Writes the record.
    """
    kinds = Counter(seen.get("kinds", {}))
    if kinds.total() >= len(seeds):
        return
    check = checker(kind)
    while kinds.total() < len(seeds):
        part = seeds[kinds.total() : kinds.total() + TOGETHER]
        with tempfile.TemporaryDirectory() as folder:
            findings = check(part, Path(folder))
        kinds.update(finding.kind for finding in findings)
        told = [finding for finding in findings if finding.fault or finding.kind == "sided"]
        for finding in told:
            print(kind, finding.seed, finding.source, finding.kind, finding.text, flush=True)
        seen["kinds"] = dict(kinds)
        seen["listed"] = [*seen.get("listed", []), *map(asdict, told)]
        keep()


def table(found: dict[str, dict[str, Any]]) -> str:
    """What was found, a row a kind."""
    heads = ["inputs", "refused", "accepted", "tracebacks", "crashes", "hangs", "memory", "other results"]
    lines = [f"| kind | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    total: Counter[str] = Counter()
    rows = {kind: Counter(seen["kinds"]) for kind, seen in found.items()}
    for kinds in rows.values():
        total += kinds
    for kind, kinds in {**rows, "all": total}.items():
        inputs = sum(kinds.values())
        refused = kinds["refused"] + kinds["fails at run"]
        accepted = inputs - refused - sum(kinds[fault] for fault in FAULTS)
        figures = [inputs, refused, accepted, *(kinds[fault] for fault in FAULTS)]
        lines.append(f"| {kind} | {' | '.join(f'{figure:,}' for figure in figures)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=sum(COUNTS.values()), help="of all kinds together")
    parser.add_argument("--kind", choices=list(COUNTS), action="append", help="repeatable; all by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, help="JSON file of what was found, which a run goes on from")
    options = parser.parse_args()
    record: dict[str, Any] = {"inputs": options.inputs, "seed": options.seed, "found": {}}
    if options.record is not None and options.record.exists():
        record = json.loads(options.record.read_text())
        if (record["inputs"], record["seed"]) != (options.inputs, options.seed):
            parser.error(f"{options.record} is of --inputs {record['inputs']} --seed {record['seed']}")

    def keep() -> None:
        if options.record is not None:
            fresh = options.record.with_suffix(".new")
            fresh.write_text(json.dumps(record, indent=1))
            fresh.replace(options.record)

    for kind in options.kind or COUNTS:
        count = max(1, round(COUNTS[kind] * options.inputs / sum(COUNTS.values())))
        first = options.seed * 1_000_000
        examine(kind, range(first, first + count), record["found"].setdefault(kind, {}), keep)
    print(table(record["found"]))


if __name__ == "__main__":
    main()
