# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes that changed code makes and its original did not, to memory that the kernel can no longer write.

Constants are read-only, and what is marked __ro_after_init is so once the kernel, or the module that it is part of, has
started. A store there is a page fault in kernel mode: an oops. Seen are stores to such a variable by its name and by an
address that the same stretch of code loads, and what is given to well-known functions that write to their first
argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kgbuild.arch.base import Doing
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.diagnostics.warnings import READ_ONLY, ConsistencyWarning
from kgbuild.livepatch.address_uses import Seen, Uses, uses_in
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import DATA, FUNCTION, UNDEFINED, Ambiguous, Atom
from kgbuild.objects.symbol_kinds import is_init
from kgbuild.objects.view import View

if TYPE_CHECKING:
    from kgbuild.kernel.vmlinux_image import KernelImage

RO_AFTER_INIT = ".data..ro_after_init"
# What writes to its first argument, whatever the rest is: lib/string.c, lib/vsprintf.c, kernel/locking,
# kernel/jump_label.c, lib/refcount.c.
WRITERS = frozenset(
    (
        *(
            "memcpy",
            "memset",
            "memmove",
            "__memcpy",
            "__memset",
            "__memmove",
            "strcpy",
            "strncpy",
            "strscpy",
            "strlcpy",
        ),
        *("strcat", "strncat", "strlcat", "sprintf", "snprintf", "scnprintf", "vsnprintf", "vscnprintf"),
        *("mutex_lock", "mutex_lock_interruptible", "_raw_spin_lock", "_raw_spin_lock_irq", "_raw_spin_lock_irqsave"),
        *("_raw_spin_lock_bh", "down_read", "down_write", "static_key_enable", "static_key_disable"),
        *("static_key_slow_inc", "static_key_slow_dec", "refcount_dec_and_test", "__list_add_valid"),
    )
)


def find_read_only(closure: Closure, uses: Uses, image: KernelImage | None = None) -> list[ConsistencyWarning]:
    """New writes of changed, pulled and new functions to read-only data. `image` is vmlinux, where it is known; it
    tells of variables of other units."""
    out = []
    for key, member, view in uses.functions():
        unit = closure.units[key[0]]
        found = {
            name: seen
            for seen, name in _writes(unit, view, uses.of(key), closure, key[0], image)
            if not is_init(view, member.atom)
        }
        if not found:
            continue
        before = _written_before(unit, member.atom)
        for name, seen in sorted(found.items()):
            if name in before:
                continue
            how = f"by way of {seen.callee}" if seen.callee else "directly"
            fact = f"{member.atom.name} writes {name}, which is read-only once {_what(unit)} has started"
            evidence = (f"{member.atom.name}+{seen.offset:#x}: writes {name} {how}",)
            out.append(ConsistencyWarning(READ_ONLY, member.atom.name, unit.source, unit.target, fact, evidence))
    return out


def _what(unit: UnitResult) -> str:
    return "the kernel" if unit.target == VMLINUX else unit.target


def _is_write(seen: Seen) -> bool:
    return seen.doing == Doing.WRITE or (seen.doing == Doing.PASS and seen.argument == 0 and seen.callee in WRITERS)


def _writes(
    unit: UnitResult, view: View, uses: list[Seen], closure: Closure, number: int, image: KernelImage | None
) -> Iterator[tuple[Seen, str]]:
    """Uses that write read-only data of the kernel, with its name."""
    for seen in uses:
        atom = view.atoms[seen.ref.atom]
        if not _is_write(seen) or atom.kind not in (DATA, UNDEFINED):
            continue
        if atom.kind == DATA:
            if (number, atom.id) not in closure.members and _is_read_only(view, atom):
                yield seen, atom.name
        elif image is not None and (number, atom.id) not in closure.defined:
            bound = closure.bound.get((number, atom.id))
            if bound is not None and bound.object in ("", VMLINUX):
                places = [bound.address] if bound.address else [s.value for s in image.named(bound.name)]
                if len(places) == 1 and in_read_only(image, places[0]):
                    yield seen, atom.name


def _is_read_only(view: View, atom: Atom) -> bool:
    section = view.section_of(atom)
    return section.name.startswith(RO_AFTER_INIT) or (not section.writable and not section.executable)


def in_read_only(image: KernelImage, address: int) -> bool:
    """Whether an address of vmlinux is in what mark_rodata_ro() protects (include/asm-generic/vmlinux.lds.h)."""
    begin, end = image.named("__start_rodata"), image.named("__end_rodata")
    return len(begin) == 1 == len(end) and begin[0].value <= address < end[0].value


def _written_before(unit: UnitResult, patched: Atom) -> set[str]:
    """Names of what the function's original writes, in both its halves and in what it calls of the unit, which may be
    part of it now."""
    view, out = unit.changes.orig, set()
    seen: set[int] = set()
    halves = [n for name in patched.names for n in (name.removesuffix(".cold"), f"{name.removesuffix('.cold')}.cold")]
    todo = [*unit.changes.correlation.to_original.get(patched.id, ())]
    todo += [a.id for name in halves for a in view.by_name.get(name, ())]
    called: list[int] = []
    for number in todo:
        out |= _written_by(view, view.atoms[number], seen, called)
    for number in called:
        out |= _written_by(view, view.atoms[number], seen, [])
    return out


def _written_by(view: View, atom: Atom, seen: set[int], called: list[int]) -> set[str]:
    """Names of what one function writes; those that it refers to are added to `called`."""
    if atom.id in seen or atom.kind != FUNCTION:
        return set()
    seen.add(atom.id)
    try:
        refs = view.refs(atom)
    except Ambiguous:
        return set()
    called += [r.atom for r in refs if view.atoms[r.atom].kind == FUNCTION]
    return {view.atoms[s.ref.atom].name for s in uses_in(view, atom, refs) if _is_write(s)}
