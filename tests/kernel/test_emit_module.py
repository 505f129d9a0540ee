# SPDX-License-Identifier: GPL-2.0-or-later
"""The module as a directory, built by the kernel's own makefiles: it is the one that kgbuild makes, verify has no
finding, and it works when booted."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.kernels.kbuild import clean_environment, load_environment
from kgbuild.host.vm.run import TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import (
    HERE,
    KERNEL_NAME,
    NEWER_NAME,
    WANTED,
    Built,
    Ran,
    build_cases,
    check_works,
    kgbuild,
    load_cases,
    make_guest_files,
)

CASES = [c for c in load_cases(HERE / "cases" / "cases.toml") if c.name in ("fork", "af-key-reqid")]
# With makefiles that build a module in its own directory, and a linker script that merges sections: make test-all
OTHERS = {"debian:newest-7.3-cloud": {"fork": ["suites/fork.patch"]}}
FILES = {"Kbuild", "README", "kgbuild-inject.c", "kgbuild-livepatch.c", "kgbuild-patched.o_shipped"}


@dataclass(frozen=True)
class Emitted:
    """A kernel, its build tree for make, the modules that kgbuild made of each case, their directories."""

    kernel: Kernel
    tree: Path
    built: dict[str, Built]
    directories: dict[str, Path]

    def make(self, directory: Path, *words: str) -> Ran:
        """`make -C KDIR M=DIRECTORY`, KDIR being source and build tree."""
        cc, environment = self.kernel.cc, load_environment(self.kernel)
        argv = ["make", "-C", self.kernel.source, f"O={self.tree}", f"M={directory}", "ARCH=x86", f"CC={cc}"]
        argv += [f"HOSTCC={cc}", f"KERNELRELEASE={environment['KERNELRELEASE']}", *words]
        if shutil.which(cc) is None:  # the compiler of another release of Debian
            tools, wanted = tools_of(self.kernel), [directory, self.tree]
            made = tools.run(argv, writable=wanted, cwd=directory, env=clean_environment(), check=False, timeout=600)
            return Ran(made.status, made.stdout, made.stderr)
        done = subprocess.run(
            argv,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def of(self, name: str) -> Path:
        """What make left for a case."""
        return self.directories[name] / f"{self.built[name].report['module']['name']}.ko"


@pytest.fixture(scope="session", params=[KERNEL_NAME, NEWER_NAME, *(name for name in OTHERS if name in WANTED)])
def emitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Emitted:
    """The cases, built, and made by make. In a copy of the build tree: make may write there."""
    kernel = ensure_kernel(request.param, progress=SilentProgress())
    folder = tmp_path_factory.mktemp("emit-module")
    directories = {c.name: folder / f"dir-{c.name}" for c in CASES}
    other = OTHERS.get(request.param, {})
    cases = [
        replace(c, fields={**c.fields, "patches": other.get(c.name, c.list("patches")), "options": options})
        for c in CASES
        for options in [[*c.list("options"), "--emit-module", str(directories[c.name])]]
    ]
    built = build_cases(cases, f"{kernel.id.name}={kernel.id.version}", folder)
    shutil.copytree(kernel.build, folder / "tree", symlinks=True)
    out = Emitted(kernel, folder / "tree", built, directories)
    for directory in directories.values():
        assert {p.name for p in directory.iterdir()} == FILES
        ran = out.make(directory)
        assert ran.status == 0, ran.stdout + ran.stderr
    return out


def sections(data: bytes) -> dict[str, tuple[bytes, list[tuple[int, int, str, int]]]]:
    """Contents and relocations of every section, by name; relocations with the symbol's name and place."""
    elf = ELFFile(io.BytesIO(data))
    symbols = list(elf.get_section_by_name(".symtab").iter_symbols())
    out = {}
    for s in elf.iter_sections():
        relocs = []
        if s["sh_type"] == "SHT_RELA":
            for r in s.iter_relocations():
                symbol = symbols[r["r_info_sym"]]
                place = f"{symbol.name} {symbol['st_shndx']} {symbol['st_value']}"
                relocs.append((r["r_offset"], r["r_info_type"], place, r["r_addend"]))
        out[s.name] = (b"" if relocs or s["sh_type"] == "SHT_SYMTAB" else s.data(), relocs)
    # names of the compiled files are in the symbol table, and the build-id is made of debugging information too
    return {name: what for name, what in out.items() if name not in (".strtab", ".note.gnu.build-id")}


@pytest.mark.parametrize("name", [c.name for c in CASES])
def test_make_and_kgbuild_make_the_same_module(emitted: Emitted, name: str) -> None:
    ours, theirs = sections(emitted.built[name].module.read_bytes()), sections(emitted.of(name).read_bytes())
    assert list(ours) == list(theirs)
    assert any(part.startswith(".klp.rela.") for part in ours)
    for part, what in ours.items():
        assert what == theirs[part], part


@pytest.mark.parametrize("name", [c.name for c in CASES])
def test_verify_finds_nothing(emitted: Emitted, name: str) -> None:
    kernel = f"{emitted.kernel.id.name}={emitted.kernel.id.version}"
    ran = kgbuild("verify", emitted.of(name), "--kernel", kernel, "--proof", emitted.built[name].proof)
    assert ran.status == 0, ran.stdout + ran.stderr


def test_it_works(emitted: Emitted, tmp_path: Path) -> None:
    booted: TestRun = run_vm(
        emitted.kernel,
        [replace(b.run, module=emitted.of(name)) for name, b in emitted.built.items()],
        progress=SilentProgress(),
        timeout=900,
        files=make_guest_files(emitted.kernel, tmp_path),
        modules=sorted({m for c in CASES for m in c.list("modules")}),
    )
    assert booted.verdict
    assert booted.findings == ()
    for built in emitted.built.values():
        check_works(built, booted)


def test_make_again_after_a_change_and_clean(emitted: Emitted, tmp_path: Path) -> None:
    """What is put in last is put in again each time; clean leaves what kgbuild wrote."""
    directory = tmp_path / "again"
    shutil.copytree(emitted.directories["fork"], directory)
    module = directory / emitted.of("fork").name
    first = module.read_bytes()
    for changed in ("", "kgbuild-livepatch.c", "kgbuild-patched.o_shipped"):
        if changed:
            (directory / changed).touch()
        ran = emitted.make(directory)
        assert ran.status == 0, ran.stderr
        assert sections(module.read_bytes()) == sections(first), changed
    assert emitted.make(directory, "clean").status == 0
    assert {p.name for p in directory.iterdir()} == FILES


def test_a_name_that_is_no_export_ends_the_build(emitted: Emitted, tmp_path: Path) -> None:
    directory = tmp_path / "broken"
    directory.mkdir()
    for file in FILES:
        shutil.copy(emitted.directories["fork"] / file, directory / file)
    wrapper = directory / "kgbuild-livepatch.c"
    text = wrapper.read_text()
    assert text.count("int error = check_kernel();") == 1
    text = text.replace("int error = check_kernel();", "int error = kgbuild_not_there() ?: check_kernel();")
    wrapper.write_text("int kgbuild_not_there(void);\n" + text)
    ran = emitted.make(directory)
    assert ran.status != 0
    assert "this kernel does not export kgbuild_not_there" in ran.stderr
    assert not list(directory.glob("*.ko"))


def test_the_same_input_gives_the_same_directory(emitted: Emitted, tmp_path: Path) -> None:
    """Elsewhere; and nothing in it names a place on this machine."""
    case = emitted.built["fork"].case
    patches = [HERE / "cases" / p for p in case.list("patches")]
    kernel = f"{emitted.kernel.id.name}={emitted.kernel.id.version}"
    wanted = ("-o", tmp_path / "livepatch-fork.ko", "--emit-module", tmp_path / "dir")
    ran = kgbuild("build", *patches, "--kernel", kernel, *wanted)
    assert ran.status == 0, ran.stderr
    for file in FILES:
        data = (tmp_path / "dir" / file).read_bytes()
        assert data == (emitted.directories["fork"] / file).read_bytes()
        for place in (tmp_path, Path.home(), emitted.kernel.source, emitted.kernel.build):
            assert str(place).encode() not in data, file
    again = kgbuild("build", *patches, "--kernel", kernel, *wanted)
    assert again.status == 2
    assert "is not empty" in again.stderr
