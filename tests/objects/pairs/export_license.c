/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An export for modules of any license becomes one for those under the GPL. */
#include "kernel.h"

#ifdef PATCHED
#define LICENSE "GPL"
#else
#define LICENSE ""
#endif
int first(int x) { return source(x); }
asm(".section \".export_symbol\",\"a\"\n__export_symbol_first: .asciz \"" LICENSE "\"\n.asciz \"\"\n"
    ".balign 8\n.quad first\n.previous");
