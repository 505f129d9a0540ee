# SPDX-License-Identifier: GPL-2.0-or-later
"""Live patches as one would make them without closing over what gcc did: for the laboratory only, to show that they
are wrong. No command of kgbuild makes such a module.

A patch is told in names: which function of the kernel is redirected to which function of the patched object, and what
else is bound to which symbol. What those functions call is bound to the kernel where kgbuild knows its place there,
changed or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any
from unittest.mock import patch

from kgbuild.closure.binding import EXPORT, KLP, Bound, World
from kgbuild.closure.builder import ClosureBuilder
from kgbuild.closure.kernel_literals import Literals
from kgbuild.closure.model import Closure, Contents, Redirect, UnitResult
from kgbuild.closure.passes.bindings import bind_new
from kgbuild.closure.passes.follow import follow_members
from kgbuild.host.system.cache import Cache
from kgbuild.objects.atoms import UNDEFINED, Atom, Ref
from kgbuild.pipeline.stages.assemble import assemble
from kgbuild.pipeline.stages.events import Run, SilentObserver
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import Closed, Compared, Prepared, Proven


def _is_outside(contents: Contents, unit: int, source: Atom, ref: Ref) -> bool:
    """A pointer to a patched function is that of the copy, not the kernel's."""
    return (unit, ref.atom) not in contents.members


class _OwnPointersBuilder(ClosureBuilder):
    binds_to_kernel = _is_outside


class _OwnPointersClosure(Closure):
    binds_to_kernel = _is_outside


@dataclass(frozen=True)
class _Rules:
    """redirect: symbol of the running module -> function of the patched object; bind: symbol of the patched object ->
    symbol of the running module, or of the kernel ("vmlinux:NAME"); plain: what the ordinary loader is to bind by its
    name; values: whether initial values are written that the loader does not write; own_literals: whether string
    literals and constants are copied; anew: variables of the patched object that are taken for new ones, whatever they
    were called; other: new names that are found in any unit of the patch, as in one link of all; added: new data that
    nothing refers to."""

    redirect: Mapping[str, str]
    bind: Mapping[str, str] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    own_pointers: bool = False
    own_literals: bool = False
    anew: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def build_naive(trail: Trail, rules: Mapping[str, Any], name: str) -> bytes:
    """The module `name` from what a build has compiled and compared. Refusals don't stop it."""
    given = _Rules(
        rules["redirect"],
        rules.get("bind", {}),
        own_pointers=rules.get("own_pointers", False),
        own_literals=rules.get("own_literals", False),
        **{key: tuple(rules.get(key, ())) for key in ("plain", "anew", "other", "added")},
    )
    prepared, closed = trail.the(Prepared), trail.get(Closed)
    units = closed.closure.units if closed is not None else trail.the(Compared).units
    running = prepared.running
    world = World(running.vmlinux, running.exports, running.modules_with(u.target for u in units))
    with _parted(units, given.anew):
        closure = _close(units, world, given)
    run = Run(Options(), Cache(), SilentObserver())
    with _values(rules.get("values", True)):
        return assemble(prepared, Closed(closure, trail.the(Proven), (), ()), name, run).module


@contextmanager
def _values(written: bool) -> Iterator[None]:
    """Where they are not written, the variables have the values that the module loader gives them."""
    if written:
        yield
        return
    where = ("kgbuild.emit.extract.initial_values", "kgbuild.pipeline.stages.assemble.initial_values")
    with patch(where[0], return_value=()), patch(where[1], return_value=()):
        yield


@contextmanager
def _parted(units: tuple[UnitResult, ...], names: tuple[str, ...]) -> Iterator[None]:
    """Within this, variables of the patched objects have no partners in the originals."""
    before = [
        (unit.changes.correlation, o, p)
        for unit in units
        for p, originals in unit.changes.correlation.to_original.items()
        for o in originals
        if unit.changes.patched.atoms[p].name in names
    ]
    for correlation, o, p in before:
        correlation.part(o, p)
    try:
        yield
    finally:
        for correlation, o, p in before:
            correlation.pair(o, p)


def _close(units: tuple[UnitResult, ...], world: World, rules: _Rules) -> Closure:
    builder = (_OwnPointersBuilder if rules.own_pointers else ClosureBuilder)(units, world)
    for number, unit in enumerate(units):
        view, target = unit.changes.patched, world.image(unit.target)
        for symbol, function in rules.redirect.items():
            for atom in view.by_name.get(function, ()):
                (place,) = [s.value for s in target.named(symbol)]
                builder.add(number, atom, "changed", "named by hand")
                position = target.sympos(symbol, place)
                assert position is not None
                builder.redirects.append(Redirect(number, atom, symbol, position, place, unit.target))
        for own, given in rules.bind.items():
            where, _, symbol = given.rpartition(":")
            for atom in (a for a in view.atoms if a.name == own):
                (place,) = [s.value for s in world.image(where or unit.target).named(symbol)]
                builder.bound[number, atom.id] = Bound(symbol, KLP, where or unit.target, 0, place, "bound by hand")
        for plain in rules.plain:
            for atom in (a for a in view.atoms if a.name == plain):
                builder.bound[number, atom.id] = Bound(plain, EXPORT, proof="left to the loader")
        for name in rules.added:
            for atom in (a for a in view.atoms if a.name == name):
                builder.add(number, atom, "data", "named by hand")
    for name in rules.other:
        found = [(n, a) for n, u in enumerate(units) for a in u.changes.patched.atoms if a.name == name]
        ((home, made),) = [(n, a) for n, a in found if a.kind != UNDEFINED]
        for number, atom in found:
            if atom.kind == UNDEFINED:
                bind_new(builder, number, atom, atom, home, made)
    assert builder.redirects, "none of the functions is in the patched objects"
    copied = patch.object(Literals, "find", return_value=None) if rules.own_literals else nullcontext()
    # what has no partner in the original begins with its initial value
    with copied, patch("kgbuild.closure.passes.bindings.goes_on", return_value=False):
        follow_members(builder)
    closure = builder.finish()
    if not rules.own_pointers:
        return closure
    return _OwnPointersClosure(**{part.name: getattr(closure, part.name) for part in fields(closure)})
