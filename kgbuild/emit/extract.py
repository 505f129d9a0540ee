# SPDX-License-Identifier: GPL-2.0-or-later
"""From a closure to one relocatable object: the members, their special-section entries, the tables of the patch.

Section names are kept exactly: the module loader and the kernel know `.data..percpu`, `.data..ro_after_init`,
`__dyndbg` and their like by name. References out of the module are plain undefined symbols here; injection turns the
`.klp.sym.*` among them into livepatch relocations, after the last tool that would destroy those has run.

The patch's own tables are appended by emit/patch_tables.py.
"""

from __future__ import annotations

from kgbuild import module_abi as abi
from kgbuild.arch import arch_of
from kgbuild.closure.binding import NEW_GLOBAL, PATCH_SYMBOL, THIS_MODULE, WEAK_NULL, Bound
from kgbuild.closure.lifetime import initial_values, place_alignment
from kgbuild.closure.model import Closure, Member
from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol
from kgbuild.emit.initial_values import Values
from kgbuild.emit.klp_relocations import patched_object
from kgbuild.emit.patch_tables import (
    NO_TARGETS,
    Identity,
    TableWriter,
    add_assumed,
    add_author_tables,
    add_constants,
    add_functions,
    add_identity,
    add_modinfo,
    add_note,
    add_targets,
)
from kgbuild.kernel.module_loader import is_per_cpu, loadable_name
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, STRING, Atom, Ref
from kgbuild.objects.special_entries import SpecialEntry
from kgbuild.objects.symbol_kinds import PARAMETERS, is_branch
from kgbuild.objects.view import View


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
        abi.END_SECTION, SHT.PROGBITS, SHF.ALLOC | SHF.EXECINSTR, bytearray(arch.trap), align=len(arch.trap)
    )
    output.sections.append(section)
    output.symbols.append(OutSymbol(abi.END, section, 0, len(arch.trap)))


class _Extractor:
    def __init__(self, closure: Closure, identity: Identity | None) -> None:
        self.closure, self.identity = closure, identity
        self.arch = closure.units[0].changes.patched.arch
        self.out = OutObject(self.arch.machine)
        self.place: dict[tuple[int, int], tuple[OutSection, int]] = {}
        self.symbol_of: dict[tuple[int, int], OutSymbol] = {}
        self.section_symbols: dict[int, OutSymbol] = {}
        self.undefined: dict[str, OutSymbol] = {}
        self.shared: dict[str, OutSection] = {}
        self.thunks: dict[str, OutSymbol] = {}
        self._entry_places: dict[tuple[int, int, int], int] | None = None
        # section, offset in it, size in bytes, variable
        self.constants: list[tuple[OutSection, int, int, Bound]] = []
        self._members = sorted(closure.members.values(), key=lambda m: (m.unit, m.atom.kind != FUNCTION, m.atom.id))
        written = initial_values(closure) if identity is not None else ()
        self.values = Values({(i.unit, i.atom.id): i for i in written})

    def run(self) -> OutObject:
        members = self._members
        for member in members:
            self._place(member)
        for member in members:
            self._relocate(member)
        for member in members:
            # replacement code has entries of its own: calls in it, since objtool of 7.x
            if member.atom.kind == FUNCTION or self._view(member.unit).section_name(member.atom) in self.arch.auxiliary:
                self._entries(member)
        self.out.sections += [s for s in (self.values.section, self.values.saved) if s.data]
        if self.identity is not None:
            self._tables(self.identity)
        return self.out

    def _view(self, unit: int) -> View:
        return self.closure.units[unit].changes.patched

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
        if prefix is not None and (member.unit, prefix.id) not in self.closure.members:
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
        if view.is_entry(view.atoms[ref.atom]):
            return self._to_entry(unit, view.atoms[ref.atom], ref)
        if key in self.closure.defined:
            return self.symbol_of[self.closure.defined[key]], ref.delta
        if key in self.place and not self.closure.binds_to_kernel(unit, source, ref):
            section, offset = self.place[key]
            if key in self.symbol_of:
                return self.symbol_of[key], ref.delta
            return self._section_symbol(section), offset + ref.delta
        return self._to_bound(self.closure.bound[key]), ref.delta

    def _to_entry(self, unit: int, entry: Atom, ref: Ref) -> tuple[OutSymbol, int]:
        """Section and offset of an entry of a special section, which is written after the code that refers to it."""
        if self._entry_places is None:
            self._entry_places, sizes = {}, dict.fromkeys(self.shared, 0)
            for member in (m for m in self._members if m.atom.kind == FUNCTION):
                for one in self.closure.entries(member.unit, member.atom):
                    if one.spec.constant and self.identity is not None:
                        continue
                    place = sizes.get(one.section, 0)
                    self._entry_places[member.unit, one.section_index, one.index * one.size] = place
                    sizes[one.section] = place + len(one.data)
        view = self._view(unit)
        section = self._section_of_entries(view, entry.section)
        return self._section_symbol(section), self._entry_places[unit, entry.section, entry.offset] + ref.delta

    def _section_of_entries(self, view: View, index: int) -> OutSection:
        source = view.obj.sections[index]
        return self._shared_section(source.name, source.flags & ~SHF.GROUP, source.align, source.entsize)

    def _relocate(self, member: Member) -> None:
        view, atom = self._view(member.unit), member.atom
        section, base = self.place[(member.unit, atom.id)]
        written = self.values.wanted.get((member.unit, atom.id))
        relocs: list[OutReloc] = []
        for ref in view.refs(atom):
            literal = self.closure.literals.get((member.unit, atom.id, ref.offset))
            if literal is not None:
                symbol = self._to_bound(literal.bound)
                section.relocs.append(
                    OutReloc(base + ref.offset, ref.type, symbol, literal.delta + ref.delta - ref.bias)
                )
                continue
            symbol, addend = self._target(member.unit, atom, ref)
            if (
                symbol.section is None
                and symbol.name in self.closure.thunks
                and not (ref.delta or is_branch(view, atom, ref))
            ):
                symbol = self._thunk(symbol)
            if ref.synthetic:
                self.arch.relocs.clear(section.data, [ref], view.obj.order, -base)
            if written is not None and not written.saved:
                relocs.append(OutReloc(ref.offset, ref.type, symbol, addend - ref.bias))
                if is_per_cpu(section.name) or patched_object(symbol.name) not in NO_TARGETS:
                    continue  # the variable gets it with its initial value
            section.relocs.append(OutReloc(base + ref.offset, ref.type, symbol, addend - ref.bias))
        if written is not None:
            self.values.add(written, section, base, view.masked(atom), relocs)

    def _thunk(self, function: OutSymbol) -> OutSymbol:
        """A function of the module that an indirect branch may go to, and that goes on to the kernel's."""
        if function.name not in self.thunks:
            bound = self.closure.thunks[function.name]
            code = bytearray(self.arch.thunk)
            at = len(code) - self.arch.relocs.sizes[self.arch.call_reloc]
            section = OutSection(
                f".text.{abi.THUNK}{bound.name}", SHT.PROGBITS, SHF.ALLOC | SHF.EXECINSTR, code, align=16
            )
            section.relocs.append(OutReloc(at, self.arch.call_reloc, function, at - len(code)))
            self.out.sections.append(section)
            symbol = OutSymbol(abi.THUNK + bound.name, section, 0, len(code), STB.LOCAL, STT.FUNC)
            self.out.symbols.append(symbol)
            self.thunks[function.name] = symbol
        return self.thunks[function.name]

    # -- special sections ----------------------------------------------------------------------------------------

    def _entries(self, member: Member) -> None:
        view = self._view(member.unit)
        for entry in self.closure.entries(member.unit, member.atom):
            self._entry(view, member, entry)

    def _entry(self, view: View, member: Member, entry: SpecialEntry) -> None:
        spec = entry.spec
        if spec.constant and self.identity is not None:
            section, start = self.place[(member.unit, member.atom.id)]
            bound = self.closure.constants[entry.section.removeprefix(spec.prefix)]
            self.constants.append((section, start + entry.owner_offset, len(spec.constant), bound))
            return
        section = self._section_of_entries(view, entry.section_index)
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
        def symbol_of(unit: int, atom: int) -> OutSymbol:
            return self.symbol_of[(unit, atom)]

        writer = TableWriter(self.out, self.arch.pointer_reloc, self._section_symbol, self._undefined)
        add_functions(writer, self.closure, symbol_of)
        add_identity(writer, identity)
        if self.constants:
            places = ((section, offset, size, self._to_bound(b)) for section, offset, size, b in self.constants)
            add_constants(writer, places)
        if self.values.rows:
            self.values.add_table(writer, symbol_of)
        add_author_tables(writer, self.closure, symbol_of)
        if self.closure.assumed:
            add_assumed(writer, self.closure.assumed)
        if identity.targets:
            add_targets(writer, identity, self.arch.relocs.sizes)
        add_note(self.out, identity.note)
        add_modinfo(self.out, self.closure.namespaces, identity.fixes)


def _alignment(view: View, atom: Atom) -> int:
    """Alignment of a section that holds one atom carved out of another: no more than the atom's place had."""
    return place_alignment(view.section_of(atom).align, atom.offset)
