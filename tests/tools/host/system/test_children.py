# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that kgbuild runs: what reaches them, what they may take, and that nothing of them stays."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kgbuild.errors import ToolError
from kgbuild.host.system import run as run_module
from kgbuild.host.system.children import COMPILE_LIMITS, child_environment, limit_that_stopped
from kgbuild.host.system.run import run
from kgbuild.limits import MIB, Limit
from tests.support.sources import nodes_of, text_of
from tests.support.toolchain import CC

ROOT = Path(__file__).resolve().parents[4]
PACKAGE = ROOT / "kgbuild"
# Variables by which gcc, its parts, make, tar and apt do something else, or write or read somewhere else.
HARMFUL = (
    *("GCC_EXEC_PREFIX", "COMPILER_PATH", "LIBRARY_PATH", "CPATH", "C_INCLUDE_PATH", "DEPENDENCIES_OUTPUT"),
    *("SUNPRO_DEPENDENCIES", "GCC_COMPARE_DEBUG", "GCC_COLORS", "SOURCE_DATE_EPOCH", "TMPDIR", "LANG", "LC_MESSAGES"),
    *("MAKEFLAGS", "CFLAGS", "KCFLAGS", "TAR_OPTIONS", "XZ_OPT", "GZIP", "LD_PRELOAD", "COLLECT_GCC_OPTIONS"),
    *("GCC_EXTRA_DIAGNOSTIC_OUTPUT", "LD_RUN_PATH", "LDEMULATION", "AS", "ARCH", "BASH_ENV", "ENV", "POSIXLY_CORRECT"),
)


def test_only_what_is_on_the_list_reaches_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HARMFUL:
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("http_proxy", "http://proxy")
    seen = dict(line.split("=", 1) for line in run(["env"]).stdout.splitlines())
    assert set(seen) <= {"PATH", "HOME", "USER", "LOGNAME", "LD_LIBRARY_PATH", "LC_ALL", "LANG"}
    assert (seen["LANG"], seen["LC_ALL"], seen["PATH"]) == ("C", "C", os.environ["PATH"])
    assert child_environment(network=True)["http_proxy"] == "http://proxy"


def test_variables_of_gcc_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.c").write_text("int x;\n")
    written = tmp_path / "written"
    for name in ("DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES"):
        monkeypatch.setenv(name, str(written))
    monkeypatch.setenv("GCC_EXEC_PREFIX", "/nowhere/")
    run([CC, "-c", "x.c"], cwd=tmp_path)
    assert (tmp_path / "x.o").exists() and not written.exists()


def test_every_program_is_given_an_environment() -> None:
    """A program that is started without one has the user's."""
    found, without = 0, []
    for path in PACKAGE.rglob("*.py"):
        for node in nodes_of(path) if "subprocess" in text_of(path) else ():
            called = node.func if isinstance(node, ast.Call) else None
            if not isinstance(called, ast.Attribute) or not isinstance(called.value, ast.Name):
                continue
            if called.value.id == "subprocess" and called.attr in ("Popen", "run", "call", "check_output"):
                found += 1
                if "env" not in {keyword.arg for keyword in node.keywords}:  # type: ignore[union-attr]
                    without.append(f"{path.relative_to(PACKAGE)}:{called.lineno}")
    assert found >= 6 and not without


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    said = run(["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]).stdout
    assert gone(int(said))


def test_a_program_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"did not end within 1 s"):
        run(["sh", "-c", f"sleep 600 & echo $! >{tmp_path}/pid; wait"], timeout=1)
    assert gone(int((tmp_path / "pid").read_text()))


PARENT = """
import signal
import sys
from kgbuild.host.system.children import stop_with_children
from kgbuild.host.system.run import run
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a parent that was started by nohup ignores it
stop_with_children()
try:
    run(["sh", "-c", "sleep 600 & echo $! >pid.part; sleep 1; mv pid.part pid; wait"])
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_programs_die_with_kgbuild(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    while not (tmp_path / "pid").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() == (-number if number == signal.SIGKILL else 130)
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid: int) -> bool:
    """Whether a process ends soon; who takes its place as a parent may need a while to take leave of it."""
    for _ in range(3000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


SMALL = COMPILE_LIMITS._replace(
    seconds=Limit("few-seconds", 1, "seconds", ""),
    wait=Limit("short-wait", 2, "seconds", ""),
    memory=Limit("little-memory", 300 * MIB, "bytes", ""),
    output=Limit("little-output", MIB, "bytes", ""),
)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ('asm(".skip 20000000");\n', "little-output"),
        ("char x[30000000] = { 1 };\n", "little-output"),
        (
            "\n".join(f"#define x{i + 1} x{i} x{i}" for i in range(40)) + "\nint x0;\nx40\n",
            "little-memory few-seconds short-wait",
        ),
        ("#if __INCLUDE_LEVEL__ < 190\n#include __FILE__\n#include __FILE__\n#endif\n", "few-seconds short-wait"),
        ('asm(".rept 100000000\\n.long 1\\n.endr");\n', "little-output little-memory few-seconds short-wait"),
        ('#include "pipe"\n', "short-wait"),
        ('asm(".include \\"pipe\\"");\n', "short-wait"),
        ('#include "/dev/zero"\n', "little-memory few-seconds short-wait"),
    ],
)
def test_a_compile_that_would_not_end_is_stopped_by_a_limit(text: str, limit: str, tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text(text)
    os.mkfifo(tmp_path / "pipe")
    done = run([CC, "-pipe", "-c", "x.c"], cwd=tmp_path, check=False, limits=SMALL)
    if "/dev/zero" in text and done.stopped_by is None:
        assert "/dev/zero is" in done.stderr  # gcc knows that it is a device
        return
    assert done.status and done.stopped_by is not None and done.stopped_by.name in limit.split(), done.stderr[-500:]
    assert not (tmp_path / "x.o").exists() or (tmp_path / "x.o").stat().st_size <= MIB


def test_a_program_that_says_too_much_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MESSAGE_BYTES", Limit("few-words", 1000, "bytes", ""))
    with pytest.raises(ToolError, match=r"printed too much \(the limit few-words is 1,000 bytes\)"):
        run(["yes"])
    done = run(["yes"], limits=COMPILE_LIMITS, check=False)
    assert done.stopped_by is not None and done.stopped_by.name == "few-words"


def test_an_ordinary_failure_is_no_limit() -> None:
    done = run(["sh", "-c", "echo x.c: error >&2; exit 1"], check=False, limits=COMPILE_LIMITS)
    assert (done.status, done.stderr, done.stopped_by) == (1, "x.c: error\n", None)
    assert limit_that_stopped(COMPILE_LIMITS, 0, "out of memory") is None
    assert limit_that_stopped(COMPILE_LIMITS, -signal.SIGXCPU, "") is COMPILE_LIMITS.seconds
    assert limit_that_stopped(COMPILE_LIMITS, 1, "as: x.o: File too large") is COMPILE_LIMITS.output


def test_text_goes_in_and_comes_out_whole() -> None:
    text = "line\n" * 300_000
    assert run(["cat"], stdin=text).stdout == text
    assert run(["true"], stdin=text).stdout == ""
    assert run(["sh", "-c", "printf 'a\\r\\nb\\377'"]).stdout == "a\nb\ufffd"
    with pytest.raises(ToolError, match="not found on this machine"):
        run(["no-such-program"], limits=COMPILE_LIMITS)
    with pytest.raises(ToolError, match="is gone"):
        run(["true"], cwd=Path("/no/such/directory"))
