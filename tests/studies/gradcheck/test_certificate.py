from pathlib import Path

import msgspec
import pytest

from ffebm.errors import UsageError
from ffebm.studies.gradcheck.certificate import (
    BetaPoint,
    Certificate,
    Fidelity,
    load_certificate,
    save_certificate,
)


def made() -> Certificate:
    rows = [("a", 0.9), ("b", None), ("c", 0.5)]
    return Certificate(
        source="m.onnx",
        digest="d",
        hardware="ideal",
        data="nothing",
        samples=1,
        estimator="EP()",
        settle="Settle()",
        precision="64 bits",
        mode="eval",
        fidelity=tuple(Fidelity(weight=n, block=None, cosine=c, norm=1.0, error=0.0) for n, c in rows),
        settling=(),
        betas=(BetaPoint(beta=0.1, error=0.2, cosine=0.9, errors={"a": 0.2}),),
    )


def test_saved_and_loaded(tmp_path: Path) -> None:
    save_certificate(made(), tmp_path / "c.json")
    assert load_certificate(tmp_path / "c.json") == made()


def test_the_worst_weight() -> None:
    worst = made().worst
    assert worst is not None
    assert worst.weight == "c"


def test_what_is_no_certificate(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(UsageError) as caught:
        load_certificate(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"
    path.write_text("{}")
    with pytest.raises(UsageError) as caught:
        load_certificate(path)
    assert str(caught.value) == (
        f"{path}: is no certificate: Object missing required field `source`\n"
        "  hint: `ffebm gradcheck` writes one"
    )
    save_certificate(msgspec.structs.replace(made(), schema=2), path)
    with pytest.raises(UsageError) as caught:
        load_certificate(path)
    assert str(caught.value) == f"{path}: is of version 2; this ffebm reads version 1"
