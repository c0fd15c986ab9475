"""Tasks of one inference, in bands of rows and at once."""

import pytest
from msgspec.structs import replace

from ffebm.hardware.description import Core, Hardware
from ffebm.plan.schema import Options, Settle
from ffebm.scheduling.backward import Backward
from ffebm.scheduling.bands import MOST_STEPS, SINGLE_ROWS, StepBudget
from ffebm.scheduling.forward import Forward
from ffebm.scheduling.list_schedule import Task, least_of, list_schedule
from ffebm.scheduling.schedules import inference_tasks
from tests.machines import round_numbers, seconds, with_tiles
from tests.scheduling.graphs import REFERENCE, activated_first, placed, two_convolutions

ROWS = 8


def inference(most: int) -> Forward:
    made = Forward(placed(two_convolutions()), REFERENCE, Settle(), "fp32", most)
    made.forward()
    return made


def bands(made: Forward, block: int) -> dict[tuple[int, int], int]:
    """The tasks of a block by their rows."""
    return {t.rows: n for n, t in enumerate(made.tasks) if t.kind == "free" and t.block == block and t.rows}


def behind(tasks: list[Task], number: int) -> set[int]:
    """All that a task waits for."""
    found: set[int] = set()
    left = [number]
    while left:
        new = set(tasks[left.pop()].after) - found
        found |= new
        left += new
    return found


def test_each_band_waits_for_the_one_before_and_the_rows_that_it_needs() -> None:
    made = inference(ROWS)
    first, second = (bands(made, block.id) for block in made.graph.blocks[:2])
    single = [(row, row + 1) for row in range(ROWS)]
    assert list(first) == list(second) == single
    for row in range(ROWS):
        waits = behind(made.tasks, second[row, row + 1])
        if row:
            assert second[row - 1, row] in made.tasks[second[row, row + 1]].after
        needed = min(row + 2, ROWS)  # a kernel of three: one row further down
        assert {r for r, number in first.items() if number in waits} == set(single[:needed])


def test_what_needs_all_rows_waits_for_all_of_them() -> None:
    made = inference(ROWS)
    last = bands(made, made.graph.blocks[1].id)
    assert set(last.values()) <= behind(made.tasks, len(made.tasks) - 1)
    assert made.tasks[-1].rows is None


def test_two_layers_work_at_once() -> None:
    """On different rows of one sample; by layers they take turns."""
    for most, expected in ((ROWS, True), (1, False)):
        made = inference(most)
        steps = [s for s in list_schedule(made.tasks).steps if s.kind == "free"]
        one, other = ([s for s in steps if s.block == block.id] for block in made.graph.blocks[:2])
        together = any(a.start_s < b.end_s and b.start_s < a.end_s for a in one for b in other)
        assert together == expected


def test_bands_add_up_to_what_is_done_at_once() -> None:
    whole, cut = inference(1), inference(ROWS)
    assert all(task.rows is None for task in whole.tasks)
    for kind in ("transfer", "free", "digital"):
        joules = [sum(t.cost.energy for t in made.tasks if t.kind == kind) for made in (whole, cut)]
        assert joules[1] == pytest.approx(joules[0], rel=1e-12)
    reads = [sum(t.seconds for t in made.tasks if t.kind == "free") for made in (whole, cut)]
    assert reads[1] == pytest.approx(reads[0])


def test_an_input_comes_in_bands() -> None:
    carried = [t for t in inference(4).tasks if t.kind == "transfer" and t.name == "x"]
    assert [t.rows for t in carried] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert all(t.after == () for t in carried)


def test_layers_are_cut_twice_as_finely_where_few_steps_are_made_so() -> None:
    graph, four = placed(two_convolutions()), 4
    steps = Forward(graph, REFERENCE, Settle(), "fp32", four).steps(2 * four)
    for few, expected in ((steps, 2 * four), (steps - 1, four)):
        made = Forward(graph, REFERENCE, Settle(), "fp32", four, StepBudget(MOST_STEPS, few))
        made.forward()
        assert len(bands(made, made.graph.blocks[0].id)) == expected
        carried = [t for t in made.tasks if t.kind == "transfer" and t.name == made.graph.inputs[0]]
        assert len(carried) == expected


def test_many_steps_stay_within_what_may_be_most() -> None:
    """A budget for few steps, in which twice as many bands do not fit, allows no more steps than without."""
    graph = placed(two_convolutions())
    finer = Forward(graph, REFERENCE, Settle(), "fp32", ROWS).steps(ROWS)
    made, alone = (
        Forward(graph, REFERENCE, Settle(), "fp32", ROWS // 2, StepBudget(finer // 2, few))
        for few in (finer - 1, 0)
    )
    for one in (made, alone):
        one.forward()
    assert made.tasks == alone.tasks
    assert len(made.tasks) < finer - 1


def test_nodes_share_steps_before_layers_are_cut_less_finely() -> None:
    """One step less than nodes of their own need: as many bands, the same time and energy in all."""
    graph = placed(activated_first())
    usual = Forward(graph, REFERENCE, Settle(), "fp32", ROWS)
    budget = StepBudget(usual.steps(ROWS) - 1)
    shared = Forward(graph, REFERENCE, Settle(), "fp32", ROWS, budget)
    for one in (usual, shared):
        one.forward()
    assert not any(task.fused for task in usual.tasks)
    assert len(usual.tasks) - len(shared.tasks) == ROWS
    assert [len(bands(one, 1)) for one in (usual, shared)] == [ROWS, ROWS]
    together = [task for task in shared.tasks if task.fused]
    assert [task.rows for task in together] == [(row, row + 1) for row in range(ROWS)]
    names = {task.nodes for task in together}
    assert len(names) == 1
    apart = [task for task in usual.tasks if task.name in next(iter(names))]
    assert sum(t.seconds for t in together) == pytest.approx(sum(t.seconds for t in apart), rel=1e-12)
    assert sum(t.cost.energy for t in together) == pytest.approx(sum(t.cost.energy for t in apart), rel=1e-12)
    shares = [sum(task.seconds for task in apart if task.name == name) for name in together[0].nodes]
    assert together[0].shares == pytest.approx([share / sum(shares) for share in shares])


def in_a_core(arrays: int) -> Hardware:
    """As many arrays in a core, which starts a product each 2.5 s; a read takes 10."""
    return with_tiles(round_numbers(arrays, 64, 64), core=Core(tiles=arrays, issue=seconds(2.5)))


@pytest.mark.parametrize(("most", "expected"), [(ROWS, 4), (2, 2), (1, 0), (SINGLE_ROWS, ROWS)])
def test_layers_have_fewer_bands_where_ports_wait_for_each(most: int, expected: int) -> None:
    """64 products by four copies, one each 2.5 s, each read for 10: 167.5 s at once, and a band adds 7.5.

    Both layers lie on the same four arrays, so each keeps these to its end. Four bands take 190 s, and others
    wait for 47.5 of them; eight rows 220 and 27.5, which is more together; three bands 182.5 and 67.5. Single
    rows are what a bound of all cuts asks for; training steps keep theirs.
    """
    graph, machine = placed(two_convolutions(), in_a_core(4), Options(replicas=4)), in_a_core(4)
    made = Forward(graph, machine, Settle(), "fp32", most)
    made.forward()
    for block in graph.blocks[:2]:
        found = bands(made, block.id)
        assert len(found) == expected
        took = [made.tasks[number] for number in found.values()]
        assert [task.seconds for task in took] == pytest.approx([160 / max(1, expected) + 7.5] * expected)
        assert all(task.lag == 0.0 for task in took)

    step = Backward(graph, machine, Settle(), "fp32", most)
    step.forward()
    assert len(bands(step, graph.blocks[0].id)) == (min(most, ROWS) if most > 1 else 0)


def test_rows_cost_nothing_where_ports_start_the_next_ones() -> None:
    """The same on arrays of their own: a row takes 8 products, 27.5 s, and its core is free after 20.

    Four copies start one round each 10 s, as long as a read; so the last row ends after 167.5 s, as all do at
    once. In training, where arrays are read backwards too, they keep their core.
    """
    machine = in_a_core(16)
    graph = placed(two_convolutions(), machine, Options(replicas=4))
    for forward, lag in ((Forward, 7.5), (Backward, 0.0)):
        made = forward(graph, machine, Settle(), "fp32", ROWS)
        made.forward()
        rows = [made.tasks[number] for number in bands(made, graph.blocks[0].id).values()]
        assert [(task.seconds, task.lag) for task in rows] == [(27.5, lag)] * ROWS
    rows = [
        task for task in inference_tasks(graph, machine, Settle(), most_bands=ROWS) if task.kind == "free"
    ]
    only = [replace(task, after=(n - 1,) if n else ()) for n, task in enumerate(rows[:ROWS])]
    assert {task.name for task in only} == {graph.blocks[0].name}
    steps = list_schedule(only).steps
    assert [(step.start_s, step.freed_s, step.end_s) for step in steps] == [
        (20.0 * n, 20.0 * n + 20.0, 20.0 * n + 27.5) for n in range(ROWS)
    ]
    (whole,) = [t for t in inference_tasks(graph, machine, Settle(), most_bands=1) if t.name == only[0].name]
    assert (whole.seconds, whole.lag) == (167.5, 7.5)


@pytest.mark.parametrize("issue", [0.1, 0.6, 2.5])
def test_an_inference_has_the_bands_by_which_what_is_longest_is_shortest(issue: float) -> None:
    """Fewer bands, or all of them, by the longer of chain and busiest unit."""
    machine = with_tiles(round_numbers(16, 64, 64), core=Core(tiles=16, issue=seconds(issue)))
    graph = placed(two_convolutions(), machine, Options(replicas=4))
    listed = []
    for weighed in (True, False):
        made = Forward(graph, machine, Settle(), "fp32", ROWS, StepBudget(MOST_STEPS, 0, weighed))
        made.forward()
        listed.append(made.tasks)
    taken = inference_tasks(graph, machine, Settle(), most_bands=ROWS)
    assert taken in listed
    assert least_of(taken) == min(map(least_of, listed))
