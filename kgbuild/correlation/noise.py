# SPDX-License-Identifier: GPL-2.0-or-later
"""Differences between two compiles that are accidents: one table, a name for each rule.

A rule sets a difference aside only where the code shows what it is. A line number handed to a function, for example, is
not told by the name of that function (kernels have hundreds that take one), but by what stands beside it: the argument
before it is `__FILE__` or `__func__`. What no rule covers is a change.

Rules about lines (LINES) are for objects from elsewhere. Where kgbuild compiles the patched text itself, #line keeps
every line where it was, and no such difference arises by accident: there they are off, and a difference is a change.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kgbuild.objects.atoms import DATA, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.view import View


class NoiseRule(NamedTuple):
    """One kind of accidental difference: its name, what it is, why it is no change."""

    name: str
    what: str
    why: str


class Noise(NamedTuple):
    """An accidental difference that was set aside: in which function, by which rule."""

    function: str
    rule: str


LINE_ARGUMENT = "line-argument"
LINE_DATA = "line-data"
LINE_STRING = "line-string"
LINE_BUG = "line-bug"
LINE_DEBUG = "line-debug"
STATIC_LOCAL = "static-local-number"
ONCE_FLAG = "once-flag-number"
CLONE = "clone-number"
MODULE_HASH = "module-hash"
LABEL = "label-number"
CONSTANT = "constant-number"
SUCCESSOR = "successor"
BRANCH_WIDTH = "branch-width"
SECTION = "section"
PRINTK_INDEX = "printk-index"

RULES: dict[str, NoiseRule] = {
    r.name: r
    for r in (
        NoiseRule(
            LINE_ARGUMENT,
            "a line number that is passed to a function behind __FILE__ or __func__",
            "WARN, BUG, might_sleep, lockdep and the like print it",
        ),
        NoiseRule(
            LINE_DATA, "a line number in data that begins with a pointer to a file's name", "sanitizers print it"
        ),
        NoiseRule(LINE_STRING, "a line number behind a file's name in a string", "FORTIFY_SOURCE makes such messages"),
        NoiseRule(LINE_BUG, "the line number of a __bug_table entry", "it is printed when the trap is hit"),
        NoiseRule(LINE_DEBUG, "the line number in the descriptor of a pr_debug", "dynamic debug prints it"),
        NoiseRule(STATIC_LOCAL, "the number of a static local variable", "gcc numbers each compile separately"),
        NoiseRule(
            ONCE_FLAG,
            "the number of a once-flag, lock class, rate limit or pr_debug descriptor that a macro makes, and which of "
            "several with one content a function has",
            "gcc numbers each compile separately; it means nothing while the same functions share one, and "
            "nothing distinguishes them by address",
        ),
        NoiseRule(CLONE, "the number of an isra, constprop or part clone", "gcc numbers each compile separately"),
        NoiseRule(
            MODULE_HASH,
            "the hash in the name of what ThinLTO made global (.llvm.N)",
            "it is made of the module's name",
        ),
        NoiseRule(
            LABEL,
            "the name of a label that a macro counts, beside another name of the same data",
            "BTF ids are labelled with a count and a line",
        ),
        NoiseRule(CONSTANT, "the name of an anonymous constant", "it is compared by its content"),
        NoiseRule(
            SUCCESSOR,
            "the name of a static function that takes the place of another one in every table that points to that",
            "the kernel's tables go on pointing to the old function, which is the same or redirected to the new one",
        ),
        NoiseRule(
            BRANCH_WIDTH,
            "the width of a branch",
            "the assembler takes the short form where the distance allows it",
        ),
        NoiseRule(
            SECTION,
            "which of .text, .text.unlikely, .text.hot, .text.startup and .ref.text a function is in; of .data and "
            ".ref.data, a variable",
            "they place, or tell modpost something; nothing in the kernel asks where they begin or end",
        ),
        NoiseRule(PRINTK_INDEX, "entries of .printk_index", "an index of messages for user space"),
    )
}

LINES = frozenset({LINE_ARGUMENT, LINE_DATA, LINE_STRING})

_FILE = re.compile(rb"[^\s%:]*[\w+-]\.[ch]\0")
_FILE_LINE = re.compile(rb"(\.[ch]:)\d+")
_MAX_LINE = 1_000_000
_LOCATION = 16  # a pointer, a line, a column
FUNCTION_NAMES = ("__func__", "__FUNCTION__", "__PRETTY_FUNCTION__")


def is_file_name(text: bytes) -> bool:
    """Whether a string with its NUL is what __FILE__ gives."""
    return _FILE.fullmatch(text) is not None


def without_lines(text: bytes) -> bytes:
    """A string without the line numbers that stand behind file names."""
    return _FILE_LINE.sub(rb"\1", text)


def _units(view: View) -> set[str]:
    """Names of the source files that an object was made of, as its file symbols say, without folders."""
    return {view.obj.name_of(i).rpartition("/")[2] for i in view.obj.file_symbols}


def _is_file(text: bytes, units: set[str]) -> bool:
    """Whether a string is what __FILE__ gives here: a path, or the unit's own name. Any other name of a file is a
    string of the program, and a number behind it means something."""
    return is_file_name(text) and (b"/" in text or text.rstrip(b"\0").decode("utf-8", "replace") in units)


def _names_place(view: View, ref: Ref, units: set[str]) -> bool:
    """Whether a reference means __FILE__ or __func__. A string that merely is the function's name does not: programs
    hand such to others, with numbers that mean something (a mode, say)."""
    target = view.atoms[ref.atom]
    if target.kind == STRING:
        return _is_file(view.content(target)[max(ref.delta, 0) :], units)
    return (
        target.kind == DATA
        and ref.delta == 0
        and any(n.partition(".")[0] in FUNCTION_NAMES for n in target.names)
        and view.is_const(target)
    )


def line_arguments(view: View, function: Atom) -> set[int]:
    """Offsets in a function of the bytes of immediates that are line numbers in calls.

    In a stretch of code up to a call, one argument register is given a constant, and the one before it the address of
    a file's or a function's name.
    """
    known: dict[int, set[int]] = view.__dict__.setdefault("_line_arguments", {})
    if function.id not in known:
        known[function.id] = _read_line_arguments(view, function)
    return known[function.id]


def _read_line_arguments(view: View, function: Atom) -> set[int]:
    out: set[int] = set()
    try:
        refs = {r.offset: r for r in view.refs(function)}
    except Ambiguous:
        return out
    units = _units(view)
    stretch: dict[int, tuple[bool, range]] = {}  # argument -> (names the place, bytes of the immediate)
    calls = {i.offset for i in view.instructions(function) if i.is_call or i.ends_flow}
    loads = {load.offset: load for load in view.argument_loads(function)}
    for i in view.instructions(function):
        load = loads.get(i.offset)
        if load is not None:
            ref = refs.get(load.field_offset)
            names = ref is not None and _names_place(view, ref, units)
            line = range(load.field_offset, load.field_offset + load.field_size)
            stretch[load.argument] = (names, line if load.immediate and ref is None else range(0))
        if i.offset in calls:
            for argument, (_, line) in stretch.items():
                if line and stretch.get(argument - 1, (False, line))[0]:
                    out.update(line)
            stretch = {}
    return out


def differ_in_lines_only(orig_view: View, orig: Atom, patched_view: View, patched: Atom) -> bool:
    """Whether the code of two functions of one size differs in nothing but line numbers passed to functions."""
    if orig.size != patched.size:
        return False
    orig_code, patched_code = orig_view.masked(orig), patched_view.masked(patched)
    at = {
        i
        for i, (orig_byte, patched_byte) in enumerate(zip(orig_code, patched_code, strict=True))
        if orig_byte != patched_byte
    }
    if not at or not at <= _constants(orig_view, orig):
        return False  # most changed functions differ in more than constants
    return at <= line_arguments(orig_view, orig) and at <= line_arguments(patched_view, patched)


def _constants(view: View, function: Atom) -> set[int]:
    """Offsets in a function of the bytes of all immediates that are arguments."""
    loads = view.argument_loads(function)
    return {
        i for load in loads if load.immediate for i in range(load.field_offset, load.field_offset + load.field_size)
    }


def is_location(view: View, atom: Atom) -> bool:
    """Whether data begins as a sanitizer's source location does: a pointer to a file's name, then line and column."""
    if atom.size < _LOCATION:
        return False
    first = next(iter(view.refs(atom)), None)
    if first is None or first.offset != 0 or first.size != 8:
        return False
    target = view.atoms[first.atom]
    if target.kind != STRING or not is_file_name(view.content(target)[max(first.delta, 0) :]):
        return False
    line = view.obj.number(view.content(atom)[8:12])
    return line < _MAX_LINE and all(not 8 <= r.offset < _LOCATION for r in view.refs(atom))


def index_of_messages(view: View) -> dict[str, list[tuple[object, ...]]]:
    """Entries of .printk_index by the function that they name, in an order that says nothing; entries that can't be
    followed are left out, for they are no part of any code."""
    name, at = view.arch.message_index
    out: dict[str, list[tuple[object, ...]]] = {}
    section = view.obj.section_named(name)
    for _, _, sym, addend in view.obj.reloc_rows(section.index) if section is not None else ():
        try:
            atom = view.atoms[view.target(sym, addend)[0]]
            refs, masked = view.refs(atom), view.masked(atom)
        except Ambiguous:
            continue
        texts = {r.offset: view.content(view.atoms[r.atom])[max(r.delta, 0) :] for r in refs if view.atoms[r.atom].size}
        function = texts.get(at, b"").partition(b"\0")[0].decode("utf-8", "replace")
        out.setdefault(function, []).append((masked, *sorted(texts.items())))
    return {function: sorted(entries, key=repr) for function, entries in out.items() if function}
