# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild doctor`, on machines that are tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from kgbuild.cli import doctor as command
from kgbuild.errors import ToolError
from kgbuild.host.archives.apt_suites import AptSuites
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.required_packages import PACKAGE_OF
from kgbuild.pipeline import doctor
from kgbuild.pipeline.doctor import MISSING, NEEDED, OK, OPTIONAL, OPTIONAL_MISSING, Check, Diagnosis


def test_every_program_has_a_package() -> None:
    assert not [program for program in (*NEEDED, *OPTIONAL) if program not in PACKAGE_OF]


def test_bare_machine() -> None:
    states = {check.name: check.state for check in doctor.check_programs(lambda name: None)}
    assert {states[name] for name in NEEDED} == {MISSING}
    assert {states[name] for name in OPTIONAL} == {OPTIONAL_MISSING}


def test_full_machine() -> None:
    assert {check.state for check in doctor.check_programs(lambda name: f"/bin/{name}")} == {OK}


@pytest.mark.parametrize(("version", "state"), [((3, 11, 0), OK), ((3, 13, 1), OK), ((3, 9, 2), MISSING)])
def test_python(version: tuple[int, ...], state: str) -> None:
    assert doctor.check_python(version).state == state


def test_libraries(tmp_path: Path) -> None:
    libraries = {"/usr/include/a.h": ("liba-dev", "x"), "/usr/include/b.h": ("libb-dev", "x")}
    (tmp_path / "usr/include").mkdir(parents=True)
    (tmp_path / "usr/include/a.h").touch()
    states = {check.name: check.state for check in doctor.check_libraries(libraries, tmp_path)}
    assert states == {"liba-dev": OK, "libb-dev": OPTIONAL_MISSING}


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "not" / "yet" / "there")
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check = doctor.check_disk(cache)
    assert check.state == MISSING
    assert "1.0 GB" in check.detail
    assert "XDG_CACHE_HOME" in check.detail
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**12))
    assert doctor.check_disk(cache).state == OK


@pytest.mark.parametrize(
    ("free", "kernels", "state"),
    [
        (4_900_000_000, 0, MISSING),
        (4_900_000_000, 1, OPTIONAL_MISSING),
        (500_000_000, 1, OPTIONAL_MISSING),
        (499_000_000, 1, MISSING),
        (5_000_000_000, 0, OK),
    ],
)
def test_a_full_disk_stops_only_who_must_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, kernels: int, state: str
) -> None:
    cache = Cache(tmp_path / "cache")
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(Cache, "kernels", lambda self: [object()] * kernels)
    check = doctor.check_disk(cache)
    assert check.state == state
    assert ("cache prune" in check.detail) == (state != OK and kernels > 0)


def test_an_archive_that_can_not_be_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(self: AptSuites) -> str:
        raise ToolError("no mirror", place="apt")

    monkeypatch.setattr(AptSuites, "check", fail)
    check = doctor.check_archive(Cache(tmp_path))
    assert check.state == MISSING and "no mirror" in check.detail
    assert doctor.fix_command([check], root=True) == "apt-get update"


def test_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ToolError("can't make a sandbox here: x", place="bwrap", remedy="say --no-sandbox")

    monkeypatch.setattr(doctor.sandbox, "check_sandbox", fail)
    check = doctor.check_sandbox()
    assert check.state == MISSING and "--no-sandbox" in check.detail


def test_one_command_installs_everything() -> None:
    checks = [
        Check("a", OK, "", "pkg-a"),
        Check("b", MISSING, "", "pkg-b"),
        Check("c", OPTIONAL_MISSING, "", "pkg-c"),
        Check("d", MISSING, "", "pkg-b"),
        Check("kvm", OPTIONAL_MISSING, "none"),
    ]
    assert doctor.fix_command(checks, root=True) == "apt-get update && apt-get install -y pkg-b pkg-c"
    assert doctor.fix_command(checks, root=False).startswith("sudo apt-get update && sudo apt-get install")
    assert doctor.fix_command([checks[0], checks[4]], root=True) == ""


@pytest.mark.parametrize(("works", "state"), [(True, OK), (False, OPTIONAL_MISSING)])
def test_kvm(monkeypatch: pytest.MonkeyPatch, works: bool, state: str) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: True)
    assert doctor.check_kvm(lambda: works).state == state


def test_no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert "there is no /dev/kvm" in doctor.check_kvm(lambda: True).detail


def test_kvm_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert "may not be used" in doctor.check_kvm(lambda: True).detail


def test_busybox_with_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arch: object) -> None:
        raise ToolError("is linked to shared libraries")

    monkeypatch.setattr(doctor, "find_busybox", fail)
    check = doctor.check_busybox()
    assert (check.state, check.package) == (MISSING, "busybox-static")


@pytest.mark.parametrize(("state", "status"), [(OK, 0), (OPTIONAL_MISSING, 0), (MISSING, 3)])
def test_command(monkeypatch: pytest.MonkeyPatch, state: str, status: int) -> None:
    diagnosis = Diagnosis((Check("make", state, "not found", "make"),), "apt-get install -y make")
    monkeypatch.setattr(command, "diagnose", lambda: diagnosis)
    text = CliRunner().invoke(command.doctor, [])
    assert text.exit_code == status
    assert "to fix    apt-get install -y make" in text.output
    record = json.loads(CliRunner().invoke(command.doctor, ["--format", "json"]).output)
    assert record["healthy"] is (status == 0)
    assert record["checks"] == [{"name": "make", "state": state, "detail": "not found", "package": "make"}]
