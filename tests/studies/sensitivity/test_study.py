from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm import Executor, Plan, load_hardware
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.hardware.crossbar import Crossbar
from ffebm.hardware.description import Hardware
from ffebm.studies.sensitivity.effects import has_noise, with_bits, with_noise
from ffebm.studies.sensitivity.meter import Effort, Meter, VariedTiles, cosine
from ffebm.studies.sensitivity.record import StudyRecord, load_record, save_record, setup_of
from ffebm.studies.sensitivity.study import Levels, Method, Study
from ffebm.studies.sensitivity.units import units_of
from ffebm.training.calibration import calibration_batch
from ffebm.training.classification import all_logits, fitted, hits
from ffebm.training.data import Data
from tests.machines import ratio, with_tiles
from tests.models import Builder
from tests.runtime.tiles.bench import with_adc

METHODS: tuple[Method, ...] = ("by superposition", "by work")
LEVELS: Levels = {"noise": (0.0, 30.0), "bits": (2.0, 12.0)}


def data() -> Data:
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(1)
    return Data("made", x[:100], y[:100], x[100:], y[100:])


def plan(hardware: str | Hardware = "reference") -> Plan:
    """It tells the largest of the first three inputs: two identities and, in between, a wide copy."""
    b = Builder()
    eye = torch.eye(6).numpy()
    y = b.node("MatMul", b.input("x", "N", 6), b.constant(eye.repeat(8, 1), "wide"))
    y = b.node("MatMul", b.node("Tanh", y), b.constant(eye.repeat(8, 0), "narrow"))
    y = b.node("MatMul", b.node("Tanh", y), b.constant(eye[:, :3].copy(), "pick"))
    return compile_plan(b.model(y), hardware=hardware)


def noisy() -> Plan:
    """The same on tiles with thirty times the noise."""
    hardware = load_hardware("reference")
    tile = hardware.analog[0].tile
    assert isinstance(tile, Crossbar)
    return plan(with_tiles(hardware, tile=with_noise(tile, 30.0)))


def study(tmp_path: Path, made: Plan | None = None) -> Study:
    made = made or plan()
    path, fit, effort = tmp_path / "record.json", fitted(made, data()), Effort(samples=50, probes=20, seeds=2)
    record = load_record(path, setup_of(made, fit, "block", effort), units_of(made, "block"))
    return Study(Meter(made, fit, effort), record, lambda record: save_record(record, path))


def test_a_profile_is_worse_on_worse_tiles(tmp_path: Path) -> None:
    points = {(p.unit, p.axis, p.level): p for p in study(tmp_path).profile(LEVELS)}
    assert len(points) == 3 * 4
    for unit in ("block0", "block1", "block2"):
        good, noisy = points[unit, "noise", 0.0], points[unit, "noise", 30.0]
        coarse, fine = points[unit, "bits", 2.0], points[unit, "bits", 12.0]
        assert good.accuracy > noisy.accuracy
        assert good.cosine > 0.99 > noisy.cosine
        assert (coarse.accuracy, coarse.cosine) < (fine.accuracy, fine.cosine)
        assert good.cosines[unit] == good.cosine


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    first = study(tmp_path)
    steps = first.profile(LEVELS)
    done = [next(steps), next(steps)]
    again = study(tmp_path)
    assert again.record.points == tuple(done)
    assert len(again.missing(LEVELS)) == 10
    rest = list(again.profile(LEVELS))
    whole = study(tmp_path)
    assert whole.missing(LEVELS) == []
    assert list(whole.profile(LEVELS)) == []
    assert whole.record.points == (*done, *rest)
    fresh = tmp_path / "fresh"
    assert tuple(study(fresh).profile(LEVELS)) == whole.record.points


class Killed(BaseException):
    """What no study can clean up behind."""


def test_a_study_that_is_killed_at_every_figure_ends_with_the_same_record(tmp_path: Path) -> None:
    def whole(here: Study) -> None:
        list(here.profile({"noise": (30.0,)}))
        target = here.exact() - 0.05
        for method in METHODS:
            here.offer(method, target, lambda _: None)

    def figures(record: StudyRecord) -> list[int]:
        return list(map(len, (record.points, record.alone, record.trials, record.offers)))

    path, kills = tmp_path / "record.json", 0
    whole(study(tmp_path, noisy()))
    expected = path.read_bytes()
    path.unlink()
    while not path.exists() or path.read_bytes() != expected:
        here = study(tmp_path, noisy())
        before = figures(here.record)

        def save(record: StudyRecord, before: list[int] = before) -> None:
            save_record(record, path)
            if figures(record) != before:
                raise Killed

        with pytest.raises(Killed):
            whole(Study(here.meter, here.record, save))
        kills += 1
        assert kills <= sum(figures(study(tmp_path, noisy()).record))
    assert kills > 3 + 3 + 2  # points, units alone, offers; the others are trials


def test_trials_are_shared_between_searches_and_counted_for_each(tmp_path: Path) -> None:
    here = study(tmp_path)
    seen: list[int] = []
    ours = here.offer("by superposition", 0.5, seen.append)
    theirs = here.offer("by work", 0.5, lambda _: None)
    assert seen == list(range(1, ours.evaluations + 1))
    assert (ours.work, ours.digital, theirs.evaluations) == (1.0, (), 3)
    # each run calibrates on all 100 training samples first
    assert ours.passes == ours.evaluations * (50 + 100) * 2 + 3 * (13 + 100) * 2
    assert theirs.passes == 3 * (50 + 100) * 2
    assert len({trial.on_tiles for trial in here.record.trials}) == len(here.record.trials)
    assert load_record(tmp_path / "record.json", here.record.setup, here.record.units) == here.record


class Ruined(Meter):
    """A machine on whose tiles one weight costs most of the accuracy."""

    def logits(self, tiles: VariedTiles, places: Tensor | None = None) -> Tensor:
        labels = self.labels() if places is None else self.labels()[places]
        wrong = torch.arange(len(labels)) % 10 < (8 if tiles["wide"] is not None else 1)
        return torch.eye(3)[torch.where(wrong, (labels + 1) % 3, labels)].expand(self.effort.seeds, -1, -1)

    def confirmed(self, tiles: VariedTiles) -> float:
        return 0.5 if tiles["wide"] is None else 0.25


@pytest.mark.parametrize("method", ["by work", "by superposition"])
def test_the_unit_that_a_machine_ruins_stays_digital(tmp_path: Path, method: Method) -> None:
    here = study(tmp_path)
    here.meter = Ruined(here.meter.plan, here.meter.data, here.meter.effort)
    found = here.offer(method, 0.85, lambda _: None)
    assert (found.digital, found.on_tiles) == (("wide",), ("block1", "block2"))
    assert (found.accuracy, found.confirmed) == (0.9, 0.5)
    assert found.evaluations == {"by work": 3, "by superposition": 1}[method]


def test_a_search_that_is_begun_again_runs_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the units alone: the record holds their logits."""
    here = study(tmp_path)
    first = here.offer("by superposition", here.exact() - 0.02, lambda _: None)
    again = study(tmp_path)

    def refuse(*_: object) -> Tensor:
        raise AssertionError("it ran again")

    monkeypatch.setattr(Meter, "logits", refuse)
    assert again.offer("by superposition", here.exact() - 0.02, lambda _: None) == first


def test_what_is_offered_kept_the_accuracy_on_noisy_tiles(tmp_path: Path) -> None:
    made = noisy()
    here = study(tmp_path, made)
    for drop in (0.0, 0.05, 0.2):
        target = here.exact() - drop
        found = here.offer("by superposition", target, lambda _: None)
        trials = {trial.on_tiles: trial.accuracy for trial in here.record.trials}
        assert found.accuracy >= target
        assert found.accuracy == (trials[found.on_tiles] if found.on_tiles else here.exact())


def test_confirmed_sees_noise_that_no_search_has_seen(tmp_path: Path) -> None:
    meter = study(tmp_path, noisy()).meter
    tiles: VariedTiles = {}
    right = 0
    for seed in (2, 3):
        net = Executor(meter.plan, seed=seed)
        net.calibrate(calibration_batch(meter.data)[0])
        right += hits(all_logits(net, meter.data.x_test), meter.data.y_test)
    assert meter.confirmed(tiles) == right / 200
    assert meter.logits(tiles).shape == (2, 50, 3)
    assert not torch.equal(meter.logits(tiles)[0], meter.logits(tiles)[1])


def test_an_accuracy_that_nothing_reaches(tmp_path: Path) -> None:
    here = study(tmp_path)
    exact = here.exact()
    with pytest.raises(UsageError) as caught:
        here.offer("by work", 1.01, lambda _: None)
    assert str(caught.value) == (
        f"101.00 % are to be kept, but with everything exact it is {100 * exact:.2f} %\n"
        "  hint: ask for less, or train the model further"
    )


def test_a_record_of_another_study(tmp_path: Path) -> None:
    save_record(study(tmp_path).record, tmp_path / "record.json")
    b = Builder()
    other = compile_plan(b.model(b.node("MatMul", b.input("x", "N", 6), b.weight(6, 3))))
    with pytest.raises(UsageError) as caught:
        study(tmp_path, other)
    assert str(caught.value).startswith(f"{tmp_path / 'record.json'}: it holds a study with another plan: ")
    setup = study(tmp_path).record.setup
    with pytest.raises(UsageError) as caught:
        load_record(tmp_path / "record.json", replace(setup, effort=replace(setup.effort, seeds=7)), ())
    assert str(caught.value) == (
        f"{tmp_path / 'record.json'}: it holds a study with another effort: seeds = 2; "
        "now asked for: seeds = 7\n  hint: name another file with -o, or delete this one"
    )
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(UsageError, match="this is no record of a study"):
        study(tmp_path)


def test_exact_weights_compute_what_a_digital_plan_computes() -> None:
    """Noise off: keeping a weight digital is compiled as it was measured."""
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 6), b.weight(6, 8, name="first")))
    model = b.model(b.node("MatMul", y, b.weight(8, 3, name="second")))
    tile = load_hardware("reference").analog[0].tile
    assert isinstance(tile, Crossbar)
    quiet = load_hardware("reference")
    quiet = with_tiles(quiet, tile=with_noise(tile, 0.0))
    whole, part = (compile_plan(model, hardware=quiet, digital=names) for names in ((), ["first"]))
    assert [node.unit for node in part.nodes if node.op == "MatMul"] == ["digital", "tile"]
    x = torch.randn(5, 6)
    with torch.no_grad():
        overridden = Executor(whole, tiles={"first": None})(x)
        assert torch.equal(overridden, Executor(part)(x))
        assert not torch.equal(overridden, Executor(whole)(x))


def test_tiles_for_what_is_on_none() -> None:
    with pytest.raises(UsageError) as caught:
        Executor(plan(), tiles={"nothing": None})
    assert str(caught.value) == (
        "a tile for 'nothing', which lies on no tile of the plan; "
        "weights that the plan has placed on tiles: narrow, pick, wide"
    )


def test_effects_change_what_they_name() -> None:
    tile = load_hardware("reference").analog[0].tile
    assert isinstance(tile, Crossbar)
    louder = with_noise(tile, 3.0)
    assert louder.cell.read_deviation == pytest.approx(0.015)
    assert louder.cell.programming_deviation == pytest.approx(0.03)
    assert with_noise(tile, 1.0) == tile
    assert has_noise(tile)
    read = with_adc(with_noise(tile, 0.0), noise=ratio(0.01))
    assert has_noise(read)
    assert with_noise(read, 3.0).adc.noise == ratio(0.01 * 3)
    measured = load_hardware("hermes").analog[0].tile.crossbar()
    assert measured.cell.statistics is not None
    louder = with_noise(measured, 3.0)
    assert louder.cell.statistics == replace(measured.cell.statistics, noise=3.0)
    assert has_noise(measured)
    assert not has_noise(with_noise(measured, 0.0))
    assert not has_noise(with_noise(tile, 0.0))
    assert (with_bits(tile, 5.0).dac.bits, with_bits(tile, 5.0).adc.bits) == (5, 5)


def test_cosines() -> None:
    a, zero = [torch.tensor([1.0, 0.0]), torch.tensor([[2.0]])], [torch.zeros(2), torch.zeros(1, 1)]
    assert cosine(a, [2 * part for part in a]) == pytest.approx(1.0)
    assert (cosine(a, zero), cosine(zero, zero)) == (0.0, 1.0)
