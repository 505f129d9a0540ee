# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's consistency model can't do for a patch: warnings, each with what it was seen by.

A live patch takes effect task by task, once no function that is replaced lies on the task's stack. A function that
never leaves a stack holds the transition up for ever; one that runs in an NMI runs in whatever state the interrupted
task has; code that the stack check does not look at can be freed in use. No patch is refused for it: the module is
right, but may not do what its author expects. The rules are the table RULES; how the kernel checks a stack is in
klp_check_stack() and klp_try_switch_task() (kernel/livepatch/transition.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Protocol

from kgbuild.arch import nmi_entries, return_thunks
from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.model import CallGraph, Edge
from kgbuild.diagnostics.warnings import NMI, NOINSTR, PATCHED, STACK, UNREAD, ConsistencyWarning
from kgbuild.livepatch.cumulative import Patched
from kgbuild.livepatch.foreign_patches import OtherPatch

# What starts a thread; the function it is to run is the first argument. kernel/kthread.c, kernel/fork.c.
CREATORS = (
    "kthread_create_on_node",
    "__kthread_create_on_node",
    "kthread_create_on_cpu",
    "kernel_thread",
    "user_mode_thread",
    "create_io_thread",
    "vhost_task_create",
)
# Functions that some task is always in, with why. Who calls one directly is in the same place.
ANCHORS = {
    "__schedule": "every task that sleeps stands in it, and kernel threads do nothing else for long",
    "do_task_dead": "a task that has ended stands in it until it is reaped",
    "do_idle": "the idle tasks stand in it as long as their CPU is on",
}
# What puts a task to sleep until something happens. kernel/sched, kernel/time.
SLEEPERS = frozenset(
    (
        "schedule",
        "schedule_timeout",
        "schedule_timeout_interruptible",
        "schedule_timeout_uninterruptible",
        "schedule_timeout_killable",
        "schedule_timeout_idle",
        "schedule_hrtimeout",
        "schedule_hrtimeout_range",
    )
)
# What a call can't sleep in, and what leads everywhere: messages, the end of the machine. kernel/printk,
# kernel/panic.c, lib/ubsan.c, drivers/base/core.c, net/core/dev.c, lib/dynamic_debug.c, mm/util.c,
# include/linux/fortify-string.h.
AWAKE = frozenset(
    (
        "_printk",
        "_printk_deferred",
        "printk",
        "__warn_printk",
        "warn_slowpath_fmt",
        "dump_stack",
        "panic",
        "fortify_panic",
        "__fortify_panic",
        "__stack_chk_fail",
        "usercopy_abort",
        "___ratelimit",
        "show_regs",
        "__printk_cpu_sync_try_get",
        "__printk_cpu_sync_put",
        "refcount_warn_saturate",
        "_dev_emerg",
        "_dev_alert",
        "_dev_crit",
        "_dev_err",
        "_dev_warn",
        "_dev_notice",
        "_dev_info",
        "netdev_err",
        "netdev_warn",
        "netdev_notice",
        "netdev_info",
        "__fentry__",
    )
)
_AWAKE_PREFIXES = ("__ubsan_handle_", "__dynamic_", "__sanitizer_")
NMI_REGISTER = "__register_nmi_handler"
NMI_DEPTH = 3
_MANY = 32  # callers looked at for it
_TAILS = 3  # tail jumps followed back from a function to the loop of a thread


class CallerGraph(CallGraph, Protocol):
    """A call graph that also says which data a function takes the address of."""

    def uses(self, number: int) -> list[str]:
        """Names of the data with function pointers whose address a function takes."""
        ...


@dataclass(frozen=True)
class Thread:
    """A function handed to what creates a thread: where its address is taken, where it is handed over, to whom."""

    taken: Edge
    creation: Edge


def thread_functions(graph: CallGraph) -> dict[int, Thread]:
    """Every function that is run as a thread by its address: by number, with the first place where that is seen.

    The register of a first argument does not survive a call, so what is handed over is the last address taken before
    the call that creates the thread, with no other call between. Threads whose function comes out of data are not seen.
    """
    found: dict[int, Thread] = {}
    for name in CREATORS:
        for creator in graph.functions_named(name):
            for creation in graph.callers(creator.id):
                if creation.kind not in (EdgeKind.CALL, EdgeKind.TAIL_CALL):
                    continue
                taken = _handed_over(graph.callees(creation.caller), creation)
                if taken is not None:
                    found.setdefault(taken.callee, Thread(taken, creation))
    return found


def _handed_over(edges: Sequence[Edge], creation: Edge) -> Edge | None:
    last: Edge | None = None
    for edge in edges:
        if edge.offset >= creation.offset:
            break
        if edge.kind is EdgeKind.ADDRESS_TAKEN:
            last = edge if edge.delta == 0 else None
        elif edge.kind is not EdgeKind.SPLIT:
            last = None
    return last


class Consistency:
    """Questions about single functions, answered from the call graph. `noinstr` are the functions in noinstr code and
    in the entries, by number (Index.noinstr)."""

    def __init__(self, graph: CallerGraph, noinstr: Iterable[int] = ()) -> None:
        self.graph, self.noinstr = graph, frozenset(noinstr)
        self.threads = thread_functions(graph)
        self._named = cache(self._numbers)
        self._nmi: dict[int, int | None] | None = None
        self._called: dict[int, list[Edge]] | None = None

    def check(self, number: int) -> list[ConsistencyWarning]:
        """What stands against relying on the transition for one function of the graph."""
        return [*self._stack(number), *self._nmi_reaches(number), *self._from_noinstr(number)]

    def _numbers(self, name: str) -> frozenset[int]:
        return frozenset(f.id for f in self.graph.functions_named(name))

    def _warning(self, code: str, number: int, fact: str, *evidence: str) -> ConsistencyWarning:
        f = self.graph.function(number)
        return ConsistencyWarning(code, f.name, f.unit, f.object, fact, evidence)

    # -- what never leaves a stack

    def _stack(self, number: int) -> Iterable[ConsistencyWarning]:
        name = self.graph.function(number).name
        thread = self._thread(number)
        if thread is not None:
            fact = f"{name} is the function of a kernel thread: its task stands in it as long as the thread lives"
            yield self._warning(STACK, number, fact, *thread)
            return
        for anchor, why in ANCHORS.items():
            numbers = self._named(anchor)
            if number in numbers:
                yield self._warning(STACK, number, f"{name}: {why}", f"{anchor} by its name")
                return
            calls = [e for e in self.graph.callees(number) if e.callee in numbers and e.kind.runs]
            if calls:
                fact = f"{name} calls {anchor}: {why}"
                yield self._warning(STACK, number, fact, *(self._place(e) for e in calls[:3]))
                return
        yield from self._sleeps(number, name)

    def _thread(self, number: int) -> tuple[str, ...] | None:
        """How a function is seen to be the loop of a thread: itself, or by tail jumps from such a function."""
        evidence: list[str] = []
        for _ in range(_TAILS + 1):
            thread = self.threads.get(number)
            if thread is not None:
                return (self._place(thread.taken), self._place(thread.creation), *reversed(evidence))
            # the loop of a thread has one way in; what many call is none
            tails = [e for e in self.graph.callers(number, _MANY) if e.kind is EdgeKind.TAIL_CALL and e.delta == 0]
            ways = [e for e in tails if self.graph.function(e.caller).object == self.graph.function(number).object]
            if len(ways) != 1:
                return None
            evidence.append(self._place(ways[0]))
            number = ways[0].caller
        return None

    def _sleeps(self, number: int, name: str) -> Iterable[ConsistencyWarning]:
        """A function that the loop of a thread calls, and that sleeps itself: asleep, the thread is always in it."""
        asleep = [
            e
            for e in self.graph.callees(number)
            if e.kind in (EdgeKind.CALL, EdgeKind.TAIL_CALL) and self.graph.function(e.callee).name in SLEEPERS
        ]
        if not asleep:
            return
        from_threads = [e for e in self.graph.callers(number) if e.kind is EdgeKind.CALL and e.caller in self.threads]
        if from_threads:
            loops = list(dict.fromkeys(self.graph.function(e.caller).name for e in from_threads))
            more = f" and {len(loops) - 3} more" if len(loops) > 3 else ""
            who = f"{', '.join(loops[:3])}{more}"
            fact = f"{name} is where kernel threads sleep ({who}): they may never be seen outside it"
            yield self._warning(STACK, number, fact, self._place(from_threads[0]), self._place(asleep[0]))

    # -- NMI and noinstr

    def _nmi_roots(self) -> list[int]:
        roots = [n for name in nmi_entries() for n in sorted(self._named(name))]
        registering = {
            e.caller for r in sorted(self._named(NMI_REGISTER)) for e in self.graph.callers(r) if e.kind.runs
        }
        for caller in sorted(registering):
            # register_nmi_handler() makes `static struct nmiaction FN_na` and hands that over
            for name in self.graph.uses(caller):
                handler, is_action, _ = _unnumbered(name).rpartition("_na")
                for number in sorted(self._named(handler)) if is_action else ():
                    if any(taker.name == name for taker in self.graph.address_takers(number)):
                        roots.append(number)
        return roots

    def _nmi_reaches(self, number: int) -> Iterable[ConsistencyWarning]:
        if self._nmi is None:
            self._nmi = _reached(self.graph, self._nmi_roots(), NMI_DEPTH)
        if number not in self._nmi:
            return
        chain = [number]
        while (before := self._nmi[chain[-1]]) is not None:
            chain.append(before)
        names = [self.graph.function(n).name for n in reversed(chain)]
        how = f"runs in NMI context ({' -> '.join(names)})" if len(names) > 1 else "is where NMI code begins"
        fact = f"{names[-1]} {how}: old or new by the task that is interrupted"
        yield self._warning(NMI, number, fact, *self._chain_places(list(reversed(chain))))

    def _chain_places(self, chain: list[int]) -> Iterable[str]:
        for caller, callee in pairwise(chain):
            edge = next(e for e in self.graph.callees(caller) if e.callee == callee and e.kind.runs)
            yield self._place(edge)

    def _from_noinstr(self, number: int) -> Iterable[ConsistencyWarning]:
        if self._called is None:
            self._called = {}
            for edge in (e for n in self.noinstr for e in self.graph.callees(n) if e.kind.runs):
                self._called.setdefault(edge.callee, []).append(edge)
        edges = self._called.get(number, [])
        if edges and number not in self.noinstr:
            name = self.graph.function(number).name
            callers = list(dict.fromkeys(self.graph.function(e.caller).name for e in edges))
            fact = f"{name} is called from noinstr code ({', '.join(callers[:3])})"
            yield self._warning(NOINSTR, number, fact, *(self._place(e) for e in edges[:3]))

    def _place(self, edge: Edge) -> str:
        caller, callee = self.graph.function(edge.caller), self.graph.function(edge.callee)
        where = "" if caller.in_vmlinux else f" [{caller.object}]"
        return f"{caller.name}+{edge.offset:#x}{where}: {edge.kind.label} of {callee.name}"


def stays_awake(name: str) -> bool:
    """Whether a function is one of the well-known ones that never sleep (AWAKE)."""
    return name in AWAKE or name.startswith((*_AWAKE_PREFIXES, *return_thunks()))


def _unnumbered(name: str) -> str:
    """A name of data without the number that gcc gives static ones (`x_na.0`)."""
    stem, dot, number = name.rpartition(".")
    return stem if dot and number.isdigit() else name


def _reached(graph: CallGraph, roots: Iterable[int], depth: int) -> dict[int, int | None]:
    """Functions reached from `roots` over at most `depth` calls, each with the one before it on a shortest way. What
    messages and the end of the machine reach is left out."""
    before: dict[int, int | None] = dict.fromkeys(roots)
    frontier = list(before)
    for _ in range(depth):
        following = []
        for number in frontier:
            if stays_awake(graph.function(number).name):
                continue
            for edge in graph.callees(number):
                if edge.kind.runs and edge.callee not in before:
                    before[edge.callee] = number
                    following.append(edge.callee)
        frontier = following
    return before


def check_against(
    functions: Mapping[Patched, str], others: Sequence[OtherPatch], release: str, *, replace: bool
) -> list[ConsistencyWarning]:
    """Functions that other live patches replace as well.

    `functions` are those of this patch, each with its unit; `release` the kernel's, which vermagic begins with;
    `replace`: this patch takes back the others when it is loaded (atomic replace).
    """
    out = []
    for other in others:
        made_for = other.vermagic.partition(" ")[0]
        if other.functions is None:
            out.append(ConsistencyWarning(UNREAD, "", "", "", f"{other.name}: {other.unread}", (other.name,)))
            continue
        if made_for and made_for != release:
            # it can't be loaded beside this patch, so nothing that it replaces matters
            fact = f"{other.name} was made for {made_for}, not for {release}; it is not looked at any further"
            out.append(ConsistencyWarning(UNREAD, "", "", "", fact, (f"vermagic of {other.name}",)))
            continue
        known = {(f.object, f.name): f for f in other.functions}
        both = []
        for own, unit in sorted(functions.items()):
            found = known.get((own.object, own.name))
            if found is None or (found.sympos != own.sympos and found.sympos and own.sympos):
                continue
            both.append(found)
            fact = f"{other.name} patches {own.name} too; this patch was made from the source without that change"
            out.append(
                ConsistencyWarning(PATCHED, own.name, unit, own.object, fact, (f"table of functions of {other.name}",))
            )
        taken_back = [f.name for f in other.functions if f not in both]
        if replace and taken_back:
            more = f" and {len(taken_back) - 6} more" if len(taken_back) > 6 else ""
            fact = f"{other.name} is taken back by this one, and with it its {', '.join(taken_back[:6])}{more}"
            out.append(ConsistencyWarning(PATCHED, "", "", "", fact, ("atomic replace; --no-replace keeps it",)))
    return out
