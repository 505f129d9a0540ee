# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that claim differences of the ledger, each judged by what it is and where it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from kgbuild.accounting.unit_facts import BOUND, CARRIED, NO_EFFECT, NOISE, REFUSED, UNACCOUNTED, UnitFacts
from kgbuild.correlation import noise
from kgbuild.diff.author_macros import PREFIX
from kgbuild.kernel.section_readers import (
    BOOT,
    BORDERS,
    HOOKS,
    INIT,
    LOADER,
    NEVER,
    REFERRED,
    RUNNING,
    WITH_CODE,
    Reader,
    reader_of,
)
from kgbuild.ledger import difference as kinds
from kgbuild.ledger.difference import Difference
from kgbuild.ledger.ledger import Ledger
from kgbuild.ledger.pieces import BTF, MODINFO
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, DATA, Ambiguous, Atom
from kgbuild.objects.call_metadata import is_call_metadata
from kgbuild.objects.stateless import DEBUG_SECTIONS, is_stateless
from kgbuild.objects.symbol_kinds import ANONYMOUS, INIT_SECTIONS, is_anonymous, is_prefix, variable
from kgbuild.proof.parity import EXACT

if TYPE_CHECKING:
    pass

_BYTES = frozenset({noise.LINE_ARGUMENT, noise.BRANCH_WIDTH})
_NAMES = frozenset({noise.STATIC_LOCAL, noise.ONCE_FLAG, noise.CLONE, noise.MODULE_HASH, noise.LABEL, noise.CONSTANT})
_MEANINGS = _NAMES | {noise.LINE_STRING, noise.LINE_DATA, noise.LINE_DEBUG, noise.BRANCH_WIDTH}
_EXPLAINS = {
    kinds.CONTENT: _BYTES,
    kinds.SIZE: frozenset({noise.BRANCH_WIDTH}),
    kinds.REFERENCE: _MEANINGS,
}
_LINE_TABLES = {"__bug_table": _MEANINGS | {noise.LINE_BUG}}
# MODULE_DEVICE_TABLE, as scripts/mod/file2alias.c looks for it
_DEVICE_TABLE = re.compile(r"__mod_\w+_device_table")
_STAYS = "the kernel's own function stays where it is"
SAME_BODY = "the body under this name did not change"
# Code that can't be probed by kprobes, in the kernel and in a module.
_UNPROBED = (".kprobes.text", ".noinstr.text", ".entry.text")
# .ref.* sections are ordinary sections to the linker; only modpost distinguishes them.
_PLAIN_TEXT = (".text", ".text.unlikely", ".text.hot", ".text.startup", ".ref.text")
_PLAIN_DATA = frozenset((".data", ".ref.data"))
# Text that table entries point to.
TEXTS = ("__ksymtab_strings", "__tracepoints_strings")
PROBES = "_kprobe_blacklist"
# What the module loader and depmod do with the entries of .modinfo, apart from showing them.
_MODINFO = {
    "alias": "read by depmod, to load the module by that name",
    "softdep": "read by depmod, to load other modules with it",
    "firmware": "read by tools that make an initramfs",
    "license": "read when the module is loaded",
    "import_ns": "read when the module is loaded",
    "parm": "read by modinfo",
    "parmtype": "read by modinfo",
}


class Claim(NamedTuple):
    """What becomes of one difference: one of the words of ORDER, and why. `said`: the user must be told about it
    separately, because something the patch does is dropped or can't take effect. `source`: the line of the patch that
    the difference comes from, "" if not known."""

    difference: Difference
    by: str
    why: str
    said: bool = False
    source: str = ""


def _bordered(difference: Difference) -> Reader | None:
    """The reader of the section that a function enters or leaves, if it identifies code by the section's bounds."""
    return next(
        (
            reader
            for s in (difference.patched, difference.orig)
            if (reader := reader_of(s)) is not None and reader.when == BORDERS
        ),
        None,
    )


class Claims(UnitFacts):
    """The rules, applied to one unit."""

    def run(self, ledger: Ledger) -> Iterable[Claim]:
        self.came_in = {difference.section for difference in ledger.differences if difference.kind == kinds.CAME}
        self.touched = {difference.section for difference in ledger.differences}
        for difference in ledger.differences:
            by, why, said = self._claim(difference)
            yield Claim(difference, by, why, said)

    # -- claims -------------------------------------------------------------------------------------------------

    def _claim(self, difference: Difference) -> tuple[str, str, bool]:
        orig, patched = self.atoms(difference)
        names = {
            difference.symbol,
            *(orig.names if orig is not None else ()),
            *(patched.names if patched is not None else ()),
        } - {""}
        # what precedes a function belongs to it
        names |= {name.removeprefix("__pfx_") for name in names if name.startswith("__pfx_")}
        for name in sorted(names):
            if name in self.refused:
                return REFUSED, self.refused[name], False
        if difference.section and difference.section in self.refused_sections:
            return REFUSED, self.refused_sections[difference.section], False
        if not names.isdisjoint(self.ignored) or difference.section in self.ignored:
            return NO_EFFECT, "left out by --ignore-init", False
        if not names.isdisjoint(self.left_out) or difference.section in self.left_out:
            return NO_EFFECT, "left out by the patch's author", False
        for rule in (self._claim_text, self._claim_outside, self._claim_by_section, self._claim_piece):
            found = rule(difference, orig, patched)
            if found is not None:
                return found
        return UNACCOUNTED, "", False

    def _claim_text(
        self, difference: Difference, orig: Atom | None, patched: Atom | None
    ) -> tuple[str, str, bool] | None:
        """Literals and pieces of replacement code. They are read only through references, and each reference is
        compared by content as a difference of its own."""
        del orig, patched
        if difference.kind == kinds.TEXT or (
            difference.section == ".altinstr_replacement" and difference.kind in (kinds.CAME, kinds.WENT)
        ):
            if difference.kind == kinds.TEXT and self.closure is not None and difference.patched_place is not None:
                for (number, atom), _ in self.closure.members.items():
                    found = self.patched.atoms[atom] if number == self.number else None
                    if found is not None and (found.section, found.offset) == difference.patched_place:
                        return CARRIED, "read by what is in the module", False
            return NO_EFFECT, "a literal is read by what refers to it, which is compared by content", False
        return None

    def _claim_outside(
        self, difference: Difference, orig: Atom | None, patched: Atom | None
    ) -> tuple[str, str, bool] | None:
        """Symbols that the object does not define."""
        del orig, patched
        if difference.section or difference.orig_place is not None or difference.patched_place is not None:
            return None
        for refusal in self.against:
            if difference.symbol in refusal.fact.replace(",", " ").replace(":", " ").split():
                return REFUSED, refusal.code, False
        if "absolute" in difference.orig + difference.patched or "common" in difference.orig + difference.patched:
            if "global" not in difference.orig + difference.patched:
                return NO_EFFECT, "a number; its uses are compared by value", False
            return None
        if difference.kind == kinds.WENT:
            return NO_EFFECT, "nothing of the patched source refers to it any more", False
        if self.closure is None:
            if self.changed or self.new:
                return BOUND, "referred to by changed code", False
            out = self.left_out or self.ignored
            return (NO_EFFECT, "referred to by what is left out", False) if out else None
        for atom in self.patched.atoms:
            if atom.section < 0 and difference.symbol in atom.names and (self.number, atom.id) in self.closure.bound:
                return BOUND, self.closure.bound[self.number, atom.id].proof or "bound", False
        return NO_EFFECT, "nothing that goes into the module refers to it", False

    def _claim_by_section(
        self, difference: Difference, orig: Atom | None, patched: Atom | None
    ) -> tuple[str, str, bool] | None:
        """Decide by what reads the section."""
        if difference.section.startswith(PREFIX):
            return NO_EFFECT, "a record for kgbuild from a macro for authors; it never goes into a module", False
        if difference.section == BTF:
            return self._claim_btf(difference)
        row = reader_of(difference.section) if difference.section else None
        if row is None:
            return None
        if (
            not difference.symbol
            and difference.orig_place is None
            and difference.patched_place is None
            and difference.kind in (kinds.ALIGN, kinds.TYPE)
        ):
            return NO_EFFECT, "how a table or its literals were laid out when the kernel was linked", False
        if row.when == NEVER:
            return NO_EFFECT, f"{row.what}: read by {row.who} alone", False
        if row.when == LOADER and difference.section == MODINFO:
            key = difference.symbol.rpartition(".")[2]  # in built-in code, the module's name precedes the key
            # an added or removed parameter is reported by its entry in __param
            said = key not in ("parm", "parmtype") or "__param" not in self.touched
            return NO_EFFECT, f"{key} is {_MODINFO.get(key, 'shown by modinfo')}", said
        if self._is_message(difference, orig, patched):
            return NOISE, noise.PRINTK_INDEX, False
        if difference.kind == kinds.ENTRIES:
            if row.when == BOOT and self.patched.arch.special_of(difference.section) is None:
                # a list that is read once for a kernel or a module, and that is never carried along with code
                if not difference.patched:
                    return (
                        NO_EFFECT,
                        f"{row.what}: read by {row.who}; what was there stays until the next boot or load",
                        True,
                    )
                return UNACCOUNTED, f"{row.what}: read by {row.who}, so that the new one takes no effect", False
            return self._claim_entries(difference, orig, patched)
        if row.when == BOOT:
            return self._claim_registered(difference, patched, row.what, row.who)
        if difference.section == ".exitcall.exit":
            return NO_EFFECT, f"{row.what}: {row.who}", False
        if difference.section.startswith(HOOKS):
            # any difference: the running kernel reads its own table
            why = f"{row.what}: {row.who}, sees those of the running kernel"
            return NO_EFFECT, why, difference.kind not in (kinds.SIZE, kinds.ALIGN)
        if row.when in (RUNNING, LOADER):
            return UNACCOUNTED, f"{row.what}, read by {row.who}: the running kernel's stays as it is", False
        if row.when == INIT and difference.kind in (kinds.WENT, kinds.ALIGN, kinds.ORDER, kinds.TYPE):
            return (
                NO_EFFECT,
                f"{row.what}: has run, or runs when the module goes",
                difference.kind == kinds.WENT
                and bool(difference.symbol)
                and not (orig is not None and is_prefix(orig)),
            )
        if row.when == INIT and difference.kind == kinds.CAME and self._is_data(patched):
            return NO_EFFECT, "data of code that runs once, which is compared by itself", False
        return None

    def _claim_btf(self, difference: Difference) -> tuple[str, str, bool]:
        """Types used by BPF. BPF programs use the kernel's own type information, which must fit the running code."""
        atoms = self.patched.by_name.get(difference.symbol, [])
        runs = any(self.taken(None, atom) for atom in atoms) if atoms else bool(self.changed or self.new)
        if not difference.symbol or (difference.kind == kinds.PROTOTYPE and runs):
            return UNACCOUNTED, "BPF programs are checked by the kernel's own BTF, in which it stays as it was", False
        return NO_EFFECT, "BPF programs are checked by the running kernel's BTF, which stays as it is", True

    def _is_data(self, patched: Atom | None) -> bool:
        return patched is not None and patched.kind in (DATA, ANON) and not self.patched.section_of(patched).executable

    def _is_traced(self, orig: Atom | None, patched: Atom | None) -> bool:
        return (
            orig is not None
            and patched is not None
            and is_call_metadata(self.orig, orig)
            and is_call_metadata(self.patched, patched)
        )

    def _is_message(self, difference: Difference, orig: Atom | None, patched: Atom | None) -> bool:
        """Whether a difference belongs to the printk index: to its table, or to data that only the table refers to."""
        index = self.patched.arch.message_index[0]
        if difference.section == index:
            return True
        for view, atom in ((self.orig, orig), (self.patched, patched)):
            if atom is None:
                continue
            if not is_stateless(view, atom) or not variable(atom.name).startswith("_entry"):
                return False
            if {view.obj.sections[i].name for i in view.sections_referring_to({atom.section})} - {index}:
                return False
        return orig is not None or patched is not None

    def _claim_registered(
        self, difference: Difference, patched: Atom | None, what: str, who: str
    ) -> tuple[str, str, bool]:
        """Part of a table that was read when the kernel booted or its module was loaded."""
        if self.member(patched):
            return CARRIED, "the patch module has it for itself", False
        if difference.section in TEXTS:
            return NO_EFFECT, "text of a table's entries, which are compared by themselves", False
        if difference.kind == kinds.WENT:
            return NO_EFFECT, f"{what}: read by {who}; what was there stays until the next boot or load", True
        if difference.kind == kinds.ORDER:
            return NO_EFFECT, f"the order of {what}: read by {who}", True
        if difference.kind == kinds.REFERENCE and (rule := self.judged(difference)):
            return NOISE, rule, False
        if difference.kind == kinds.ALIGN:
            return NO_EFFECT, f"the alignment of {what}: read by {who}", False
        return UNACCOUNTED, f"{what}: read by {who}, so that the new one takes no effect", False

    def _claim_entries(
        self, difference: Difference, orig: Atom | None, patched: Atom | None
    ) -> tuple[str, str, bool] | None:
        taken = self.taken(orig, patched)
        if difference.symbol in self.patched.arch.auxiliary:
            # whose replacement code it is, is compared with the alternatives of each function
            here = self.closure is not None and any(
                number == self.number and self.patched.section_name(self.patched.atoms[atom]) == difference.symbol
                for number, atom in self.closure.members
            )
            return (CARRIED, "with the replacement code of changed functions", False) if here else None
        if difference.section == PROBES and orig is not None and patched is not None:
            # a user of kprobes names the kernel's own body, which does not change
            if difference.patched and not difference.orig:
                why = "kprobes know the kernel's own function by its place, where they are accepted as before"
                return UNACCOUNTED, why, False
            return NO_EFFECT, "for the kernel's own function; what kprobes may do there stays as it is", True
        if taken is not None:
            return (*taken, False)
        if orig is not None and patched is None:
            if orig.id in self.correlation.to_patched and orig.id not in self.was_changed:
                return NOISE, SAME_BODY, False
            return NO_EFFECT, "belonged to a function that is gone", False
        if patched is not None and orig is None:
            if self.patched.section_name(patched).startswith(INIT_SECTIONS):
                return NO_EFFECT, "belongs to code that runs once", False
            if self.unfolded(patched):
                return NOISE, SAME_BODY, False
            if difference.section == "__patchable_function_entries":
                return NO_EFFECT, "a place before a function, which ftrace knows by __mcount_loc", False
            return None
        if patched is None or orig is None:
            return None
        if difference.section == self.patched.arch.seals:
            return NO_EFFECT, "made for the kernel as a whole, and read when it booted", False
        if difference.section == ".orc_unwind_ip" and difference.offset == orig.size == patched.size:
            return NO_EFFECT, "the end of a section's code, where something else follows or no longer does", False
        if difference.section == ".orc_unwind_ip":
            # entries equal to those of the preceding code are omitted, so that they shift with code that runs once
            said = not self.patched.section_name(patched).startswith(INIT_SECTIONS)
            return NO_EFFECT, "how to unwind unchanged code: the kernel's own entries stay", said
        allowed = _LINE_TABLES.get(difference.section, _MEANINGS)
        rules = self.rules_of(patched) & allowed
        return (NOISE, " ".join(sorted(rules)), False) if rules else None

    def _claim_piece(
        self, difference: Difference, orig: Atom | None, patched: Atom | None
    ) -> tuple[str, str, bool] | None:
        """A function or a variable."""
        row = reader_of(difference.section) if difference.section else None
        if row is None or row.when not in (REFERRED, BORDERS, INIT, WITH_CODE):
            return None
        code = any(
            a is not None and view.section_of(a).executable for view, a in ((self.orig, orig), (self.patched, patched))
        )
        taken = self.taken(orig, patched)
        if difference.kind == kinds.ORDER:
            return NO_EFFECT, "the order of things that each have a symbol of their own", False
        if self._is_traced(orig, patched):
            why = "names of a system call for tracing, which shows those of the running kernel"
            said = difference.kind in (kinds.CONTENT, kinds.REFERENCE) and not (self.changed or self.new)
            return NO_EFFECT, why, said
        if difference.kind == kinds.ALIGN:
            return self._claim_alignment(difference, orig, patched, code, taken)
        if taken is not None:
            moved = self._claim_moved_copy(difference) if difference.kind == kinds.SECTION and code else None
            return moved or (*taken, False)
        if difference.kind == kinds.WENT:
            what = "code" if code else "data"
            alone = code and not self.changed and not self.new and not (orig is not None and is_prefix(orig))
            return NO_EFFECT, f"{what} that is gone stays in the kernel, and nothing of the patch uses it", alone
        if difference.kind == kinds.CAME:
            return self._claim_unused(difference, patched, code)
        if difference.kind == kinds.VISIBILITY:
            return NO_EFFECT, "read only by linkers, before the kernel runs", False
        if difference.kind == kinds.BIND:
            return self._claim_binding(difference, orig)
        if difference.kind == kinds.ALIAS:
            return self._claim_alias(difference, orig, patched, code)
        if difference.kind == kinds.SECTION and code:
            return self._claim_move(difference, orig, patched)
        if difference.kind == kinds.SECTION and {difference.orig, difference.patched} <= _PLAIN_DATA:
            return NOISE, noise.SECTION, False
        if difference.kind in _EXPLAINS and orig is not None and patched is not None:
            return self._claim_content(difference, orig, patched, code)
        return None

    def _claim_alignment(
        self, difference: Difference, orig: Atom | None, patched: Atom | None, code: bool, taken: tuple[str, str] | None
    ) -> tuple[str, str, bool] | None:
        if taken is not None:
            return (*taken, False)
        if code:
            return NO_EFFECT, "it only places code; nothing uses the low bits of its address", False
        if int(difference.patched) <= int(difference.orig):
            return NO_EFFECT, "the kernel's alignment is larger than needed", False
        if not difference.symbol and difference.section in self.came_in:
            return CARRIED, "the alignment of something new in that section", False
        unit = self.closure.units[self.number] if self.closure is not None else None
        if unit is not None and orig is not None and patched is not None:
            binding = unit.parity.bindings.get(orig.id)
            # only addresses in vmlinux are known; a module can be loaded anywhere
            known = binding is not None and unit.target == VMLINUX and binding.address >> 63
            if known and binding is not None and binding.address % int(difference.patched) == 0:
                return BOUND, f"the kernel's is at {binding.address:#x}", False
        return UNACCOUNTED, "code may rely on an alignment that the kernel's variable does not have", False

    def _claim_unused(self, difference: Difference, patched: Atom | None, code: bool) -> tuple[str, str, bool] | None:
        if patched is None:
            return None
        if code and patched.kind == ANON:
            return self._claim_filler(patched)
        if code:
            # a function that was folded with others, or a new function that nothing in the module uses
            return (NOISE, SAME_BODY, False) if self.unfolded(patched) else None
        if self.closure is None and (self.changed or self.new):
            return CARRIED, "comes along where changed code refers to it", False
        return NO_EFFECT, "nothing that goes into the module refers to it", False

    def _claim_filler(self, patched: Atom) -> tuple[str, str, bool] | None:
        """Padding between functions: smaller than the alignment, with no reference to it."""
        section = self.patched.section_of(patched)
        if patched.size >= section.align:
            return None
        try:
            for index in self.patched.sections_referring_to({patched.section}) | {patched.section}:
                for atom_id in self.patched.in_section.get(index, ()):
                    if any(r.atom == patched.id for r in self.patched.refs(self.patched.atoms[atom_id])):
                        return None
        except Ambiguous:
            return None
        return NO_EFFECT, "fills the room between functions, and nothing leads there", False

    def _claim_binding(self, difference: Difference, orig: Atom | None) -> tuple[str, str, bool] | None:
        if "weak" not in (difference.orig, difference.patched):
            return NO_EFFECT, "read only by linkers, before the kernel runs", False
        unit = self.closure.units[self.number] if self.closure is not None else None
        if unit is None or orig is None:
            return None
        found = unit.parity.of(orig.id)
        proven = found.status == EXACT if found is not None else orig.id in unit.parity.bindings
        return (NO_EFFECT, "this definition is the one that runs", False) if proven else None

    def _claim_alias(
        self, difference: Difference, orig: Atom | None, patched: Atom | None, code: bool
    ) -> tuple[str, str, bool] | None:
        if _DEVICE_TABLE.fullmatch(difference.symbol):
            return NO_EFFECT, "a table from which modpost makes aliases: read by depmod", True
        if not difference.orig or not difference.patched:
            # references through that name are compared by what they refer to
            return NO_EFFECT, "another name of something that does not change", False
        if code and orig is not None and patched is not None and self.correlation.paired(orig.id, patched.id):
            return NOISE, SAME_BODY, False
        if variable(difference.symbol) in ANONYMOUS and orig is not None and self.orig.is_const(orig):
            return NO_EFFECT, "a numbered name from the compiler: references to it are compared by place", False
        return UNACCOUNTED, "other code still uses what the name referred to when the kernel was linked", False

    def _claim_move(
        self, difference: Difference, orig: Atom | None, patched: Atom | None
    ) -> tuple[str, str, bool] | None:
        del orig, patched
        if difference.orig in _PLAIN_TEXT and difference.patched in _PLAIN_TEXT:
            return NOISE, noise.SECTION, False
        row = _bordered(difference)
        if row is not None:
            return UNACCOUNTED, f"{row.what}, known by the borders of {row.section} to {row.who}", False
        return None

    def _claim_moved_copy(self, difference: Difference) -> tuple[str, str, bool] | None:
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
        self, difference: Difference, orig: Atom, patched: Atom, code: bool
    ) -> tuple[str, str, bool] | None:
        if code:
            if orig.kind == ANON == patched.kind:
                return self._claim_filler(patched)
            if not self.correlation.paired(orig.id, patched.id):
                return None
            rules = self.rules_of(patched) & _EXPLAINS[difference.kind]
            if rules:
                return NOISE, " ".join(sorted(rules)), False
            if difference.kind == kinds.REFERENCE and (rule := self.judged(difference)):
                return NOISE, rule, False
            return None
        if difference.kind == kinds.REFERENCE and (rule := self.judged(difference)):
            return NOISE, rule, False
        if difference.kind == kinds.CONTENT and self.is_line(orig, patched):
            return NOISE, noise.LINE_DATA, False
        if is_anonymous(self.patched, patched) or patched.kind == ANON:
            return self._claim_constant(patched)
        if (
            is_stateless(self.patched, patched)
            and self.patched.section_name(patched) in DEBUG_SECTIONS
            and difference.kind == kinds.CONTENT
        ):
            return self._claim_line(difference, orig, patched)
        return None

    def _claim_constant(self, patched: Atom) -> tuple[str, str, bool] | None:
        """A constant without an identity of its own that is not in the module: everything that reads it must be
        replaced, or only show it to people."""
        if not self.patched.is_const(patched):
            return None
        shown = False
        for user in self.users(patched):
            if user is None or not self.is_shown(user):
                taken = self.taken(None, user) if user is not None else None
                if taken is None:
                    return None
            else:
                shown = True
        why = "shown by dynamic debug only" if shown else "nothing outside the module reads it"
        return NO_EFFECT, why, False

    def _claim_line(self, difference: Difference, orig: Atom, patched: Atom) -> tuple[str, str, bool] | None:
        """The line number in the descriptor of a pr_debug, if nothing else of it differs."""
        if not self.correlation.lines:
            return None
        del difference
        at, bits = self.patched.arch.debug_line
        try:
            orig_bytes, patched_bytes = self.orig.masked(orig), self.patched.masked(patched)
        except Ambiguous:
            return None
        words = [self.patched.obj.number(raw[at : at + 4]) & ~bits for raw in (orig_bytes, patched_bytes)]
        same = (
            words[0] == words[1]
            and orig_bytes[:at] == patched_bytes[:at]
            and orig_bytes[at + 4 :] == patched_bytes[at + 4 :]
        )
        return (NOISE, noise.LINE_DEBUG, False) if same else None
