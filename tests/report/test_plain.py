from ffebm.hardware.description import load_hardware
from ffebm.plan.schema import Options
from ffebm.report.plain import plain_fields


def test_fields_by_dotted_name() -> None:
    found = dict(plain_fields("options.", Options(dims={"N": 3, "K": 2}, digital=("a", "b"))))
    assert found["options.dims"] == "N = 3, K = 2"
    assert found["options.digital"] == "a, b"
    assert (found["options.passes"], found["options.block_size"]) == ("-", "1")


def test_constants_of_a_machine_are_left_out() -> None:
    found = dict(plain_fields("", load_hardware("reference")))
    assert found["analog.tiles.settling"] == "clocked"
    assert found["analog.tiles.tile.adc.calibration"] == "data"
    assert [name for name in found if name.endswith((".value", ".unit"))] == []
