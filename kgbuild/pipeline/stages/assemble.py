# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a module of a closed patch, and reads it back with a different reader than the one that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgbuild import __version__
from kgbuild.arch import arch_of
from kgbuild.closure.lifetime import initial_values, new_variables
from kgbuild.closure.model import Closure
from kgbuild.closure.proof_record import make_record
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.elf.write import OutObject, write
from kgbuild.emit.backends import choose_backend
from kgbuild.emit.backends.backend import Backend, Request
from kgbuild.emit.extract import end_code, extract
from kgbuild.emit.patch_tables import Identity, TargetIdentity, table_order
from kgbuild.errors import UserError
from kgbuild.host.link.kbuild_directory import module_directory
from kgbuild.host.link.link import link_module
from kgbuild.host.link.module_objects import wrapper_source, wrapper_symbols
from kgbuild.host.modules.running import RunningKernel
from kgbuild.kernel.feature_probes import CLEARS_LATE, MODULES_REFUSED, TEXT_POKE, what_text_poke_needs
from kgbuild.livepatch.cumulative import Patched, check_kernel, put_on_top
from kgbuild.livepatch.data_handover import warn_of_lost_values
from kgbuild.model import VMLINUX
from kgbuild.patch.kept_changes import as_note
from kgbuild.pipeline.stages.events import Run
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.values import Assembled, Checked, Closed, Inputs, Prepared, PutOnTop, Recorded
from kgbuild.proof.record import (
    FUNCTION,
    NOTE_SCHEMA,
    ProofRecord,
    SymbolKey,
    contents_json,
    digest_record,
    parse_record,
    record_json,
)
from kgbuild.report.build import author_report
from kgbuild.verification.reading.contents import digest_contents
from kgbuild.verification.reading.reader import read_module

WATCHES_MODULES = "main.c"  # the wrapper that has callers.c


def put_on_older(asked: Inputs, prepared: Prepared, closed: Closed, name: str, run: Run) -> Closed:
    """Decide what becomes of the patches that are loaded before, and tell the observer; the closed patch, with what
    that warns of. Raises Refused, and UserError for a --drop that names nothing."""
    options, closure, running = run.options, closed.closure, prepared.running
    if not asked.older and not options.drop:
        return closed
    own = [Patched(r.object, r.name, r.sympos) for r in closure.redirects]
    lost = prepared.applied.lost
    on_top = put_on_top(name, own, closure.states, options.replace, asked.older, options.drop, lost)
    refusals = [*on_top.refusals, *check_kernel(asked.older, {t: running.build_id(t) for t in closure.targets})]
    started_anew = warn_of_lost_values(on_top.active, new_variables(closure), options.replace)
    on_top = replace(on_top, warnings=(*on_top.warnings, *started_anew))
    run.observer.reached(PutOnTop(on_top))
    if on_top.unused:
        raise UserError(
            "no patch given with --on-top-of loses such a function",
            place=f"--drop {on_top.unused[0]}",
            remedy="leave the option out, or correct the name",
        )
    if refusals:
        raise Refused(refusals)
    return replace(closed, closure=replace(closure, warnings=(*closure.warnings, *on_top.warnings)))


def _identities(closure: Closure, running: RunningKernel) -> tuple[TargetIdentity, ...]:
    """How the patch recognises its target modules. Raises Refused for a module that can't be recognised."""
    out, refusals = [], []
    for target in closure.targets:
        image = running.module(target)
        anchor = image.note_anchor
        if anchor is None:
            fact = "has no build-id note beside a symbol, so a loaded module can't be told from another of its name"
            refusals.append(Refusal("K19-module-identity", target, fact, symbol=target))
        else:
            out.append(TargetIdentity(target, bytes.fromhex(image.build_id), anchor[0], 0, anchor[1]))
    if refusals:
        raise Refused(refusals)
    return tuple(out)


def assemble(prepared: Prepared, closed: Closed, name: str, run: Run) -> Assembled:
    """Extract, link and inject. Raises Refused for what the back end can't emit, ToolError if a program fails."""
    options, closure, running = run.options, closed.closure, prepared.running
    kernel, features = running.kernel, running.features
    with run.stage("link"):
        targets = _identities(closure, running)
        backend = choose_backend(options.backend, features, kernel.id.name)
        clear = backend.injects and bool(targets) and CLEARS_LATE not in features
        check_writing(closure, clear, features)
        check_assumed(closure, backend, features)
        defines = _defines(closure, backend, features, bool(targets), clear)
        bound = wrapper_symbols(kernel, run.cache, backend.wrapper, defines)
        names = sorted({*bound, *backend.own_symbols(features, bool(closure.targets))})
        own: list[SymbolKey] = [(VMLINUX, symbol, 0) for symbol in names]
        own += [(t.name, t.anchor, t.sympos) for t in targets]
        record = _record(closure, running, own, options)
        source = {**_source(prepared), "options": made_with(options, backend.name)}
        proof = {**record_json(record), **source}
        run.observer.reached(Recorded(backend.name, proof))
        text = {**_note(source, prepared, closure, record, backend, options), "record": digest_record(proof)}
        note = json.dumps(text, sort_keys=True, separators=(",", ":"))
        identity = Identity(bytes.fromhex(kernel.id.build_id), options.replace, note, targets, clear, options.fixes)
        output = _for_backend(backend, extract(closure, identity), running, record)
        keep = None
        if options.keep is not None:
            keep = options.keep / "2-link"
            keep.mkdir(parents=True, exist_ok=True)
        module = link_module(kernel, run.cache, output, name, features, backend, defines, keep)
        contents = digest_contents(read_module(module, f"{name}.ko", output.machine))
        proof = {**proof, "module": contents_json(contents)}
        record = parse_record(proof)
        directory: dict[str, bytes] = {}
        if options.directory:
            directory = module_directory(kernel, name, wrapper_source(backend.wrapper, defines), write(output))
    assembled = Assembled(name, backend.name, record, proof, module, directory)
    run.observer.reached(assembled)
    return assembled


def _defines(closure: Closure, backend: Backend, features: frozenset[str], targets: bool, clear: bool) -> list[str]:
    """Which parts of the wrapper this patch needs, as macros for its C text."""
    initial = initial_values(closure)
    parts = {
        "KGBUILD_TARGETS": targets,
        "KGBUILD_CLEAR_LATE": clear,
        "KGBUILD_CONSTANTS": bool(closure.constants),
        "KGBUILD_CALLBACKS": bool(closure.callbacks),
        "KGBUILD_STATES": bool(closure.states),
        "KGBUILD_ASSUMED": bool(closure.assumed),
        "KGBUILD_INITIAL": bool(initial),
        "KGBUILD_KEYS": any(i.keys for i in initial),
        "KGBUILD_CALLS": any(i.trampoline for i in initial),
    }
    defines = [name for name, wanted in parts.items() if wanted]
    rows = [(r.object, r.name, r.sympos) for r in table_order(closure)]
    return [*defines, *backend.defines(features), *backend.macros(rows)]


def _for_backend(backend: Backend, output: OutObject, running: RunningKernel, record: ProofRecord) -> OutObject:
    """The object for the linker. Raises Refused with all that the back end can't emit."""
    request = Request(arch_of(output.machine), running.features, {p.key: p for p in record.bound}, running.image)
    refusals = backend.check(output, request)
    if refusals:
        raise Refused(refusals)
    made = backend.transform(output, request)
    end_code(made)
    return made


def check_writing(closure: Closure, clear_late: bool, features: frozenset[str]) -> None:
    """Raise Refused (K2-special) where the module has to write into its own code, and this kernel has no way to."""
    if (clear_late or closure.constants) and TEXT_POKE not in features:
        fact = f"writing into the module's code needs {what_text_poke_needs()}"
        raise Refused([Refusal("K2-special", ", ".join(closure.constants or closure.targets), fact)])


def check_assumed(closure: Closure, backend: Backend, features: frozenset[str]) -> None:
    """Raise Refused (K4-not-traceable) where the module can't keep others from calling what it can't redirect: by a
    back end whose wrapper does not, or on a kernel that loads a module whatever a notifier says."""
    if not closure.assumed or (backend.wrapper == WATCHES_MODULES and MODULES_REFUSED in features):
        return
    who = f"the back end {backend.name}" if MODULES_REFUSED in features else "this kernel (before 5.10)"
    fact = f"{who} has no way to keep other modules from calling it, which --assume-in-tree-callers needs"
    raise Refused([Refusal("K4-not-traceable", name, fact, symbol=name) for name in closure.assumed])


def _record(closure: Closure, running: RunningKernel, own: list[SymbolKey], options: Options) -> ProofRecord:
    """The proof record of what is about to be linked."""
    ids = {name: running.build_id(name) for name in (VMLINUX, *closure.targets)}
    allowed = [(row["option"], row["value"]) for row in options.allowed]
    return make_record(closure, running.image, ids, own, allowed)


def _source(prepared: Prepared) -> dict[str, Any]:
    """Where a module or a record came from: no times, no paths, so that builds are reproducible."""
    kernel = prepared.running.kernel
    return {
        "tool": f"kgbuild {__version__}",
        "kernel": {"name": kernel.id.name, "version": kernel.id.version, "compiler": kernel.compiler},
        "patches": [{"name": p.name, "sha256": p.sha256} for p in prepared.applied.patches.patches],
    }


def made_with(options: Options, backend: str) -> dict[str, Any]:
    """Every option that changes bytes of a module, the back end that was chosen included."""
    return {"backend": backend, "replace": options.replace, **options.for_bytes}


def _note(
    source: Mapping[str, Any],
    prepared: Prepared,
    closure: Closure,
    record: ProofRecord,
    backend: Backend,
    options: Options,
) -> dict[str, Any]:
    """What the module says of itself, in .note.kgbuild (docs/schema/note.md)."""
    digests = record.digests
    bound: dict[str, dict[str, str]] = {}
    for proven in record.bound:
        if proven.kind == FUNCTION:
            bound.setdefault(proven.object, {})[f"{proven.name},{proven.sympos}"] = proven.digest
    literals: dict[str, dict[str, str]] = {}
    for literal in record.literals:
        literals.setdefault(literal.symbol, {})[f"{literal.address:#x},{literal.size}"] = literal.digest
    return {
        "schema": NOTE_SCHEMA,
        **source,
        "changes": as_note(prepared.applied.changes),
        "backend": backend.name,
        "replace": options.replace,
        "build_ids": dict(record.build_ids),
        "functions": [
            {"object": r.object, "name": r.name, "sympos": r.sympos, "digest": digests[(r.object, r.name, r.sympos)]}
            for r in closure.redirects
        ],
        "bound": bound,
        "data": [v._asdict() for v in new_variables(closure)],
        **({"literals": literals} if literals else {}),
        **({"assumed": list(closure.assumed)} if closure.assumed else {}),
        **({"fixes": list(options.fixes)} if options.fixes else {}),
        **({"release": options.release} if options.release else {}),
        "allowed": [f"{option} {value}".strip() for option, value in record.allowed],
        "accepted": list(closure.warnings),
        **author_report(closure),
    }


def check(prepared: Prepared, assembled: Assembled, output: Path, run: Run) -> Checked:
    """Read back what was written, by another reader than the one that wrote it."""
    from kgbuild.pipeline.stages.verify import verify_module

    running = prepared.running
    with run.stage("verify"):
        findings = verify_module(
            assembled.module, running.kernel, output.name, running.vmlinux, assembled.record, running.oot_modules
        )
    checked = Checked(tuple(findings))
    run.observer.reached(checked)
    return checked
