# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages that make a module of what was found out: what each takes, what holds after it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgbuild import __version__
from kgbuild.arch import arch_of
from kgbuild.closure.close import Closure
from kgbuild.closure.lifetime import initial_values, new_variables
from kgbuild.closure.proof_record import make_record
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.elf.write import OutObject, write
from kgbuild.emit.backends import Backend, Request, choose_backend
from kgbuild.emit.extract import Identity, TargetIdentity, end_code, extract, table_order
from kgbuild.errors import UserError
from kgbuild.host.link.kbuild_directory import module_directory
from kgbuild.host.link.link import link_module
from kgbuild.host.link.module_objects import wrapper_source, wrapper_symbols
from kgbuild.host.system.cache import Cache
from kgbuild.kernel.feature_probes import CLEARS_LATE, TEXT_POKE, TEXT_POKE_SYMBOLS
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.livepatch.cumulative import Patched, check_kernel, put_on_top
from kgbuild.livepatch.data_handover import begin_anew
from kgbuild.model import VMLINUX
from kgbuild.patch.kept_changes import as_note
from kgbuild.pipeline.options import Options
from kgbuild.pipeline.state import Build
from kgbuild.proof.record import FUNCTION, NOTE_SCHEMA, Key, ProofRecord, record_json
from kgbuild.report.build import (
    author_report,
    finding_report,
    on_top_report,
)

MAX_NAME = 55


def module_name(path: Path) -> str:
    """The module's name for an output path: `a-b.ko` is module `a_b`. Raises Refused (K16-name)."""
    name = path.name.removesuffix(".ko").replace("-", "_")
    if not re.fullmatch(r"[A-Za-z0-9_]+", name) or len(name) > MAX_NAME:
        fact = f"{name!r} has {len(name)} characters" if len(name) > MAX_NAME else f"{name!r} is no module name"
        raise Refused([Refusal("K16-name", path.name, fact, symbol=name)])
    return name


def put_on_older(b: Build, name: str, options: Options) -> None:
    """After this, it is known what becomes of the patches that are loaded before. Raises Refused, and UserError for a
    --drop that stands for nothing."""
    if not b.older and not options.drop:
        return
    assert b.closure is not None
    mine = [Patched(r.object, r.name, r.sympos) for r in b.closure.redirects]
    b.on_top = put_on_top(name, mine, b.closure.states, options.replace, b.older, options.drop, b.lost)
    refusals = [*b.on_top.refusals, *check_kernel(b.older, {t: b.module_image(t).build_id for t in b.closure.targets})]
    anew = begin_anew(b.on_top.active, new_variables(b.closure), options.replace)
    b.on_top = replace(b.on_top, warnings=(*b.on_top.warnings, *anew))
    b.closure.warnings += b.on_top.warnings
    b.report["warnings"] = list(b.closure.warnings)
    b.report.update(on_top_report(b.on_top))
    b.tell("on-top")
    if b.on_top.unused:
        raise UserError(
            "no patch given with --on-top-of loses such a function",
            place=f"--drop {b.on_top.unused[0]}",
            remedy="leave the option out, or mend the name",
        )
    if refusals:
        raise Refused(refusals)


def _identities(b: Build) -> tuple[TargetIdentity, ...]:
    """How the patch is to know its target modules. Raises Refused for one that can't be known."""
    assert b.closure is not None
    out, refusals = [], []
    for target in b.closure.targets:
        image = b.module_image(target)
        anchor = image.note_anchor
        if anchor is None:
            fact = "has no build-id note beside a symbol, so a loaded module can't be told from another of its name"
            refusals.append(Refusal("K19-module-identity", target, fact, symbol=target))
        else:
            out.append(TargetIdentity(target, bytes.fromhex(image.build_id), anchor[0], 0, anchor[1]))
    if refusals:
        raise Refused(refusals)
    return tuple(out)


def emit(b: Build, image: KernelImage, name: str, cache: Cache, options: Options) -> None:
    assert b.kernel is not None and b.closure is not None and b.patches is not None
    with b.stage("link"):
        targets = _identities(b)
        backend = choose_backend(options.backend, b.features, b.kernel.id.name)
        b.report["backend"] = backend.name
        clear = backend.injects and bool(targets) and CLEARS_LATE not in b.features
        constants = bool(b.closure.constants)
        check_writing(b.closure, clear, b.features)
        defines = ["KGBUILD_TARGETS"] * bool(targets) + ["KGBUILD_CLEAR_LATE"] * clear
        defines += ["KGBUILD_CONSTANTS"] * constants
        defines += ["KGBUILD_CALLBACKS"] * bool(b.closure.callbacks) + ["KGBUILD_STATES"] * bool(b.closure.states)
        initial = initial_values(b.closure)
        defines += ["KGBUILD_INITIAL"] * bool(initial)
        defines += ["KGBUILD_KEYS"] * any(i.keys for i in initial)
        defines += ["KGBUILD_CALLS"] * any(i.trampoline for i in initial)
        defines += backend.defines(b.features)
        defines += backend.macros([(r.object, r.name, r.sympos) for r in table_order(b.closure)])
        own = [(VMLINUX, name, 0) for name in _wrapper_symbols(b, backend, cache, defines)]
        own += [(t.name, t.anchor, t.sympos) for t in targets]
        b.record = _record(b, image, own, options)
        note = json.dumps(_note(b, backend), sort_keys=True, separators=(",", ":"))
        identity = Identity(bytes.fromhex(b.kernel.id.build_id), options.replace, note, targets, clear)
        output = _for_backend(b, backend, extract(b.closure, identity), image)
        keep = None
        if options.keep is not None:
            keep = options.keep / "2-link"
            keep.mkdir(parents=True, exist_ok=True)
        b.module = link_module(b.kernel, cache, output, name, b.features, backend, defines, keep)
        if options.directory:
            b.directory = module_directory(b.kernel, name, wrapper_source(backend.wrapper, defines), write(output))


def _wrapper_symbols(b: Build, backend: Backend, cache: Cache, defines: list[str]) -> list[str]:
    assert b.kernel is not None and b.closure is not None
    bound = wrapper_symbols(b.kernel, cache, backend.wrapper, defines)
    return sorted({*bound, *backend.own_symbols(b.features, bool(b.closure.targets))})


def _for_backend(b: Build, backend: Backend, output: OutObject, image: KernelImage) -> OutObject:
    """The object for the linker. Raises Refused with all that the back end can't emit."""
    assert b.record is not None and b.closure is not None

    def image_of(name: str) -> KernelImage:
        return image if name == VMLINUX else b.module_image(name)

    request = Request(arch_of(output.machine), b.features, {p.key: p for p in b.record.bound}, image_of)
    refusals = backend.check(output, request)
    if refusals:
        raise Refused(refusals)
    made = backend.transform(output, request)
    end_code(made)
    return made


def check_writing(closure: Closure, clear_late: bool, features: frozenset[str]) -> None:
    """Raise Refused (K2-special) where the module has to write into its own code, and this kernel has no way to."""
    if (clear_late or closure.constants) and TEXT_POKE not in features:
        fact = f"writing into the module's code needs {', '.join(TEXT_POKE_SYMBOLS)}, and the kernel lacks one"
        raise Refused([Refusal("K2-special", ", ".join(closure.constants or closure.targets), fact)])


def _record(b: Build, image: KernelImage, own: list[Key], options: Options) -> ProofRecord:
    """The proof record of what is about to be linked; it is in the report from here on."""
    assert b.kernel is not None and b.closure is not None
    ids = {VMLINUX: b.kernel.id.build_id, **{t: b.module_image(t).build_id for t in b.closure.targets}}
    allowed = [(row["option"], row["value"]) for row in options.allowed]
    record = make_record(b.closure, lambda name: image if name == VMLINUX else b.module_image(name), ids, own, allowed)
    b.report["proof"] = {**_source(b), **record_json(record)}
    return record


def _source(b: Build) -> dict[str, Any]:
    """Where a module or a record came from: no times, no paths, so that builds are reproducible."""
    assert b.kernel is not None and b.patches is not None
    return {
        "tool": f"kgbuild {__version__}",
        "kernel": {"name": b.kernel.id.name, "version": b.kernel.id.version, "compiler": b.kernel.compiler},
        "patches": [{"name": p.name, "sha256": p.sha256} for p in b.patches.patches],
    }


def _note(b: Build, backend: Backend) -> dict[str, Any]:
    """What the module says of itself, in .note.kgbuild (docs/schema/note.md)."""
    assert b.closure is not None and b.record is not None
    digests = b.record.digests
    bound: dict[str, dict[str, str]] = {}
    for p in b.record.bound:
        if p.kind == FUNCTION:
            bound.setdefault(p.object, {})[f"{p.name},{p.sympos}"] = p.digest
    literals: dict[str, dict[str, str]] = {}
    for c in b.record.literals:
        literals.setdefault(c.symbol, {})[f"{c.address:#x},{c.size}"] = c.digest
    return {
        "schema": NOTE_SCHEMA,
        **_source(b),
        "changes": as_note(b.changes),
        "backend": backend.name,
        "build_ids": dict(b.record.build_ids),
        "functions": [
            {"object": r.object, "name": r.name, "sympos": r.sympos, "digest": digests[(r.object, r.name, r.sympos)]}
            for r in b.closure.redirects
        ],
        "bound": bound,
        "data": [v._asdict() for v in new_variables(b.closure)],
        **({"literals": literals} if literals else {}),
        "allowed": [f"{option} {value}".strip() for option, value in b.record.allowed],
        "accepted": list(b.closure.warnings),
        **author_report(b.closure),
    }


def check_written(b: Build, output: Path, image: KernelImage) -> None:
    """Read back what was written, by another reader than the one that wrote it."""
    from kgbuild.pipeline.verify import verify_module

    assert b.kernel is not None and b.closure is not None
    with b.stage("verify"):
        b.findings = verify_module(b.module, b.kernel, output.name, image, b.record, b.oot_modules)
    b.report["findings"] = finding_report(b.findings)
    b.report["module"] = {
        "name": module_name(output),
        "path": str(output),
        "sha256": hashlib.sha256(b.module).hexdigest(),
        "size": len(b.module),
        "functions": [{"object": r.object, "name": r.name, "sympos": r.sympos} for r in b.closure.redirects],
    }


__all__ = ["check_writing", "check_written", "emit", "module_name", "put_on_older"]
