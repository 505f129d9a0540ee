# SPDX-License-Identifier: GPL-2.0-or-later
"""How large what kgbuild is given may be: one table, from which docs/input-limits.md is made.

Every limit is many times what real input has. What goes beyond one is refused before it is worked on, with a message
that has the limit's name, so that nobody has to guess which it was.
"""

from __future__ import annotations

from typing import NamedTuple

from kgbuild.errors import UserError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class LimitError(UserError):
    """Input, or what a program makes of it, is larger than kgbuild takes (exit 2); `limit` is the name of the limit."""

    def __init__(self, fact: str, limit: str, *, place: str = "", remedy: str = "") -> None:
        super().__init__(fact, place=place, remedy=remedy)
        self.limit = limit


class Limit(NamedTuple):
    """One row of the table.

    name   its stable name, which messages show
    most   the largest amount that is taken, in `unit`
    unit   what is counted: "bytes", "files", "seconds"
    what   what is measured, in words that complete "the limit of ..."
    """

    name: str
    most: int
    unit: str
    what: str

    @property
    def amount(self) -> str:
        """`most` for a person: "64 MiB", "100,000 files"."""
        return shown_amount(self.most, self.unit)

    def check(self, amount: int, place: str, remedy: str = "") -> None:
        """Raise LimitError where there is more than the limit. `place` says of what, `remedy` what to do."""
        if amount > self.most:
            raise self.exceeded(place, amount, remedy)

    def exceeded(self, place: str, amount: int | None = None, remedy: str = "") -> LimitError:
        """The error to raise where the limit is passed; `amount` is how much there is, None where nobody counted on."""
        has = f"has {shown_amount(amount, self.unit, exact=True)}" if amount is not None else "has more than is taken"
        return LimitError(f"{has}: {self.statement}", self.name, place=place, remedy=remedy)

    @property
    def statement(self) -> str:
        """The limit in a few words: "the limit patch-bytes is 64 MiB"."""
        return f"the limit {self.name} is {self.amount}"


def shown_amount(number: int, unit: str, exact: bool = False) -> str:
    """A number with its unit; bytes as KiB, MiB or GiB where it is a whole number of them, unless `exact`."""
    if unit == "bytes" and not exact:
        for size, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if number >= size and not number % size:
                return f"{number // size:,} {name}"
    return f"{number:,} {unit}"


PATCH_BYTES = Limit("patch-bytes", 64 * MIB, "bytes", "a patch file")
PATCH_FILES = Limit("patch-files", 100_000, "files", "one patch")
PATCH_HUNKS = Limit("patch-hunks", 1_000_000, "hunks", "one patch")
SEARCH_STEPS = Limit("search-steps", 20_000_000, "lines", "looking for the places of the hunks of one file")
APPLIED_LINES = Limit("applied-lines", 20_000_000, "lines", "the files that a patch changes, as often as it does so")
ADDED_FUNCTIONS = Limit("added-functions", 20_000, "functions", "the functions that a patch adds")
NESTING_DEPTH = Limit("nesting-depth", 2_000, "levels", "statements and brackets inside each other that a patch adds")
PATH_BYTES = Limit(
    "path-bytes", 4095, "bytes", "the name of a file in a patch, limited like a path in Linux (PATH_MAX)"
)
NAME_BYTES = Limit("name-bytes", 255, "bytes", "one component of such a name, as in Linux (NAME_MAX)")
MAIL_DEPTH = Limit("mail-depth", 20, "levels", "mails and their parts inside each other")
MAIL_PARTS = Limit("mail-parts", 10_000, "parts", "the parts of one mail")
SOURCE_BYTES = Limit("source-bytes", 256 * MIB, "bytes", "one file of a source tree that is copied (--oot, kernel add)")
MODULE_BYTES = Limit("module-bytes", GIB, "bytes", "a module, object or image file as it is on disk")
UNPACKED_BYTES = Limit("unpacked-bytes", GIB, "bytes", "a compressed module when it is decompressed")
UNPACKED_RATIO = Limit("unpacked-ratio", 200, "times its size", "what anything compressed grows to")
SECTION_BYTES = Limit("section-bytes", 256 * MIB, "bytes", "a compressed section when it is decompressed")
RECORD_BYTES = Limit("record-bytes", 64 * MIB, "bytes", "a proof record")
REPORT_BYTES = Limit("report-bytes", 256 * MIB, "bytes", "a report of kgbuild that is read again")
CONFIG_BYTES = Limit("config-bytes", 16 * MIB, "bytes", "a kernel configuration")
SYMVERS_BYTES = Limit("symvers-bytes", 64 * MIB, "bytes", "a Module.symvers")
SYMBOLS_BYTES = Limit("symbols-bytes", 64 * MIB, "bytes", "a table of symbols as text (System.map, readelf -sW)")
VMLINUX_BYTES = Limit("vmlinux-bytes", 8 * GIB, "bytes", "a vmlinux or a kernel image")
CONDITION_WORDS = Limit("condition-words", 10_000, "tokens", "the condition of one #if; a longer one counts as unknown")
COMPILE_SECONDS = Limit("compile-seconds", 300, "seconds of processor time", "one program of a compile")
COMPILE_WAIT = Limit("compile-wait", 600, "seconds", "a compile from its start to its end")
COMPILE_MEMORY = Limit("compile-memory", 3 * GIB, "bytes", "the address space of one program of a compile")
COMPILE_OUTPUT = Limit("compile-output", 512 * MIB, "bytes", "one file that a compile writes")
COMPILE_PROCESSES = Limit("compile-processes", 1000, "processes", "what the programs of a compile may start")
PREPARE_SECONDS = Limit("prepare-seconds", 1200, "seconds of processor time", "one program that prepares a kernel")
PREPARE_WAIT = Limit("prepare-wait", 1200, "seconds", "a step of preparing a kernel from its start to its end")
WRITTEN_BYTES = Limit("written-bytes", 8 * GIB, "bytes", "all that a compile or a step of preparing a kernel writes")
LISTING_BYTES = Limit("listing-bytes", 4 * GIB, "bytes", "what make prints of how a kernel is compiled")
LISTING_LINE = Limit("listing-line", 16 * MIB, "bytes", "one line of that")
CONSOLE_BYTES = Limit("console-bytes", 256 * MIB, "bytes", "what a guest writes to its console")
MESSAGE_BYTES = Limit("message-bytes", 64 * MIB, "bytes", "what a program that kgbuild runs prints")

LIMITS: tuple[Limit, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Limit))
"""Every limit, in the order of the page."""
