# SPDX-License-Identifier: GPL-2.0-or-later
"""Static keys of target modules that patched code reads at run time."""
