"""The certificate on a page: it is the file's, and one of another plan is refused."""

from pathlib import Path

import msgspec
import pytest

from ffebm.errors import UsageError
from ffebm.plan.plan import Plan
from ffebm.report.facts.facts import facts
from ffebm.report.facts.measured.certificate_facts import read_certificate
from ffebm.report.page import facts_of, page
from ffebm.studies.gradcheck.certificate import Certificate, save_certificate
from tests.report.measured import certificate_of


def test_the_page_holds_the_certificate(digits: Plan, tmp_path: Path) -> None:
    wanted = certificate_of(digits)
    save_certificate(wanted, tmp_path / "c.json")
    found = read_certificate(digits, tmp_path / "c.json")
    assert found == wanted
    assert facts_of(page(facts(digits, certificate=found))).certificate == wanted


def other_blocks(certificate: Certificate) -> Certificate:
    return msgspec.structs.replace(certificate, settling=certificate.settling[:-1])


def other_owner(certificate: Certificate) -> Certificate:
    first = msgspec.structs.replace(certificate.fidelity[0], block="block3")
    return msgspec.structs.replace(certificate, fidelity=(first, *certificate.fidelity[1:]))


@pytest.mark.parametrize(
    ("changed", "what", "theirs", "ours"),
    [
        (
            lambda c: msgspec.structs.replace(c, digest="0" * 64, source="b.onnx"),
            "model",
            "b.onnx",
            "model.onnx",
        ),
        (lambda c: msgspec.structs.replace(c, hardware="hermes"), "machine", "hermes", "reference"),
        (other_blocks, "partition", "3 energy blocks", "4 energy blocks"),
        (other_owner, "partition", "4 energy blocks", "4 energy blocks"),
    ],
)
def test_the_certificate_of_another_plan_is_refused(
    changed: object, what: str, theirs: str, ours: str, digits: Plan, tmp_path: Path
) -> None:
    assert callable(changed)
    plan = msgspec.structs.replace(digits, source=msgspec.structs.replace(digits.source, name="model.onnx"))
    path = tmp_path / "c.json"
    save_certificate(changed(certificate_of(plan)), path)
    with pytest.raises(UsageError) as caught:
        read_certificate(plan, path)
    assert str(caught.value) == (
        f"{path}: the certificate is of another {what}: {theirs}; one of this plan's: {ours}\n"
        "  hint: `ffebm gradcheck PLAN` writes PLAN.gradcheck.json"
    )
