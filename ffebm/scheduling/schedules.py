"""What one inference and one training step of a placed graph are made of.

A training step is: the free phases and digital nodes in order; the loss; then from the last block back, the
two nudged phases, the contrast of their states (weight gradients) and digital backward; updates last. Values
that cross units travel over the network. Weights are on their tiles before an inference starts.

Both go in bands of rows, forward and back.
"""

from ffebm.graph.graph import Graph
from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import DataType
from ffebm.plan.schema import Settle
from ffebm.scheduling.backward import Backward
from ffebm.scheduling.bands import MOST_BANDS, MOST_STEPS, MOST_TRAINING_BANDS, MOST_TRAINING_STEPS
from ffebm.scheduling.forward import Forward
from ffebm.scheduling.list_schedule import Task
from ffebm.scheduling.task_list import batch_of

__all__ = ["batch_of", "inference_tasks", "training_tasks"]


def inference_tasks(
    graph: Graph,
    hardware: Hardware,
    settle: Settle,
    dtype: DataType = "fp32",
    most_bands: int = MOST_BANDS,
    most_steps: int = MOST_STEPS,
) -> list[Task]:
    """What one inference of a placed graph is made of; digital work at the price of a data type.

    Args:
        graph: A placed graph.
        hardware: The machine.
        settle: How energy blocks settle.
        dtype: In which digital units compute.
        most_bands: Bands in which a layer may be run; 1: layer by layer.
        most_steps: Steps of all, for which layers are cut less finely.
    """
    tasks = Forward(graph, hardware, settle, dtype, most_bands, most_steps)
    tasks.forward()
    return tasks.tasks


def training_tasks(
    graph: Graph,
    hardware: Hardware,
    settle: Settle,
    dtype: DataType = "fp32",
    most_bands: int = MOST_TRAINING_BANDS,
    most_steps: int = MOST_TRAINING_STEPS,
) -> list[Task]:
    """What one training step of a placed graph is made of; the arguments are those of `inference_tasks`."""
    tasks = Backward(graph, hardware, settle, dtype, most_bands, most_steps)
    tasks.forward()
    tasks.backward()
    return tasks.tasks
