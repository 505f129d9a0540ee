# SPDX-License-Identifier: GPL-2.0-or-later
"""The written description of a patch module: names and layouts of the tables that it has beside the patch's own code.

Four parties go by it: what writes a module (emit/), the C that reads its tables when it is loaded
(data/livepatch/*.c), what reads a finished module again (verification/), and what asks a module of another day what it
replaces (livepatch/). This file is all that writer and verifier have in common. It holds facts and no rule: a fault of
either side can't hide in the other. tests/tools/test_module_abi.py has gcc say each size, offset and number.

All numbers are those of a 64-bit kernel of little endian. A pointer is zeros in the file, and a relocation says what it
leads to; without one it is a null pointer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

POINTER = "Q"
_ORDER = "<"
NUMBER = struct.Struct(f"{_ORDER}I")  # a size, or a truth value
NOTE_HEADER = struct.Struct(f"{_ORDER}III")  # Elf64_Nhdr: bytes of the name, bytes of the contents, type


@dataclass(frozen=True)
class Table:
    """One array of C structures.

    section    the section that holds it, and nothing else
    symbol     the array's name in C, "" where C does not read it
    structure  the name of the C structure
    fields     name and struct format of each of its fields, in order, without gaps
    pointers   those of its fields that are pointers
    ended      whether the last row is one of zeros
    """

    section: str
    symbol: str
    structure: str
    fields: tuple[tuple[str, str], ...]
    pointers: frozenset[str]
    ended: bool = True

    @cached_property
    def layout(self) -> struct.Struct:
        """All fields of a row, in order."""
        return struct.Struct(_ORDER + "".join(form for _, form in self.fields))

    @property
    def size(self) -> int:
        """Bytes of one row."""
        return self.layout.size

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where each field begins in a row, in bytes."""
        out, at = {}, 0
        for name, form in self.fields:
            out[name] = at
            at += struct.calcsize(_ORDER + form)
        return out

    def pack(self, **values: int | bytes) -> bytes:
        """The bytes of one row; a field that is not given is zero."""
        unknown = values.keys() - self.offsets.keys()
        if unknown:
            raise KeyError(f"{self.structure} has no {', '.join(sorted(unknown))}")
        return self.layout.pack(*(values.get(name, b"" if form.endswith("s") else 0) for name, form in self.fields))

    def number(self, data: bytes, at: int, field: str) -> int:
        """The number that a field of the row at an offset holds. Raises struct.error where the row is not all there."""
        return int(struct.unpack_from(_ORDER + dict(self.fields)[field], data, at + self.offsets[field])[0])

    def rows(self, data: bytes) -> list[int]:
        """Offsets of the whole rows in some bytes."""
        return list(range(0, len(data) // self.size * self.size, self.size))


def value_section(name: str) -> str:
    """The section that holds a table or a single value that C knows by this name."""
    return f".rodata.{name}"


def _table(symbol: str, structure: str, text: str, *, ended: bool = True) -> Table:
    """A table from the C-like text of its fields, `*` before those that are pointers."""
    fields, pointers = [], set()
    for item in text.split(","):
        form, name = item.split()
        fields.append((name, POINTER if form == "*" else form))
        if form == "*":
            pointers.add(name)
    return Table(value_section(symbol), symbol, structure, tuple(fields), frozenset(pointers), ended)


# -- what every module has (identity.c, main.c) ----------------------------------------------------------------------

# What is replaced: a name in an object (null: vmlinux) by a function of the module.
FUNCTIONS = _table("kgbuild_funcs", "kgbuild_func", "* object, * name, * func, Q sympos")
# How a target module is known: `delta` bytes behind the symbol `anchor` of it are the bytes of its build-id.
OBJECTS = _table("kgbuild_objects", "kgbuild_object", "* name, * anchor, q delta, I build_id_size, 20s build_id")
# Places that the wrapper clears when a target module goes, `size` bytes each.
LATE = _table("kgbuild_late", "kgbuild_late", "* object, * site, Q size")
# Places in code into which the first bytes of a variable of the kernel are written.
CONSTANTS = _table("kgbuild_constants", "kgbuild_constant", "* site, * value, Q size")
# An author's callbacks, sorted by object; the states that a patch makes.
CALLBACKS = _table("kgbuild_callbacks", "kgbuild_callback", "* object, Q kind, * func")
STATES = _table("kgbuild_states", "kgbuild_state", "Q id, Q version", ended=False)
# Exported functions that the patch changes and the kernel can't redirect: no other module may call them.
ASSUMED = _table("kgbuild_assumed", "kgbuild_assumed", "* name")
# Initial values of variables; a value of null is zeros.
INITIAL = _table("kgbuild_initial", "kgbuild_initial", "* object, * place, * value, Q size, Q kind, * code")

# -- modules that look up their symbols themselves (kallsyms.c) ------------------------------------------------------

# A symbol to look up; `ranges` rows of RANGES from `range` on are the bytes that `crc` is of.
SYMBOLS = _table(
    "kgbuild_symbols",
    "kgbuild_symbol",
    "* object, * name, Q sympos, I range, I ranges, I crc, I unused",
    ended=False,
)
RANGES = _table("kgbuild_ranges", "kgbuild_range", "I offset, I size")
# A place to write: the symbol of row `symbol` and an addend; `object` is the module whose coming it is written at.
SITES = _table("kgbuild_sites", "kgbuild_site", "* site, q addend, I kind, I symbol, * object")
# Instructions that were moved behind their function, for the verifier: no kernel loads this section.
MOVED = Table(
    ".kgbuild.moved",
    "",
    "",
    (("start", POINTER), ("to", POINTER), ("length", "I"), ("size", "I")),
    frozenset({"start", "to"}),
    ended=False,
)
SLOT = 8  # bytes of one slot: the address of what the kernel does not export

TABLES = (FUNCTIONS, OBJECTS, LATE, CONSTANTS, CALLBACKS, STATES, ASSUMED, INITIAL, SYMBOLS, RANGES, SITES)


class CallbackKind(IntEnum):
    """`kind` of CALLBACKS."""

    PRE_PATCH = 0
    POST_PATCH = 1
    PRE_UNPATCH = 2
    POST_UNPATCH = 3


class InitialKind(IntEnum):
    """`kind` of INITIAL: how a value is written."""

    MEMORY = 0
    PER_CPU = 1
    KEY = 2
    CALL = 3
    SAVED = 4


class SiteKind(IntEnum):
    """`kind` of SITES: width and form of the field."""

    ABSOLUTE_64 = 0
    RELATIVE_32 = 1
    UNSIGNED_32 = 2
    SIGNED_32 = 3
    RELATIVE_64 = 4


# -- single values and sections without rows ------------------------------------------------------------------------

BUILD_ID, BUILD_ID_SIZE = "kgbuild_build_id", "kgbuild_build_id_size"  # bytes; their number as u32
REPLACE = "kgbuild_replace"  # u32: whether older patches go
STATES_SIZE, SYMBOLS_SIZE = "kgbuild_states_size", "kgbuild_symbols_size"  # u32, in bytes
# Two pointers: to the beginning and the end of the running kernel's notes.
NOTES, NOTES_BOUNDS = "kgbuild_notes", ("__start_notes", "__stop_notes")
PATCH = "kgbuild_patch"  # struct klp_patch of the wrapper
END = "kgbuild_end"  # the symbol that ends the module's code

STRINGS_SECTION = ".rodata.kgbuild_strings"  # texts of the tables
LOOKUP_STRINGS_SECTION = ".rodata.kgbuild_names"  # texts of SYMBOLS and SITES
# Its livepatch relocations come before all others. Two dots: linker scripts since 7.0 join what has one into .rodata.
RESOLVE_SECTION = ".rodata..kgbuild_resolve"
VALUES_SECTION, SAVED_SECTION = ".rodata.kgbuild_values", ".data.kgbuild_saved"  # of INITIAL
SLOTS_SECTION = ".rodata.kgbuild_slots"
STUBS_SECTION, STUB = ".text.kgbuild_stubs", "kgbuild_stub_"  # jumps to the kernel; what begins their names
THUNK = "kgbuild_thunk_"  # what begins the name of a function that goes on to one of the kernel's
END_SECTION = ".text.kgbuild_end"
# What has to stay a section of its own when the module is linked: whoever reads it tells by the section what it is.
OWN_SECTIONS = (*(table.section for table in TABLES), RESOLVE_SECTION, SLOTS_SECTION, STUBS_SECTION)

# The note: owner and type of an ELF note, whose description is a JSON text (docs/schema/note.md).
NOTE_SECTION, NOTE_NAME, NOTE_TYPE = ".note.kgbuild", b"kgbuild\0", 1
FIXES_KEY = "kgbuild_fixes"  # in .modinfo: what the module fixes, with blanks between

# Documentation/livepatch/module-elf-format.rst: `.klp.sym.OBJECT.NAME,POSITION`, `.klp.rela.OBJECT.SECTION`.
KLP_SYMBOL, KLP_RELOCATIONS = ".klp.sym.", ".klp.rela."
KLP_SYMBOL_IN_C = "kgbuild_klp_"  # how C names a symbol of vmlinux that is to become a livepatch one
