# SPDX-License-Identifier: GPL-2.0-or-later
"""The second half of verify: sections, relocations, and the entries of special sections with the code they lead to.

Sources: find_sec and section_objs of kernel/module/main.c (which sections are looked up by name),
arch/x86/kernel/module.c (which relocations are applied, and that a field must be zero before), klp_resolve_symbols and
klp_apply_section_relocs of kernel/livepatch/core.c, all of 6.1; mod_sysfs for names that repeat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kgbuild.arch.base import Arch, Instruction, PatchSite, SpecialSection
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding
from kgbuild.module_abi import KLP_RELOCATIONS, KLP_SYMBOL, SYMBOLS
from kgbuild.verification.reading.reader import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_INFO_LINK,
    SHF_RELA_LIVEPATCH,
    SHF_WRITE,
    SHN_LIVEPATCH,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_RELA,
    SHT_SYMTAB,
    STT_FUNC,
    ModuleFile,
    ModuleSection,
    Reloc,
)
from kgbuild.verification.reading.statements import livepatch_object

# Looked up by exact name, beside the architecture's special sections that are (`SpecialSection.looked_up`).
LOOKED_UP = (
    ".data..percpu",
    ".data..ro_after_init",
    ".noinstr.text",
    ".kprobes.text",
    "__dyndbg_classes",
    "___srcu_struct_ptrs",
    "__bpf_raw_tp_map",
    "__trace_printk_fmt",
    "_ftrace_events",
    "_ftrace_eval_map",
)
# What acts when a module is loaded, or says what another program must do, and was the unit's, not the patch's.
LEFTOVERS = (
    "__ksymtab",
    "__kcrctab",
    "__obsparm",
    "_error_injection_whitelist",
    ".initcall",
    ".con_initcall",
    ".init.setup",
    ".init_array",
    ".ctors",
    ".discard",
    ".rela.discard",
    ".export_symbol",
    ".kunit_test_suites",
)
# struct kernel_param (include/linux/moduleparam.h): its size, and where its module is
PARAMETERS, PARAMETER_SIZE, PARAMETER_MODULE = "__param", 40, 8
_W, _A, _X = SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR
# (name, flags that must be set, flags that must not): the longest name that begins the section's counts
FLAGS = {
    ".text": (_A | _X, _W),
    ".init.text": (_A | _X, _W),
    ".exit.text": (_A | _X, _W),
    ".noinstr.text": (_A | _X, _W),
    ".kprobes.text": (_A | _X, _W),
    ".altinstr_replacement": (_A | _X, _W),
    ".rodata": (_A, _W | _X),
    ".modinfo": (_A, _W | _X),
    "__versions": (_A, _W | _X),
    ".note": (_A, _W | _X),
    ".note.GNU-stack": (0, _W | _X),
    ".data": (_A | _W, _X),
    ".bss": (_A | _W, _X),
    ".init.data": (_A | _W, _X),
    ".exit.data": (_A | _W, _X),
    ".gnu.linkonce.this_module": (_A | _W, _X),
}
VMLINUX = "vmlinux"
_KLP_SECTION = re.compile(re.escape(KLP_RELOCATIONS) + r"([^.]{1,55})\.(.+)")


def check_sections(module: ModuleFile, arch: Arch) -> Iterator[Finding]:
    """Flags and names of every section."""
    seen: set[str] = set()
    looked_up = (*LOOKED_UP, *arch.looked_up)
    for section in module.sections[1:]:
        if section.writable and section.executable:
            yield finding("V17-section-flags", section.name, "is writable code")
        yield from _check_flags(section, arch)
        if section.name.startswith(LEFTOVERS):
            yield finding("V19-leftover", section.name, f"is left over ({section.size} bytes)")
        if section.name == PARAMETERS:
            yield from _check_parameters(module, section)
        base = next((b for b in looked_up if section.name.startswith(b) and section.name not in looked_up), "")
        if base:
            yield finding("V18-section-name", section.name, f"the kernel looks for {base} only")
        # sysfs shows the sections of a module by name, those of no size left out
        if section.name in seen and (section.name in looked_up or (section.alloc and section.size)):
            yield finding("V18-section-name", section.name, "is there more than once")
        if section.name in looked_up or (section.alloc and section.size):
            seen.add(section.name)


def _check_parameters(module: ModuleFile, section: ModuleSection) -> Iterator[Finding]:
    """Every parameter is the patch module's own: one of another module would be shown and locked as this one's."""
    if section.size % PARAMETER_SIZE:
        yield finding("V19-leftover", section.name, f"{section.size} bytes are no whole number of {PARAMETER_SIZE}")
        return
    for at in range(0, len(section.data), PARAMETER_SIZE):
        owner = module.at(section.index, at + PARAMETER_MODULE)
        symbol = module.symbol_of(owner) if owner is not None else None
        if owner is not None and (symbol is None or not 0 < symbol.shndx < len(module.sections)):
            yield finding("V19-leftover", section.name, f"the parameter at {at:#x} is another module's")


def _check_flags(section: ModuleSection, arch: Arch) -> Iterator[Finding]:
    key = max((k for k in FLAGS if section.name == k or section.name.startswith(f"{k}.")), key=len, default="")
    wanted, unwanted = FLAGS.get(key, (0, 0))
    if section.name in arch.special:
        wanted, unwanted = _A, _X
    missing, has = wanted & ~section.flags, unwanted & section.flags
    if missing or (has and not (section.writable and section.executable)):
        text = [f"does not have {_letters(missing)}"] if missing else []
        text += [f"has {_letters(has)}"] if has else []
        yield finding("V17-section-flags", section.name, f"{' and '.join(text)} among its flags")
    if (section.name == ".bss" or section.name.startswith(".bss.")) and section.type != SHT_NOBITS:
        yield finding("V17-section-flags", section.name, f"is of type {section.type}, not NOBITS")


def _letters(flags: int) -> str:
    return "".join(letter for bit, letter in ((_W, "W"), (_A, "A"), (_X, "X")) if flags & bit)


# -- relocations -------------------------------------------------------------------------------------------------


def check_relocations(module: ModuleFile, arch: Arch) -> Iterator[Finding]:
    """Relocation sections, and every relocation that the kernel will apply."""
    symtab = next(s.index for s in module.sections if s.type == SHT_SYMTAB)
    for index, rows in module.relocs.items():
        section = module.sections[index]
        late = section.name.startswith(KLP_RELOCATIONS) or bool(section.flags & SHF_RELA_LIVEPATCH)
        owner = ""
        if late:
            match = _KLP_SECTION.fullmatch(section.name)
            owner = match.group(1) if match else ""
            yield from _check_livepatch_section(module, section, match)
        if not 0 < section.info < len(module.sections):
            yield finding("V14-reloc-place", section.name, f"applies to section {section.info}, which is not there")
            continue
        if section.link != symtab:
            yield finding("V14-reloc-place", section.name, f"names section {section.link} as its symbol table")
        if len(section.data) % 24:
            yield finding("V14-reloc-place", section.name, f"{section.size} bytes are no whole number of 24")
        target = module.sections[section.info]
        if target.alloc:
            for row in rows:
                yield from _check_row(module, arch, section, target, row, owner if late else None)
    for index, by_offset in module.targets.items():
        if 0 < index < len(module.sections) and module.sections[index].alloc:
            yield from _check_overlap(module.sections[index], by_offset, arch)


def _check_livepatch_section(
    module: ModuleFile, section: ModuleSection, match: re.Match[str] | None
) -> Iterator[Finding]:
    code, wanted = "V15-livepatch-section", SHF_ALLOC | SHF_INFO_LINK | SHF_RELA_LIVEPATCH
    if section.flags != wanted:
        yield finding(code, section.name, f"has flags {section.flags:#x}, not {wanted:#x}")
    if match is None:
        yield finding(code, section.name, "is not named .klp.rela.OBJECT.SECTION")
        return
    target = module.sections[section.info].name if section.info < len(module.sections) else f"section {section.info}"
    if target != match.group(2):
        yield finding(code, section.name, f"applies to {target or 'section 0'}")
    if module.by_name[section.name][0] is not section:
        yield finding(code, section.name, "is there more than once")


def _check_row(
    module: ModuleFile, arch: Arch, section: ModuleSection, target: ModuleSection, row: Reloc, owner: str | None
) -> Iterator[Finding]:
    """One relocation. `owner` is the object of a livepatch relocation section, None for a normal one."""
    place = f"{target.name}+{row.offset:#x}"
    if row.type not in arch.relocs.loadable:
        yield finding("V13-reloc-type", place, f"relocation of type {row.type}")
        return
    size = arch.relocs.sizes[row.type]
    if row.offset + size > target.size or target.type == SHT_NOBITS:
        fact = f"relocation of {size} bytes in a section of {len(target.data)} bytes of contents"
        yield finding("V14-reloc-place", place, fact)
    elif any(target.data[row.offset : row.offset + size]):
        yield finding("V14-reloc-place", place, "the field to relocate is not zero")
    symbol = module.symbol_of(row)
    if symbol is None:
        yield finding("V14-reloc-place", place, f"relocation names symbol {row.sym}, which is not there")
        return
    if owner is None:
        if symbol.shndx == SHN_LIVEPATCH:
            yield finding("V16-reloc-symbol", place, f"{symbol.name} is relocated by {section.name}")
    elif symbol.shndx != SHN_LIVEPATCH:
        yield finding("V16-reloc-symbol", place, f"{symbol.name or 'a section'} is relocated by {section.name}")
    elif owner == VMLINUX and livepatch_object(symbol.name) != VMLINUX:
        # what a module's section may name is checked in verification/modules.py
        yield finding("V16-reloc-symbol", place, f"{symbol.name} is of another object than {section.name}")


def _check_overlap(target: ModuleSection, by_offset: dict[int, list[Reloc]], arch: Arch) -> Iterator[Finding]:
    end = 0
    for offset in sorted(by_offset):
        for row in by_offset[offset]:
            size = arch.relocs.sizes.get(row.type, 0)
            if size and offset < end:
                yield finding("V14-reloc-place", f"{target.name}+{offset:#x}", "two relocations of one field")
            end = max(end, offset + size)


# -- special sections and code -----------------------------------------------------------------------------------


def check_code(module: ModuleFile, arch: Arch, code: DecodedCode) -> Iterator[Finding]:
    """Entries of special sections, the instructions they lead to, and sites that no entry names."""
    for section in module.sections[1:]:
        spec = arch.special.get(section.name)
        if spec is not None and section.size and section.type not in (SHT_RELA, SHT_NOBITS):
            yield from code.check_special(section, spec)
    orc, orc_ip = module.section(".orc_unwind"), module.section(".orc_unwind_ip")
    count, each = (orc_ip.size if orc_ip else 0) // 4, arch.unwind_entry
    if (orc.size if orc else 0) != count * each:
        size = orc.size if orc else 0
        yield finding("V20-special", ".orc_unwind", f"{size} bytes are not {count} entries of {each}")
    for section in module.sections[1:]:
        if section.executable and section.name not in arch.auxiliary:
            yield from code.check_listed(section)


STATIC_CALLS = ".static_call_sites"


class DecodedCode:
    """Instructions of the module's sections, decoded once, and the sites that entries have named."""

    def __init__(self, module: ModuleFile, arch: Arch) -> None:
        self.module, self.arch = module, arch
        self.decoded: dict[int, dict[int, Instruction]] = {}
        self.listed: set[tuple[str, int, int]] = set()
        # where decoding starts again in a section: before a function there may be bytes that are no instructions
        self.pieces: dict[int, set[int]] = {}
        self.replaced: dict[int, list[range]] = {}
        self.looks_up = SYMBOLS.symbol in module.global_symbols
        for symbol in module.symbols:
            inside = 0 < symbol.shndx < len(module.sections) and symbol.value < module.sections[symbol.shndx].size
            if symbol.type == STT_FUNC and inside:
                self.pieces.setdefault(symbol.shndx, set()).add(symbol.value)
        self.note_alternatives()

    def instructions(self, section: ModuleSection) -> dict[int, Instruction]:
        """Instructions of a section by offset."""
        if section.index not in self.decoded:
            starts = sorted({0, *self.pieces.get(section.index, ())})
            out: dict[int, Instruction] = {}
            for start, end in zip(starts, [*starts[1:], len(section.data)], strict=True):
                for i in self.arch.decode(section.data[start:end]):
                    target = i.target + start if i.target is not None else None
                    out[i.offset + start] = (
                        Instruction(
                            i.offset + start,
                            i.length,
                            target,
                            i.field_offset + start,
                            i.field_size,
                            i.is_call,
                            i.is_branch,
                            i.ends_flow,
                            i.mnemonic,
                        )
                        if start
                        else i
                    )
            self.decoded[section.index] = out
        return self.decoded[section.index]

    def check_special(self, section: ModuleSection, spec: SpecialSection) -> Iterator[Finding]:
        size, fault = self.entry_size(section, spec)
        if size == 0:
            yield finding("V20-special", section.name, fault)
            return
        for start in range(0, len(section.data), size):
            yield from self._check_entry(section, spec, start, size)

    def entry_size(self, section: ModuleSection, spec: SpecialSection) -> tuple[int, str]:
        """The entry size that fits the section and its relocations, or 0 and what does not fit."""
        offsets = self.module.targets.get(section.index, {})
        misfit = ""
        for n, needed in spec.sizes.items():
            if section.size % n and not 0 < spec.last <= section.size % n:
                continue
            places = ((i, o) for i in range(0, len(section.data), n) for o in needed)
            missing = next(((i, o) for i, o in places if i + o not in offsets), None)
            if missing is None:
                return n, ""
            misfit = misfit or f"entry {missing[0] // n} has no relocation at +{missing[1]}"
        return 0, misfit or f"{section.size} bytes are no whole number of {' or '.join(map(str, spec.sizes))}"

    def note_alternatives(self) -> None:
        """Replacement code is many pieces; each begins an instruction, whatever is before it. What it replaces has
        unwind entries for the instructions of either, and for the padding after them (objtool merges them)."""
        for section in self.module.sections[1:]:
            spec = self.arch.special.get(section.name)
            if spec is None or not spec.replacement:
                continue
            size, _ = self.entry_size(section, spec)
            for start in range(0, len(section.data) if size else 0, max(size, 1)):
                at, length = spec.replacement[size]
                owner, code = (self.module.at(section.index, start + o) for o in (spec.owner, at))
                piece = self.module.place_of(code) if code is not None else None
                site = self.module.place_of(owner) if owner is not None else None
                count = section.data[start + length]
                if piece is None or site is None or not count:
                    continue
                if 0 <= piece[1] < piece[0].size:
                    self.pieces.setdefault(piece[0].index, set()).add(piece[1])
                self.replaced.setdefault(site[0].index, []).append(range(site[1], site[1] + count + 1))

    def _check_entry(self, section: ModuleSection, spec: SpecialSection, start: int, size: int) -> Iterator[Finding]:
        where = f"{section.name}, entry {start // size}"
        unused = -1
        if size in spec.replacement:
            at, length = spec.replacement[size]
            unused = -1 if section.data[start + length] else at
            yield from self._check_replacement(where, section, start + at, section.data[start + length])
        by_offset = self.module.targets.get(section.index, {})
        for offset in range(size):
            for reloc in by_offset.get(start + offset, ()):
                owner = offset == spec.owner
                place = self.module.place_of(reloc)
                if place is None or not place[0].executable:
                    if owner:
                        yield finding("V20-special", where, "leads to no code of the module")
                elif offset != unused:
                    yield from self._check_place(
                        where, section, *place, start, unwind=bool(spec.companion), owner=owner
                    )

    def _check_replacement(self, where: str, s: ModuleSection, offset: int, length: int) -> Iterator[Finding]:
        reloc = self.module.at(s.index, offset)
        symbol = self.module.symbol_of(reloc) if reloc is not None else None
        if symbol is not None and symbol.name and symbol.shndx in (SHN_UNDEF, SHN_LIVEPATCH):
            return  # a function of the kernel, see objects/special_entries.py
        place = self.module.place_of(reloc) if reloc is not None else None
        if length and (place is None or not place[0].executable or place[1] + length > place[0].size):
            yield finding("V20-special", where, f"its {length} bytes of replacement are not in the module's code")

    def _check_place(
        self,
        where: str,
        table: ModuleSection,
        section: ModuleSection,
        offset: int,
        entry: int,
        *,
        unwind: bool,
        owner: bool,
    ) -> Iterator[Finding]:
        instruction = self.instructions(section).get(offset)
        if instruction is None:
            merged = any(offset in r for r in self.replaced.get(section.index, ()))
            if not (unwind and (offset == section.size or merged)):
                yield finding("V20-special", where, f"{section.name}+{offset:#x} begins no instruction")
            return
        site = self.arch.sites.get(table.name)
        if not owner or site is None:
            return
        self.listed.add((table.name, section.index, offset))
        held = section.data[offset : offset + max(map(len, site.starts), default=0)]
        fits = not site.starts or held.startswith(site.starts)
        fits = fits or (site.announced and self._announces(section, offset, table, entry))
        if not fits or (site.to and not self._leads_to(section, instruction, site)):
            raw = section.data[offset : offset + instruction.length].hex(" ")
            yield finding("V21-site", where, f"{section.name}+{offset:#x} holds {raw}, not {site.what}")

    def _announces(self, section: ModuleSection, offset: int, table: ModuleSection, entry: int) -> bool:
        """Whether the instruction that ends at an offset takes the address of an entry of a table."""
        before = next((i for i in self.instructions(section).values() if i.offset + i.length == offset), None)
        if before is None or before.is_branch or before.target is None:
            return False
        reloc = self.module.at(section.index, before.field_offset)
        return reloc is not None and self.module.place_of(reloc) == (table, entry - (offset - before.field_offset))

    def _leads_to(self, section: ModuleSection, instruction: Instruction, site: PatchSite) -> bool:
        """Whether an instruction is a branch that a relocation binds to one of the site's symbols."""
        if not (instruction.is_call or instruction.is_branch):
            return False
        reloc = self.module.at(section.index, instruction.field_offset)
        symbol = self.module.symbol_of(reloc) if reloc is not None else None
        return symbol is not None and _plain(symbol.name).startswith(site.to)

    def check_listed(self, section: ModuleSection) -> Iterator[Finding]:
        """Sites in the code of `s` that must have an entry and have none."""
        for offset, rows in self.module.targets.get(section.index, {}).items():
            symbol = self.module.symbol_of(rows[0])
            name = _plain(symbol.name) if symbol is not None else ""
            if symbol is not None and name != symbol.name and livepatch_object(symbol.name) != VMLINUX:
                continue  # a module's static call: the site can't be listed (V27), its trampoline does the work
            for special, site in self.arch.sites.items():
                if not site.complete or not name.startswith(site.to):
                    continue
                if special == STATIC_CALLS and self.looks_up:
                    continue  # such a call goes through its trampoline, which is right (emit/backends/kallsyms.py)
                found = next((i for i in self.instructions(section).values() if i.field_offset == offset), None)
                if found is None or not (found.is_call or found.is_branch):
                    continue
                if (special, section.index, found.offset) not in self.listed:
                    place = f"{section.name}+{found.offset:#x}"
                    yield finding("V22-unlisted-site", place, f"branches to {name}, and {special} does not say so")


def _plain(name: str) -> str:
    """Name of a symbol without its livepatch form."""
    if not name.startswith(KLP_SYMBOL):
        return name
    return name.removeprefix(KLP_SYMBOL).partition(".")[2].rpartition(",")[0]
