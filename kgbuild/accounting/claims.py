# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that claim differences of the ledger, each judged by what it is and where it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kgbuild.accounting.piece_claims import MEANINGS, SAME_BODY, claim_piece
from kgbuild.accounting.unit_facts import BOUND, CARRIED, NO_EFFECT, NOISE, REFUSED, UNACCOUNTED, UnitFacts
from kgbuild.correlation import noise
from kgbuild.diff.author_macros import PREFIX
from kgbuild.kernel.section_readers import (
    BOOT,
    HOOKS,
    INIT,
    LOADER,
    NEVER,
    RUNNING,
    reader_of,
)
from kgbuild.ledger import difference as kinds
from kgbuild.ledger.difference import Difference
from kgbuild.ledger.ledger import Ledger
from kgbuild.ledger.pieces import BTF, MODINFO
from kgbuild.objects.atoms import ANON, DATA, Atom
from kgbuild.objects.stateless import is_stateless
from kgbuild.objects.symbol_kinds import INIT_SECTIONS, is_prefix, variable

_LINE_TABLES = {"__bug_table": MEANINGS | {noise.LINE_BUG}}
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
        for rule in (self._claim_text, self._claim_outside, self._claim_by_section):
            found = rule(difference, orig, patched)
            if found is not None:
                return found
        return claim_piece(self, difference, orig, patched) or (UNACCOUNTED, "", False)

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

    def _is_message(self, difference: Difference, orig: Atom | None, patched: Atom | None) -> bool:
        """Whether a difference belongs to the printk index: to its table, or to data that only the table refers to."""
        index = self.patched.arch.message_index[0]
        if difference.section == index:
            return True
        for view, atom in ((self.orig, orig), (self.patched, patched)):
            if atom is None:
                continue
            if not variable(atom.name).startswith("_entry") or not is_stateless(view, atom):
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
        allowed = _LINE_TABLES.get(difference.section, MEANINGS)
        rules = self.rules_of(patched) & allowed
        return (NOISE, " ".join(sorted(rules)), False) if rules else None
