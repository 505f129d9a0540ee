# SPDX-License-Identifier: GPL-2.0-or-later
"""The pass that follows every reference of every member, those of its special-section entries included."""

from __future__ import annotations

from kgbuild.closure.binding import KLP, PLAIN, THIS_MODULE, NotBound
from kgbuild.closure.builder import ClosureBuilder
from kgbuild.closure.model import PR_DEBUG, STATIC_CALL, TRACEPOINT, TRAMPOLINE, DroppedKey, LateKey
from kgbuild.closure.passes.bindings import (
    bind_data,
    bind_external,
    bind_function,
    carry_anonymous,
    is_loose,
    refuse_pointer,
)
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ABSOLUTE, ANON, DATA, FUNCTION, STRING, UNDEFINED, Ambiguous, Atom, Ref
from kgbuild.objects.special_entries import BadEntry, SpecialEntry
from kgbuild.objects.stateless import DEBUG_SECTIONS
from kgbuild.objects.symbol_kinds import PARAMETERS

# Direct calls, for kernels that track the depth of calls.
CALL_SITES = ".call_sites"
# Keys that only switch tracing on.
INERT_KEYS = ("__tracepoint_", "__SCK__tp_func_")
# Code in which nothing may be instrumented: a key of a module is not read there.
NO_READS = (".noinstr", ".entry")


def follow_members(builder: ClosureBuilder) -> None:
    """Follow the references of all members; what they bring in is followed in turn."""
    while builder.todo:
        follow(builder, *builder.todo.popleft())


def follow(builder: ClosureBuilder, number: int, atom: Atom) -> None:
    """Follow the references of one member of a unit."""
    unit, literals = builder.units[number], builder.kernel_literals(number)
    view = unit.changes.patched
    try:
        for ref in view.refs(atom):
            literal = literals.find(atom, ref)
            if literal is not None:
                builder.literals[number, atom.id, ref.offset] = literal
            else:
                resolve(builder, number, atom, ref)
        for entry in builder.entries(number, atom):
            if entry.spec.constant:
                bind_constant(builder, number, atom, entry)
            for ref in entry.refs:
                if ref.offset != entry.spec.owner:
                    resolve(builder, number, atom, ref)
            if unit.target != VMLINUX:
                check_late_entry(builder, number, atom, entry)
    except BadEntry as error:
        builder.refuse("K2-special", number, atom.name, ": ".join(error.args), error.section)
    except Ambiguous as error:
        builder.refuse("K13-ambiguous", number, atom.name or view.section_name(atom), ": ".join(error.args))


def bind_constant(builder: ClosureBuilder, number: int, atom: Atom, entry: SpecialEntry) -> None:
    """Code that holds the value of a variable, which the kernel wrote there when it booted: the module has to write it
    into its own code in the same way."""
    name = entry.section.removeprefix(entry.spec.prefix)
    if builder.units[number].target != VMLINUX:
        fact = f"+{entry.owner_offset:#x}: the kernel writes {name} into built-in code only"
        builder.refuse("K2-special", number, atom.name, fact, entry.section)
    elif name not in builder.constants:
        found = builder.world.variable(name, len(entry.spec.constant))
        if isinstance(found, NotBound):
            builder.refuse(found.code, number, atom.name, f"+{entry.owner_offset:#x}: {found.fact}", entry.section)
        else:
            builder.constants[name] = found


def check_late_entry(builder: ClosureBuilder, number: int, atom: Atom, entry: SpecialEntry) -> None:
    """Alternatives, static keys and static calls are applied when the patch module loads (since 5.8), when symbols of a
    target module that comes later have no address yet. Entries of tracepoints and of pr_debug do nothing but switch
    them on, and are left out; any other is refused."""
    unit = builder.units[number]
    view, spec = unit.changes.patched, entry.spec

    def late(target: int) -> bool:
        bound = builder.bound.get((number, target))
        return bound is not None and bound.how in (KLP, PLAIN) and bound.object not in ("", VMLINUX)

    at, _ = spec.replacement.get(entry.size, (-1, 0))
    # a piece of code of its own, or a function elsewhere
    own = entry.replacement
    for ref in view.refs(view.atoms[own]) if own is not None else (r for r in entry.refs if r.offset == at):
        if late(ref.atom):
            name = view.atoms[ref.atom].name
            fact = f"an alternative at +{entry.owner_offset:#x} refers to {name} of the module {unit.target}"
            builder.refuse("K2-special", number, atom.name, fact, entry.section)
    if entry.section == CALL_SITES and any(late(r.atom) for r in view.refs(atom) if r.offset == entry.owner_offset + 1):
        # counts calls on CPUs that need it; the target has no address yet when the entry is read
        builder.dropped.add((number, entry.section, entry.index))
    for ref in entry.refs:
        if ref.offset != spec.key.get(entry.size) or not late(ref.atom):
            continue
        key = view.atoms[ref.atom]
        owner = builder.bound[number, key.id].object
        name = atom.name.removesuffix(".cold")
        if key.name.startswith(INERT_KEYS):
            event = next(key.name.removeprefix(p) for p in INERT_KEYS if key.name.startswith(p))
            builder.dropped.add((number, entry.section, entry.index))
            builder.dropped_keys.add(DroppedKey(unit.source, name, owner, TRACEPOINT, event))
        elif view.section_name(key) in DEBUG_SECTIONS:
            builder.dropped.add((number, entry.section, entry.index))
            builder.dropped_keys.add(DroppedKey(unit.source, name, owner, PR_DEBUG))
        else:
            whose = f"{owner} itself" if owner == unit.target else f"{owner}, which may come after the patch module"
            fact = f"+{entry.owner_offset:#x} depends on {key.name}, a key of the module {whose}"
            call = key.name.removeprefix(STATIC_CALL)
            remedy = f"call the pointer that static_call_query({call}) gives" if call != key.name else ""
            builder.refuse("K17-module-key", number, atom.name, fact, entry.section, remedy)
            if key.name and not key.name.startswith(TRAMPOLINE) and not view.section_name(atom).startswith(NO_READS):
                builder.late_keys.add(LateKey(number, key.name))


def resolve(builder: ClosureBuilder, number: int, source: Atom, ref: Ref) -> None:
    """Bind what a reference of a member leads to, bring it in, or refuse."""
    view = builder.units[number].changes.patched
    target = view.atoms[ref.atom]
    key = (number, target.id)
    if ref.type not in view.arch.relocs.loadable or (ref.synthetic and ref.size != 4):
        _refuse_relocation(builder, number, source, target, ref)
    if target.name == THIS_MODULE and view.section_name(source) == PARAMETERS:
        return  # a parameter is the patch module's own
    if ref.loose and target.kind == DATA and is_loose(builder, number, source, target, ref):
        return
    if key in builder.members:
        if builder.members[key].role == "carried":
            refuse_pointer(builder, number, source, target, ref)
        pointer = target.kind == FUNCTION and builder.binds_to_kernel(number, source, ref)
        if not pointer or key in builder.bound:
            return
    if key in builder.bound:
        return
    if view.is_entry(target):
        _check_own_entry(builder, number, source, target, ref)
    elif target.kind in (STRING, ANON):
        carry_anonymous(builder, number, source, target)
    elif target.kind == UNDEFINED:
        bind_external(builder, number, source, target, ref)
    elif target.kind == ABSOLUTE:
        fact = f"+{ref.offset:#x}: refers to the absolute symbol {target.name}"
        builder.refuse("K11-reloc", number, source.name, fact)
    elif target.kind == FUNCTION:
        bind_function(builder, number, source, target, ref)
    else:
        bind_data(builder, number, source, target)


def _check_own_entry(builder: ClosureBuilder, number: int, source: Atom, target: Atom, ref: Ref) -> None:
    """A function may refer to an entry of a special section only if the entry is its own: it comes along with the
    function."""
    section = builder.units[number].changes.patched.section_name(target)
    own = builder.units[number].changes.patched_entries.at(source.id, target) if source.kind == FUNCTION else None
    if own is None or ref.delta or own not in builder.entries(number, source):
        fact = f"+{ref.offset:#x}: refers to an entry in {section} that does not come along with it"
        builder.refuse("K2-special", number, source.name, fact, section)


def _refuse_relocation(builder: ClosureBuilder, number: int, source: Atom, target: Atom, ref: Ref) -> None:
    view = builder.units[number].changes.patched
    fact, remedy = f"{view.arch.relocs.names.get(ref.type, str(ref.type))} can't be carried", ""
    if ref.synthetic:
        # the assembler chose the short form because both are in one section
        fact = (
            f"a short jump to {target.name or view.section_name(target)} of the same section "
            f"{view.section_name(source)} does not reach from a module to there"
        )
        remedy = "make it a call that something follows (barrier(); behind it), or patch the callers instead"
    builder.refuse("K11-reloc", number, source.name, f"+{ref.offset:#x}: {fact}", remedy=remedy)
