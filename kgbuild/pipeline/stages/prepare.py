# SPDX-License-Identifier: GPL-2.0-or-later
"""The first stages: read the inputs, choose the kernel, apply the patches, and find the units that they change. Nothing
is compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.diagnostics.unused_options import unused_option
from kgbuild.errors import NoChange, UserError
from kgbuild.host.compile.apply_patches import PatchInput, apply_patches, read_patches
from kgbuild.host.compile.candidate_search import is_fixed
from kgbuild.host.compile.unit_selection import choose_units
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.kbuild import check_compiler, find_own_compiler
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.host.modules.images import name_modules
from kgbuild.host.modules.loaded_patches import read_older_modules, read_others
from kgbuild.host.modules.running import RunningKernel
from kgbuild.kernel.config import check_config
from kgbuild.livepatch.cumulative import check_kernel
from kgbuild.model import VMLINUX, Kernel
from kgbuild.pipeline.stages.events import Run
from kgbuild.pipeline.stages.first_look import FirstLook
from kgbuild.pipeline.stages.kept_changes import changes_of, find_lost
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.values import Inputs, KernelChosen, Looked, PatchesApplied, Prepared, Warned


def ask(patches: Sequence[PatchInput], kernel: str | RunningKernel, options: Options) -> Inputs:
    """Read the user's inputs before a kernel is fetched. Raises UserError for what can't be read."""
    parsed = tuple(read_patches(patches))
    oot_modules = _name_oot(options)
    older = read_older_modules(options.on_top_of)
    others = read_others(options.against) if options.against else ()
    return Inputs(parsed, kernel, older, others, oot_modules)


def _name_oot(options: Options) -> dict[str, Path]:
    """The given out-of-tree modules, by name. Raises UserError."""
    if options.oot is None and not options.oot_modules:
        return {}
    from kgbuild.host.modules.out_of_tree import check_folder

    if options.oot is None or not options.oot_modules:
        given, missing = ("--oot-module", "--oot") if options.oot is None else ("--oot", "--oot-module")
        raise UserError(
            f"needs {missing} too", place=given, remedy="give the module's source and the .ko that is loaded"
        )
    check_folder(options.oot)
    return name_modules(options.oot_modules)


def choose_kernel(asked: Inputs, run: Run) -> KernelChosen:
    """The kernel, fetched if necessary. Raises Refused if it can't be patched on this machine."""
    options = run.options
    with run.stage("kernel"):
        if isinstance(asked.kernel, RunningKernel):
            running, requested = asked.kernel, asked.kernel.kernel.id.name
            if asked.oot_modules:
                running = RunningKernel(running.kernel, asked.oot_modules)
        else:
            requested = asked.kernel
            running = RunningKernel(
                ensure_kernel(
                    requested,
                    progress=run.observer,
                    offline=options.offline,
                    jobs=options.jobs,
                    cache=run.cache,
                    choice=options.tools,
                ),
                asked.oot_modules,
            )
    kernel = running.kernel
    warnings: list[str] = []
    # reached before anything is refused, so that a report names the kernel
    run.observer.reached(KernelChosen(running, requested))
    find_own_compiler(kernel)
    refusals = check_config(running.config_text)
    compiler = check_compiler(kernel)
    if compiler is not None:
        if not options.allow_compiler:
            refusals.append(compiler)
        else:
            warnings.append(f"{compiler.place}: {compiler.fact}; accepted by --allow-compiler")
            run.observer.reached(Warned(tuple(warnings)))
    elif options.allow_compiler:
        warnings.append(unused_option("--allow-compiler", "this compiler is the one that built the kernel"))
        run.observer.reached(Warned(tuple(warnings)))
    refusals += check_kernel(asked.older, {VMLINUX: kernel.id.build_id})
    if refusals:
        raise Refused(refusals)
    if options.backend:
        # before compiling anything for a module that can't be patched
        from kgbuild.emit.backends import choose_backend

        choose_backend(options.backend, running.features, kernel.id.name)
    return KernelChosen(running, requested, tuple(warnings))


@contextmanager
def open_patched_tree(chosen: KernelChosen, run: Run) -> Iterator[Kernel]:
    """Context with the tree of the patched units: the kernel, or the source of an out-of-tree module in its place."""
    if run.options.oot is None:
        yield chosen.kernel
        return
    from kgbuild.host.modules import out_of_tree

    with ExitStack() as stack:
        with run.stage("tree"):
            opened = out_of_tree.open_tree(
                chosen.kernel, run.options.oot, chosen.running.oot_modules, run.cache, run.observer
            )
            tree = stack.enter_context(opened)
        yield tree


def apply(asked: Inputs, tree: Kernel, run: Run) -> PatchesApplied:
    """The patches, applied in order. Raises Refused for what can't be applied, NoChange if no kernel code is
    touched."""
    with run.stage("patch"):
        patches = apply_patches(tree, asked.patches, run.observer)
        applied = PatchesApplied(patches, changes_of(tree, patches), find_lost(tree, patches, asked.older))
    run.observer.reached(applied)
    if not patches.files and not patches.refusals:
        what = "the patch touches no kernel code" if patches.skipped else "the patch changes nothing"
        skipped = patches.skipped_text()
        raise NoChange(what + (skipped and f" ({skipped})"), remedy="nothing to patch")
    return applied


def prepare(chosen: KernelChosen, applied: PatchesApplied, tree: Kernel, run: Run) -> Prepared:
    """Every unit of which the patch may change code or data; each is part of this kernel. Raises Refused for units that
    can't be patched, NoChange if no unit changes."""
    options = run.options
    looked = Looked()
    look = FirstLook(chosen, applied, tree, run, looked)
    with run.stage("units"):
        selection = choose_units(
            tree, applied.patches, run.cache, run.observer, options.jobs, options.max_units, look=look
        )
        commands = read_units(tree, selection.because)
    refusals = [*applied.patches.refusals, *selection.refusals]
    made = [unit for source in sorted(commands) for unit in commands[source]]
    units = tuple(unit for unit in made if not is_fixed(unit))
    warnings = [
        f"{unit.source}: {unit.object} is made of it too, can't be patched and stays as it is"
        for unit in made
        if is_fixed(unit)
    ]
    running = chosen.running
    at_hand = running.oot_modules if options.oot is not None else running.modules.paths
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
    prepared = Prepared(chosen, applied, tree, selection, units, (*chosen.warnings, *warnings), looked)
    run.observer.reached(prepared)
    if refusals:
        raise Refused(refusals)
    if not units:
        raise NoChange(
            "the patch changes nothing that a unit of this kernel makes code or data of", remedy="nothing to patch"
        )
    return prepared
