# SPDX-License-Identifier: GPL-2.0-or-later
"""What in a kernel stands in the way of live patches, as figures: of all its functions, and of recompiled units."""
