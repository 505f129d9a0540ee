# SPDX-License-Identifier: GPL-2.0-or-later
"""The initial values of a patch's variables over time, and what must not be used before it is relocated.

A module's variables are initialised each time that it is loaded. New ones lie in the patch module, which stays loaded
while the target module is unloaded and loaded again. So the wrapper writes their initial values each time that the
target is loaded, in pre_patch, before anything of the target runs. Static keys and static calls are switched instead of
being overwritten. Variables of vmlinux are written once, by the loader, except pointers in per-CPU variables, which the
loader does not relocate.

References to a target module are relocated when that module is loaded ("late"). No variable has such a relocation
itself: since 6.3 the kernel undoes relocations when the target is unloaded, and fails if the value is not the one it
wrote. The initial values have the relocation, and the wrapper copies them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kgbuild.closure.binding import KLP, THIS_MODULE
from kgbuild.closure.model import Contents, Member, MemberKey, NewVariable
from kgbuild.correlation.registration_tables import is_registration
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.kernel.module_loader import PAGE, PER_CPU_BYTES, READ_WITH_THE_MODULE, is_per_cpu, row_of
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, STRING, Ambiguous, Atom, Ref
from kgbuild.objects.stateless import is_stateless
from kgbuild.objects.symbol_kinds import PARAMETERS, is_init

JUMP_TABLE = "__jump_table"
STATIC_CALL, TRAMPOLINE = "__SCK__", "__SCT__"
# Operations of parameters (kernel/params.c) after which the variable holds a value and owns nothing.
PLAIN_PARAMETERS = frozenset(
    [
        *(f"param_ops_{t}" for t in ("byte", "short", "ushort", "int", "uint", "long", "ulong", "ullong", "hexint")),
        *("param_ops_bool", "param_ops_invbool", "param_ops_bint", "param_ops_string", "param_array_ops", THIS_MODULE),
    ]
)
INSTEAD = {
    "___srcu_struct_ptrs": "define a struct srcu_struct; call init_srcu_struct() in a pre_patch callback, and "
    "cleanup_srcu_struct() in a post_unpatch callback",
}


class Initial(NamedTuple):
    """A variable that the wrapper writes.

    unit, atom  which; object: the module at whose coming it is written, vmlinux for once, when the patch is loaded
    keys        offsets in it of static keys, whose switched code must agree with them
    trampoline  of a static call: the code that is switched with it
    saved       whether its value is the one with which the patch module was loaded: a parameter's
    """

    unit: int
    atom: Atom
    object: str
    per_cpu: bool = False
    keys: tuple[int, ...] = ()
    trampoline: Atom | None = None
    saved: bool = False


def late_object(closure: Contents, unit: int, source: Atom, ref: Ref) -> str:
    """The module whose coming relocates a reference of a member, "" for one that is there when the patch is loaded."""
    view = closure.units[unit].changes.patched
    key = (unit, ref.atom)
    if key in closure.defined or (view.section_name(source) == PARAMETERS and view.atoms[ref.atom].name == THIS_MODULE):
        return ""
    if key in closure.members and not closure.binds_to_kernel(unit, source, ref):
        return ""
    bound = closure.bound.get(key)
    if bound is None or bound.how != KLP:
        return ""
    owner = bound.patched or bound.object
    return "" if owner == VMLINUX else owner


def initial_values(closure: Contents) -> tuple[Initial, ...]:
    """The variables that the wrapper writes, in the order of units and atoms. For a closure without refusals."""
    members = [
        member for member in closure.members.values() if member.atom.kind == DATA and _is_variable(closure, member)
    ]
    if not members:
        return ()
    shown = _shown(closure)
    keys = _keys(closure) if any(closure.units[member.unit].target != VMLINUX for member in members) else {}
    out = []
    for member in sorted(members, key=lambda member: (member.unit, member.atom.id)):
        unit = closure.units[member.unit]
        view = unit.changes.patched
        per_cpu = is_per_cpu(view.section_name(member.atom))
        key = (member.unit, member.atom.id)
        if unit.target == VMLINUX:
            if per_cpu and view.refs(member.atom):
                out.append(Initial(member.unit, member.atom, VMLINUX, per_cpu))
        elif key in shown and not per_cpu and shown[key]:
            out.append(Initial(member.unit, member.atom, unit.target, saved=True))
        elif key not in shown:
            trampoline = _trampoline(closure, member)
            out.append(
                Initial(member.unit, member.atom, unit.target, per_cpu, tuple(sorted(keys.get(key, ()))), trampoline)
            )
    return tuple(out)


def _is_variable(closure: Contents, member: Member) -> bool:
    section = closure.units[member.unit].changes.patched.section_of(member.atom)
    row = row_of(section.name)
    return section.writable and row is not None and row.reinitialised and member.atom.size > 0


def new_variables(closure: Contents) -> list[NewVariable]:
    """The variables of a patch that hold a state, in the order of units and atoms."""
    out = []
    for m in sorted(closure.members.values(), key=lambda m: (m.unit, m.atom.id)):
        unit = closure.units[m.unit]
        if m.atom.kind == DATA and _is_variable(closure, m) and not is_stateless(unit.changes.patched, m.atom):
            out.append(NewVariable(unit.target, unit.source, m.atom.name, m.atom.size))
    return out


def _own_target(closure: Contents, unit: int, source: Atom, ref: Ref) -> MemberKey | None:
    """The member that a reference of a member means, None where it leaves the module."""
    key = (unit, ref.atom)
    if key in closure.defined:
        return closure.defined[key]
    if key in closure.members and not closure.binds_to_kernel(unit, source, ref):
        return key
    return None


def _shown(closure: Contents) -> dict[MemberKey, bool]:
    """Variables that a parameter of the patch module shows: the user sets them with the patch, as it is loaded. True
    where all that sets them are the kernel's own operations for plain values, of which a copy is another such value."""
    out: dict[MemberKey, bool] = {}
    for start, member in closure.members.items():
        if not _is_parameter(closure, member):
            continue
        found: set[MemberKey] = set()
        plain = True
        todo, seen = [start], {start}
        while todo:
            unit, number = todo.pop()
            view = closure.units[unit].changes.patched
            atom = view.atoms[number]
            for ref in _refs(closure, closure.members[unit, number]):
                key = _own_target(closure, unit, atom, ref)
                if key is None:
                    plain = plain and view.atoms[ref.atom].name in PLAIN_PARAMETERS
                    continue
                if key in seen:
                    continue
                seen.add(key)
                target = closure.members[key]
                if target.atom.kind == DATA and _is_variable(closure, target):
                    found.add(key)
                elif target.atom.kind in (DATA, ANON):
                    todo.append(key)
                elif target.atom.kind == FUNCTION:
                    plain = False
        for key in found:
            out[key] = out.get(key, True) and plain
    return out


def shown_in_targets(closure: Contents) -> Iterator[str]:
    """A warning for each variable of a target module that a new parameter shows and that can't be initialised again."""
    for (unit_number, number), plain in sorted(_shown(closure).items()):
        unit = closure.units[unit_number]
        if unit.target != VMLINUX and not plain:
            name = unit.changes.patched.atoms[number].name
            yield (
                f"{unit.source}: {name} is shown by a parameter of the patch module, and keeps its value when "
                f"{unit.target} is loaded again"
            )


def _is_parameter(closure: Contents, member: Member) -> bool:
    return closure.units[member.unit].changes.patched.section_name(member.atom) == PARAMETERS


def _keys(closure: Contents) -> dict[MemberKey, set[int]]:
    """Offsets of static keys in members, by what the members' code is switched by."""
    out: dict[MemberKey, set[int]] = {}
    for member in closure.members.values():
        if member.atom.kind != FUNCTION:
            continue
        for entry in closure.entries(member.unit, member.atom):
            if entry.section != JUMP_TABLE:
                continue
            for ref in entry.refs:
                if ref.offset != entry.spec.key.get(entry.size):
                    continue
                key = closure.defined.get((member.unit, ref.atom), (member.unit, ref.atom))
                if key in closure.members:
                    # the lowest bits say how the branch was compiled (include/linux/jump_label.h)
                    out.setdefault(key, set()).add(ref.delta & ~7)
    return out


def _trampoline(closure: Contents, member: Member) -> Atom | None:
    name = member.atom.name
    if not name.startswith(STATIC_CALL):
        return None
    view = closure.units[member.unit].changes.patched
    wanted = TRAMPOLINE + name.removeprefix(STATIC_CALL)
    return next((a for a in view.by_name.get(wanted, ()) if (member.unit, a.id) in closure.members), None)


# -- what is refused -----------------------------------------------------------------------------------------------


def check_module_memory(closure: Contents) -> list[Refusal]:
    """Everything that is in the closure and that the module loader, or the time of a relocation, forbids."""
    out = [*_check_sections(closure), *_check_tables(closure)]
    if any(u.target != VMLINUX for u in closure.units):
        out += [*_check_early(closure), *_check_switches(closure)]
    return out


def _refusal(closure: Contents, code: str, unit: int, atom: Atom, fact: str, remedy: str = "") -> Refusal:
    view = closure.units[unit].changes.patched
    section = view.section_name(atom)
    return Refusal(code, f"{closure.units[unit].source}: {atom.name or section}", fact, atom.name, section, remedy)


def _check_sections(closure: Contents) -> Iterator[Refusal]:
    per_cpu = 0
    last: Member | None = None
    for member in sorted(closure.members.values(), key=lambda member: (member.unit, member.atom.id)):
        unit = closure.units[member.unit]
        view = unit.changes.patched
        section = view.section_of(member.atom)
        if member.atom.kind == STRING or view.is_table(section) or is_init(view, member.atom):
            continue
        row = row_of(section.name)
        if row is None and is_registration(section.name):
            continue  # refused as such
        if row is None:
            fact = f"is in section {section.name}, and what the kernel does with that in a module is not known"
            remedy = "take the section attribute off it" if member.role in ("new", "data") else ""
            yield _refusal(closure, "K2-special", member.unit, member.atom, fact, remedy)
            continue
        if row.refused:
            yield _refusal(
                closure, "K2-special", member.unit, member.atom, f"is in section {section.name}: {row.refused}"
            )
            continue
        align = place_alignment(section.align, member.atom.offset)
        if align > PAGE:
            fact = f"is aligned to {align} bytes; a module's memory is to {PAGE} at most"
            yield _refusal(closure, "K24-module-memory", member.unit, member.atom, fact)
        if is_per_cpu(section.name):
            per_cpu = -(-per_cpu // align) * align + member.atom.size
            last = member
        if not section.writable or member.atom.kind != DATA:
            continue
        if unit.target == VMLINUX and not is_per_cpu(section.name):
            continue
        for ref in _refs(closure, member):
            if ref.type in view.arch.relocs.pc_relative:  # the initial value lies elsewhere
                kind = view.arch.relocs.names.get(ref.type, str(ref.type))
                fact = f"+{ref.offset:#x}: the module would have to write a relocation of type {kind} itself"
                yield _refusal(closure, "K11-reloc", member.unit, member.atom, fact)
    if per_cpu > PER_CPU_BYTES and last is not None:
        fact = f"with this the patch has {per_cpu} bytes for each CPU; all modules share {PER_CPU_BYTES}"
        yield _refusal(closure, "K24-module-memory", last.unit, last.atom, fact)


def place_alignment(align: int, offset: int) -> int:
    """What an atom at this offset in a section of that alignment may be aligned to: no more than its place was."""
    align = max(align, 1)
    while align > 1 and offset % align:
        align //= 2
    return align


def _refs(closure: Contents, member: Member) -> tuple[Ref, ...]:
    try:
        return closure.units[member.unit].changes.patched.refs(member.atom)
    except Ambiguous:  # refused where it is followed
        return ()


def _check_tables(closure: Contents) -> Iterator[Refusal]:
    """An entry of a table that is read when the module itself is loaded, of something that is new in the patch."""
    for number, unit in enumerate(closure.units):
        view = unit.changes.patched
        sections = [s for s in view.obj.sections if s.name in READ_WITH_THE_MODULE and s.size]
        if not sections:
            continue
        fresh = {
            m.atom.id
            for m in closure.members.values()
            if m.unit == number and (m.role == "new" or (m.atom.kind == DATA and m.role == "data"))
        }
        for section in sections:
            for offset, _, sym, addend in view.obj.reloc_rows(section.index):
                try:
                    atom = view.atoms[view.target(sym, addend)[0]]
                except Ambiguous:
                    continue
                if atom.id in fresh and not is_stateless(view, atom):
                    what, when = READ_WITH_THE_MODULE[section.name], _whose(unit.target)
                    fact = f"has an entry at +{offset:#x} of {section.name}: the kernel {what} when {when} is loaded"
                    fact += ", and the patch comes after that"
                    remedy = INSTEAD.get(section.name, "")
                    yield _refusal(closure, "K2-special", number, atom, fact, remedy)


def _whose(target: str) -> str:
    return "vmlinux" if target == VMLINUX else f"the module {target} itself"


def _check_early(closure: Contents) -> Iterator[Refusal]:
    """What is read while the patch module is loaded, or at any time after, must not lead to a target module."""
    for key, member in sorted(closure.members.items()):
        name = member.atom.name
        if _is_parameter(closure, member):
            who = "a parameter of the patch module, which can be read and set while that module is out"
        elif name.startswith(STATIC_CALL):
            who = "a static call, whose target is written into code when the patch module is loaded"
        else:
            continue
        for chain, wanted, owner in _late_from(closure, key):
            via = f" by way of {', '.join(chain)}" if chain else ""
            fact = f"leads to {wanted} of the module {owner}{via}, and is {who}"
            remedy = "" if _is_parameter(closure, member) else "call the function itself"
            yield _refusal(closure, "K25-too-early", key[0], member.atom, fact, remedy)
            break


def _late_from(closure: Contents, start: MemberKey) -> Iterator[tuple[list[str], str, str]]:
    """(names on the way, the symbol, its module) of each late reference that is reached from a member."""
    todo = deque([start])
    came_from: dict[MemberKey, MemberKey | None] = {start: None}
    while todo:
        unit, number = todo.popleft()
        view = closure.units[unit].changes.patched
        atom = view.atoms[number]
        for ref in _refs(closure, closure.members[unit, number]):
            owner = late_object(closure, unit, atom, ref)
            if owner:
                yield _names_on_the_way(closure, (unit, number), came_from), view.atoms[ref.atom].name, owner
                continue
            key = _own_target(closure, unit, atom, ref)
            if key is not None and key not in came_from:
                came_from[key] = unit, number
                todo.append(key)


def _names_on_the_way(closure: Contents, key: MemberKey, came_from: Mapping[MemberKey, MemberKey | None]) -> list[str]:
    """The names of the members on the way to `key`, without the one where it began."""
    names = []
    before = came_from[key]
    while before is not None:
        names.append(closure.members[key].atom.name)
        key, before = before, came_from[before]
    return [name for name in reversed(names) if name]


def _check_switches(closure: Contents) -> Iterator[Refusal]:
    """A static call without its trampoline can't be switched back."""
    for key, member in sorted(closure.members.items()):
        unit = closure.units[key[0]]
        if unit.target == VMLINUX or not member.atom.name.startswith(STATIC_CALL) or member.atom.kind != DATA:
            continue
        if _trampoline(closure, member) is None:
            fact = "is a static call whose trampoline is not in the patch, so it can't be initialised again"
            yield _refusal(closure, "K17-module-key", key[0], member.atom, fact, "call through a pointer instead")


__all__ = [
    "Initial",
    "check_module_memory",
    "initial_values",
    "late_object",
    "new_variables",
    "place_alignment",
    "shown_in_targets",
]
