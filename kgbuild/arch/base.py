# SPDX-License-Identifier: GPL-2.0-or-later
"""What an architecture has to say: one frozen table, and how to decode its code.

Everything that is true of one architecture only lives in `arch/<name>.py`; nothing else names a relocation type, an
opcode or the size of a special-section entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import NamedTuple

from kgbuild.arch.howto import ByteOrder, Howtos
from kgbuild.arch.platform import Platform


@dataclass(frozen=True)
class SpecialSection:
    """How the entries of one special section look.

    sizes        entry sizes in bytes that exist for it, each with the offsets in an entry that hold a relocation; the
                 size that fits the object's relocations is taken
    owner        offset in the entry of the relocation that names the code the entry belongs to
    ignore       byte ranges (offset, length) that say nothing about behaviour (line numbers)
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
    """

    sizes: dict[int, tuple[int, ...]]
    owner: int = 0
    ignore: tuple[tuple[int, int], ...] = ()
    replacement: dict[int, tuple[int, int]] = field(default_factory=dict)
    companion: str = ""
    key: dict[int, int] = field(default_factory=dict)
    last: int = 0
    compared: bool = True
    struct: str = ""
    fields: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict)
    constant: bytes = b""
    prefix: str = ""


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


@dataclass(frozen=True)
class SlotCode:
    """Reaching symbols through slots.

    through  an instruction, the offsets of its fields that are to go through slots, those of other relocated fields
    jump     a direct jump by a distance from its first byte, filled up to a length; jump_size: the least length
    unwind_below  an unwind entry where more bytes are on the stack, None where that can't be said
    check    what is wrong with an instruction that was moved: its bytes and offset, those of what it was moved to, the
             fields in these that lead to slots
    is_load  whether an instruction loads a whole slot
    depths   the offset of each instruction of what was moved, and how many more bytes are on the stack there
    """

    through: Callable[[bytes, frozenset[int], frozenset[int]], Rewritten] = field(repr=False)
    jump: Callable[[int, int], bytes] = field(repr=False)
    jump_size: int
    unwind_below: Callable[[bytes, int], bytes | None] = field(repr=False)
    check: Callable[[bytes, int, bytes, int, Iterable[int]], str] = field(repr=False)
    is_load: Callable[[bytes], bool] = field(repr=False)
    depths: Callable[[bytes], list[tuple[int, int]]] = field(repr=False)


@dataclass(frozen=True)
class Arch:
    """One architecture's facts.

    order, word  byte order of its objects, and bytes of an address
    platform    what trees, distributions and the emulator call it
    relocs      its relocation types (arch/howto.py)
    special     special sections by name; families: those of which there are several, told by `prefix`
    trace_call  what a traceable function calls first; trace_tables: sections that list such places; trace_reach: how
                far from the function's symbol such a place can be, in bytes, to either side
    pointer_reloc  the absolute relocation of a pointer's width; written_late: relocation types that a module can write
                itself once it is loaded, each with its number in data/livepatch/kallsyms.c
    is_branch_field  whether the 32-bit PC-relative field at an offset is the displacement of a direct call or jump
    uses_of     what code does with the addresses in some of its relocated fields
    argument_uses  what a function does with one of its arguments, in its code from an offset on
    slot_code   code that reaches a symbol through memory that holds its address
    format      code as text; the second argument says by offset what a relocated field means
    stable      (offset, length) of the instructions in memory that are those of the file, whatever the kernel does
    message_index  section of pointers to the entries of the index of messages (CONFIG_PRINTK_INDEX), and the offset in
                an entry (struct pi_entry) of the pointer to the name of its function
    thunk       code that an indirect branch may go to and that jumps elsewhere: its last bytes are for a call_reloc
    stub        code that jumps elsewhere directly; callers enter at stub_entry, stub_field is the displacement
    trap        code that nothing may reach, of a length that fills its alignment
    indirect_thunks  how the names of functions begin through which indirect branches go
    filler      bytes that the room between functions is filled with, by the assembler
    debug_line  offset of the 32-bit word of a pr_debug descriptor (struct _ddebug) that holds the line, and its bits
    """

    name: str
    machine: int
    order: ByteOrder
    word: int
    platform: Platform
    relocs: Howtos
    call_reloc: int
    pointer_reloc: int
    written_late: dict[int, int]
    per_field_pcrel32: int
    special: dict[str, SpecialSection]
    dropped: tuple[str, ...]
    auxiliary: tuple[str, ...]
    trace_call: str
    trace_tables: tuple[str, ...]
    trace_reach: int
    decode: Callable[[bytes], list[Instruction]] = field(repr=False)
    boundaries: Callable[[bytes], list[int]] = field(repr=False)
    effects: Callable[[bytes], list[Effect]] = field(repr=False)
    argument_loads: Callable[[bytes], list[ArgumentLoad]] = field(repr=False)
    handed_out: Callable[[bytes, frozenset[int], frozenset[int]], HandedOut] = field(repr=False)
    uses_of: Callable[[bytes, Iterable[int]], list[Use]] = field(repr=False)
    argument_uses: Callable[[bytes, int, int], list[Use]] = field(repr=False)
    format: Callable[[bytes, Mapping[int, str]], list[Formatted]] = field(repr=False)
    stable: Callable[[bytes], list[tuple[int, int]]] = field(repr=False)
    is_branch_field: Callable[[bytes, int], bool] = field(repr=False)
    slot_code: SlotCode
    debug_line: tuple[int, int] = (0, 0)
    indirect_thunks: tuple[str, ...] = ()
    families: tuple[SpecialSection, ...] = ()
    thunk: bytes = b""
    stub: bytes = b""
    trap: bytes = b""
    stub_entry: int = 0
    stub_field: int = 0
    filler: bytes = b""
    message_index: tuple[str, int] = (".printk_index", 8)

    @property
    def reloc_names(self) -> dict[int, str]:
        """The names of relocation types."""
        return self.relocs.names

    @property
    def reloc_size(self) -> dict[int, int]:
        """Bytes of the field of each relocation type."""
        return self.relocs.sizes

    @property
    def pc_relative(self) -> frozenset[int]:
        """The relocation types that are relative to their place."""
        return self.relocs.pc_relative

    @property
    def none_reloc(self) -> int:
        """The relocation type that says nothing."""
        return self.relocs.none

    @property
    def loadable_relocs(self) -> frozenset[int]:
        """The relocation types that the kernel's module loader applies."""
        return self.relocs.loadable

    def special_of(self, section: str) -> SpecialSection | None:
        """The rule for a special section, None for any other section."""
        found = self.special.get(section)
        if found is None:
            found = next((f for f in self.families if section.startswith(f.prefix)), None)
        return found

    def is_dropped(self, section: str) -> bool:
        """True for a section that never goes into a live patch and says nothing about behaviour."""
        exact, prefixes = _names(self.dropped)
        return section in exact or section.startswith(prefixes)


@cache
def _names(patterns: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Names of sections, and the beginnings of names (`.debug*`), of a table of both."""
    return frozenset(p for p in patterns if p[-1] != "*"), tuple(p[:-1] for p in patterns if p[-1] == "*")
