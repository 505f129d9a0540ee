# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs that make packages, repositories and signatures, and the script that loads patches."""
