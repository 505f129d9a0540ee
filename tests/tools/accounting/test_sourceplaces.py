# SPDX-License-Identifier: GPL-2.0-or-later
"""The line of a patch that a difference in the ledger comes from."""

from __future__ import annotations

import pytest

from kgbuild.accounting.source_places import changed_lines, place_of
from kgbuild.debuginfo.static_locals import read_declaration_lines
from kgbuild.elf.read import read
from kgbuild.ledger.difference import CAME, CONTENT, NAMES, WENT, Difference
from kgbuild.patch.unified_diff import parse_patch
from tests.support.toolchain import compile_text, pair_flags

PATCH = b"""--- a/kernel/one.c
+++ b/kernel/one.c
@@ -10,12 +10,8 @@ context
 int kept;
-static int debug_level;
-module_param(debug, int, 0644);
-module_param(debug_level, int, 0644);
 int here;
-EXPORT_SYMBOL_GPL(one_get);
-EXPORT_SYMBOL(one_get_locked);
-device_initcall(one_init);
+MODULE_ALIAS("net-pf-%d");
+early_param("one", one_setup);
+int kf(void *buf, u32 buf__sz)
 int there;
-MODULE_SOFTDEP("pre: two");
-int kf(void *buf, u32 len)
+MODULE_SOFTDEP("pre: three");
 int end;
"""


@pytest.mark.parametrize(
    ("section", "symbol", "kind", "was", "now", "place"),
    [
        ("__param", "__param_debug", WENT, "40 bytes", "", "kernel/one.c:12"),
        ("__param", "__param_debug_level", WENT, "40 bytes", "", "kernel/one.c:13"),
        ("___ksymtab_gpl+one_get", "__ksymtab_one_get", WENT, "12 bytes", "", "kernel/one.c:15"),
        ("___ksymtab+one_get_locked", "__ksymtab_one_get_locked", WENT, "12 bytes", "", "kernel/one.c:16"),
        (".export_symbol", "__export_symbol_one_get", WENT, "12 bytes", "", "kernel/one.c:15"),
        (".initcall6.init", "__initcall__kmod_one__260_27_one_init6", WENT, "4 bytes", "", "kernel/one.c:17"),
        (".init.setup", "__setup_one_setup", CAME, "", "24 bytes", "kernel/one.c:13"),
        (".modinfo", "alias", CAME, "", "net-pf-16", ""),
        (".modinfo", "softdep", CAME, "", "pre: three", "kernel/one.c:16"),
        (".modinfo", "softdep", WENT, "pre: two", "", "kernel/one.c:19"),
        (".BTF", "kf", NAMES, "u32 len", "u32 buf__sz", "kernel/one.c:14"),
        (".text", "elsewhere", WENT, "40 bytes", "", ""),
        (".data", "on", CONTENT, "00", "01", ""),
    ],
)
def test_place(section: str, symbol: str, kind: str, was: str, now: str, place: str) -> None:
    lines = changed_lines(parse_patch("one.patch", PATCH).files, {"kernel/one.c", "one.c"})
    assert place_of(Difference(section, symbol, kind, -1, was, now), lines) == place


def test_lines_of_declarations() -> None:
    """By DWARF, of the unit's own file: not of what a header declares."""
    text = '\n\nstatic int here;\nint *f(void) { return &here; }\nint g(void);\n#line 9 "other.h"\nint in_header;\n'
    names = {"here", "f", "g", "in_header", "none"}
    assert read_declaration_lines(read(compile_text(text, *pair_flags(("-g",)))), names) == {"here": 3, "f": 4}
    assert read_declaration_lines(read(compile_text(text, *pair_flags())), names) == {}
