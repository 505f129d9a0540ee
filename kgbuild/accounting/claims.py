# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules by which differences in the ledger are claimed: one claim for one difference, by what it is and where."""

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
SAME_BODY = "the body under this name is the one that was"
# Code that kprobes keep out of, in the kernel and in a module.
_UNPROBED = (".kprobes.text", ".noinstr.text", ".entry.text")
# .ref.*: one section to the linker; modpost alone tells them apart
_PLAIN_TEXT = (".text", ".text.unlikely", ".text.hot", ".text.startup", ".ref.text")
_PLAIN_DATA = frozenset((".data", ".ref.data"))
# Text that entries of tables point to.
TEXTS = ("__ksymtab_strings", "__tracepoints_strings")
PROBES = "_kprobe_blacklist"
# What the module loader and depmod do with the words of .modinfo, beside showing them.
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
    """What becomes of one difference: one of the words above, and why. `said`: it is to be told a user by itself,
    since something of the patch is taken away or can't take effect. `source`: the line of the patch that it comes
    from, "" where that is not known."""

    difference: Difference
    by: str
    why: str
    said: bool = False
    source: str = ""


def _bordered(d: Difference) -> Reader | None:
    """The row of the section that a function comes to, or leaves, if code asks for that one's borders."""
    return next((r for s in (d.patched, d.original) if (r := reader_of(s)) is not None and r.when == BORDERS), None)


class Claims(UnitFacts):
    """The rules, for one unit."""

    def run(self, ledger: Ledger) -> Iterable[Claim]:
        self.came_in = {d.section for d in ledger.differences if d.kind == kinds.CAME}
        self.touched = {d.section for d in ledger.differences}
        for d in ledger.differences:
            by, why, said = self._claim(d)
            yield Claim(d, by, why, said)

    # -- claims -------------------------------------------------------------------------------------------------

    def _claim(self, d: Difference) -> tuple[str, str, bool]:
        o, p = self.atoms(d)
        names = {d.symbol, *(o.names if o is not None else ()), *(p.names if p is not None else ())} - {""}
        # what stands before a function goes with it
        names |= {name.removeprefix("__pfx_") for name in names if name.startswith("__pfx_")}
        for name in sorted(names):
            if name in self.refused:
                return REFUSED, self.refused[name], False
        if d.section and d.section in self.refused_sections:
            return REFUSED, self.refused_sections[d.section], False
        if not names.isdisjoint(self.ignored) or d.section in self.ignored:
            return NO_EFFECT, "left out by --ignore-init", False
        if not names.isdisjoint(self.left) or d.section in self.left:
            return NO_EFFECT, "left out by the patch's author", False
        for rule in (self._claim_text, self._claim_outside, self._claim_by_section, self._claim_piece):
            found = rule(d, o, p)
            if found is not None:
                return found
        return UNACCOUNTED, "", False

    def _claim_text(self, d: Difference, o: Atom | None, p: Atom | None) -> tuple[str, str, bool] | None:
        """Literals and pieces of replacement code: read only by what refers to them, and there each reference is a
        difference of its own, by content."""
        del o, p
        if d.kind == kinds.TEXT or (d.section == ".altinstr_replacement" and d.kind in (kinds.CAME, kinds.WENT)):
            if d.kind == kinds.TEXT and self.closure is not None and d.after is not None:
                for (number, atom), _ in self.closure.members.items():
                    found = self.p.atoms[atom] if number == self.number else None
                    if found is not None and (found.section, found.offset) == d.after:
                        return CARRIED, "read by what is in the module", False
            return NO_EFFECT, "a literal is read by what refers to it, which is compared by content", False
        return None

    def _claim_outside(self, d: Difference, o: Atom | None, p: Atom | None) -> tuple[str, str, bool] | None:
        """Symbols that the object does not define."""
        del o, p
        if d.section or d.before is not None or d.after is not None:
            return None
        for r in self.against:
            if d.symbol in r.fact.replace(",", " ").replace(":", " ").split():
                return REFUSED, r.code, False
        if "absolute" in d.original + d.patched or "common" in d.original + d.patched:
            if "global" not in d.original + d.patched:
                return NO_EFFECT, "a number; what uses it is compared by its value", False
            return None
        if d.kind == kinds.WENT:
            return NO_EFFECT, "nothing of the patched source refers to it any more", False
        if self.closure is None:
            if self.changed or self.new:
                return BOUND, "referred to by changed code", False
            out = self.left or self.ignored
            return (NO_EFFECT, "referred to by what is left out", False) if out else None
        for atom in self.p.atoms:
            if atom.section < 0 and d.symbol in atom.names and (self.number, atom.id) in self.closure.bound:
                return BOUND, self.closure.bound[self.number, atom.id].proof or "bound", False
        return NO_EFFECT, "nothing that goes into the module refers to it", False

    def _claim_by_section(self, d: Difference, o: Atom | None, p: Atom | None) -> tuple[str, str, bool] | None:
        """What the readers of the section say."""
        if d.section.startswith(PREFIX):
            return NO_EFFECT, "what a macro for authors left for kgbuild; it never goes into a module", False
        if d.section == BTF:
            return self._claim_btf(d)
        row = reader_of(d.section) if d.section else None
        if row is None:
            return None
        if not d.symbol and d.before is None and d.after is None and d.kind in (kinds.ALIGN, kinds.TYPE):
            return NO_EFFECT, "how a table or its literals were laid out when the kernel was linked", False
        if row.when == NEVER:
            return NO_EFFECT, f"{row.what}: read by {row.who} alone", False
        if row.when == LOADER and d.section == MODINFO:
            key = d.symbol.rpartition(".")[2]  # built-in code has the module's name before it
            # a parameter that comes or goes is told by its entry in __param
            said = key not in ("parm", "parmtype") or "__param" not in self.touched
            return NO_EFFECT, f"{key} is {_MODINFO.get(key, 'shown by modinfo')}", said
        if self._is_message(d, o, p):
            return NOISE, noise.PRINTK_INDEX, False
        if d.kind == kinds.ENTRIES:
            if row.when == BOOT and self.p.arch.special_of(d.section) is None:
                # a list that a kernel or a module is asked for once, and that never comes along with code
                if not d.patched:
                    return (
                        NO_EFFECT,
                        f"{row.what}: read by {row.who}; what was there stays until the next boot or load",
                        True,
                    )
                return UNACCOUNTED, f"{row.what}: read by {row.who}, so that the new one takes no effect", False
            return self._claim_entries(d, o, p)
        if row.when == BOOT:
            return self._claim_registered(d, p, row.what, row.who)
        if d.section == ".exitcall.exit":
            return NO_EFFECT, f"{row.what}: {row.who}", False
        if row.when in (RUNNING, LOADER):
            return UNACCOUNTED, f"{row.what}, read by {row.who}: the running kernel's stays as it is", False
        if row.when == INIT and d.kind in (kinds.WENT, kinds.ALIGN, kinds.ORDER, kinds.TYPE):
            return (
                NO_EFFECT,
                f"{row.what}: has run, or runs when the module goes",
                d.kind == kinds.WENT and bool(d.symbol) and not (o is not None and is_prefix(o)),
            )
        if row.when == INIT and d.kind == kinds.CAME and self._is_data(p):
            return NO_EFFECT, "data of code that runs once, which is compared by itself", False
        return None

    def _claim_btf(self, d: Difference) -> tuple[str, str, bool]:
        """Types that BPF goes by. The kernel has its own; they must fit the code that runs."""
        atoms = self.p.by_name.get(d.symbol, [])
        runs = any(self.taken(None, atom) for atom in atoms) if atoms else bool(self.changed or self.new)
        if not d.symbol or (d.kind == kinds.PROTOTYPE and runs):
            return UNACCOUNTED, "BPF programs are checked by the kernel's own BTF, in which it stays as it was", False
        return NO_EFFECT, "BPF programs are checked by the running kernel's BTF, which stays as it is", True

    def _is_data(self, p: Atom | None) -> bool:
        return p is not None and p.kind in (DATA, ANON) and not self.p.section_of(p).executable

    def _is_message(self, d: Difference, o: Atom | None, p: Atom | None) -> bool:
        """Whether a difference is one of the index of messages: of its table, or of what only that refers to."""
        index = self.p.arch.message_index[0]
        if d.section == index:
            return True
        for view, atom in ((self.o, o), (self.p, p)):
            if atom is None:
                continue
            if not is_stateless(view, atom) or not variable(atom.name).startswith("_entry"):
                return False
            if {view.obj.sections[i].name for i in view.sections_referring_to({atom.section})} - {index}:
                return False
        return o is not None or p is not None

    def _claim_registered(self, d: Difference, p: Atom | None, what: str, who: str) -> tuple[str, str, bool]:
        """Something of a table that was read when the kernel booted or its module was loaded."""
        if self.member(p):
            return CARRIED, "the patch module has it for itself", False
        if d.section in TEXTS:
            return NO_EFFECT, "text of a table's entries, which are compared by themselves", False
        if d.kind == kinds.WENT:
            return NO_EFFECT, f"{what}: read by {who}; what was there stays until the next boot or load", True
        if d.kind == kinds.ORDER:
            return NO_EFFECT, f"the order of {what}: read by {who}", True
        if d.kind == kinds.REFERENCE and (rule := self.judged(d)):
            return NOISE, rule, False
        if d.kind == kinds.ALIGN:
            return NO_EFFECT, f"the alignment of {what}: read by {who}", False
        return UNACCOUNTED, f"{what}: read by {who}, so that the new one takes no effect", False

    def _claim_entries(self, d: Difference, o: Atom | None, p: Atom | None) -> tuple[str, str, bool] | None:
        taken = self.taken(o, p)
        if d.section == PROBES and o is not None and p is not None:
            # whoever probes the function names the kernel's own body, which stays as it was
            if d.patched and not d.original:
                why = "kprobes know the kernel's own function by its place, where they are accepted as before"
                return UNACCOUNTED, why, False
            return NO_EFFECT, "for the kernel's own function; what kprobes may do there stays as it is", True
        if taken is not None:
            return (*taken, False)
        if o is not None and p is None:
            if o.id in self.c.to_patched and o.id not in self.was_changed:
                return NOISE, SAME_BODY, False
            return NO_EFFECT, "belonged to a function that is gone", False
        if p is not None and o is None:
            if self.p.section_name(p).startswith(INIT_SECTIONS):
                return NO_EFFECT, "belongs to code that runs once", False
            if self.unfolded(p):
                return NOISE, SAME_BODY, False
            if d.section == "__patchable_function_entries":
                return NO_EFFECT, "a place before a function, which ftrace knows by __mcount_loc", False
            return None
        if p is None or o is None:
            return None
        if d.section == self.p.arch.seals:
            return NO_EFFECT, "made for a kernel as a whole, and read when it booted", False
        if d.section == ".orc_unwind_ip" and d.offset == o.size == p.size:
            return NO_EFFECT, "the end of a section's code, where something else follows or no longer does", False
        if d.section == ".orc_unwind_ip":
            # entries that repeat those of the code before are left out, so that they move with what runs once
            said = not self.p.section_name(p).startswith(INIT_SECTIONS)
            return NO_EFFECT, "how to unwind unchanged code: the kernel's own entries stay", said
        allowed = _LINE_TABLES.get(d.section, _MEANINGS)
        rules = self.rules_of(p) & allowed
        return (NOISE, " ".join(sorted(rules)), False) if rules else None

    def _claim_piece(self, d: Difference, o: Atom | None, p: Atom | None) -> tuple[str, str, bool] | None:
        """A function or a variable."""
        row = reader_of(d.section) if d.section else None
        if row is None or row.when not in (REFERRED, BORDERS, INIT, WITH_CODE):
            return None
        code = any(a is not None and view.section_of(a).executable for view, a in ((self.o, o), (self.p, p)))
        taken = self.taken(o, p)
        if d.kind == kinds.ORDER:
            return NO_EFFECT, "the order of what is referred to by symbols of its own", False
        if d.kind == kinds.ALIGN:
            return self._claim_alignment(d, o, p, code, taken)
        if taken is not None:
            moved = self._claim_moved_copy(d) if d.kind == kinds.SECTION and code else None
            return moved or (*taken, False)
        if d.kind == kinds.WENT:
            what = "code" if code else "data"
            alone = code and not self.changed and not self.new and not (o is not None and is_prefix(o))
            return NO_EFFECT, f"{what} that is gone stays in the kernel, and nothing of the patch uses it", alone
        if d.kind == kinds.CAME:
            return self._claim_unused(d, p, code)
        if d.kind == kinds.VISIBILITY:
            return NO_EFFECT, "read by linkers, which are done", False
        if d.kind == kinds.BIND:
            return self._claim_binding(d, o)
        if d.kind == kinds.ALIAS:
            return self._claim_alias(d, o, p, code)
        if d.kind == kinds.SECTION and code:
            return self._claim_move(d, o, p)
        if d.kind == kinds.SECTION and {d.original, d.patched} <= _PLAIN_DATA:
            return NOISE, noise.SECTION, False
        if d.kind in _EXPLAINS and o is not None and p is not None:
            return self._claim_content(d, o, p, code)
        return None

    def _claim_alignment(
        self, d: Difference, o: Atom | None, p: Atom | None, code: bool, taken: tuple[str, str] | None
    ) -> tuple[str, str, bool] | None:
        if taken is not None:
            return (*taken, False)
        if code:
            return NO_EFFECT, "it places code; nothing asks for the low bits of its address", False
        if int(d.patched) <= int(d.original):
            return NO_EFFECT, "what is aligned more than it needs is aligned enough", False
        if not d.symbol and d.section in self.came_in:
            return CARRIED, "of what is new in that section", False
        unit = self.closure.units[self.number] if self.closure is not None else None
        if unit is not None and o is not None and p is not None:
            binding = unit.parity.bindings.get(o.id)
            # only in vmlinux an address of the kernel's is known; a module lies anywhere
            known = binding is not None and unit.target == VMLINUX and binding.address >> 63
            if known and binding is not None and binding.address % int(d.patched) == 0:
                return BOUND, f"the kernel's is at {binding.address:#x}", False
        return UNACCOUNTED, "code may rely on an alignment that the kernel's variable does not have", False

    def _claim_unused(self, d: Difference, p: Atom | None, code: bool) -> tuple[str, str, bool] | None:
        if p is None:
            return None
        if code and p.kind == ANON:
            return self._claim_filler(p)
        if code:
            # one that was folded with others; or new, and taken by nobody
            return (NOISE, SAME_BODY, False) if self.unfolded(p) else None
        if self.closure is None and (self.changed or self.new):
            return CARRIED, "comes along where changed code refers to it", False
        return NO_EFFECT, "nothing that goes into the module refers to it", False

    def _claim_filler(self, p: Atom) -> tuple[str, str, bool] | None:
        """What fills the room between functions: smaller than the alignment, and nothing leads there."""
        section = self.p.section_of(p)
        if p.size >= section.align:
            return None
        try:
            for index in self.p.sections_referring_to({p.section}) | {p.section}:
                for i in self.p.in_section.get(index, ()):
                    if any(r.atom == p.id for r in self.p.refs(self.p.atoms[i])):
                        return None
        except Ambiguous:
            return None
        return NO_EFFECT, "fills the room between functions, and nothing leads there", False

    def _claim_binding(self, d: Difference, o: Atom | None) -> tuple[str, str, bool] | None:
        if "weak" not in (d.original, d.patched):
            return NO_EFFECT, "read by linkers, which are done", False
        unit = self.closure.units[self.number] if self.closure is not None else None
        if unit is None or o is None:
            return None
        found = unit.parity.of(o.id)
        proven = found.status == EXACT if found is not None else o.id in unit.parity.bindings
        return (NO_EFFECT, "this definition is the one that runs", False) if proven else None

    def _claim_alias(self, d: Difference, o: Atom | None, p: Atom | None, code: bool) -> tuple[str, str, bool] | None:
        if _DEVICE_TABLE.fullmatch(d.symbol):
            return NO_EFFECT, "a table that modpost makes aliases of: read by depmod", True
        if not d.original or not d.patched:
            # what refers to it by that name is compared by place
            return NO_EFFECT, "another name of what stays as it is", False
        if code and o is not None and p is not None and self.c.paired(o.id, p.id):
            return NOISE, SAME_BODY, False
        if variable(d.symbol) in ANONYMOUS and o is not None and self.o.is_const(o):
            return NO_EFFECT, "a name that the compiler counts: what refers to it is compared by place", False
        return UNACCOUNTED, "other code goes on with what the name meant when the kernel was linked", False

    def _claim_move(self, d: Difference, o: Atom | None, p: Atom | None) -> tuple[str, str, bool] | None:
        del o, p
        if d.original in _PLAIN_TEXT and d.patched in _PLAIN_TEXT:
            return NOISE, noise.SECTION, False
        row = _bordered(d)
        if row is not None:
            return UNACCOUNTED, f"{row.what}, known by the borders of {row.section} to {row.who}", False
        return None

    def _claim_moved_copy(self, d: Difference) -> tuple[str, str, bool] | None:
        """A function that is in the module and moves into a section whose borders the kernel asks for, or out of it:
        calls enter at its old place all the same, and the copy lies elsewhere."""
        into, out = reader_of(d.patched), reader_of(d.original)
        if into is not None and into.when == BORDERS:
            if d.patched in _UNPROBED:
                why = "calls still enter at its old place, where kprobes are accepted as before"
                return UNACCOUNTED, f"{into.what}, known by the borders of {into.section} to {into.who}: {why}", False
            return NO_EFFECT, f"{into.what}, known by the borders of {into.section} to {into.who}: {_STAYS}", True
        if out is not None and d.original in _UNPROBED:
            return NO_EFFECT, "calls still enter at its old place, which kprobes keep out of", True
        return None

    def _claim_content(self, d: Difference, o: Atom, p: Atom, code: bool) -> tuple[str, str, bool] | None:
        if code:
            if o.kind == ANON == p.kind:
                return self._claim_filler(p)
            if not self.c.paired(o.id, p.id):
                return None
            rules = self.rules_of(p) & _EXPLAINS[d.kind]
            if rules:
                return NOISE, " ".join(sorted(rules)), False
            if d.kind == kinds.REFERENCE and (rule := self.judged(d)):
                return NOISE, rule, False
            return None
        if d.kind == kinds.REFERENCE and (rule := self.judged(d)):
            return NOISE, rule, False
        if d.kind == kinds.CONTENT and self.is_line(o, p):
            return NOISE, noise.LINE_DATA, False
        if is_anonymous(self.p, p) or p.kind == ANON:
            return self._claim_constant(p)
        if is_stateless(self.p, p) and self.p.section_name(p) in DEBUG_SECTIONS and d.kind == kinds.CONTENT:
            return self._claim_line(d, o, p)
        return None

    def _claim_constant(self, p: Atom) -> tuple[str, str, bool] | None:
        """A constant without an identity of its own that did not come along: whoever reads it must be replaced, or show
        it to people only."""
        if not self.p.is_const(p):
            return None
        shown = False
        for user in self.users(p):
            if user is None or not self.is_shown(user):
                taken = self.taken(None, user) if user is not None else None
                if taken is None:
                    return None
            else:
                shown = True
        why = "shown by dynamic debug only" if shown else "nothing that stays as it is reads it"
        return NO_EFFECT, why, False

    def _claim_line(self, d: Difference, o: Atom, p: Atom) -> tuple[str, str, bool] | None:
        """The line in the descriptor of a pr_debug, and nothing else of it."""
        if not self.c.lines:
            return None
        del d
        at, bits = self.p.arch.debug_line
        try:
            was, now = self.o.masked(o), self.p.masked(p)
        except Ambiguous:
            return None
        words = [self.p.obj.number(raw[at : at + 4]) & ~bits for raw in (was, now)]
        same = words[0] == words[1] and was[:at] == now[:at] and was[at + 4 :] == now[at + 4 :]
        return (NOISE, noise.LINE_DEBUG, False) if same else None
