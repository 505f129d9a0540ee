# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild verify`: checks a live patch module against its kernel, with a different reader than the one that wrote
it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import KgbuildCommand
from kgbuild.report.documents import rows_of
from kgbuild.report.formats import FOR_REVIEW, Answer

if TYPE_CHECKING:
    from kgbuild.model import Finding, ToolChoice


@click.command(cls=KgbuildCommand, short_help="Check a live patch module against a kernel.")
@click.argument("module", metavar="PATCH.ko", type=click.Path(path_type=Path))
@options.kernel_option
@click.option(
    "--proof",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Check a record that build --proof wrote against the module and the kernel.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="CERT",
    help="Check that the module is signed by the key of this certificate (PEM).",
)
@click.option(
    "--kernel-keys",
    metavar="running|FILE",
    help="Check that a kernel has that key: the one that runs here, or the one whose keyctl show is in FILE.",
)
@options.oot_module_option
@options.jobs_option
@options.tool_options
@options.common_options(*FOR_REVIEW, about=options.ABOUT_REVIEW)
@click.pass_context
def verify(
    context: click.Context,
    module: Path,
    kernel_name: str,
    proof: Path | None,
    certificate: Path | None,
    kernel_keys: str | None,
    oot_modules: tuple[Path, ...],
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Check that PATCH.ko is what the kernel NAME will accept, and say everything that is wrong with it.

    Identity, version magic, CRCs, every symbol it is bound to, every function it patches, relocations and the
    instructions that hold them, sections and the tables the kernel will act on. The digests of all functions it
    replaces and is bound to are computed again from the kernel's own files; --proof does the same with a record, and
    checks that the module is, apart from a signature, the one that was built. Nothing is loaded, and nothing of the
    patch compiled; without --proof the wrapper that every module has is compiled again.

    \b
    Example:
      kgbuild verify livepatch-proc-version.ko --kernel debian:newest-6.1-cloud
    """
    out = common.output()
    from kgbuild.cli.delivery.sign import look_at_signature
    from kgbuild.host.delivery.kernel_keys import kernel_keys as read_kernel_keys
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.host.modules.images import name_modules
    from kgbuild.host.system.input_files import read_packed
    from kgbuild.pipeline.stages.verify import read_record
    from kgbuild.pipeline.stages.verify import verify as verify_bytes

    data = read_packed(module)
    record = read_record(proof) if proof is not None else None
    own = name_modules(oot_modules)
    keys = read_kernel_keys(kernel_keys) if kernel_keys is not None else None
    kernel = ensure_kernel(kernel_name, progress=out, offline=common.offline, jobs=jobs, choice=tools)
    out.line("kernel", f"{kernel.id}, {kernel.compiler}")
    began = time.monotonic()
    named = str(proof) if proof is not None else None
    found = verify_bytes(data, kernel, str(module), record=record, own=own, proof=named)
    signed = look_at_signature(data, certificate, str(module), keys)
    found = replace(found, findings=(*found.findings, *signed.findings), signature=signed.data)
    findings = list(found.findings)
    if record is not None:
        unproven = sum(not p.proven for p in (*record.replaced, *record.bound))
        note = f"; {unproven} accepted without proof" if unproven else ""
        out.line("proof", f"{len(record.replaced)} replaced, {len(record.bound)} bound{note}")
    out.line("signed", signed.text)
    for note in found.notes:
        out.line("note", note)
    count = len(findings)
    fact = f"{count} finding{'s' * (count != 1)}" if findings else "no finding"
    style = "red" if findings else "green"
    out.line("verify", f"{module}  {len(data) / 1024:.0f} KiB  {fact}", time.monotonic() - began, style=style)
    common.deliver(
        Answer(found.to_json, lambda _: _lines(findings, common.verbose)),
        status=1 if findings else 0,
        errors=rows_of(findings),
    )
    context.exit(1 if findings else 0)


def _lines(findings: list[Finding], verbose: bool) -> Iterator[str]:
    """The findings; with `verbose` each with the rule of its code."""
    from kgbuild.diagnostics.registry import RULES

    for f in findings:
        remedy = f"\n  -> {f.remedy}" if f.remedy else ""
        rule = f"\n  rule: {RULES[f.code].rule}" if verbose and f.code in RULES else ""
        yield f"\n{f.code}   {f.place}\n  {f.fact}{rule}{remedy}"
