# SPDX-License-Identifier: GPL-2.0-or-later
"""What is fuzzed: everything that `kgbuild diff` does with two files, on small objects compiled here.

Only a KgbuildError may come of broken input, never another exception, within seconds and one gigabyte.
"""

from __future__ import annotations

import random
import resource
import shutil
import signal
import traceback
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

from kgbuild.debuginfo.static_locals import read_static_locals
from kgbuild.debuginfo.type_comparison import Comparison
from kgbuild.debuginfo.type_graph import read_types
from kgbuild.elf.object import Object
from kgbuild.errors import KgbuildError
from kgbuild.kernel.parent_symtab import read_parent
from kgbuild.objects.variable_types import unit_types
from kgbuild.objects.view import View
from kgbuild.pipeline.object_diff import ObjectDiff, diff_objects, read_relocatable
from tests.fuzz.commands import use_command
from tests.fuzz.mutate import Breaker
from tests.fuzz.texts import use_texts
from tests.support.toolchain import PAIRS, compile_pair_side, run, scratch

MEMORY = 1 << 30  # bytes of address space
SECONDS = 5.0  # of processor time for one input
# Beside every pair as it is: other compilers' and other options' ways to say the same.
DEBUG = ("static_locals_swapped", "changed_body", "static_local_moved")
UNSPLIT = ("static_key", "shared_section", "bug_flags", "array_end")
CLANG = ("changed_body", "string_changed", "static_key", "bug_flags", "ops_changed")
CLANG_FLAGS = ("-std=gnu11", "-O2", "-fno-pie", "-mcmodel=kernel", "-mno-red-zone", "-ffreestanding", "-pg", "-mfentry")
CLANG_FLAGS += ("-ffunction-sections", "-fdata-sections", "-faddrsig", "-Wno-everything")


@dataclass(frozen=True)
class Seed:
    """An intact pair of objects."""

    name: str
    orig: bytes
    patched: bytes


@cache
def seeds() -> tuple[Seed, ...]:
    """Every intact pair, in a fixed order."""
    out = []
    for path in sorted(PAIRS.glob("*.c")):
        out.append(_pair(path.stem, path.stem))
    out += [_pair(f"{name}-debug", name, "-g", "-gdwarf-5") for name in DEBUG]
    out += [_pair(f"{name}-btf", name, "-gbtf") for name in DEBUG]
    out += [_pair(f"{name}-unsplit", name, split=False) for name in UNSPLIT]
    clang = shutil.which("clang")
    if clang is not None:
        for name in CLANG:
            sides = []
            for define in ("-DORIGINAL", "-DPATCHED"):
                object_file = scratch() / f"clang-{name}{define}.o"
                run(clang, *CLANG_FLAGS, define, "-I", PAIRS, "-c", PAIRS / f"{name}.c", "-o", object_file)
                sides.append(object_file.read_bytes())
            out.append(Seed(f"{name}-clang", *sides))
    return tuple(out)


def _pair(label: str, name: str, *flags: str, split: bool = True) -> Seed:
    flags = ("-msse2", *flags) if name == "float_constant" else flags
    orig = compile_pair_side(name, *flags, split=split)
    return Seed(label, orig, compile_pair_side(name, *flags, "-DPATCHED", split=split))


@cache
def _breakers(name: str) -> tuple[Breaker, Breaker]:
    seed = next(s for s in seeds() if s.name == name)
    return Breaker(seed.orig), Breaker(seed.patched)


def make(base: int, number: int) -> tuple[str, bytes, bytes]:
    """Input `number` of a run: which seed, the original and the patched object, at least one of them broken."""
    rng = random.Random(f"{base}/{number}")
    seed = rng.choice(seeds())
    left, right = _breakers(seed.name)
    kind = rng.random()
    if kind < 0.45:
        return seed.name, seed.orig, right.broken(rng)
    if kind < 0.65:
        return seed.name, left.broken(rng), seed.patched
    if kind < 0.85:
        # the same fault on both sides goes deeper: what is paired is compared
        state = rng.getstate()
        orig = right.broken(rng)
        if rng.random() < 0.5:
            return seed.name, orig, orig
        rng.setstate(state)
        return seed.name, left.broken(rng), right.broken(random.Random(rng.random()))
    return seed.name, left.broken(rng), right.broken(rng)


def use(orig: bytes, patched: bytes) -> str:
    """Do with two files what the command does, and more; a word for how it ended."""
    try:
        left, right = read_relocatable(orig, "ORIG.o"), read_relocatable(patched, "PATCHED.o")
        _read_alone(left)
        _read_alone(right)
        found = diff_objects(left, right, "unit.c")
    except KgbuildError as error:
        return type(error).__name__
    return _answer(found, left)


def _answer(found: ObjectDiff, left: Object) -> str:
    found.to_json()
    # each of these as often as it takes to find something, since they double the time
    rarely = zlib.crc32(left.data) % 8
    out = None
    if not found.refusals and found.output_functions:
        out = found.output()
        if rarely == 0 and found.output() != out:
            raise AssertionError("two outputs differ")
        again = View(read_relocatable(out, "OUT.o"))
        names = {n for f in again.functions for n in f.names}
        if not names >= {*found.output_functions}:
            raise AssertionError(f"not in the output object: {sorted({*found.output_functions} - names)}")
    if rarely == 1:
        right = found.changes.patched.obj
        with suppress(KgbuildError):
            diff_objects(left, right, "unit.c", parent=read_parent(bytes(left.data), "parent.ko", [left]))
    return "output" if out is not None else "refusals" if found.refusals else "nothing" if found.nothing else "changes"


def _read_alone(obj: Object) -> None:
    """Readers of single sections, which the whole may not get to."""
    if obj.section_named(".debug_info") or obj.section_named(".BTF"):
        with suppress(KgbuildError):
            read_static_locals(obj)
        with suppress(KgbuildError):
            _ = unit_types(View(obj), View(obj)).changed
        with suppress(KgbuildError):
            compare = Comparison(left := read_types(obj), read_types(obj))
            for numbers in left.named.values():
                for number in numbers:
                    compare.difference(number, number)


class Hang(BaseException):
    """An input took too long. No Exception, which might be taken for a fault of the input."""


def _too_long(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Hang(f"more than {SECONDS} s")


def limit() -> None:
    """Hold this process to what an input may take."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _too_long)


def attempt(orig: bytes, patched: bytes) -> tuple[str, str]:
    """How an input ended, and a traceback where that is a fault."""
    return _guarded(lambda: use(orig, patched))


def attempt_texts(base: int, number: int) -> tuple[str, str]:
    """One input given by its number, with the texts that belong to it."""
    return _guarded(lambda: use_texts(base, number))


def attempt_command(base: int, number: int) -> tuple[str, str]:
    """One input that is a file of another command (commands.py)."""
    return _guarded(lambda: use_command(base, number))


def _guarded(run: Callable[[], str]) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return run(), ""
    except (Exception, Hang) as error:
        return "fault", "".join(traceback.format_exception(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def keep(folder: Path, label: str, orig: bytes, patched: bytes) -> None:
    """Write the two files of an input that showed a fault."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{label}.ORIG.o").write_bytes(orig)
    (folder / f"{label}.PATCHED.o").write_bytes(patched)
