# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables of which a fresh copy serves as well as the kernel's own: they hold nothing a caller could miss.

Which these are is told by what a variable is and by what it decides, never by its name:

  its section  the descriptor of a pr_debug (a switch, which the patch module has for itself)
  its size     a lock class without lockdep holds nothing at all
  its type     rate limits and lock classes
  its user     an entry of the index of messages, which nothing but that index refers to
  what it guards  a flag that says whether a message was printed: a message is printed once more

The last is read from the code: each branch on the flag leads, on one side, through nothing but calls that print, and
then to where the other side leads. A flag that guards anything else (DO_ONCE_LITE(setup), DO_ONCE's ___done, which
would draw the secret of a live hash table again) is a variable like all others.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import NamedTuple

from kgbuild.arch.base import Effect
from kgbuild.elf.consts import STT
from kgbuild.objects.atoms import DATA, FUNCTION, UNDEFINED, Ambiguous, Atom, Ref
from kgbuild.objects.variable_shapes import shape_of
from kgbuild.objects.view import View

# Where DEFINE_DYNAMIC_DEBUG_METADATA puts its descriptors (__verbose until 5.8).
DEBUG_SECTIONS = ("__dyndbg", "__verbose")
# Where WARN_ONCE and its like put their flags, in modern kernels (include/linux/once_lite.h, until 5.15 asm/bug.h).
ONCE_SECTIONS = (".data.once", ".data..once", ".data.unlikely")
TYPES = frozenset({"ratelimit_state", "lock_class_key"})
# Who takes the address of such a variable (lib/ratelimit.c; the initializers of locks, which take a class).
TAKERS = frozenset(
    {"___ratelimit", "__mutex_init", "__init_rwsem", "__rwlock_init", "__raw_spin_lock_init", "__percpu_init_rwsem"}
    | {"__init_waitqueue_head", "__init_swait_queue_head", "init_timer_key", "__init_srcu_struct"}
    | {"lockdep_init_map", "lockdep_init_map_type", "lockdep_init_map_waits"}
)
# What prints and does nothing else (kernel/printk/printk.c, kernel/panic.c, drivers/base/core.c, net/core/dev.c).
PRINTS = frozenset(
    {"printk", "_printk", "vprintk", "printk_deferred", "_printk_deferred", "vprintk_deferred", "dump_stack"}
    | {"__warn_printk", "warn_slowpath_fmt", "warn_slowpath_null", "dump_stack_lvl", "__fentry__"}
    | {f"{kind}_{level}" for kind in ("_dev", "dev", "netdev") for level in ("emerg", "alert", "crit", "err", "warn")}
    | {f"{kind}_{level}" for kind in ("_dev", "dev", "netdev") for level in ("warning", "notice", "info", "printk")}
    | {"dev_printk_emit", "dev_vprintk_emit", "__dynamic_pr_debug", "__dynamic_dev_dbg", "__dynamic_netdev_dbg"}
    | {"dev_driver_string", "__netdev_printk", "dev_vprintk", "lockdep_rcu_suspicious"}
)
# What RCU_LOCKDEP_WARN asks between its flag and its message (kernel/rcu/update.c, kernel/locking/lockdep.c).
QUESTIONS = frozenset(
    {"rcu_read_lock_held", "rcu_read_lock_bh_held", "rcu_read_lock_sched_held", "rcu_read_lock_any_held"}
    | {"lock_is_held", "lock_is_held_type", "debug_lockdep_rcu_enabled"}
)
_STEPS = 400  # instructions of a message that are followed


def is_stateless(view: View, atom: Atom) -> bool:
    """True for a variable of which a fresh copy serves as well. Names of others may be reached from anywhere: only
    local variables count."""
    if atom.kind != DATA or not atom.is_local:
        return False
    known: dict[int, bool] = view.__dict__.setdefault("_stateless", {})
    if atom.id not in known:
        known[atom.id] = (
            is_plain_flag(view, atom)
            or _is_indexed_message(view, atom)
            or _guards_messages(view, atom)
            or _is_of_type(view, atom)
        )
    return known[atom.id]


def is_plain_flag(view: View, atom: Atom) -> bool:
    """True for what is stateless by its section or its size alone, which can be told at once."""
    if atom.kind != DATA or not atom.is_local or atom.section < 0:
        return False
    if view.section_name(atom) in DEBUG_SECTIONS:
        return True
    # a variable of an empty type; what follows it in its section is not its own
    symbols = view.obj.symbols_at(atom.symbols)
    return all(s.size == 0 and s.type == STT.OBJECT for s in symbols)


def may_be_once_flag(view: View, atom: Atom) -> bool:
    """True for what lies where the macros for single messages put their flags. Functions of equal code mean the same
    one of these."""
    return atom.kind == DATA and atom.is_local and atom.size == 1 and view.section_name(atom).startswith(ONCE_SECTIONS)


def _is_of_type(view: View, atom: Atom) -> bool:
    """Whether a variable is a rate limit or a lock class: by whom its address is handed to, and that it is used for
    nothing else; or by its type."""
    users = list(_users(view, atom))
    try:
        if users and all(u.kind == FUNCTION and _is_handed_over(view, u, atom) for u in users):
            return True
    except Ambiguous:
        return False
    return shape_of(view, atom).name in TYPES


def _is_handed_over(view: View, function: Atom, atom: Atom) -> bool:
    """Whether every reference of a function to an atom loads its address as an argument for one of TAKERS."""
    given = _given(view, function)
    return all(given.get(r.offset, "") in TAKERS for r in view.refs(function) if r.atom == atom.id)


def _given(view: View, function: Atom) -> dict[int, str]:
    """By offset, the fields of a function that are arguments, each with what is called next."""
    known: dict[int, dict[int, str]] = view.__dict__.setdefault("_given", {})
    if function.id not in known:
        out = known[function.id] = {}
        refs = {r.offset: r for r in view.refs(function)}
        loads = {load.field_offset for load in view.argument_loads(function)} & refs.keys()
        fields = sorted(refs)
        at = 0
        waiting: list[int] = []
        for i in view.instructions(function):
            first = at
            while at < len(fields) and fields[at] < i.offset + i.length:
                at += 1
            waiting += [o for o in fields[first:at] if o in loads]
            if i.is_call:
                out.update(dict.fromkeys(waiting, view.atoms[refs[fields[first]].atom].name if at > first else ""))
                waiting = []
    return known[function.id]


def _is_indexed_message(view: View, atom: Atom) -> bool:
    """Whether the index of messages holds a variable's address, and nothing else does."""
    index = view.obj.section_named(view.arch.message_index[0])
    if index is None or list(_users(view, atom)):
        return False
    try:
        return any(view.target(sym, addend)[0] == atom.id for _, _, sym, addend in view.obj.reloc_rows(index.index))
    except Ambiguous:
        return False


# -- what a flag guards ------------------------------------------------------------------------------------------------


class _Node(NamedTuple):
    """One instruction: the function it is in (an atom's id), and its place."""

    atom: int
    offset: int


class _Step(NamedTuple):
    effect: Effect
    raw: bytes
    refs: tuple[Ref, ...]


def _guards_messages(view: View, atom: Atom) -> bool:
    """Whether every use of a flag of one byte is a branch that decides about a message."""
    if atom.size != 1 or atom.section < 0:
        return False
    users = list(_users(view, atom))
    if not users or any(u.kind != FUNCTION for u in users):
        return False
    try:
        return all(_ControlFlow(view, function, atom).decides_about_messages() for function in users)
    except Ambiguous:
        return False


def _users(view: View, atom: Atom) -> Iterator[Atom]:
    """What refers to an atom, or can't be resolved."""
    known: dict[int, dict[int, list[Atom]]] = view.__dict__.setdefault("_users", {})
    if atom.section not in known:
        known[atom.section] = _read_users(view, atom.section)
    yield from known[atom.section].get(atom.id, ())
    yield from known[atom.section][_UNCLEAR]


_UNCLEAR = -1  # no atom's number


def _read_users(view: View, section: int) -> dict[int, list[Atom]]:
    """By atom of a section, what refers to it; under _UNCLEAR what has a reference that can't be resolved."""
    out: dict[int, list[Atom]] = {_UNCLEAR: []}
    for other in view.sections_referring_to({section}) | {section}:
        for i in view.in_section.get(other, ()):
            user = view.atoms[i]
            try:
                targets = {ref.atom for ref in view.refs(user)}
            except Ambiguous:
                targets = {_UNCLEAR}
            for target in targets:
                out.setdefault(target, []).append(user)
    return out


class _Code(NamedTuple):
    """A function's bytes, the same without its references, these with their offsets, and where its instructions begin
    and it ends."""

    content: bytes
    masked: bytes
    refs: tuple[Ref, ...]
    places: list[int]
    starts: list[int]


class _ControlFlow:
    """The instructions of a function and of its other half, and where each leads. What one does is looked up when it is
    come to: that takes much longer than to see where it begins."""

    def __init__(self, view: View, function: Atom, flag: Atom) -> None:
        self.view, self.function, self.flag = view, function, flag
        self.codes: dict[int, _Code] = {}
        self.steps: dict[_Node, _Step | None] = {}

    def _code(self, atom: int) -> _Code:
        found = self.codes.get(atom)
        if found is None:
            view = self.view
            it = view.atoms[atom]
            content, refs = view.content(it), view.refs(it)
            starts = [*view.arch.boundaries(content), len(content)]
            found = self.codes[atom] = _Code(content, view.masked(it), refs, [r.offset for r in refs], starts)
        return found

    def _at(self, node: _Node) -> _Step | None:
        if node not in self.steps:
            self.steps[node] = self._read(node)
        return self.steps[node]

    def _read(self, node: _Node) -> _Step | None:
        code, start = self._code(node.atom), node.offset
        number = bisect.bisect_left(code.starts, start)
        if number + 1 >= len(code.starts) or code.starts[number] != start:
            return None
        end = code.starts[number + 1]
        effect = self.view.arch.effects(code.content[start:end])[0]
        target = effect.target + start if effect.target is not None else None
        inside = code.refs[bisect.bisect_left(code.places, start) : bisect.bisect_left(code.places, end)]
        return _Step(effect._replace(offset=start, length=end - start, target=target), code.masked[start:end], inside)

    def decides_about_messages(self) -> bool:
        """Whether each reference to the flag writes it or asks for it with a branch that decides about a message."""
        code = self._code(self.function.id)
        places = (r.offset for r in code.refs if r.atom == self.flag.id)
        for offset in sorted({code.starts[bisect.bisect_right(code.starts, place) - 1] for place in places}):
            step = self._at(_Node(self.function.id, offset))
            if step is None:
                continue
            e = step.effect
            if e.stores and not e.loads:
                continue
            if e.stores or e.computes or e.calls or e.leaves or not e.loads:
                return False  # its value or its address goes elsewhere
            if not self._is_message(_Node(self.function.id, offset)):
                return False
        return True

    def _is_message(self, read: _Node) -> bool:
        """Whether the first branch behind a comparison with the flag decides about a message."""
        node = self._next(read)
        for _ in range(8):
            step = self._at(node)
            if step is None or step.effect.calls or step.effect.leaves or step.effect.stores:
                return False
            if step.effect.branches:
                sides = [self._target(node, step), self._next(node)]
                if sides[0] is None or sides[1] is None:
                    return False
                one, other = sides[0], sides[1]
                return self._only_prints(one, other) or self._only_prints(other, one)
            node = self._next(node)
        return False

    def _next(self, node: _Node) -> _Node:
        step = self._at(node)
        return _Node(node.atom, node.offset + (step.effect.length if step is not None else 1))

    def _target(self, node: _Node, step: _Step) -> _Node | None:
        """Where a branch leads within the function and its other half, None for elsewhere."""
        for r in step.refs:
            target = self.view.atoms[r.atom]
            if target.kind == FUNCTION and (target.id == self.function.id or ".cold" in target.name or r.delta):
                return _Node(target.id, r.delta)
            if ".cold" in self.view.atoms[node.atom].name and target.kind == FUNCTION and r.delta:
                return _Node(target.id, r.delta)
            return None
        inside = step.effect.target
        return _Node(node.atom, inside) if inside is not None else None

    def _called(self, step: _Step) -> str:
        """The name of what a call or a jump to elsewhere leads to."""
        for r in step.refs:
            target = self.view.atoms[r.atom]
            if target.kind in (FUNCTION, UNDEFINED):
                return target.name
        return ""

    def _only_prints(self, start: _Node, other: _Node) -> bool:
        """Whether what begins at `start` prints, and then does what begins at `other`."""
        # (place, whether a register was given a value that the other side would not see)
        todo: list[tuple[_Node, bool]] = [(start, False)]
        seen: set[tuple[_Node, bool]] = set()
        while todo:
            node, computed = item = todo.pop()
            if item in seen:
                continue
            seen.add(item)
            if not computed and self._same(node, other):
                continue
            step = self._at(node)
            if step is None or len(seen) > _STEPS:
                return False
            effect = step.effect
            if (effect.stores and not self._sets_flag(step)) or effect.privileged or effect.computes_kept:
                return False
            if effect.calls:
                called = self._called(step)
                if called not in PRINTS and called not in QUESTIONS:
                    return False
                todo.append((self._next(node), False))
            elif effect.branches:
                target = self._target(node, step)
                if target is None:
                    return False
                todo += [(target, computed), (self._next(node), computed)]
            elif effect.leaves:
                target = self._target(node, step)
                if target is not None:
                    todo.append((target, computed))
                elif self._called(step) not in PRINTS or not self._returns(other):
                    return False  # a message may be the last that a function does
            else:
                # WARN's trap goes on behind it
                todo.append((self._next(node), computed or effect.computes))
        return True

    def _returns(self, node: _Node) -> bool:
        """Whether a function does nothing more from a place on than to return."""
        for _ in range(12):
            node = self._settled(node)
            step = self._at(node)
            if step is None or step.effect.stores or step.effect.computes or step.effect.calls or step.effect.branches:
                return False
            if step.effect.leaves:
                return self._called(step) in ("", self.view.arch.return_thunk)
            node = self._next(node)
        return False

    def _sets_flag(self, step: _Step) -> bool:
        return not step.effect.loads and any(r.atom == self.flag.id for r in step.refs)

    def _same(self, first: _Node, second: _Node) -> bool:
        """Whether two places of the function go on in the same way: the compiler copies what follows a message."""
        todo, seen = [(first, second)], set()
        while todo:
            one, other = pair = self._settled(todo[-1][0]), self._settled(todo.pop()[1])
            if one == other or pair in seen:
                continue
            seen.add(pair)
            one_step, other_step = self._at(one), self._at(other)
            if one_step is None or other_step is None or len(seen) > _STEPS:
                return False
            if not self._alike(one_step, other_step):
                return False
            one_effect, other_effect = one_step.effect, other_step.effect
            if one_effect.branches:
                one_target, other_target = self._target(one, one_step), self._target(other, other_step)
                if one_target is None or other_target is None:
                    return False
                todo += [(one_target, other_target), (self._next(one), self._next(other))]
            elif not (one_effect.leaves or other_effect.leaves):
                todo.append((self._next(one), self._next(other)))
        return True

    def _settled(self, node: _Node) -> _Node:
        """Behind jumps within the function."""
        for _ in range(8):
            step = self._at(node)
            if step is None or not step.effect.leaves:
                return node
            target = self._target(node, step)
            if target is None:
                return node
            node = target
        return node

    def _alike(self, one: _Step, other: _Step) -> bool:
        one_effect, other_effect = one.effect, other.effect
        if (one_effect.branches, one_effect.leaves, one_effect.calls) != (
            other_effect.branches,
            other_effect.leaves,
            other_effect.calls,
        ):
            return False
        if [(r.atom, r.delta) for r in one.refs] != [(r.atom, r.delta) for r in other.refs] and not one_effect.branches:
            return False
        return one_effect.mnemonic == other_effect.mnemonic if one_effect.branches else one.raw == other.raw
