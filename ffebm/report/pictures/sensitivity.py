"""The profile of a study as a picture."""

from ffebm.report.pictures.chart import Chart, Curve, draw
from ffebm.studies.sensitivity.effects import Axis
from ffebm.studies.sensitivity.record import StudyRecord

LABELS: dict[Axis, str] = {
    "noise": "noise of the cells, times the plan's own",
    "bits": "bits of the converters",
}


def picture(record: StudyRecord) -> str:
    """Accuracy and gradient cosine over the levels of each axis, a curve a unit, as SVG."""
    charts = []
    for axis, label in LABELS.items():
        if any(point.axis == axis for point in record.points):
            charts.append(_chart(record, axis, label, "accuracy"))
            charts.append(_chart(record, axis, label, "cosine"))
    setup = record.setup
    title = f"One {setup.by} at a time on tiles of {setup.machine.split()[0]}; {setup.data}"
    return draw(title, charts)


def _chart(record: StudyRecord, axis: Axis, label: str, figure: str) -> Chart:
    factor = 100 if figure == "accuracy" else 1
    curves = []
    for unit in record.units:
        points = [p for p in record.points if (p.unit, p.axis) == (unit.name, axis)]
        curves.append(Curve(unit.name, tuple((p.level, factor * getattr(p, figure)) for p in points)))
    lowest = min(y for curve in curves for _, y in curve.points)
    if figure == "accuracy":
        return Chart("Accuracy", label, "%", tuple(curves), max(0.0, 5.0 * (lowest // 5)), 100.0)
    low = max(-1.0, 0.2 * (lowest // 0.2))
    return Chart("Gradient, against the exact one", label, "cosine", tuple(curves), low, 1.0)
