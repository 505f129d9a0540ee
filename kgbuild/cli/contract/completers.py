# SPDX-License-Identifier: GPL-2.0-or-later
"""What a shell offers for an unfinished word: kernels and functions; options and codes are
click's own work. Nothing is fetched or made for it, and nothing
that goes wrong here is told: then nothing is offered."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

_MOST = 200  # more is no help to a person


def complete_kernels(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the kernels in the cache, and of the series that recipes know by `newest`."""
    del context, parameter
    try:
        from kgbuild.pipeline.kernels import names_at_hand

        return [CompletionItem(name) for name in names_at_hand() if name.startswith(incomplete)][:_MOST]
    except Exception:
        return []


def complete_functions(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Functions of the kernel that --kernel names before, by its index; of every index of the cache without one."""
    del parameter
    try:
        from kgbuild.pipeline.kernels import functions_at_hand

        return [CompletionItem(n) for n in functions_at_hand(context.params.get("kernel_name"), incomplete, _MOST)]
    except Exception:
        return []
