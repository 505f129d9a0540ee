# SPDX-License-Identifier: GPL-2.0-or-later
"""Special sections: the tables in which the kernel keeps facts about places in its code."""
