# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables through which code or data registers itself when its kernel boots or its module loads.

What is new in them has no effect in a live patch. Most are known by their growth. Exports are known by name, so that
one in another's place is seen: in a section `___ksymtab+NAME` each (to 6.4), or all in `.export_symbol`, from which
modpost makes the tables (include/linux/export.h, since 6.4: license, namespace, address).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kgbuild.elf.consts import STT
from kgbuild.objects.atoms import Ambiguous
from kgbuild.objects.view import View

REGISTRATION = (
    "___ksymtab",
    "__ksymtab",
    "___kcrctab",
    "__kcrctab",
    ".initcall",
    ".con_initcall",
    ".init.setup",
    "__param",
    "__tracepoints",
    "_ftrace_events",
    "__syscalls_metadata",
    "__bpf_raw_tp_map",
    ".ctors",
    ".init_array",
    ".export_symbol",
    "__early",
)
EXPORT_SYMBOL = ".export_symbol"
# text that entries point to: it grows with them
_TEXTS = ("__ksymtab_strings", "__tracepoints_strings")


class Registration(NamedTuple):
    """Something new in one of these tables: its symbol (the section where it has none), the section, what is new."""

    symbol: str
    section: str
    fact: str


def is_registration(section: str) -> bool:
    """Whether a section is such a table."""
    return section.startswith(REGISTRATION)


def new_registrations(orig: View, patched: View, allowed: Mapping[str, int]) -> Iterator[Registration]:
    """What the patched object registers beyond the original, by section; `allowed` are bytes by which a section may
    grow."""
    orig_sizes, patched_sizes = _sizes(orig), _sizes(patched)
    for name in sorted(patched_sizes):
        if name == EXPORT_SYMBOL:
            yield from _new_exports(orig, patched)
        elif patched_sizes[name] - allowed.get(name, 0) > orig_sizes.get(name, 0) and name not in _TEXTS:
            fact = f"section {name} grows from {orig_sizes.get(name, 0)} to {patched_sizes[name]} bytes"
            had = _names(orig, name)
            names = [n for n in _names(patched, name) if n not in had]
            if names and "+" not in name:
                fact += f": {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
            yield Registration(name.partition("+")[2] or (names[0] if names else name), name, fact)


def _new_exports(orig: View, patched: View) -> Iterator[Registration]:
    orig_exports, patched_exports = _exports(orig), _exports(patched)
    for name in sorted(patched_exports):
        if name not in orig_exports:
            yield Registration(name, EXPORT_SYMBOL, "a new export")
        elif patched_exports[name] != orig_exports[name]:
            yield Registration(name, EXPORT_SYMBOL, "its export has another license or namespace")


def _exports(view: View) -> dict[str, bytes]:
    """By name of what is exported, the license and the namespace of each entry of .export_symbol."""
    out: dict[str, bytes] = {}
    for index in view.obj.by_name.get(EXPORT_SYMBOL, []):
        raw, start = view.raw(index), 0
        for offset, kind, sym, addend in view.obj.reloc_rows(index):
            if kind != view.arch.relocs.none:
                # padding behind the texts aligns the address
                out[_meant(view, sym, addend)] = raw[start:offset].rstrip(b"\0")
                start = offset + view.arch.relocs.sizes.get(kind, 0)
    return out


def _names(view: View, section: str) -> list[str]:
    """What the entries of a table are called, by place; where they have no names, what they refer to."""
    own, referred = [], []
    for index in view.obj.by_name.get(section, []):
        symbols = [i for i, shndx in enumerate(view.obj.columns.shndx) if shndx == index]
        found = [s for s in view.obj.symbols_at(symbols) if s.type != STT.SECTION and not s.name.startswith(".L")]
        own += [s.name for s in sorted(found, key=lambda s: s.value)]
        referred += [_meant(view, sym, addend) for _, _, sym, addend in view.obj.reloc_rows(index)]
    return [name for name in dict.fromkeys(own or referred) if name]


def _meant(view: View, sym: int, addend: int) -> str:
    """The name of what an entry refers to, "" where it has none."""
    try:
        return view.atoms[view.target(sym, addend)[0]].name
    except Ambiguous:
        return ""


def _sizes(view: View) -> dict[str, int]:
    out: dict[str, int] = {}
    for s in view.obj.sections:
        if s.alloc and s.size and is_registration(s.name):
            out[s.name] = out.get(s.name, 0) + s.size
    return out
