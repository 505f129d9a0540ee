/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An initcall more, of a function that was there. */
#include "kernel.h"

int first(int x) { return source(x); }
static int __init used start(void) { return source(1); }
#ifdef PATCHED
asm(".section \".initcall6.init\", \"a\"\n.long start - .\n.previous");
#endif
