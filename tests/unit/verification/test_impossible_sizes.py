# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules whose headers and symbols are said to have impossible sizes: every reader of modules ends, and soon.

A loop over what a size says, not over what the file holds, would not end in a lifetime. It is told by counting the
lines that run, so that the test does not depend on the speed of the machine.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from kgbuild.elf.consts import SHT
from kgbuild.elf.read import read
from kgbuild.errors import KgbuildError
from kgbuild.host.modules.files import depends_of, read_modinfo
from kgbuild.host.vm.patch_targets import has_functions, read_targets
from kgbuild.livepatch.foreign_patches import read_other
from kgbuild.verification.checks import check_module
from kgbuild.verification.reading.patch_manifest import read_older
from kgbuild.verification.reading.reader import read_module
from tests.support.small_module import ARCH, FACTS, NAME, Small
from tests.support.small_record import GOOD
from tests.support.small_target import MODULE_FACTS, SmallTarget

HUGE = (1 << 33, (1 << 62) + 5)
SECTION, SYMBOL = 64, 24
LINES = 3_000_000  # an intact module takes some 30,000


class TooMany(BaseException):
    """More lines ran than a file of some thousand bytes can need."""


def with_section(data: bytes, number: int, size: int, kind: int) -> bytes:
    out = bytearray(data)
    at = struct.unpack_from("<Q", data, 40)[0] + number * SECTION
    struct.pack_into("<I", out, at + 4, kind)
    struct.pack_into("<Q", out, at + 32, size)
    return bytes(out)


def broken(data: bytes) -> Iterator[bytes]:
    obj = read(data)
    table = next(s for s in obj.sections if s.type == SHT.SYMTAB)
    for size in HUGE:
        for section in obj.sections[1:]:
            yield with_section(data, section.index, size, SHT.NOBITS)
        for symbol in range(1, table.size // SYMBOL):
            out = bytearray(data)
            struct.pack_into("<Q", out, table.offset + symbol * SYMBOL + 16, size)
            yield bytes(out)


def limited(run: Callable[[], object]) -> None:
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        if count > LINES:
            raise TooMany(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return trace

    sys.settrace(trace)
    try:
        run()
    except KgbuildError:
        pass
    finally:
        sys.settrace(None)


@pytest.mark.parametrize("which", [0, 1])
def test_every_reader_ends(which: int) -> None:
    facts = (FACTS, MODULE_FACTS)[which]
    for data in broken((Small().data, SmallTarget().data)[which]):
        for step in (
            lambda d: check_module(read_module(d, NAME, ARCH.machine), NAME, ARCH, facts, GOOD),
            read_targets,
            has_functions,
            read_modinfo,
            depends_of,
            lambda d: read_older(d, "x.ko"),
            lambda d: read_other(read(d), "x.ko"),
        ):
            limited(lambda: step(data))  # noqa: B023
