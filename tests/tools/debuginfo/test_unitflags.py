# SPDX-License-Identifier: GPL-2.0-or-later
"""What a unit was compiled with: read from real objects, and from texts."""

from __future__ import annotations

import pytest

from kgbuild.debuginfo.compile_flags import PRODUCER, find_optimized, flags_of, optimize_macros, read_producer
from kgbuild.elf.read import read
from tests.support.toolchain import KERNEL_FLAGS, compile_text

TEXT = "int f(int x) { return x + 1; }\n"


@pytest.mark.parametrize(
    ("flags", "there", "absent"),
    [
        ((), {"-pg", "-mfentry", "-O2"}, {"-fno-ipa-ra"}),
        (("-fno-ipa-sra", "-fno-ipa-cp"), {"-pg", "-fno-ipa-sra", "-fno-ipa-cp"}, set()),
        (("-fpatchable-function-entry=16,16",), {"-fpatchable-function-entry=16,16"}, set()),
    ],
)
def test_flags_of_an_object(flags: tuple[str, ...], there: set[str], absent: set[str]) -> None:
    found = flags_of(read_producer(read(compile_text(TEXT, *KERNEL_FLAGS, "-g", *flags))))
    options = {f.option for f in found}
    assert there <= options and not absent & options
    assert all(f.evidence == PRODUCER and f.meaning for f in found)


def test_without_pg() -> None:
    flags = [f for f in KERNEL_FLAGS if f not in ("-pg", "-mfentry", "-mrecord-mcount")]
    assert "-pg" not in {f.option for f in flags_of(read_producer(read(compile_text(TEXT, *flags, "-g"))))}


def test_without_debugging_information() -> None:
    assert read_producer(read(compile_text(TEXT, *KERNEL_FLAGS))) == ""
    assert flags_of("") == ()


HEADER = """\
#define __no_gcse __attribute__((optimize("-fno-gcse")))
# define PLAIN \\
    __attribute__((noinline))
#define NOT_THIS 1 /* optimize( */
"""
SOURCE = """\
/* __attribute__((optimize("O3"))) */
int __attribute__((optimize("no-ipa-ra"))) one(int x);
// __no_gcse
static const char *text = "optimize(1)";
__no_gcse int two(int x);
#pragma GCC optimize ("O3")
#define HERE __attribute__((__optimize__("O1")))
int optimizer(int x), optimized;
HERE int three(int x);
"""


def test_functions_with_options_of_their_own() -> None:
    macros = optimize_macros([HEADER, SOURCE])
    assert macros == {"__no_gcse", "HERE"}
    assert find_optimized(SOURCE, macros) == [
        (2, 'optimize("no-ipa-ra")'),
        (5, "__no_gcse"),
        (6, '#pragma GCC optimize ("O3")'),
        (9, "HERE"),
    ]
    assert find_optimized(HEADER, macros) == []
    assert [line for line, _ in find_optimized(SOURCE)] == [2, 6]
