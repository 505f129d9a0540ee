# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's vmlinux as a place to look things up: names, addresses, bytes, positions.

sympos, the position of a symbol among those of its name, is what a live patch names duplicates by. For vmlinux the
kernel counts in the order of kallsyms, which is by address (kernel/kallsyms.c sorts so; checked against a running
6.1). Position 0 means "the name is unique".
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from functools import cached_property

from kgbuild.arch import for_object
from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.notes import find_build_id
from kgbuild.elf.object import Object, Section, Symbol
from kgbuild.kernel.kallsyms import KALLSYMS_TABLES, NOT_IN_KALLSYMS
from kgbuild.kernel.module_loader import PER_CPU
from kgbuild.objects.clone_names import clone_key

_LONGEST_TEXT = 4096


class KernelImage:
    """Lookups over one vmlinux (an Object made from it). Addresses are link-time virtual addresses."""

    def __init__(self, obj: Object) -> None:
        self.obj = obj
        # answers, by the name that was asked for
        self._named: dict[str, list[Symbol]] = {}
        self._global_at: dict[str, frozenset[int]] = {}

    @cached_property
    def _by_name(self) -> dict[bytes, list[int]]:
        table, section, file = self.obj.columns, int(STT.SECTION), int(STT.FILE)
        raw = bytes(self.obj.strtab)
        out: dict[bytes, list[int]] = {}
        find = raw.index
        for index, (name, shndx, kind) in enumerate(zip(table.name, table.shndx, table.kinds, strict=True)):
            if shndx and name and kind not in (section, file):
                out.setdefault(raw[name : find(b"\0", name)], []).append(index)
        return out

    @cached_property
    def undefined(self) -> frozenset[str]:
        """Names that the object's code refers to and that nothing it was linked with has: weak references."""
        table = self.obj.columns
        found = (self.obj.name_of(i) for i, shndx in enumerate(table.shndx) if not shndx and table.name[i])
        return frozenset(found)

    @cached_property
    def _clones(self) -> dict[str, list[bytes]]:
        """Names of the compiler's clones by what they are without their numbers."""
        out: dict[str, list[bytes]] = {}
        for raw in self._by_name:
            if b"." in raw[1:]:
                name = raw.decode("utf-8", "replace")
                if key := clone_key(name):
                    out.setdefault(key, []).append(raw)
        return out

    def renumbered(self, name: str) -> list[Symbol]:
        """Clones that have a clone's name but for the numbers in it, in order of address. gcc numbers clones separately
        in each compile, so that `f.isra.3` there may be what is `f.isra.0` here; only their code tells."""
        key = clone_key(name)
        found = [self.symbol_at(i) for raw in self._clones.get(key, ()) for i in self._by_name[raw]] if key else []
        return sorted((s for s in found if s.name != name), key=lambda s: (s.value, s.index))

    def symbol_at(self, index: int) -> Symbol:
        """Symbol `index` of the table, its value an address."""
        return self.obj.symbol(index)

    def named(self, name: str) -> list[Symbol]:
        """Every defined symbol of that name, in order of address (and then of the table)."""
        if name not in self._named:
            found = [self.symbol_at(i) for i in self._by_name.get(name.encode(), ())]
            self._named[name] = sorted(found, key=lambda s: (s.value, s.index))
        return self._named[name]

    def first_global(self, names: Iterable[str], section: int) -> Symbol | None:
        """Of these names the one whose symbol has the lowest address in a section (index); names that are not those of
        one global symbol alone are skipped."""
        table, local = self.obj.columns, int(STB.LOCAL)
        best: tuple[int, str, int] | None = None
        for name in names:
            found = self._by_name.get(name.encode(), ())
            if len(found) == 1 and table.shndx[found[0]] == section and table.info[found[0]] >> 4 != local:
                place = (table.value[found[0]], name, found[0])
                best = min(best, place) if best is not None else place
        return self.symbol_at(best[2]) if best is not None else None

    def in_kallsyms(self, symbol: Symbol) -> bool:
        """Whether the running kernel's kallsyms lists this symbol (CONFIG_KALLSYMS_ALL)."""
        if symbol.name.startswith(NOT_IN_KALLSYMS) or symbol.name in KALLSYMS_TABLES:
            return False
        return not (symbol.shndx == SHN.ABS and symbol.is_local)

    def sympos(self, name: str, address: int) -> int | None:
        """The position to name the symbol `name` at `address` by: 0 where unique, else its 1-based rank.

        None where kallsyms has no such symbol there.
        """
        listed = [s for s in self.named(name) if self.in_kallsyms(s)]
        places = [s.value for s in listed]
        if address not in places:
            return None
        return 0 if len(places) == 1 else places.index(address) + 1

    @cached_property
    def _places(self) -> tuple[list[int], list[int]]:
        loaded = [
            s
            for s in self.obj.sections
            if s.flags & SHF.ALLOC and s.size and s.type != SHT.NULL and not s.name.startswith((".rela", ".note.Linux"))
        ]
        loaded.sort(key=lambda s: s.addr)
        return [s.addr for s in loaded], [s.index for s in loaded]

    @cached_property
    def release(self) -> str:
        """The kernel's release: the word behind "Linux version" in linux_banner (init/version.c), which is what
        UTS_RELEASE and so vermagic was. Empty where the image has no such symbol or text."""
        for symbol in self.named("linux_banner"):
            words = (self.read(symbol.value, symbol.size) or b"").decode(errors="replace").split(" ")
            if words[:2] == ["Linux", "version"] and len(words) > 2:
                return words[2]
        return ""

    def section_at(self, address: int) -> str:
        """Name of the section that holds an address, or "" where none does."""
        starts, indices = self._places
        place = bisect.bisect_right(starts, address) - 1
        if place < 0:
            return ""
        section = self.obj.sections[indices[place]]
        return section.name if address < section.addr + section.size else ""

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes at an address (zeros in .bss), or None where they do not lie in one section."""
        section = self._section_before(address)
        if section is None or address + size > section.addr + section.size:
            return None
        if section.type == SHT.NOBITS:
            return bytes(size)
        start = section.offset + address - section.addr
        return bytes(self.obj.data[start : start + size])

    def text(self, address: int) -> bytes | None:
        """The string at an address with the zero that ends it; None where there is none within 4096 bytes."""
        raw = self.read(address, min(max(self._room(address), 0), _LONGEST_TEXT)) or b""
        end = raw.find(b"\0")
        return raw[: end + 1] if end >= 0 else None

    def _room(self, address: int) -> int:
        """Bytes from an address to the end of its section."""
        section = self._section_before(address)
        return section.addr + section.size - address if section is not None else 0

    def _section_before(self, address: int) -> Section | None:
        """The section that begins last at or before an address."""
        starts, indices = self._places
        place = bisect.bisect_right(starts, address) - 1
        return self.obj.sections[indices[place]] if place >= 0 else None

    @cached_property
    def _init_range(self) -> tuple[int, int] | None:
        """Start and end of what free_initmem() gives back after boot, by the linker script's own symbols."""
        begin, end = self.named("__init_begin"), self.named("__init_end")
        return (begin[0].value, end[0].value) if len(begin) == 1 and len(end) == 1 else None

    def table(self, section: str) -> tuple[int, bytes] | None:
        """Address and bytes of a special section: a section of its own, or, where the linker script gathers it into
        another, what lies between its start and stop symbols. None where the kernel has neither."""
        own = self.obj.section_named(section)
        if own is not None and own.type != SHT.NOBITS:
            address = self.symbol_address_of(own.index)
            raw = self.read(address, own.size)
            return (address, raw) if raw is not None else None
        for stem in (section, section.lstrip("._")):
            start, stop = self.named(f"__start_{stem}"), self.named(f"__stop_{stem}")
            if len(start) == 1 and len(stop) == 1:
                raw = self.read(start[0].value, stop[0].value - start[0].value)
                return (start[0].value, raw) if raw is not None else None
        return None

    @cached_property
    def sealed(self) -> frozenset[int]:
        """Addresses of the functions that lose, when the kernel boots, the instruction that indirect branches must land
        on; none where the CPU does not check that."""
        seals = for_object(self.obj).seals
        found = self.table(seals) if seals else None
        if found is None:
            return frozenset()
        import numpy as np

        address, raw = found
        fields = np.frombuffer(raw, self.obj.dtype("i4"), len(raw) // 4).astype(np.int64)
        places = (fields + np.arange(0, 4 * len(fields), 4)).astype(np.uint64) + np.uint64(address)
        return frozenset(places.tolist())

    def symbol_address_of(self, section_index: int) -> int:
        """Address of a section's first byte."""
        return self.obj.sections[section_index].addr

    def is_init(self, address: int) -> bool:
        """True for memory that is freed after boot. The initial values of per-CPU variables are that as well, since
        6.15 at addresses of their own; but the address of such a variable only says which it is of each CPU's."""
        if self._init_range is not None:
            inside = self._init_range[0] <= address < self._init_range[1]
            return inside and not self.section_at(address).startswith(PER_CPU)
        return self.section_at(address).startswith((".init", ".exit"))

    @cached_property
    def _names_at(self) -> dict[int, list[int]]:
        table, function = self.obj.columns, int(STT.FUNC)
        out: dict[int, list[int]] = {}
        for index, (value, kind) in enumerate(zip(table.value, table.kinds, strict=True)):
            if kind == function:
                out.setdefault(value, []).append(index)
        return out

    def functions_at(self, address: int) -> list[Symbol]:
        """Every function symbol that begins at an address: one, or the names folded into one body."""
        return [self.symbol_at(i) for i in self._names_at.get(address, ())]

    def is_global(self, name: str, address: int) -> bool:
        """True where a global or weak symbol of that name lies at that address."""
        if name not in self._global_at:
            self._global_at[name] = frozenset(s.value for s in self.named(name) if s.bind != STB.LOCAL)
        return address in self._global_at[name]

    @cached_property
    def build_id(self) -> str:
        """GNU build-id, hex; "" where the file has none."""
        for section in self.obj.sections:
            if section.type == SHT.NOTE:
                found = find_build_id(bytes(self.obj.contents(section.index)), self.obj.records)
                if found:
                    return found
        return ""
