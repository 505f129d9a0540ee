# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's serial channel: turns bytes into records, one per line. guest/session.py interprets them.

kgb SEQ UPTIME KIND key=value ... .
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

_MOST = 1 << 22  # bytes of a record; a guest that writes more without a line's end writes no record
_RECORD = re.compile(r"kgb (\d{1,18}) (\d{1,18}\.\d{1,18}) ([a-z]+)((?: [a-z0-9]+=[A-Za-z0-9+/=._:,~-]*)*) \.$")


@dataclass(frozen=True)
class GuestRecord:
    """One line from the guest: sequence number, seconds since boot, kind, values (base64 already decoded)."""

    seq: int
    uptime: float
    kind: str
    values: dict[str, str]

    def number(self, key: str) -> int:
        """A value as an integer, 0 if it is missing or no number."""
        try:
            return int(self.values.get(key, "0"))
        except ValueError:
            return 0


class ChannelParser:
    """Turns bytes into records. Incomplete records are counted in `garbage` and dropped; `lost` counts the gaps."""

    def __init__(self) -> None:
        self.garbage = 0
        self.lost = 0
        self._rest: list[bytes] = []
        self._waiting = 0  # bytes in _rest
        self._next = 0

    def feed(self, data: bytes) -> Iterator[GuestRecord]:
        """Records that are complete with these bytes."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest, self._waiting = [], 0
        self._waiting += len(rest)
        if self._waiting > _MOST:
            self._rest, self._waiting = [b"?"], 1  # what comes up to the line's end is no record either
        elif rest:
            self._rest.append(rest)
        for line in lines:
            text = line.strip(b"\r\0 ")
            if not text:
                continue
            record = parse_guest_record(text.decode("ascii", "replace"))
            if record is None or record.seq < self._next:
                self.garbage += 1
                continue
            self.lost += record.seq - self._next
            self._next = record.seq + 1
            yield record


def parse_guest_record(line: str) -> GuestRecord | None:
    """One line as a record, or None if it is not a complete record."""
    match = _RECORD.fullmatch(line)
    if match is None:
        return None
    values = {}
    for pair in match[4].split():
        key, _, value = pair.partition("=")
        if key.endswith("64"):
            try:
                value = base64.b64decode(value, validate=True).decode("utf-8", "replace")
            except binascii.Error:
                return None
            key = key.removesuffix("64")
        values[key] = value
    return GuestRecord(int(match[1]), float(match[2]), match[3], values)
