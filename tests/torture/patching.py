# SPDX-License-Identifier: GPL-2.0-or-later
"""A live patch of a generated program, made by the builder's own stages, and put into the running program.

The stages are those of kgbuild/pipeline/findout.py: units compiled with a section for each function, parity against
the linked program, difference, closure with the call graph of a real index, extraction, `ld -r`, injection. What the
kernel does with the module is done here, independently: symbols are found by name and position as kallsyms would list
them, relocations written, and a jump put where a function calls __fentry__. With the back end kallsyms it is the
module that does so, from its own tables, and the program's code that the digests are compared with.
"""

from __future__ import annotations

import difflib
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kgbuild.arch import arch_of
from kgbuild.callgraph.model import CallGraph
from kgbuild.closure.close import Closure, UnitResult, close
from kgbuild.closure.proof_record import make_record
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.diff.changes import compute_changes
from kgbuild.diff.types_in_use import check_types
from kgbuild.elf.consts import SHF, SHN, SHT, STB
from kgbuild.elf.object import Object
from kgbuild.elf.read import read
from kgbuild.elf.write import write
from kgbuild.emit.backends import BACKENDS, Request
from kgbuild.emit.backends.lookup_tables import RANGE_ROW, SITE_ROW, SYMBOL_ROW
from kgbuild.emit.extract import NOTES, Identity, extract
from kgbuild.emit.klp_relocations import inject, split_livepatch_name
from kgbuild.host.index.queries import Index
from kgbuild.host.index.writer import build_index
from kgbuild.host.kernels.compile_commands import write_units
from kgbuild.kernel.exports import Export, parse_symvers
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import Kernel, KernelId
from kgbuild.objects.view import View
from kgbuild.progress import SilentProgress
from kgbuild.proof.parity import ParityProof, compute_parity
from kgbuild.proof.record import Key
from tests.toolchain import run
from tests.torture.machine import (
    EXECUTE,
    FLAGS,
    PAGE,
    PATCH,
    READ,
    SPLIT,
    WRITE,
    Image,
    Piece,
    compile_c,
    link,
)
from tests.torture.program import Program, render

MAX_ROUNDS = 16
R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC64 = 1, 2, 4, 10, 11, 24
OUTSIDE = ("trace", "say", "source", "complain", "die", "keep", "call_kept", "is_kept", "__fentry__")


class BadModule(Exception):
    """The kernel would not take this module, or would do something else than was meant."""


@dataclass
class Running:
    """A program as a kernel: compiled as a distribution does, linked, and its units compiled again when asked for."""

    folder: Path
    program: Program
    texts: dict[str, str]
    objects: dict[str, Path]
    image: Image
    kernel: KernelImage
    exports: dict[str, Export]
    _views: dict[str, tuple[bytes, View, ParityProof]] = field(default_factory=dict)
    _index: list[Index] = field(default_factory=list)

    def original(self, name: str) -> tuple[bytes, View, ParityProof]:
        """A unit compiled again, and its parity with what runs."""
        if name not in self._views:
            data = compile_c(
                self.folder, self.texts[name], name, f"{name}.split.o", (*FLAGS, *SPLIT, *self.program.flags)
            )
            view = View(read(data))
            self._views[name] = (data, view, compute_parity(view, self.kernel))
        return self._views[name]

    def graph(self) -> CallGraph:
        """The index that `kgbuild graph` asks, of this program."""
        if not self._index:
            root = self.folder
            write_units([], root / "units.sqlite")
            kernel = Kernel(
                *(KernelId("torture", "6.1.0-torture", "1", "00" * 20), root, root, root, root / "config"),
                *(root / "Module.symvers", self.image.path, root / "none", None, root / "units.sqlite", "gcc", "gcc"),
            )
            build_index(kernel, root / "index.sqlite", SilentProgress())
            self._index.append(Index(root / "index.sqlite", kernel))
        return self._index[0]


def start(folder: Path, program: Program) -> Running:
    """Compile and link a program."""
    texts = {u.name: render(program, u) for u in program.units}
    objects = {}
    for name, text in texts.items():
        compile_c(folder, text, name, f"{name}.whole.o", (*FLAGS, "-g1", *program.flags))
        objects[name] = folder / f"{name}.whole.o"
    image = link(folder, objects.values(), "program")
    symvers = folder / "Module.symvers"
    names = [*OUTSIDE, *program.entries()]
    symvers.write_text("".join(f"0x00000000\t{n}\tvmlinux\tEXPORT_SYMBOL\t\n" for n in names))
    return Running(folder, program, texts, objects, image, KernelImage(image.obj), parse_symvers(symvers.read_text()))


def with_lines(before: str, after: str) -> str:
    """The patched text with a #line directive behind each difference, as the builder leaves them: what only moved keeps
    the line it had."""
    old, new = before.splitlines(), after.splitlines()
    out: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal" and out:
            out.append(f"#line {i1 + 1}")
        out += old[i1:i2] if tag == "equal" else new[j1:j2]
    return "\n".join(out) + "\n"


@dataclass
class Patch:
    """What became of a change. `objects` are the patched units' objects by name; where nothing is refused and there
    is something to patch, `module` is the module."""

    objects: dict[str, Path]
    before: dict[str, Object]
    after: dict[str, Object]
    closure: Closure | None = None
    refusals: list[Refusal] = field(default_factory=list)
    module: bytes = b""

    @property
    def codes(self) -> list[str]:
        return sorted({r.code for r in self.refusals})


def make_patch(
    running: Running, after: Program, sabotage: Callable[[Closure], None] | None = None, backend: str = "klp"
) -> Patch:
    """Build the live patch that turns the running program into `after`."""
    patch = Patch({}, {}, {})
    units: list[UnitResult] = []
    for unit in after.units:
        text = render(after, unit)
        if text == running.texts[unit.name]:
            continue
        text = with_lines(running.texts[unit.name], text)
        out = f"{unit.name}.patched.o"
        data = compile_c(running.folder, text, unit.name, out, (*FLAGS, *SPLIT, *after.flags))
        before, view, parity = running.original(unit.name)
        patch.objects[unit.name] = running.folder / out
        patch.before[unit.name], patch.after[unit.name] = read(before), read(data)
        changes = compute_changes(view, View(patch.after[unit.name]), unit.name, lines=False)
        if changes.changed or changes.new:
            patch.refusals += check_types(changes, frozenset())[0]
        units.append(UnitResult(unit.name, changes, parity))
    if all(u.changes.nothing for u in units):
        return patch
    patch.closure = _close(running, units)
    patch.refusals += patch.closure.refusals
    if patch.refusals or not patch.closure.redirects:
        return patch
    if sabotage is not None:
        sabotage(patch.closure)
    try:
        patch.module = make_module(running, patch.closure, backend)
    except Refused as error:
        patch.refusals += error.refusals
    return patch


def _close(running: Running, units: list[UnitResult]) -> Closure:
    """Close to a fixed point, as the pipeline does."""
    for _ in range(MAX_ROUNDS):
        closure = close(tuple(units), running.kernel, running.exports, frozenset(), {}, running.graph)
        if closure.refusals or not closure.needs:
            return closure
        for name in closure.needs:
            if name not in running.texts or any(u.source == name for u in units):
                closure.refusals.append(Refusal("K15-pull", name, "is not found in its unit"))
                return closure
            _, view, parity = running.original(name)
            units.append(UnitResult(name, compute_changes(view, view, name, lines=False), parity))
    closure.refusals.append(Refusal("K15-pull", "all", "no end"))
    return closure


def make_module(running: Running, closure: Closure, backend: str) -> bytes:
    """The module of a closure, the wrapper aside. Raises Refused for what the back end can't emit."""
    output, folder, injects = extract(closure, Identity(bytes(20), True, "{}")), running.folder, True
    if backend == "kallsyms":
        own: list[Key] = [("vmlinux", name, 0) for name in NOTES]
        places = {p.key: p for p in make_record(closure, lambda _: running.kernel, {}, own).bound}
        request = Request(arch_of(output.machine), frozenset(), places, lambda _: running.kernel)
        refusals = BACKENDS[backend].check(output, request)
        if refusals:
            raise Refused(refusals)
        output, injects = BACKENDS[backend].transform(output, request), False
    (folder / "extracted.o").write_bytes(write(output))
    run("ld", "-r", "-o", folder / "linked.o", folder / "extracted.o")
    linked = (folder / "linked.o").read_bytes()
    return inject(read(linked)) if injects else linked


# -- what the kernel does with it --------------------------------------------------------------------------------------


@dataclass
class Loaded:
    """A module in memory, and the jumps that redirect: (place in the running program, bytes)."""

    pieces: list[Piece]
    jumps: list[tuple[int, bytes]]


def load(module: bytes, image: Image, exports: Mapping[str, Export], base: int = PATCH) -> Loaded:
    """Lay out, relocate and enable a module, with its first byte at `base`. Raises BadModule."""
    return _Loader(read(module), image, exports, base).run()


class _Loader:
    def __init__(self, obj: Object, image: Image, exports: Mapping[str, Export], base: int) -> None:
        self.obj, self.image, self.exports, self.base = obj, image, exports, base
        self.address: dict[int, int] = {}
        self.data: dict[int, bytearray] = {}

    def run(self) -> Loaded:
        at = self.base
        loaded = [s for s in self.obj.sections if s.flags & SHF.ALLOC and s.type != SHT.RELA]
        for group in (
            [s for s in loaded if s.executable],
            [s for s in loaded if not s.executable and not s.writable],
            [s for s in loaded if not s.executable and s.writable],
        ):
            at = (at + PAGE - 1) & -PAGE
            for s in group:
                align = max(s.align, 1)
                at = (at + align - 1) & -align
                self.address[s.index] = at
                self.data[s.index] = bytearray(self.obj.contents(s.index)).ljust(s.size, b"\0")
                at += s.size
        for s in self.obj.sections:
            if s.type == SHT.RELA and s.info in self.data:
                rows = memoryview(self.obj.contents(s.index))
                for offset, kind, sym, addend in _rows(rows):
                    self._relocate(s.info, offset, kind, self._symbol(sym) + addend)
        self._look_up()
        pieces = [
            Piece(
                self.address[s.index],
                bytes(self.data[s.index]),
                s.size,
                READ | (EXECUTE if s.executable else 0) | (WRITE if s.writable else 0),
            )
            for s in loaded
            if s.size
        ]
        return Loaded(pieces, self._jumps())

    def _symbol(self, index: int) -> int:
        s = self.obj.symbol(index)
        if s.shndx == SHN.LIVEPATCH:
            owner, name, position = split_livepatch_name(s.name)
            if owner != "vmlinux":
                raise BadModule(f"{s.name}: no such object")
            return self._kallsyms(name, position)
        if s.shndx == SHN.UNDEF:
            found = [f for f in self.image.symbols.get(s.name, []) if f.bind != STB.LOCAL]
            if s.name not in self.exports or len(found) != 1:
                raise BadModule(f"{s.name} is not exported")
            return found[0].value
        return self.address[s.shndx] + s.value

    def _kallsyms(self, name: str, position: int) -> int:
        """klp_find_object_symbol: the symbol at a position among those of its name; 0 where there must be one."""
        found = [s.value for s in self.image.symbols.get(name, [])]
        if position == 0 and len(found) == 1:
            return found[0]
        if not 1 <= position <= len(found):
            raise BadModule(f"no symbol {name},{position} among {len(found)}")
        return found[position - 1]

    def _relocate(self, section: int, offset: int, kind: int, value: int) -> None:
        place = self.address[section] + offset
        if kind in (R_PC32, R_PLT32, R_PC64):
            value -= place
        size, signed = {R_64: (8, False), R_PC64: (8, True), R_32: (4, False)}.get(kind, (4, True))
        if kind not in (R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC64):
            raise BadModule(f"relocation type {kind}")
        try:
            self.data[section][offset : offset + size] = value.to_bytes(size, "little", signed=signed)
        except OverflowError:
            raise BadModule(f"relocation of type {kind} overflows: {value:#x}") from None

    def _table(self, name: str) -> bytes:
        section = self.obj.section_named(f".rodata.kgbuild_{name}")
        return bytes(self.data[section.index]) if section is not None else b""

    def _look_up(self) -> None:
        """What data/livepatch/kallsyms.c does, where a module has its tables."""
        found = []
        ranges = list(RANGE_ROW.iter_unpack(self._table("ranges")))
        for owner, name, position, first, count, crc, _ in SYMBOL_ROW.iter_unpack(self._table("symbols")):
            if owner:
                raise BadModule("a symbol of another object")
            found.append(self._kallsyms(self._text(name), position))
            code = b"".join(self._code(found[-1] + at, size) for at, size in ranges[first : first + count])
            if count and zlib.crc32(code) != crc:
                raise BadModule(f"{self._text(name)} has other code")
        starts = {start: index for index, start in self.address.items() if self.data[index]}
        for site, addend, kind, symbol, owner in SITE_ROW.iter_unpack(self._table("sites")[: -SITE_ROW.size]):
            if owner or symbol >= len(found):
                raise BadModule("a site of another object, or of no symbol")
            start = max(at for at in starts if at <= site)
            number = {0: R_64, 1: R_PC32, 2: R_32, 3: R_32S, 4: R_PC64}[kind]
            self._relocate(starts[start], site - start, number, found[symbol] + addend)

    def _code(self, address: int, size: int) -> bytes:
        """What the running program has at a place."""
        obj = self.image.obj
        for s in obj.sections:
            if s.flags & SHF.ALLOC and s.addr <= address and address + size <= s.addr + s.size:
                return bytes(obj.contents(s.index)[address - s.addr : address - s.addr + size])
        raise BadModule(f"no code at {address:#x}")

    def _text(self, address: int) -> str:
        for index, start in self.address.items():
            if start <= address < start + len(self.data[index]):
                raw = bytes(self.data[index][address - start :])
                return raw[: raw.index(b"\0")].decode()
        raise BadModule(f"no string at {address:#x}")

    def _jumps(self) -> list[tuple[int, bytes]]:
        """Of each klp_func, a jump at the kernel's function."""
        table = next(s for s in self.obj.sections if s.name == ".rodata.kgbuild_funcs")
        raw = bytes(self.data[table.index])
        jumps = []
        for at in range(0, len(raw) - 32, 32):
            _, name, function, position = struct.unpack_from("<4Q", raw, at)
            shown = self._text(name)
            address = self._kallsyms(shown, position)
            if address not in self.image.sites:
                raise BadModule(f"{shown} has no ftrace site")
            jumps.append((address, b"\xe9" + (function - address - 5).to_bytes(4, "little", signed=True)))
        if len({place for place, _ in jumps}) != len(jumps):
            raise BadModule("one function is redirected twice")
        return jumps


def _rows(raw: memoryview) -> list[tuple[int, int, int, int]]:
    """Offset, type, symbol and addend of each Elf64_Rela."""
    return [row[:4] for row in struct.iter_unpack("<QIIq", raw)]


__all__ = ["BadModule", "Loaded", "Patch", "Running", "load", "make_module", "make_patch", "start"]
