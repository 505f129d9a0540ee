# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the assembler keep the name of each variable that code refers to.

The GNU assembler writes a reference to a local variable as the variable's section plus an offset. In a section with
several variables (__read_mostly, per-CPU, every section attribute), `array + 8` then looks like a reference to whatever
follows the array, and `array - 1` like one to what precedes it. The assembler keeps the symbol only if it has to. One
such case is a symbol of type STT_GNU_IFUNC (S_FORCE_RELOC in gas/symbols.c), whatever its binding. So gcc's own `.type
NAME, @object` is changed to that type, and the symbol table of the finished object is corrected (`restore_types`). No
byte of code or data depends on either.

Where a patch needs it, the same program makes code read static keys at run time (data/assembler/keys.pl): gcc's output
is the same as without, and only the branches and calls that belong to the named keys are written in another way.

The program that gcc runs instead of its assembler is data/assembler/as.pl: perl is in every toolchain that builds a
kernel, and starts quickly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kgbuild.elf.records import records_at

PERL = "/usr/bin/perl"
PROGRAM = Path(__file__).resolve().parents[2] / "data" / "assembler" / "as.pl"
KEYS = PROGRAM.with_name("keys.pl")
# ELF (gABI): offsets in the file header, the section header and the symbol of a 64-bit file.
_OSABI, _SYMTAB, _OBJECT, _IFUNC = 7, 2, 1, 10


@dataclass(frozen=True, order=True)
class RunTimeKeys:
    """What an assembler reads at run time: the symbols of static keys, and the names of static calls, each sorted."""

    keys: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()

    def as_data(self) -> list[list[str]]:
        """Both, for a cache key."""
        return [list(self.keys), list(self.calls)]


def make_assembler(folder: Path, real: str, read: RunTimeKeys | None = None, options: Iterable[str] = ()) -> list[str]:
    """Put a program `as` into a new folder that runs in front of gcc's own assembler, `real` (the output of
    -print-prog-name=as). Where `read` is given, it reads these keys at run time, in the way that a unit with the
    compiler options `options` makes indirect calls. Returns the option that makes gcc, with -pipe, use it."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "as"
    text = f"#!{PERL}\nunshift @ARGV, {_quoted(real)};\n"
    rest = PROGRAM.read_text()
    if read is not None:
        machine = [option for option in options if option.startswith("-m")]
        for name, words in (("keys", read.keys), ("calls", read.calls), ("options", machine)):
            text += f"our %{name} = map {{ $_ => 1 }} ({', '.join(map(_quoted, words))});\n"
        rest += KEYS.read_text()
    program.write_text(text + rest)
    program.chmod(0o755)
    return [f"-B{folder}/"]


def _quoted(word: str) -> str:
    """A word as perl reads it."""
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


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
