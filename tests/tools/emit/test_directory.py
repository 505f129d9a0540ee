# SPDX-License-Identifier: GPL-2.0-or-later
"""The module as a directory: its tool does what emit/klp_relocations.py does, and nobody's files are written over."""

from __future__ import annotations

import importlib.resources
import subprocess
from pathlib import Path

import click
import pytest

from kgbuild.cli import options
from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.read import read
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.emit.klp_relocations import inject
from kgbuild.module_abi import RESOLVE_SECTION

PC32, NONE = 2, 0


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kgbuild-inject, compiled with what finds errors in memory."""
    source = importlib.resources.files("kgbuild") / "data" / "kbuild_module" / "kgbuild-inject.c"
    out = tmp_path_factory.mktemp("tool") / "kgbuild-inject"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wmissing-prototypes", "-Wstrict-prototypes", "-std=gnu11"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover"]
    subprocess.run(["gcc", *flags, "-o", out, str(source)], check=True, timeout=120)
    return out


def run(tool: Path, source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    env = {"ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run([tool, source, target], env=env, capture_output=True, text=True, check=False, timeout=60)


def linked() -> OutObject:
    """What a linked module can hold, every kind of it once."""
    obj = OutObject(62)
    text = OutSection(".text", data=bytearray(range(64)), flags=SHF.ALLOC | SHF.EXECINSTR | SHF.GROUP, align=16)
    resolve = OutSection(RESOLVE_SECTION, data=bytearray(16), align=8)
    plain = OutSection(".data", data=bytearray(b"data" * 5), flags=SHF.ALLOC | SHF.WRITE, align=8)
    bss = OutSection(".bss", SHT.NOBITS, SHF.ALLOC | SHF.WRITE, align=32, size=100)
    orc = OutSection(".orc", data=bytearray(12), flags=SHF.ALLOC | SHF.LINK_ORDER, align=4, link_section=text)
    debug = OutSection(".debug_info", data=bytearray(8), flags=SHF(0))
    comment = OutSection(".comment", data=bytearray(b"x\0"), flags=SHF.STRINGS, entsize=1)
    obj.sections = [debug, text, plain, bss, resolve, orc, comment]

    def symbol(name: str, section: OutSection | None = None, **fields: int) -> OutSymbol:
        obj.symbols.append(OutSymbol(name, section, **fields))
        return obj.symbols[-1]

    symbol("a.c", type=STT.FILE, shndx=SHN.ABS)
    in_debug = symbol("", debug, type=STT.SECTION)
    in_text = symbol("", text, type=STT.SECTION)
    symbol("local", bss, value=4, size=8, type=STT.OBJECT)
    printk = symbol("_printk", bind=STB.GLOBAL)
    symbol("never_used", bind=STB.GLOBAL)
    symbol(".klp.sym.vmlinux.never_used,0", bind=STB.GLOBAL)
    two = symbol(".klp.sym.b_mod.same,2", bind=STB.GLOBAL)
    one = symbol(".klp.sym.a_mod.other.isra.0,1", bind=STB.GLOBAL)
    other = symbol(".klp.sym.vmlinux.dump,0@a_mod", bind=STB.GLOBAL, other=2)
    own = symbol("kgbuild_klp_text_poke", bind=STB.GLOBAL)
    symbol("kgbuild_klp_is_here", text, bind=STB.GLOBAL, type=STT.FUNC, size=4)
    for position, target in enumerate([two, printk, own, one, other, in_text, two]):
        text.relocs.append(OutReloc(8 * position, PC32, target, -4))
    text.relocs.append(OutReloc(60, NONE, printk, 0))
    plain.relocs.append(OutReloc(0, 1, one, 3))
    resolve.relocs.append(OutReloc(0, 1, own, 0))
    debug.relocs.append(OutReloc(0, 1, in_debug, 0))
    orc.relocs.append(OutReloc(4, NONE, in_text, 0))
    return obj


def test_the_tool_and_inject_agree_byte_for_byte(tool: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.ko", tmp_path / "out.ko"
    source.write_bytes(write(linked()))
    wanted = inject(read(source.read_bytes()))
    done = run(tool, source, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert target.read_bytes() == wanted
    names = [s.name for s in read(wanted).sections]
    assert [n for n in names if n.startswith(".klp.rela.")] == [
        f".klp.rela.vmlinux.{RESOLVE_SECTION}",
        ".klp.rela.a_mod..text",
        ".klp.rela.b_mod..text",
        ".klp.rela.vmlinux..text",
        ".klp.rela.a_mod..data",
    ]
    # in place, as kbuild is made to call it
    assert run(tool, source, source).returncode == 0
    assert source.read_bytes() == wanted
    again = run(tool, source, target)
    assert again.returncode == 1
    assert "has livepatch relocations already" in again.stderr


def test_a_module_without_livepatch_names_too(tool: Path, tmp_path: Path) -> None:
    obj = OutObject(62, [OutSection(".text", data=bytearray(4))])
    source = tmp_path / "in.ko"
    source.write_bytes(write(obj))
    wanted = inject(read(source.read_bytes()))
    assert run(tool, source, source).returncode == 0
    assert source.read_bytes() == wanted


@pytest.mark.parametrize(
    "name", [".klp.sym.vmlinux,0", ".klp.sym.a.b", ".klp.sym.a.b,x", ".klp.sym.a.,1", ".klp.sym.a"]
)
def test_both_refuse_a_malformed_name(tool: Path, tmp_path: Path, name: str) -> None:
    text = OutSection(".text", data=bytearray(8))
    symbol = OutSymbol(name, bind=STB.GLOBAL)
    text.relocs.append(OutReloc(0, PC32, symbol, 0))
    source, target = tmp_path / "in.ko", tmp_path / "out.ko"
    source.write_bytes(write(OutObject(62, [text], [symbol])))
    with pytest.raises(ValueError, match="malformed livepatch symbol"):
        inject(read(source.read_bytes()))
    done = run(tool, source, target)
    assert done.returncode == 1
    assert f"malformed livepatch symbol {name}" in done.stderr
    assert not target.exists()


def test_a_file_cut_off_anywhere_is_refused(tool: Path, tmp_path: Path) -> None:
    whole = write(linked())
    source, target = tmp_path / "in.ko", tmp_path / "out.ko"
    for size in (0, 40, 64, 100, len(whole) // 2, len(whole) - 1):
        source.write_bytes(whole[:size])
        done = run(tool, source, target)
        assert done.returncode == 1, size
        assert "runtime error" not in done.stderr and "Sanitizer" not in done.stderr
        assert not target.exists()


# -- where it is written -----------------------------------------------------------------------------------------------


def convert(path: Path) -> Path:
    got = options.NewDirectory().convert(path, None, None)
    assert isinstance(got, Path)
    return got


def test_a_new_or_an_empty_directory_is_taken(tmp_path: Path) -> None:
    assert convert(tmp_path / "new") == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    assert convert(tmp_path) == tmp_path


def test_one_with_files_in_it_is_not(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("mine")
    with pytest.raises(click.BadParameter, match="is not empty"):
        convert(tmp_path)
    with pytest.raises(click.BadParameter, match="is not a directory"):
        convert(tmp_path / ".hidden")
    with pytest.raises(click.BadParameter, match="does not exist"):
        convert(tmp_path / "none" / "new")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(click.BadParameter, match="is not a directory"):
        convert(tmp_path / "link")


def test_files_are_written_in_order(tmp_path: Path) -> None:
    options.write_directory(tmp_path / "new", {"b": b"1", "a": b"2"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "new").iterdir()} == {"a": b"2", "b": b"1"}
