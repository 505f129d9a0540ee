# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes `toolchain` importable by every test below this folder."""
