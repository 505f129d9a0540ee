# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of each difference in the ledger.

Every difference is claimed exactly once: by a function that is replaced, by what comes along in the module, by a
binding, by a rule for accidents (`noise`), by a refusal, or because it can have no effect in a kernel that runs, for a
reason that is said. What nobody claims is refused (K26-unaccounted). A claim is made for one difference by what it is
and where it is; none stands for a whole section.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kgbuild.analysis import ledger as kinds
from kgbuild.analysis import noise
from kgbuild.analysis.author import NOTHING, PREFIX, Author
from kgbuild.analysis.compare import Comparer
from kgbuild.analysis.correlate import INIT_SECTIONS, is_anonymous, variable
from kgbuild.analysis.diff import Changes, cold_parents, is_cold, is_prefix
from kgbuild.analysis.ledger import Difference, Ledger
from kgbuild.analysis.parity import EXACT
from kgbuild.analysis.pieces import MODINFO, Place
from kgbuild.analysis.readers import BOOT, BORDERS, INIT, LOADER, NEVER, REFERRED, RUNNING, WITH_CODE, reader_of
from kgbuild.analysis.resolve import VMLINUX
from kgbuild.analysis.stateless import DEBUG_SECTIONS, is_stateless
from kgbuild.refusals import Refusal
from kgbuild.special.view import ANON, DATA, FUNCTION, STRING, Ambiguous, Atom, View

if TYPE_CHECKING:
    from kgbuild.analysis.closed import Closure, UnitResult

REPLACED, CARRIED, BOUND, NOISE, REFUSED, NO_EFFECT, UNACCOUNTED = (
    "replaced",
    "carried",
    "bound",
    "noise",
    "refused",
    "no effect",
    "unaccounted",
)
ORDER = (REPLACED, CARRIED, BOUND, NOISE, NO_EFFECT, REFUSED, UNACCOUNTED)

_BYTES = frozenset({noise.LINE_ARGUMENT, noise.BRANCH_WIDTH})
_NAMES = frozenset({noise.STATIC_LOCAL, noise.ONCE_FLAG, noise.CLONE, noise.MODULE_HASH, noise.LABEL, noise.CONSTANT})
_MEANINGS = _NAMES | {noise.LINE_STRING, noise.LINE_DATA, noise.LINE_DEBUG, noise.BRANCH_WIDTH}
_EXPLAINS = {
    kinds.CONTENT: _BYTES,
    kinds.SIZE: frozenset({noise.BRANCH_WIDTH}),
    kinds.REFERENCE: _MEANINGS,
}
_LINE_TABLES = {"__bug_table": _MEANINGS | {noise.LINE_BUG}}
_SHOWN = ("section", "symbol", "kind", "offset", "original", "patched")
SAME_BODY = "the body under this name is the one that was"
_PLAIN_TEXT = (".text", ".text.unlikely", ".text.hot", ".text.startup")
# Refusals that stand for the whole of the section that they name.
_OF_SECTIONS = ("K2-special", "K7-export")
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
    since something of the patch is taken away or can't take effect."""

    difference: Difference
    by: str
    why: str
    said: bool = False


@dataclass(frozen=True)
class Accounting:
    """The ledger of one unit with a claim for each difference, in the ledger's order."""

    place: str
    claims: tuple[Claim, ...] = ()
    target: str = "vmlinux"

    @property
    def counts(self) -> dict[str, int]:
        """How many differences each kind of claim stands for, in a fixed order."""
        found = Counter(c.by for c in self.claims)
        return {by: found[by] for by in ORDER if found[by]}

    @property
    def unaccounted(self) -> list[Claim]:
        return [c for c in self.claims if c.by == UNACCOUNTED]

    @property
    def said(self) -> list[Claim]:
        return [c for c in self.claims if c.said]

    @property
    def refusals(self) -> list[Refusal]:
        """One refusal for each symbol, or section, with differences that nobody claims."""
        out: dict[tuple[str, str], list[Claim]] = {}
        for c in self.unaccounted:
            out.setdefault((c.difference.section, c.difference.symbol), []).append(c)
        return [self._refusal(section, symbol, claims) for (section, symbol), claims in sorted(out.items())]

    def as_data(self) -> dict[str, Any]:
        """The same as plain data (docs/schema/report-1.json)."""
        return {
            "unit": self.place,
            "object": self.target,
            "counts": self.counts,
            "differences": [
                {
                    **{name: getattr(c.difference, name) for name in _SHOWN},
                    "claim": c.by,
                    "why": c.why,
                    "said": c.said,
                }
                for c in self.claims
            ],
        }

    def _refusal(self, section: str, symbol: str, claims: list[Claim]) -> Refusal:
        first = claims[0]
        fact = str(first.difference)
        if first.why:
            fact += f"; {first.why}"
        if len(claims) > 1:
            fact += f" (and {len(claims) - 1} more differences of it)"
        return Refusal("K26-unaccounted", f"{self.place}: {symbol or section}", fact, symbol, section)


def summary(accountings: Iterable[Accounting]) -> str:
    """`accounted 14 differences: 3 replaced, 9 bound, 2 no effect`, without the first word; "" for none."""
    found: Counter[str] = Counter()
    for a in accountings:
        found.update(a.counts)
    total = sum(found.values())
    if not total:
        return ""
    parts = ", ".join(f"{found[by]} {by}" for by in ORDER if found[by])
    return f"{total} difference{'s' * (total != 1)}: {parts}"


def account(
    ledger: Ledger,
    changes: Changes,
    closure: Closure | None = None,
    number: int = 0,
    ignored: Iterable[Refusal] = (),
    left: Iterable[str] = (),
    target: str = "vmlinux",
) -> Accounting:
    """Claim each difference of a unit.

    changes   of the unit; `closure`, where there is one, has it as its unit `number`
    ignored   refusals that an option set aside (--ignore-init)
    left      functions and sections that the patch's author asked to leave out
    """
    if not ledger.differences:
        return Accounting(changes.place, (), target)
    return Accounting(
        changes.place,
        tuple(_Claims(changes, closure, number, tuple(ignored), tuple(left)).run(ledger)),
        target,
    )


@dataclass(frozen=True)
class Unit:
    """The ledger of one unit, and what was set aside of it on request: refusals by --ignore-init, and what its author
    asked to leave out."""

    ledger: Ledger
    ignored: tuple[Refusal, ...] = ()
    author: Author = NOTHING


def account_all(
    ledgers: Sequence[Unit], units: Sequence[UnitResult], closure: Closure | None
) -> tuple[Accounting, ...]:
    """The accounting of each unit that has a ledger, in order; units that only came along have none."""
    out = []
    for number, (entry, unit) in enumerate(zip(ledgers, units, strict=False)):
        left = (*entry.author.ignored_functions, *entry.author.ignored_sections)
        out.append(account(entry.ledger, unit.changes, closure, number, entry.ignored, left, unit.target))
    return tuple(out)


def no_effects(accountings: Iterable[Accounting]) -> list[str]:
    """A line for each difference that a user must know to have no effect."""
    return [f"{a.place}: {line_of(c)}" for a in accountings for c in a.said]


def line_of(claim: Claim) -> str:
    """One claim as a line for people."""
    d = claim.difference
    name = d.symbol or d.section
    inside = f" ({d.section})" if d.symbol and d.section else ""
    what = {kinds.CAME: "new", kinds.WENT: "taken away"}.get(d.kind, f"another {d.kind}")
    value = f" {(d.patched or d.original)!r}" if d.section == MODINFO else ""
    return f"{name}{value}{inside}: {what}: no effect: {claim.why}"


class _Claims:
    def __init__(
        self,
        changes: Changes,
        closure: Closure | None,
        number: int,
        ignored: tuple[Refusal, ...],
        left: tuple[str, ...],
    ) -> None:
        self.changes, self.closure, self.number = changes, closure, number
        self.o, self.p, self.c = changes.original, changes.patched, changes.correlation
        self.left = frozenset(left)
        mine = [r for r in closure.refusals if r.place.startswith(f"{changes.place}:")] if closure is not None else []
        self.refused: dict[str, str] = {}
        self.refused_sections: dict[str, str] = {}
        self.against = [r for r in [*changes.refusals, *mine] if r.code != "K26-unaccounted"]
        for r in self.against:
            if r.symbol:
                self.refused.setdefault(r.symbol, r.code)
            if r.section and (not r.symbol or r.symbol == r.section or r.code in _OF_SECTIONS):
                self.refused_sections.setdefault(r.section, r.code)
        self.ignored = {r.symbol for r in ignored if r.symbol} | {r.section for r in ignored if not r.symbol}
        self.rules: dict[str, set[str]] = {}
        for n in changes.noise:
            self.rules.setdefault(n.function, set()).add(n.rule)
        self.changed = {c.patched.id for c in changes.changed}
        self.was_changed = {c.original.id for c in changes.changed}
        self.new = {a.id for a in changes.new}
        self.removed = {a.id for a in changes.removed}
        self.came_in: set[str] = set()
        self._comparer: Comparer | None = None

    def run(self, ledger: Ledger) -> Iterable[Claim]:
        self.came_in = {d.section for d in ledger.differences if d.kind == kinds.CAME}
        for d in ledger.differences:
            by, why, said = self._claim(d)
            yield Claim(d, by, why, said)

    # -- atoms at a place ---------------------------------------------------------------------------------------

    @staticmethod
    def _atom(view: View, place: Place | None) -> Atom | None:
        """The atom of a section that isn't of literals at a place."""
        if place is None:
            return None
        ids = view.in_section.get(place[0])
        if not ids:
            return None
        at = bisect.bisect_right(ids, place[1], key=lambda i: view.atoms[i].offset) - 1
        return view.atoms[ids[max(at, 0)]]

    def _atoms(self, d: Difference) -> tuple[Atom | None, Atom | None]:
        """What a difference is about in either object: what lies at its place or, where that has other names (what was
        one body and is two now), the one thing that has the name."""
        found = self._atom(self.o, d.before), self._atom(self.p, d.after)
        o, p = (self._named(view, atom, d.symbol) for view, atom in zip((self.o, self.p), found, strict=True))
        return o, p

    @staticmethod
    def _named(view: View, atom: Atom | None, name: str) -> Atom | None:
        if atom is None or not name or name in atom.names:
            return atom
        named = view.by_name.get(name, [])
        return named[0] if len(named) == 1 and named[0].kind == atom.kind else atom

    def _member(self, p: Atom | None) -> str:
        """The role that an atom of the patched object has in the module, "" for none."""
        if p is None or self.closure is None:
            return ""
        found = self.closure.members.get((self.number, p.id))
        return found.role if found is not None else ""

    def _taken(self, o: Atom | None, p: Atom | None) -> tuple[str, str] | None:
        """Whether a function or a piece of data is in the module: what to call that, and why."""
        if p is not None and p.kind == FUNCTION and self._is_replaced(o, p):
            return REPLACED, "a changed function"
        role = self._member(p)
        if role in ("changed", "pulled"):
            return REPLACED, f"a {role} function"
        if role in ("cold", "prefix"):
            return REPLACED, "a part of a function that is in the module"
        if role:
            return CARRIED, "comes along in the module"
        if self.closure is None and p is not None and p.id in self.new:
            return CARRIED, "a new function"
        return None

    def _is_replaced(self, o: Atom | None, p: Atom) -> bool:
        """Whether this very pair counts as changed; what is folded is changed for one name and not for another."""
        if p.id in self.changed and (o is None or o.id in self.was_changed):
            return True
        if is_cold(p):
            return any(parent.id in self.changed for parent in cold_parents(p, self.p))
        if is_prefix(p):
            names = {n.partition("_pfx_")[2] for n in p.names}
            return any(a.id in self.changed for n in names for a in self.p.by_name.get(n, ()))
        return False

    # -- claims -------------------------------------------------------------------------------------------------

    def _claim(self, d: Difference) -> tuple[str, str, bool]:
        o, p = self._atoms(d)
        names = {d.symbol, *(o.names if o is not None else ()), *(p.names if p is not None else ())} - {""}
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
        row = reader_of(d.section) if d.section else None
        if row is None:
            return None
        if not d.symbol and d.before is None and d.after is None and d.kind in (kinds.ALIGN, kinds.TYPE):
            return NO_EFFECT, "how a table or its literals were laid out when the kernel was linked", False
        if row.when == NEVER:
            return NO_EFFECT, f"{row.what}: read by {row.who} alone", False
        if row.when == LOADER and d.section == MODINFO:
            key = d.symbol.rpartition(".")[2]  # built-in code has the module's name before it
            # a parameter is told by its entry in __param
            return NO_EFFECT, f"{key} is {_MODINFO.get(key, 'shown by modinfo')}", key not in ("parm", "parmtype")
        if self._is_message(d, o, p):
            return NOISE, noise.PRINTK_INDEX, False
        if d.kind == kinds.ENTRIES:
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
                d.kind == kinds.WENT and bool(d.symbol),
            )
        if row.when == INIT and d.kind == kinds.CAME and self._is_data(p):
            return NO_EFFECT, "data of code that runs once, which is compared by itself", False
        return None

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
        if self._member(p):
            return CARRIED, "the patch module has it for itself", False
        if d.kind == kinds.WENT:
            return NO_EFFECT, f"{what}: read by {who}; what was there stays until the next boot or load", True
        if d.section in TEXTS:
            return NO_EFFECT, "text of a table's entries, which are compared by themselves", False
        if d.kind == kinds.ORDER:
            return NO_EFFECT, f"the order of {what}: read by {who}", True
        if d.kind == kinds.REFERENCE and (rule := self._judged(d)):
            return NOISE, rule, False
        if d.kind == kinds.ALIGN:
            return NO_EFFECT, f"the alignment of {what}: read by {who}", False
        return UNACCOUNTED, f"{what}: read by {who}, so that the new one takes no effect", False

    def _claim_entries(self, d: Difference, o: Atom | None, p: Atom | None) -> tuple[str, str, bool] | None:
        if d.section == PROBES and o is not None and p is not None:
            # whoever probes the function names the kernel's own body, which stays as it was
            return (
                UNACCOUNTED,
                "kprobes know the kernel's own function by its place, and it stays as it is there",
                False,
            )
        taken = self._taken(o, p)
        if taken is not None:
            return (*taken, False)
        if o is not None and p is None:
            if o.id in self.c.to_patched and o.id not in self.was_changed:
                return NOISE, SAME_BODY, False
            return NO_EFFECT, "belonged to a function that is gone", False
        if p is not None and o is None:
            if self.p.section_name(p).startswith(INIT_SECTIONS):
                return NO_EFFECT, "belongs to code that runs once", False
            if self._unfolded(p):
                return NOISE, SAME_BODY, False
            if d.section == "__patchable_function_entries":
                return NO_EFFECT, "a place before a function, which ftrace knows by __mcount_loc", False
            return None
        if p is None or o is None:
            return None
        if d.section == ".ibt_endbr_seal":
            return NO_EFFECT, "made for a kernel as a whole, and read when it booted", False
        if d.section == ".orc_unwind_ip":
            return NO_EFFECT, "how to unwind unchanged code: the kernel's own entries stay", True
        allowed = _LINE_TABLES.get(d.section, _MEANINGS)
        rules = self._rules_of(p) & allowed
        return (NOISE, " ".join(sorted(rules)), False) if rules else None

    def _rules_of(self, p: Atom) -> set[str]:
        return {rule for name in p.names for rule in self.rules.get(name.partition(".cold")[0], ())}

    def _claim_piece(self, d: Difference, o: Atom | None, p: Atom | None) -> tuple[str, str, bool] | None:
        """A function or a variable."""
        row = reader_of(d.section) if d.section else None
        if row is None or row.when not in (REFERRED, BORDERS, INIT, WITH_CODE):
            return None
        code = any(a is not None and view.section_of(a).executable for view, a in ((self.o, o), (self.p, p)))
        taken = self._taken(o, p)
        if d.kind == kinds.ORDER:
            return NO_EFFECT, "the order of what is referred to by symbols of its own", False
        if d.kind == kinds.ALIGN:
            return self._claim_alignment(d, o, p, code, taken)
        if taken is not None:
            return (*taken, False)
        if d.kind == kinds.WENT:
            what = "code" if code else "data"
            alone = code and not self.changed and not self.new
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
            return (NOISE, SAME_BODY, False) if self._unfolded(p) else None
        if self.closure is None and (self.changed or self.new):
            return CARRIED, "comes along where changed code refers to it", False
        return NO_EFFECT, "nothing that goes into the module refers to it", False

    def _unfolded(self, p: Atom) -> bool:
        """Whether a function shared its place with others, and has the body that it had there."""
        return p.kind == FUNCTION and p.id in self.c.to_original and p.id not in self.changed

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
        if not d.original or not d.patched:
            # what refers to it by that name is compared by place
            return NO_EFFECT, "another name of what stays as it is", False
        if code and o is not None and p is not None and self.c.paired(o.id, p.id):
            return NOISE, SAME_BODY, False
        return UNACCOUNTED, "other code goes on with what the name meant when the kernel was linked", False

    def _claim_move(self, d: Difference, o: Atom | None, p: Atom | None) -> tuple[str, str, bool] | None:
        del o, p
        if d.original in _PLAIN_TEXT and d.patched in _PLAIN_TEXT:
            return NOISE, noise.SECTION, False
        row = next((r for s in (d.patched, d.original) if (r := reader_of(s)) is not None and r.when == BORDERS), None)
        if row is not None:
            return UNACCOUNTED, f"{row.what}, known by the borders of {row.section} to {row.who}", False
        return None

    def _claim_content(self, d: Difference, o: Atom, p: Atom, code: bool) -> tuple[str, str, bool] | None:
        if code:
            if o.kind == ANON == p.kind:
                return self._claim_filler(p)
            if not self.c.paired(o.id, p.id):
                return None
            rules = self._rules_of(p) & _EXPLAINS[d.kind]
            if rules:
                return NOISE, " ".join(sorted(rules)), False
            if d.kind == kinds.REFERENCE and (rule := self._judged(d)):
                return NOISE, rule, False
            return None
        if d.kind == kinds.REFERENCE and (rule := self._judged(d)):
            return NOISE, rule, False
        if d.kind == kinds.CONTENT and self._is_line(o, p):
            return NOISE, noise.LINE_DATA, False
        if is_anonymous(self.p, p) or p.kind == ANON:
            return self._claim_constant(p)
        if is_stateless(self.p, p) and self.p.section_name(p) in DEBUG_SECTIONS and d.kind == kinds.CONTENT:
            return self._claim_line(d, o, p)
        return None

    def _is_line(self, o: Atom, p: Atom) -> bool:
        """Whether two locations of a sanitizer differ in nothing but the line."""
        if not self.c.lines or o.kind != ANON or p.kind != ANON:
            return False
        try:
            if not noise.is_location(self.o, o) or not noise.is_location(self.p, p):
                return False
            was, now = self.o.masked(o), self.p.masked(p)
        except Ambiguous:
            return False
        return was[:8] == now[:8] and was[12:] == now[12:]

    def _claim_constant(self, p: Atom) -> tuple[str, str, bool] | None:
        """A constant without an identity of its own that did not come along: whoever reads it must be replaced, or show
        it to people only."""
        if not self.p.is_const(p):
            return None
        shown = False
        for user in self._users(p):
            if user is None or not self._is_shown(user):
                taken = self._taken(None, user) if user is not None else None
                if taken is None:
                    return None
            else:
                shown = True
        why = "shown by dynamic debug only" if shown else "nothing that stays as it is reads it"
        return NO_EFFECT, why, False

    def _is_shown(self, user: Atom) -> bool:
        return is_stateless(self.p, user) and self.p.section_name(user) in DEBUG_SECTIONS

    def _users(self, p: Atom) -> Iterable[Atom | None]:
        """What refers to a piece of data of the patched object; None for what can't be followed."""
        for index in sorted(self.p.sections_referring_to({p.section}) | {p.section}):
            section = self.p.obj.sections[index]
            if self.p.is_table(section):
                continue
            for i in self.p.in_section.get(index, ()):
                try:
                    if any(r.atom == p.id for r in self.p.refs(self.p.atoms[i])):
                        yield self.p.atoms[i]
                except Ambiguous:
                    yield None

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
        words = [int.from_bytes(raw[at : at + 4], "little") & ~bits for raw in (was, now)]
        same = words[0] == words[1] and was[:at] == now[:at] and was[at + 4 :] == now[at + 4 :]
        return (NOISE, noise.LINE_DEBUG, False) if same else None

    def _judged(self, d: Difference) -> str:
        """The rule by which the differ has this one reference as the same, at this very place; "" where it has not."""
        o, p = self._atoms(d)
        if o is None or p is None or d.before is None or d.after is None:
            return ""
        try:
            left = [r for r in self.o.refs(o) if r.offset == d.offset + d.before[1] - o.offset]
            right = [r for r in self.p.refs(p) if r.offset == d.offset + d.after[1] - p.offset]
        except Ambiguous:
            return ""
        if len(left) != 1 or len(right) != 1:
            return ""
        if self._comparer is None:
            self._comparer = Comparer(self.c, self.changes.original_entries, self.changes.patched_entries)
        same, rules = self._comparer.judge(left[0], right[0])
        if not same:
            return ""
        text = self.p.atoms[right[0].atom].kind == STRING
        return " ".join(sorted(rules)) or (noise.CONSTANT if text else noise.STATIC_LOCAL)
