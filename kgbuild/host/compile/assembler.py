# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the assembler keep the name of each variable that code refers to.

The GNU assembler writes a reference to a local variable as the variable's section plus an offset. In a section with
several variables (__read_mostly, per-CPU, every section attribute), `array + 8` then looks like a reference to whatever
follows the array, and `array - 1` like one to what precedes it. The assembler keeps the symbol only if it has to. One
such case is a symbol of type STT_GNU_IFUNC (S_FORCE_RELOC in gas/symbols.c), whatever its binding. So gcc's own `.type
NAME, @object` is changed to that type, and the symbol table of the finished object is corrected (`restore_types`). No
byte of code or data depends on either.

The program that gcc runs instead of its assembler is data/assembler/as.pl: perl is in every toolchain that builds a
kernel, and starts quickly.
"""

from __future__ import annotations

from pathlib import Path

from kgbuild.elf.records import records_at

PERL = "/usr/bin/perl"
PROGRAM = Path(__file__).resolve().parents[2] / "data" / "assembler" / "as.pl"
# ELF (gABI): offsets in the file header, the section header and the symbol of a 64-bit file.
_OSABI, _SYMTAB, _OBJECT, _IFUNC = 7, 2, 1, 10


def make_assembler(folder: Path, real: str) -> list[str]:
    """Put a program `as` into a new folder that runs in front of gcc's own assembler, `real` (the output of
    -print-prog-name=as). Returns the option that makes gcc, with -pipe, use it."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "as"
    quoted = real.replace("\\", "\\\\").replace("'", "\\'")
    program.write_text(f"#!{PERL}\nunshift @ARGV, '{quoted}';\n{PROGRAM.read_text()}")
    program.chmod(0o755)
    return [f"-B{folder}/"]


def restore_types(data: bytes) -> bytes:
    """The object with every symbol of type STT_GNU_IFUNC changed to STT_OBJECT; the kernel has no indirect functions.
    Anything but a 64-bit ELF file is returned unchanged."""
    records = records_at(data)
    if records is None:
        return data
    out = bytearray(data)
    fields = records.header.unpack_from(data)
    header, step = fields[6], records.section.size
    if header + step > len(data):
        return data
    # a count that does not fit is in the first header (gABI, e_shnum)
    count = fields[12] or records.section.unpack_from(data, header)[5]
    for at in range(header, min(header + step * count, len(data) - step + 1), step):
        _, kind, _, _, start, size, *_ = records.section.unpack_from(data, at)
        if kind != _SYMTAB:
            continue
        kinds = data[start + 4 : start + size : 24]
        for number, info in enumerate(kinds):
            if info & 0xF == _IFUNC:
                out[start + 4 + 24 * number] = info & 0xF0 | _OBJECT
                out[_OSABI] = 0
    return bytes(out)
