"""A certificate as a picture."""

import math
from collections.abc import Iterator, Sequence

from ffebm.report.pictures.chart import Chart, Curve, draw
from ffebm.studies.gradcheck.certificate import Certificate

SHOWN = 6
"""Most weights that a chart of phases cut short shows: the first, the last and some between."""


def picture(certificate: Certificate) -> str:
    """Error over nudging strength, settling, and phases cut short, as SVG."""
    title = f"Gradients of {certificate.source} on {certificate.hardware}"
    return draw(title, list(_charts(certificate)))


def _charts(certificate: Certificate) -> Iterator[Chart]:
    betas = sorted(certificate.betas, key=lambda point: point.beta)
    if betas:
        decades = [(p.beta, _log(p.error)) for p in betas]
        low = math.floor(min(y for _, y in decades))
        curve = Curve("largest over weights", tuple(decades))
        yield Chart("Error against the exact adjoint", "beta", "log10 of relative error", (curve,), low, 1.0)
    curves = tuple(
        Curve(row.block, tuple((float(n), _log(r)) for n, r in row.curve)) for row in certificate.settling
    )
    if any(curve.points for curve in curves):
        low = math.floor(min(y for curve in curves for _, y in curve.points))
        yield Chart("Settling", "free sweeps", "log10 of residual", _some(curves), low, 1.0)
    for name in ("nudged", "unrolled"):
        cut = tuple(
            Curve(row.weight, tuple(zip(map(float, row.sweeps), getattr(row, name), strict=True)))
            for row in certificate.truncations
        )
        if cut:
            titles = {"nudged": "EP cut short", "unrolled": "Adjoint cut short"}
            yield Chart(titles[name], "sweeps", "projection on the exact gradient", _some(cut), 0.0, 1.2)


def _some(curves: Sequence[Curve]) -> tuple[Curve, ...]:
    if len(curves) <= SHOWN:
        return tuple(curves)
    step = (len(curves) - 1) / (SHOWN - 1)
    return tuple(curves[round(k * step)] for k in range(SHOWN))


def _log(value: float) -> float:
    return math.log10(max(value, 1e-16))
