# SPDX-License-Identifier: GPL-2.0-or-later
"""A function's code as text, and the code of two functions side by side.

Which instruction of one stands beside which of the other is found from their text, in which everything that a shift
of the code alone changes is left out: the places that branches inside the function lead to, offsets into the function
itself, and the numbers of clones and static locals. So inserted code shows as inserted, and the rest beside its like.
"""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from kgbuild.correlation.noise import without_lines
from kgbuild.debuginfo.line_table import SourceLine
from kgbuild.objects.atoms import ANON, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.symbol_kinds import is_anonymous, stem
from kgbuild.objects.view import View

_LONG = 200  # characters of a string that are shown


@dataclass(frozen=True)
class AlignedLine:
    """One instruction: offset and length in the function, text, where a branch inside the function leads, its
    references, its bytes with referenced fields zeroed, and its source line ("" where that is not known)."""

    offset: int
    length: int
    mnemonic: str
    operands: str
    target: int | None
    refs: tuple[Ref, ...]
    masked: bytes
    line: str
    key: str

    @property
    def text(self) -> str:
        return f"{self.mnemonic:<7} {self.operands}".rstrip()


def quote(text: bytes) -> str:
    """A string's bytes as C would write them."""
    shown = text.rstrip(b"\0").decode("utf-8", "replace")
    escapes = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    out = "".join(escapes.get(c, c if c.isprintable() else f"\\x{ord(c):02x}") for c in shown)
    return f'"{out[:_LONG]}{"..." if len(out) > _LONG else ""}"'


def target_name(view: View, atom: Atom, delta: int) -> str:
    """What a reference to `delta` in `atom` means, in words: a name, a string in quotes, or a place in a section."""
    if atom.kind == STRING:
        return quote(view.content(atom)[max(delta, 0) :])
    name = atom.name or view.section_name(atom)
    if not atom.name and atom.section >= 0:
        section = view.section_of(atom)
        if section.entsize == atom.size and not view.refs(atom):
            return f"{name}<{view.content(atom).hex()}>" + (f"{delta:+#x}" if delta else "")
        delta += atom.offset
    if not name:
        return f"{atom.offset + delta:#x}"
    return f"{name}{delta:+#x}" if delta else name


def _key_of(view: View, atom: Atom, delta: int, family: frozenset[int]) -> str:
    if atom.id in family:
        return stem(atom.name)
    if atom.kind == STRING:
        return quote(without_lines(view.content(atom)[max(delta, 0) :]))
    if atom.kind == ANON or is_anonymous(view, atom):
        return f"{view.section_name(atom).split('.str')[0]}{delta:+#x}"
    return f"{stem(atom.name)}{delta:+#x}"


def read_listing(
    view: View, atom: Atom, family: frozenset[int] = frozenset(), lines: Mapping[int, list[SourceLine]] | None = None
) -> list[AlignedLine]:
    """The instructions of a function. `family` are the atoms whose offsets shift with it (itself, its `.cold` half),
    `lines` the object's line tables by section. References that can't be told are left as the bytes have them."""
    try:
        refs = view.refs(atom)
        masked = view.masked(atom)
    except Ambiguous:
        refs, masked = (), view.content(atom)
    names = {r.offset: target_name(view, view.atoms[r.atom], r.delta) for r in refs}
    keys = {r.offset: _key_of(view, view.atoms[r.atom], r.delta, family | {atom.id}) for r in refs}
    by_offset = {r.offset: r for r in refs}
    code = view.content(atom)
    table = (lines or {}).get(atom.section, [])
    starts = [row.offset for row in table]
    out = []
    for shown, keyed in zip(view.arch.format(code, names), view.arch.format(code, keys), strict=True):
        inside = range(shown.offset, shown.offset + shown.length)
        at = bisect.bisect_right(starts, atom.offset + shown.offset) - 1
        row = table[at] if at >= 0 else None
        line = (f"{row.file}:{row.line}" if row.file else str(row.line)) if row is not None else ""
        out.append(
            AlignedLine(
                shown.offset,
                shown.length,
                shown.mnemonic,
                shown.operands,
                shown.target,
                tuple(by_offset[i] for i in inside if i in by_offset),
                masked[shown.offset : shown.offset + shown.length],
                line,
                keyed.mnemonic if keyed.target is not None else f"{keyed.mnemonic} {keyed.operands}",
            )
        )
    return out


def align_listings(
    orig: list[AlignedLine], patched: list[AlignedLine]
) -> list[tuple[AlignedLine | None, AlignedLine | None]]:
    """The instructions of two listings in pairs, None where one has nothing that corresponds."""
    out: list[tuple[AlignedLine | None, AlignedLine | None]] = []
    for tag, i, j, k, n in _opcodes([line.key for line in orig], [line.key for line in patched]):
        if tag == "equal":
            out.extend(zip(orig[i:j], patched[k:n], strict=True))
        else:
            out.extend(_align_loosely(orig[i:j], patched[k:n]))
    return out


def _align_loosely(
    orig: list[AlignedLine], patched: list[AlignedLine]
) -> list[tuple[AlignedLine | None, AlignedLine | None]]:
    """Where the text differs: by mnemonic, and what is left over one by one as far as both sides have some."""
    out: list[tuple[AlignedLine | None, AlignedLine | None]] = []
    for tag, i, j, k, n in _opcodes([line.mnemonic for line in orig], [line.mnemonic for line in patched]):
        orig_part, patched_part = orig[i:j], patched[k:n]
        both = min(len(orig_part), len(patched_part)) if tag in ("equal", "replace") else 0
        out.extend(zip(orig_part[:both], patched_part[:both], strict=True))
        out.extend((line, None) for line in orig_part[both:])
        out.extend((None, line) for line in patched_part[both:])
    return out


def _opcodes(orig: list[str], patched: list[str]) -> list[tuple[str, int, int, int, int]]:
    """difflib's opcodes. What both begin and end with is taken first: that is nearly all of most functions."""
    head = 0
    while head < min(len(orig), len(patched)) and orig[head] == patched[head]:
        head += 1
    tail = 0
    while tail < min(len(orig), len(patched)) - head and orig[-1 - tail] == patched[-1 - tail]:
        tail += 1
    middle = difflib.SequenceMatcher(
        None, orig[head : len(orig) - tail], patched[head : len(patched) - tail], autojunk=False
    )
    out: list[tuple[str, int, int, int, int]] = [("equal", 0, head, 0, head)] if head else []
    out += [(tag, i + head, j + head, k + head, n + head) for tag, i, j, k, n in middle.get_opcodes()]
    if tail:
        out.append(("equal", len(orig) - tail, len(orig), len(patched) - tail, len(patched)))
    return out
