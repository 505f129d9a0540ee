# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel in small: originals, compiled as a distribution does (all of a unit in one .text), and what they refer to,
linked to addresses like the real ones. And the way from a pair to a module."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lief
from elftools.elf.elffile import ELFFile

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.model import CallGraph, Edge, Function, Name, Taker
from kgbuild.closure.close import close
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.diff.author_macros import read_author
from kgbuild.diff.changes import compute_changes
from kgbuild.elf.read import read
from kgbuild.elf.write import write
from kgbuild.emit.extract import extract
from kgbuild.emit.klp_relocations import inject
from kgbuild.emit.patch_tables import Identity
from kgbuild.kernel.exports import Export
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.proof.parity import compute_parity
from tests.support.store import program, stored
from tests.support.toolchain import compile_pair_side, compile_text, pair_flags, run, scratch, view

# The unit that has what pairs call and do not define.
REST = """
#include "kernel.h"
#define F(name) weak notrace int name(int x) { return x + __COUNTER__; }
F(source) F(source_old) F(source_new) F(a) F(b) F(c) F(d) F(e) F(f) F(take) F(show) F(___ratelimit) F(helper)
F(warn_slowpath_fmt) F(panic) F(__might_sleep) F(lockdep_rcu_suspicious) F(allow) F(configure) F(__dynamic_pr_debug)
F(__ubsan_handle_out_of_bounds) F(__ubsan_handle_shift_out_of_bounds)
int first_array[8], second_array[8];
notrace void complain(int n) { }
notrace int printk(const char *format, ...) { return 0; }
notrace void sink(const void *p) { }
notrace __attribute__((noreturn)) void halt_for_ever(void) { for (;;) ; }
notrace void __fentry__(void) { }
section(".data..percpu") int cpu_number = 1;
section(".data..percpu") int cpu_other = 2;
section(".init.data") char boot_text[8] = "boot";
char __start_notes[4] = "abc", __stop_notes[4] = "abd";
"""
SCRIPT = """
SECTIONS {
  .data..percpu 0 : { *(.data..percpu) }
  . = 0xffffffff81000000;
  .text : { *(.text .text.* .sched.text) }
  .rodata : { *(.rodata .rodata.*) }
  __ex_table : { *(__ex_table) }
  __bug_table : { *(__bug_table) }
  __jump_table : { *(__jump_table) }
  __mcount_loc : { *(__mcount_loc) }
  my_table : { *(my_table) }
  .data : { *(.data .data.*) }
  . = ALIGN(0x1000);
  .init.text : { *(.init.text) }
  .init.data : { *(.init.data) }
  .altinstructions : { *(.altinstructions) }
  .altinstr_replacement : { *(.altinstr_replacement) }
  .bss : { *(.bss .bss.*) }
  /DISCARD/ : { *(.discard*) *(.comment) *(.note*) }
}
"""
EXPORTED = ("printk", "__fentry__", "source")
EXPORTS = {n: Export(n, 0, "vmlinux", "EXPORT_SYMBOL", "") for n in EXPORTED}


@cache
def link_kernel(objects: tuple[bytes, ...], rest: str = REST) -> KernelImage:
    """The image of these objects and the rest of the kernel."""
    every = [*objects, compile_text(rest, *pair_flags(split=False), name="rest.c")]
    digests = [hashlib.sha256(data).hexdigest() for data in every]
    linked = stored(("link", digests, SCRIPT, program(shutil.which("ld") or "ld")), lambda: _link(every))
    return KernelImage(read(linked))


def _link(objects: Sequence[bytes]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="kgbuild-tests-") as name:
        folder = Path(name)
        (folder / "kernel.lds").write_text(SCRIPT)
        paths = []
        for i, data in enumerate(objects):
            paths.append(folder / f"{i}.o")
            paths[-1].write_bytes(data)
        run("ld", "-n", "-e", "0", "-T", folder / "kernel.lds", "-o", folder / "vmlinux", *paths)
        return (folder / "vmlinux").read_bytes()


@dataclass(frozen=True)
class Patched:
    """A pair taken through to its closure, with the object files it came from."""

    closure: Closure
    orig: bytes
    patched: bytes
    image: KernelImage

    @property
    def refused(self) -> list[str]:
        return sorted({f"{r.code}:{r.symbol}" for r in self.closure.refusals})

    def roles(self, role: str) -> list[str]:
        return sorted(m.atom.name for m in self.closure.members.values() if m.role == role)

    @property
    def bound(self) -> dict[str, str]:
        return {b.name: b.how for b in self.closure.bound.values()}


def close_pair(
    name: str,
    flags: Sequence[str] = (),
    *,
    kernel_flags: Sequence[str] = (),
    beside: Sequence[str] = (),
    allow: Sequence[str] = (),
    exports: dict[str, Export] | None = None,
) -> Patched:
    """`pairs/NAME.c`, its original linked into a kernel with the C texts `beside`, closed."""
    in_kernel = compile_pair_side(name, *flags, *kernel_flags, split=False)
    return _close(
        f"{name}.c",
        in_kernel,
        compile_pair_side(name, *flags),
        compile_pair_side(name, *flags, "-DPATCHED"),
        beside,
        allow,
        EXPORTS if exports is None else exports,
    )


def close_text(
    text: str,
    *,
    beside: Sequence[str] = (),
    flags: Sequence[str] = (),
    kernel_text: str | None = None,
    tracked: bool = False,
    exports: dict[str, Export] | None = None,
) -> Patched:
    """A kernel and a patch from one C text with #ifdef PATCHED; `flags` are for all of the kernel."""
    text = f'#include "kernel.h"\n{text}'
    kernel_text = f'#include "kernel.h"\n{kernel_text}' if kernel_text is not None else text
    return _close(
        "unit.c",
        compile_text(kernel_text, *pair_flags(flags, split=False)),
        compile_text(text, *pair_flags(flags)),
        compile_text(text, *pair_flags((*flags, "-DPATCHED"))),
        beside,
        (),
        EXPORTS if exports is None else exports,
        flags,
        tracked,
    )


def _close(
    source: str,
    in_kernel: bytes,
    orig: bytes,
    patched: bytes,
    beside: Sequence[str],
    allow: Sequence[str],
    exports: dict[str, Export],
    flags: Sequence[str] = (),
    tracked: bool = False,
) -> Patched:
    others = [compile_text(f'#include "kernel.h"\n{t}', *pair_flags(flags, split=False), name=source) for t in beside]
    image = link_kernel((in_kernel, *others))
    before = view(orig)
    unit = UnitResult(source, compute_changes(before, view(patched), source), compute_parity(before, image))
    closure = close((unit,), image, exports, frozenset(allow), tracked=tracked)
    return Patched(closure, orig, patched, image)


def make_module(closure: Closure) -> tuple[bytes, bytes]:
    """(the object `ld -r` makes of the extracted one, the module after injection)."""
    assert not closure.refusals, closure.refusals
    data = write(extract(closure, Identity(bytes(20), True, "{}")))
    folder: Path = scratch() / f"module-{hashlib.sha256(data).hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    (folder / "extracted.o").write_bytes(data)
    run("ld", "-r", "-o", folder / "linked.o", folder / "extracted.o")
    linked = (folder / "linked.o").read_bytes()
    return linked, inject(read(linked))


class GivenGraph:
    """A call graph that says what a test gives it: edges (caller, its unit, its kind) by the name of the function that
    they lead to, and names of data that hold an address."""

    def __init__(
        self, edges: Mapping[str, Sequence[tuple[str, str, EdgeKind]]], lost: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.edges, self.lost = edges, lost
        self.names = sorted({*edges, *(caller for of in edges.values() for caller, _, _ in of)})
        self.units = {caller: unit for of in edges.values() for caller, unit, _ in of}

    def at(self, image: KernelImage) -> CallGraph:
        self.image = image
        return self

    def function(self, number: int) -> Function:
        name = self.names[number]
        return Function(number, "vmlinux", name, ".text", 0, 0, None, False, self.units.get(name, ""))

    def functions_named(self, name: str) -> list[Function]:
        return [self.function(self.names.index(name))] if name in self.names else []

    def function_at(self, object_name: str, address: int, section: str = "") -> Function | None:
        found = [s.name for s in self.image.functions_at(address)]
        return next((self.function(self.names.index(n)) for n in found if n in self.names), None)

    def callers(self, number: int, limit: int = 0) -> list[Edge]:
        of = self.edges.get(self.names[number], ())
        return [Edge(self.names.index(caller), 0, number, 0, kind) for caller, _, kind in of]

    def callees(self, number: int, limit: int = 0) -> list[Edge]:
        return []

    def count(self, number: int, direction: str) -> int:
        return len(self.callers(number))

    def aliases(self, number: int) -> list[Name]:
        return []

    def address_takers(self, number: int) -> list[Taker]:
        return []

    def strays(self, number: int) -> list[str]:
        return [place for name, place in self.lost if name == self.names[number]]

    def unit_of(self, number: int) -> str:
        return self.units.get(self.names[number], "")

    def trace_site(self, number: int) -> int | None:
        return None


def close_units(
    texts: Mapping[str, str],
    graph: GivenGraph,
    flags: Sequence[str] = (),
    exports: dict[str, Export] = EXPORTS,
    assume_callers: bool = False,
) -> Closure:
    """Several C texts with #ifdef PATCHED, each a unit of one kernel, closed together."""
    sources = {name: f'#include "kernel.h"\n{text}' for name, text in texts.items()}
    image = link_kernel(tuple(compile_text(t, *pair_flags(split=False), name=n) for n, t in sources.items()))
    units = []
    for name, text in sources.items():
        before, after = (view(compile_text(text, *pair_flags((*flags, *d)), name=name)) for d in ((), ("-DPATCHED",)))
        changes, author = compute_changes(before, after, name), read_author(after, name)[0]
        units.append(UnitResult(name, changes, compute_parity(before, image), author=author))
    return close(tuple(units), image, exports, graph=lambda: graph.at(image), assume_callers=assume_callers)


def check_module(p: Patched, data: bytes) -> None:
    """Livepatch sections and symbols are as the kernel wants them, and nothing undefined is left but exports."""
    elf = ELFFile(io.BytesIO(data))
    parsed = lief.ELF.parse(list(data))
    assert parsed is not None
    symbols = list(elf.get_section_by_name(".symtab").iter_symbols())
    listed = {b.symbol for b in p.closure.bound.values() if b.how == "klp"}
    listed |= {f".klp.sym.vmlinux.{n},0" for n in ("__start_notes", "__stop_notes")}
    late = {s.name for s in symbols if s["st_shndx"] == 0xFF20}
    assert late == listed
    assert {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name} <= {*EXPORTS}
    assert {s.name for s in parsed.symbols if s.name.startswith(".klp.sym.")} == late
    names = [s.name for s in elf.iter_sections() if s.name.startswith(".klp.rela.")]
    assert len(names) == len(set(names)) or all(".text" not in n for n in names)
    for s in elf.iter_sections():
        if s["sh_type"] != "SHT_RELA":
            continue
        klp = s.name.startswith(".klp.rela.vmlinux.")
        target = elf.get_section(s["sh_info"])
        assert target.name == s.name.removeprefix(".klp.rela.vmlinux." if klp else ".rela")
        assert bool(s["sh_flags"] & 0x0010_0000) is klp
        assert bool(s["sh_flags"] & 2) is klp, "the module loader must not free a livepatch section"
        for r in s.iter_relocations():
            assert (symbols[r["r_info_sym"]]["st_shndx"] == 0xFF20) is klp
            assert r["r_offset"] < target["sh_size"]


ANCHOR = "const char anchor[16] = {1};\n"


WITH_ANCHOR = {**EXPORTS, "anchor": Export("anchor", 0, "vmlinux", "EXPORT_SYMBOL", "")}
