# SPDX-License-Identifier: GPL-2.0-or-later
"""What is shipped with a module, as text and data: packages, signatures, provenance."""
