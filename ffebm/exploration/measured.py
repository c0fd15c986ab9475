"""What a plan of an exploration does with data: its accuracy, or how true its gradients are."""

from ffebm.exploration.metric import Metric
from ffebm.plan.plan import Plan
from ffebm.studies.sensitivity.meter import Effort, Meter, cosine
from ffebm.training.classification import data_for, fitted, hits


def measured(plan: Plan, metric: Metric) -> float:
    """The figure of a plan on its own tiles, whose ADC ranges are calibrated on the data first.

    Args:
        plan: The plan; its weights are those of the model.
        metric: What is measured, and on what.

    Returns:
        A share of samples, or a cosine.

    Raises:
        UsageError: If the data does not fit the plan, or cannot be had.
    """
    data = fitted(plan, data_for(plan, metric.data, metric.folder))
    effort = Effort(samples=metric.samples, probes=metric.probes, seeds=metric.seeds)
    meter = Meter(plan, data, effort)
    if metric.figure == "accuracy":
        logits, labels = meter.logits({}), meter.labels()
        return sum(hits(run, labels) for run in logits) / (len(logits) * len(labels))
    exactly = meter.gradients(dict.fromkeys(sorted({piece.weight for _, piece in plan.pieces()})), exact=True)
    found = meter.gradients({})
    return cosine([found[name] for name in exactly], list(exactly.values()))
