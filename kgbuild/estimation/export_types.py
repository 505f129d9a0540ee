# SPDX-License-Identifier: GPL-2.0-or-later
"""Exports must keep their type: modules that are not part of the patch rely on it.

With CONFIG_MODVERSIONS, an export has a CRC of its type, made by genksyms from the preprocessed text
(scripts/Makefile.build, cmd_gensymtypes_c). If the patched text has the kernel's own CRC, its type is the kernel's. A
different CRC alone does not mean a different type: member names, the spelling of a type, and an #include that completes
a structure also change it. In that case the types are compared by structure (`prototypes`).

None of this is needed if the patch can't change the type of an export, for example inside of functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from kgbuild.csource.definitions import (
    CALL,
    DECLARATION,
    FUNCTION,
    INCLUDE,
    MACRO,
    TYPE,
    VARIABLE,
    SourceItem,
    read_items,
)
from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.consts import STT
from kgbuild.elf.object import Object
from kgbuild.estimation.source_changes import compare_items
from kgbuild.kernel.exports import Export

# How an object marks its exports: since 6.4 (ddb5cdbafaaa) and before, with and without the CRC in the object.
_MARKS = ("__export_symbol_", "__ksymtab_")
_SYMVER = re.compile(r"^(?:#SYMVER (\S+) |__crc_(\S+) = ?)0x([0-9a-f]+);?$", re.MULTILINE)
# Macros that begin the definition of a function that no module calls.
_ENTRIES = re.compile(r"(?:COMPAT_)?SYSCALL_DEFINE\d|BPF_CALL_\d|DEFINE_IDTENTRY\w*")
_CONDITION = re.compile(rb"^[ \t]*(?:#|%:)[ \t]*(?:if|el|endif|pragma)(?:\\\n|[^\n])*", re.MULTILINE)
_COMMENT = re.compile(rb"/\*.*?\*/|//[^\n]*|\\\n", re.DOTALL)
_RECORDS = (b"struct", b"union", b"enum")
_NAMED = 4  # maximum number of exports named in a message about one changed type
_OPEN, _CLOSE = (b"{", b"(", b"["), (b"}", b")", b"]")


def exported_names(obj: Object) -> list[str]:
    """The names that an object exports."""
    found: dict[str, None] = {}
    for symbol in obj.iter_symbols():
        for mark in _MARKS:
            if symbol.name.startswith(mark) and symbol.defined and symbol.type != STT.SECTION:
                found[symbol.name[len(mark) :]] = None
    return list(found)


def may_change_types(orig: bytes, patched: bytes, conditions: Conditions, *, header: bool = True) -> bool:
    """Whether the type of an export could differ because of a file's text. False only if it certainly can't.

    Function bodies, and static items other than types, have no influence. New items change no existing type: C has one
    definition for each name. Macros are only considered within the text of a .c file.

    header   whether other files may include this one
    """
    sides = [read_items(text, conditions) for text in (orig, patched)]
    changes = compare_items(*sides)
    macros = {c.name.encode() for c in changes if c.kind == MACRO}
    if macros and (header or any(_uses(items, macros) for items in sides)):
        return True
    if any(not _harmless(c.orig, c.patched) for c in changes if c.kind != MACRO):
        return True
    added = {id(c.patched) for c in changes if c.orig is None}
    return _order(orig, sides[0], macros, added) != _order(patched, sides[1], macros, added)


def _order(text: bytes, items: Sequence[SourceItem], macros: set[bytes], added: set[int]) -> list[Sequence[bytes]]:
    """The items that may determine the type of an export, and the conditions around them, in the order of the text: the
    #if branch of an item and the definitions before it matter."""
    found: list[tuple[int, Sequence[bytes]]] = []
    line = at = 0
    for directive in _CONDITION.finditer(text):
        line += text.count(b"\n", at, directive.start())
        at = directive.start()
        found.append((line + 1, _COMMENT.sub(b" ", directive[0]).split()))
    for item in items:
        own = item.kind == MACRO and item.name.encode() in macros
        if own or id(item) in added or _is_apart(item):
            continue
        is_function = item.kind == FUNCTION and _is_certain(item)
        found.append((item.start, item.tokens[: item.head] if is_function else item.tokens))
    found.sort(key=lambda row: row[0])
    return [tokens for _, tokens in found]


def _is_apart(item: SourceItem) -> bool:
    """Whether an item is static and no type, so that no export depends on it."""
    kinds = (FUNCTION, VARIABLE, DECLARATION)
    return item.kind in kinds and item.static and _is_certain(item) and not _defines_type(item)


def _uses(items: Sequence[SourceItem], macros: set[bytes]) -> bool:
    """Whether one of these macros is used outside of bodies, by another macro, or before an #include."""
    known = False
    for item in items:
        own = item.kind == MACRO and item.name.encode() in macros
        known = known or own
        if item.kind == INCLUDE and known:
            return True
        text = item.tokens[: item.head] if item.kind == FUNCTION else item.tokens
        if not own and not macros.isdisjoint(text):
            return True
    return False


def _harmless(orig: SourceItem | None, patched: SourceItem | None) -> bool:
    items = [i for i in (orig, patched) if i is not None]
    kinds = {i.kind for i in items}
    if orig is None:
        return kinds <= {FUNCTION, VARIABLE, DECLARATION, TYPE, CALL} and all(map(_is_certain, items))
    if kinds == {FUNCTION} and len(items) == 2 and all(_is_certain(i) and not _defines_type(i) for i in items):
        heads = [i.tokens[: i.head] for i in items]
        return heads[0] == heads[1] or all(i.static for i in items)
    return all(_is_apart(i) for i in items)


def _defines_type(item: SourceItem) -> bool:
    """Whether a declaration also defines a type (before its body or value)."""
    head = item.tokens[: item.head] if item.kind == FUNCTION else item.tokens
    equals = head.index(b"=") if b"=" in head else len(head)
    return b"{" in head[:equals] or b"typedef" in head[:equals]


def _is_certain(item: SourceItem) -> bool:
    """Whether the kind of an item is beyond doubt, judged by its shape. A function must be no structure with
    attributes, no macro call that declares something, and must not have two heads around an undecided #if."""
    if item.kind != FUNCTION:
        return True
    if item.arguments and not _ENTRIES.fullmatch(item.name):
        return False
    head = item.tokens[: item.head]
    for at, token in enumerate(head[:-2]):
        if token in _RECORDS and b"(" in head[at + 1 : at + 3]:
            return False
    depth = 0
    for number, token in enumerate(item.tokens[item.head :], item.head + 1):
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth <= 0 and number < len(item.tokens):
            return False
    return depth == 0


def parse_genksyms(text: str) -> dict[str, int]:
    """CRCs by name from the output of genksyms, in the format for kbuild (since 5.19, 7b4537199a4a) or for a linker."""
    return {new or old: int(crc, 16) for new, old, crc in _SYMVER.findall(text)}


def other_crcs(names: Iterable[str], made: Mapping[str, int], kernel: Mapping[str, Export]) -> list[str]:
    """Those of `names` whose CRC from genksyms differs from the running kernel's."""
    return [name for name in names if name not in made or name not in kernel or kernel[name].crc != made[name]]


def judge_exports(
    place: str,
    differences: Mapping[str, str | None],
    kernel: Mapping[str, Export],
    orig: Mapping[str, int],
    patched: Mapping[str, int],
) -> list[Refusal]:
    """Refuse (K8-crc) exports whose type would differ; exports with the same message share one refusal.

    place        the unit
    differences  for each export, the difference in structure in words; "" if there is none, None if it is unknown
    original, patched  CRCs that genksyms makes from the two texts; empty if it was not run
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for name, fact in differences.items():
        crcs = orig.get(name), patched.get(name)
        if fact == "" or (fact is None and None not in crcs and crcs[0] == crcs[1]):
            continue
        text = f"the export would have another type: {fact}"
        if fact is None:
            known = None not in crcs
            text = "the export would have another type" if known else "whether the export keeps its type can't be told"
        said = ""
        if None not in crcs and crcs[0] != crcs[1]:
            own = name in kernel and kernel[name].crc == crcs[0]
            whose = "the running kernel's is" if own else "of the unpatched source it is"
            said = f" (its CRC would be {crcs[1]:#010x}, {whose} {crcs[0]:#010x})"
        found.setdefault(text, []).append((name, said))
    out = []
    for text, exports in found.items():
        (name, said), more = exports[0], [other for other, _ in exports[1:]]
        if more:
            said += f"; so would {len(more)} more: {', '.join(more[:_NAMED])}{', ...' if len(more) > _NAMED else ''}"
        out.append(Refusal("K8-crc", f"{place}: {name}", text + said, symbol=name))
    return out


def common_exports(orig: Object, patched: Object) -> list[str]:
    """The names that both objects of a unit export. Exports of only one of them are judged elsewhere (K7-export)."""
    still = set(exported_names(patched))
    return sorted(name for name in exported_names(orig) if name in still)
