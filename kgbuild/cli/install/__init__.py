# SPDX-License-Identifier: GPL-2.0-or-later
"""What a package of a distribution installs beside the command, made from the commands: man pages, shell completion."""
