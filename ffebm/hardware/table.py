"""What a notebook shows of a machine: its constants, each with its source."""

from collections.abc import Iterable
from html import escape

from ffebm.hardware.quantity import Quantity
from ffebm.visible import visible

ASSUMED = "†"
"""Marks a constant that nobody measured or derived for this machine."""


def constants_html(title: str, constants: Iterable[tuple[str, Quantity]]) -> str:
    """Constants as a table in HTML; text from a description does no harm.

    Args:
        title: What stands above the table.
        constants: Each with its dotted name.
    """
    rows = "\n".join(f"<tr>{_cells(name, quantity)}</tr>" for name, quantity in constants)
    head = "".join(f"<th>{name}</th>" for name in ("constant", "value", "source"))
    return (
        f"<div>{_safe(title)}<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>\n"
        f"{ASSUMED} an assumption: no source measured or derived it for this machine</div>"
    )


def _cells(name: str, quantity: Quantity) -> str:
    unit = getattr(quantity, "unit", "1")
    value = f"{quantity.value:g}{'' if unit == '1' else f' {unit}'}{ASSUMED if quantity.assumption else ''}"
    return "".join(f"<td>{_safe(text)}</td>" for text in (name, value, quantity.source))


def _safe(text: str) -> str:
    return escape(visible(text))
