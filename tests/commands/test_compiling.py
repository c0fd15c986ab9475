import pytest

from ffebm.commands.compiling import objective_of
from ffebm.errors import UsageError


def test_an_objective_by_name() -> None:
    assert objective_of("edp") == "edp"


def test_an_unknown_objective() -> None:
    with pytest.raises(UsageError) as error:
        objective_of("speed")
    assert str(error.value) == "--objective speed; one of analog, latency, throughput, energy, edp"
