# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reviewer of a patch reads: the way from hunks to functions, and code beside code, as plain data and lines."""
