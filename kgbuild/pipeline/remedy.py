# SPDX-License-Identifier: GPL-2.0-or-later
"""Rewrites a refused patch, tries the result, and reports what is still refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.errors import UserError
from kgbuild.host.compile.apply_patches import NamedPatch, PatchInput, PatchSet, find_includers, read_original
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.host.modules.running import RunningKernel
from kgbuild.host.patches.patch_sources import read_patch_source, unpack_patch
from kgbuild.host.system.locks import temporary_directory
from kgbuild.model import Kernel
from kgbuild.pipeline.build import analyse
from kgbuild.pipeline.stages.events import Observer
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import KernelChosen, PatchesApplied
from kgbuild.remedy.mail_text import mail_texts, written_mail
from kgbuild.remedy.rewrite import TYPE, Source, find_grown, render_diff, write_remedy
from kgbuild.report.documents import rows_of, schema_name


@dataclass(frozen=True)
class Remedied:
    """The rewritten patch (bytes, since kernel source is not all UTF-8), what its author must decide, and the remaining
    refusals. `failed`: refusals that show that the rewritten patch does not help."""

    codes: tuple[str, ...]
    patch: bytes
    notes: tuple[str, ...]
    left: tuple[Refusal, ...]

    @property
    def failed(self) -> list[Refusal]:
        """Remaining refusals that show that the rewritten patch does not help."""
        return [r for r in self.left if r.code in self.codes or r.code == "P10-compile"]

    def to_json(self) -> dict[str, Any]:
        """The result as plain data (docs/schema/remedy-1.json)."""
        return {
            "schema": schema_name("remedy"),
            "schema_version": 1,
            "codes": list(self.codes),
            "patch": self.patch.decode(errors="replace"),
            "notes": list(self.notes),
            "refusals": rows_of(self.left),
        }


def remedy(
    patches: Sequence[PatchInput],
    kernel: str | RunningKernel,
    codes: Sequence[str],
    options: Options,
    observer: Observer | None = None,
) -> Remedied:
    """Rewrite patches so that they are no longer refused for `codes` (K1-data, K3-init, K9-type-layout), and try the
    result.

    Raises UserError if the patch is not refused for all of them, Refused if it can't be rewritten, ToolError like an
    analysis.
    """
    trail = Trail(observer)
    refusals = _refusals(patches, kernel, options, trail)
    sources: list[Source] = []
    chosen, applied = trail.get(KernelChosen), trail.get(PatchesApplied)
    if chosen is not None and applied is not None:
        sources = load_sources(chosen.kernel, applied.patches)
    if TYPE in codes and {r.code for r in refusals} == {"P12-too-many-units"}:
        # a header that too many units include: the text shows which structures grow
        refusals = [Refusal(TYPE, f"{s.path}: struct {n}", "", n) for s in sources for n in find_grown([s])] or refusals
    if missing := [code for code in codes if code not in {r.code for r in refusals}]:
        found = ", ".join(sorted({r.code for r in refusals})) or "nothing: kgbuild build makes a module of it"
        raise NotRefused(f"the patch is not refused for {', '.join(missing)}", remedy=f"it is refused for {found}")
    made = write_remedy(sources, refusals, codes)
    diff = render_diff({s.path: s.orig for s in sources}, made.texts)
    mails = [mail for patch in patches for text in _texts_of(patch) for mail in mail_texts(text)]
    text = written_mail(mails, _preamble(patches, codes, made.notes)) + diff.encode("latin-1")
    with temporary_directory("remedy") as folder:
        written = Path(folder) / "remedy.patch"
        written.write_bytes(text)
        remaining = _refusals([written], kernel, options, Trail())
    return Remedied(tuple(codes), text, tuple(made.notes), tuple(remaining))


class NotRefused(UserError):
    """The patch is not refused for a code it was to be rewritten for (exit 1)."""

    exit_code = 1


def _refusals(
    patches: Sequence[PatchInput], kernel: str | RunningKernel, options: Options, trail: Trail
) -> list[Refusal]:
    try:
        analyse(patches, kernel, options, trail)
    except Refused as refused:
        return refused.refusals
    return []


def load_sources(kernel: Kernel, patches: PatchSet) -> list[Source]:
    """The changed files. A .c file that units include is part of their objects."""
    out = []
    paths = [path for path in patches.applied if path.endswith(".c")]
    commands = read_units(kernel, paths)
    includers = find_includers(kernel, [path for path in paths if not commands.get(path)])
    around = read_units(kernel, [unit for units in includers.values() for unit in units[:1]])
    for path, applied in patches.applied.items():
        found = commands.get(path) or next((around[u] for u in includers.get(path, ()) if around.get(u)), [])
        names = [target for command in found for target in command.targets]
        # non-ASCII bytes are kept unchanged
        orig = (read_original(kernel, path) or b"").decode("latin-1")
        added = frozenset(n for n, number in enumerate(applied.map) if number is None)
        out.append(Source(path, orig, applied.text.decode("latin-1"), added, (names or [""])[0]))
    return out


def _texts_of(patch: PatchInput) -> list[bytes]:
    if isinstance(patch, Path):
        return [text for _, text in read_patch_source(patch)]
    if isinstance(patch, NamedPatch):
        return [unpack_patch(patch.text, patch.name)]
    return [unpack_patch(patch if isinstance(patch, bytes) else patch.encode("utf-8", "surrogateescape"), "patch")]


def _preamble(patches: Sequence[PatchInput], codes: Sequence[str], notes: Sequence[str]) -> str:
    names = " ".join(
        p.name if isinstance(p, (Path, NamedPatch)) else f"patch-{number}" for number, p in enumerate(patches, 1)
    )
    given = " ".join(f"--code {code}" for code in codes)
    lines = [f"Made from {names} by kgbuild remedy {given}.", "", *(f"To decide: {note}" for note in notes), ""]
    return "\n".join(lines)
