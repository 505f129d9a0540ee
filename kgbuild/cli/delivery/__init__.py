# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that bring a module onto a machine."""
