# SPDX-License-Identifier: GPL-2.0-or-later
"""Names: one name is one thing, the two sides of a comparison are called orig and patched, words are those of today."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.sources import nodes_of, text_of

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted((ROOT / "kgbuild").rglob("*.py"))
TESTS = sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
MOST_LINES = 500  # of a file of kgbuild
# What the two sides of a comparison are not called.
SIDES = ({"o", "p"}, {"a", "b"}, {"x", "y"}, {"left", "right"}, {"ours", "theirs"}, {"mine", "yours"}, {"was", "now"})
COORDINATES = "report/page/layout.py"  # x and y are places on a page there
# Words that outsiders read twice.
OLD_WORDS = re.compile(
    r"\b(?:mend(?:s|ed|ing)?|lacks?|lacking|anew|stands? for|leavings|passed over|hold(?:s|ing)? \w+ against|"
    r"held against|told apart|tell\w* apart|at hand|fellows|nought|thereof|"
    r"wherein|whence|upon|forthwith|ere|hither|thither)\b",
    re.IGNORECASE,
)


def classes(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Where each class is defined, by its name without underscores."""
    out: dict[str, list[str]] = {}
    for path in paths:
        for node in nodes_of(path):
            if isinstance(node, ast.ClassDef):
                out.setdefault(node.name.lstrip("_"), []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return out


@pytest.mark.parametrize("paths", [CODE, TESTS], ids=["kgbuild", "tests"])
def test_a_class_has_a_name_of_its_own(paths: list[Path]) -> None:
    found = classes(paths)
    assert len(found) > 40
    assert not {name: places for name, places in found.items() if len(places) > 1}


def names_of(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    """Names that a function sets, its parameters included."""
    arguments = function.args
    given = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    return given | {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def sides(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """(line, names) of each function that has the names of SIDES."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            names = names_of(node)
            yield from ((node.lineno, " and ".join(sorted(pair))) for pair in SIDES if pair <= names)


def test_two_sides_are_orig_and_patched() -> None:
    assert list(sides(ast.walk(ast.parse("def f(o, n):\n    p = o\n\ng = lambda x: x")))) == [(1, "o and p")]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {names}"
        for path in CODE
        if not str(path).endswith(COORDINATES)
        for line, names in sides(nodes_of(path))
    ]
    assert not wrong


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of each docstring of a file."""
    for node in nodes_of(path):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def test_each_docstring_stands_by_itself() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text[:60]}"
        for path in (*CODE, *TESTS)
        for line, text in docstrings(path)
        if re.match(r"(?:the same|same|as above|ditto|likewise|see above)\b", text, re.IGNORECASE)
    ]
    assert not wrong


def old_words(path: Path) -> Iterator[tuple[int, str]]:
    """(line, words) of what OLD_WORDS finds; names, which are between backquotes or in links, do not count."""
    for number, line in enumerate(text_of(path).splitlines(), 1):
        found = OLD_WORDS.search(re.sub(r"`[^`]*`|\]\([^)]*\)", "", line))
        if found is not None:
            yield number, found[0]


def test_words_are_those_of_today() -> None:
    """In code, help, messages and documents."""
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {words}"
        for path in (*CODE, *documents, *(ROOT / "recipes").glob("*.toml"), *(ROOT / "docs" / "schema").glob("*.json"))
        for line, words in old_words(path)
        if (str(path.relative_to(ROOT)), words) not in CONTRACTS
    ]
    assert not wrong


# Keys of documents, which scripts read.
CONTRACTS = {("kgbuild/pipeline/doctor.py", "mend"), ("docs/schema/doctor-1.json", "mend")}


def test_a_file_has_one_job() -> None:
    long = {str(path.relative_to(ROOT)): n for path in CODE if (n := text_of(path).count("\n")) > MOST_LINES}
    assert not long
