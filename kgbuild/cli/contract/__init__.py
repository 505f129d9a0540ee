# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts rely on of every command: exit statuses, and one JSON document for every outcome."""
