# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the assembler keep the name of each variable that code refers to.

The GNU assembler writes a reference to a local variable as the variable's section plus an offset. In a section with
several variables (__read_mostly, per-CPU, every section attribute), `array + 8` then looks like a reference to whatever
follows the array, and `array - 1` like one to what precedes it. The assembler keeps the symbol only if it has to. One
such case is a symbol of type STT_GNU_IFUNC (S_FORCE_RELOC in gas/symbols.c), whatever its binding. So gcc's own `.type
NAME, @object` is changed to that type, and the symbol table of the finished object is corrected (`restore_types`). No
byte of code or data depends on either.

This file is also the program that gcc runs instead of its assembler (`make_assembler`). It uses only the standard
library, and as little as possible of that, because it starts with every compile.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing takes longer than the rest of the program
if TYPE_CHECKING:
    from pathlib import Path

_PLAIN, _KEPT = b", @object\n", b", @gnu_indirect_function\n"
# gcc puts the text of asm statements between these; hand-written text may need the symbol unchanged
_APP, _NO_APP = b"#APP\n", b"#NO_APP\n"
_CHUNK = 1 << 18
_STOPPED = (b"File too large", b"memory exhausted", b"out of memory")
# ELF (gABI): offsets in the file header, the section header and the symbol of a 64-bit file.
_OSABI, _SYMTAB, _OBJECT, _IFUNC = 7, 2, 1, 10


def make_assembler(folder: Path, real: str) -> list[str]:
    """Create a program `as` in a new folder that runs this file in front of gcc's own assembler, `real` (the output of
    -print-prog-name=as). Returns the option that makes gcc, with -pipe, use it."""
    from shlex import quote

    folder.mkdir(parents=True, exist_ok=True)
    own = sys.modules[__name__].__file__ or ""
    words = " ".join(map(quote, [sys.executable, "-I", "-S", "-E", own, real]))
    program = folder / "as"
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    return [f"-B{folder}/"]


def convert(text: bytes, inside: bool) -> tuple[bytes, bool]:
    """Change the type of each variable in complete lines of gcc's assembly; `inside`: whether they begin in an asm
    statement. Returns the text, and whether the next lines begin in one."""
    out = []
    for number, piece in enumerate(text.split(_APP)):
        if number:
            out.append(_APP)
        plain = piece
        if number or inside:
            written, end, plain = piece.partition(_NO_APP)
            out += (written, end)
            inside = not end
        out.append(plain.replace(_PLAIN, _KEPT))
    return b"".join(out), inside


def restore_types(data: bytes) -> bytes:
    """The object with every symbol of type STT_GNU_IFUNC changed to STT_OBJECT; the kernel has no indirect functions.
    Anything but a 64-bit little-endian ELF file is returned unchanged."""
    if data[:6] != b"\x7fELF\x02\x01":
        return data
    out = bytearray(data)
    header = int.from_bytes(data[40:48], "little")
    count = int.from_bytes(data[60:62], "little") or int.from_bytes(data[header + 32 : header + 40], "little")
    for at in range(header, header + 64 * count, 64):
        if int.from_bytes(data[at + 4 : at + 8], "little") != _SYMTAB:
            continue
        start, size = (int.from_bytes(data[at + i : at + i + 8], "little") for i in (24, 32))
        kinds = data[start + 4 : start + size : 24]
        for number, info in enumerate(kinds):
            if info & 0xF == _IFUNC:
                out[start + 4 + 24 * number] = info & 0xF0 | _OBJECT
                out[_OSABI] = 0
    return bytes(out)


def main(argv: list[str]) -> int:
    """Run the assembler `argv` on standard input, with names kept; if that fails, run it again on the unchanged text.
    Returns its exit status."""
    said = os.memfd_create("said")
    read, write = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_DUP2, said, 2), (os.POSIX_SPAWN_CLOSE, write)]
    child = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    os.close(read)
    whole, rest, inside = [], b"", False
    while chunk := os.read(0, _CHUNK):
        whole.append(chunk)
        lines, end, remaining = (rest + chunk).rpartition(b"\n")
        rest = remaining
        text, inside = convert(lines + end, inside)
        _write(write, text)
    _write(write, rest)
    os.close(write)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    words = os.pread(said, 1 << 20, 0)
    # a limit stopped it: it would again
    if status <= 0 or any(word in words for word in _STOPPED):
        _write(2, words)
        return abs(status)
    again = os.memfd_create("text")
    try:
        _write(again, b"".join(whole))
    except OSError as error:
        _write(2, f"{os.strerror(error.errno or 0)}\n".encode())
        return 1
    os.lseek(again, 0, os.SEEK_SET)
    child = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, again, 0)])
    return abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BrokenPipeError:  # the assembler has exited: its status tells why
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
