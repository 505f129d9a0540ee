# SPDX-License-Identifier: GPL-2.0-or-later
"""What a booted guest says over its channel, as texts, and the session that reads it."""

from __future__ import annotations

import base64

from kgbuild.guest.channel import ChannelParser
from kgbuild.guest.model import GuestCommand, GuestPlan
from kgbuild.guest.session import Session


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


PLAN = GuestPlan(
    "lp",
    {
        "before": (GuestCommand("grep x f", False, True),),
        "after": (GuestCommand("grep x f", True, True),),
        "disabled": (GuestCommand("grep x f", False, True),),
    },
)


def channel(bodies: list[str]) -> bytes:
    return b"".join(b"kgb %d %d.%02d %s .\n" % (n, 3 + n // 100, n % 100, b.encode()) for n, b in enumerate(bodies))


def session(bodies: list[str], *plans: GuestPlan) -> Session:
    result = Session(list(plans) or [PLAN])
    for record in ChannelParser().feed(channel(bodies)):
        result.feed(record)
    return result


def codes(result: Session) -> list[str]:
    return [finding.code for finding in result.findings]
