"""The trace, as Perfetto's own trace processor reads it."""

import json
from collections.abc import Callable

import pytest

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.hardware.description import Core
from ffebm.plan.schedule import Schedule
from ffebm.report.viewers.perfetto import nanoseconds, schedules, trace, transfers
from ffebm.visible import visible
from tests.machines import round_numbers, seconds, with_tiles
from tests.report.conftest import Query, units_in
from tests.scheduling.graphs import two_convolutions

Load = Callable[[bytes], Query]
SLICES = """
select process.pid as pid, thread.name as unit, slice.ts as start, slice.dur as length, slice.name as name,
       slice.category as kind, slice.depth as depth, slice.arg_set_id as arguments, slice.id as id
from slice join thread_track on slice.track_id = thread_track.id join thread using (utid)
     join process using (upid)
"""


def expected(process: int, schedule: Schedule) -> list[tuple[int, str, int, int, str, str]]:
    """What a schedule's slices tell: what each unit does in each step."""
    return sorted(
        (
            process,
            unit,
            nanoseconds(step.start_s),
            nanoseconds(step.end_s) - nanoseconds(step.start_s),
            visible(f"{step.kind} {step.name}"),
            step.kind,
        )
        for step in schedule.steps
        for unit in step.units
    )


def test_a_slice_is_as_long_as_its_unit_is_busy(load_trace: Load) -> None:
    """Rows of 27.5 s that free their core after 20: slices of one unit follow each other."""
    machine = with_tiles(round_numbers(16, 64, 64), core=Core(tiles=16, issue=seconds(2.5)))
    plan = compile_plan(two_convolutions(), hardware=machine, replicas=4)
    rows = load_trace(trace(plan))(SLICES)
    lagging = {step.start_s: step for step in plan.inference.steps if step.freed_s is not None}
    found = [row for row in rows if (row["pid"], row["unit"], row["kind"]) == (1, "core0", "free")]
    assert len(lagging) > 8
    for row in found:
        step = lagging[row["start"] / 1e9]
        assert (row["length"], step.lag) == (nanoseconds(step.seconds - 7.5), 7.5)
    assert {row["depth"] for row in rows if row["length"]} == {0}


@pytest.fixture(scope="module")
def replicated() -> Plan:
    """Two convolutions with four copies each, and a dense layer in parts."""
    return compile_plan(two_convolutions(), hardware=round_numbers(16, 64, 64), replicas=4)


def arguments(ask: Query) -> dict[int, dict[str, object]]:
    """Arguments of slices by their set."""
    found: dict[int, dict[str, object]] = {}
    for row in ask("select arg_set_id, key, int_value, real_value, string_value from args"):
        values = [row["int_value"], row["real_value"], row["string_value"]]
        value = next((v for v in values if v is not None), None)
        found.setdefault(row["arg_set_id"], {})[row["key"].removeprefix("args.")] = value
    return found


@pytest.mark.parametrize("which", ["digits", "wicked", "replicated"])
def test_slices_equal_the_schedules(which: str, request: pytest.FixtureRequest, load_trace: Load) -> None:
    plan: Plan = request.getfixturevalue(which)
    ask = load_trace(trace(plan))
    assert ask("select name, value from stats where severity in ('error', 'data_loss') and value > 0") == []
    rows = ask(SLICES)
    found = sorted(
        (r["pid"], unit, r["start"], r["length"], r["name"], r["kind"])
        for r in rows
        for unit in units_in(r["unit"])
    )
    assert found == sorted(
        slice_ for pid, s in enumerate(schedules(plan).values(), 1) for slice_ in expected(pid, s)
    )
    assert {row["depth"] for row in rows if row["length"]} == {0}, "a slice lies inside another"
    processes = ask("select pid, name from process where pid > 0 order by pid")
    assert [(p["pid"], p["name"]) for p in processes] == [
        (1, f"{plan.hardware.name}: inference"),
        (2, f"{plan.hardware.name}: training"),
    ]

    known = arguments(ask)
    for pid, schedule in enumerate(schedules(plan).values(), 1):
        counted = [known[r["arguments"]] for r in rows if r["pid"] == pid]
        times = {a["step"]: (a["start_s"], a["end_s"]) for a in counted}
        for step in schedule.steps:
            assert times[step.id] == pytest.approx((step.start_s, step.end_s), rel=1e-11)
        energy = sum(float(str(a.get("energy_joules", 0.0))) for a in counted)
        # what leaks belongs to no step
        assert energy == pytest.approx(sum(step.cost.energy for step in schedule.steps), rel=1e-11)
        for kind in ("dac", "adc"):
            conversions = sum(int(str(a.get(f"{kind}_conversions", 0))) for a in counted)
            assert conversions == getattr(schedule.cost, f"{kind}_count")


def test_tiles_that_always_work_together_share_a_thread(replicated: Plan) -> None:
    """However many copies a layer has, a step of it is one slice, which names all of them."""
    events = [e for e in json.loads(trace(replicated))["traceEvents"] if e["pid"] == 1]
    threads = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert [*threads.values()] == ["network", "tile0-tile3", "tile4-tile6", "tile7-tile10"]
    assert len([e for e in events if e["ph"] == "X"]) == len(replicated.inference.steps)
    named = {threads[e["tid"]]: e["args"]["units"] for e in events if e["ph"] == "X"}
    assert named == {name: name for name in threads.values()}


def test_blocks_of_slices(digits: Plan, load_trace: Load) -> None:
    ask = load_trace(trace(digits))
    known = arguments(ask)
    blocks = {(r["kind"], r["name"]): known[r["arguments"]].get("block") for r in ask(SLICES)}
    for block in digits.blocks:
        assert blocks["free", f"free {block.name}"] == block.name
        assert blocks["nudged", f"nudged {block.name} +beta"] == block.name
        for value in block.outputs:
            assert blocks.get(("transfer", f"transfer {value}"), block.name) == block.name
    assert blocks["digital", "digital norm1"] is None
    assert blocks["transfer", "transfer image"] is None


def test_arrows_equal_the_transfers_dependencies(digits: Plan, load_trace: Load) -> None:
    ask = load_trace(trace(digits))
    known = arguments(ask)
    slices = {r["id"]: (r["pid"], known[r["arguments"]]["step"]) for r in ask(SLICES)}
    found = sorted(
        (slices[r["slice_out"]], slices[r["slice_in"]]) for r in ask("select slice_out, slice_in from flow")
    )
    wanted = sorted(
        ((pid, before.id), (pid, after.id))
        for pid, schedule in enumerate(schedules(digits).values(), 1)
        for before, after in transfers(schedule)
    )
    assert found == wanted
    assert len(wanted) > 5


def test_units_stand_in_order(digits: Plan) -> None:
    events = json.loads(trace(digits))["traceEvents"]
    names = [e["args"]["name"] for e in events if e["name"] == "thread_name" and e["pid"] == 2]
    units = [unit for name in names for unit in units_in(name)]
    assert units == ["digital0", "network", *(f"tile{tile.id}" for tile in digits.tiles)]


def test_rounding_keeps_the_order_of_a_unit(digits: Plan) -> None:
    events = [e for e in json.loads(trace(digits))["traceEvents"] if e["ph"] == "X"]
    ends: dict[int, float] = {}
    for event in events:
        assert event["ts"] >= ends.get(event["tid"], 0.0) - 1e-9
        ends[event["tid"]] = event["ts"] + event["dur"]
