# SPDX-License-Identifier: GPL-2.0-or-later
"""Architectures by e_machine."""

from __future__ import annotations

from kgbuild.arch.base import Arch
from kgbuild.errors import UserError


def arch_of(machine: int) -> Arch:
    """The table for an e_machine value. Raises UserError for an architecture that is not supported."""
    from kgbuild.arch.x86_64 import table

    if machine == table.ARCH.machine:
        return table.ARCH
    raise UserError(f"architecture with e_machine {machine} is not supported", remedy="use an x86_64 object")
