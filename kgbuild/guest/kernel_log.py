# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds faults in a kernel log: reads the output of `dmesg -r` and finds warnings, oopses, stalls and the like.

One fault of the kernel often has many lines (from "cut here" to "end trace"). They form one `Fault`, which is allowed
or not as a whole: a pattern that matches any line of the block allows the block, but nothing around it. Lines that a
user process wrote (through /dev/kmsg) have another facility than the kernel's own and are no faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_RAW = re.compile(r"<(?P<prio>\d{1,4})>(?:\[ *(?P<time>\d+\.\d+)\] ?)?(?:\[ *[CT]\d+\] ?)?(?P<text>.*)", re.DOTALL)

CUT_HERE = "------------[ cut here ]------------"
END_TRACE = re.compile(r"---\[ end (?:trace|Kernel panic)")

# (kind, pattern for a line of it). The first match determines the kind.
FAULTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("panic", r"Kernel panic - not syncing"),
        ("warning", re.escape(CUT_HERE)),
        ("lockdep", r"possible (?:recursive|circular|irq)|inconsistent lock state|suspicious RCU usage"),
        (
            "lockdep",
            r"INFO: (?:possible|trying to register non-static key)|held lock freed|bad unlock balance",
        ),
        ("lockup", r"soft lockup|hard LOCKUP|Watchdog detected hard"),
        ("stall", r"\brcu\w*: .*(?:detected stalls|self-detected stall|kthread starved)"),
        ("hung task", r"blocked for more than \d+ seconds"),
        ("duplicate", r"cannot create duplicate"),
        # patch sites of a target module that are not empty when it is loaded again (arch/x86/kernel/module.c), and the
        # messages when livepatch prevents a module from loading (klp_module_coming)
        ("relocation", r"Skipping invalid relocation target|existing value is nonzero"),
        ("livepatch", r"^livepatch: .*(?:failed (?:to \w+ patch '.*' (?:for|to)|for) module|refusing to load module)"),
        ("sanitizer", r"\b(?:KASAN|KCSAN|KMSAN|UBSAN|KFENCE)\b"),
        ("oops", r"\bOops\b|general protection fault|general protection|unable to handle|invalid opcode:"),
        ("oops", r"kernel NULL pointer|divide error:|stack segment:|double fault|stack guard page|Unable to handle"),
        ("bug", r"\bBUG\b[:!]?|kernel BUG at|Bad page state|bad page map|scheduling while atomic"),
        ("corruption", r"list_(?:add|del)\S* corruption|refcount_t: |usercopy: Kernel memory"),
        ("leak", r"unregister_netdevice: waiting for|Objects remaining in"),
        ("warning", r"\bWARNING:"),
        ("trace", r"\bCall Trace:"),
    )
)

# Lines that the kernel logs for every live patch built outside its tree.
EXPECTED = re.compile(
    r"^livepatch: (?!.*(?:failed|refusing|not found|ambiguity|could not))"
    r"|loading out-of-tree module taints kernel|tainting kernel with TAINT_LIVEPATCH"
    r"|module verification failed: signature"
)

# A block that does not begin with "cut here" has no definite end; lines of these kinds end or continue it.
_TRACE_END = re.compile(r"^ ?</TASK>")
_BLOCK_LIMIT = 400
_JUDGED = 2048  # characters of a line that are looked at: twice what the kernel writes in one (LOG_LINE_MAX)
_CRITICAL = 2  # KERN_CRIT and above


@dataclass(frozen=True)
class LogLine:
    """One line of the kernel log. `level` is 0 (emergency) to 7 (debug), None if the line had no prefix; `seconds`
    since boot; `user` is True if a process wrote it."""

    text: str
    level: int | None = None
    seconds: float | None = None
    user: bool = False


@dataclass(frozen=True)
class Fault:
    """One fault that the kernel reported: its kind from FAULTS, and its lines in order."""

    kind: str
    lines: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The most informative line: the one after "cut here", else the first."""
        for line in self.lines:
            if line.strip() and CUT_HERE not in line and not set(line.strip()) <= {"=", "-"}:
                return line.strip()
        return self.lines[0]


def parse_raw(text: str) -> list[LogLine]:
    """Lines of `dmesg -r` output ("<6>[    1.234567] text"). A line without a prefix keeps its text and has no
    level."""
    result = []
    for line in text.split("\n"):
        bare = line.rstrip("\r")
        if not bare:
            continue
        match = _RAW.fullmatch(bare)
        if match is None:
            result.append(LogLine(bare))
            continue
        prio = int(match["prio"])
        seconds = float(match["time"]) if match["time"] else None
        result.append(LogLine(match["text"], prio & 7, seconds, prio >> 3 != 0))
    return result


def parse_console(text: str) -> list[LogLine]:
    """Lines of a serial console ("[    1.234567] text"); their levels are unknown."""
    stamped = re.compile(r"\[ *(\d+\.\d+)\] ?(?:\[ *[CT]\d+\] ?)?(.*)")
    result = []
    for line in text.splitlines():
        match = stamped.match(line)
        body = match[2] if match else line
        if body.strip():
            result.append(LogLine(body, None, float(match[1]) if match else None, body.startswith("kgbuild: ")))
    return result


def kind_of(line: LogLine) -> str:
    """The kind of fault this line alone shows, or "" for none."""
    text = line.text[:_JUDGED]
    if line.user or EXPECTED.search(text):
        return ""
    for kind, pattern in FAULTS:
        if pattern.search(text):
            return kind
    return "critical" if line.level is not None and line.level <= _CRITICAL else ""


def find_faults(lines: Iterable[LogLine], allow: Sequence[re.Pattern[str]] = ()) -> list[Fault]:
    """Every fault in the log, in order, except those that match a pattern of `allow`."""
    faults: list[Fault] = []
    kind = ""
    block: list[str] = []

    def close(ended: bool) -> None:
        nonlocal kind
        if not kind:
            return
        kept = list(block) if ended else _without_strangers(block)
        if not any(pattern.search(line) for pattern in allow for line in kept):
            faults.append(Fault(_kind_of_block(kind, kept), tuple(kept)))
        kind = ""
        block.clear()

    for line in lines:
        found = kind_of(line)
        cut = bool(block) and CUT_HERE in block[0]
        if (kind and (line.user or len(block) >= _BLOCK_LIMIT or CUT_HERE in line.text)) or (
            kind and found and not cut and not _same_fault(kind, found)
        ):
            close(False)
        if kind:
            block.append(line.text)
            # Everything from "cut here" to the end trace belongs to the block, including the end of its stack.
            if END_TRACE.search(line.text) or (not cut and _TRACE_END.search(line.text)):
                close(True)
        elif found:
            kind = found
            block.append(line.text)
    close(False)
    return faults


def find_used(faults: Iterable[Fault], allow: Sequence[re.Pattern[str]]) -> set[str]:
    """The patterns of `allow` that match a line of any of these faults."""
    lines = [line for fault in faults for line in fault.lines]
    return {pattern.pattern for pattern in allow if any(pattern.search(line) for line in lines)}


def _same_fault(kind: str, found: str) -> bool:
    """Whether a line of kind `found` inside a block of `kind` continues it rather than starts another fault."""
    if kind in ("oops", "bug", "panic", "sanitizer") and found in ("oops", "critical"):
        return True
    return found == "trace" or kind == found == "lockdep"


def _without_strangers(block: list[str]) -> list[str]:
    """A block without an end marker: its first line and the lines that continue it. All lines if it contains a
    stack."""
    if any("Call Trace:" in line for line in block) or CUT_HERE in block[0]:
        return list(block)
    kept = block[:1]
    for line in block[1:]:
        if not _CONTINUES.match(line):
            break
        kept.append(line)
    return kept


def _kind_of_block(kind: str, block: list[str]) -> str:
    """The kind of a block from "cut here": "bug" if its lines say so, else the kind of its first line."""
    if any("kernel BUG at" in line or "invalid opcode:" in line for line in block):
        return "bug"
    return kind


# Beginnings of lines that continue a fault.
_CONTINUES = re.compile(
    r"\s|#PF|(?:PGD|CPU|Hardware name|R[A-Z0-9]{1,2}|[CDEF]S|[CD]R\d|PKRU|Code|Call Trace|Workqueue)\b"
    r"|(?:Modules linked in|Tainted|task|note|Kernel Offset|Sending NMI|NMI backtrace|stack backtrace|but task)\b"
    r"|which lock|the existing|other info|[=-]{8}|---\[|\S+/\d+ is trying|\d+ locks? held|Rebooting"
)
