# SPDX-License-Identifier: GPL-2.0-or-later
"""From a closure to one relocatable object: the members, their special-section entries, the tables of the patch.

Section names are kept exactly: the module loader and the kernel know `.data..percpu`, `.data..ro_after_init`,
`__dyndbg` and their like by name. References out of the module are plain undefined symbols here; injection turns the
`.klp.sym.*` among them into livepatch relocations, after the last tool that would destroy those has run.

The patch's own tables are what `kgbuild/data/livepatch/main.c` reads at load:
  .rodata.kgbuild_funcs   struct { const char *object, *name; void *func; unsigned long sympos; }, ended by zeros
  .rodata.kgbuild_strings the names
  .rodata.kgbuild_callbacks, .rodata.kgbuild_states  for an author's callbacks and states, see _author_tables
  .rodata.kgbuild_objects, .rodata.kgbuild_late  for patches of modules, see _target_tables
  .rodata.kgbuild_initial, .rodata.kgbuild_values  the initial values of variables, see emit/initial_values.py
  .rodata.kgbuild_constants  struct { void *site; const void *value; u64 size; }: places in code into which the kernel
                          writes the value of a variable when it boots; ended by zeros
  .note.kgbuild           an ELF note "kgbuild", type 1, a JSON text (docs/schema/note.md)
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from kgbuild.arch import arch_of
from kgbuild.closure.binding import NEW_GLOBAL, WEAK_NULL, Bound
from kgbuild.closure.close import PATCH_SYMBOL, THIS_MODULE
from kgbuild.closure.lifetime import Initial, initial_values, place_alignment
from kgbuild.closure.model import Closure, Member, Redirect
from kgbuild.diff.author_macros import CALLBACKS
from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol
from kgbuild.emit.initial_values import Values
from kgbuild.emit.klp_relocations import RESOLVE_SECTION, patched_object
from kgbuild.kernel.module_loader import is_per_cpu, loadable_name
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, STRING, Atom, Ref
from kgbuild.objects.special_entries import SpecialEntry
from kgbuild.objects.symbol_kinds import PARAMETERS, is_branch
from kgbuild.objects.view import View

FUNCS_SECTION = ".rodata.kgbuild_funcs"
STRINGS_SECTION = ".rodata.kgbuild_strings"
NOTE_SECTION = ".note.kgbuild"
END_SECTION = ".text.kgbuild_end"
FUNC_ENTRY = 32
CALLBACK_ENTRY = 24
OBJECT_ENTRY = 48
LATE_ENTRY = 24
NOTES = ("__start_notes", "__stop_notes")
THUNK = "kgbuild_thunk_"
CONSTANT_ENTRY = 24
NOTE_NAME = b"kgbuild\0"
NOTE_TYPE = 1


@dataclass(frozen=True)
class Identity:
    """What the module checks and says of itself: the build-id (bytes) of the vmlinux it is for, whether it replaces
    older patches, the JSON text of its note, the modules it patches, and whether it must itself clear what was
    relocated late when such a module goes (the kernel does so since 6.3)."""

    build_id: bytes
    replace: bool
    note: str
    targets: tuple[TargetIdentity, ...] = ()
    clear_late: bool = False


@dataclass(frozen=True)
class TargetIdentity:
    """How to know a target module in memory: its name, its build-id (bytes), a symbol of it with its position, and the
    distance in bytes from there to the build-id."""

    name: str
    build_id: bytes
    anchor: str
    sympos: int
    delta: int


def extract(closure: Closure, identity: Identity | None) -> OutObject:
    """The output object of a closure that has no refusals; without an identity, the members and what belongs to them
    alone, without the tables of a patch."""
    return _Extractor(closure, identity).run()


def end_code(output: OutObject) -> None:
    """Append a section that ends the module's code, with a symbol.

    The kernel takes a module's last function to reach to the end of its last page of code. When a kprobe is put on it,
    can_optimize() (arch/x86/kernel/kprobes/opt.c) decodes the padding too. Where nothing is mapped behind that page
    (6.12; 6.1 has the module's data there) the machine dies of an instruction that the page's end cuts.
    """
    arch = arch_of(output.machine)
    section = OutSection(
        END_SECTION, SHT.PROGBITS, SHF.ALLOC | SHF.EXECINSTR, bytearray(arch.trap), align=len(arch.trap)
    )
    output.sections.append(section)
    output.symbols.append(OutSymbol("kgbuild_end", section, 0, len(arch.trap)))


def table_order(closure: Closure) -> list[Redirect]:
    """What the patch replaces, in the order of the table of functions: vmlinux first, each object's together."""
    return sorted(closure.redirects, key=lambda r: (r.object != VMLINUX, r.object, r.unit, r.atom.id))


class _Extractor:
    def __init__(self, closure: Closure, identity: Identity | None) -> None:
        self.c, self.identity = closure, identity
        self.arch = closure.units[0].changes.patched.arch
        self.out = OutObject(self.arch.machine)
        self.place: dict[tuple[int, int], tuple[OutSection, int]] = {}
        self.symbol_of: dict[tuple[int, int], OutSymbol] = {}
        self.section_symbols: dict[int, OutSymbol] = {}
        self.undefined: dict[str, OutSymbol] = {}
        self.shared: dict[str, OutSection] = {}
        # section, offset in it, size in bytes, variable
        self.thunks: dict[str, OutSymbol] = {}
        self.constants: list[tuple[OutSection, int, int, Bound]] = []
        written = initial_values(closure) if identity is not None else ()
        self.values = Values({(i.unit, i.atom.id): i for i in written})

    def run(self) -> OutObject:
        members = sorted(self.c.members.values(), key=lambda m: (m.unit, m.atom.kind != FUNCTION, m.atom.id))
        for member in members:
            self._place(member)
        for member in members:
            self._relocate(member)
        for member in members:
            if member.atom.kind == FUNCTION:
                self._entries(member)
        self.out.sections += [s for s in (self.values.section, self.values.saved) if s.data]
        if self.identity is not None:
            self._tables(self.identity)
        return self.out

    def _view(self, unit: int) -> View:
        return self.c.units[unit].changes.patched

    # -- contents ------------------------------------------------------------------------------------------------

    def _place(self, member: Member) -> None:
        view, atom = self._view(member.unit), member.atom
        source = view.section_of(atom)
        key = (member.unit, atom.id)
        flags = source.flags & ~SHF.GROUP
        if atom.kind == STRING or (atom.kind == ANON and source.name in self.arch.auxiliary):
            section = self._shared_section(source.name, flags, source.align, source.entsize)
            section.data.extend(b"\0" * (-len(section.data) % max(source.align, 1) if atom.kind != STRING else 0))
            if atom.kind == STRING and source.align > 1:
                section.data.extend(b"\0" * (-len(section.data) % source.align))
            self.place[key] = (section, len(section.data))
            section.data.extend(view.content(atom))
            return
        if member.role == "prefix":
            return  # placed with its function
        prefix = view.just_before(atom) if atom.kind == FUNCTION else None
        if prefix is not None and (member.unit, prefix.id) not in self.c.members:
            prefix = None
        name = loadable_name(source.name)
        kind = SHT.NOBITS if source.type == SHT.NOBITS else SHT.PROGBITS
        merge = bool(flags & SHF.MERGE)
        section = OutSection(
            name,
            kind,
            flags & ~(SHF.MERGE | SHF.STRINGS) if merge else flags,
            align=_alignment(view, prefix or atom),
            entsize=0,
        )
        self.out.sections.append(section)
        for piece in (prefix, atom):
            if piece is None:
                continue
            offset = len(section.data)
            if kind == SHT.NOBITS:
                section.size = piece.size
            else:
                section.data.extend(view.content(piece))
            self.place[(member.unit, piece.id)] = (section, offset)
            self._names(member.unit, piece, section, offset)

    def _names(self, unit: int, atom: Atom, section: OutSection, offset: int) -> None:
        """The symbols of a function or variable. All are local: a global would be found by name, and names prove
        nothing."""
        if atom.kind not in (FUNCTION, DATA):
            return
        of_type = STT.FUNC if atom.kind == FUNCTION else STT.OBJECT
        for position, alias in enumerate(atom.names):
            symbol = OutSymbol(alias, section, offset, atom.size, STB.LOCAL, of_type)
            self.out.symbols.append(symbol)
            if position == 0:
                self.symbol_of[(unit, atom.id)] = symbol

    def _shared_section(self, name: str, flags: int, align: int, entsize: int) -> OutSection:
        if name not in self.shared:
            self.shared[name] = OutSection(name, SHT.PROGBITS, flags, align=align, entsize=entsize)
            self.out.sections.append(self.shared[name])
        return self.shared[name]

    def _section_symbol(self, section: OutSection) -> OutSymbol:
        if id(section) not in self.section_symbols:
            symbol = OutSymbol("", section, type=STT.SECTION)
            self.section_symbols[id(section)] = symbol
            self.out.symbols.append(symbol)
        return self.section_symbols[id(section)]

    # -- references ----------------------------------------------------------------------------------------------

    def _undefined(self, name: str, weak: bool = False) -> OutSymbol:
        if name not in self.undefined:
            symbol = OutSymbol(name, None, bind=STB.WEAK if weak else STB.GLOBAL, shndx=SHN.UNDEF)
            self.undefined[name] = symbol
            self.out.symbols.append(symbol)
        return self.undefined[name]

    def _to_bound(self, bound: Bound) -> OutSymbol:
        assert bound.how != NEW_GLOBAL or bound.name == PATCH_SYMBOL
        return self._undefined(bound.symbol, weak=bound.how == WEAK_NULL)

    def _target(self, unit: int, source: Atom, ref: Ref) -> tuple[OutSymbol, int]:
        """Symbol and what to add to reach the meant place, before the bias of code."""
        key = (unit, ref.atom)
        view = self._view(unit)
        if view.section_name(source) == PARAMETERS and view.atoms[ref.atom].name == THIS_MODULE:
            return self._undefined(THIS_MODULE), ref.delta
        if key in self.c.defined:
            return self.symbol_of[self.c.defined[key]], ref.delta
        if key in self.place and not self.c.binds_to_kernel(unit, source, ref):
            section, offset = self.place[key]
            if key in self.symbol_of:
                return self.symbol_of[key], ref.delta
            return self._section_symbol(section), offset + ref.delta
        return self._to_bound(self.c.bound[key]), ref.delta

    def _relocate(self, member: Member) -> None:
        view, atom = self._view(member.unit), member.atom
        section, base = self.place[(member.unit, atom.id)]
        written = self.values.wanted.get((member.unit, atom.id))
        relocs: list[OutReloc] = []
        for ref in view.refs(atom):
            literal = self.c.literals.get((member.unit, atom.id, ref.offset))
            if literal is not None:
                symbol = self._to_bound(literal.bound)
                section.relocs.append(
                    OutReloc(base + ref.offset, ref.type, symbol, literal.delta + ref.delta - ref.bias)
                )
                continue
            symbol, addend = self._target(member.unit, atom, ref)
            if (
                symbol.section is None
                and symbol.name in self.c.thunks
                and not (ref.delta or is_branch(view, atom, ref))
            ):
                symbol = self._thunk(symbol)
            if ref.synthetic:
                self.arch.relocs.clear(section.data, [ref], view.obj.order, -base)
            if written is not None and not written.saved:
                relocs.append(OutReloc(ref.offset, ref.type, symbol, addend - ref.bias))
                if is_per_cpu(section.name) or patched_object(symbol.name) not in ("", VMLINUX):
                    continue  # the variable gets it with its initial value
            section.relocs.append(OutReloc(base + ref.offset, ref.type, symbol, addend - ref.bias))
        if written is not None:
            self.values.add(written, section, base, view.masked(atom), relocs)

    def _thunk(self, function: OutSymbol) -> OutSymbol:
        """A function of the module that an indirect branch may go to, and that goes on to the kernel's."""
        if function.name not in self.thunks:
            bound = self.c.thunks[function.name]
            code = bytearray(self.arch.thunk)
            at = len(code) - self.arch.reloc_size[self.arch.call_reloc]
            section = OutSection(f".text.{THUNK}{bound.name}", SHT.PROGBITS, SHF.ALLOC | SHF.EXECINSTR, code, align=16)
            section.relocs.append(OutReloc(at, self.arch.call_reloc, function, at - len(code)))
            self.out.sections.append(section)
            symbol = OutSymbol(THUNK + bound.name, section, 0, len(code), STB.LOCAL, STT.FUNC)
            self.out.symbols.append(symbol)
            self.thunks[function.name] = symbol
        return self.thunks[function.name]

    # -- special sections ----------------------------------------------------------------------------------------

    def _entries(self, member: Member) -> None:
        view = self._view(member.unit)
        for entry in self.c.entries(member.unit, member.atom):
            self._entry(view, member, entry)

    def _entry(self, view: View, member: Member, entry: SpecialEntry) -> None:
        spec = entry.spec
        if spec.constant and self.identity is not None:
            section, start = self.place[(member.unit, member.atom.id)]
            bound = self.c.constants[entry.section.removeprefix(spec.prefix)]
            self.constants.append((section, start + entry.owner_offset, len(spec.constant), bound))
            return
        source = view.obj.sections[entry.section_index]
        section = self._shared_section(entry.section, source.flags & ~SHF.GROUP, source.align, source.entsize)
        base = len(section.data)
        section.data.extend(entry.data)
        owner_section, owner_base = self.place[(member.unit, member.atom.id)]
        for ref in entry.refs:
            if ref.offset == spec.owner or ref.atom == entry.owner:
                symbol, addend = self._section_symbol(owner_section), owner_base + ref.delta
            else:
                symbol, addend = self._target(member.unit, member.atom, ref)
            section.relocs.append(OutReloc(base + ref.offset, ref.type, symbol, addend))
        if spec.companion and entry.companion:
            other = view.obj.section_named(spec.companion)
            assert other is not None
            self._shared_section(spec.companion, other.flags, other.align, other.entsize).data.extend(entry.companion)

    # -- the patch's own tables ----------------------------------------------------------------------------------

    def _tables(self, identity: Identity) -> None:
        strings = OutSection(STRINGS_SECTION, SHT.PROGBITS, SHF.ALLOC)
        table = OutSection(FUNCS_SECTION, SHT.PROGBITS, SHF.ALLOC, align=8)
        self.out.sections += [strings, table]
        known: dict[str, int] = {}

        def text(value: str) -> int:
            if value not in known:
                known[value] = len(strings.data)
                strings.data.extend(value.encode() + b"\0")
            return known[value]

        abs64 = self.arch.pointer_reloc
        for r in table_order(self.c):
            base = len(table.data)
            table.data.extend(bytes(24) + struct.pack("<Q", r.sympos))
            if r.object != VMLINUX:
                table.relocs.append(OutReloc(base, abs64, self._section_symbol(strings), text(r.object)))
            table.relocs.append(OutReloc(base + 8, abs64, self._section_symbol(strings), text(r.name)))
            table.relocs.append(OutReloc(base + 16, abs64, self.symbol_of[(r.unit, r.atom.id)], 0))
        table.data.extend(bytes(FUNC_ENTRY))
        self._object("kgbuild_funcs", table, 0, len(table.data))
        for name, value in (
            ("kgbuild_build_id", identity.build_id),
            ("kgbuild_build_id_size", struct.pack("<I", len(identity.build_id))),
            ("kgbuild_replace", struct.pack("<I", int(identity.replace))),
        ):
            section = OutSection(f".rodata.{name}", SHT.PROGBITS, SHF.ALLOC, bytearray(value), align=4)
            self.out.sections.append(section)
            self._object(name, section, 0, len(value))
        notes = OutSection(".rodata.kgbuild_notes", SHT.PROGBITS, SHF.ALLOC, bytearray(16), align=8)
        for offset, name in zip((0, 8), NOTES, strict=True):
            symbol = self._undefined(f".klp.sym.vmlinux.{name},0")
            notes.relocs.append(OutReloc(offset, abs64, symbol, 0))
        self.out.sections.append(notes)
        self._object("kgbuild_notes", notes, 0, 16)
        if self.constants:
            self._constant_table(abs64)
        if self.values.rows:
            self._initial_table(strings, text, abs64)
        self._author_tables(strings, text, abs64)
        if identity.targets:
            self._target_tables(identity, strings, text, abs64)
        desc = identity.note.encode()
        note = struct.pack("<III", len(NOTE_NAME), len(desc), NOTE_TYPE) + NOTE_NAME + desc
        note += b"\0" * (-len(note) % 4)
        self.out.sections.append(OutSection(NOTE_SECTION, SHT.NOTE, SHF.ALLOC, bytearray(note), align=4))
        if self.c.namespaces:
            info = b"".join(f"import_ns={n}\0".encode() for n in sorted(self.c.namespaces))
            self.out.sections.append(OutSection(".modinfo", SHT.PROGBITS, SHF.ALLOC, bytearray(info)))

    def _constant_table(self, abs64: int) -> None:
        table = OutSection(".rodata.kgbuild_constants", SHT.PROGBITS, SHF.ALLOC, align=8)
        self.out.sections.append(table)
        for section, offset, size, bound in self.constants:
            base = len(table.data)
            table.data.extend(struct.pack("<QQQ", 0, 0, size))
            table.relocs.append(OutReloc(base, abs64, self._section_symbol(section), offset))
            table.relocs.append(OutReloc(base + 8, abs64, self._to_bound(bound), 0))
        table.data.extend(bytes(CONSTANT_ENTRY))
        self._object("kgbuild_constants", table, 0, len(table.data))

    def _initial_table(self, strings: OutSection, text: Callable[[str], int], abs64: int) -> None:
        def code(variable: Initial) -> OutSymbol:
            assert variable.trampoline is not None
            return self.symbol_of[(variable.unit, variable.trampoline.id)]

        def name(value: str) -> tuple[OutSymbol, int]:
            return self._section_symbol(strings), text(value)

        self.values.add_table(self.out, abs64, self._section_symbol, code, name)

    def _author_tables(self, strings: OutSection, text: Callable[[str], int], abs64: int) -> None:
        """What main.c needs for callbacks and states: `kgbuild_callbacks`, sorted by object and ended by zeros, and
        `kgbuild_states`."""
        if self.c.callbacks:
            table = OutSection(".rodata.kgbuild_callbacks", SHT.PROGBITS, SHF.ALLOC, align=8)
            self.out.sections.append(table)
            for c in sorted(self.c.callbacks, key=lambda c: (c.object != VMLINUX, c.object, CALLBACKS.index(c.kind))):
                base = len(table.data)
                table.data.extend(struct.pack("<QQQ", 0, CALLBACKS.index(c.kind), 0))
                if c.object != VMLINUX:
                    table.relocs.append(OutReloc(base, abs64, self._section_symbol(strings), text(c.object)))
                table.relocs.append(OutReloc(base + 16, abs64, self.symbol_of[(c.unit, c.atom.id)], 0))
            table.data.extend(bytes(CALLBACK_ENTRY))
            self._object("kgbuild_callbacks", table, 0, len(table.data))
        if self.c.states:
            states = b"".join(struct.pack("<QQ", *item) for item in sorted(self.c.states.items()))
            for name, value in (("kgbuild_states", states), ("kgbuild_states_size", struct.pack("<I", len(states)))):
                section = OutSection(f".rodata.{name}", SHT.PROGBITS, SHF.ALLOC, bytearray(value), align=8)
                self.out.sections.append(section)
                self._object(name, section, 0, len(value))

    def _target_tables(self, identity: Identity, strings: OutSection, text: Callable[[str], int], abs64: int) -> None:
        """What main.c needs for target modules: `kgbuild_objects`, how to know each, and `kgbuild_late`, the places
        that are relocated when one comes. Both end with an entry of zeros."""
        objects = OutSection(".rodata.kgbuild_objects", SHT.PROGBITS, SHF.ALLOC, align=8)
        self.out.sections.append(objects)
        for target in identity.targets:
            base = len(objects.data)
            objects.data.extend(struct.pack("<QQqI20s", 0, 0, target.delta, len(target.build_id), target.build_id))
            symbol = self._undefined(f".klp.sym.{target.name}.{target.anchor},{target.sympos}")
            objects.relocs.append(OutReloc(base, abs64, self._section_symbol(strings), text(target.name)))
            objects.relocs.append(OutReloc(base + 8, abs64, symbol, 0))
        objects.data.extend(bytes(OBJECT_ENTRY))
        self._object("kgbuild_objects", objects, 0, len(objects.data))
        self._resolve_first(abs64)
        if not identity.clear_late:
            return
        late = OutSection(".rodata.kgbuild_late", SHT.PROGBITS, SHF.ALLOC, align=8)
        for section in self.out.sections:
            for reloc in section.relocs:
                owner = patched_object(reloc.symbol.name)
                if not owner or owner == VMLINUX:
                    continue
                base = len(late.data)
                late.data.extend(struct.pack("<QQQ", 0, 0, self.arch.reloc_size[reloc.type]))
                late.relocs.append(OutReloc(base, abs64, self._section_symbol(strings), text(owner)))
                late.relocs.append(OutReloc(base + 8, abs64, self._section_symbol(section), reloc.offset))
        self.out.sections.append(late)
        late.data.extend(bytes(LATE_ENTRY))
        self._object("kgbuild_late", late, 0, len(late.data))

    def _resolve_first(self, abs64: int) -> None:
        """A table that refers to every symbol of a target module that anything refers to.

        The kernel resolves and relocates section by section, and stops at the first symbol that is missing; a module
        of the same name but another build would leave the patch half relocated, and the right one could not come
        any more. Injection puts this table's relocations first, so that nothing is written in that case.
        """
        names: dict[str, None] = {}
        for section in self.out.sections:
            for reloc in section.relocs:
                if patched_object(reloc.symbol.name) not in ("", VMLINUX):
                    names[reloc.symbol.name] = None
        table = OutSection(RESOLVE_SECTION, SHT.PROGBITS, SHF.ALLOC, align=8)
        for name in sorted(names):
            table.relocs.append(OutReloc(len(table.data), abs64, self._undefined(name), 0))
            table.data.extend(bytes(8))
        self.out.sections.append(table)

    def _object(self, name: str, section: OutSection, value: int, size: int) -> None:
        self.out.symbols.append(OutSymbol(name, section, value, size, STB.GLOBAL, STT.OBJECT))


def _alignment(view: View, atom: Atom) -> int:
    """Alignment of a section that holds one atom carved out of another: no more than the atom's place had."""
    return place_alignment(view.section_of(atom).align, atom.offset)
