# SPDX-License-Identifier: GPL-2.0-or-later
"""Parity as a figure: how many functions of a random sample of units are proven to be those of the running kernel.

    python benchmarks/parity.py [--units N] [--seed N] [--jobs N] [-o FILE] KERNEL...

Of each kernel, N units are drawn, as many of modules as there are in proportion, compiled as a build compiles the
original, and each function is compared with vmlinux or the shipped module. Padding that gcc puts before functions
(__pfx_) counts with the function that it pads. Every function that is not proven is listed with the reason.

A unit with functions that differ from the kernel's in padding is compiled once more, by the kernel's own options alone,
as a build does (kgbuild/proof/padding.py); how many functions are proven in that way is a column of its own.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kgbuild.elf.read import read
from kgbuild.errors import KgbuildError
from kgbuild.host.compile.candidate_search import is_fixed
from kgbuild.host.compile.compile import compile_plain, compile_units
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.compile_commands import read_all_units
from kgbuild.host.kernels.unit_listing import file_of_all
from kgbuild.host.modules.running import RunningKernel
from kgbuild.host.system.cache import Cache
from kgbuild.model import UnitCommand
from kgbuild.objects.atoms import Ambiguous
from kgbuild.objects.symbol_kinds import is_prefix
from kgbuild.objects.view import View
from kgbuild.progress import SilentProgress
from kgbuild.proof.parity import ABSENT, EXACT, OVERRIDDEN, ParityProof, compute_parity

ROOT = Path(__file__).resolve().parent.parent
BATCH = 20
_NUMBER = re.compile(r"0x[0-9a-f]+|\b\d+\b")


@dataclass
class ParityOutcome:
    """What became of a kernel's sample. `open` are functions that are not proven: (unit, function, status, reason).
    `padded`: how many are proven by a second compile, in how many units, and how many units were compiled so."""

    name: str
    compiler: str
    units: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    open: list[tuple[str, str, str, str]] = field(default_factory=list)
    padded: int = 0
    twice: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def measure(name: str, number: int, seed: int, jobs: int) -> ParityOutcome:
    """The parity of a sample of a kernel's units."""
    cache, silent = Cache(), SilentProgress()
    kernel = ensure_kernel(name, progress=silent, jobs=jobs)
    running = RunningKernel(kernel, {})
    # those of the boot loader and of what is no part of the running kernel are never patched
    units = (unit for unit in read_all_units(file_of_all(kernel)) if not is_fixed(unit))
    every = sorted(units, key=lambda unit: unit.object)
    drawn = random.Random(seed).sample(every, min(number, len(every)))
    found = ParityOutcome(kernel.id.name, kernel.compiler)
    for start in range(0, len(drawn), BATCH):
        prove(drawn[start : start + BATCH], running, found, cache, jobs)
        print(f"{found.name}: {found.units} units, {dict(found.counts)}", file=sys.stderr, flush=True)
    return found


def prove(units: list[UnitCommand], running: RunningKernel, found: ParityOutcome, cache: Cache, jobs: int) -> None:
    """Compile some units and compare each of their functions; adds to `found`."""
    for unit in units:
        try:
            (made,) = compile_units(running.kernel, [unit], {}, cache, SilentProgress(), jobs)
            targets = [(target, running.image(target)) for target in unit.targets]
        except KgbuildError as error:
            found.failed.append((unit.source, str(error).splitlines()[0]))
            continue
        found.units += 1
        for target, image in targets:
            view = View(read(made.orig))
            proof = compute_parity(view, image)
            if proof.paddable:
                (plain,) = compile_plain(running.kernel, [unit], cache, SilentProgress(), jobs)
                proof = compute_parity(view, image, View(read(plain)))
                found.twice += 1
            for one in proof.functions:
                if is_prefix(view.atoms[one.atom]):
                    continue
                found.counts[one.status] += 1
                found.padded += one.atom in proof.padded
                if one.status not in (EXACT, OVERRIDDEN):
                    init = view.section_name(view.atoms[one.atom]).startswith((".init", ".exit"))
                    reason = one.reason or ("not there" if one.status == ABSENT else "")
                    reason += say_users(view, proof, one.atom)
                    found.open.append((f"{unit.source} in {target}", one.name, one.status, reason + " (init)" * init))


def say_users(view: View, proof: ParityProof, number: int) -> str:
    """Why nothing tells where an atom is: nothing of its unit that runs refers to it. "" where something does."""
    users = set()
    for atom in [a for a in view.atoms if a.section >= 0 and not view.is_table(view.section_of(a))]:
        with suppress(Ambiguous):
            if any(ref.atom == number for ref in view.refs(atom)):
                users.add(atom.id)
    if not users:
        return "; nothing in its unit refers to it"
    found = [proof.of(user) for user in users]
    overridden = all(result is not None and result.status == OVERRIDDEN for result in found)
    return "; only weak functions that the kernel overrides refer to it" if overridden else ""


def render(outcomes: list[ParityOutcome], seed: int) -> str:
    """The page (Markdown)."""
    lines = [
        "<!-- made by benchmarks/parity.py -->",
        "# Parity as a figure",
        "",
        f"`benchmarks/parity.py --seed {seed}` drew these units, of vmlinux and of modules, compiled them with the "
        "kernel's own toolchain and compared each function with the one that runs. Overridden functions are weak ones",
        "of which the kernel has another definition. How the proof works: [design.md](design.md).",
        "",
        "| kernel | compiler | units | compiled twice | functions | proven | of these by the second compile | "
        "weak, overridden | not proven | proven in percent |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for o in outcomes:
        total = sum(o.counts.values())
        share = 100 * (o.counts[EXACT] + o.counts[OVERRIDDEN]) / total if total else 0.0
        lines.append(
            f"| {o.name} | {o.compiler} | {o.units} | {o.twice} | {total} | "
            f"{o.counts[EXACT]} | {o.padded} | {o.counts[OVERRIDDEN]} | {len(o.open)} | {share:.2f} |"
        )
    for o in outcomes:
        lines += ["", f"## {o.name}", ""]
        if o.failed:
            lines += [f"- {source}: not compiled: {why}" for source, why in o.failed] + [""]
        kinds: dict[tuple[str, str], list[str]] = {}
        for unit, name, status, reason in o.open:
            kinds.setdefault((status, _NUMBER.sub("N", reason)), []).append(f"`{name}` ({unit})")
        if not kinds:
            lines.append("Every function is proven.")
            continue
        lines += ["| status | reason | functions | which |", "| --- | --- | ---: | --- |"]
        for (status, reason), which in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
            lines.append(f"| {status} | {reason} | {len(which)} | {', '.join(which)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kernels", nargs="+", metavar="KERNEL")
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    text = render([measure(name, options.units, options.seed, options.jobs) for name in options.kernels], options.seed)
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
