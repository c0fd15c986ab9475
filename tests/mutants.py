"""Examines damaged inputs in a process with limits, and in another one whenever that is lost."""

import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import ffebm

SECONDS, BYTES = 20, 4 * 2**30
"""What a mutant may cost at most: seconds of a processor, and memory."""
WAITING = 10 * SECONDS
"""Seconds on the clock after which a mutant hangs, however little it computes."""
FINE = frozenset({"refused", "same", "alone", "sided", "fails at run", "accepted"})
"""Kinds of a finding that are no fault."""

Damaged = TypeVar("Damaged")
"""What a mutant is: a file's bytes, or a folder's files."""


def lot(seed: int, names: Sequence[str]) -> int:
    """Which of some names a seed draws, by rank of a hash: a new name changes what draws it, no more."""
    drawn = blake2b(str(seed).encode(), digest_size=8)
    ranks = []
    for name in names:
        ranked = drawn.copy()
        ranked.update(name.encode())
        ranks.append((ranked.digest(), name))
    return ranks.index(max(ranks))


@dataclass(frozen=True)
class Finding:
    """What became of a mutant.

    Attributes:
        seed: Number of the mutant.
        source: Name of what it was made of.
        kind: One of `FINE`, or a fault: "other result", "traceback", "crash", "hang", "memory".
            "same" agrees with onnxruntime, "sided" with onnx's reference evaluator only, "alone" is run by
            ffebm only. "fails at run" is a message too, of what onnxruntime runs.
        text: What was said.
    """

    seed: int
    source: str
    kind: str
    text: str = ""

    @property
    def fault(self) -> bool:
        """Whether ffebm is at fault."""
        return self.kind not in FINE


def check_apart(
    made: Callable[[int], tuple[str, Damaged]],
    look: Callable[[Damaged], tuple[str, str]],
    seeds: Sequence[int],
) -> list[Finding]:
    """Examine mutants in a process of its own, and in another one whenever that is lost.

    Args:
        made: The name and the content of a seed's mutant.
        look: What becomes of it, a kind of `Finding` and a text.
        seeds: Of the mutants.
    """
    findings: list[Finding] = []
    while len(findings) < len(seeds):
        findings.extend(_batch(made, look, seeds[len(findings) :]))
    return findings


def _batch(
    made: Callable[[int], tuple[str, Damaged]],
    look: Callable[[Damaged], tuple[str, str]],
    seeds: Sequence[int],
) -> list[Finding]:
    """Findings up to the first mutant that crashes or hangs the process, or takes too much memory."""
    here, there = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forks beside threads
        child = os.fork()
    if not child:
        try:
            os.close(here)
            _examine_all(made, look, seeds, there)
        finally:  # nothing of the parent may be cleaned up twice
            os._exit(0)
    os.close(there)
    findings: list[Finding] = []
    kind, rest = "crash", b""
    try:
        while len(findings) < len(seeds):
            if not _answers(here, child):
                kind = "hang"
                break
            part = os.read(here, 1 << 16)
            if not part:
                break
            *lines, rest = (rest + part).split(b"\n")
            findings.extend(Finding(**json.loads(line)) for line in lines)
    finally:
        os.close(here)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if len(findings) < len(seeds):
        seed = seeds[len(findings)]
        findings.append(Finding(seed, made(seed)[0], kind))
    return findings


def _answers(pipe: int, child: int) -> bool:
    """Whether a process writes or ends before its time is over; that of other processes is not its own."""
    started, spent = time.monotonic(), _processor_seconds(child)
    while not select.select([pipe], [], [], 0.5)[0]:
        if _processor_seconds(child) - spent > SECONDS or time.monotonic() - started > WAITING:
            return False
    return True


def _processor_seconds(process: int) -> float:
    """What a process has used of a processor, and those that it has waited for."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _examine_all(
    made: Callable[[int], tuple[str, Damaged]],
    look: Callable[[Damaged], tuple[str, str]],
    seeds: Sequence[int],
    pipe: int,
) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    for seed in seeds:
        source, content = made(seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kind, text = look(content)
        except MemoryError as error:
            kind, text = "memory", place(error)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            kind, text = "traceback", f"{place(error)} {type(error).__name__}: {error}"
        line = json.dumps(asdict(Finding(seed, source, kind, text[:600])))
        os.write(pipe, line.encode() + b"\n")


def place(error: BaseException) -> str:
    """The last line of ours that an error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(str(Path(ffebm.__file__).parent))]
    last = (ours or frames)[-1]
    return f"{last.filename}:{last.lineno}"


def main(check_seeds: Callable[[range, Path], list[Finding]]) -> None:
    """Check as many mutants as the command line says and print what is wrong."""
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        findings = check_seeds(range(first, first + count), Path(folder))
    for finding in findings:
        if finding.fault:
            print(finding.seed, finding.source, finding.kind, finding.text)  # noqa: T201
    kinds = Counter(finding.kind for finding in findings)
    print(dict(kinds), f"{time.monotonic() - started:.0f} s")  # noqa: T201
