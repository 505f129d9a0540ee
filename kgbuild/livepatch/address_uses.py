# SPDX-License-Identifier: GPL-2.0-or-later
"""What the code of a patch does with the addresses it refers to, for the warnings that ask for that.

The code of each member is read once, when it is first asked for. How far an address is followed:
arch/x86_64/address_uses.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kgbuild.arch.base import Doing
from kgbuild.closure.model import Closure, Member, MemberKey
from kgbuild.objects.atoms import FUNCTION, Ambiguous, Atom, Ref
from kgbuild.objects.view import View

# Functions that have done with what they are given when they return, or (on other CPUs) microseconds later: lib/sort.c,
# lib/list_sort.c, lib/bsearch.c,
# kernel/stop_machine.c, drivers/base, drivers/pci/bus.c, lib/idr.c, mm/pagewalk.c, mm/memory.c, mm/rmap.c, fs/file.c,
# fs/super.c, kernel/kallsyms.c, kernel/workqueue.c, kernel/smp.c, kernel/sched/wait_bit.c.
FINISHED = frozenset(
    (
        *("sort", "sort_r", "sort_nonatomic", "sort_r_nonatomic", "list_sort", "bsearch"),
        *("stop_machine", "stop_machine_cpuslocked", "stop_one_cpu", "work_on_cpu", "work_on_cpu_key"),
        *("smp_call_function", "smp_call_function_single", "smp_call_function_many", "smp_call_function_any"),
        *("smp_call_on_cpu", "on_each_cpu_cond_mask", "bus_for_each_dev", "bus_find_device", "bus_for_each_drv"),
        *("driver_for_each_device", "driver_find_device", "class_for_each_device", "class_find_device"),
        *("device_for_each_child", "device_for_each_child_reverse", "device_find_child", "pci_walk_bus"),
        *("idr_for_each", "walk_page_range", "walk_page_vma", "walk_page_mapping", "apply_to_page_range", "rmap_walk"),
        *("iterate_fd", "iterate_supers", "iterate_supers_type", "kallsyms_on_each_symbol"),
        *("out_of_line_wait_on_bit", "out_of_line_wait_on_bit_lock", "__wait_on_bit", "__wait_on_bit_lock"),
        *("_printk", "printk", "seq_printf", "snprintf", "scnprintf", "sprintf", "vsnprintf", "kasprintf"),
        *("_dev_err", "_dev_warn", "_dev_info", "__warn_printk", "seq_puts", "seq_write"),
        *("memcmp", "strcmp", "strncmp", "strlen", "strnlen", "strstr", "strchr", "strcasecmp", "strscpy", "strlcpy"),
        *("mutex_lock", "mutex_unlock", "mutex_trylock", "mutex_lock_interruptible", "down_read", "up_read"),
        *(
            "down_write",
            "up_write",
            "_raw_spin_lock",
            "_raw_spin_unlock",
            "_raw_spin_lock_irq",
            "_raw_spin_lock_irqsave",
        ),
        *("_raw_spin_unlock_irq", "_raw_spin_unlock_irqrestore", "_raw_spin_lock_bh", "_raw_spin_unlock_bh"),
        *("_raw_spin_trylock", "_raw_read_lock", "_raw_read_unlock", "_raw_write_lock", "_raw_write_unlock"),
        *("del_timer", "del_timer_sync", "timer_delete", "timer_delete_sync", "timer_shutdown_sync"),
        *("cancel_work", "cancel_work_sync", "cancel_delayed_work", "cancel_delayed_work_sync", "flush_work"),
        *("kfree", "static_key_count", "static_key_enable", "static_key_disable", "___ratelimit"),
    )
)


# What a function jumps to instead of returning (CONFIG_RETHUNK).


class Seen(NamedTuple):
    """One use of an address by a function: the reference, what is done, at which offset, and which function that
    address is given to, "" where it is given to none."""

    ref: Ref
    doing: Doing
    offset: int
    callee: str = ""
    argument: int = -1


def uses_in(view: View, atom: Atom, refs: Iterable[Ref]) -> Iterator[Seen]:
    """What a function does with the addresses in some of its references. A jump within it gives nothing to anyone."""
    wanted = {r.offset: r for r in refs}
    if not wanted:
        return
    names = {r.offset: view.atoms[r.atom].name for r in view.refs(atom) if r.delta == 0}
    for use in view.arch.uses_of(view.content(atom), wanted):
        if use.doing == Doing.RETURN:
            if use.call < 0 or names.get(use.call, "") == view.arch.return_thunk:
                yield Seen(wanted[use.field], use.doing, use.offset)
        elif use.doing != Doing.PASS:
            yield Seen(wanted[use.field], use.doing, use.offset)
        elif use.call in names:
            yield Seen(wanted[use.field], use.doing, use.offset, names[use.call], use.argument)


def arguments_kept(view: View, atom: Atom, number: int, keepers: Mapping[str, int]) -> bool:
    """Whether a function stores its argument `number` somewhere but on the stack, or hands it to one that keeps it.

    keepers   functions elsewhere that keep an argument, and which
    Functions of the same object are followed. Code that can't be read keeps nothing.
    """
    todo, done = [(atom, number)], set()
    while todo:
        function, at = todo.pop()
        if (function.id, at) in done:
            continue
        done.add((function.id, at))
        try:
            names = {r.offset: view.atoms[r.atom].name for r in view.refs(function) if r.delta == 0}
        except Ambiguous:
            continue
        # the call of ftrace at the beginning leaves all registers as they are
        start = next((offset + 4 for offset, name in names.items() if name == "__fentry__"), 0)
        for use in view.arch.argument_uses(view.content(function), at, start):
            if use.doing == Doing.STORE:
                return True
            callee = names.get(use.call, "") if use.doing == Doing.PASS else ""
            if callee in keepers and keepers[callee] == use.argument:
                return True
            todo.extend(
                (a, use.argument) for a in view.by_name.get(callee, ()) if a.kind == FUNCTION and a.section >= 0
            )
    return False


class Uses:
    """The uses of all members' code."""

    def __init__(self, closure: Closure) -> None:
        self.closure = closure
        self._seen: dict[MemberKey, list[Seen]] = {}

    def functions(self) -> Iterator[tuple[MemberKey, Member, View]]:
        """The members that are code of functions."""
        for key, member in sorted(self.closure.members.items()):
            if member.atom.kind == FUNCTION and member.role != "prefix":
                yield key, member, self.closure.units[key[0]].changes.patched

    def of(self, key: MemberKey) -> list[Seen]:
        """What a function of the patch does with every address that it refers to."""
        if key not in self._seen:
            view, atom = self.closure.units[key[0]].changes.patched, self.closure.members[key].atom
            try:
                self._seen[key] = list(uses_in(view, atom, view.refs(atom)))
            except Ambiguous:  # refused where it is followed
                self._seen[key] = []
        return self._seen[key]

    def means(self, unit: int, ref: Ref) -> MemberKey:
        """What a reference means: the member that an undefined symbol refers to, else the atom itself."""
        return self.closure.defined.get((unit, ref.atom), (unit, ref.atom))
