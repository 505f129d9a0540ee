# SPDX-License-Identifier: GPL-2.0-or-later
"""Are units really the same that a header's change is said not to reach? Held against the compiler.

    python benchmarks/header_pairs.py [--pairs N] [--seed N] [--jobs N] [--kernel NAME] [--newer SOURCE]

Pairs (change of a header, unit that reads it) are drawn at random: changes made by rules (new declarations of every
kind, members, enumerators, attributes, declarations in another order, changed inline functions) and, with --newer, the
real differences of headers between the kernel's source and another source tree. Units that were called unchanged are
compiled both ways without debugging information; all sections that are loaded must be equal, but for the numbers in
names. Prints a line for each exception, and how many pairs were called what. Ends with 1 if there is an exception.
"""

from __future__ import annotations

import argparse
import collections
import difflib
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kgbuild.csource.include_graph import trace_includers
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.consts import SHT
from kgbuild.elf.read import read
from kgbuild.errors import KgbuildError
from kgbuild.host.compile.apply_patches import apply_patches, read_patches
from kgbuild.host.compile.include_index import load_include_index
from kgbuild.host.compile.overlay import Overlay
from kgbuild.host.compile.preprocess import Trees, differs, preprocess_both
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, UnitCommand
from kgbuild.progress import SilentProgress

_INLINE = re.compile(r"^static (?:__always_)?inline [^\n;{]*\([^;{]*\)\n\{\n", re.MULTILINE)
_PROTOTYPE = re.compile(r"^(?:extern )?(?:int|void|bool|long|unsigned long) \w+\([^;{}]*\);\n", re.MULTILINE)
_STRUCT = re.compile(r"^struct (\w+) \{\n", re.MULTILINE)
_ENUM = re.compile(r"^enum(?: \w+)? \{\n", re.MULTILINE)
_TOP = re.compile(r"(?<=;\n)\n(?=(?:struct|extern|int|void|static|enum|/\*|#define|bool|unsigned)\b)")


def edits(text: str, draw: random.Random) -> Iterator[tuple[str, str]]:
    """(kind, changed text) for each rule that can be applied to a header."""
    new = {
        "prototype": "int kgb_fresh(struct kgb_s *s, unsigned long x);\n",
        "forward": "struct kgb_forward;\nstruct page;\nstruct task_struct;\n",
        "inline": "static inline int kgb_fresh(int *x)\n{\n\tstatic int once;\n\treturn once++ + *x;\n}\n",
        "macro": "#define KGB_FRESH(x) ((x) + 1)\n",
        "enumerator": "enum { KGB_A = 7, KGB_B };\n",
        "type": "struct kgb_type {\n\tint a;\n\tstruct list_head *b;\n} __attribute__((packed));\n",
        "typedef": "typedef int (*kgb_fn)(int a, void *b);\n",
        "variable": "extern int kgb_variable, kgb_array[];\n",
    }
    tops = [m.start() for m in _TOP.finditer(text)]
    if tops:
        for kind, piece in new.items():
            at = draw.choice(tops)
            yield f"new {kind}", text[:at] + piece + text[at:]
    for kind, pattern, piece in (
        ("inline function", _INLINE, '\tasm volatile("nop" ::: "memory");\n'),
        ("member", _STRUCT, "\tint kgb_member;\n"),
        ("first enumerator", _ENUM, "\tKGB_FIRST,\n"),
    ):
        if found := list(pattern.finditer(text)):
            at = draw.choice(found).end()
            yield kind, text[:at] + piece + text[at:]
    if found := list(_PROTOTYPE.finditer(text)):
        some = draw.choice(found)
        yield "attribute", text[: some.end() - 2] + " __attribute__((cold));\n" + text[some.end() :]
        others = [m for m in found if m.start() >= some.end()]
        if others:
            other = draw.choice(others)
            between = text[some.end() : other.start()]
            yield "order", text[: some.start()] + other[0] + between + some[0] + text[other.end() :]


def changes(kernel: Kernel, newer: Path | None, draw: random.Random) -> Iterator[tuple[str, str, str]]:
    """(kind, header, its new text), without end."""
    headers = sorted(str(p.relative_to(kernel.source)) for p in kernel.source.glob("include/**/*.h"))
    headers += sorted(str(p.relative_to(kernel.source)) for p in kernel.source.glob("arch/x86/include/asm/*.h"))
    real = [h for h in headers if newer is not None and _differs(kernel.source / h, newer / h)]
    while True:
        if real and draw.random() < 0.5:
            path = draw.choice(real)
            yield "real", path, (newer / path).read_text(errors="surrogateescape") if newer is not None else ""
            continue
        path = draw.choice(headers)
        found = list(edits((kernel.source / path).read_text(errors="surrogateescape"), draw))
        if found:
            kind, text = draw.choice(found)
            yield kind, path, text


def _differs(orig: Path, newer: Path) -> bool:
    return newer.is_file() and orig.read_bytes() != newer.read_bytes()


def loaded(data: bytes) -> list[tuple[str, bytes, list[tuple[int, int, str, int]]]]:
    """What is loaded of an object: sections with their relocations, by names without numbers."""
    obj = read(data)
    names = {s.index: re.sub(r"\d+", "N", s.name) or obj.sections[s.shndx].name for s in obj.iter_symbols()}
    out = []
    for section in obj.sections:
        if section.alloc:
            rows = [(at, kind, names[symbol], addend) for at, kind, symbol, addend in obj.reloc_rows(section.index)]
            empty = section.type == SHT.NOBITS
            out.append((section.name, b"" if empty else bytes(obj.contents(section.index)), rows))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kernel", default="debian:newest-6.1-cloud")
    parser.add_argument("--newer", type=Path)
    options = parser.parse_args()
    kernel = ensure_kernel(options.kernel, progress=SilentProgress(), offline=True)
    draw = random.Random(options.seed)
    index = load_include_index(kernel, Cache(), SilentProgress())
    resolver = index.resolver(kernel)
    drawn = changes(kernel, options.newer, draw)
    pairs: list[tuple[str, str, str, UnitCommand]] = []
    while len(pairs) < options.pairs:
        kind, path, text = next(drawn)
        above = [f for f in trace_includers(index.graph, resolver, [path]).files if f.endswith(".c")]
        units = [u for found in read_units(kernel, sorted(above)).values() for u in found]
        pairs += [(kind, path, text, unit) for unit in draw.sample(units, min(len(units), 3))]
    said: collections.Counter[tuple[str, str]] = collections.Counter()
    exceptions = []

    def one(pair: tuple[str, str, str, UnitCommand]) -> None:
        kind, path, text, unit = pair
        with tempfile.TemporaryDirectory(prefix="kgbuild-pairs-") as scratch:
            answer = judge(kernel, path, text, unit, Path(scratch))
        said[kind, answer] += 1
        if answer.startswith("WRONG"):
            exceptions.append(pair)
        print(f"{answer:<12}{kind:<18}{path}  {unit.source}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, pairs))
    for (kind, answer), count in sorted(said.items()):
        print(f"{kind:<20}{answer:<14}{count:>5}")
    sys.exit(bool(exceptions))


def judge(kernel: Kernel, path: str, text: str, unit: UnitCommand, scratch: Path) -> str:
    """What is said of a unit, and WRONG where the compiler says something else."""
    orig = (kernel.source / path).read_text(errors="surrogateescape")
    lines = difflib.unified_diff(orig.splitlines(True), text.splitlines(True), f"a/{path}", f"b/{path}")
    patch = scratch / "x.patch"
    patch.write_text("".join(lines), errors="surrogateescape")
    patches = apply_patches(kernel, read_patches([patch]))
    if patches.refusals:
        return "refused"
    trees = Trees(kernel, Overlay(kernel, patches.files, scratch / "overlay"), scratch)
    try:
        answer = differs(trees, unit)
        if isinstance(answer, Refusal):
            return "refused"
        if answer:
            return "reached"
        both = preprocess_both(trees, unit, ["-g0", "-c"])
    except KgbuildError as error:
        return f"error {error}"
    if isinstance(both, Refusal):
        return "no compile"
    return "same" if loaded(both[0]) == loaded(both[1]) else "WRONG"


if __name__ == "__main__":
    main()
