# SPDX-License-Identifier: GPL-2.0-or-later
"""The back ends by name, and which one a kernel gets (docs/backends.md)."""

from __future__ import annotations

from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.emit.backends.backend import Backend, Request
from kgbuild.emit.backends.kallsyms import Kallsyms
from kgbuild.emit.backends.kgraft import Kgraft
from kgbuild.emit.backends.klp import Klp

_ALL: tuple[Backend, ...] = (Klp(), Kallsyms(), Kgraft())

# In the order in which they are preferred; cli/options.py has the same names.
BACKENDS = {backend.name: backend for backend in _ALL}


def preferred_backend(features: frozenset[str]) -> str:
    """The name of the first back end that a kernel with these features can take, "" where it can take none."""
    return next((b.name for b in _ALL if not b.why_not(features)), "")


def choose_backend(name: str, features: frozenset[str], kernel: str) -> Backend:
    """The back end of that name, or, for "", the first that the kernel can take.

    Input: the probes that the kernel answers with yes, and its name, for the message. Raises Refused (B1-backend)
    with what is missing in the kernel and which back end it can take.
    """
    able = [b for b in _ALL if not b.why_not(features)]
    if not name and able:
        return able[0]
    if name and not BACKENDS[name].why_not(features):
        return BACKENDS[name]
    wanted = [BACKENDS[name]] if name else list(_ALL)
    fact = "; ".join(f"can't take the back end {b.name}: {b.why_not(features)}" for b in wanted)
    remedy = f"use --backend {able[0].name}, which this kernel can take" if able else ""
    raise Refused([Refusal("B1-backend", kernel, fact, remedy=remedy)])


__all__ = ["BACKENDS", "Backend", "Request", "choose_backend", "preferred_backend"]
