# SPDX-License-Identifier: GPL-2.0-or-later
"""The texts that `kgbuild diff` takes beside objects, broken: Module.symvers, `readelf -sW`, System.map, kallsyms."""

from __future__ import annotations

import random
from functools import cache

from kgbuild.closure.object_closure import close_objects
from kgbuild.diff.changes import Changes
from kgbuild.errors import KgbuildError
from kgbuild.kernel.exports import parse_symvers
from kgbuild.kernel.parent_symtab import read_parent
from kgbuild.pipeline.object_diff import diff_objects, read_relocatable
from tests.support.toolchain import compile_pair_side, run, scratch

SEED = "static_locals_swapped"
SYMVERS = b"0x12345678\tsink\tvmlinux\tEXPORT_SYMBOL_GPL\t\n0x00000000\tfirst\tfs/x/a-b\tEXPORT_SYMBOL\tNAMESPACE\n"
MAP = b"ffffffff81000000 T _text\nffffffff81000010 t first\nffffffff81000020 t first\nffffffff82000000 W second\n"
KALLSYMS = MAP + b"ffffffffc0000000 t first\t[ext4]\n"
WORDS = (
    *(b"", b" ", b"\t", b"\n", b"\r\n", b"\0", b"\xff", b"\xe2\x80\xa8", b"0x", b"-1", b"f" * 17, b"9" * 400),
    *(b"GLOBAL", b"LOCAL", b"WEAK", b"FILE", b"SECTION", b"UND", b"ABS", b"[<other>: 88]", b"first", b"count.0"),
    *(b"vmlinux", b"_text", b":", b"[", b"]", b"]" * 300, b" " * 300),
)


@cache
def texts() -> tuple[bytes, ...]:
    """Intact texts, the first of them a Module.symvers."""
    path = scratch() / "parent.o"
    path.write_bytes(compile_pair_side(SEED))
    return SYMVERS, run("readelf", "-sW", path).encode(), MAP, KALLSYMS


def broken(rng: random.Random) -> tuple[bytes, bytes]:
    """A Module.symvers and a symbol table, with faults."""
    symvers, *tables = texts()
    return _break(symvers, rng), _break(rng.choice(tables), rng)


def _break(text: bytes, rng: random.Random) -> bytes:
    out = bytearray(text)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            out[at : at + rng.randrange(8)] = rng.choice(WORDS)
        elif kind == 1:
            out[at:at] = rng.randbytes(rng.randrange(4))
        elif kind == 2:
            del out[at : at + rng.randrange(40)]
        elif kind == 3:
            lines = bytes(out).split(b"\n")
            rng.shuffle(lines)
            out = bytearray(b"\n".join(lines))
        else:
            out[at:at] = out[: rng.randrange(len(out) + 1)]
    return bytes(out)


def use_texts(base: int, number: int) -> str:
    """Compare an intact pair with broken texts beside it; a word for how it ended."""
    symvers, table = broken(random.Random(f"text {base}/{number}"))
    try:
        exports = parse_symvers(symvers.decode("utf-8", "replace"))
        parent = read_parent(table, "parent.txt", [])
    except KgbuildError as error:
        return f"text: {type(error).__name__}"
    closure = close_objects(_changes(), exports, parent)
    return "text: refusals" if closure.refusals else "text: closed"


@cache
def _changes() -> Changes:
    sides = [read_relocatable(compile_pair_side(SEED, *flags), "unit.o") for flags in ((), ("-DPATCHED",))]
    return diff_objects(*sides, "unit.c").changes
