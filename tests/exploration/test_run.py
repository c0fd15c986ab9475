"""Explorations that are run: alone, by several processes, and by processes that are killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from ffebm.compiler.variants import PricedVariant, Variant, Variants
from ffebm.errors import InternalError, UsageError
from ffebm.exploration.figures import FIGURES, MEASURED, OF_TRAINING, figures_of
from ffebm.exploration.ledger import JOURNAL, NAME, _KernelLock
from ffebm.exploration.request import Request
from ffebm.exploration.run import Exploration, explore
from tests.exploration.models import BITS, request_of

GRID = (f"{BITS}=4,6,8", "objective=analog,latency")


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    path = folder / "out" / JOURNAL
    journal = optuna.storages.journal.JournalFileBackend(str(path), _KernelLock(path))
    return optuna.load_study(study_name=NAME, storage=optuna.storages.JournalStorage(journal)).trials


def explored(request: Request, jobs: int = 1, told: Callable[[int], None] = lambda done: None) -> Exploration:
    exploration = Exploration(request)
    explore(exploration, jobs, told)
    return exploration


def test_every_point_has_its_figures(tmp_path: Path) -> None:
    seen: list[int] = []
    found = explored(request_of(tmp_path, *GRID), 1, seen.append)
    entries = found.entries()
    assert [dict(entry.point) for entry in entries] == list(found.request.grid)
    assert seen == list(range(7))
    for entry in entries:
        price = found.variants.price(found.request.variant(entry.point, ()))
        assert entry.figures is not None
        assert entry.figures["inference_s"] == price.inference.makespan_s
        assert entry.figures["inference_j"] == price.inference.cost.energy


def test_figures_of_training_steps_can_be_left_out(tmp_path: Path) -> None:
    """The others are what they are with them, and the summary says nothing of what is not known."""
    some = explored(request_of(tmp_path, *GRID, folder=tmp_path / "some", training=False))
    whole = explored(request_of(tmp_path, *GRID)).entries()
    assert set(some.request.figures) == set(FIGURES) - {*OF_TRAINING, *MEASURED}
    for ours, theirs in zip(some.entries(), whole, strict=True):
        assert ours.figures is not None
        assert theirs.figures is not None
        assert ours.figures == {name: theirs.figures[name] for name in some.request.figures}
        assert ours.summary == [line for line in theirs.summary if not line.startswith("training")]


def test_a_folder_from_before_figures_could_be_left_out_goes_on(tmp_path: Path) -> None:
    explored(request_of(tmp_path, "objective=analog,latency"))
    journal = tmp_path / "out" / JOURNAL
    text = journal.read_text(encoding="utf-8")
    named = ',"figures":"inference,training"'
    assert text.count(named) == 1
    journal.write_text(text.replace(named, ""), encoding="utf-8")
    assert len(explored(request_of(tmp_path, "objective=analog,latency")).entries()) == 2
    with pytest.raises(UsageError) as refused:
        explored(request_of(tmp_path, "objective=analog,latency", training=False))
    assert "it holds an exploration with figures inference,training, not inference\n" in str(refused.value)


def test_a_folder_from_before_figures_of_each_inference_goes_on(tmp_path: Path) -> None:
    """What an earlier version wrote has them too, of its own batch; so have points that are done now."""
    request = request_of(tmp_path, "batch=1,4")
    wanted = explored(request).entries()
    journal = tmp_path / "out" / JOURNAL
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    last = next(place for place, line in enumerate(lines) if '"trial_id":1' in line)
    older = re.sub(r'"(time_per_inference_s|energy_per_inference_j)":[^,}]+,', "", "".join(lines[:last]))
    assert older != "".join(lines[:last])
    journal.write_text(older, encoding="utf-8")

    resumed = explored(request)
    held = [trial.user_attrs["figures"] for trial in trials(tmp_path) if trial.state.name == "COMPLETE"]
    assert ["time_per_inference_s" in figures for figures in held] == [False, True]
    assert resumed.entries() == wanted


def test_the_journal_is_plain_text_without_locks_left(tmp_path: Path) -> None:
    explored(request_of(tmp_path, *GRID))
    lines = (tmp_path / "out" / JOURNAL).read_text(encoding="utf-8").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert list((tmp_path / "out" / ".workers").iterdir()) == []


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explored(request_of(tmp_path, *GRID))
    monkeypatch.setattr(Variants, "price", None)
    again = explored(request_of(tmp_path, *GRID))
    assert len(again.entries()) == 6
    assert len(trials(tmp_path)) == 6


def test_an_interrupted_exploration_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    price, calls = Variants.price, []

    def interrupted(self: Variants, variant: Variant) -> PricedVariant:
        calls.append(variant)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return price(self, variant)

    monkeypatch.setattr(Variants, "price", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explored(request_of(tmp_path, *GRID))
    again = explored(request_of(tmp_path, *GRID))
    assert len(again.entries()) == 6
    assert len(calls) == 7  # the third point was begun twice
    states = [trial.state.name for trial in trials(tmp_path)]
    assert sorted(states) == ["COMPLETE"] * 6 + ["FAIL"]


WORKER = """
import sys, time
from pathlib import Path
from ffebm.compiler.variants import Variants
from ffebm.exploration.run import Exploration, explore
from tests.exploration.models import request_of
price = Variants.price
def slow(self, variant):
    found = price(self, variant)
    print("priced", flush=True)
    time.sleep(float(sys.argv[2]))
    return found
Variants.price = slow
explore(Exploration(request_of(Path(sys.argv[1]), *sys.argv[3:])), 1, lambda done: None)
"""


def worker(folder: Path, wait: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORKER, str(folder), str(wait), *GRID]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def priced(process: subprocess.Popen[str], count: int) -> None:
    """Wait until a process has priced so many points."""
    assert process.stdout is not None
    for _ in range(count):
        assert process.stdout.readline() == "priced\n"


def test_a_killed_point_is_claimed_again(tmp_path: Path) -> None:
    """Killed twice in the middle of a point, and resumed: nothing is lost, nothing is done twice."""
    request = request_of(tmp_path, *GRID)
    for count in (2, 3):
        with worker(tmp_path, 0.3) as killed:
            priced(killed, count)
            os.kill(killed.pid, signal.SIGKILL)
    resumed = explored(request)
    for entry in resumed.entries():
        price = resumed.variants.price(request.variant(entry.point, ()))
        assert entry.figures == figures_of(price)
    assert [dict(entry.point) for entry in resumed.entries()] == list(request.grid)
    found = trials(tmp_path)
    complete = [trial.params for trial in found if trial.state.name == "COMPLETE"]
    assert len(complete) == len({tuple(params.items()) for params in complete}) == 6
    lost = [trial for trial in found if trial.user_attrs.get("lost")]
    assert [trial.state.name for trial in lost] == ["FAIL", "FAIL"]


def test_two_processes_share_the_points(tmp_path: Path) -> None:
    request_of(tmp_path, *GRID)  # writes the model
    pair = [worker(tmp_path, 0.2) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    found = trials(tmp_path)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 6
    assert len({tuple(trial.params.items()) for trial in found}) == 6
    assert sum(output.count("priced") for output in outputs) == 6


def test_a_living_process_keeps_its_point(tmp_path: Path) -> None:
    """Another one that has nothing left to do does not take it, but when its process has ended."""
    request = request_of(tmp_path, "objective=analog,latency")
    mine, other = Exploration(request), Exploration(request)
    with other.ledger.working():
        assert other.ledger.claim() is not None
        with mine.ledger.working():
            second = mine.ledger.claim()
            assert second is not None
            assert dict(second.point) == {"objective": "latency"}
            assert mine.ledger.claim() is None
    with mine.ledger.working():
        first = mine.ledger.claim()
        assert first is not None
        assert dict(first.point) == {"objective": "analog"}


def test_points_that_differ_in_their_objective_go_to_one_process(tmp_path: Path) -> None:
    request = request_of(tmp_path, "objective=analog,latency", f"{BITS}=4,6,8")
    mine, other = Exploration(request), Exploration(request)
    taken: dict[str, list[int]] = {"mine": [], "other": []}
    with mine.ledger.working(), other.ledger.working():
        for name, ledger in [("mine", mine.ledger), ("other", other.ledger)] * 3:
            claim = ledger.claim()
            assert claim is not None
            taken[name].append(request.grid.index_of(claim.point))
        assert mine.ledger.claim() is None
    # what is left in the end is shared
    assert taken == {"mine": [0, 3, 2], "other": [1, 4, 5]}


def test_several_processes_on_this_machine(tmp_path: Path) -> None:
    seen: list[int] = []
    found = explored(request_of(tmp_path, "objective=analog,latency"), 2, seen.append)
    assert len(found.entries()) == 2
    assert seen[-1] == 2


def test_a_point_that_cannot_be_is_refused_and_the_others_are_done(tmp_path: Path) -> None:
    low = "analog.tiles.tile.cell.g_min"
    entries = explored(request_of(tmp_path, f"{low}=1e-6,1.0", "max_latency=1.0,1e-30")).entries()
    assert [bool(entry.refused) for entry in entries] == [False, True, True, True]
    assert entries[1].refused.startswith("no mapping keeps")
    assert entries[2].refused.startswith("reference:analog.tiles.tile.cell")


def test_an_exploration_of_nothing_says_why(tmp_path: Path) -> None:
    again = explored(request_of(tmp_path, "max_latency=1e-30"))
    with pytest.raises(UsageError) as refused:
        again.entries()
    first = "none of 1 points could be compiled; the first one says: "
    assert str(refused.value).startswith(first)


def test_a_fault_of_ours_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, variant: object) -> PricedVariant:
        raise InternalError("broken")

    monkeypatch.setattr(Variants, "price", broken)
    with pytest.raises(InternalError):
        explored(request_of(tmp_path, "objective=analog,latency"))


def test_a_worker_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    request_of(tmp_path, *GRID)
    code = WORKER.replace("1, lambda", "2, lambda")
    words = [sys.executable, "-c", code, str(tmp_path), "0", *GRID]
    parent = subprocess.Popen(words)
    folder = tmp_path / "out" / ".workers"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (folder.is_dir() and list(folder.iterdir())):
        time.sleep(0.02)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    entries = explored(request_of(tmp_path, *GRID)).entries()
    assert len(entries) == 6
