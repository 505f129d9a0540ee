# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON, always, in one form: whatever comes of a run, there is one document, and it keeps to the schema that it names.
tests/support/documents.py holds every other run of the tests against the schemas, too."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from click.testing import CliRunner

from kgbuild.cli import main as entry
from kgbuild.cli.cache import cache as cache_group
from kgbuild.cli.contract.commands import STATUSES
from kgbuild.cli.kernel import kernel as kernel_group
from kgbuild.cli.main import COMMANDS, main
from kgbuild.cli.toolchain import toolchain as toolchain_group
from kgbuild.diagnostics import run_errors
from kgbuild.diagnostics.registry import RULES
from tests.support.documents import SCHEMAS, check_document
from tests.support.toolchain import compile_pair_side

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("build", "impact", "estimate", "why", "facts", "graph", "diff", "verify", "vm", "doctor", "kernel")
NAMES += ("livepatch", "package", "repo", "sign", "reproduce")
NAMES += ("cache", "toolchain", "remedy", "error", "affected", "matrix", "release", "backport", "vex", "directory")
PATCH = "--- a/fs/proc/version.c\n+++ b/fs/proc/version.c\n@@ -1 +1 @@\n-a\n+b\n"
Ran = tuple[int, str, str]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ran]]:
    """Runs `kgbuild` in this process, as its entry point does, in an empty folder with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LIVEPATCH_ROOT", str(tmp_path / "machine"))
    (tmp_path / "a.patch").write_text(PATCH)

    def runs(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["kgbuild", *words])
        with pytest.raises(SystemExit) as ended:
            entry.run()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield runs


@pytest.fixture
def pair(tmp_path: Path) -> None:
    """a.o and b.o in the test's folder: a function that is changed."""
    for name, flags in (("a.o", ()), ("b.o", ("-DPATCHED",))):
        (tmp_path / name).write_bytes(compile_pair_side("static_locals_declared", "-g", *flags))


@pytest.mark.parametrize("name", NAMES)
def test_there_is_a_schema_for_each_document(name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}-1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for one in schema.get("oneOf", [schema]) if "properties" not in schema else [schema]:
        named = one["properties"]["schema"]
        assert f"kgbuild/{name}/1" in (named.get("enum") or [named["const"]])
        assert "schema" in one["required"] and one["additionalProperties"] is False


def test_build_and_impact_are_derived_from_the_report() -> None:
    space: dict[str, Any] = {"__file__": str(SCHEMAS / "derive.py"), "__name__": "derive"}
    exec((SCHEMAS / "derive.py").read_text(), space)
    for name in ("build", "impact"):
        assert (SCHEMAS / f"{name}-1.json").read_text() == space["derive"](name), "run make docs"


USAGE = [
    ["--format", "json"],
    ["--format=json"],
    ["nosuch", "--format", "json"],
    ["--format", "json", "nosuch"],
    ["kernel", "--format", "json"],
    ["kernel", "nosuch", "--format=json"],
    ["kernel", "show", "--format", "json"],
    ["build", "--format", "json"],
    ["build", "--format", "json", "a.patch"],
    ["build", "a.patch", "--kernel", "local:x", "--bogus", "--format", "json"],
    ["build", "a.patch", "--format", "json", "--kernel"],
    ["build", "a.patch", "--kernel", "local:x", "-o", ".", "--format", "json"],
    ["build", "a.patch", "--kernel", "local:x", "-o", "none/x.ko", "--format", "json"],
    ["build", "a.patch", "--kernel", "local:x", "--max-pull", "many", "--format", "json"],
    ["build", "a.patch", "--kernel", "local:x", "-o", "a.patch", "--format", "json"],
    ["build", "a.patch", "--kernel", "local:x", "-o", "-", "--format", "json"],
    ["build", "-", "-", "--kernel", "local:x", "--format", "json"],
    ["impact", "a.patch", "--kernel", "local:x", "--no-compile", "--accounting", "--format", "json"],
    ["why", "f", "--kernel", "local:x", "--format", "json"],
    ["graph", "--kernel", "local:x", "--format", "json"],
    ["facts", "--format", "json"],
    ["remedy", "a.patch", "--kernel", "local:x", "--format", "json"],
    ["diff", "a.o", "--format", "json"],
    ["diff", "a.o", "--json", "-"],
    ["verify", "--format", "json"],
    ["vm", "nosuch.ko", "--kernel", "local:x", "--format", "json"],
    ["doctor", "much", "--format", "json"],
]


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_usage(run: Callable[..., Ran], words: list[str]) -> None:
    status, out, err = run(*words)
    document = check_document(out, 2)
    assert status == 2 and err and "Traceback" not in err
    assert document["schema"] == "kgbuild/error/1" and document["outcome"] == "usage"
    for row in document["errors"]:
        assert row["code"] in ("E1-usage", "E2-input", "E8-output") and row["fact"] and row["remedy"]


OTHERS = [
    (["build", "none.patch", "--kernel", "local:x"], 2, "build"),
    (["build", "a.patch", "--kernel", "local:x"], 2, "build"),
    (["build", "a.patch", "--kernel", "debian:newest-6.1-cloud", "--offline"], 3, "build"),
    (["impact", "a.patch", "--kernel", "local:x"], 2, "impact"),
    (["impact", "a.patch", "--kernel", "local:x", "--no-compile"], 2, "error"),
    (["impact", "a.patch", "--kernel", "debian:newest-6.1-cloud", "--offline"], 3, "impact"),
    (["why", "f", "a.patch", "--kernel", "debian:newest-6.1-cloud", "--offline"], 3, "error"),
    (["graph", "--callers", "f", "--kernel", "debian:newest-6.1-cloud", "--offline"], 3, "error"),
    (["facts", "f", "--kernel", "local:x"], 2, "error"),
    (["remedy", "a.patch", "--kernel", "local:x", "--code", "K1-data"], 2, "error"),
    (["verify", "a.patch", "--kernel", "local:x"], 2, "error"),
    (["vm", "a.patch", "--kernel", "local:x"], 2, "error"),
    (["diff", "a.patch", "a.patch"], 2, "error"),
    (["kernel", "list"], 0, "kernel"),
    (["kernel", "show", "local:x"], 2, "error"),
    (["toolchain", "list"], 0, "toolchain"),
    (["toolchain", "show", "ab"], 2, "error"),
    (["toolchain", "remove", "ab"], 2, "error"),
    (["toolchain", "fetch", "local:x"], 2, "error"),
    (["cache", "show"], 0, "cache"),
    (["cache", "prune", "--older", "30d"], 0, "cache"),
    (["cache", "prune"], 2, "error"),
    (["status"], 3, "livepatch"),
    (["load", "none.ko"], 3, "livepatch"),
    (["unload"], 3, "livepatch"),
    (["install", "none.ko"], 2, "livepatch"),
    (["rollback"], 3, "livepatch"),
    (["package", "a.patch", "--release", "1"], 2, "error"),
    (["repo", "none"], 2, "error"),
    (["reproduce", "a.patch", "--provenance", "a.patch"], 2, "error"),
    (["sign", "a.patch", "-o", "s.ko", "--sign-key", "none"], 2, "error"),
    (["kernel", "remove", "local:x"], 2, "error"),
    (["kernel", "fetch", "debian:newest-6.1-cloud", "--offline"], 3, "error"),
]


@pytest.mark.parametrize("place", ["stdout", "report", "both"])
@pytest.mark.parametrize(
    ("words", "status", "schema"), OTHERS, ids=lambda v: " ".join(v) if isinstance(v, list) else None
)
def test_every_outcome(
    run: Callable[..., Ran], tmp_path: Path, words: list[str], status: int, schema: str, place: str
) -> None:
    options = {"stdout": ["--format", "json"], "report": ["--report", "r.json"]}
    options["both"] = [*options["stdout"], *options["report"]]
    ended, out, _ = run(*words, *options[place])
    assert ended == status
    texts = [out] if place != "report" else []
    texts += [(tmp_path / "r.json").read_text()] if place != "stdout" else []
    for text in texts:
        assert check_document(text, status)["schema"] == f"kgbuild/{schema}/1"
    assert len(set(texts)) == 1


@pytest.mark.usefixtures("pair")
def test_diff(run: Callable[..., Ran], tmp_path: Path) -> None:
    for second, wanted in (("b.o", 0), ("a.o", 4)):
        status, out, _ = run("diff", "a.o", second, "--format", "json", "--report", "r.json")
        document = check_document(out, wanted)
        assert status == wanted and document["schema"] == "kgbuild/diff/1"
        assert (tmp_path / "r.json").read_text() == out
        assert [row["code"] for row in document["errors"]] == ["E4-no-change"] * (wanted == 4)


class Broken:
    """Stands in the place of the use case behind `doctor`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (KeyboardInterrupt(), 130, run_errors.INTERRUPTED),
        (click.Abort(), 130, run_errors.INTERRUPTED),
        (OSError(28, "No space left on device", "there"), 3, run_errors.SYSTEM),
        (RecursionError("too deep"), 3, run_errors.INTERNAL),
        (MemoryError(), 3, "E3-tool"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else None,
)
def test_ends_that_no_command_means(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, code: str
) -> None:
    monkeypatch.setattr("kgbuild.cli.doctor.diagnose", Broken(error))
    ended, out, err = run("doctor", "--format", "json", "--report", "r.json")
    assert ended == status
    (row,) = check_document(out, status)["errors"]
    assert row["code"] == code and row["fact"]
    assert Path("r.json").read_text() == out
    assert ("Traceback" in err) == (code == run_errors.INTERNAL)


def test_a_report_is_not_written_where_another_word_names_the_file(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A command line that can't be read has no outputs and inputs yet, and --report may name one of them."""
    assert run("build", "a.patch", "--report", "a.patch", "--bogus")[0] == 2
    assert (tmp_path / "a.patch").read_text() == PATCH
    for words in (["--proof", "new", "--report", "new"], ["-o", "new", "--report=new"], ["-onew", "--report", "./new"]):
        assert run("build", "a.patch", *words, "--bogus")[0] == 2
        assert not (tmp_path / "new").exists()
    assert run("build", "a.patch", "--report", "new", "--bogus")[0] == 2
    check_document((tmp_path / "new").read_text(), 2)


def test_a_file_of_somebody_else_is_no_place_for_an_error(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert run("build", "a.patch", "--report", "mine", "--force", "--bogus")[0] == 2
    assert (tmp_path / "mine").read_text() == "mine"


def commands() -> dict[str, click.Command]:
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in COMMANDS if name not in ("kernel", "cache", "toolchain")}
    found |= {f"kernel {name}": command for name, command in kernel_group.commands.items()}
    found |= {f"cache {name}": command for name, command in cache_group.commands.items()}
    found |= {f"toolchain {name}": command for name, command in toolchain_group.commands.items()}
    return {name: command for name, command in found.items() if command is not None}


def test_every_help_shows_the_exit_statuses() -> None:
    assert set(STATUSES) == set(commands())
    for name, command in commands().items():
        text = CliRunner().invoke(command, ["--help"], terminal_width=80).output
        shown = text.partition("Exit status:")[2]
        assert re.findall(r"^  (\d+) ", shown, re.MULTILINE) == [*map(str, STATUSES[name]), "130"], name
    for group in (main, kernel_group, cache_group, toolchain_group):
        assert "Exit status:" in CliRunner().invoke(group, ["--help"]).output


def test_codes_of_errors_are_in_the_registry() -> None:
    assert set(run_errors.RULES) <= set(RULES)
    assert {c.code for c in _subclasses()} <= set(run_errors.RULES)


def _subclasses() -> Iterator[type[Any]]:
    from kgbuild.errors import KgbuildError

    waiting = [KgbuildError]
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        yield one
