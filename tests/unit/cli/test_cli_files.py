# SPDX-License-Identifier: GPL-2.0-or-later
"""No file of the user's is lost: which files a command may write, how it writes them, and what "-" means."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kgbuild.cli import main as entry
from kgbuild.elf.read import read
from kgbuild.errors import UserError
from kgbuild.host.system import output_files, output_kinds
from kgbuild.host.system.output_files import STDOUT, Input, OutputRefused, PlannedOutput, check_outputs, write_file
from kgbuild.limits import PATCH_BYTES
from kgbuild.report.formats import Answer, render
from kgbuild.report.formats.dot import render_drawing
from kgbuild.report.formats.drawing import Drawing, DrawnNode
from tests.support.command import run_on
from tests.support.toolchain import compile_pair_side, compile_text

PATCH = "--- a/fs/proc/version.c\n+++ b/fs/proc/version.c\n@@ -1 +1 @@\n-a\n+b\n"
MINE = b"of the user's\n"
REPORT = b'{\n "schema": "kgbuild/build/1",\n "patches": []\n}\n'
PROOF = b'{\n "schema": "kgbuild/proof/1",\n "digest": ""\n}\n'
Ran = tuple[int, str, str]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ran]]:
    """Runs `kgbuild` in this process, as its entry point does, in a folder with a.o and b.o (a function is changed) and
    an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, flags in (("a.o", ()), ("b.o", ("-DPATCHED",))):
        (tmp_path / name).write_bytes(compile_pair_side("static_locals_declared", "-g", *flags))
    (tmp_path / "a.patch").write_text(PATCH)
    (tmp_path / "mine").write_bytes(MINE)

    def runs(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["kgbuild", *words])
        with pytest.raises(SystemExit) as ended:
            entry.run()
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield runs


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


DIFF, BUILD = ("diff", "a.o", "b.o"), ("build", "a.patch", "--kernel", "local:x")
REFUSED = [
    (*DIFF, "-o", "a.o"),
    (*DIFF, "-o", "./b.o"),
    (*DIFF, "--report", "a.o", "--force"),
    (*DIFF, "--json", "b.o"),
    (*DIFF, "--symvers", "mine", "--report", "mine", "--force"),
    (*DIFF, "--parent-symtab", "mine", "-o", "mine", "--force"),
    (*DIFF, "-o", "new", "--report", "new"),
    (*DIFF, "-o", "new", "--json", "x/../new"),
    (*DIFF, "-o", "-", "--json", "-"),
    (*DIFF, "-o", "-", "--report", "/dev/stdout"),
    (*DIFF, "-o", "mine"),
    (*DIFF, "--report", "mine"),
    (*BUILD, "-o", "a.patch"),
    (*BUILD, "--report", "a.patch", "--force"),
    (*BUILD, "--report", "hard"),
    (*BUILD, "--proof", "soft"),
    (*BUILD, "-o", "x.ko", "--proof", "x.ko", "--report", "x.ko"),
    (*BUILD, "-o", "soft-new", "--report", "new"),
    (*BUILD, "--against", "mine", "--report", "mine", "--force"),
    (*BUILD, "--on-top-of", "mine", "-o", "mine", "--force"),
    (*BUILD, "--oot-module", "mine", "--proof", "mine", "--force"),
    (*BUILD, "--oot", "tree", "--report", "tree/Kbuild", "--force"),
    (*BUILD, "--emit-module", "tree"),
    (*BUILD, "--emit-module", "tree", "--oot", "tree", "--force"),
    (*BUILD, "--emit-module", "empty", "-o", "empty/x.ko"),
    (*BUILD, "--emit-module", "empty", "--keep", "empty"),
    (*BUILD, "--keep", "kept"),
    (*BUILD, "-o", "cache/kgbuild/x"),
    ("build", "tree/Kbuild", "--kernel", "local:x", "--emit-module", "tree", "--force"),
    ("build", "a.patch", "--kernel", "local:x"),  # livepatch-a.ko is there
    ("impact", "a.patch", "--kernel", "local:x", "--format", "dot", "-o", "a.patch", "--force"),
    ("impact", "a.patch", "--kernel", "local:x", "--format", "json", "-o", "mine"),
    ("impact", "a.patch", "--kernel", "local:x", "--no-compile", "--report", "a.patch"),
    ("why", "f", "a.patch", "--kernel", "local:x", "--report", "a.patch"),
    ("remedy", "a.patch", "--kernel", "local:x", "--code", "K1-data", "-o", "a.patch"),
    ("remedy", "a.patch", "--kernel", "local:x", "--code", "K1-data", "-o", "mine"),
    ("remedy", "a.patch", "--kernel", "local:x", "--code", "K1-data", "--report", "-"),
    ("graph", "--callers", "f", "--kernel", "local:x", "-o", "mine"),
    ("graph", "--callers", "f", "--kernel", "local:x", "-o", "new", "--report", "new"),
    ("facts", "f", "--kernel", "local:x", "-o", "mine"),
    ("verify", "mine", "--kernel", "local:x", "--report", "mine", "--force"),
    ("verify", "a.o", "--kernel", "local:x", "--proof", "mine", "--report", "mine", "--force"),
    ("vm", "mine", "--kernel", "local:x", "--keep-log", "mine", "--force"),
    ("vm", "a.o", "--kernel", "local:x", "--keep-log", "mine"),
    ("vm", "a.o", "--kernel", "local:x", "--keep-log", "new", "--report", "new"),
    ("doctor", "--report", "mine"),
    ("kernel", "list", "--report", "mine"),
    ("kernel", "remove", "local:x", "--report", "mine"),
    (
        *("kernel", "add", "x", "--source", "tree", "--config", "mine", "--vmlinux", "a.o", "--image", "a.o"),
        *("--symvers", "a.o", "--report", "mine", "--force"),
    ),
]


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_refused_before_anything_starts(run: Callable[..., Ran], tmp_path: Path, words: tuple[str, ...]) -> None:
    for folder in ("tree", "empty", "kept/2-link", "cache/kgbuild"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("tree/Kbuild", "kept/2-link/mine", "livepatch-a.ko", "cache/kgbuild/x"):
        (tmp_path / name).write_bytes(MINE)
    os.link(tmp_path / "a.patch", tmp_path / "hard")
    (tmp_path / "soft").symlink_to("a.patch")
    (tmp_path / "soft-new").symlink_to("new")
    before = contents(tmp_path)
    status, _, err = run(*words)
    assert status == 2, err
    assert "Traceback" not in err
    assert contents(tmp_path) == before


def kinds() -> dict[str, tuple[output_kinds.OutputKind, bytes]]:
    drawing = "\n".join(render_drawing(Drawing("calls", (), (DrawnNode("n1", {"label": "f"}),)))).encode()
    return {
        "report": (output_kinds.REPORT, REPORT),
        "old report": (output_kinds.REPORT, b'{"schema_version": 1, "tool": {"name": "kgbuild", "version": "0"}}'),
        "old why": (output_kinds.REPORT, b'{"schema": "kgbuild-why", "schema_version": 1}'),
        "proof": (output_kinds.PROOF, PROOF),
        "old proof": (output_kinds.PROOF, b'{"tool": "kgbuild 0.1", "schema": "kgbuild-proof"}'),
        "dot": (output_kinds.ANSWER, drawing),
        "graphml": (output_kinds.ANSWER, b'<graphml xmlns="x">\n  <!-- made by kgbuild -->\n</graphml>'),
        "markdown": (output_kinds.ANSWER, b"### kgbuild impact: can be patched\n"),
        "mermaid": (output_kinds.ANSWER, b"flowchart LR\n  %% made by kgbuild\n"),
        "junit": (output_kinds.ANSWER, b'<?xml version="1.0"?>\n<testsuites name="kgbuild impact" tests="1">'),
        "github": (output_kinds.ANSWER, b"::error file=a.c,line=1,title=kgbuild K1-data::x\n"),
        "sarif": (output_kinds.ANSWER, render(Answer(lambda: {"schema": "kgbuild/impact/1"}), "sarif").encode()),
        "page": (output_kinds.PAGE, b'<!DOCTYPE html>\n<meta name="generator" content="kgbuild">\n'),
        "tree": (output_kinds.ANSWER, b"f  a.c  called by 3 functions\n"),
        "patch": (output_kinds.PATCH, b"Made from a.patch by kgbuild remedy --code K1-data.\n\n" + PATCH.encode()),
        "log": (output_kinds.LOG, b"[0] Linux version 6\n[0] Command line: panic=-1 loglevel=7 printk.devkmsg=on\n"),
    }


@pytest.mark.parametrize("name", sorted(kinds()))
def test_an_earlier_output_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    kind, data = kinds()[name]
    file = tmp_path / "file"
    file.write_bytes(data)
    check_outputs([PlannedOutput("-o", file, kind)], [], force=False)
    for other, what in kinds().values():
        # an answer may be JSON, as a report is
        if other is not kind and {kind, other} != {output_kinds.REPORT, output_kinds.ANSWER}:
            file.write_bytes(what)
            with pytest.raises(OutputRefused):
                check_outputs([PlannedOutput("-o", file, kind)], [], force=False)


MODULE = '__attribute__((section(".note.kgbuild"), used)) static int note; int f(void) { return 1; }'
STRANGERS = {
    "text": MINE,
    "json": b'{"a": 1}',
    "list": b"[1]",
    "a word in it": b'{"about": "kgbuild", "schema": "kgbuild"}',
    "patch": PATCH.encode(),
    "a patch of what says kgbuild remedy": PATCH.encode() + b"+by kgbuild remedy\n",
    "nothing but a head": b"\x7fELF",
    "binary": bytes(range(256)) * 8,
    "digraph": b"digraph calls {\n  a -> b;\n}\n",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", sorted(STRANGERS))
def test_a_file_of_another_is_none(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(STRANGERS[name])
    for kind in vars(output_kinds).values():
        if isinstance(kind, output_kinds.OutputKind):
            with pytest.raises(OutputRefused, match="is there already"):
                check_outputs([PlannedOutput("-o", file, kind)], [], force=False)
            check_outputs([PlannedOutput("-o", file, kind)], [], force=True)


def test_modules_and_objects_are_known(tmp_path: Path, run: Callable[..., Ran]) -> None:
    (tmp_path / "module.ko").write_bytes(compile_text(MODULE))
    check_outputs([PlannedOutput("-o", tmp_path / "module.ko", output_kinds.MODULE)], [], force=False)
    for name, kind in (("a.o", output_kinds.MODULE), ("a.o", output_kinds.OBJECT), ("module.ko", output_kinds.OBJECT)):
        with pytest.raises(OutputRefused):
            check_outputs([PlannedOutput("-o", tmp_path / name, kind)], [], force=False)
    assert run(*DIFF, "-o", "out.o")[0] == 0
    first = (tmp_path / "out.o").read_bytes()
    assert [s.name for s in read(first).sections].count(".comment") == 1
    assert run(*DIFF, "-o", "out.o")[0] == 0
    assert (tmp_path / "out.o").read_bytes() == first
    assert run(*DIFF, "-o", "module.ko")[0] == 2


def test_outputs_written_again(run: Callable[..., Ran], tmp_path: Path) -> None:
    for _ in range(2):
        assert run(*DIFF, "--report", "r.json", "--json", "j.json")[0] == 0
    assert (tmp_path / "r.json").read_bytes() == (tmp_path / "j.json").read_bytes()
    assert run(*DIFF, "--report", "mine")[0] == 2
    assert run(*DIFF, "--report", "mine", "--force")[0] == 0
    assert json.loads((tmp_path / "mine").read_text())["schema"] == "kgbuild/diff/1"
    (tmp_path / "empty").touch()
    assert run(*DIFF, "--report", "empty")[0] == 0


def test_mode_and_owner_stay(run: Callable[..., Ran], tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    assert run(*DIFF, "--report", "r.json")[0] == 0
    for mode in (0o600, 0o664, 0o444 | stat.S_IWUSR):
        report.chmod(mode)
        if os.geteuid() == 0:
            os.chown(report, 65534, 65533)
        before = report.stat()
        assert run(*DIFF, "--report", "r.json")[0] == 0
        after = report.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert after.st_ino != before.st_ino  # whole or not at all


def test_a_file_that_can_only_be_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "r.json"
    file.write_bytes(REPORT * 2)

    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(output_files, "_replace", forbidden)
    write_file(file, REPORT)
    assert file.read_bytes() == REPORT
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_link_that_leads_nowhere_yet_is_written_through(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    assert run(*DIFF, "--report", "link")[0] == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").is_file()
    (tmp_path / "circle").symlink_to("circle")
    status, _, err = run(*DIFF, "--report", "circle")
    assert status == 2 and "Traceback" not in err


def test_two_outputs_are_one_file_also_where_it_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(".")
    (tmp_path / "link").symlink_to("folder/new")
    for first, second in (("new", "folder/new"), ("link", "new"), ("folder/folder/new", "link")):
        outputs = [PlannedOutput(f"-{n}", tmp_path / n, output_kinds.REPORT) for n in (first, second)]
        with pytest.raises(OutputRefused, match="is the same file as"):
            check_outputs(outputs, [], force=True)
    with pytest.raises(OutputRefused, match="is an input"):
        check_outputs(
            [PlannedOutput("-o", tmp_path / "link", output_kinds.REPORT)], [Input("x", tmp_path / "new")], force=True
        )


def test_all_faults_are_said_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(MINE)
    wanted = [
        PlannedOutput("-o", tmp_path / "a", output_kinds.MODULE),
        PlannedOutput("--report", tmp_path / "a", output_kinds.REPORT),
    ]
    with pytest.raises(OutputRefused) as caught:
        check_outputs(wanted, [], force=False)
    assert [fault.place.split()[0] for fault in caught.value.faults] == ["-o", "--report"]
    assert all(fault.remedy for fault in caught.value.faults)


def test_devices(tmp_path: Path) -> None:
    null = [PlannedOutput(option, Path("/dev/null"), output_kinds.REPORT) for option in ("-o", "--report")]
    check_outputs(null, [], force=False)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_outputs([PlannedOutput("-o", pipe, output_kinds.REPORT)], [], force=False)
    with pytest.raises(OutputRefused, match="same file"):
        check_outputs([PlannedOutput(name, pipe, output_kinds.REPORT) for name in ("-o", "--report")], [], force=True)
    with pytest.raises(OutputRefused, match="is a device"):
        check_outputs([PlannedOutput("-o", Path("/dev/urandom"), output_kinds.REPORT)], [], force=True)
    with pytest.raises(OutputRefused, match="is an input"):
        check_outputs([PlannedOutput("-o", pipe, output_kinds.REPORT)], [Input("PATCH", pipe)], force=True)


# "-"


def test_dash_is_standard_output(run: Callable[..., Ran], tmp_path: Path) -> None:
    status, out, err = run(*DIFF, "--report", "-")
    assert status == 0 and json.loads(out)["schema"] == "kgbuild/diff/1"
    assert re.search(r"^change ", err, re.MULTILINE)
    assert run(*DIFF, "--json", "-")[1] == out == run(*DIFF, "--report", "/dev/stdout")[1]
    assert not (tmp_path / "-").exists()
    assert run(*DIFF, "--report", "./-")[0] == 0
    assert (tmp_path / "-").read_text() == out


def in_a_process(*words: str, cwd: Path, stdin: bytes | None = None, out: Path | None = None) -> tuple[int, bytes, str]:
    env = {**os.environ, "XDG_CACHE_HOME": str(cwd / "cache")}
    with ExitStack() as stack:
        given, printed, said = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin or b"")
        given.seek(0)
        stream = stack.enter_context(out.open("ab")) if out is not None else printed
        status, _ = run_on(words, (given.fileno(), stream.fileno(), said.fileno()), cwd, env)
        printed.seek(0)
        said.seek(0)
        return status, printed.read(), said.read().decode()


def test_an_object_on_standard_output(run: Callable[..., Ran], tmp_path: Path) -> None:
    assert run(*DIFF, "-o", "out.o")[0] == 0
    status, out, err = in_a_process(*DIFF, "-o", "-", cwd=tmp_path)
    assert (status, out) == (0, (tmp_path / "out.o").read_bytes())
    assert "change" in err


def test_standard_output_that_is_a_file_of_the_run(run: Callable[..., Ran], tmp_path: Path) -> None:
    del run
    for words in (("-o", "x.o"), ("--report", "x.o")):
        status, _, err = in_a_process(*DIFF, *words, cwd=tmp_path, out=tmp_path / "x.o")
        assert status == 2 and "standard output" in err
    before = (tmp_path / "a.o").read_bytes()
    status, _, err = in_a_process(*DIFF, cwd=tmp_path, out=tmp_path / "a.o")
    assert status == 2 and "standard output" in err
    assert (tmp_path / "a.o").read_bytes() == before
    status, _, _ = in_a_process(*DIFF, "-o", "/dev/stdout", cwd=tmp_path, out=tmp_path / "y.o")
    assert status == 0 and read((tmp_path / "y.o").read_bytes()).sections


@pytest.mark.parametrize("dash", ["-", "/dev/stdin"])
@pytest.mark.parametrize(
    "command",
    [("build",), ("impact",), ("impact", "--no-compile"), ("why", "f"), ("remedy", "--code", "K1-data")],
    ids=" ".join,
)
def test_a_patch_on_standard_input(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], dash: str
) -> None:
    words = (*command, dash, "--kernel", "debian:newest-6.1-cloud", "--offline")
    for text, fact in ((PATCH, "--offline downloads nothing"), ("", "is empty"), ("no patch", "")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        status, _, err = run(*words)
        # the patch is read first: one that is none is said before the kernel is looked for
        assert status == (3 if text == PATCH else 2) and fact in err, err


def test_standard_input_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Ran]) -> None:
    words = ("build", "-", "--kernel", "local:x")
    monkeypatch.setattr(sys, "stdin", None)
    status, _, err = run(*words)
    assert status == 2 and "standard input is closed" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 100)))
    with pytest.raises(UserError, match="99"):
        output_files.read_standard_input(PATCH_BYTES._replace(most=99))


def test_standard_output_that_is_closed(tmp_path: Path, run: Callable[..., Ran]) -> None:
    del run
    shell = shutil.which("sh")
    assert shell is not None
    for words, status in (("--format json", 3), ("--report r.json", 0)):
        command = f"exec {sys.executable} -m kgbuild.cli.main {' '.join(DIFF)} {words} >&-"
        done = subprocess.run(
            [shell, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == status, done.stderr
        assert ("standard output is closed" in done.stderr) == (status == 3)
    assert json.loads((tmp_path / "r.json").read_text())["exit_status"] == 0


def test_default_module_is_checked_too(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "livepatch-a.ko").write_bytes(MINE)
    status, _, err = run(*BUILD)
    assert status == 2 and "livepatch-a.ko: is there already" in err
    assert run(*BUILD, "--force")[0] == 2  # for the kernel, which is not known
    assert (tmp_path / "livepatch-a.ko").read_bytes() == MINE


def test_standard_output_is_known_by_its_names() -> None:
    assert output_files.is_standard_output(STDOUT)
    assert not output_files.is_standard_output(Path("/dev/null"))
    assert not output_files.is_standard_output(Path(__file__))
