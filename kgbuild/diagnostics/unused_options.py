# SPDX-License-Identifier: GPL-2.0-or-later
"""The warning of an option that accepts a risk (--allow-*, --ignore-*) and accepts nothing: mistyped or out of
date. One form for all commands, so that each can tell these warnings from others."""

from __future__ import annotations

from collections.abc import Iterable

NO_INIT_CODE = "the patch changes no init code that could be left out"
NO_CALLERS = "the patch changes no exported function that has to be patched in its callers"
_ACCEPTS_NOTHING = " accepts nothing: "


def unused_option(option: str, why: str, value: str = "") -> str:
    """The warning: `option` was given (with `value`), and there was nothing that it could accept, which `why` says."""
    return f"{f'{value}: ' if value else ''}{option}{_ACCEPTS_NOTHING}{why}"


def find_unused_options(warnings: Iterable[str]) -> list[str]:
    """Those of a run's warnings that are of such options."""
    return [text for text in warnings if _ACCEPTS_NOTHING in text and "--" in text]
