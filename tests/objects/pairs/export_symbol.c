/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One export in the place of another, in the section that 6.4 and later have for it. */
#include "kernel.h"

#define EXPORT(sym) asm(".section \".export_symbol\",\"a\"\n__export_symbol_" #sym ": .asciz \"GPL\"\n.asciz \"\"\n" \
			".balign 8\n.quad " #sym "\n.previous")
int first(int x) { return source(x); }
int second(int x) { return source(x) + 2; }
#ifdef PATCHED
EXPORT(second);
#else
EXPORT(first);
#endif
