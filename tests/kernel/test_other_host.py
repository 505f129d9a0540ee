# SPDX-License-Identifier: GPL-2.0-or-later
"""kgbuild on another release of Debian than this machine's: a system made of that release's packages, nothing of which
was configured, with its Python; kgbuild's dependencies are those of pyproject.toml."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kgbuild.host.archives.apt_suites import AptSuites
from kgbuild.host.archives.recipe import load_recipes
from kgbuild.host.system.cache import Cache
from kgbuild.host.toolchains.store import ensure_toolchain
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import kgbuild
from tests.support.store import folder

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "proc-version" / "fix.patch"
# A compiler of the release, by which its suite is found.
COMPILER = "gcc-14 (Debian 14.2.0-19) 14.2.0"
PACKAGES = (
    *("python3", "apt", "bubblewrap", "busybox-static", "debian-archive-keyring", "dpkg", "gcc-12", "libc6-dev"),
    *("libc-bin", "libelf1t64", "procps", "tar", "util-linux", "xz-utils"),
)
PYTHON = "3.13"
# What its own tests there show: how source text, ELF, and the sandbox are handled, with its compiler and its Python.
TESTS = (
    *(f"tests/{layer}/{folder}" for layer in ("unit", "tools") for folder in ("csource", "elf")),
    "tests/tools/host/system/test_sandbox.py",
    "tests/unit/host/toolchains",
)

Run = Callable[[Sequence[str | Path]], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def other() -> Run:
    """Runs a command there: kgbuild's cache is this user's, /tmp its own."""
    recipe = load_recipes()["debian"]
    assert recipe.suites is not None and recipe.toolchain is not None
    silent, cache = SilentProgress(), Cache()
    archive = AptSuites(cache.root / "archives" / recipe.distro, recipe.suites)
    with cache.lock(f"archive-{recipe.distro}", silent):
        archive.update(silent)
    rule = replace(recipe.toolchain, packages=(*recipe.toolchain.packages, *PACKAGES))
    plan = archive.plan_toolchain(rule, COMPILER, [])
    system = ensure_toolchain(Cache(folder() / "other-host"), archive, plan, rule, silent, 2)
    site = _python_packages()
    binds = ["--bind", cache.root, cache.root, "--ro-bind", ROOT, ROOT, "--ro-bind", site, "/opt/site"]
    binds += ["--tmpfs", ROOT / ".pytest_cache"]  # the tests there keep what they compile
    variables = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(Path.home()), "LC_ALL": "C.UTF-8"}
    variables |= {"PYTHONPATH": f"{ROOT}:/opt/site", "PYTHONDONTWRITEBYTECODE": "1"}
    if cache.root.parent != Path.home() / ".cache":
        variables["XDG_CACHE_HOME"] = str(cache.root.parent)

    def run(argv: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = ["bwrap", "--bind", system.root, "/", "--dev-bind", "/dev", "/dev"]
        command += ["--dev-bind", "/proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/run", *binds]
        command += ["--cap-add", "ALL", "--chdir", ROOT, "--clearenv"]
        for name, value in variables.items():
            command += ["--setenv", name, value]
        return subprocess.run([*command, "--", *argv], capture_output=True, text=True, timeout=900, check=False)

    return run


def _python_packages() -> Path:
    """kgbuild's dependencies for that Python, and pytest: fetched once."""
    wanted = [*tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"], "pytest", "jsonschema"]
    digest = hashlib.sha256(repr((PYTHON, wanted)).encode()).hexdigest()[:16]
    site = folder() / f"other-host-{digest}"
    if not site.is_dir():
        part = site.with_name(f"{site.name}.part")
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        argv += ["--target", str(part), "--python-version", PYTHON, "--only-binary=:all:", *wanted]
        subprocess.run(argv, check=True, timeout=600)
        part.rename(site)
    return site


def test_it_is_another_release(other: Run) -> None:
    here = Path("/etc/debian_version").read_text()
    said = other(["python3", "-c", "import sys; print(open('/etc/debian_version').read(), sys.version_info[:2])"])
    assert said.returncode == 0, said.stderr
    assert said.stdout.partition(".")[0] == "13"
    assert (here.partition(".")[0] == "13") or "(3, 13)" in said.stdout


def test_doctor(other: Run) -> None:
    """All that a build needs is there; QEMU and what a kernel of one's own needs were left out."""
    said = other(["python3", "-m", "kgbuild.cli.main", "doctor"])
    lines = [line.split(None, 2) for line in said.stdout.splitlines() if line[:1].isalpha()]
    states = {words[1]: words[0] for words in lines if len(words) > 1}
    for name in ("python", "bwrap", "apt-get", "dpkg-deb", "tar", "xz", "sandbox", "busybox"):
        assert states[name] == "ok", said.stdout + said.stderr


def test_the_same_module(other: Run, kernel: Kernel, kernel_name: str, tmp_path: Path) -> None:
    """Byte by byte, whichever release it was built on."""
    module = tmp_path / "livepatch-host.ko"
    ran = kgbuild("build", EXAMPLE, "--kernel", kernel_name, "-o", module, "--offline")
    assert ran.status == 0, ran.stderr
    commands = [
        f"python3 -m kgbuild.cli.main build {EXAMPLE} --kernel {kernel_name} --offline -o /tmp/{module.name}",
        f"python3 -m kgbuild.cli.main verify /tmp/{module.name} --kernel {kernel_name}",
        f"sha256sum /tmp/{module.name}",
    ]
    said = other(["sh", "-c", " && ".join(commands)])
    assert said.returncode == 0, said.stdout + said.stderr
    assert hashlib.sha256(module.read_bytes()).hexdigest() in said.stdout


def test_its_own_tests(other: Run) -> None:
    said = other(["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", *TESTS])
    assert said.returncode == 0, said.stdout[-4000:]
