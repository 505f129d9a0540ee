# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages that find out what a patch does to this kernel: what each takes, what holds after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from kgbuild.analysis.accounting import Unit, account_all, no_effects, with_places
from kgbuild.analysis.author import leave_out, read_author
from kgbuild.analysis.callgraph import CallGraph
from kgbuild.analysis.closure import UnitResult, close
from kgbuild.analysis.config import check_config
from kgbuild.analysis.correlate import stem
from kgbuild.analysis.diff import Changes, compute_changes
from kgbuild.analysis.exports import Export, parse_symvers
from kgbuild.analysis.image import KernelImage
from kgbuild.analysis.init_needs import find_needed
from kgbuild.analysis.ipaclones import parse_ipa_clones
from kgbuild.analysis.ledger import compute_ledger
from kgbuild.analysis.module_image import ModuleImage
from kgbuild.analysis.ontop import check_kernel
from kgbuild.analysis.parity import ABSENT, EXACT, compute_parity
from kgbuild.analysis.patch import ParsedPatch
from kgbuild.analysis.probes import INDIRECT_BRANCHES
from kgbuild.analysis.resolve import VMLINUX
from kgbuild.analysis.types import check_types
from kgbuild.analysis.unitflags import flags_of, read_producer
from kgbuild.elf.read import read
from kgbuild.errors import NoChange, UserError
from kgbuild.host.acquire import ensure_kernel
from kgbuild.host.cache import Cache
from kgbuild.host.changes import changes_of, find_lost
from kgbuild.host.compile import Compiled, compile_units
from kgbuild.host.headers import choose_units, is_fixed
from kgbuild.host.image import load_image
from kgbuild.host.kbuild import check_compiler, find_compiler, load_unit_commands
from kgbuild.host.modules import Modules, name_modules
from kgbuild.host.older import read_older_modules
from kgbuild.host.patches import apply_patches, read_patches
from kgbuild.host.probes import probe_kernel
from kgbuild.model import Progress, UnitCommand
from kgbuild.refusals import RULES, Refusal, Refused
from kgbuild.report.accounting import accounting_report
from kgbuild.report.build import (
    closure_report,
    kernel_report,
    unit_report,
)
from kgbuild.special.view import Atom, View
from kgbuild.state import ALWAYS, Build, Options

MAX_ROUNDS = 20


def find_out(
    b: Build, patch_files: Sequence[Path], kernel_name: str, options: Options, cache: Cache, progress: Progress
) -> KernelImage:
    """Fill `b` up to its closure. Raises as `pipeline.build` does; refusals are in the report too."""
    # before a kernel is fetched for them
    parsed = read_patches(patch_files)
    b.oot_modules = _name_oot(options)
    b.older = read_older_modules(options.on_top_of)
    if options.against:
        from kgbuild.host.consistency import read_others

        b.others = read_others(options.against)
    _acquire(b, kernel_name, options, progress)
    with _tree(b, cache, options, progress):
        _apply(b, parsed)
        commands = _units(b, cache, options, progress)
        _compile(b, commands, cache, options, progress)
        image = _prove(b, options)
        _compare(b, options, cache)
        _close(b, image, cache, options, progress)
    return image


def _name_oot(options: Options) -> dict[str, Path]:
    """The out-of-tree modules that were given, by name. Raises UserError."""
    if options.oot is None and not options.oot_modules:
        return {}
    from kgbuild.host.oot import check_folder

    if options.oot is None or not options.oot_modules:
        given, lacks = ("--oot-module", "--oot") if options.oot is None else ("--oot", "--oot-module")
        raise UserError(f"needs {lacks} too", place=given, remedy="give the module's source and the .ko that is loaded")
    check_folder(options.oot)
    return name_modules(options.oot_modules)


@contextmanager
def _tree(b: Build, cache: Cache, options: Options, progress: Progress) -> Iterator[None]:
    """Within this, `b.tree` is where the patched units are: the kernel, or the source of an out-of-tree module."""
    b.tree = b.kernel
    if options.oot is None:
        yield
        return
    from kgbuild.host.oot import open_tree

    assert b.kernel is not None
    with ExitStack() as stack:
        with b.stage("tree"):
            b.tree = stack.enter_context(open_tree(b.kernel, options.oot, b.oot_modules, cache, progress))
        yield


def _acquire(b: Build, name: str, options: Options, progress: Progress) -> None:
    with b.stage("kernel"):
        kernel = ensure_kernel(name, progress=progress, offline=options.offline, jobs=options.jobs)
    b.kernel = kernel
    b.report["kernel"] = {**kernel_report(kernel), "requested": name}
    b.tell("kernel")
    find_compiler(kernel.cc, kernel.compiler)
    refusals = check_config(kernel.config.read_text())
    compiler = check_compiler(kernel)
    if compiler is not None:
        if not options.allow_compiler:
            refusals.append(compiler)
        else:
            b.warnings.append(f"{compiler.place}: {compiler.fact}; accepted by --allow-compiler")
            b.report["warnings"] = list(b.warnings)
    refusals += check_kernel(b.older, {VMLINUX: kernel.id.build_id})
    if refusals:
        raise Refused(refusals)
    if options.backend:
        # before anything is compiled for a module that can't be
        from kgbuild.emit.backends import choose_backend

        choose_backend(options.backend, probe_kernel(kernel, load_image(kernel)), kernel.id.name)


def _apply(b: Build, parsed: Sequence[ParsedPatch]) -> None:
    assert b.tree is not None
    with b.stage("patch"):
        b.report["patches"] = [
            {"name": p.name, "sha256": p.sha256, "subject": p.subject, "files": [], "skipped": []} for p in parsed
        ]
        b.patches = apply_patches(b.tree, parsed)
        b.changes = changes_of(b.tree, b.patches)
        b.lost = find_lost(b.tree, b.patches, b.older)
    for entry, (touched, passed) in zip(b.report["patches"], b.patches.by_patch, strict=True):
        entry["files"], entry["skipped"] = list(touched), list(passed)
    b.tell("patch")
    if not b.patches.files and not b.patches.refusals:
        what = "the patch touches no kernel code" if b.patches.skipped else "the patch changes nothing"
        skipped = f" (skipped: {', '.join(b.patches.skipped)})" if b.patches.skipped else ""
        raise NoChange(what + skipped, remedy="nothing to patch")


def _units(b: Build, cache: Cache, options: Options, progress: Progress) -> list[UnitCommand]:
    """After this, every unit whose tokens the patch changes is known, and every one is part of this kernel."""
    assert b.kernel is not None and b.tree is not None and b.patches is not None
    with b.stage("units"):
        b.selection = choose_units(b.tree, b.patches, cache, progress, options.jobs, options.max_units)
        commands = load_unit_commands(b.tree, b.selection.because)
    refusals = [*b.patches.refusals, *b.selection.refusals]
    made = [unit for source in sorted(commands) for unit in commands[source]]
    units = [unit for unit in made if not is_fixed(unit)]
    for unit in made:
        if is_fixed(unit):
            b.warnings.append(f"{unit.source}: {unit.object} is made of it too, can't be patched and stays as it is")
    b.modules = Modules(b.kernel, b.oot_modules)
    at_hand = b.oot_modules if options.oot is not None else b.modules.paths
    for unit in units:
        for target in unit.targets:
            if target != VMLINUX and target not in at_hand:
                fact, remedy = f"it is part of the module {target}, which this kernel's packages do not have", ""
                if options.oot is not None:
                    fact = f"it is part of the module {target}, whose .ko is not given"
                    remedy = (
                        f"give the {target}.ko that is loaded with --oot-module too, or split the file off the patch"
                    )
                refusals.append(Refusal("P8-module", unit.source, fact, remedy=remedy))
    if refusals:
        raise Refused(refusals)
    if not units:
        raise NoChange("no unit of this kernel has other tokens with the patch", remedy="nothing to patch")
    return units


def _compile(b: Build, commands: list[UnitCommand], cache: Cache, options: Options, progress: Progress) -> None:
    assert b.tree is not None and b.patches is not None
    with b.stage("compile"):
        b.compiled = compile_units(b.tree, commands, b.selection.files, cache, progress, options.jobs, b.selection.real)
    if options.keep is not None:
        folder = options.keep / "1-compile"
        for c in b.compiled:
            stem = folder / c.unit.object.removesuffix(".o")
            stem.parent.mkdir(parents=True, exist_ok=True)
            stem.with_name(f"{stem.name}.orig.o").write_bytes(c.original)
            stem.with_name(f"{stem.name}.patched.o").write_bytes(c.patched)


def _prove(b: Build, options: Options) -> KernelImage:
    """After this, it is known of each function of each original object whether it is what runs."""
    from kgbuild.emit.backends import preferred_backend

    assert b.kernel is not None
    with b.stage("parity"):
        image = load_image(b.kernel)
        b.features = probe_kernel(b.kernel, image)
        b.backend = options.backend or preferred_backend(b.features)
        b.parts = _parts(b, b.compiled, image)
    _report_units(b)
    b.tell("parity")
    return image


def _parts(b: Build, compiled: Sequence[Compiled], image: KernelImage) -> list[tuple[Compiled, UnitResult]]:
    """Parity of each unit in each object of the running kernel that it is part of. Raises Refused."""
    parts, refusals = [], []
    for c in compiled:
        for target in c.unit.targets:
            view = View(read(c.original))
            proof = compute_parity(view, image if target == VMLINUX else b.module_image(target))
            if proof.counts[ABSENT] and not proof.counts[EXACT]:
                where = "the running kernel" if target == VMLINUX else f"the module {target}"
                fact = f"none of its {len(proof.functions)} functions is in {where}"
                refusals.append(Refusal("P6-not-in-kernel", c.unit.source, fact))
            parts.append((c, UnitResult(c.unit.source, _no_changes(view, c.unit.source), proof, target)))
    if refusals:
        raise Refused(refusals)
    return parts


def _report_units(b: Build) -> None:
    because = {**b.selection.because, **b.pulled_units}
    b.report["units"] = [
        unit_report(
            u,
            c.unit.object,
            because.get(c.unit.source, ""),
            flags_of(read_producer(u.changes.original.obj)),
            c.optimized,
        )
        for c, u in b.parts
    ]


def _no_changes(view: View, place: str) -> Changes:
    from kgbuild.analysis.correlate import Correlation
    from kgbuild.special.entries import Entries

    nothing = Entries()
    return Changes(place, view, view, Correlation(view, view), nothing, nothing, (), (), (), (), (), ())


def _compare(b: Build, options: Options, cache: Cache) -> None:
    """After this, what changed is known, and that no type in use changed its layout."""
    with b.stage("diff"):
        units = []
        left: list[str] = []
        exports = _check_exports(b, options, cache)
        ledgers = []
        for c, unit in b.parts:
            changes = compute_changes(unit.changes.original, View(read(c.patched)), unit.source, lines=False)
            author, refusals = read_author(changes.patched, unit.source)
            changes, ignored = leave_out(changes, author)
            left += ignored
            refusals += changes.refusals
            if changes.changed or changes.new:
                refusals += _check_types(unit, changes, options, b)
            refusals += exports.get(unit.source, [])
            changes = _with_refusals(changes, tuple(refusals))
            ledgers.append(compute_ledger(changes.original.obj, changes.patched.obj))
            units.append(replace(unit, changes=changes, author=author, clones=parse_ipa_clones(c.patched_clones)))
            if not changes.nothing:
                b.warnings += _own_options(c)
            if not units[-1].clones.complete or units[-1].clones.unread:
                fact = "gcc's .ipa-clones is cut off or of an unknown form; what it does not say is taken from names"
                b.warnings.append(f"{unit.source}: {fact}")
    b.units = _judge_init(units, options, b)
    b.ledgers = [
        Unit(ledger, _left_out(before, after), after.author)
        for ledger, before, after in zip(ledgers, units, b.units, strict=True)
    ]
    b.warnings += left
    b.report["warnings"] = list(b.warnings)
    if all(u.changes.nothing for u in b.units):
        said = _account(b)
        fact = "; ".join([*left, *said]) or "no function changes; the compiled code is the same" + _renamed(b.units)
        raise NoChange(fact, remedy="nothing to patch")


def _account(b: Build) -> list[str]:
    """After this, it is known of each difference between originals and patched objects what becomes of it. A line for
    each that can have no effect; what nobody claims is refused with all the rest."""
    with b.stage("account"):
        b.accountings = account_all(b.ledgers, b.units, b.closure)
        if b.patches is not None:
            originals = {u.changes.place: u.changes.original.obj for u in b.units}
            files = [file for p in b.patches.patches for file in p.files]
            b.accountings = with_places(b.accountings, files, b.patches.applied.keys(), originals)
    b.report["accounting"] = accounting_report(b.accountings)
    refusals = [r for a in b.accountings for r in a.refusals]
    if b.closure is not None:
        b.closure.refusals += refusals
    elif refusals:
        raise Refused(refusals)
    b.tell("accounting")
    return no_effects(b.accountings)


def _renamed(units: Sequence[UnitResult]) -> str:
    """Which variables have other names in it, in a clause; "" where none has."""
    names = [
        f"{u.changes.original.atoms[o].name} is now called {u.changes.patched.atoms[p].name}"
        for u in units
        for o, p, _ in u.changes.renamed
        if stem(u.changes.original.atoms[o].name) != stem(u.changes.patched.atoms[p].name)
    ]
    return f" ({', '.join(names)})" if names else ""


def _left_out(before: UnitResult, after: UnitResult) -> tuple[Refusal, ...]:
    """What --ignore-init lets pass of a unit's refusals."""
    kept = {r.symbol for r in after.changes.refusals if r.code == "K3-init"}
    return tuple(r for r in before.changes.refusals if r.code == "K3-init" and r.symbol not in kept)


def _judge_init(units: list[UnitResult], options: Options, b: Build) -> tuple[UnitResult, ...]:
    """Leave out changes of init code where that was asked for, except those that set what the rest of the patch
    uses."""
    needed = find_needed([u.changes for u in units]) if any(u.changes.init_changed for u in units) else {}
    out = []
    for unit in units:
        refusals = []
        for r in unit.changes.refusals:
            why = needed.get((unit.changes.place, r.symbol), "") if r.code == "K3-init" else ""
            if why:
                fact = f"{r.fact}; {why}, so that it can't be left out"
                refusals.append(replace(r, fact=fact, remedy=RULES["K3-init"].remedy.partition(", or ")[2]))
            elif r.code == "K3-init" and options.ignore_init:
                b.warnings.append(f"{r.place}: {r.fact}; ignored by --ignore-init")
            else:
                refusals.append(r)
        out.append(replace(unit, changes=_with_refusals(unit.changes, tuple(refusals))))
    return tuple(out)


def _with_refusals(changes: Changes, refusals: tuple[Refusal, ...]) -> Changes:
    return replace(changes, refusals=refusals)


def _own_options(c: Compiled) -> list[str]:
    """A function with options of its own may keep to another convention than the unit: reported."""
    what = "a function has options of its own; its callers in other units rely on the calling convention only"
    return [f"{file}:{line}: {text}: {what}" for file, line, text in c.optimized]


def _check_types(unit: UnitResult, changes: Changes, options: Options, b: Build) -> list[Refusal]:
    def address(atom: Atom) -> int | None:
        # where a module is loaded is not known
        binding = unit.parity.bindings.get(atom.id) if unit.target == VMLINUX else None
        return binding.address if binding is not None else None

    refusals, warnings = check_types(changes, options.allow_types, address)
    b.warnings += warnings
    return refusals


def _check_exports(b: Build, options: Options, cache: Cache) -> dict[str, list[Refusal]]:
    """What is refused of the exports of each unit, by its source."""
    from kgbuild.host.exporttypes import check_exports

    assert b.tree is not None
    found = check_exports(
        b.tree,
        b.compiled,
        b.selection.files,
        b.selection.real,
        lambda: _exports(b),
        cache,
        options.jobs,
        options.allow_types,
    )
    out: dict[str, list[Refusal]] = {}
    for refusal in found:
        out.setdefault(refusal.place.partition(": ")[0], []).append(refusal)
    return out


def _exports(b: Build) -> dict[str, Export]:
    """What the kernel exports, and what the out-of-tree modules do that were given."""
    assert b.kernel is not None
    exports = parse_symvers(b.kernel.symvers.read_text())
    if b.oot_modules:
        from kgbuild.host.oot import exports_of

        exports = exports_of(b.oot_modules) | exports
    return exports


def _graph(b: Build, progress: Progress) -> CallGraph:
    """The kernel's call graph; the index is made when it is first asked for."""
    if b.graph is None:
        from kgbuild.host.index import load_index

        assert b.tree is not None
        with b.stage("index"):
            b.graph = load_index(b.tree, progress)
    return b.graph


def _too_many(b: Build, fact: str) -> Refusal:
    assert b.closure is not None
    units = ", ".join(sorted(b.closure.needs)[:6])
    first = next(iter(b.closure.needs.values()))[0]
    return Refusal("K15-pull", units, f"{fact}: {first}" if first else fact)


def _pull_units(b: Build, image: KernelImage, cache: Cache, options: Options, progress: Progress) -> None:
    """Compile and prove the units in which functions come along. Raises Refused over the bound of --max-pull."""
    assert b.tree is not None and b.closure is not None and b.modules is not None
    needs = b.closure.needs
    if len(b.pulled_units) + len(needs) > options.max_pull:
        count = len(b.pulled_units) + len(needs)
        raise Refused([_too_many(b, f"{count} units would come along, the limit of --max-pull is {options.max_pull}")])
    commands = load_unit_commands(b.tree, needs)
    lost = sorted(source for source in needs if not commands.get(source) or source in b.pulled_units)
    if lost:
        raise Refused(
            [Refusal("K15-pull", source, f"{needs[source][0]}, and is not found in its unit") for source in lost]
        )
    with b.stage("compile"):
        units = [unit for source in sorted(commands) for unit in commands[source]]
        compiled = compile_units(b.tree, units, {}, cache, progress, options.jobs)
    b.pulled_units.update({source: reasons[0] for source, reasons in needs.items()})
    with b.stage("parity"):
        parts = _parts(b, compiled, image)
    b.compiled += compiled
    b.parts += parts
    same = []
    for c, unit in parts:
        changes = compute_changes(unit.changes.original, View(read(c.original)), unit.source, lines=False)
        same.append(replace(unit, changes=changes, clones=parse_ipa_clones(c.original_clones)))
    b.units += tuple(same)
    _report_units(b)
    b.tell("pulled")


def _close(b: Build, image: KernelImage, cache: Cache, options: Options, progress: Progress) -> None:
    """After this, every member is known with its reason, and every reference is bound or refused."""
    exports = _exports(b)
    for _ in range(MAX_ROUNDS):
        with b.stage("close"):
            b.closure = close(
                b.units,
                image,
                exports,
                options.allow_unproven,
                modules_at_stake(b),
                lambda: _graph(b, progress),
                pull_always=options.pull == ALWAYS,
                tracked=INDIRECT_BRANCHES in b.features,
            )
        if b.closure.refusals or not b.closure.needs:
            break
        _pull_units(b, image, cache, options, progress)
    else:
        raise Refused([_too_many(b, f"after {MAX_ROUNDS} rounds there are still more to come")])
    _account(b)
    b.closure.warnings[:0] = b.warnings
    b.report.update(closure_report(b.closure))
    _warn(b, image, options, progress)
    b.tell("closure")
    if b.closure.refusals:
        raise Refused(b.closure.refusals)
    if not b.closure.redirects and not b.closure.callbacks:
        fact = "new functions only, and nothing of the running kernel calls them"
        raise NoChange("; ".join([fact, *no_effects(b.accountings)]), remedy="nothing to patch")


def _warn(b: Build, image: KernelImage, options: Options, progress: Progress) -> None:
    """What the kernel's consistency model can't do for this patch. Nothing is refused for it."""
    from kgbuild.host.consistency import consistency_report, find_warnings

    assert b.kernel is not None and b.closure is not None
    images: dict[str, KernelImage] = {VMLINUX: image, **modules_at_stake(b)}
    with b.stage("consistency"):
        found = find_warnings(b.closure, b.kernel, b.others, progress, options.replace, options.make_index, images)
    b.report["consistency"] = consistency_report(found)


def modules_at_stake(b: Build) -> dict[str, ModuleImage]:
    """Every target module, and all that those depend on."""
    assert b.modules is not None
    names = {u.target for u in b.units} - {VMLINUX}
    names |= {needed for name in names for needed in b.modules.depends(name)}
    found = ((name, b.modules.image(name)) for name in sorted(names))
    return {name: image for name, image in found if image is not None}


__all__ = ["find_out", "modules_at_stake"]
