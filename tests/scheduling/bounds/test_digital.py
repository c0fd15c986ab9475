"""What digital units do at least: by hand, and never more than tasks add up to."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.digits_model import digits_model
from ffebm.hardware.description import load_hardware
from ffebm.plan.schema import Options, Settle
from ffebm.scheduling.bounds.digital import digital_seconds
from ffebm.scheduling.list_schedule import work_of_units
from ffebm.scheduling.schedules import inference_tasks
from tests.models import Builder
from tests.scheduling.graphs import activated_first, placed, two_convolutions

MODELS = (digits_model, two_convolutions, activated_first)
MACHINES = {name: load_hardware(name) for name in ("reference", "heterogeneous", "pimcomp")}


def test_a_product_by_hand() -> None:
    """Nothing on tiles: 256 x 3 products, and an operation for each of 3 outputs of the two nodes."""
    b = Builder()
    x = b.input("x", 1, 256)
    model = b.model(b.node("Add", b.node("MatMul", x, b.weight(256, 3)), b.weight(3)))
    graph = placed(model, options=Options(digital=("*",)))
    does = MACHINES["reference"].host.fp32
    by_hand = 256 * 3 / does.mac_rate.value + 2 * 3 / does.op_rate.value
    assert digital_seconds(graph, MACHINES["reference"]) == pytest.approx(by_hand)


@settings(max_examples=25, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    machine=st.sampled_from(sorted(MACHINES)),
    digital=st.sampled_from([(), ("*",)]),
    bands=st.sampled_from([None, 1, 4]),
    steps=st.sampled_from([10, 10_000]),
)
def test_tasks_take_no_less(
    model: object, machine: str, digital: tuple[str, ...], bands: int | None, steps: int
) -> None:
    hardware = MACHINES[machine]
    graph = placed(model(), hardware, Options(replicas=1, digital=digital))  # type: ignore[operator]
    tasks = inference_tasks(graph, hardware, Settle(), most_bands=bands, most_steps=steps)
    busy = work_of_units(tasks)
    digital_units = [seconds for unit, seconds in busy.items() if unit.startswith("digital")]
    least = digital_seconds(graph, hardware)
    assert least <= max(digital_units, default=0.0) * (1 + 1e-12)
    if machine == "reference":  # of one unit
        assert least == pytest.approx(max(digital_units, default=0.0))
