# SPDX-License-Identifier: GPL-2.0-or-later
"""Compile commands out of what `make -n` prints, and their SQLite index."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kgbuild.errors import ToolError
from kgbuild.host.kernels import compile_commands, kbuild, unit_listing
from kgbuild.host.kernels.compile_commands import (
    parse_line,
    parse_units,
    read_sources,
    read_units,
    split_command,
    write_units,
)
from kgbuild.model import Kernel, KernelId, UnitCommand

TREE = "/cache/sources/linux"
TRAPS = (
    "set -e;  exec >/dev/null;   trap 'rm -f fs/proc/version.o; trap - HUP; kill -s HUP $$' HUP;"
    "  trap 'rm -f fs/proc/version.o; trap - INT; kill -s INT $$' INT; "
)
COMPILE = (
    f"gcc-12 -Wp,-MMD,fs/proc/.version.o.d -nostdinc -I{TREE}/include -I./include -include {TREE}/include/linux/"
    f"kconfig.h -D__KERNEL__ -fmacro-prefix-map={TREE}/= -O2 -I {TREE}/fs/proc -I ./fs/proc"
)
NAMES = """-DKBUILD_MODFILE='"fs/proc/proc"' -DKBUILD_BASENAME='"version"' -DKBUILD_MODNAME='"proc"'"""
QUOTED = NAMES.replace("'", r"'\''")
TAIL = f"-D__KBUILD_MODNAME=kmod_proc -c -o fs/proc/version.o {TREE}/fs/proc/version.c"
OBJTOOL = "./tools/objtool/objtool --hacks=jump_label --orc --static-call   fs/proc/version.o"
UNIT = (
    f"{TRAPS} {COMPILE}  {NAMES} {TAIL}   ; {OBJTOOL}; scripts/basic/fixdep fs/proc/.version.o.d fs/proc/version.o"
    f" '{COMPILE}  {QUOTED} {TAIL}   ; {OBJTOOL}' > fs/proc/.version.o.cmd; rm -f fs/proc/.version.o.d\n"
)
GENKSYMS = (
    f"{TRAPS} if nm fs/proc/version.o | grep -q __ksymtab; then  gcc-12 -E -D__GENKSYMS__"
    f" -Wp,-MMD,fs/proc/.version.o.d -nostdinc {NAMES} {TREE}/fs/proc/version.c | scripts/genksyms/genksyms"
    "   -r /dev/null >> fs/proc/.version.o.cmd; fi\n"
)
ASSEMBLY = (
    f"{TRAPS} gcc-12 -Wp,-MMD,lib/.memcpy.o.d -nostdinc -D__ASSEMBLY__ -c -o lib/memcpy.o {TREE}/lib/memcpy.S ;"
    f" {OBJTOOL}; scripts/basic/fixdep lib/.memcpy.o.d lib/memcpy.o 'gcc-12' > lib/.memcpy.o.cmd\n"
)
LISTING = (
    f"{TRAPS} {COMPILE} {NAMES} -fverbose-asm -S -o kernel/bounds.s {TREE}/kernel/bounds.c;"
    " scripts/basic/fixdep kernel/.bounds.s.d kernel/bounds.s 'gcc-12' > kernel/.bounds.s.cmd\n"
)
HOST = (
    "set -e; gcc -Wp,-MMD,scripts/basic/.fixdep.d -Wall -O2 -o scripts/basic/fixdep scripts/basic/fixdep.c ;"
    " scripts/basic/fixdep x\n"
)


def the_unit() -> UnitCommand:
    unit = parse_line(UNIT, TREE)
    assert unit is not None
    return unit


def test_unit() -> None:
    unit = the_unit()
    assert (unit.source, unit.object) == ("fs/proc/version.c", "fs/proc/version.o")
    assert (unit.modfile, unit.modname, unit.module) == ("fs/proc/proc", "proc", False)


def test_argv_has_placeholders_and_lacks_what_the_compile_stage_adds() -> None:
    argv = the_unit().argv
    assert argv[0] == "gcc-12"
    assert argv[-1] == "-c"
    assert "-I{src}/include" in argv
    assert "{src}/include/linux/kconfig.h" in argv
    assert "-fmacro-prefix-map={src}/=" in argv
    assert '-DKBUILD_MODNAME="proc"' in argv
    assert "-o" not in argv
    assert not [word for word in argv if TREE in word or word.startswith("-Wp,-MMD") or word.endswith(".c")]


def test_objtool_without_its_object() -> None:
    assert the_unit().objtool == ("./tools/objtool/objtool", "--hacks=jump_label", "--orc", "--static-call")


def test_unit_without_objtool() -> None:
    unit = parse_line(UNIT.replace(f"; {OBJTOOL}", ""), TREE)
    assert unit == the_unit()._replace(objtool=())


def test_module() -> None:
    unit = parse_line(UNIT.replace("-O2", "-O2 -DMODULE"), TREE)
    assert unit is not None
    assert unit.module


@pytest.mark.parametrize("line", [GENKSYMS, ASSEMBLY, LISTING, HOST, "", "make[1]: Entering directory 'x'\n", TRAPS])
def test_no_unit(line: str) -> None:
    assert parse_line(line, TREE) is None


def test_each_unit_once() -> None:
    assert list(parse_units([TRAPS, UNIT, GENKSYMS, ASSEMBLY], TREE)) == [the_unit()]


def test_source_outside_its_object_directory() -> None:
    line = UNIT.replace(f"{TREE}/fs/proc/version.c", f"{TREE}/lib/crypto/sha256.c")
    unit = parse_line(line, TREE)
    assert unit is not None
    assert (unit.source, unit.object) == ("lib/crypto/sha256.c", "fs/proc/version.o")


def test_generated_source_stays_relative_to_the_build_tree() -> None:
    unit = parse_line(UNIT.replace(f"{TREE}/fs/proc/version.c", "fs/proc/version.c"), TREE)
    assert unit is not None
    assert unit.source == "fs/proc/version.c"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b", ["a", "b"]),
        ("""-DA='"x y"' b""", ['-DA="x y"', "b"]),
        ('-DA="x\\"y"', ['-DA=x"y']),
        ("a\\ b c", ["a b", "c"]),
        ("a;b ; c", ["a", ";", "b", ";", "c"]),
        ("'a;b'", ["a;b"]),
        ("'a'\"b\"c", ["abc"]),
        ("''", [""]),
        ("", []),
    ],
)
def test_split_command(text: str, words: list[str]) -> None:
    assert split_command(text) == words


def test_index(tmp_path: Path) -> None:
    first = the_unit()
    second = first._replace(object="other/version.o", module=True, argv=("gcc-12", "-c"), objtool=())
    path = tmp_path / "units.sqlite"
    assert write_units([first, second, first], path) == 2
    found = read_units(path, ["fs/proc/version.c", "fs/none.c", "'; DROP TABLE units"])
    assert found == {"fs/proc/version.c": [first, second], "fs/none.c": [], "'; DROP TABLE units": []}
    assert read_sources(path) == [
        ("fs/proc/version.c", "fs/proc/version.o", False),
        ("fs/proc/version.c", "other/version.o", True),
    ]


DELAYED = ("./tools/objtool/objtool", "--ibt", "--orc", "--link", "--module")


def test_objtool_that_kbuild_runs_on_vmlinux_is_run_on_each_unit(tmp_path: Path) -> None:
    """kbuild's own command for a module of one unit is what tells its options."""
    builtin = the_unit()._replace(objtool=())
    single = builtin._replace(source="a.c", object="a.o", module=True, objtool=DELAYED)
    part = builtin._replace(source="b.c", object="b.o", module=True)
    path = tmp_path / "units.sqlite"
    write_units([builtin, single, part], path)
    assert compile_commands.read_module_objtool(path) == DELAYED
    every = {u.object: u.objtool for u in compile_commands.read_all_units(path)}
    assert every == {builtin.object: DELAYED[:-1], "a.o": DELAYED, "b.o": DELAYED}
    assert read_units(path, [builtin.source])[builtin.source][0].objtool == DELAYED[:-1]


def test_a_unit_that_kbuild_keeps_from_objtool_stays_so(tmp_path: Path) -> None:
    """Where objtool runs on each object, one without it is one that objtool is not to see."""
    builtin = the_unit()._replace(objtool=())
    single = builtin._replace(source="a.c", object="a.o", module=True, objtool=DELAYED[:3])
    path = tmp_path / "units.sqlite"
    write_units([builtin, single], path)
    assert {u.object: u.objtool for u in compile_commands.read_all_units(path)} == {
        builtin.object: (),
        "a.o": DELAYED[:3],
    }


def test_index_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    write_units([the_unit()], path)
    assert write_units([], path) == 0
    assert read_sources(path) == []


def test_unreadable_index(tmp_path: Path) -> None:
    path = tmp_path / "units.sqlite"
    path.write_bytes(b"not a database, surely" * 100)
    with pytest.raises(ToolError, match="makes it again"):
        read_units(path, ["a.c"])
    with pytest.raises(ToolError, match="makes it again"):
        read_units(tmp_path / "none", ["a.c"])


def test_environment_lacks_what_is_makes_own() -> None:
    data = b"CC=gcc-12\0MAKEFLAGS=rR\0MAKELEVEL=2\0EMPTY=\0WITH=a=b\nc\0junk\0"
    assert kbuild.parse_environment(data) == {"CC": "gcc-12", "EMPTY": "", "WITH": "a=b\nc"}


def test_missing_environment(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="makes it again"):
        kbuild.load_environment(kernel(tmp_path, "gcc", ""))


def test_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KCFLAGS", "-O0")
    monkeypatch.setenv("MAKEFLAGS", "-j8")
    env = kbuild.clean_environment()
    assert "KCFLAGS" not in env
    assert "MAKEFLAGS" not in env
    assert env["LC_ALL"] == "C"


def test_settled_config_is_older_than_all_that_is_made_of_it(tmp_path: Path) -> None:
    (tmp_path / "include" / "config").mkdir(parents=True)
    (tmp_path / "include" / "generated").mkdir()
    for name in (".config", "include/config/auto.conf", "include/generated/autoconf.h"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / "include/config/auto.conf", (1, 1))
    kbuild.settle_config(tmp_path)
    config = (tmp_path / ".config").stat().st_mtime
    for name in ("include/config/auto.conf", "include/config/auto.conf.cmd", "include/generated/autoconf.h"):
        assert (tmp_path / name).stat().st_mtime > config


def test_copy_tools_leaves_out_what_the_source_has(tmp_path: Path) -> None:
    tools, source, build = tmp_path / "tools", tmp_path / "source", tmp_path / "build"
    for path in (tools / "scripts/basic/fixdep", tools / "scripts/Makefile.build", source / "scripts/Makefile.build"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    kbuild.copy_tools(tools, source, build)
    assert [p.relative_to(build).as_posix() for p in build.rglob("*") if p.is_file()] == ["scripts/basic/fixdep"]


CONFIG = 'CONFIG_X=y\nCONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"\n'


def test_compiler_text() -> None:
    assert kbuild.compiler_text(CONFIG) == "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"
    assert kbuild.compiler_text("CONFIG_X=y\n") == ""


@pytest.mark.parametrize(
    ("text", "command", "package"),
    [
        ("gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", "gcc-12", "gcc-12"),
        ("x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14) 12.2.0", "x86_64-linux-gnu-gcc-12", "gcc-12"),
        ("gcc (GCC) 13.2.0", "gcc", "gcc"),
        ("", "gcc", "gcc"),
        ("$(rm) x", "gcc", "gcc"),
    ],
)
def test_compiler_command(text: str, command: str, package: str) -> None:
    assert kbuild.compiler_command(text) == command
    assert kbuild.compiler_package(command) == package


def kernel(tmp_path: Path, cc: str, compiler: str) -> Kernel:
    return Kernel(
        id=KernelId("local", "x", "", "aa"),
        root=tmp_path,
        source=tmp_path,
        build=tmp_path,
        config=tmp_path,
        symvers=tmp_path,
        vmlinux=tmp_path,
        image=tmp_path,
        modules=None,
        units=tmp_path / "units.sqlite",
        cc=cc,
        compiler=compiler,
    )


@pytest.fixture
def compiler(tmp_path: Path) -> str:
    """A compiler that only says its version."""
    path = tmp_path / "x86_64-linux-gnu-gcc-12"
    path.write_text('#!/bin/sh\necho "$(basename "$0") (Debian 12.2.0-14+deb12u1) 12.2.0"\necho Copyright\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("name", ["gcc-12", "x86_64-linux-gnu-gcc-12"])
def test_same_compiler_by_another_name(tmp_path: Path, compiler: str, name: str) -> None:
    assert kbuild.check_compiler(kernel(tmp_path, compiler, f"{name} (Debian 12.2.0-14+deb12u1) 12.2.0")) is None


def test_other_compiler(tmp_path: Path, compiler: str) -> None:
    refusal = kbuild.check_compiler(kernel(tmp_path, compiler, "gcc-12 (Debian 12.2.0-14) 12.2.0"))
    assert refusal is not None
    assert refusal.code == "C3-compiler"
    assert "apt-get install gcc-12" in refusal.remedy
    assert "12.2.0-14+deb12u1" in refusal.fact


def test_missing_compiler(tmp_path: Path) -> None:
    refusal = kbuild.check_compiler(kernel(tmp_path, "gcc-99", "gcc-99 (X) 99"))
    assert refusal is not None
    assert "not found" in refusal.fact
    # there is no other compiler that --allow-compiler could go on with
    assert refusal.remedy == "apt-get install gcc-99"


def test_damaged_index(tmp_path: Path) -> None:
    (tmp_path / "units.sqlite").write_bytes(b"no database" * 1000)
    for read in (
        compile_commands.read_sources,
        compile_commands.read_detours,
        lambda path: compile_commands.read_units(path, ["a.c"]),
    ):
        with pytest.raises(ToolError, match="makes it again"):
            read(tmp_path / "units.sqlite")


def test_unknown_file_is_no_unit(tmp_path: Path) -> None:
    write_units([the_unit()], tmp_path / "units.sqlite")
    assert unit_listing.read_units(kernel(tmp_path, "gcc-12", ""), ["a.c"]) == {"a.c": []}


def test_placeholder_is_what_the_model_says() -> None:
    assert compile_commands.SOURCE == "{src}"
