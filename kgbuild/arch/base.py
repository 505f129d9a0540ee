# SPDX-License-Identifier: GPL-2.0-or-later
"""What an architecture has to say: one frozen table, and how to decode its code.

Everything that is true of one architecture only lives in `arch/<name>/`; nothing else names a relocation type, an
opcode, a register, or the size of a special-section entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from kgbuild.arch.howto import Howtos
from kgbuild.arch.relocated_fields import RelocatedFields
from kgbuild.elf.records import ByteOrder

if TYPE_CHECKING:
    from kgbuild.arch.code_search import CodeSearch
    from kgbuild.arch.platform import Platform


class PatchSite(NamedTuple):
    """What one kind of site holds.

    what      in words, for messages
    starts    byte strings one of which the instruction begins with; none: not looked at
    to        beginnings of symbol names; a relocation in the instruction must name such a symbol; none: not looked at
    complete  True where every branch to such a symbol must have an entry
    announced  True where anything may stand there if the instruction before it takes the address of this very entry
    """

    what: str
    starts: tuple[bytes, ...] = ()
    to: tuple[str, ...] = ()
    complete: bool = False
    announced: bool = False


_NONE: Mapping[int, Any] = MappingProxyType({})


class SpecialSection(NamedTuple):
    """One special section: how its entries look, and what the kernel does with it.

    sizes        entry sizes in bytes that exist for it, each with the offsets in an entry that hold a relocation; the
                 size that fits the object's relocations is taken
    owner        offset in the entry of the relocation that names the code the entry belongs to
    ignore       byte ranges (offset, length) that say nothing about behaviour (line numbers), by entry size
    replacement  (offset of the relocation into the replacement code, offset of its length byte) for alternatives,
                 by entry size, else empty
    companion    section of the same number of entries that goes with it (.orc_unwind of .orc_unwind_ip)
    key          offset of the relocation to a static key or static call key, by entry size, else empty
    last         least size of the last entry where its padding may be missing, else 0
    compared     whether a difference in an entry makes its function changed
    struct       name of the structure in C, whose size debugging information tells
    fields       what an entry holds, by entry size: name to (offset, bytes); for people, and not needed to compare
    constant     bytes that stand at the owner's place until the kernel, when it boots, writes the value of a variable
                 there; that is named by the section's name without `prefix`. Empty for all other sections
    prefix       how the names of a family of sections begin (runtime_ptr_X for each X), else empty
    site         what must stand at the places that entries name, None where that is not looked at
    carried      whether its entries go into a live patch with the code that they belong to
    dropped      whether it never goes into a live patch and says nothing about behaviour
    at_load      whether the kernel acts on it while it loads a module (module_finalize, jump_label_module_notify and
                 their kind): a relocation of a target that comes later is too late for these, since 5.8 removed
                 .klp.arch.* (commit 1d05334d2899)
    looked_up    whether the module loader looks it up by its exact name: a second one, or one with a suffix, would be
                 plain data that nobody looks at
    about_code   whether an address in it says something of that code, and is no pointer that anything calls
    every_function  whether it says something of nearly every function, so that a function's being in it means nothing
    auxiliary    whether it is code that stands elsewhere and belongs to entries of other special sections
    """

    sizes: Mapping[int, tuple[int, ...]] = _NONE
    owner: int = 0
    ignore: Mapping[int, tuple[tuple[int, int], ...]] = _NONE
    replacement: Mapping[int, tuple[int, int]] = _NONE
    companion: str = ""
    key: Mapping[int, int] = _NONE
    last: int = 0
    compared: bool = True
    struct: str = ""
    fields: Mapping[int, dict[str, tuple[int, int]]] = _NONE
    constant: bytes = b""
    prefix: str = ""
    site: PatchSite | None = None
    carried: bool = True
    dropped: bool = False
    at_load: bool = False
    looked_up: bool = False
    about_code: bool = False
    every_function: bool = False
    auxiliary: bool = False


class Instruction(NamedTuple):
    """One decoded instruction: offset and length in bytes, the branch target and RIP-relative target as offsets in
    the decoded buffer (None where it has none), the place and width of that displacement, its kind of flow, and a
    number for its mnemonic that is the same for short and near forms of one branch."""

    offset: int
    length: int
    target: int | None
    field_offset: int
    field_size: int
    is_call: bool
    is_branch: bool
    ends_flow: bool
    mnemonic: int


class ArgumentLoad(NamedTuple):
    """One instruction that puts a constant or an address into the register of an integer argument: its offset, which
    argument (0 is the first), the bytes of the immediate or displacement, and whether that is an immediate."""

    offset: int
    argument: int
    field_offset: int
    field_size: int
    immediate: bool


class HandedOut(NamedTuple):
    """What code does with addresses that are in some of its fields, by the fields' offsets: those that it stores to
    memory other than its stack or returns, and those that are in a register of an argument at a call. `jumps` says
    whether the code jumps to where a register or memory says."""

    kept: frozenset[int]
    passed: frozenset[int]
    jumps: bool


class Doing(IntEnum):
    """What code does with an address that one of its relocated fields holds.

    ADDRESS  puts it into a register or memory, or makes another address of it
    READ     reads the memory there; INDEX: with a number added that is not known before
    WRITE    writes it
    PASS     leaves it in the register of an argument when it calls or jumps
    STORE    stores it
    STACK    stores it on the stack
    COMPARE  compares it with something
    COMPUTE  adds something that is not known before, or makes something else of it
    RETURN   leaves it in the register of the result when it returns, or jumps to the thunk that does
    """

    ADDRESS = 1
    READ = 2
    INDEX = 3
    WRITE = 4
    PASS = 5
    STORE = 6
    COMPARE = 7
    COMPUTE = 8
    STACK = 9
    RETURN = 10


class Use(NamedTuple):
    """One use of the address in the relocated field at offset `field`: what is done and at which offset. With PASS,
    `call` is the offset of the displacement of the call or jump, and `argument` which argument it is (0 the first)."""

    field: int
    doing: Doing
    offset: int
    call: int = -1
    argument: int = -1


class Formatted(NamedTuple):
    """One instruction as text, in the syntax that the kernel's developers read: offset and length in bytes, mnemonic,
    operands, and where a branch inside the code leads (an offset in it), None for everything else."""

    offset: int
    length: int
    mnemonic: str
    operands: str
    target: int | None


class Effect(NamedTuple):
    """What one instruction does: its offset and length in bytes, where a direct branch or call leads (an offset in the
    code), whether it calls, may branch, leaves for elsewhere (jump or return) or traps; whether it writes and reads
    memory that is not addressed by the stack pointer; whether it writes a register, and one that a call keeps, in
    another way than by fetching it from the stack or from another register; whether only the kernel may run it; a
    number for its mnemonic, as in Instruction."""

    offset: int
    length: int
    target: int | None
    calls: bool
    branches: bool
    leaves: bool
    traps: bool
    stores: bool
    loads: bool
    computes: bool
    computes_kept: bool
    privileged: bool
    mnemonic: int


class Rewritten(NamedTuple):
    """One instruction in the form that reaches its symbol through a slot.

    code    the new bytes, each field that is relocated zero; moved: they are longer, and stand elsewhere
    slots   (offset of a PC-relative displacement to a slot in the new bytes, offset of the address in the old ones)
    kept    (new offset, old offset, change of the addend) of fields that other relocations fill
    depths  (offset, bytes): from there on so many more bytes are on the stack
    at      offset of the instruction itself in the new bytes
    fault   why there is no such form, "" where there is
    """

    code: bytes = b""
    moved: bool = False
    slots: tuple[tuple[int, int], ...] = ()
    kept: tuple[tuple[int, int, int], ...] = ()
    depths: tuple[tuple[int, int], ...] = ()
    at: int = 0
    fault: str = ""


class SlotCode(NamedTuple):
    """Reaching symbols through slots.

    through  an instruction, the offsets of its fields that are to go through slots, those of other relocated fields
    jump     a direct jump by a distance from its first byte, filled up to a length; jump_size: the least length
    unwind_below  an unwind entry where more bytes are on the stack, None where that can't be said
    check    what is wrong with an instruction that was moved: its bytes and offset, those of what it was moved to, the
             fields in these that lead to slots
    is_load  whether an instruction loads a whole slot
    depths   the offset of each instruction of what was moved, and how many more bytes are on the stack there
    """

    through: Callable[[bytes, frozenset[int], frozenset[int]], Rewritten]
    jump: Callable[[int, int], bytes]
    jump_size: int
    unwind_below: Callable[[bytes, int], bytes | None]
    check: Callable[[bytes, int, bytes, int, Iterable[int]], str]
    is_load: Callable[[bytes], bool]
    depths: Callable[[bytes], list[tuple[int, int]]]


@dataclass(frozen=True, eq=False, repr=False)  # there is one of each; fewer methods to make when kgbuild starts
class Arch:
    """One architecture's facts.

    order, word  byte order of its objects, and bytes of an address
    load_platform  what trees, distributions and the emulator call it; most commands do without
    relocs      its relocation types (arch/howto.py)
    sections    special sections by name; families: those of which there are several, told by `prefix`; dropped: names
                of others that never go into a live patch and say nothing about behaviour (a last `*`: a beginning)
    trace_call  what a traceable function calls first; trace_tables: sections that list such places; trace_reach: how
                far from the function's symbol such a place can be, in bytes, to either side
    pointer_reloc  the absolute relocation of a pointer's width; written_late: relocation types that a module can write
                itself once it is loaded, each with its number in data/livepatch/kallsyms.c
    is_branch_field  whether the 32-bit PC-relative field at an offset is the displacement of a direct call or jump
    uses_of     what code does with the addresses in some of its relocated fields
    argument_uses  what a function does with one of its arguments, in its code from an offset on
    slot_code   code that reaches a symbol through memory that holds its address
    relocated   which relocations may fill in which fields of instructions, entries and data
    format      code as text; the second argument says by offset what a relocated field means
    stable      (offset, length) of the instructions in memory that are those of the file, whatever the kernel does
    message_index  section of pointers to the entries of the index of messages (CONFIG_PRINTK_INDEX), and the offset in
                an entry (struct pi_entry) of the pointer to the name of its function
    thunk       code that an indirect branch may go to and that jumps elsewhere: its last bytes are for a call_reloc
    stub        code that jumps elsewhere directly; callers enter at stub_entry, stub_field is the displacement
    trap        code that nothing may reach, of a length that fills its alignment
    indirect_thunks  how the names of functions begin through which indirect branches go; indirect_prefix: what all of
                them, and their kind, begin with; return_thunk: the function that returns go through
    nmi_entries  where the CPU enters the kernel for an NMI, and what perf's NMI calls through a static call
    landing     the instruction that an indirect branch must land on, where the CPU checks that; landing_name: for
                messages; seals: the section of functions that lose it when the kernel boots
    unwind_entry  bytes of an entry of the unwinder's table
    trace_bytes  bytes that are enough to see whether a function begins with a trace site; trace_target: the address
                that it calls first, of its bytes and its address; trace_field: the offset of that call's displacement
    search      how references are found in whole sections of code (arch/code_search.py)
    filler      bytes that the room between functions is filled with, by the assembler
    is_padding  whether bytes are what the assembler fills an alignment inside a function with
    branch_form  what precedes the displacement of a direct branch (its bytes, the displacement's offset), the same for
                every width of it
    debug_line  offset of the 32-bit word of a pr_debug descriptor (struct _ddebug) that holds the line, and its bits
    """

    name: str
    machine: int
    order: ByteOrder
    word: int
    load_platform: Callable[[], Platform]
    relocs: Howtos
    call_reloc: int
    pointer_reloc: int
    written_late: dict[int, int]
    per_field_pcrel32: int
    sections: dict[str, SpecialSection]
    dropped: tuple[str, ...]
    trace_call: str
    trace_tables: tuple[str, ...]
    trace_reach: int
    decode: Callable[[bytes], list[Instruction]]
    boundaries: Callable[[bytes], list[int]]
    effects: Callable[[bytes], list[Effect]]
    argument_loads: Callable[[bytes], list[ArgumentLoad]]
    handed_out: Callable[[bytes, frozenset[int], frozenset[int]], HandedOut]
    uses_of: Callable[[bytes, Iterable[int]], list[Use]]
    argument_uses: Callable[[bytes, int, int], list[Use]]
    format: Callable[[bytes, Mapping[int, str]], list[Formatted]]
    stable: Callable[[bytes], list[tuple[int, int]]]
    is_branch_field: Callable[[bytes, int], bool]
    slot_code: SlotCode
    relocated: RelocatedFields
    unwind_entry: int
    trace_bytes: int
    trace_target: Callable[[bytes, int], int | None]
    trace_field: Callable[[bytes], int | None]
    search: Callable[[], CodeSearch]
    is_padding: Callable[[bytes], bool]
    branch_form: Callable[[bytes, int], bytes]
    debug_line: tuple[int, int] = (0, 0)
    indirect_thunks: tuple[str, ...] = ()
    indirect_prefix: str = ""
    return_thunk: str = ""
    nmi_entries: tuple[str, ...] = ()
    landing: bytes = b""
    landing_name: str = ""
    seals: str = ""
    families: tuple[SpecialSection, ...] = ()
    thunk: bytes = b""
    stub: bytes = b""
    trap: bytes = b""
    stub_entry: int = 0
    stub_field: int = 0
    filler: bytes = b""
    message_index: tuple[str, int] = (".printk_index", 8)

    @cached_property
    def platform(self) -> Platform:
        """What trees, distributions and the emulator call it."""
        return self.load_platform()

    @cached_property
    def special(self) -> dict[str, SpecialSection]:
        """The special sections that are read entry by entry and carried, by name."""
        return {name: row for name, row in self.sections.items() if row.carried}

    def _names(self, holds: Callable[[SpecialSection], bool]) -> tuple[str, ...]:
        return tuple(name for name, row in self.sections.items() if holds(row))

    @cached_property
    def auxiliary(self) -> tuple[str, ...]:
        """Sections of code that belongs to entries of special sections."""
        return self._names(lambda row: row.auxiliary)

    @cached_property
    def read_at_load(self) -> frozenset[str]:
        """Sections that the kernel acts on while it loads a module."""
        return frozenset(self._names(lambda row: row.at_load))

    @cached_property
    def looked_up(self) -> tuple[str, ...]:
        """Sections that the module loader looks up by their exact names."""
        return self._names(lambda row: row.looked_up)

    @cached_property
    def about_code(self) -> tuple[str, ...]:
        """Sections in which an address is no pointer that anything calls."""
        return self._names(lambda row: row.about_code)

    @cached_property
    def of_every_function(self) -> tuple[str, ...]:
        """Sections that say something of nearly every function."""
        return self._names(lambda row: row.every_function)

    @cached_property
    def companions(self) -> frozenset[str]:
        """Sections without relocations whose entries go with those of another."""
        return frozenset(row.companion for row in self.sections.values() if row.companion)

    @cached_property
    def sites(self) -> dict[str, PatchSite]:
        """What must stand at the places that the entries of a section name."""
        return {name: row.site for name, row in self.sections.items() if row.site is not None}

    @cached_property
    def _dropped(self) -> tuple[frozenset[str], tuple[str, ...]]:
        """Names of dropped sections, and beginnings of such names."""
        exact = frozenset(p for p in self.dropped if p[-1] != "*") | {*self._names(lambda row: row.dropped)}
        return exact, tuple(p[:-1] for p in self.dropped if p[-1] == "*")

    @cached_property
    def _family_prefixes(self) -> tuple[str, ...]:
        return tuple(family.prefix for family in self.families)

    def special_of(self, section: str) -> SpecialSection | None:
        """The rule for a special section, None for any other section."""
        found = self.special.get(section)
        if found is None and section.startswith(self._family_prefixes):
            found = next((f for f in self.families if section.startswith(f.prefix)), None)
        return found

    def is_dropped(self, section: str) -> bool:
        """True for a section that never goes into a live patch and says nothing about behaviour."""
        exact, prefixes = self._dropped
        return section in exact or section.startswith(prefixes)
