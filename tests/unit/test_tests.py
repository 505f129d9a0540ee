# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of the tests: no test imports another, and the folders of tests/unit and tests/tools are kgbuild/'s."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.sources import nodes_of

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parent / "kgbuild"
FILES = sorted(path for folder in (TESTS, TESTS.parent / "benchmarks") for path in folder.rglob("*.py"))
LAYERS = (TESTS / "unit", TESTS / "tools")
MIRRORS = sorted(path for layer in LAYERS for path in layer.rglob("test_*.py") if path.parent != layer)


def name_of(path: Path) -> str:
    return str(path.relative_to(TESTS.parent))


def imported(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports from the tests, in functions too; `from a import b` gives a and a.b."""
    package = path.relative_to(TESTS.parent).parent.parts
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *((node.module,) if node.module else ())))
            found = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in found if name.split(".")[0] == "tests")


@cache
def file_of(name: str) -> Path | None:
    path = TESTS.parent.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_test_is_imported(path: Path) -> None:
    """What files of different layers share is in tests/support; a layer that is a program has helpers of its own."""
    layer = path.relative_to(TESTS.parent).parts[1]
    for name in imported(path):
        found = file_of(name)
        if found is None or found == TESTS / "__init__.py":
            continue
        assert not found.name.startswith("test_") and found.name != "conftest.py", f"imports {name}"
        assert found.relative_to(TESTS).parts[0] in ("support", layer), f"imports {name}: it belongs into tests/support"


@pytest.mark.parametrize("path", MIRRORS, ids=name_of)
def test_tests_are_in_the_folder_of_what_they_test(path: Path) -> None:
    """The name of the folder is in the test, or in a helper that it imports."""
    folder = path.parent.relative_to(next(layer for layer in LAYERS if layer in path.parents))
    assert (PACKAGE / folder / "__init__.py").is_file(), f"kgbuild has no folder {folder}"
    read = {path, *filter(None, map(file_of, imported(path)))}
    name = re.compile(r"kgbuild(?:\.host|\.pipeline|\.cli)?\." + re.escape(".".join(folder.parts)))
    assert any(name.search(file.read_text(encoding="utf-8")) for file in read), f"it tests nothing of {folder}"


def test_nothing_is_skipped() -> None:
    """What a test needs is in the checkout, compiled by it, or installed by `make test-packages`."""
    words = {"skip", "skipif", "importorskip", "xfail", "SkipTest"}
    skipping = {
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        if path.name.startswith(("test_", "conftest"))
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute | ast.Name) and getattr(node, "attr", getattr(node, "id", "")) in words
    }
    assert not skipping


def test_test_files_of_one_name_are_told_apart() -> None:
    """Without an __init__.py pytest takes the name of a file for that of its module."""
    assert not {
        name_of(path.parent) for path in TESTS.rglob("test_*.py") if not (path.parent / "__init__.py").is_file()
    }
