"""Damages TOML documents in ways that a seed repeats: values, keys, tables, bytes."""

import json
import math
import random
import tomllib
from collections.abc import Iterator
from typing import Any

from tests.mutate_runs import damaged

Place = tuple[Any, Any]
"""A table or list, and a key or number in it."""
VALUES: tuple[object, ...] = (
    True, False, -1, 0, 1, 2, 3, 2**31 - 1, 2**31, 2**62, 10**30,
    -0.5, 0.0, 1e-300, 5e-324, 1e-30, 1e30, 1e308, math.inf, -math.inf, math.nan,
    "", "x", "x" * 3000, "auto", "\u202eabc", "\x1b[31m", [], [1], [[]], {}, {"a": 1},
)  # fmt: skip
FACTORS = (-1, 0, 0.5, 2, 10, 1000, 1e-12, 1e12, 1e300)


def text_of(value: Any) -> str:
    """A value as TOML writes it within a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {text_of(held)}" for key, held in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text_of, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


def document_text(document: dict[str, Any]) -> str:
    """A document, a line a key; `tomllib` reads it."""
    return "".join(f"{json.dumps(key)} = {text_of(value)}\n" for key, value in document.items())


def places(document: Any) -> Iterator[Place]:
    """Every place of a document."""
    for key in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from places(document[key])


def mutant(text: str, parts: list[dict[str, Any]], rng: random.Random) -> bytes:
    """A damaged document.

    Args:
        text: The document.
        parts: Documents that parts may be taken from.
        rng: Of the damage.
    """
    document = tomllib.loads(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        _change(document, parts, rng)
    data = document_text(document).encode("utf-8", "replace")
    return damaged(data, rng) if data and rng.random() < 0.1 else data


def _change(document: dict[str, Any], parts: list[dict[str, Any]], rng: random.Random) -> None:
    found = list(places(document))
    if not found:
        return
    holder, key = rng.choice(found)
    value, choice = holder[key], rng.random()
    if choice < 0.1:
        del holder[key]
    elif choice < 0.2:
        _add(holder, rng)
    elif choice < 0.5:
        _take(holder, key, parts, rng)
    elif choice < 0.8 and isinstance(value, int | float) and not isinstance(value, bool):
        changed = value * rng.choice(FACTORS)
        holder[key] = int(changed) if isinstance(value, int) and math.isfinite(changed) else changed
    else:
        holder[key] = rng.choice(VALUES)


def _add(holder: Any, rng: random.Random) -> None:
    if isinstance(holder, list):
        holder.append(rng.choice(VALUES))
    else:
        holder[rng.choice(("unknown", "type", "value", "", "a.b", "é"))] = rng.choice(VALUES)


def _take(holder: Any, key: Any, parts: list[dict[str, Any]], rng: random.Random) -> None:
    """What another document has under this key; or all keys that its table has beside it."""
    found = [place for part in parts for place in places(part) if place[1] == key]
    if not found or not isinstance(holder, dict):
        return
    other, _ = rng.choice(found)
    holder[key] = json.loads(json.dumps(other[key]))
    if rng.random() < 0.3:
        holder.update(json.loads(json.dumps(other)))
