# SPDX-License-Identifier: GPL-2.0-or-later
"""kgbuild: from a source diff to a live patch module for one exact distribution kernel.

The functions of kgbuild.api are names of this package (`kgbuild.build`, ...); they are imported when they are asked
for, so that the command line starts fast.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_API = (
    *("Built", "Cancelled", "Impact", "KgbuildError", "NoChange", "Observer", "Options", "Refusal", "Refused"),
    *("RunningKernel", "SilentObserver", "ToolError", "UserError", "boot", "build", "diff_objects", "estimate"),
    *("impact", "open_kernel", "verify", "why"),
)


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(importlib.import_module("kgbuild.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})
