# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild sign`, and what build and verify have to do with signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.host.system.output_kinds import MODULE
from kgbuild.report.documents import schema_name
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.delivery.kernel_keys import KernelKey
    from kgbuild.host.compile.apply_patches import PatchInput
    from kgbuild.host.delivery.signing import SigningKey
    from kgbuild.model import Finding
    from kgbuild.pipeline.build import Built
    from kgbuild.pipeline.stages.options import Options


def open_signing(key: str | None, certificate: Path | None) -> SigningKey | None:
    """The key of --sign-key and --sign-cert, tried; None where neither is given. Raises UserError."""
    from kgbuild.errors import UserError
    from kgbuild.host.delivery.signing import open_key

    if key is None:
        if certificate is not None:
            raise UserError("a certificate without its key", place="--sign-cert", remedy="say --sign-key KEY too")
        return None
    return open_key(key, certificate)


def sign_built(module: bytes, key: SigningKey) -> bytes:
    """A module that was just built, signed."""
    from kgbuild.host.delivery.signing import sign_module

    return sign_module(module, key)


def about_signed(report: dict[str, Any], module: bytes) -> dict[str, Any]:
    """The report with size and digest of the module that is written, where it is another one than was built."""
    about = report.get("module")
    if isinstance(about, dict):
        about.update({k: v for k, v in _measures(module).items() if k in about})
    return report


def _measures(data: bytes) -> Mapping[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "bytes": len(data)}


def write_statements(
    common: options.Common,
    built: Built,
    patches: Sequence[PatchInput],
    chosen: Options,
    module: bytes,
    key: SigningKey | None,
    provenance: Path | None,
    sbom: Path | None,
) -> None:
    """Write what --provenance and --sbom name; the provenance signed where there is a key. Raises ToolError where a
    patch is not the one any more that was built."""
    from kgbuild.delivery.provenance import make_sbom, statement_text
    from kgbuild.errors import ToolError
    from kgbuild.host.compile.apply_patches import read_texts
    from kgbuild.pipeline.delivery.provenance import statement_file, statement_of

    texts = []
    read = [text for number, given in enumerate(patches, 1) for text in read_texts(given, number)]
    for (_, data), row in zip(read, built.to_json()["patches"], strict=True):
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise ToolError("was changed while it was built", place=row["name"], remedy="build again")
        texts.append((str(row["name"]), data))
    statement = statement_of(built, texts, chosen, module)
    if provenance is not None:
        common.write(provenance, statement_file(statement, key))
    if sbom is not None:
        common.write(sbom, statement_text(make_sbom(statement)))


@dataclass(frozen=True)
class SignatureSeen:
    """What `verify` tells of a signature: a line, its row in JSON, and what is wrong with it."""

    text: str
    data: dict[str, Any] | None
    findings: tuple[Finding, ...] = ()


def look_at_signature(
    module: bytes, certificate: Path | None, place: str, keys: Sequence[KernelKey] | None = None
) -> SignatureSeen:
    """By whom a module is signed; where a certificate is given, whether by that one's key; where the keys of a kernel
    are given, whether it has the key."""
    from kgbuild.delivery.signature import split_signature
    from kgbuild.diagnostics.module_findings import finding
    from kgbuild.errors import ToolError
    from kgbuild.host.delivery.signing import is_signed_by, read_signature

    if split_signature(module)[1] is None:
        asked = certificate is not None or keys is not None
        wrong = (finding("V61-signature", place, "has no signature"),) if asked else ()
        return SignatureSeen("by nobody", None, wrong)
    try:
        found = read_signature(module)
    except ToolError as error:
        return SignatureSeen("by nobody that can be read", None, (finding("V61-signature", place, error.fact),))
    assert found is not None
    text = f"by {found.issuer}, serial {found.serial}, {found.digest}"
    row: dict[str, Any] = {"issuer": found.issuer, "serial": found.serial, "digest": found.digest, "trusted": None}
    row["keyrings"] = None
    if certificate is None:
        return SignatureSeen(text + _same_name(keys, found.issuer), row)
    trusted = is_signed_by(module, certificate)
    row["trusted"] = trusted
    if trusted:
        seen = SignatureSeen(f"{text}: the key of {certificate}", row)
        return seen if keys is None else _in_keyrings(seen, keys, certificate, place)
    fact = f"the signature is not by the key of {certificate}, or the module was changed after it"
    return SignatureSeen(text, row, (finding("V61-signature", place, fact),))


def _same_name(keys: Sequence[KernelKey] | None, issuer: str) -> str:
    """What can be said of a signature without its certificate: whether the kernel has a key of that name."""
    from kgbuild.delivery.kernel_keys import keyrings_with_name

    if keys is None:
        return ""
    rings = keyrings_with_name(keys, issuer)
    has = (
        f"{', '.join(rings)} has a certificate of that name" if rings else "the kernel has no certificate of that name"
    )
    return f"; {has}: --certificate says whether it is the one"


def _in_keyrings(seen: SignatureSeen, keys: Sequence[KernelKey], certificate: Path, place: str) -> SignatureSeen:
    """Whether the kernel has the certificate that a signature fits to."""
    from kgbuild.delivery.kernel_keys import keyrings_with
    from kgbuild.diagnostics.module_findings import finding
    from kgbuild.host.delivery.kernel_keys import certificate_names

    rings = keyrings_with(keys, certificate_names(certificate))
    assert seen.data is not None
    row = {**seen.data, "trusted": bool(rings), "keyrings": list(rings)}
    if rings:
        return SignatureSeen(f"{seen.text}, which the kernel has in {', '.join(rings)}", row)
    wrong = finding("V61-signature", place, f"the kernel does not have the key of {certificate}")
    remedy = "enrol the certificate (mokutil --import, or UEFI's db), or sign with a key that the kernel has"
    return SignatureSeen(seen.text, row, (replace(wrong, remedy=remedy),))


@click.command(cls=KgbuildCommand)
@click.argument("module", metavar="PATCH.ko", type=click.Path(path_type=Path))
@click.option("-o", "output", type=options.OutputFile(MODULE), metavar="FILE", required=True, help="Module to write.")
@options.sign_options
@options.common_options()
def sign(module: Path, output: Path, sign_key: str | None, sign_cert: Path | None, common: options.Common) -> None:
    """Sign PATCH.ko as the kernel's own sign-file does, in place of a signature that it had.

    \b
    Example:
      KGBUILD_SIGN_PIN=... kgbuild sign livepatch-3.ko --sign-key key.pem --sign-cert cert.pem -o signed/livepatch-3.ko
    """
    from kgbuild.delivery.patch_facts import read_live_patch
    from kgbuild.host.delivery.signing import read_signature, sign_module
    from kgbuild.host.system.input_files import read_packed

    out = common.output()
    key = open_signing(sign_key, sign_cert)
    if key is None:
        raise click.UsageError("say --sign-key KEY and --sign-cert CERT")
    data = read_packed(module)
    read_live_patch(data, str(module))
    signed = sign_module(data, key)
    found = read_signature(signed)
    assert found is not None
    common.write(output, signed)
    row = {"path": str(output), "issuer": found.issuer, "serial": found.serial, "digest": found.digest}
    sha = hashlib.sha256(signed).hexdigest()
    common.deliver(Answer(lambda: {"schema": schema_name("sign"), **row, "sha256": sha}))
    out.line("wrote", f"{output}  signed by {found.issuer}, serial {found.serial}")
