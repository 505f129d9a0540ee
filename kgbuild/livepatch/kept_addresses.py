# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses in the patch module that the kernel is left with.

A pointer to a function that the patch brings (a timer's, a callback of RCU, of a notifier, the function of a thread)
may be stored or handed to the kernel. When the patch is disabled, nothing takes the pointer back; when the module is
unloaded, it leads nowhere. The same is true of data of the patch that holds such a pointer, and of a text that the
kernel keeps as a name (KEEPERS), or that is stored, returned, or given to a function of the unit that stores it: one
that is new, or a copy (closure/kernel_literals.py). The address of a copy is another than that of the text which
unpatched code has, so that code which compares it is told of too. What is only compared otherwise, only called, kept
on the stack, or given to a function that has done with it when it returns (uses.FINISHED) is no such case. Pointers to
functions that are replaced are the kernel's own, and callbacks that the author declares are called by the kernel's
livepatch code alone.

A new static variable of built-in code lies in a module's memory: it has no page in the kernel's direct mapping, so that
__pa(), virt_to_page() and sg_set_buf() go wrong with it, and no DMA reaches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kgbuild.arch.base import Doing
from kgbuild.closure.model import Closure, Member, MemberKey
from kgbuild.diagnostics.warnings import HANDED, VMALLOC, ConsistencyWarning
from kgbuild.livepatch.address_uses import FINISHED, Seen, Uses, arguments_kept
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, STRING, Ambiguous
from kgbuild.objects.symbol_kinds import PARAMETERS, is_branch
from kgbuild.objects.view import View

# The base that __pa() adds for addresses of the kernel's image (arch/x86/include/asm/page_64.h).
_BASES = frozenset(("phys_base",))
# What makes a page or a bus address of an address, or asks in which memory it is: lib/scatterlist.c, arch/x86/mm,
# kernel/dma/mapping.c, drivers/usb/core/message.c (data of a transfer must be able to do DMA), mm/util.c, drivers/spi.
CONVERTERS = frozenset(
    (
        *("sg_init_one", "__phys_addr", "__phys_addr_symbol", "__virt_addr_valid", "dma_map_single_attrs"),
        *("usb_control_msg", "usb_bulk_msg", "usb_interrupt_msg", "kfree_const", "core_kernel_data"),
    )
)

# What keeps a pointer to a text that it is given, and which argument that is: kernel/irq, kernel/resource.c,
# drivers/pci/pci.c, drivers/base/class.c, kernel/cpu.c.
KEEPERS = {
    "request_threaded_irq": 4,
    "request_any_context_irq": 3,
    "__request_percpu_irq": 3,
    "devm_request_threaded_irq": 5,
    "devm_request_any_context_irq": 4,
    "__request_region": 3,
    "__devm_request_region": 4,
    "pci_request_region": 2,
    "pci_request_regions": 1,
    "__class_create": 1,
    "class_create": 0,
    "__cpuhp_setup_state": 1,
}


# What is on the stack is gone before the patch is: no task is in the function then.
_HARMLESS = frozenset((Doing.COMPARE, Doing.INDEX, Doing.WRITE, Doing.READ, Doing.STACK))


def find_kept_texts(closure: Closure, uses: Uses) -> list[ConsistencyWarning]:
    """Texts in the patch module that the kernel keeps as the name of something."""
    found = []
    for key, member, view in uses.functions():
        unit = closure.units[key[0]]
        for seen in uses.of(key):
            text = closure.members.get((key[0], seen.ref.atom))
            if text is None or text.atom.kind not in (STRING, DATA) or (*key, seen.ref.offset) in closure.literals:
                continue
            if not view.is_const(text.atom):
                continue
            name = view.content(text.atom)[seen.ref.delta :].partition(b"\0")[0].decode("utf-8", "replace")
            told = _what_becomes(view, member, seen, repr(name), text.atom.kind == STRING)
            if told is None:
                continue
            fact, how = told
            place = f"{member.atom.name}+{seen.offset:#x}: {how}"
            found.append(ConsistencyWarning(HANDED, member.atom.name, unit.source, unit.target, fact, (place,)))
    return found


def _what_becomes(view: View, member: Member, seen: Seen, name: str, literal: bool) -> tuple[str, str] | None:
    """What a function does with the address of a text of the patch module that may outlive the module, or that may be
    meant to be the one that unpatched code has: as a sentence, and in short; None for nothing of the kind."""
    who = member.atom.name
    if literal and seen.doing == Doing.STORE:
        return f"{who} stores a pointer to {name}, a text in the patch module", "stores it"
    if literal and seen.doing == Doing.RETURN:
        return f"{who} returns a pointer to {name}, a text in the patch module", "returns it"
    if literal and seen.doing == Doing.COMPARE:
        fact = f"{who} compares a pointer with that to {name}, a text in the patch module; unpatched code has another"
        return fact, "compares it"
    if seen.doing == Doing.PASS and _keeps(view, seen):
        return f"{seen.callee} keeps a pointer to {name}, a text in the patch module", f"passes it to {seen.callee}"
    return None


def _keeps(view: View, seen: Seen) -> bool:
    """Whether the function that a text is given to keeps a pointer to it: one that is known to, or one of the unit that
    stores it."""
    if seen.callee in KEEPERS:
        return KEEPERS[seen.callee] == seen.argument
    own = [a for a in view.by_name.get(seen.callee, ()) if a.kind == FUNCTION and a.section >= 0]
    return len(own) == 1 and arguments_kept(view, own[0], seen.argument, KEEPERS)


def find_handed_out(closure: Closure, uses: Uses) -> list[ConsistencyWarning]:
    """New functions, and data of the patch that holds pointers to them, of which changed code hands the address out."""
    targets = {
        key: m
        for key, m in closure.members.items()
        if m.atom.kind == FUNCTION and m.role in ("new", "carried") and not m.atom.name.startswith("__pfx_")
    }
    holders = _holders(closure, uses, targets)
    out: dict[MemberKey, list[str]] = {}
    thunks: dict[tuple[int, str], list[str]] = {}
    for key, member, view in uses.functions():
        fields: dict[int, list[Seen]] = {}
        for seen in uses.of(key):
            fields.setdefault(seen.ref.offset, []).append(seen)
        for found in fields.values():
            ref = found[0].ref
            meant = uses.means(key[0], ref)
            bound = closure.bound.get((key[0], ref.atom))
            what = _kept(found, data=meant in holders)
            if not what or is_branch(view, member.atom, ref):
                continue
            if meant in holders:
                for target in holders[meant]:
                    name = closure.members[meant].atom.name or "unnamed data"
                    out.setdefault(target, []).append(
                        f"{_place(member, ref.offset)}: {what.format(name)}, which points to it"
                    )
            elif meant in targets and ref.delta == 0:
                out.setdefault(meant, []).append(f"{_place(member, ref.offset)}: {what.format('it')}")
            elif bound is not None and bound.symbol in closure.thunks and ref.delta == 0:
                thunks.setdefault((key[0], bound.name), []).append(f"{_place(member, ref.offset)}: {what.format('it')}")
    return [*_warnings(closure, targets, out), *_of_thunks(closure, thunks)]


def _warnings(
    closure: Closure, targets: dict[MemberKey, Member], out: dict[MemberKey, list[str]]
) -> Iterator[ConsistencyWarning]:
    for key, places in sorted(out.items()):
        unit, name = closure.units[key[0]], targets[key].atom.name
        fact = f"the address of {name}, a function of the patch module, is handed out ({places[0]})"
        yield ConsistencyWarning(HANDED, name, unit.source, unit.target, fact, tuple(dict.fromkeys(places)))


def _of_thunks(closure: Closure, thunks: dict[tuple[int, str], list[str]]) -> Iterator[ConsistencyWarning]:
    for (number, name), places in sorted(thunks.items()):
        unit = closure.units[number]
        fact = (
            f"the address of a thunk in the patch module that is called in place of {name} is handed out ({places[0]})"
        )
        yield ConsistencyWarning(HANDED, name, unit.source, unit.target, fact, tuple(dict.fromkeys(places)))


def _place(member: Member, offset: int) -> str:
    return f"{member.atom.name}+{offset:#x}"


def _kept(found: Iterable[Seen], *, data: bool) -> str:
    """What is done with an address that may leave a pointer behind, in words with a place for its name; "" where
    nothing is."""
    doings = {s.doing for s in found}
    passed = [s for s in found if s.doing == Doing.PASS]
    keeping = [s.callee for s in passed if s.callee not in FINISHED]
    if keeping:
        return f"passes {{}} to {keeping[0] or 'another function'}"
    if Doing.STORE in doings:
        return "stores the address of {}"
    if data and Doing.READ in doings:
        return "copies from {}"
    if Doing.ADDRESS in doings and not passed and not doings & _HARMLESS:
        return "takes the address of {}"
    return ""


def _holders(closure: Closure, uses: Uses, targets: dict[MemberKey, Member]) -> dict[MemberKey, set[MemberKey]]:
    """Data of the patch that holds the address of a function of the patch, itself or by way of other such data."""
    points: dict[MemberKey, set[MemberKey]] = {}
    for key, member in sorted(closure.members.items()):
        view = closure.units[key[0]].changes.patched
        if member.atom.kind not in (DATA, ANON) or _is_code_or_table(view, member):
            continue
        try:
            points[key] = {uses.means(key[0], r) for r in view.refs(member.atom)}
        except Ambiguous:
            continue
    out = {key: led & targets.keys() for key, led in points.items()}
    changed = True
    while changed:
        changed = False
        for key, led in points.items():
            more = set().union(*(out[k] for k in led if k in out)) - out[key] if led else set()
            if more:
                out[key] = out[key] | more
                changed = True
    return {key: led for key, led in out.items() if led}


def _is_code_or_table(view: View, member: Member) -> bool:
    """Whether an atom is no plain data: tables of jumps hold places inside functions, and the kernel forgets a module's
    parameters with the module."""
    section = view.section_of(member.atom)
    return section.executable or section.name == PARAMETERS or member.atom.name.startswith("__param_")


# -- new data in a module's memory -------------------------------------------------------------------------------------


def find_converted(closure: Closure, uses: Uses) -> list[ConsistencyWarning]:
    """New data of built-in code whose address is made a physical one, or that of a page."""
    out: dict[MemberKey, list[str]] = {}
    for key, member, view in uses.functions():
        if closure.units[key[0]].target != VMLINUX:
            continue
        converts: bool | None = None
        for seen in uses.of(key):
            meant = uses.means(key[0], seen.ref)
            data = closure.members.get(meant)
            if (
                data is None
                or data.atom.kind not in (DATA, STRING, ANON)
                or (key[0], key[1], seen.ref.offset) in closure.literals
            ):
                continue
            place = f"{member.atom.name}+{seen.offset:#x}"
            if seen.doing == Doing.PASS and seen.callee in CONVERTERS:
                out.setdefault(meant, []).append(f"{place}: passes it to {seen.callee}")
            elif seen.doing == Doing.COMPUTE or (
                seen.doing == Doing.ADDRESS and not 0 <= seen.ref.delta <= data.atom.size
            ):
                if converts is None:
                    names = {view.atoms[r.atom].name for r in view.refs(member.atom)}
                    converts = bool(names & _BASES)
                if converts:
                    out.setdefault(meant, []).append(f"{place}: computes a physical address or a page from it")
    found = []
    for key, places in sorted(out.items()):
        unit, data = closure.units[key[0]], closure.members[key]
        view = unit.changes.patched
        name = data.atom.name or f"unnamed data in {view.section_name(data.atom)}"
        fact = f"{name} lies in the patch module, not in the kernel's image ({places[0]})"
        function = places[0].partition("+")[0]
        found.append(
            ConsistencyWarning(VMALLOC, function, unit.source, unit.target, fact, tuple(dict.fromkeys(places)))
        )
    return found
