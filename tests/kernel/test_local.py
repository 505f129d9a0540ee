# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel of one's own, made of the distribution's own files: added, built for, verified, booted, removed.

The distribution overrides the release on make's command line, so its source says another one than the kernel."""

from __future__ import annotations

import json
from pathlib import Path

from kgbuild.model import Kernel
from tests.support.booting.cases import HERE, kgbuild

PATCH = HERE.parent.parent / "examples" / "proc-version" / "fix.patch"
CHECK = "grep -q kgbuild /proc/version"


def test_kernel_add(kernel: Kernel, tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert kernel.modules is not None
    files = {
        "source": kernel.source,
        "config": kernel.config,
        "vmlinux": kernel.vmlinux,
        "image": kernel.image,
        "symvers": kernel.symvers,
        "modules": kernel.modules,
    }
    before = {p: p.stat().st_mtime_ns for p in files.values()}
    words = [word for name, path in files.items() for word in (f"--{name}", path)]
    added = kgbuild("kernel", "add", "mine", *words, env=env)
    assert added.status == 0, added.stderr
    module = tmp_path / "livepatch-mine.ko"

    assert before == {p: p.stat().st_mtime_ns for p in files.values()}
    shown = json.loads(kgbuild("kernel", "show", "local:mine", "--format", "json", env=env).stdout)
    assert shown["version"] == kernel.id.release
    assert shown["refusals"] == []
    built = kgbuild("build", PATCH, "--kernel", "local:mine", "-o", module, env=env)
    assert built.status == 0, built.stderr
    # the kernel of the distribution's recipe and this one are the same, so either may verify and boot the module
    for name, where in (("local:mine", env), (f"{kernel.id.name}={kernel.id.version}", {})):
        verified = kgbuild("verify", module, "--kernel", name, env=where)
        assert verified.status == 0, verified.stdout + verified.stderr
    booted = kgbuild("vm", module, "--kernel", "local:mine", "--check", CHECK, "--format", "json", env=env)
    assert booted.status == 0, booted.stdout + booted.stderr
    assert json.loads(booted.stdout)["release"] == kernel.id.release

    removed = kgbuild("kernel", "remove", "local:mine", "--yes", env=env)
    assert removed.status == 0, removed.stderr
    assert kernel.vmlinux.is_file()
    assert kgbuild("verify", module, "--kernel", "local:mine", env=env).status == 2
