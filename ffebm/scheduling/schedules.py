"""What one inference and one training step of a placed graph are made of.

A training step is: the free phases and digital nodes in order; the loss; then from the last block back, the
two nudged phases, the contrast of their states (weight gradients) and digital backward; updates last. Values
that cross units travel over the network. Weights are on their tiles before an inference starts.

Both go in bands of rows, forward and back.
"""

from collections.abc import Callable

from ffebm.graph.graph import Graph
from ffebm.hardware.description import DigitalGroup, Hardware
from ffebm.hardware.groups import DataType
from ffebm.plan.schema import Settle
from ffebm.scheduling.backward import Backward
from ffebm.scheduling.bands import (
    FEW_STEPS,
    FEW_TRAINING_STEPS,
    MOST_BANDS,
    MOST_STEPS,
    MOST_TRAINING_BANDS,
    MOST_TRAINING_STEPS,
    StepBudget,
)
from ffebm.scheduling.forward import Forward
from ffebm.scheduling.list_schedule import Task, least_of
from ffebm.scheduling.task_list import batch_of, repriced

__all__ = ["TaskLists", "batch_of", "inference_tasks", "training_tasks"]


def inference_tasks(
    graph: Graph,
    hardware: Hardware,
    settle: Settle,
    dtype: DataType = "fp32",
    most_bands: int | None = None,
    most_steps: int = MOST_STEPS,
) -> list[Task]:
    """What one inference of a placed graph is made of; digital work at the price of a data type.

    Args:
        graph: A placed graph.
        hardware: The machine.
        settle: How energy blocks settle.
        dtype: In which digital units compute.
        most_bands: Bands in which a layer may be run; 1: layer by layer; None: as many as usual, or twice
            as many where few steps are made so.
        most_steps: Steps of all, for which layers are cut less finely.
    """
    budget = StepBudget(most_steps, FEW_STEPS if most_bands is None else 0)
    tasks = Forward(graph, hardware, settle, dtype, most_bands or MOST_BANDS, budget)
    tasks.forward()
    if not tasks.fewer:
        return tasks.tasks
    # fewer bands save time of units and lengthen chains, whichever is longer
    all_bands = Forward(
        graph, hardware, settle, dtype, most_bands or MOST_BANDS, budget._replace(weighed=False)
    )
    all_bands.forward()
    return min(tasks.tasks, all_bands.tasks, key=least_of)


def training_tasks(
    graph: Graph,
    hardware: Hardware,
    settle: Settle,
    dtype: DataType = "fp32",
    most_bands: int | None = None,
    most_steps: int = MOST_TRAINING_STEPS,
) -> list[Task]:
    """What one training step of a placed graph is made of; the arguments are those of `inference_tasks`."""
    budget = StepBudget(most_steps, FEW_TRAINING_STEPS if most_bands is None else 0)
    tasks = Backward(graph, hardware, settle, dtype, most_bands or MOST_TRAINING_BANDS, budget)
    tasks.forward()
    tasks.backward()
    return tasks.tasks


class TaskLists:
    """Tasks of a placed graph, digital work at the price of any data type.

    Where one digital unit does everything, nothing but prices depends on the type: no unit is chosen by its
    load, and there are no bands. There they are listed once.

    Args:
        graph: A placed graph.
        hardware: The machine.
        settle: How energy blocks settle.
    """

    def __init__(self, graph: Graph, hardware: Hardware, settle: Settle) -> None:
        self._placed = graph, hardware, settle
        self._hardware = hardware
        self._alone = _only_group(graph, hardware)
        self._listed: dict[int, list[Task]] = {}

    def inference(self, dtype: DataType) -> list[Task]:
        """Of one inference."""
        return self._of(0, dtype, lambda: inference_tasks(*self._placed, dtype))

    def training(self, dtype: DataType, bands: int, steps: int) -> list[Task]:
        """Of one training step whose layers may be run in so many bands, in so many steps."""
        return self._of(bands, dtype, lambda: training_tasks(*self._placed, dtype, bands, steps))

    def training_steps(self, bands: int) -> int:
        """About how many steps a training step takes by so many bands; 0 where nothing streams."""
        return 0 if self._alone is not None else Backward(*self._placed, "fp32", bands).steps(bands)

    def _of(self, kind: int, dtype: DataType, listed: Callable[[], list[Task]]) -> list[Task]:
        if self._alone is None:
            return listed()
        if kind not in self._listed:
            self._listed[kind] = listed()
            return self._listed[kind]
        return repriced(self._listed[kind], self._hardware, self._alone, dtype)


def _only_group(graph: Graph, hardware: Hardware) -> DigitalGroup | None:
    """The group whose only unit does everything; None if there are tiles or other units to work."""
    names = {hardware.host.name, *(node.group for node in graph.nodes)}
    if graph.blocks or len(names) > 1 or len(hardware.unit_numbers(hardware.host.name)) > 1:
        return None
    return hardware.host
