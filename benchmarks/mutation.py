"""Do the tests see a wrong sign? A seeded sample of mutants of the engine, the passes and the plan.

    python benchmarks/mutation.py cover    which test runs which line: once, about as long as the suite
    python benchmarks/mutation.py run      the mutants that have no record yet
    python benchmarks/mutation.py show     score and Wilson interval by area and file, and what survived

Mutants (`mutation_sample.py`) lie in a copy of the tree below `out/mutation`, never in the tree itself. All
tests are imported once; each mutant is a fork that puts the changed code into the functions that are there,
or, if the change runs when a module is imported, imports the copy anew. It then runs tests that run its
lines, one after the other until one fails: first those of the file that mirrors the module, then the
quickest others, each within a time. What survives can be run again by all tests that run its lines, with
the copy imported anew (`--again`).

Records are in `benchmarks/mutants/records.jsonl`, each bound to the digest of the mutated function, so that
a run goes on where one stopped. `benchmarks/mutants/equivalent.toml` names those that no test can kill, with
the reason.
"""

import argparse
import functools
import gc
import importlib
import inspect
import itertools
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType

from mutation_sample import AREAS, ROOT, Mutant, area, sample

RECORDS = ROOT / "benchmarks" / "mutants" / "records.jsonl"
EQUIVALENT = ROOT / "benchmarks" / "mutants" / "equivalent.toml"
OUT = ROOT / "out" / "mutation"
COVERAGE = OUT / "coverage"
COPY = OUT / "copy"

NOT_COVERED = tuple(
    f"tests/{name}"
    for name in (
        "report", "test_architecture.py", "test_browser.py", "test_documents.py", "test_examples.py",
        "test_extend.py", "test_installation.py", "test_kills.py", "test_light_models.py", "test_mutation.py",
        "test_reference.py", "test_visible.py",
    )
)  # fmt: skip
"""They run other processes, or look at text and pictures."""
MIRROR_SECONDS = 4.0
OTHER_SECONDS = 3.0
"""Of processor time, as it was measured together with coverage."""
ENOUGH_SECONDS = 600.0
"""The same for what is run again."""
MEMORY = 12 << 30
"""Address space of a mutant [bytes]."""
HEAVY = ("torch", "numpy", "onnx", "onnx.helper", "onnx.reference", "networkx", "safetensors.torch", "rich")
"""Imported once, before the forks."""
PYTEST = (
    "-q",
    "-p",
    "no:cacheprovider",
    "-W",
    "ignore:Module already imported:pytest.PytestAssertRewriteWarning",
)
Z = 1.959964
"""Of a 95 % interval."""

Key = tuple[str, str, str]
Record = dict[str, object]


# --- which test runs which line ----------------------------------------------------------------------


def cover(only: Sequence[str]) -> None:
    """Run every file of tests once, or only some, and keep which test runs which line."""
    enter_copy()
    COVERAGE.mkdir(parents=True, exist_ok=True)
    groups = sorted(path.relative_to(COPY).as_posix() for path in (COPY / "tests").rglob("test_*.py"))
    for group in groups:
        wanted = group.startswith(tuple(only)) if only else not stored(group, "json").exists()
        if wanted and not group.startswith(NOT_COVERED):
            status, seconds = forked(cover_one(group), OUT / "cover.log")
            failed = "" if status in (0, 5) else f"  FAILED ({status})"
            print(f"{seconds:7.1f} s  {group}{failed}", flush=True)


def stored(group: str, kind: str) -> Path:
    """Where coverage (`cov`) or the seconds (`json`) of a file of tests lie."""
    return COVERAGE / f"{group.replace('/', '_')}.{kind}"


def cover_one(group: str) -> Iterator[int]:
    """Run a file of tests."""
    import coverage
    import pytest

    seen = coverage.Coverage(data_file=str(stored(group, "cov")), source=["ffebm"], config_file=False)
    seconds: dict[str, float] = {}

    class Contexts:
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[object]:
            seen.switch_context(item.nodeid)
            started = time.process_time()
            result = yield
            seconds[item.nodeid] = round(time.process_time() - started, 4)
            seen.switch_context("")
            return result

    seen.start()
    status = pytest.main([*PYTEST, group], plugins=[Contexts()])
    seen.stop()
    seen.save()
    stored(group, "json").write_text(json.dumps(seconds), encoding="utf-8")
    yield int(status)


class Tests:
    """Which tests run a line, and how long each takes."""

    def __init__(self) -> None:
        import coverage

        self.seconds: dict[str, float] = {}
        self._lines: defaultdict[str, defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for path in sorted(COVERAGE.glob("*.cov")):
            self.seconds |= json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            data = coverage.CoverageData(str(path))
            data.read()
            for measured in data.measured_files():
                file = "ffebm/" + measured.rpartition("/ffebm/")[2]
                for line, tests in data.contexts_by_lineno(measured).items():
                    self._lines[file][line].update(filter(None, tests))

    def of(self, mutant: Mutant, *, every: bool) -> list[str]:
        """Tests of a mutant in the order in which they are run.

        Of a change at import, or where none was seen to run its lines, those of all of its file, and all that
        mirror it: they may ask for what importing it made.
        """
        lines = self._lines[mutant.file]
        here = range(mutant.lines[0], mutant.lines[1] + 1)
        everywhere = mutant.at_import or self.is_untraced(mutant)
        found = set().union(*(lines[line] for line in (lines if everywhere else here) if line in lines))
        mirror = mirrors(mutant.file)
        if everywhere:
            found |= {test for test in self.seconds if test.startswith(mirror)}
        own = sorted((test for test in found if test.startswith(mirror)), key=self._order)
        others = sorted((test for test in found if not test.startswith(mirror)), key=self._order)
        if every:
            return self._within([*own, *others], ENOUGH_SECONDS)
        return [*self._within(own, MIRROR_SECONDS), *self._within(others, OTHER_SECONDS)]

    def is_untraced(self, mutant: Mutant) -> bool:
        """Whether no test was seen to run its lines; what numba compiles leaves no trace."""
        lines = self._lines[mutant.file]
        return not any(lines[line] for line in range(mutant.lines[0], mutant.lines[1] + 1) if line in lines)

    def _order(self, test: str) -> tuple[float, str]:
        return (self.seconds[test], test)

    def _within(self, tests: list[str], seconds: float) -> list[str]:
        ends = itertools.accumulate(self.seconds[test] for test in tests)
        return [test for test, end in zip(tests, ends, strict=True) if end <= seconds]


def mirrors(file: str) -> tuple[str, ...]:
    """Tests of a module: the file that mirrors it, or those of its folder."""
    path = Path("tests", *Path(file).parts[1:])
    own = path.with_name(f"test_{path.name}").as_posix()
    return (own,) if (ROOT / own).exists() else (path.parent.as_posix(),)


# --- running -----------------------------------------------------------------------------------------


def enter_copy() -> None:
    """Copy the tree as git lists it, with what is not committed, and let Python import the copy."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    names = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    for path in [path for path in COPY.rglob("*.py") if path.relative_to(COPY).as_posix() not in names]:
        path.unlink()
    for name in names:
        target = COPY / name
        if not target.exists() or target.read_bytes() != (ROOT / name).read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    os.environ |= {"PYTHONPATH": str(COPY), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    os.chdir(COPY)
    kept = (path for path in sys.path if Path(path).resolve() not in (ROOT, ROOT / "benchmarks"))
    sys.path[:] = [str(COPY), *kept]
    for name in HEAVY:
        importlib.import_module(name)


def forked(work: Iterator[int], log: Path, processor: float | None = None) -> tuple[int, float]:
    """Do something in a fork.

    Args:
        work: What to do; its last value is the exit status.
        log: Takes what it prints.
        processor: Seconds of processor time that it may take.

    Returns:
        Its exit status, or minus the signal that ended it, and its seconds.
    """
    started = time.monotonic()
    child = os.fork()
    if not child:
        status = 70
        try:
            os.setpgid(0, 0)
            with log.open("w", encoding="utf-8") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            if processor is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(processor), math.ceil(processor) + 5))
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            for done in work:
                status = done
        finally:
            sys.stdout.flush()
            os._exit(status)
    end = math.inf if processor is None else started + 20 * processor  # of a process that waits for something
    while True:
        done, how = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(how), time.monotonic() - started
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            end = math.inf
        time.sleep(0.02)


class Loaded:
    """The tests and the copy, imported once, for mutants to be put into."""

    def __init__(self, tests: Tests) -> None:
        import pytest

        groups = sorted({test.partition("::")[0] for test in tests.seconds})
        pytest.main([*PYTEST, "--collect-only", "-qq", *groups])
        gc.collect()
        live = gc.get_objects()
        self._functions = [one for one in live if type(one) is FunctionType]
        self._caches = [
            one for one in live if type(one) is functools._lru_cache_wrapper and own(one.__module__)
        ]
        gc.freeze()

    def take(self, path: Path, source: str, code: str) -> bool:
        """Whether all that differs lies in functions, which then have the code of the mutant."""
        old, new = (list(codes(compile(text, str(path), "exec"))) for text in (source, code))
        if len(old) != len(new):
            return False
        apart = [(was, now) for was, now in zip(old, new, strict=True) if was != now]
        if any(not was.co_flags & inspect.CO_OPTIMIZED and alone(was) != alone(now) for was, now in apart):
            return False
        changed = dict(apart)
        here = [one for one in self._functions if one.__code__.co_filename == str(path)]
        found = [one for one in here if one.__code__ in changed]
        for one in found:
            one.__code__ = changed[one.__code__]
        for cache in self._caches:
            cache.cache_clear()
        return bool(found)


def own(module: str) -> bool:
    """Whether a module is one of the copy's."""
    return module.partition(".")[0] in ("ffebm", "tests")


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code and those of all that it defines."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def alone(code: CodeType) -> CodeType:
    """A code without those of what it defines."""
    return code.replace(co_consts=tuple(None if isinstance(c, CodeType) else c for c in code.co_consts))


def run_tests(tests: list[str], loaded: Loaded, swap: tuple[Path, str, str] | None) -> Iterator[int]:
    """Run tests on a mutant that lies in the copy; `swap` puts it into what is loaded, None imports anew."""
    import pytest

    if swap is None or not loaded.take(*swap):
        for name in [name for name in sys.modules if own(name)]:
            del sys.modules[name]

    class First:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                print(f"\nFIRST {report.nodeid}", flush=True)

        def pytest_collectreport(self, report: pytest.CollectReport) -> None:
            if report.failed:
                print(f"\nFIRST import of {report.nodeid}", flush=True)

    yield int(pytest.main([*PYTEST, "-x", "--tb=short", "-m", "", *tests], plugins=[First()]))


def judge(status: int, log: str) -> tuple[str, str]:
    """What became of a mutant, and what killed it."""
    if status == 0:
        return "survived", ""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return "killed", "time"
    if status < 0:
        return "killed", f"signal {-status}"
    first = re.search(r"^FIRST (.*)$", log, re.MULTILINE)
    return "killed", first[1] if first else "import"


def run(drawn: list[Mutant], options: argparse.Namespace) -> None:
    """Run mutants that have no record, or again those that survived, and keep what becomes of each."""
    known, same = records(), equivalent()
    waiting = [
        mutant
        for mutant in drawn
        if mutant.name not in same
        and mutant.file.startswith(tuple(options.only) or "")
        and (mutant.key not in known or (options.again and known[mutant.key]["outcome"] == "survived"))
    ]
    print(f"{len(waiting)} mutants to run", flush=True)
    enter_copy()
    tests = Tests()
    loaded = Loaded(tests)
    # bytecode is bound to the second of its source: each version gets one of its own
    tick = int(time.time()) - 10_000_000
    for number, mutant in enumerate(waiting[: options.limit], 1):
        chosen = tests.of(mutant, every=options.again)
        outcome, by, seconds = "survived", "no test runs it", 0.0
        if chosen:
            path, source = COPY / mutant.file, (ROOT / mutant.file).read_text(encoding="utf-8")
            anew = mutant.at_import or options.again or tests.is_untraced(mutant)
            swap = None if anew else (path, source, mutant.code)
            allowed = 40 + 4 * sum(tests.seconds[test] for test in chosen)
            write(path, mutant.code, tick + number)
            try:
                status, seconds = forked(run_tests(chosen, loaded, swap), OUT / "mutant.log", allowed)
            finally:
                write(path, source, tick)
            log = (OUT / "mutant.log").read_text(encoding="utf-8", errors="replace")
            outcome, by = judge(status, log)
        known[mutant.key] = record(mutant, outcome, by, seconds)
        keep(known)
        where = f"{mutant.file}:{mutant.lines[0]}"
        print(f"{number:4} {seconds:6.1f} s {outcome:9} {where}  {mutant.after}  [{by}]", flush=True)


def write(path: Path, text: str, second: int) -> None:
    """Write a version of a file, with the time that it gets."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (second, second))


# --- records -----------------------------------------------------------------------------------------


def record(mutant: Mutant, outcome: str, by: str, seconds: float) -> Record:
    """What is kept of a mutant."""
    names = ("place", "operator", "digest", "before", "after")
    kept: Record = {name: getattr(mutant, name) for name in names}
    return {**kept, "outcome": outcome, "by": by, "seconds": round(seconds, 1)}


def records() -> dict[Key, Record]:
    """What is known of mutants."""
    if not RECORDS.exists():
        return {}
    found = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    return {(one["place"], one["after"], one["digest"]): one for one in found}


def keep(known: dict[Key, Record]) -> None:
    """Write the records; a kill loses none."""
    part = RECORDS.with_suffix(".part")
    lines = (json.dumps(known[key], ensure_ascii=False) + "\n" for key in sorted(known))
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(RECORDS)


def equivalent() -> dict[tuple[str, str, str, str], str]:
    """Reasons of equivalent mutants by `Mutant.name`."""
    listed = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["mutant"]
    return {(one["file"], one["function"], one["before"], one["after"]): one["reason"] for one in listed}


# --- showing -----------------------------------------------------------------------------------------


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    if not count:
        return (0.0, 1.0)
    share, scale = hits / count, 1 + Z * Z / count
    centre = share + Z * Z / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return ((centre - half) / scale, (centre + half) / scale)


def row(name: str, outcomes: Counter[str]) -> str:
    """A line of the table; equivalent mutants do not count, and those without a record neither."""
    killed, judged = outcomes["killed"], outcomes["killed"] + outcomes["survived"]
    low, high = wilson(killed, judged)
    score = f"{100 * killed / judged:.1f} % | {100 * low:.1f} to {100 * high:.1f} %" if judged else "- | -"
    counts = " | ".join(str(outcomes[outcome]) for outcome in ("killed", "survived", "equivalent"))
    return f"| {name} | {outcomes.total() - outcomes['open']} | {counts} | {score} |"


def show(drawn: list[Mutant]) -> None:
    """Print the score by area and file, and what survived."""
    known, same = records(), equivalent()
    by_file: defaultdict[str, Counter[str]] = defaultdict(Counter)
    alive = []
    for mutant in drawn:
        one = known.get(mutant.key)
        outcome = "equivalent" if mutant.name in same else "open" if one is None else str(one["outcome"])
        by_file[mutant.file][outcome] += 1
        if outcome == "survived":
            where = f"{mutant.file}:{mutant.lines[0]} in {mutant.function or 'the module'}"
            alive.append(f"{where}\n  - {mutant.before}\n  + {mutant.after}")
    total: Counter[str] = Counter()
    print("| | mutants | killed | survived | equivalent | score | 95 % interval |")
    print("|---" * 7 + "|")
    for name in AREAS:
        inside = {file: outcomes for file, outcomes in sorted(by_file.items()) if area(file) == name}
        together = sum(inside.values(), Counter())
        total += together
        print(row(f"**{name}**", together))
        for file, outcomes in inside.items():
            print(row(file.removeprefix("ffebm/"), outcomes))
    print(row("**all**", total))
    print(f"\n{total['open']} of {total.total()} have no record yet")
    print("\n".join(["", "survived:", *alive]) if alive else "\nnone survived")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=("cover", "run", "show"))
    parser.add_argument("only", nargs="*", help="files or folders: of tests to cover anew, of mutants to run")
    parser.add_argument("--count", type=int, default=500, help="mutants of the sample")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--limit", type=int, help="mutants to run now")
    parser.add_argument("--again", action="store_true", help="run what survived again, by all tests")
    options = parser.parse_args()
    if options.command == "cover":
        cover(options.only)
    elif options.command == "run":
        run(sample(options.count, options.seed), options)
    else:
        show(sample(options.count, options.seed))


if __name__ == "__main__":
    main()
