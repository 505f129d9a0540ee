# SPDX-License-Identifier: GPL-2.0-or-later
"""kgbuild: from a source diff to a live patch module for one exact distribution kernel."""

__version__ = "0.1.0"
