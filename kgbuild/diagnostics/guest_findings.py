# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of what can be wrong in a guest: codes and their meaning."""

from __future__ import annotations

# code of a finding -> what was expected
CODES = {
    "G1-before": "A command of --before succeeds, and a check fails, while the patch is not loaded.",
    "G2-load": "The kernel accepts the module.",
    "G3-transition": "The transition of all tasks ends.",
    "G4-sysfs": "The patch is enabled, and its functions are listed in sysfs.",
    "G5-after": "A command of --after and a check succeed while the patch is active.",
    "G6-disable": "The patch can be disabled.",
    "G7-unload": "The module can be removed after that.",
    "G8-disabled": "A command of --disabled succeeds, and a check fails again, when the patch is gone.",
    "G9-log": "The kernel complains about nothing.",
    "G10-panic": "The kernel stays alive.",
    "G11-taint": "The kernel does not mark itself as faulty.",
    "G12-target": "A target module can be loaded: before the patch, after it, and again.",
    "G13-reload": "A target module that can be unloaded without the patch can be with it.",
    "G14-absent": "A command of --absent succeeds while a target module is out and the patch is active.",
}
