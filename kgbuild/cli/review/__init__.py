# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands for who reviews a patch: its code beside the kernel's, its page, what stands in the way in a kernel."""
