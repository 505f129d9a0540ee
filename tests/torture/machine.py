# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiling, linking and running programs: the tools around a generated program.

A program is linked to a fixed address below 2 GB, where code for the kernel's memory model runs too, and mapped there
by runner.c, each piece with its own protection: read-only memory is read-only, as in a kernel.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from kgbuild.elf.consts import SHT, STT
from kgbuild.elf.object import Object, Symbol
from kgbuild.elf.read import read
from kgbuild.host.compile.assembler import restore_types
from tests.support.toolchain import CC, KERNEL_FLAGS, SPLIT_FLAGS, assembler, run, scratch

HERE = Path(__file__).resolve().parent
BASE = 0x10000000
TARGET, AGAIN = 0x14000000, 0x15000000  # where a module lies when it comes, and when it comes again
PATCH = 0x18000000
REPLACEMENT = 0x19000000
PAGE = 4096
# What the builder adds beside sections (kgbuild/host/compile/compile.py), and what the kernel's own flags have.
FLAGS = (
    *(f for f in KERNEL_FLAGS if f not in ("-Werror", "-Wall")),
    "-w",
    "-mpreferred-stack-boundary=3",
    "-falign-jumps=1",
    "-falign-loops=1",
    "-fno-delete-null-pointer-checks",
    "-fno-allow-store-data-races",
    "-fno-strict-overflow",
    "-ftrivial-auto-var-init=zero",
)
DEBUG = ("-g", "-gbtf", "-fno-var-tracking", "-fno-var-tracking-assignments")
SPLIT = (*SPLIT_FLAGS, *DEBUG)
SCRIPT = f"""
SECTIONS {{
  . = {BASE:#x};
  .text : {{ *(.text .text.*) *(.sched.text) }}
  . = ALIGN(0x1000);
  .rodata : {{ *(.rodata .rodata.*) }}
  __mcount_loc : {{ *(__mcount_loc) }}
  . = ALIGN(0x1000);
  .data : {{ *(.data .data.*) }}
  .bss : {{ *(.bss .bss.*) }}
  /DISCARD/ : {{ *(.discard*) *(.comment) *(.note*) *(.BTF) *(.eh_frame) }}
}}
"""
READ, WRITE, EXECUTE = 1, 2, 4


def compile_c(folder: Path, text: str, name: str, out: str, flags: Sequence[str]) -> bytes:
    """The object of a text, as `out` in `folder`; the source is called `name`, whatever becomes of it."""
    source = folder / f"{out}.dir"
    source.mkdir(exist_ok=True)
    (source / name).write_text(text)
    argv = [CC, *flags, *assembler(), "-I", HERE, "-c", name, "-o", folder / out]
    run(*argv, cwd=source)
    (folder / out).write_bytes(restore_types((folder / out).read_bytes()))
    return (folder / out).read_bytes()


@cache
def rest() -> Path:
    """The object of rest.c."""
    out = scratch() / "torture-rest.o"
    flags = [f for f in FLAGS if f not in ("-pg", "-mfentry", "-mrecord-mcount")]
    run(CC, *flags, "-I", HERE, "-c", HERE / "rest.c", "-o", out)
    return out


@cache
def runner() -> Path:
    out = scratch() / "torture-runner"
    run(CC, "-O1", "-w", HERE / "runner.c", "-o", out)
    return out


@dataclass(frozen=True)
class Image:
    """A linked program."""

    path: Path

    @cached_property
    def obj(self) -> Object:
        return read(self.path.read_bytes())

    @cached_property
    def symbols(self) -> dict[str, list[Symbol]]:
        """Symbols by name, in order of address, as kallsyms lists them."""
        out: dict[str, list[Symbol]] = {}
        for s in self.obj.iter_symbols():
            if s.defined and s.type not in (STT.FILE, STT.SECTION) and s.name:
                out.setdefault(s.name, []).append(s)
        for found in out.values():
            found.sort(key=lambda s: s.value)
        return out

    def address(self, name: str) -> int:
        """Address of a symbol that must be there once."""
        (found,) = self.symbols[name]
        return found.value

    @cached_property
    def sites(self) -> frozenset[int]:
        """Where functions call __fentry__."""
        section = self.obj.section_named("__mcount_loc")
        if section is None:
            return frozenset()
        raw = bytes(self.obj.contents(section.index))
        return frozenset(struct.unpack(f"<{len(raw) // 8}Q", raw))

    def code(self, address: int, size: int) -> bytes:
        """What the program has at a place, as it is linked."""
        for s in self.obj.sections:
            if s.alloc and s.addr <= address and address + size <= s.addr + s.size:
                return bytes(self.obj.contents(s.index)[address - s.addr : address - s.addr + size])
        raise LookupError(f"no code at {address:#x}")

    def initial(self, symbol: Symbol) -> bytes:
        """What a variable begins with."""
        section = self.obj.sections[symbol.shndx]
        if section.type == SHT.NOBITS:
            return bytes(symbol.size)
        at = symbol.value - section.addr
        return bytes(self.obj.contents(section.index)[at : at + symbol.size])


def link(folder: Path, objects: Iterable[Path], out: str, *, relocations: bool = False) -> Image:
    """Link a program; with its relocations left in, as x86 kernels that can be anywhere have them."""
    script = folder / "program.lds"
    script.write_text(SCRIPT)
    more = ("--emit-relocs",) if relocations else ()
    run("ld", *more, "-n", "-e", "0", "--no-warn-rwx-segments", "-T", script, "-o", folder / out, *objects, rest())
    return Image(folder / out)


# -- jobs --------------------------------------------------------------------------------------------------------------


@dataclass
class Piece:
    """Memory of a program: address, contents, size with zeros behind them, protection."""

    address: int
    data: bytes
    size: int
    protection: int


@dataclass
class Job:
    """One run, as runner.c reads it."""

    text: bytearray = field(default_factory=bytearray)
    _pages: dict[int, tuple[bytearray, int]] = field(default_factory=dict)

    def load(self, image: Image) -> None:
        for s in image.obj.sections:
            if s.alloc and s.size:
                self._place(s.addr, s.size, bytes(image.obj.contents(s.index)), s.executable, s.writable)
        self._flush()
        self._op("S", image.address("guarded"), image.address("log_hash"))

    def _place(self, address: int, size: int, data: bytes, executable: bool, writable: bool) -> None:
        protection = READ | (EXECUTE if executable else 0) | (WRITE if writable else 0)
        data = data.ljust(size, b"\0")
        at = 0
        while at < size:
            page, offset = (address + at) & -PAGE, (address + at) % PAGE
            part = data[at : at + PAGE - offset]
            content, known = self._pages.setdefault(page, (bytearray(PAGE), 0))
            content[offset : offset + len(part)] = part
            self._pages[page] = (content, known | protection)
            at += len(part)

    def _flush(self) -> None:
        for page, (content, protection) in sorted(self._pages.items()):
            self._op("M", page, PAGE, PAGE, protection)
            self.text += content
        self._pages.clear()

    def _op(self, letter: str, *numbers: int) -> None:
        self.text += letter.encode() + struct.pack(f"<{len(numbers)}Q", *numbers)

    def map(self, pieces: Iterable[Piece]) -> None:
        for p in pieces:
            self._place(p.address, p.size, p.data, bool(p.protection & EXECUTE), bool(p.protection & WRITE))
        self._flush()

    def unmap(self, pieces: Iterable[Piece]) -> None:
        for page in sorted({at & -PAGE for p in pieces for at in range(p.address & -PAGE, p.address + p.size, PAGE)}):
            self._op("U", page, PAGE)

    def poke(self, address: int, data: bytes, protection: int) -> None:
        """Write to memory that has a protection, and has it again."""
        self._op("L", address, len(data), protection)
        self.text += data

    def call(self, function: int, a: int, b: int) -> None:
        self._op("C", function, a, b)

    def write(self, address: int, data: bytes, *, code: bool = False) -> None:
        self._op("X" if code else "W", address, len(data))
        self.text += data


def run_jobs(jobs: Sequence[Job]) -> list[list[str]]:
    """What each job printed, one list of lines each; its last line says how it ended."""
    data = b"".join(bytes(j.text) + b"E" for j in jobs)
    done = subprocess.run([runner()], input=data, capture_output=True, check=True)
    out: list[list[str]] = [[]]
    for line in done.stdout.decode().splitlines():
        out[-1].append(line)
        if line.startswith("E"):
            out.append([])
    out.pop()
    assert len(out) == len(jobs), (len(out), len(jobs))
    return out
