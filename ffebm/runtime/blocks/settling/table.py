"""What a notebook shows of an equilibrium: its layers, and how each phase went."""

from collections.abc import Iterable, Mapping
from html import escape

from torch import Tensor

from ffebm.visible import visible

Went = tuple[str, Tensor, Tensor, Tensor]
"""Name of a phase, and of each sample whether it settled, its sweeps and its residual."""


def equilibrium_html(state: Mapping[str, Tensor], phases: Iterable[Went]) -> str:
    """Two tables in HTML; names of a model do no harm.

    Args:
        state: Of each layer by value name, [batch, *layer].
        phases: How each went.
    """
    layers = [(name, "x".join(map(str, s.shape[1:])) or "1", *_range(s)) for name, s in state.items()]
    went = [(name, _share(settled), _spread(sweeps), _spread(left)) for name, settled, sweeps, left in phases]
    return (
        f"<div>{_table(('layer', 'shape', 'least', 'mean', 'largest'), layers)}"
        f"{_table(('phase', 'settled', 'sweeps', 'residual'), went)}"
        "sweeps and residual: median over samples, and largest</div>"
    )


def _range(state: Tensor) -> tuple[str, ...]:
    if not state.numel():
        return ("-", "-", "-")
    return tuple(f"{float(value):.4g}" for value in (state.min(), state.mean(), state.max()))


def _share(settled: Tensor) -> str:
    return f"{int(settled.sum())} of {len(settled)} samples"


def _spread(values: Tensor) -> str:
    return f"{float(values.median()):.3g}, {float(values.max()):.3g}" if len(values) else "-"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    named = "".join(f"<th>{name}</th>" for name in head)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(visible(c))}</td>' for c in row)}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{named}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n"
