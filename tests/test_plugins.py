import sys
from pathlib import Path

import pytest

import ffebm
from ffebm import plugins
from ffebm.errors import HardwareError, UsageError
from ffebm.exporters.catalogue import EXPORTERS, exporter
from ffebm.hardware.description import load_hardware, shipped_hardware
from tests.models import Builder
from tests.packages import installed


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path."""
    folder = tmp_path / "target"
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


def test_nothing_is_offered_where_nothing_is_installed() -> None:
    assert {group: plugins.names(group) for group in plugins.GROUPS} == {g: [] for g in plugins.GROUPS}
    assert plugins.packages() == frozenset()
    with pytest.raises(UsageError) as caught:
        plugins.load(plugins.PASSES, "mine")
    assert str(caught.value) == "no installed package offers 'mine' in ffebm.passes; installed are: none"


def test_what_is_offered_is_loaded_when_it_is_asked_for(target: Path) -> None:
    installed(target, "plug-one", {plugins.PASSES: {"mine": "plug_one:THING"}}, "THING = [1]\n")
    assert plugins.names(plugins.PASSES) == ["mine"]
    assert plugins.package_of(plugins.PASSES, "mine") == "plug-one"
    assert plugins.packages() == {"plug-one"}
    assert "plug_one" not in sys.modules
    assert plugins.load(plugins.PASSES, "mine") == [1]
    del sys.modules["plug_one"]


def test_a_broken_one_is_one_message(target: Path) -> None:
    offers = {plugins.EXPORTERS: {"mine": "plug_broken:export"}}
    installed(target, "plug-broken", offers, "raise OSError('no disk')\n")
    with pytest.raises(UsageError) as caught:
        exporter("mine")
    assert str(caught.value) == (
        "'mine' in ffebm.exporters, of package plug-broken, cannot be loaded: OSError: no disk\n"
        "  hint: its entry point is 'plug_broken:export'; mend or uninstall the package"
    )


def test_two_of_one_name_are_one_message(target: Path) -> None:
    for name in ("plug-b", "plug-a"):
        installed(target, name, {plugins.HARDWARE: {"mine": "json:loads"}})
    with pytest.raises(UsageError) as caught:
        load_hardware("mine")
    assert str(caught.value) == (
        "'mine' in ffebm.hardware is offered by plug-a and plug-b; one package for a name\n"
        "  hint: uninstall one of them"
    )


def test_a_package_that_lies_twice_on_the_path_is_one(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = target.with_name("other")
    for folder in (target, other):
        installed(folder, "plug-twice", {plugins.PASSES: {"mine": "json:loads"}})
    monkeypatch.setattr(sys, "path", [str(other), *sys.path])
    assert plugins.load(plugins.PASSES, "mine")


def test_hardware_is_a_description_or_its_file(target: Path) -> None:
    offers = {"file": "plug_hardware:FILE", "wrong": "plug_hardware:WRONG", "gone": "plug_hardware:GONE"}
    shipped = Path(ffebm.__file__).parent / "hardware" / "isaac.toml"
    code = f"FILE = {str(shipped)!r}\nWRONG = 3\nGONE = 'none.toml'\n"
    installed(target, "plug-hardware", {plugins.HARDWARE: offers}, code)
    assert load_hardware("file") == load_hardware("isaac")
    found = {}
    for name in ("wrong", "gone", "absent"):
        with pytest.raises(HardwareError) as caught:
            load_hardware(name)
        found[name] = str(caught.value)
    assert found["wrong"] == (
        "wrong: package plug-hardware offers 3; a Hardware, or the path of a .toml file"
    )
    listed = f"shipped are {', '.join(shipped_hardware())}; packages offer file, gone, wrong"
    hint = "\n  hint: name a shipped one or give the path of a .toml file"
    assert found["gone"] == f"there is no hardware description 'none.toml'; {listed}{hint}"
    assert found["absent"] == f"there is no hardware description 'absent'; {listed}{hint}"


def test_an_exporter_makes_an_export(target: Path) -> None:
    offers = {"none": "plug_export:none", "number": "plug_export:NUMBER", "qonnx": "plug_export:none"}
    code = "NUMBER = 3\ndef none(plan):\n    return None\n"
    installed(target, "plug-export", {plugins.EXPORTERS: offers}, code)
    b = Builder()
    plan = ffebm.compile(b.model(b.node("Relu", b.input("x", "N", 2))), hardware="ideal")
    assert exporter("qonnx") is EXPORTERS["qonnx"]
    with pytest.raises(UsageError) as caught:
        exporter("number")
    assert str(caught.value) == "the exporter 'number' is 3; a function of a plan"
    with pytest.raises(UsageError) as caught:
        exporter("none")(plan)
    assert str(caught.value) == "the exporter 'none' returns None; an Export with its marker"
    with pytest.raises(UsageError) as caught:
        exporter("absent")
    assert str(caught.value) == "--to absent; crosssim, aihwkit, zigzag, qonnx, spice, none, number"
