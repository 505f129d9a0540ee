# SPDX-License-Identifier: GPL-2.0-or-later
"""The check that every code is raised by a test, and tests of codes that have no other place."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from kgbuild.arch import arch_of
from kgbuild.diagnostics.refusals import RULES, Refusal, Refused
from kgbuild.elf.write import OutObject, OutSection
from kgbuild.emit.backends.old_interfaces import check_interface
from kgbuild.errors import NoChange
from kgbuild.host.compile.candidate_search import Selection
from kgbuild.host.modules import out_of_tree
from kgbuild.host.system.cache import Cache
from kgbuild.kernel.feature_probes import KLP_STATES
from kgbuild.model import UnitCommand
from kgbuild.pipeline.module_names import patch_module_name
from kgbuild.pipeline.stages import prepare
from kgbuild.pipeline.stages.events import Run, SilentObserver
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.values import KernelChosen, PatchesApplied
from tests.support.codes import TESTS, Recorder, expected_by_tables, is_whole, registry, untested


def codes(error: pytest.ExceptionInfo[Refused]) -> list[str]:
    return [r.code for r in error.value.refusals]


# -- the check ------------------------------------------------------------------------------------------------------


def test_only_what_kgbuild_itself_raises_is_noted() -> None:
    recorder = Recorder()
    with recorder.listening():
        with pytest.raises(Refused):
            patch_module_name(Path("no test runs.ko"))
        recorder.current = "unit/diagnostics/test_codes.py"
        Refusal("K1-data", "here", "made by the test")
        with pytest.raises(Refused):
            patch_module_name(Path("a b.ko"))
    assert recorder.record == {"K16-name": {"unit/diagnostics/test_codes.py"}}
    with pytest.raises(Refused):
        patch_module_name(Path("a b.ko"))
    assert len(recorder.record) == 1


def test_a_code_that_loses_its_test_is_told() -> None:
    """It must be raised for a file that names it, or be what a case for a real kernel expects."""
    here = "unit/diagnostics/test_codes.py"
    assert untested({"K16-name": [here]}, (), ["K16-name"]) == []
    assert untested({}, ["K16-name"], ["K16-name"]) == []
    assert untested({}, (), ["K16-name"]) == ["K16-name"]
    # raised on the way to something else, and looked at by nobody
    assert untested({"K16-name": ["tools/elf/test_elf_read.py"]}, (), ["K16-name"]) == ["K16-name"]
    # by the name of its constant
    assert untested({"W1-stack": ["objects/test_consistency.py"]}, (), ["W1-stack"]) == []


def test_what_is_known_before_any_test_runs() -> None:
    assert set(RULES) < set(registry()) and "W7-unknown" in registry()
    assert {"K10-weak", "K17-module-key"} <= expected_by_tables() <= set(registry())
    every = {
        str(p.relative_to(TESTS))
        for folder in ("unit", "tools", "objects")
        for p in (TESTS / folder).rglob("test_*.py")
    }
    assert is_whole(every) and not is_whole(every - {"unit/diagnostics/test_codes.py"})


CONFTEST = """
import sys
import tests.support.codes as codes
codes.is_whole = lambda files: True
codes.registry = lambda: ["K16-name", {more}]
codes.expected_by_tables = lambda: set()
from tests.conftest import *
import tests.conftest as own
from pathlib import Path
own.TESTS = codes.TESTS = Path(__file__).parent
"""
TEST = """
from pathlib import Path
import pytest
from kgbuild.arch import arch_of
from kgbuild.pipeline.module_names import patch_module_name
from kgbuild.elf.write import OutObject, OutSection
from kgbuild.emit.backends.old_interfaces import check_interface
from kgbuild.diagnostics.refusals import Refused

def test_it():
    with pytest.raises(Refused, match="K16-name"):
        patch_module_name(Path("a b.ko"))
"""


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [("", 0, []), ('"K15-pull"', 1, []), ("", 0, ["-n", "1", "--dist", "loadfile"])],
)
def test_a_run_of_all_tests_fails_where_a_code_has_none(
    tmp_path: Path, more: str, status: int, words: list[str]
) -> None:
    """In one process; and in a process of its own, whose codes come with it when it ends."""
    (tmp_path / "conftest.py").write_text(CONFTEST.replace("{more}", more))
    (tmp_path / "test_it.py").write_text(TEST)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(tmp_path)]
    done = subprocess.run(argv, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("no test raises K15-pull" in done.stdout) == bool(status)


# -- codes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b.ko", "livepatch-ä.ko", f"{'x' * 56}.ko", ".ko"])
def test_names_that_no_module_can_have(name: str) -> None:
    with pytest.raises(Refused) as error:
        patch_module_name(Path(name))
    assert codes(error) == ["K16-name"]
    assert patch_module_name(Path(f"{'x-' * 27}x.ko")) == "x_" * 27 + "x"


def image(magic: str, build_id: str) -> types.SimpleNamespace:
    return types.SimpleNamespace(modinfo={"vermagic": magic}, build_id=build_id, depends=())


def test_modules_that_can_not_be_those_that_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_tree, "kernel_vermagic", lambda kernel: "6.1 SMP ")
    paths = {name: Path(f"{name}.ko") for name in ("other", "nameless", "right", "strange")}
    images = {"other": image("6.2 SMP", "ab"), "nameless": image("6.1 SMP", ""), "right": image("6.1 SMP", "ab")}
    with pytest.raises(Refused) as error:
        out_of_tree._check_images(None, images, paths)  # type: ignore[arg-type]
    assert [(r.code, r.symbol) for r in error.value.refusals] == [
        ("K19-module-identity", "nameless"),
        ("P16-oot-module", "other"),
    ]
    with pytest.raises(Refused) as error:
        out_of_tree._check_made(
            Path("source"), paths, {"right": images["right"], "strange": images["right"]}, {"right"}
        )  # type: ignore[dict-item]
    assert [(r.code, r.symbol) for r in error.value.refusals] == [("P16-oot-module", "strange")]


def test_a_unit_of_a_module_that_is_not_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unit = UnitCommand("d/u.c", "d/u.o", "d/u", "there:gone", True, ("cc",), ())
    monkeypatch.setattr(prepare, "choose_units", lambda *args, **kwargs: Selection({}))
    monkeypatch.setattr(prepare, "read_units", lambda *args: {"d/u.c": [unit]})
    running = types.SimpleNamespace(oot_modules={}, modules=types.SimpleNamespace(paths={"there": tmp_path}))
    chosen = KernelChosen(running, "a kernel")  # type: ignore[arg-type]
    applied = PatchesApplied(types.SimpleNamespace(refusals=()), {}, ())  # type: ignore[arg-type]
    run = Run(Options(), Cache(tmp_path), SilentObserver())
    with pytest.raises(Refused) as error:
        prepare.prepare(chosen, applied, None, run)  # type: ignore[arg-type]
    assert codes(error) == ["P8-module"]
    assert "part of the module gone" in str(error.value)
    monkeypatch.setattr(prepare, "read_units", lambda *args: {})
    with pytest.raises(NoChange):
        prepare.prepare(chosen, applied, None, run)  # type: ignore[arg-type]


def test_a_patch_with_states_on_a_kernel_without() -> None:
    obj = OutObject(62, [OutSection(".rodata.kgbuild_states", data=bytearray(16))])
    assert [r.code for r in check_interface(obj, arch_of(62), frozenset())] == ["B3-interface"]
    assert check_interface(obj, arch_of(62), frozenset({KLP_STATES})) == []
