"""What can be changed in the engine, the passes and the plan, and a seeded sample of it.

cosmic-ray says what can be changed in a file and changes it: operators of arithmetic and of comparison,
numbers, conditions, loops, decorators, `except`. A sample is drawn among the places, and one of the changes
that fit a place among those. Annotations and the marks of parameters by position or by name are left out, as
they say nothing of what is computed. Names of places and digests do not depend on the rest of their file, so
that a sample and its records keep what they can when a file changes; the first mutants of a sample are a
sample too.
"""

import ast
import hashlib
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
AREAS = {
    "engine": ("ffebm/runtime/blocks", "ffebm/runtime/tiles"),
    "passes": ("ffebm/passes", "ffebm/graph"),
    "plan": ("ffebm/plan",),
}
CHANGES = {
    "operator": ("ReplaceBinaryOperator",),
    "comparison": ("ReplaceComparisonOperator",),
    "factor": ("ReplaceUnaryOperator",),
    "not_test": ("ReplaceUnaryOperator",),
    "number": ("NumberReplacer",),
    "keyword": tuple(f"Replace{word}With" for word in ("True", "False", "And", "Or", "Break", "Continue")),
    "if_stmt": ("AddNot",),
    "while_stmt": ("AddNot",),
    "assert_stmt": ("AddNot",),
    "test": ("AddNot",),
    "for_stmt": ("ZeroIterationForLoop",),
    "except_clause": ("ExceptionReplacer",),
    "decorator": ("RemoveDecorator",),
}
"""How names of cosmic-ray's operators begin that look at a kind of node: to ask all of them takes minutes."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        place: Name of the place: file, function, line as text, and which of that line's places.
        operator: Of cosmic-ray.
        occurrence: Of that operator in the file.
        digest: Of the function, or of the file where it runs at import.
        file: Its path from the root.
        function: Where the change lies; empty for the module.
        lines: First and last line of the statement, or of the head of a compound one.
        at_import: It runs when the module is imported.
        before: The lines that change, as one.
        after: What they become.
        code: The changed file.
    """

    place: str
    operator: str
    occurrence: int
    digest: str
    file: str
    function: str
    lines: tuple[int, int]
    at_import: bool
    before: str = ""
    after: str = ""
    code: str = field(default="", repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """What a record belongs to."""
        return (self.place, self.after, self.digest)

    @property
    def name(self) -> tuple[str, str, str, str]:
        """What a reason belongs to: it holds as long as the lines stand, whatever the rest of the file is."""
        return (self.file, self.function, self.before, self.after)


def digest(source: str) -> str:
    """Of a text."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def files() -> list[str]:
    """What is mutated."""
    folders = (ROOT / folder for folders in AREAS.values() for folder in folders)
    names = (path.relative_to(ROOT).as_posix() for folder in folders for path in folder.rglob("*.py"))
    return sorted(names)


def area(file: str) -> str:
    """Which area a file lies in."""
    return next(name for name, folders in AREAS.items() if file.startswith(tuple(f"{f}/" for f in folders)))


def sample(count: int, seed: int) -> list[Mutant]:
    """The places of lowest rank, each with one mutant."""
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in files()}
    every = [place for file, source in sources.items() for place in places(file, source)]
    every.sort(key=lambda place: rank(seed, place[0]))
    drawn: list[Mutant] = []
    for name, mutants in every:
        random.Random(rank(seed, name)).shuffle(mutants)
        made = (changed(mutant, sources[mutant.file]) for mutant in mutants)
        drawn += itertools.islice((mutant for mutant in made if mutant is not None), 1)
        if len(drawn) == count:
            break
    return drawn


def rank(seed: int, name: str) -> int:
    """An even number of 64 bits for each place of a seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8])


def places(file: str, source: str) -> Iterator[tuple[str, list[Mutant]]]:
    """Places of a file by a name that edits elsewhere do not change, with the mutants of each."""
    from cosmic_ray.ast import ast_nodes, get_ast

    statements = Statements(source)
    counts: Counter[str] = Counter()
    found: defaultdict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    for node in ast_nodes(get_ast(source)):
        for name, operator in operators(node.type):
            for start, _ in operator.mutation_positions(node):
                counts[name] += 1
                if node.parent.type != "parameters" and not statements.annotates(start):
                    found[start].append((name, counts[name] - 1))
    lines = source.splitlines()
    seen: Counter[str] = Counter()
    for start in sorted(found):
        line = start[0]
        owner, inside = statements.owner[line], statements.inside.get(line)
        name = f"{file}|{owner}|{lines[line - 1].strip()}"
        seen[name] += 1
        place, known = f"{name}|{seen[name]}", digest(inside or source)
        where = (known, file, owner, statements.span[line], inside is None)
        yield place, [Mutant(place, operator, occurrence, *where) for operator, occurrence in found[start]]


@cache
def operators(kind: str) -> list[tuple[str, Any]]:
    """Operators of cosmic-ray that look at a kind of node."""
    from cosmic_ray.operators.provider import OperatorProvider

    provider, starts = OperatorProvider(), CHANGES.get(kind)
    return [(name, provider[name]()) for name in sorted(provider) if starts and name.startswith(starts)]


def changed(mutant: Mutant, source: str) -> Mutant | None:
    """A mutant with its code; None if that is no Python."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    code = mutate_code(source, OperatorProvider()[mutant.operator](), mutant.occurrence)
    if code is None or code == source:
        return None
    try:
        ast.parse(code)
    except SyntaxError:
        return None
    before, after = difference(source.splitlines(), code.splitlines())
    return replace(mutant, before=before, after=after, code=code)


def difference(before: list[str], after: list[str]) -> tuple[str, str]:
    """The lines that differ, joined to one."""
    pairs = itertools.zip_longest(before, after)
    head = next(number for number, (was, now) in enumerate(pairs) if was != now)
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    was, now = (" ".join(" ".join(lines[head : len(lines) - tail]).split()) for lines in (before, after))
    return was, now


class Statements(ast.NodeVisitor):
    """Which function and which statement a line belongs to, and where annotations are.

    Attributes:
        owner: Path of the function or class by line.
        span: First and last line of the statement, or of the head of a compound one, by line.
        inside: Text of the function by line, where a line lies in the body of one.
    """

    def __init__(self, source: str) -> None:
        self.owner: dict[int, str] = {}
        self.span: dict[int, tuple[int, int]] = {}
        self.inside: dict[int, str] = {}
        self._source = source
        self._annotations: list[tuple[tuple[int, int], tuple[int, int]]] = []
        self._path: list[str] = []
        self.visit(ast.parse(source))

    def generic_visit(self, node: ast.AST) -> None:
        """Note a node and what lies in it."""
        if isinstance(node, ast.stmt | ast.ExceptHandler):
            body = getattr(node, "body", None)
            last = max(node.lineno, body[0].lineno - 1) if body else (node.end_lineno or node.lineno)
            self._note(node.lineno, last)
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if note is not None:
                start, end = (note.lineno, note.col_offset), (note.end_lineno, note.end_col_offset)
                self._annotations.append((start, end))
        if isinstance(node, ast.FunctionDef):
            text = ast.get_source_segment(self._source, node) or ""
            lines = range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
            self.inside.update(dict.fromkeys(lines, text))
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            super().generic_visit(node)
            return
        self._path.append(node.name)
        if node.decorator_list:
            self._note(node.decorator_list[0].lineno, node.lineno)
        super().generic_visit(node)
        self._path.pop()

    def _note(self, first: int, last: int) -> None:
        for line in range(first, last + 1):
            self.owner[line] = ".".join(self._path)
            self.span[line] = (first, last)

    def annotates(self, start: tuple[int, int]) -> bool:
        """Whether a position lies in an annotation."""
        return any(first <= start < last for first, last in self._annotations)
