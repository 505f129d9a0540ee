# SPDX-License-Identifier: GPL-2.0-or-later
"""What kallsyms leaves out, as scripts/kallsyms.c does."""

from __future__ import annotations

# Names that scripts/kallsyms and mksysmap leave out: nothing may be bound to them.
NOT_IN_KALLSYMS = (
    ".L",
    "$",
    "__crc_",
    "__kstrtab_",
    "__kstrtabns_",
    "__efistub_",
    "__kvm_nvhe_",
    "__UNIQUE_ID___addressable_",
)


# The tables that scripts/kallsyms itself makes (scripts/kallsyms.c, is_ignored_symbol).
KALLSYMS_TABLES = frozenset(
    f"kallsyms_{table}"
    for table in (
        *("addresses", "offsets", "relative_base", "num_syms", "names", "markers", "token_table", "token_index"),
        "seqs_of_names",
    )
)
