# SPDX-License-Identifier: GPL-2.0-or-later
"""kallsyms: the module's init looks up what is not exported, and writes it into the module's own code and data.

For kernels, or policies, where livepatch relocations can't be used. Branches to such a function go to a stub of the
module, one for each function, that jumps on directly: what the loader copies or reads before init (replacement code of
alternatives, `.call_sites`) holds a branch within the module then. Code that takes an address, or reads and writes what
is there, goes through a slot (emit/backends/slots.py); a pointer in data is one by itself. The stubs' jumps, slots and
pointers are sites, which data/livepatch/kallsyms.c writes before anything of the patch runs. A pointer to a function
stays a pointer to the function, not to its stub.

A static call of the kernel's stays what the compiler made, a call of its trampoline: its entry in `.static_call_sites`
is left out, so that the call is one jump longer, and right.

What can't be reached so is refused: keys of static branches, per-CPU variables, instructions that the kernel replaces
when it loads the module, and instructions that have no form that goes through a slot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.consts import SHF, SHT, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol
from kgbuild.emit.backends.backend import Request
from kgbuild.emit.backends.lookup_tables import LookupRow, LookupSite, LookupTables
from kgbuild.emit.backends.old_interfaces import check_interface, emitted_entry_size, interface_macros
from kgbuild.emit.backends.slots import SlotWriter, Unwind, plan_steps
from kgbuild.emit.backends.stable_bytes import REPLACED
from kgbuild.emit.klp_relocations import patched_object, split_livepatch_name
from kgbuild.kernel.feature_probes import (
    EACH_PLAIN,
    KLP_ARCH,
    KLP_CALLBACKS,
    KPROBES,
    LIVEPATCH,
    LOOKUP_EXPORTED,
    TEXT_POKE,
    text_poke_symbols,
    what_text_poke_needs,
)
from kgbuild.model import VMLINUX
from kgbuild.module_abi import (
    CALLBACKS,
    FUNCTIONS,
    KLP_SYMBOL,
    RESOLVE_SECTION,
    STUB,
    STUBS_SECTION,
)
from kgbuild.proof.record import SymbolKey

_LOOKUP = "kallsyms_on_each_symbol"
_WRAPPER_TARGETS = ("find_module", "copy_from_kernel_nofault")
# Sections of data that nothing looks at before init; the loader copies `.data..percpu` for each CPU.
_STATIC_CALLS = ".static_call_sites"
# Tables of functions that the kernel calls.
_ENTRIES = (FUNCTIONS.section, CALLBACKS.section)
_DATA, _PER_CPU = (".rodata", ".data"), ".data..percpu"


@dataclass(frozen=True)
class Kallsyms:
    """See `Backend`."""

    name: str = "kallsyms"
    wrapper: str = "main.c"
    injects: bool = False

    def why_not(self, features: frozenset[str]) -> str:
        if LIVEPATCH not in features:
            return "it does not have CONFIG_LIVEPATCH"
        if KLP_CALLBACKS not in features:
            return "its livepatch interface has no callbacks (struct klp_callbacks)"
        if not {LOOKUP_EXPORTED, KPROBES} & features:
            return "it does not export kallsyms_lookup_name, and has no kprobes (CONFIG_KPROBES) to find it by"
        if TEXT_POKE not in features:
            return f"the module writes into its own code, which needs {what_text_poke_needs()}"
        return ""

    def own_symbols(self, features: frozenset[str], targets: bool) -> tuple[str, ...]:
        own = (_LOOKUP, *text_poke_symbols(features))
        return (*own, *_WRAPPER_TARGETS) if targets else own

    def defines(self, features: frozenset[str]) -> tuple[str, ...]:
        out = ["KGBUILD_KALLSYMS", *interface_macros(features)]
        out += ["KGBUILD_LOOKUP_EXPORTED"] * (LOOKUP_EXPORTED in features)
        out += ["KGBUILD_EACH_PLAIN"] * (EACH_PLAIN in features)
        return tuple(out)

    def macros(self, functions: Sequence[SymbolKey]) -> tuple[str, ...]:
        del functions
        return ()

    def check(self, output: OutObject, request: Request) -> list[Refusal]:
        own = check_interface(output, request.arch, request.features - {KLP_ARCH})
        return own + check_deferred(output, request)

    def transform(self, output: OutObject, request: Request) -> OutObject:
        return _Transform(output, request).run()


def check_deferred(output: OutObject, request: Request) -> list[Refusal]:
    """Every reference that can't wait until init."""
    replaced = list(_replaced_at_load(output, request.arch))
    faults = {
        id(step.relocs[at]): step.form.fault
        for step in plan_steps(output, request.arch, lambda s, r: _in_slot(request.arch, s, r))
        for at in step.late
    }
    out = []
    for section in output.sections:
        for reloc in section.relocs:
            fact = _fault(section, reloc, request, replaced) or faults.get(id(reloc), "")
            if fact:
                name = _key(reloc.symbol)[1]
                place = _owner_of(request.arch, output, section, reloc)
                out.append(Refusal("B2-deferred", place, f"refers to {name}, {fact}", name, section.name))
    return out


def _is_deferred(reloc: OutReloc) -> bool:
    return reloc.symbol.section is None and reloc.symbol.name.startswith(KLP_SYMBOL)


def _key(symbol: OutSymbol) -> SymbolKey:
    return split_livepatch_name(symbol.name.partition("@")[0])


def is_direct_branch(arch: Arch, section: OutSection, reloc: OutReloc) -> bool:
    """Whether a relocation is the displacement of a direct branch to its symbol's first byte."""
    if not section.flags & SHF.EXECINSTR or reloc.addend != -arch.relocs.sizes[arch.call_reloc]:
        return False
    if reloc.type not in (arch.call_reloc, arch.per_field_pcrel32):
        return False
    start = max(reloc.offset - 8, 0)
    return arch.is_branch_field(bytes(section.data[start : reloc.offset + 4]), reloc.offset - start)


def _in_slot(arch: Arch, section: OutSection, reloc: OutReloc) -> bool:
    """Whether code goes through a slot for this relocation."""
    if not section.flags & SHF.EXECINSTR or section.name in arch.read_at_load or not _is_deferred(reloc):
        return False
    return not is_direct_branch(arch, section, reloc)


def _fault(section: OutSection, reloc: OutReloc, request: Request, replaced: list[tuple[OutSection, int, int]]) -> str:
    """Why this relocation can't wait until init, "" where it can."""
    if not _is_deferred(reloc) or section.name in (_STATIC_CALLS, RESOLVE_SECTION):
        return ""
    key = _key(reloc.symbol)
    if request.places[key].section.startswith(_PER_CPU):
        return "a per-CPU variable"
    if section.flags & SHF.EXECINSTR and is_direct_branch(request.arch, section, reloc):
        return ""
    if section.name in request.arch.read_at_load:
        return f"which {section.name} needs when the module is loaded"
    if section.name.startswith(_PER_CPU):
        return "in a per-CPU variable, which is copied when the module is loaded"
    if not section.flags & SHF.EXECINSTR and not section.name.startswith(_DATA):
        return f"and nothing is known of what reads {section.name} before the module's init"
    if not section.flags & SHF.EXECINSTR and reloc.type not in request.arch.written_late:
        return f"by a relocation of type {request.arch.relocs.names.get(reloc.type, reloc.type)}"
    for other, start, end in replaced:
        if other is section and start <= reloc.offset < end:
            return "in an instruction that the kernel may replace when the module is loaded"
    return ""


def _replaced_at_load(output: OutObject, arch: Arch) -> Iterator[tuple[OutSection, int, int]]:
    """(section, start, end) of code that the loader may replace, by the tables that say how long it is."""
    for table in output.sections:
        spec = arch.special.get(table.name)
        if spec is None or table.name not in REPLACED:
            continue
        rows = {reloc.offset: reloc for reloc in table.relocs}
        size = emitted_entry_size(table, arch)
        for base in range(0, len(table.data), size or 1):
            at, width = spec.fields[size]["length"]
            length = int.from_bytes(table.data[base + at : base + at + width], output.records.order)
            owner = rows[base]
            if owner.symbol.section is not None:
                start = owner.symbol.value + owner.addend
                yield owner.symbol.section, start, start + length


def _owner_of(arch: Arch, output: OutObject, section: OutSection, reloc: OutReloc) -> str:
    """Whose reference it is: for an entry of a special section the function that it belongs to."""
    if section.name in arch.read_at_load:
        before = [r for r in section.relocs if r.offset < reloc.offset and r.symbol.section is not None]
        code = [r for r in before if r.symbol.section is not None and r.symbol.section.flags & SHF.EXECINSTR]
        if code:
            owner = max(code, key=lambda r: r.offset)
            assert owner.symbol.section is not None
            return _function_at(output, owner.symbol.section, owner.symbol.value + owner.addend)
    return _function_at(output, section, reloc.offset)


def _function_at(output: OutObject, section: OutSection, offset: int) -> str:
    """The function or variable that holds a place, else the place itself."""
    for symbol in output.symbols:
        inside = symbol.section is section and symbol.value <= offset < symbol.value + symbol.size
        if inside and symbol.type in (STT.FUNC, STT.OBJECT):
            return f"{symbol.name}+{offset - symbol.value:#x}"
    return f"{section.name}+{offset:#x}"


def _without_unused(out: OutObject) -> list[OutSymbol]:
    """Its symbols, without undefined ones that nothing refers to any more."""
    used = {id(r.symbol) for section in out.sections for r in section.relocs}
    return [s for s in out.symbols if s.section is not None or id(s) in used]


class _Transform:
    def __init__(self, output: OutObject, request: Request) -> None:
        self.output, self.request, self.arch = output, request, request.arch
        self.rows = {key: number for number, key in enumerate(sorted(request.places))}
        self.sites: list[LookupSite] = []
        self.stubs: dict[str, OutSymbol] = {}
        align = len(self.arch.stub) or 1
        self.code = OutSection(STUBS_SECTION, SHT.PROGBITS, SHF.ALLOC | SHF.EXECINSTR, align=align)

    def run(self) -> OutObject:
        out = OutObject(
            self.output.machine,
            list(self.output.sections),
            list(self.output.symbols),
            self.output.flags,
            self.output.records,
        )
        # the kernel resolves nothing of this module, so nothing has to be resolved first
        out.sections = [s for s in out.sections if s.name != RESOLVE_SECTION]
        steps = plan_steps(out, self.arch, lambda s, r: _in_slot(self.arch, s, r))
        writer = SlotWriter(out, self.arch)
        for slot in writer.run(steps):
            self._site(writer.section, slot.offset, self.arch.pointer_reloc, slot.addend, slot.symbol)
        for section in out.sections:
            if section.name == _STATIC_CALLS:
                self._static_calls(section)
            kept = [made for reloc in section.relocs if (made := self._relocation(section, reloc)) is not None]
            section.relocs = kept
        if self.stubs:
            out.sections.append(self.code)
            out.symbols += self.stubs.values()
            self._unwinding(out)
        rows = [LookupRow(key, self.request.places[key]) for key in self.rows]
        out.symbols = _without_unused(out)
        LookupTables(self.arch, rows, self.sites).add_to(out, self.request.image_of)
        return out

    def _static_calls(self, section: OutSection) -> None:
        """Leave out the entries whose key is the kernel's and not exported."""
        ((size, key),) = self.arch.special[_STATIC_CALLS].key.items()
        late = {r.offset // size for r in section.relocs if r.offset % size == key and _is_deferred(r)}
        kept = [n for n in range(len(section.data) // size) if n not in late]
        position = {number: at for at, number in enumerate(kept)}
        section.data = bytearray(b"".join(section.data[n * size : (n + 1) * size] for n in kept))
        section.relocs = [
            OutReloc(position[r.offset // size] * size + r.offset % size, r.type, r.symbol, r.addend)
            for r in section.relocs
            if r.offset // size in position
        ]

    def _relocation(self, section: OutSection, reloc: OutReloc) -> OutReloc | None:
        """What is left of a relocation: itself, one to a stub, or None where a site takes its place."""
        if not _is_deferred(reloc):
            return reloc
        if is_direct_branch(self.arch, section, reloc):
            return OutReloc(reloc.offset, reloc.type, self._stub(reloc.symbol), reloc.addend)
        self._site(section, reloc.offset, reloc.type, reloc.addend, reloc.symbol)
        return None

    def _site(self, section: OutSection, offset: int, kind: int, addend: int, symbol: OutSymbol) -> None:
        size = self.arch.relocs.sizes[kind]
        section.data[offset : offset + size] = bytes(size)
        owner = patched_object(symbol.name)
        self.sites.append(
            LookupSite(section, offset, kind, addend, self.rows[_key(symbol)], "" if owner == VMLINUX else owner)
        )

    def _stub(self, function: OutSymbol) -> OutSymbol:
        if function.name not in self.stubs:
            base = len(self.code.data)
            self.code.data += self.arch.stub
            entry, field = self.arch.stub_entry, self.arch.stub_field
            size = self.arch.relocs.sizes[self.arch.call_reloc]
            self._site(self.code, base + field, self.arch.per_field_pcrel32, -size, function)
            name = f"{STUB}{_key(function)[1]}"
            length = len(self.arch.stub) - entry
            self.stubs[function.name] = OutSymbol(name, self.code, base + entry, length, type=STT.FUNC)
        return self.stubs[function.name]

    def _unwinding(self, out: OutObject) -> None:
        """One entry for all stubs: at each of their instructions the stack is as where the kernel enters the patch."""
        unwind = Unwind(out)
        for reloc in (r for s in out.sections if s.name in _ENTRIES for r in s.relocs):
            section, offset = reloc.symbol.section, reloc.symbol.value + reloc.addend
            code = section is not None and section.flags & SHF.EXECINSTR
            state = unwind.state_at(section, offset) if section is not None and code else b""
            if state:
                symbol = OutSymbol("", self.code, type=STT.SECTION)
                out.symbols.append(symbol)
                unwind.add(symbol, [(0, state)])
                return
