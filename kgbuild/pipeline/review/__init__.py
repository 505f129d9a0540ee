# SPDX-License-Identifier: GPL-2.0-or-later
"""Use cases of a reviewer: the code of a function before and after, what in a kernel stands in the way of patches."""
