# SPDX-License-Identifier: GPL-2.0-or-later
"""What is missing in older kernels' livepatch interface, and what they need instead. At object level only: none
was booted.

Before 5.8 the kernel writes alternatives and paravirt calls when the module loads, livepatch relocations later, over
them. Entries for code with such relocations are therefore in sections of their own, `.klp.arch.OBJECT.SECTION`, which
the kernel reads when OBJECT is relocated (arch/x86/kernel/livepatch.c of 4.7 to 5.7).
"""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.write import OutObject, OutReloc, OutSection
from kgbuild.emit.backends.stable_bytes import REPLACED
from kgbuild.emit.klp_relocations import patched_object
from kgbuild.kernel.feature_probes import KLP_ARCH, KLP_STATES, REGISTERS, SYNC_EACH_CPU
from kgbuild.module_abi import REPLACE, STATES, value_section


def check_interface(output: OutObject, arch: Arch, features: frozenset[str]) -> list[Refusal]:
    """What of a patch this kernel's interface has no place for."""
    out = []
    sections = {s.name: s for s in output.sections}
    replace = sections.get(value_section(REPLACE))
    if REGISTERS in features and replace is not None and any(replace.data):
        fact = "is to replace older patches, and this kernel has no atomic replace"
        out.append(Refusal("B3-interface", "the patch", fact, remedy="use --no-replace"))
    if KLP_STATES not in features and STATES.section in sections:
        out.append(Refusal("B3-interface", "the patch", "has states, and this kernel knows none (struct klp_state)"))
    if KLP_ARCH in features:
        for name in REPLACED:
            for entry in _entries(sections[name], arch) if name in sections else ():
                if len(_objects(entry)) > 1:
                    fact = f"has code for {', '.join(sorted(_objects(entry)))} that {name} refers to"
                    out.append(Refusal("B3-interface", "the patch", fact))
    return out


def interface_macros(features: frozenset[str]) -> tuple[str, ...]:
    """Macros for the wrapper main.c."""
    macros = {REGISTERS: "KGBUILD_REGISTERS", SYNC_EACH_CPU: "KGBUILD_SYNC_EACH_CPU"}
    return tuple(macro for probe, macro in macros.items() if probe in features)


def emitted_entry_size(table: OutSection, arch: Arch) -> int:
    """Bytes of an entry of a special section: of the sizes that kernels have, the first at which each has the
    relocations it needs; 0 where the table is empty. Raises ValueError where none fits."""
    spec = arch.special_of(table.name)
    offsets = {reloc.offset for reloc in table.relocs}
    for size, needed in spec.sizes.items() if spec is not None else ():
        if all(base + at in offsets for base in range(0, len(table.data), size) for at in needed):
            return size if table.data else 0
    raise ValueError(f"{table.name}: {len(table.data)} bytes are entries of no known size")


def move_to_arch(output: OutObject, arch: Arch) -> None:
    """Move what must be written behind livepatch relocations into sections that the kernel looks for then."""
    for name in REPLACED:
        table = next((s for s in output.sections if s.name == name), None)
        if table is None:
            continue
        made: dict[str, OutSection] = {"": OutSection(name, table.type, table.flags, align=table.align)}
        for data, relocs in _entries(table, arch):
            owner = next(iter(_objects((data, relocs))), "")
            if owner not in made:
                full = f".klp.arch.{owner}.{name}"
                made[owner] = OutSection(full, table.type, table.flags, align=table.align)
            base = len(made[owner].data)
            made[owner].data += data
            made[owner].relocs += [OutReloc(base + r.offset, r.type, r.symbol, r.addend) for r in relocs]
        table.data, table.relocs = made[""].data, made[""].relocs
        output.sections += [made[owner] for owner in sorted(made) if owner]
        if not table.data:
            output.sections.remove(table)


_Entry = tuple[bytearray, list[OutReloc]]


def _entries(table: OutSection, arch: Arch) -> Iterator[_Entry]:
    """Each entry's bytes and relocations, those by offset in it; the first is to the code that it is for."""
    size = emitted_entry_size(table, arch)
    for base in range(0, len(table.data), size or 1):
        inside = [r for r in table.relocs if base <= r.offset < base + size]
        inside.sort(key=lambda r: r.offset)
        yield (
            table.data[base : base + size],
            [OutReloc(r.offset - base, r.type, r.symbol, r.addend) for r in inside],
        )


def _objects(entry: _Entry) -> set[str]:
    """The objects whose coming relocates the code that an entry is for."""
    section = entry[1][0].symbol.section
    relocs = section.relocs if section is not None else []
    return {owner for r in relocs if (owner := patched_object(r.symbol.name))}
