# SPDX-License-Identifier: GPL-2.0-or-later
"""Use cases of bringing a module onto a machine."""
