"""The certificate of a plan's gradients, as a report shows it: whole, once it is known to be of this plan."""

from pathlib import Path

from ffebm.errors import Location, UsageError
from ffebm.plan.plan import Plan
from ffebm.studies.gradcheck.certificate import Certificate, load_certificate


def read_certificate(plan: Plan, path: Path) -> Certificate:
    """Read the certificate of a plan's gradients.

    Raises:
        UsageError: If it cannot be read, or is of another model, machine or partition.
    """
    found = load_certificate(path)
    owners = {weight: block.name for block in plan.blocks for weight in block.weights()}
    blocks = tuple(block.name for block in plan.blocks)
    theirs, ours = (
        {
            "model": found.source,
            "machine": found.hardware,
            "partition": f"{len(found.settling)} energy blocks",
        },
        {
            "model": plan.source.name,
            "machine": plan.hardware.name,
            "partition": f"{len(blocks)} energy blocks",
        },
    )
    same = {
        "model": found.digest == plan.source.digest,
        "machine": found.hardware == plan.hardware.name,
        "partition": tuple(row.block for row in found.settling) == blocks
        and all(owners.get(row.weight) == row.block for row in found.fidelity),
    }
    for what, fits in same.items():
        if not fits:
            raise UsageError(
                f"the certificate is of another {what}: {theirs[what]}",
                allowed=f"one of this plan's: {ours[what]}",
                hint="`ffebm gradcheck PLAN` writes PLAN.gradcheck.json",
                location=Location(str(path)),
            )
    return found
