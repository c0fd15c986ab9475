from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace

from ffebm import Plan
from ffebm.plan.summary import engineering, share


def test_the_summary(golden: Callable[[str], None], plan: Plan) -> None:
    text = plan.summary()
    golden(text)
    assert max(map(len, text.splitlines())) <= 80 or "note" in max(text.splitlines(), key=len)
    cost = f"{engineering(plan.inference.makespan_s, 's')}, {engineering(plan.inference.cost.energy, 'J')}"
    blocks = "7 of 9 nodes in 3 energy blocks on 3 tiles"
    assert repr(plan) == f"<Plan of model for reference: {blocks}; one inference {cost}>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0 J"),
        (1.5, "1.5 J"),
        (2e-3, "2 mJ"),
        (1234e-9, "1.234 uJ"),
        (5e-16, "5e-16 J"),
        (12e-12, "12 pJ"),
        (5e-7, "500 nJ"),
        (1e-6, "1 uJ"),
        (1e-15, "1 fJ"),
        (2e-12, "2 pJ"),
        (float(np.nextafter(1e-9, 0)), "1 nJ"),
        (0.9999e-9, "999.9 pJ"),
    ],
)
def test_quantities_with_prefixes(value: float, expected: str) -> None:
    assert engineering(value, "J") == expected


def test_shares() -> None:
    assert (share(1, 3), share(1, 0)) == ("33.3 %", "-")


def test_the_bound_is_named_and_the_interval_has_its_unit(plan: Plan) -> None:
    inference = replace(
        plan.inference,
        makespan_s=6.0,
        lower_bound_s=4.0,
        lower_bound="work of tile7 between heads and tails",
        interval_s=0.5,
        interval_unit="tile9",
    )
    lines = replace(plan, inference=inference, batch=8).summary().splitlines()
    bound = "time 6 s; lower bound 4 s (work of tile7 between heads and tails); ratio 1.500"
    assert bound in " ".join(" ".join(lines).split())
    assert "  interval  500 ms between runs in flight (tile9); 16 samples/s" in lines
    turns = replace(inference, interval_unit="digital9", interval_turns=("x", "y", "z"))
    lines = replace(plan, inference=turns, batch=8).summary().splitlines()
    assert "  interval  500 ms between runs in flight (digital9 and units that share its" in lines
    assert "            tasks); 16 samples/s" in lines


def test_a_mapping_for_several_runs_says_what_one_takes(plan: Plan) -> None:
    """On a line of its own, within 80 columns."""
    (one,) = [line for line in plan.summary().splitlines() if line.startswith("mapping ")]
    together = replace(plan, options=replace(plan.options, batch=1000)).summary().splitlines()
    at = together.index("mapping     for analog of 1,000 runs together")
    assert one == f"mapping     for analog: {together[at + 1].removeprefix('  one run   ')}"
    assert len(together[at + 1]) <= 80
