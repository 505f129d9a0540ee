# SPDX-License-Identifier: GPL-2.0-or-later
"""Code of a patch module that the kernel's stack check does not look at, though a task may sleep in it.

While a patch is taken back, a task must not have a new function on its stack; what is compared with the return
addresses there is the extent of that function's symbol (klp_check_stack_func(), new_func to new_func + new_size). A
call from its cold half, or from a helper that it left for by a jump, leaves no address in that extent; nor does what
the kernel calls through a pointer into the module. Once the patch is disabled its module can be removed, and the code
is freed under the task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kgbuild.arch import indirect_prefixes
from kgbuild.closure.model import Closure, Member, MemberKey
from kgbuild.diagnostics.warnings import UNSEEN, ConsistencyWarning
from kgbuild.livepatch.consistency import stays_awake
from kgbuild.objects.atoms import DATA, FUNCTION, Ambiguous, Atom, Ref
from kgbuild.objects.view import View


@dataclass(frozen=True)
class _MemberLink:
    """How one member leads to another: "call", "jump" or "pointer", from where."""

    how: str
    source: MemberKey
    place: str


def find_unseen(closure: Closure) -> list[ConsistencyWarning]:
    """Functions and cold halves of the module in which a task may sleep with no function on its stack that is checked.

    Checked are those the kernel redirects to. What they call has their return address below it and is seen by that.
    Not seen is what they jump to, their cold halves, what is entered through a pointer, and what those call in turn.
    """
    checked = {(r.unit, r.atom.id) for r in closure.redirects}
    members = {key: m for key, m in closure.members.items() if m.atom.kind == FUNCTION and m.role != "prefix"}
    ways = _ways(closure, members)
    exposed: dict[MemberKey, str] = {}
    todo = [key for key in sorted(members) if key not in checked]
    while todo:
        again = []
        for key in todo:
            why = _exposed_by(members, ways.get(key, ()), members[key], checked, exposed)
            if why:
                exposed[key] = why
            else:
                again.append(key)
        if len(again) == len(todo):
            break
        todo = again
    out = []
    for key in sorted(exposed):
        member, unit = members[key], closure.units[key[0]]
        view = unit.changes.patched
        names = [_called(view, ref) for ref, is_call in _branches(view, member.atom) if is_call]
        sleeping = list(dict.fromkeys(n for n in names if not stays_awake(n)))
        if sleeping:
            name = member.atom.name
            fact = f"{name} is not looked for on stacks, and calls {_some(sleeping)}"
            evidence = (exposed[key], f"{name}: calls {', '.join(sleeping)}")
            out.append(ConsistencyWarning(UNSEEN, name, unit.source, unit.target, fact, evidence))
    return out


def _exposed_by(
    members: dict[MemberKey, Member],
    ways: Iterable[_MemberLink],
    member: Member,
    checked: set[MemberKey],
    exposed: dict[MemberKey, str],
) -> str:
    """What leads to a member with nothing on the stack that is checked, "" where nothing is known to."""
    if member.role == "cold" and member.via is not None and (member.via in checked or member.via in exposed):
        return f"{member.atom.name} is entered by jumps from {members[member.via].atom.name}"
    for way in ways:
        if way.how == "pointer" or way.source in exposed or (way.how == "jump" and way.source in checked):
            return f"{way.place}: {way.how} to {member.atom.name}"
    return ""


def _ways(closure: Closure, members: dict[MemberKey, Member]) -> dict[MemberKey, list[_MemberLink]]:
    """What leads to the start of each member, from members of the module; its data holds pointers as well."""
    out: dict[MemberKey, list[_MemberLink]] = {}
    for key, source in sorted(closure.members.items()):
        if source.atom.kind not in (FUNCTION, DATA) or source.role == "prefix":
            continue
        view = closure.units[key[0]].changes.patched
        try:
            refs = view.refs(source.atom)
        except Ambiguous:
            continue
        branches = {ref.offset: is_call for ref, is_call in _branches(view, source.atom)}
        for ref in refs:
            target = closure.defined.get((key[0], ref.atom), (key[0], ref.atom))
            if target not in members or target == key or ref.delta != 0:
                continue
            is_call = branches.get(ref.offset)
            how = "pointer" if is_call is None else "call" if is_call else "jump"
            if how == "pointer" and closure.binds_to_kernel(key[0], source.atom, ref):
                continue
            out.setdefault(target, []).append(_MemberLink(how, key, f"{source.atom.name}+{ref.offset:#x}"))
    return out


def _branches(view: View, atom: Atom) -> Iterator[tuple[Ref, bool]]:
    """References of a function that are the target of a call or jump, and whether of a call."""
    if atom.kind != FUNCTION:
        return
    places = {i.field_offset: i.is_call for i in view.instructions(atom) if i.is_branch}
    try:
        refs = view.refs(atom)
    except Ambiguous:
        return
    yield from ((ref, places[ref.offset]) for ref in refs if ref.offset in places)


def _called(view: View, ref: Ref) -> str:
    name = view.atoms[ref.atom].name
    return "through a pointer" if name.startswith(indirect_prefixes()) else name


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
