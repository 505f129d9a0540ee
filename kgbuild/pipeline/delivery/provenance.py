# SPDX-License-Identifier: GPL-2.0-or-later
"""`build --provenance` and `reproduce`: a statement of where a module comes from, and building it again by that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgbuild import __version__
from kgbuild.delivery.patch_facts import read_live_patch
from kgbuild.delivery.provenance import (
    PartDifference,
    Told,
    compare_modules,
    envelope_text,
    make_statement,
    open_envelope,
    preauthentication,
    read_statement,
    statement_text,
)
from kgbuild.delivery.signature import split_signature
from kgbuild.errors import UserError
from kgbuild.host.delivery.signing import SigningKey, is_blob_signed_by, sign_blob
from kgbuild.host.system.input_files import read_input, read_packed
from kgbuild.host.system.locks import temporary_directory
from kgbuild.limits import MODULE_BYTES
from kgbuild.model import Kernel, ToolChoice
from kgbuild.pipeline.build import Built, build
from kgbuild.pipeline.stages.events import Observer
from kgbuild.pipeline.stages.options import Options


def statement_of(
    built: Built, patches: Sequence[tuple[str, bytes]], options: Options, written: bytes
) -> dict[str, Any]:
    """The statement of a build that is done; `written` is the module as it goes to its file."""
    kernel = built.prepared.running.kernel
    given = [*options.on_top_of, *options.against, *options.oot_modules]
    inputs = {path.name: hashlib.sha256(read_input(path, MODULE_BYTES)).hexdigest() for path in given}
    return make_statement(
        built.to_json(),
        _digests(kernel),
        kernel.packages,
        patches,
        inputs,
        written,
        split_signature(written)[0],
    )


def _digests(kernel: Kernel) -> dict[str, str]:
    """SHA-256 of the kernel's files that a build reads."""
    out = {}
    for name, path in (("vmlinux", kernel.vmlinux), ("config", kernel.config), ("Module.symvers", kernel.symvers)):
        with path.open("rb") as stream:
            out[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return out


def statement_file(statement: Mapping[str, Any], key: SigningKey | None) -> bytes:
    """The statement as a file: signed (DSSE) where there is a key."""
    text = statement_text(statement)
    if key is None:
        return text
    key_id = hashlib.sha256(read_input(key.certificate, MODULE_BYTES)).hexdigest()
    return envelope_text(text, sign_blob(preauthentication(text), key), key_id)


@dataclass(frozen=True)
class Reproduced:
    """Whether building again gave the same bytes, and where not. `tool`: the kgbuild that built it first, where it is
    another than this."""

    same: bool
    given: str
    built: str
    differences: tuple[PartDifference, ...]
    notes: tuple[str, ...]
    signed: bool | None


def reproduce(
    module: Path,
    provenance: Path,
    observer: Observer,
    *,
    inputs: Sequence[Path] = (),
    certificate: Path | None = None,
    jobs: int = 2,
    offline: bool = False,
    mirror: str = "",
) -> Reproduced:
    """Build what a statement describes and compare it with a module, without signatures.

    `inputs` are the modules that the build was given; `certificate` is that of the key that signed the statement.
    Raises UserError where the statement does not describe this module, or an input is missing.
    """
    data = split_signature(read_packed(module))[0]
    read_live_patch(data, str(module))
    told, signed = read_provenance(provenance, certificate)
    sha256 = hashlib.sha256(data).hexdigest()
    notes = []
    if told.sha256 != sha256:
        notes.append(f"the statement is of a module with SHA-256 {told.sha256}, this one has {sha256}")
    if told.tool != __version__:
        notes.append(f"built by kgbuild {told.tool}, built again by {__version__}")
    options = _options(told, inputs, provenance, jobs, offline, mirror)
    with temporary_directory("reproduce") as work:
        paths = []
        for number, (name, content) in enumerate(told.patches):
            place = Path(work, str(number), Path(name).name)
            place.parent.mkdir()
            place.write_bytes(content)
            paths.append(place)
        built = build(paths, told.kernel, Path(f"{told.module}.ko"), options, observer)
    again = built.assembled.module
    found = () if again == data else tuple(compare_modules(_sections(data, module), _sections(again, module)))
    return Reproduced(again == data, sha256, hashlib.sha256(again).hexdigest(), found, tuple(notes), signed)


def read_provenance(path: Path, certificate: Path | None) -> tuple[Told, bool | None]:
    """What a file of --provenance says, and whether it is signed by a certificate's key (None: nobody asked). Raises
    UserError where it is not, or can't be read."""
    try:
        text, signed = read_signed(path, certificate)
        told = read_statement(text)
    except UserError as error:
        raise UserError(error.fact, place=error.place or str(path), remedy=error.remedy) from error
    return told, signed


def read_signed(path: Path, certificate: Path | None) -> tuple[bytes, bool | None]:
    """The statement in a file, and whether it is signed by a certificate's key (None: nobody asked). Raises UserError
    where it is not, or can't be read."""
    text, signatures = open_envelope(read_input(path, MODULE_BYTES))
    if certificate is None:
        return text, None
    if not any(is_blob_signed_by(preauthentication(text), one, certificate) for one in signatures):
        fact = f"is not signed by the key of {certificate}"
        raise UserError(fact, place=str(path), remedy="give the certificate of who made it")
    return text, True


def _options(told: Told, inputs: Sequence[Path], place: Path, jobs: int, offline: bool, mirror: str) -> Options:
    said = told.options
    known = {hashlib.sha256(read_input(p, MODULE_BYTES)).hexdigest(): p for p in inputs}

    def files(key: str) -> tuple[Path, ...]:
        out = []
        for name in said.get(key, ()):
            wanted = told.inputs.get(name, "")
            if wanted not in known:
                fact = f"the build was given {name} (SHA-256 {wanted})"
                raise UserError(fact, place=str(place), remedy="name that file with --input")
            out.append(known[wanted])
        return tuple(out)

    if said.get("oot"):
        raise UserError(
            "is of an out-of-tree module, whose source it does not hold", place=str(place), remedy="build it by hand"
        )
    return Options(
        allow_compiler=bool(said["allow_compiler"]),
        allow_unproven=frozenset(said["allow_unproven"]),
        allow_types=frozenset(said["allow_type"]),
        ignore_init=bool(said["ignore_init"]),
        dynamic_keys=bool(said.get("dynamic_keys", True)),
        assume_in_tree_callers=bool(said.get("assume_in_tree_callers", False)),
        replace=bool(said["replace"]),
        jobs=jobs,
        offline=offline,
        pull=str(said["pull"]),
        on_top_of=files("on_top_of"),
        drop=frozenset(said["drop"]),
        against=files("against"),
        backend=str(said["backend"]),
        tools=ToolChoice(said["toolchain"] == "host", bool(said["sandbox"]), mirror),
    )


def _sections(data: bytes, path: Path) -> list[tuple[str, bytes]]:
    return [(s.name, s.data) for s in read_live_patch(data, str(path)).sections]
