# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that claim differences of functions and variables, each judged by what it is and where it is."""

from __future__ import annotations

import re

from kgbuild.accounting.unit_facts import BOUND, CARRIED, NO_EFFECT, NOISE, REPLACED, UNACCOUNTED, UnitFacts
from kgbuild.correlation import noise
from kgbuild.kernel.section_readers import BORDERS, INIT, REFERRED, WITH_CODE, SectionReader, reader_of
from kgbuild.ledger import difference as kinds
from kgbuild.ledger.difference import Difference
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, Ambiguous, Atom
from kgbuild.objects.call_metadata import is_call_metadata
from kgbuild.objects.stateless import DEBUG_SECTIONS, is_stateless
from kgbuild.objects.symbol_kinds import ANONYMOUS, is_anonymous, is_prefix, variable
from kgbuild.proof.parity import EXACT

_BYTES = frozenset({noise.LINE_ARGUMENT, noise.BRANCH_WIDTH})
_NAMES = frozenset({noise.STATIC_LOCAL, noise.ONCE_FLAG, noise.CLONE, noise.MODULE_HASH, noise.LABEL, noise.CONSTANT})
_NAMES |= {noise.SUCCESSOR}
MEANINGS = _NAMES | {noise.LINE_STRING, noise.LINE_DATA, noise.LINE_DEBUG, noise.BRANCH_WIDTH}
_EXPLAINS = {
    kinds.CONTENT: _BYTES,
    kinds.SIZE: frozenset({noise.BRANCH_WIDTH}),
    kinds.REFERENCE: MEANINGS,
}
# MODULE_DEVICE_TABLE, as scripts/mod/file2alias.c looks for it
_DEVICE_TABLE = re.compile(r"__mod_\w+_device_table")
_STAYS = "the kernel's own function stays where it is"
SAME_BODY = "the body under this name did not change"
# Code that can't be probed by kprobes, in the kernel and in a module.
_UNPROBED = (".kprobes.text", ".noinstr.text", ".entry.text")
# .ref.* sections are ordinary sections to the linker; only modpost distinguishes them.
_PLAIN_TEXT = (".text", ".text.unlikely", ".text.hot", ".text.startup", ".ref.text")
_PLAIN_DATA = frozenset((".data", ".ref.data"))


def _bordered(difference: Difference) -> SectionReader | None:
    """The reader of the section that a function enters or leaves, if it identifies code by the section's bounds."""
    return next(
        (
            reader
            for s in (difference.patched, difference.orig)
            if (reader := reader_of(s)) is not None and reader.when == BORDERS
        ),
        None,
    )


def _is_traced(facts: UnitFacts, orig: Atom | None, patched: Atom | None) -> bool:
    return (
        orig is not None
        and patched is not None
        and is_call_metadata(facts.orig, orig)
        and is_call_metadata(facts.patched, patched)
    )


def claim_piece(
    facts: UnitFacts, difference: Difference, orig: Atom | None, patched: Atom | None
) -> tuple[str, str, bool] | None:
    """A function or a variable."""
    row = reader_of(difference.section) if difference.section else None
    if row is None or row.when not in (REFERRED, BORDERS, INIT, WITH_CODE):
        return None
    code = any(
        a is not None and view.section_of(a).executable for view, a in ((facts.orig, orig), (facts.patched, patched))
    )
    taken = facts.taken(orig, patched)
    if difference.kind == kinds.ORDER:
        return NO_EFFECT, "the order of things that each have a symbol of their own", False
    if _is_traced(facts, orig, patched):
        why = "names of a system call for tracing, which shows those of the running kernel"
        said = difference.kind in (kinds.CONTENT, kinds.REFERENCE) and not (facts.changed or facts.new)
        return NO_EFFECT, why, said
    if difference.kind == kinds.ALIGN:
        return _claim_alignment(facts, difference, orig, patched, code, taken)
    if taken is not None:
        moved = _claim_moved_copy(facts, difference) if difference.kind == kinds.SECTION and code else None
        return moved or (*taken, False)
    if difference.kind == kinds.WENT and code and orig is not None and orig.id in facts.correlation.to_patched:
        if orig.id in facts.was_changed:
            return REPLACED, "redirected to the function that takes its place", False
        return NOISE, noise.SUCCESSOR, False
    if difference.kind == kinds.WENT:
        what = "code" if code else "data"
        alone = code and not facts.changed and not facts.new and not (orig is not None and is_prefix(orig))
        return NO_EFFECT, f"{what} that is gone stays in the kernel, and nothing of the patch uses it", alone
    if difference.kind == kinds.CAME:
        return _claim_unused(facts, difference, patched, code)
    if difference.kind == kinds.VISIBILITY:
        return NO_EFFECT, "read only by linkers, before the kernel runs", False
    if difference.kind == kinds.BIND:
        return _claim_binding(facts, difference, orig)
    if difference.kind == kinds.ALIAS:
        return _claim_alias(facts, difference, orig, patched, code)
    if difference.kind == kinds.SECTION and code:
        return _claim_move(facts, difference, orig, patched)
    if difference.kind == kinds.SECTION and {difference.orig, difference.patched} <= _PLAIN_DATA:
        return NOISE, noise.SECTION, False
    if difference.kind in _EXPLAINS and orig is not None and patched is not None:
        return _claim_content(facts, difference, orig, patched, code)
    return None


def _claim_alignment(
    facts: UnitFacts,
    difference: Difference,
    orig: Atom | None,
    patched: Atom | None,
    code: bool,
    taken: tuple[str, str] | None,
) -> tuple[str, str, bool] | None:
    if taken is not None:
        return (*taken, False)
    if code:
        return NO_EFFECT, "it only places code; nothing uses the low bits of its address", False
    if int(difference.patched) <= int(difference.orig):
        return NO_EFFECT, "the kernel's alignment is larger than needed", False
    if not difference.symbol and difference.section in facts.came_in:
        return CARRIED, "the alignment of something new in that section", False
    unit = facts.closure.units[facts.number] if facts.closure is not None else None
    if unit is not None and orig is not None and patched is not None:
        binding = unit.parity.bindings.get(orig.id)
        # only addresses in vmlinux are known; a module can be loaded anywhere
        known = binding is not None and unit.target == VMLINUX and binding.address >> 63
        if known and binding is not None and binding.address % int(difference.patched) == 0:
            return BOUND, f"the kernel's is at {binding.address:#x}", False
    return UNACCOUNTED, "code may rely on an alignment that the kernel's variable does not have", False


def _claim_unused(
    facts: UnitFacts,
    difference: Difference,
    patched: Atom | None,
    code: bool,
) -> tuple[str, str, bool] | None:
    if patched is None:
        return None
    if code and patched.kind == ANON:
        return _claim_filler(facts, patched)
    if code:
        # a function that was folded with others, or a new function that nothing in the module uses
        return (NOISE, SAME_BODY, False) if facts.unfolded(patched) else None
    if facts.closure is None and (facts.changed or facts.new):
        return CARRIED, "comes along where changed code refers to it", False
    return NO_EFFECT, "nothing that goes into the module refers to it", False


def _claim_filler(facts: UnitFacts, patched: Atom) -> tuple[str, str, bool] | None:
    """Padding between functions: smaller than the alignment, with no reference to it."""
    section = facts.patched.section_of(patched)
    if patched.size >= section.align:
        return None
    try:
        for index in facts.patched.sections_referring_to({patched.section}) | {patched.section}:
            for atom_id in facts.patched.in_section.get(index, ()):
                if any(r.atom == patched.id for r in facts.patched.refs(facts.patched.atoms[atom_id])):
                    return None
    except Ambiguous:
        return None
    return NO_EFFECT, "fills the room between functions, and nothing leads there", False


def _claim_binding(facts: UnitFacts, difference: Difference, orig: Atom | None) -> tuple[str, str, bool] | None:
    if "weak" not in (difference.orig, difference.patched):
        return NO_EFFECT, "read only by linkers, before the kernel runs", False
    unit = facts.closure.units[facts.number] if facts.closure is not None else None
    if unit is None or orig is None:
        return None
    found = unit.parity.of(orig.id)
    proven = found.status == EXACT if found is not None else orig.id in unit.parity.bindings
    return (NO_EFFECT, "this definition is the one that runs", False) if proven else None


def _claim_alias(
    facts: UnitFacts, difference: Difference, orig: Atom | None, patched: Atom | None, code: bool
) -> tuple[str, str, bool] | None:
    if _DEVICE_TABLE.fullmatch(difference.symbol):
        return NO_EFFECT, "a table from which modpost makes aliases: read by depmod", True
    if not difference.orig or not difference.patched:
        # references through that name are compared by what they refer to
        return NO_EFFECT, "another name of something that does not change", False
    if code and orig is not None and patched is not None and facts.correlation.paired(orig.id, patched.id):
        return NOISE, SAME_BODY, False
    if variable(difference.symbol) in ANONYMOUS and orig is not None and facts.orig.is_const(orig):
        return NO_EFFECT, "a numbered name from the compiler: references to it are compared by place", False
    return UNACCOUNTED, "other code still uses what the name referred to when the kernel was linked", False


def _claim_move(
    facts: UnitFacts, difference: Difference, orig: Atom | None, patched: Atom | None
) -> tuple[str, str, bool] | None:
    del orig, patched
    if difference.orig in _PLAIN_TEXT and difference.patched in _PLAIN_TEXT:
        return NOISE, noise.SECTION, False
    row = _bordered(difference)
    if row is not None:
        return UNACCOUNTED, f"{row.what}, known by the borders of {row.section} to {row.who}", False
    return None


def _claim_moved_copy(facts: UnitFacts, difference: Difference) -> tuple[str, str, bool] | None:
    """A function in the module that enters or leaves a section whose bounds the kernel uses to identify code:
    callers still enter at the old address, but the copy is elsewhere."""
    into, out = reader_of(difference.patched), reader_of(difference.orig)
    if into is not None and into.when == BORDERS:
        if difference.patched in _UNPROBED:
            why = "calls still enter at its old place, where kprobes are accepted as before"
            return UNACCOUNTED, f"{into.what}, known by the borders of {into.section} to {into.who}: {why}", False
        return NO_EFFECT, f"{into.what}, known by the borders of {into.section} to {into.who}: {_STAYS}", True
    if out is not None and difference.orig in _UNPROBED:
        return NO_EFFECT, "calls still enter at its old place, which kprobes keep out of", True
    return None


def _claim_content(
    facts: UnitFacts, difference: Difference, orig: Atom, patched: Atom, code: bool
) -> tuple[str, str, bool] | None:
    if code:
        if orig.kind == ANON == patched.kind:
            return _claim_filler(facts, patched)
        if not facts.correlation.paired(orig.id, patched.id):
            return None
        rules = facts.rules_of(patched) & _EXPLAINS[difference.kind]
        if rules:
            return NOISE, " ".join(sorted(rules)), False
        if difference.kind == kinds.REFERENCE and (rule := facts.judged(difference)):
            return NOISE, rule, False
        return None
    if difference.kind == kinds.REFERENCE and (rule := facts.judged(difference)):
        return NOISE, rule, False
    if difference.kind == kinds.CONTENT and facts.is_line(orig, patched):
        return NOISE, noise.LINE_DATA, False
    if facts.is_left_over(orig, patched):
        return NO_EFFECT, "what a sanitizer says of a check that is not in the code", False
    if is_anonymous(facts.patched, patched) or patched.kind == ANON:
        return _claim_constant(facts, patched)
    if (
        is_stateless(facts.patched, patched)
        and facts.patched.section_name(patched) in DEBUG_SECTIONS
        and difference.kind == kinds.CONTENT
    ):
        return _claim_line(facts, difference, orig, patched)
    return None


def _claim_constant(facts: UnitFacts, patched: Atom) -> tuple[str, str, bool] | None:
    """A constant without an identity of its own that is not in the module: everything that reads it must be
    replaced, or only show it to people."""
    if not facts.patched.is_const(patched):
        return None
    shown = False
    for user in facts.users(patched):
        if user is None or not facts.is_shown(user):
            taken = facts.taken(None, user) if user is not None else None
            if taken is None:
                return None
        else:
            shown = True
    why = "shown by dynamic debug only" if shown else "nothing outside the module reads it"
    return NO_EFFECT, why, False


def _claim_line(facts: UnitFacts, difference: Difference, orig: Atom, patched: Atom) -> tuple[str, str, bool] | None:
    """The line number in the descriptor of a pr_debug, if nothing else of it differs."""
    if not facts.correlation.lines:
        return None
    del difference
    at, bits = facts.patched.arch.debug_line
    try:
        orig_bytes, patched_bytes = facts.orig.masked(orig), facts.patched.masked(patched)
    except Ambiguous:
        return None
    words = [facts.patched.obj.number(raw[at : at + 4]) & ~bits for raw in (orig_bytes, patched_bytes)]
    same = (
        words[0] == words[1]
        and orig_bytes[:at] == patched_bytes[:at]
        and orig_bytes[at + 4 :] == patched_bytes[at + 4 :]
    )
    return (NOISE, noise.LINE_DEBUG, False) if same else None
