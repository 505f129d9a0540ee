# SPDX-License-Identifier: GPL-2.0-or-later
"""How many single faults in a finished module does `kgbuild verify` find?

    python -m benchmarks.tamper [--faults N] [--seed N] [--modules DIR] [--missed]

Modules of all kinds are built for the two kernels of the tests (for vmlinux, for loadable modules, with callbacks and
initial values, by both back ends), or taken from DIR, where an earlier run left them. Each fault is one of the kinds of
tests/support/tamper.py, drawn with --seed, in one module. For each kind the table says how many there were, how many
verify found with the proof record, and how many without; then how many of the changes that no kernel acts on it takes
for a fault. --missed names the faults that were not found with the record, and those without it.
Exit status: 0 all found with the record and none of the harmless changes, else 1.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from kgbuild.arch import arch_of
from kgbuild.errors import UserError
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.vmlinux import load_image
from kgbuild.host.modules.shipped import ShippedModules
from kgbuild.pipeline.stages.verify import kernel_facts, read_record
from kgbuild.progress import SilentProgress
from kgbuild.proof.record import ProofRecord
from kgbuild.verification.checks import check_module
from kgbuild.verification.kernel_facts import KernelFacts
from kgbuild.verification.reading.reader import read_module
from tests.support.tamper import FAULTS, HARMLESS, inject

CASES = Path(__file__).resolve().parent.parent / "tests/kernel/cases"
OLD, NEW = "debian:newest-6.1-cloud", "debian:newest-6.12-deb12-cloud"
KALLSYMS = ("--backend", "kallsyms")
# name: kernel, patches, options
MODULES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "fork": (OLD, ("fork",), ()),
    "callbacks": (OLD, ("callbacks", "callbacks-module"), ()),
    "lifetime": (OLD, ("af-key-lifetime",), ()),
    "three-objects": (OLD, ("three-objects",), ()),
    "slots-kallsyms": (OLD, ("slots",), KALLSYMS),
    "three-kallsyms": (OLD, ("three-objects",), KALLSYMS),
    "dcache": (NEW, ("newer/dcache",), ()),
    "pointers": (NEW, ("newer/pointers",), ()),
}
MACHINE = 62


def build(name: str, folder: Path) -> None:
    """Build one of MODULES, with its record, unless it is there."""
    kernel, patches, options = MODULES[name]
    module = folder / f"livepatch-{name}.ko"
    if module.is_file():
        return
    files = [str(CASES / f"{patch}.patch") for patch in patches]
    words = ["--kernel", kernel, "-o", str(module), "--proof", str(folder / f"{name}.json"), "--offline", "-q"]
    subprocess.run([sys.executable, "-m", "kgbuild.cli.main", "build", *files, *words, *options], check=True)


class TamperCase:
    """A module, its record, and what is true of its kernel."""

    def __init__(self, name: str, folder: Path, facts: KernelFacts) -> None:
        self.name, self.file, self.facts = name, f"livepatch-{name}.ko", facts
        self.data = (folder / self.file).read_bytes()
        self.record = read_record(folder / f"{name}.json")

    def found(self, data: bytes, record: ProofRecord | None) -> list[str]:
        """The codes of what verify finds; a file that it can't read is found out too."""
        try:
            module = read_module(data, self.file, MACHINE)
        except UserError:
            return ["unreadable"]
        return sorted({f.code for f in check_module(module, self.file, arch_of(MACHINE), self.facts, record)})


def load(folder: Path) -> list[TamperCase]:
    """All of MODULES, built. Ends the program where verify finds a fault in one that has none."""
    out = []
    facts: dict[str, KernelFacts] = {}
    for name, (kernel_name, _, _) in MODULES.items():
        build(name, folder)
        if kernel_name not in facts:
            kernel = ensure_kernel(kernel_name, progress=SilentProgress(), offline=True)
            facts[kernel_name] = kernel_facts(kernel, load_image(kernel), ShippedModules(kernel, MACHINE))
        case = TamperCase(name, folder, facts[kernel_name])
        if codes := case.found(case.data, case.record):
            sys.exit(f"{name}: {', '.join(codes)} without any fault")
        out.append(case)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modules", type=Path)
    parser.add_argument("--missed", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cases = load(args.modules or Path(scratch))
    chance = random.Random(args.seed)
    made, with_record, without, wrong = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    missed: list[str] = []
    kinds = list(FAULTS)
    number = 0
    while made.total() < args.faults:
        kind, case = kinds[number % len(kinds)], chance.choice(cases)
        number += 1
        spoiled = inject(case.data, kind, f"{args.seed} {number}")
        if spoiled is None or spoiled[0] == case.data:
            continue
        made[kind] += 1
        found, alone = case.found(spoiled[0], case.record), case.found(spoiled[0], None)
        with_record[kind] += bool(found)
        without[kind] += bool(alone)
        for what, codes in (("with the record", found), ("without", alone)):
            if not codes:
                missed.append(f"{what:16} {kind:22} {case.name:15} seed {number}: {spoiled[1]}")
    print(f"{'kind of fault':24} {'faults':>6} {'with record':>12} {'without':>8}")
    for kind in kinds:
        print(f"{kind:24} {made[kind]:6} {with_record[kind]:12} {without[kind]:8}")
    print(f"{'all':24} {made.total():6} {with_record.total():12} {without.total():8}")
    tried = 0
    for kind in HARMLESS:
        for case in cases:
            changed = inject(case.data, kind, args.seed)
            if changed is not None:
                tried += 1
                codes = case.found(changed[0], case.record)
                wrong[kind] += bool(codes)
                if codes:
                    print(f"{kind} of {case.name}: {', '.join(codes)}")
    print(f"changes that no kernel acts on: {tried}, taken for a fault: {wrong.total()}")
    if args.missed:
        print(*missed, sep="\n")
    return 1 if wrong.total() or with_record.total() != made.total() else 0


if __name__ == "__main__":
    sys.exit(main())
