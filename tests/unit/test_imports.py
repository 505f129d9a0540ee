# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of the project: imports run one way, every file says its licence, and the documents keep up."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import jsonschema
import networkx
import pytest

from kgbuild.diagnostics import refusals, registry
from kgbuild.report.reference_docs import render_limits, render_noise, render_probes
from tests.support.sources import nodes_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "kgbuild"

# The folders in the order in which data flows, lowest first: a file may import from its own folder and from those
# before it in this list. What stands on one line may not import from each other.
FLOORS = (
    ("", "errors", "limits", "decompression", "shown_text", "model", "module_abi", "progress"),
    ("diagnostics",),
    ("elf",),
    ("arch",),
    ("debuginfo",),
    ("objects", "csource"),
    ("patch", "kernel", "correlation"),
    ("diff", "ledger"),
    ("callgraph",),
    ("proof", "estimation", "remedy"),
    ("closure",),
    ("accounting", "livepatch", "guest"),
    ("emit", "verification/reading"),
    ("verification",),
    ("delivery",),
    ("report",),
    ("releases",),
    ("host/system",),
    ("host/archives", "host/patches"),
    ("host/toolchains",),
    ("host/kernels",),
    ("host/modules", "host/compile"),
    ("host/link", "host/index"),
    ("host/vm", "host/delivery", "host/releases"),
    ("pipeline/stages",),
    ("pipeline",),
    ("pipeline/delivery", "pipeline/review"),
    ("pipeline/releases",),
    ("api", "cli"),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
MOST_FILES = 15  # of one folder
# These take data and give data: nothing in them opens a file, starts a process or prints.
PURE = tuple(name for name in FLOOR if FLOOR[name] and not name.startswith(("host/", "pipeline", "api", "cli")))
EDGE_MODULES = {
    "subprocess",
    "socket",
    "urllib",
    "http",
    "shutil",
    "tempfile",
    "pathlib",
    "os",
    "click",
    "rich",
}
EDGE_CALLS = {"print", "open", "input"}

CODE = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    path
    for pattern in (
        "kgbuild/**/*",
        "tests/**/*",
        "benchmarks/**/*",
        "examples/**/*",
        ".ci/*",
        "Makefile",
        "*.toml",
    )
    for path in ROOT.glob(pattern)
    if path.is_file() and path.suffix in {".py", ".toml", ".c", ".h", ".sh", ""} and "__pycache__" not in path.parts
)


def folder_of(path: Path) -> str:
    """The folder of a file, as FLOORS names it; for a file directly below kgbuild/ its own name, "" for __init__."""
    parts = path.relative_to(PACKAGE).parts
    if len(parts) == 1:
        return parts[0].removesuffix(".py").removeprefix("__init__")
    return "/".join(parts[:2]) if parts[0] in ("host", "pipeline") and len(parts) > 2 else parts[0]


@cache
def file_of(name: str) -> Path | None:
    """The file of this package that a dotted name leads to: a module, or what holds a value of that name."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py", path.parent.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return path.parent / "__init__.py" if (path.parent / "__init__.py").is_file() else None


@cache
def imports_of(path: Path) -> tuple[tuple[int, str], ...]:
    """(line, dotted name) of every import, those inside functions too; `from a import b` gives "a.b"."""
    package = ".".join(("kgbuild", *path.relative_to(PACKAGE).parent.parts))
    out = []
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            out += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]) if base else ".".join(above)
            out += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return tuple(out)


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    here = folder_of(path)
    if here == "host":  # the folder of the folders is empty
        assert path.name == "__init__.py" and not list(imports_of(path))
        return
    assert here in FLOOR, f"{here} has no place in FLOORS"
    wrong = []
    for line, name in imports_of(path):
        target = file_of(name) if name.split(".")[0] == "kgbuild" else None
        if target is None:
            continue
        there = folder_of(target)
        if there != here and FLOOR[there] >= FLOOR[here] > 0:
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


def test_writer_and_verifier_have_only_the_written_description_in_common() -> None:
    """Neither imports the other, and what a table or a section of ours is called is written in module_abi.py alone."""
    wrong = []
    for side, other in (("emit", "verification"), ("verification", "emit")):
        files = [path for path in CODE if folder_of(path) == side]
        assert len(files) > 5
        for path in files:
            wrong += [f"{path}:{line} {name}" for line, name in imports_of(path) if name.startswith(f"kgbuild.{other}")]
            wrong += [f"{path}:{line} {text!r}" for line, text in _texts(path) if _OURS.match(text)]
    assert not wrong


# What only a patch module of kgbuild has: its sections, symbols and livepatch names.
_OURS = re.compile(
    r"(\.rodata\.|\.data\.|\.text\.|\.note\.|\.)?kgbuild(_|$|\.moved|\\0|\0)|\.klp\.(sym|rela)\.$|\.klp\.sym\.[a-z{]"
)
_ONLY_THERE = {"kgbuild_new_"}  # of kGraft's wrapper, which is made for each patch


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string of a file that is no docstring, nor a message: those have blanks."""
    for node in nodes_of(path):
        text = node.value if isinstance(node, ast.Constant) else None
        text = text.decode("latin-1") if isinstance(text, bytes) else text
        if isinstance(text, str) and " " not in text and text not in _ONLY_THERE:
            yield node.lineno, text


def test_no_file_imports_itself_through_others() -> None:
    """An import inside a function counts as well; one for types only (TYPE_CHECKING) does too."""
    graph = networkx.DiGraph()
    for path in CODE:
        for _, name in imports_of(path):
            target = file_of(name) if name.split(".")[0] == "kgbuild" else None
            if target not in (None, path):
                graph.add_edge(str(path.relative_to(PACKAGE)), str(target.relative_to(PACKAGE)))
    circles = [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]
    assert graph.number_of_edges() > len(CODE) and not circles


def test_no_folder_has_too_many_files() -> None:
    files = Counter(path.parent for path in CODE if path.name != "__init__.py")
    assert not {str(folder.relative_to(ROOT)): n for folder, n in files.items() if n > MOST_FILES}


@pytest.mark.parametrize(
    "path", [path for path in CODE if folder_of(path) in PURE], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_core_touches_nothing_outside(path: Path) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imports_of(path)
        if name.split(".")[0] in EDGE_MODULES
    ]
    wrong += [
        f"{path.relative_to(ROOT)}:{node.lineno} calls {node.func.id}()"
        for node in nodes_of(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EDGE_CALLS
    ]
    assert not wrong


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in CODE
        if folder_of(path) != "cli"
        for node in nodes_of(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "exit"}
    ]
    assert not wrong


def short_names(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """(line, name) of each attribute that is set or read and each field of a class whose name has only one letter."""
    for node in nodes:
        if isinstance(node, ast.Attribute) and len(node.attr.strip("_")) == 1:
            yield node.lineno, node.attr
        elif isinstance(node, ast.ClassDef):
            for statement in node.body:
                target = statement.target if isinstance(statement, ast.AnnAssign) else None
                if isinstance(target, ast.Name) and len(target.id.strip("_")) == 1:
                    yield statement.lineno, target.id


def test_no_state_has_a_name_of_one_letter() -> None:
    assert list(short_names(ast.walk(ast.parse("class A:\n    b: int\n\nself._c = d.word")))) == [(2, "b"), (4, "_c")]
    wrong = [f"{path.relative_to(ROOT)}:{line}: {name}" for path in CODE for line, name in short_names(nodes_of(path))]
    assert not wrong


def test_every_source_file_names_its_licence() -> None:
    assert SOURCES
    wrong = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.stat().st_size
        and "SPDX-License-Identifier: GPL-2.0-or-later" not in path.read_text(encoding="utf-8")[:400]
    ]
    assert not wrong


def test_limits_are_those_of_the_registry() -> None:
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    assert text == render_limits(), "docs/limits.md is old: run make docs"
    assert (ROOT / "docs" / "noise.md").read_text(encoding="utf-8") == render_noise(), "run make docs"
    assert (ROOT / "docs" / "probes.md").read_text(encoding="utf-8") == render_probes(), "run make docs"


def test_limits_name_every_code_once() -> None:
    cells = re.findall(r"^\| `([A-Z]\d+-[a-z-]+)` \|", render_limits(), re.MULTILINE)
    assert sorted(cells) == sorted(registry.RULES)


def test_codes_keep_their_form() -> None:
    assert all(re.fullmatch(r"[A-Z]\d+-[a-z]+(-[a-z]+)*", code) for code in [*registry.RULES])
    numbers = [code.split("-")[0] for code in [*registry.RULES]]
    assert len(set(numbers)) == len(numbers)


def test_readme_commands_are_targets_of_make() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(_code_of(readme))))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_readme_commands_are_commands() -> None:
    from kgbuild.cli.main import COMMANDS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\s*(?:\$ )?kgbuild ([a-z]+)", "\n".join(_code_of(readme)), re.MULTILINE))
    assert set(COMMANDS) <= named, "a command is not in the README"
    assert named <= set(COMMANDS)


def _code_of(markdown: str) -> list[str]:
    """What stands in code blocks and between backquotes."""
    fenced = re.findall(r"^```[a-z]*\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^(?: {4}|\t)(.*)$", markdown, re.MULTILINE)
    return [*fenced, *indented, *re.findall(r"`([^`\n]+)`", markdown)]


def test_links_of_the_documents_lead_somewhere() -> None:
    wrong = []
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in link and not (page.parent / link).exists():
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert not wrong


def test_report_schema_is_a_closed_schema() -> None:
    schema = json.loads((ROOT / "docs" / "schema" / "report-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    objects = [node for node in _nodes(schema) if node.get("type") == "object" and "properties" in node]
    assert objects
    for node in objects:
        assert node.get("additionalProperties") is False
        assert set(node.get("required", [])) <= set(node["properties"])


def _nodes(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


# The patches of tests/kernel: their descriptions and files go together.


def test_kernel_cases_have_their_patches() -> None:
    folder = ROOT / "tests" / "kernel" / "cases"
    cases = tomllib.loads((folder / "cases.toml").read_text(encoding="utf-8"))["case"]
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names)
    keys = {
        "name",
        "patches",
        "about",
        "check",
        "before",
        "after",
        "disabled",
        "absent",
        "allow_log",
        "changed",
        "new",
        "pulled",
        "carried",
        "options",
        "unit",
        "targets",
        "modules",
        "warnings",
        "dropped",
        "read",
    }
    used = set()
    for case in cases:
        assert set(case) <= keys, case["name"]
        assert {"name", "patches", "about", "changed", "new"} <= set(case), case["name"]
        assert case.get("check") or case.get("after"), f"{case['name']} shows nothing"
        for pattern in case.get("allow_log", []):
            re.compile(pattern)
        for patch in case["patches"]:
            assert (folder / patch).is_file(), patch
            used.add((folder / patch).resolve())
    assert {path.resolve() for path in folder.glob("*.patch")} <= used


def test_bad_patches_have_their_files_and_known_codes() -> None:
    folder = ROOT / "tests" / "kernel" / "bad"
    cases = tomllib.loads((folder / "bad.toml").read_text(encoding="utf-8"))["case"]
    named = {patch for case in cases for patch in case.get("patches", [f"{case['name']}.patch"])}
    assert all((folder / patch).is_file() for patch in named)
    assert {patch for patch in named if "/" not in patch} == {path.name for path in folder.glob("*.patch")}
    for case in cases:
        known = {"name", "about", "patches", "options", "exit", "codes", "text", "places"}
        assert set(case) <= known, case["name"]
        assert set(case["codes"]) <= set(refusals.RULES), case["name"]
        assert bool(case["codes"]) == (case["exit"] == 1), case["name"]
        assert case["exit"] in (1, 2, 4), case["name"]
