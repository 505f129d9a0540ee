# SPDX-License-Identifier: GPL-2.0-or-later
"""Which compiler options of a unit matter for live patching, and where they were found.

gcc records the options that affect code in the debugging information of each object (DW_AT_producer; -pg appears there
as -p). Options of single functions, set by `__attribute__((optimize))` or `#pragma GCC optimize`, are recorded in no
object: they are searched for in the source text, through the macros that the kernel's compiler headers define for them.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable
from dataclasses import dataclass

from kgbuild.debuginfo.dwarf_entries import AT_PRODUCER, Dwarf
from kgbuild.elf.object import Object
from kgbuild.elf.read import FormatError

PRODUCER = "DW_AT_producer"
# The options looked for: how an option begins -> what it means here.
_MEANING = {
    "-p": "profiled (-pg): gcc does not use ipa-ra, every function follows the calling convention for registers",
    "-mfentry": "the call to the tracer stands before the prologue",
    "-fpatchable-function-entry=": "room for the tracer's call at each function",
    "-fno-ipa-": "an interprocedural optimisation is off",
    "-fipa-": "an interprocedural optimisation is switched on explicitly",
    "-flto": "optimised across units when linked",
    "-flive-patching": "optimisations that hurt live patches are restricted",
    "-O": "optimisation level",
}
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*|\"(?:[^\"\\\n]|\\.)*+\"?", re.DOTALL)
_ATTRIBUTE = re.compile(
    r"\b(?:__)?optimize(?:__)?\s*\(([^()]*+)\)|^[ \t]*+#[ \t]*+pragma[ \t]+GCC[ \t]+optimize\b[^\n]*", re.MULTILINE
)
_WORD = re.compile(r"\b[A-Za-z_]\w*+")
_DIRECTIVE = re.compile(r"^[ \t]*#(?![ \t]*pragma\b)(?:[^\n\\]|\\.)*", re.MULTILINE | re.DOTALL)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]++[^\n]*\b(?:__)?optimize(?:__)?[ \t]*\(", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Flag:
    """An option that matters, what it means, and where it was seen."""

    option: str
    meaning: str
    evidence: str


def read_producer(obj: Object) -> str:
    """The compiler and its options from an object's debugging information; "" if there is none or it can't be read."""
    section = obj.section_named(".debug_info")
    if section is None:
        return ""
    try:
        dwarf = Dwarf(obj, section)
        for header, first, end, table in dwarf.units():
            top = dwarf.die(first, header, end, table)
            if top is not None and (text := dwarf.text(top, AT_PRODUCER)):
                return text
    except FormatError:
        return ""
    return ""


def flags_of(producer: str) -> tuple[Flag, ...]:
    """The options in a producer string that matter, in the order of the string."""
    out = []
    for word in producer.split():
        begins = [b for b in _MEANING if (word == b if b in ("-p", "-mfentry") else word.startswith(b))]
        if begins:
            out.append(Flag("-pg" if word == "-p" else word, _MEANING[max(begins, key=len)], PRODUCER))
    return tuple(out)


def _blank(match: re.Match[str]) -> str:
    found = match.group()
    # the arguments of an attribute are strings; the word itself inside a string is no attribute
    return found if found.startswith('"') and "optimize" not in found else re.sub(r"[^\n]", " ", found)


def optimize_macros(texts: Iterable[str]) -> frozenset[str]:
    """Macros in these texts that expand to an `optimize` attribute (`__no_fgcse`)."""
    plain = (_COMMENT.sub(_blank, text).replace("\\\n", " ") for text in texts)
    return frozenset(m.group(1) for text in plain for m in _DEFINE.finditer(text))


def find_optimized(text: str, macros: frozenset[str] = frozenset()) -> list[tuple[int, str]]:
    """(line, text) of each place in a C text that sets compiler options for functions. Preprocessor directives other
    than #pragma are not searched."""
    plain = _DIRECTIVE.sub(_blank, _COMMENT.sub(_blank, text))
    found = [*_ATTRIBUTE.finditer(plain), *(m for m in _WORD.finditer(plain) if m[0] in macros)]
    newlines = [m.start() for m in re.finditer("\n", plain)]
    return sorted({(bisect.bisect_left(newlines, m.start()) + 1, m.group().strip()) for m in found})
