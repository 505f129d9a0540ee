# SPDX-License-Identifier: GPL-2.0-or-later
"""RPMs on a system of their own: dnf installs, upgrades, downgrades and removes them in a root with busybox, from a
repository that kgbuild made. The scriptlets run there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from kgbuild.cli.main import main
from kgbuild.delivery.package_texts import STORE
from kgbuild.pipeline.delivery.package import pack, read_module_to_pack
from tests.support.live_kernel import RELEASE, module_bytes

NAME = f"livepatch-{RELEASE}"
# what a distribution brings: names alone
BASE = f"""\
Name: base
Version: 1
Release: 1
Summary: what a system has
License: none
BuildArch: noarch
Provides: /bin/sh, kmod, systemd, kernel-uname-r = {RELEASE}
AutoReqProv: no
%description
What a system has.
%files
"""
APPLETS = [
    *("sh", "cat", "date", "grep", "head", "id", "ln", "ls", "mkdir", "mv", "od", "rm", "sed", "sha256sum", "sleep"),
    *("sort", "sync", "tail", "tr", "true", "uname", "wc"),
]


class System:
    def __init__(self, folder: Path) -> None:
        self.root, self.dist = folder / "root", folder / "dist"
        self.state = self.root / "var/lib/livepatch" / RELEASE
        self.cache = folder / "cache"
        (self.root / "bin").mkdir(parents=True)
        self.dist.mkdir()
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, self.root / "bin/busybox")
        for applet in APPLETS:
            (self.root / "bin" / applet).symlink_to("busybox")
        (self.root / "dev").mkdir()
        (self.root / "dev/null").touch()  # no device needs to be made for what is thrown away
        (folder / "base.spec").write_text(BASE)
        words = ["--define", f"_topdir {folder}/build", folder / "base.spec"]
        subprocess.run(["rpmbuild", "-bb", "--quiet", *words], check=True, capture_output=True)
        for rpm in (folder / "build/RPMS").rglob("*.rpm"):
            shutil.copy(rpm, self.dist)
        for number in (2, 10):
            path = folder / f"livepatch-{number}.ko"
            path.write_bytes(module_bytes(f"livepatch_{number}"))
            for one in pack([read_module_to_pack(path, None, ["CVE-2026-12345"])], deb=False, rpm=True):
                (self.dist / one.name).write_bytes(one.data)
        ran = CliRunner().invoke(main, ["repo", str(self.dist)])
        assert ran.exit_code == 0, ran.output

    def _run(self, *words: str) -> str:
        # root of a namespace of its own, where the test is run by another user
        own = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
        ran = subprocess.run([*own, *words], capture_output=True, text=True, check=False, timeout=300)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def dnf(self, *words: str) -> str:
        settings = [f"--setopt={s}" for s in (f"cachedir={self.cache}", "gpgcheck=0", "install_weak_deps=0")]
        repository = [f"--repofrompath=lp,file://{self.dist}", "--repo=lp", "--releasever=9"]
        return self._run("dnf", "-y", f"--installroot={self.root}", *repository, *settings, *words)

    @property
    def scriptlets(self) -> str:
        """What they printed."""
        return (self.root / "var/log/dnf.rpm.log").read_text()

    @property
    def installed(self) -> list[str]:
        return sorted(path.name for path in self.state.glob("*")) if self.state.is_dir() else []

    def packages(self) -> set[str]:
        return set(self._run("rpm", f"--root={self.root}", "-qa", "--qf", "%{NAME}-%{VERSION}\\n").split())


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    return System(tmp_path_factory.mktemp("system"))


def test_the_life_of_a_package(system: System) -> None:
    system.dnf("install", f"{NAME}-2")
    assert f"livepatch_2: installed for {RELEASE}" in system.scriptlets
    assert {f"{NAME}-2", "base-1"} <= system.packages()
    assert system.installed == ["livepatch_2.info", "livepatch_2.ko"]
    system.dnf("upgrade")
    assert f"livepatch_10: installed for {RELEASE}" in system.scriptlets
    assert f"{NAME}-10" in system.packages() and f"{NAME}-2" not in system.packages()
    assert {"livepatch_10.ko", "livepatch_2.ko"} <= set(system.installed), "what a rollback needs"
    assert not any(name.endswith(".withdrawn") for name in system.installed)
    system.dnf("downgrade", NAME)
    assert f"{NAME}-2" in system.packages()
    assert "livepatch_10.withdrawn" in system.installed and "livepatch_2.withdrawn" not in system.installed
    system.dnf("remove", NAME)
    assert system.installed == [] and not any(p.startswith(NAME) for p in system.packages())
    assert not (system.root / STORE / RELEASE / "livepatch_2.ko").exists()
