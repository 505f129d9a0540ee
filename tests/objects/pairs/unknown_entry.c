/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An entry of a table that nobody knows changes; nothing else does. */
#include "kernel.h"

#ifdef PATCHED
#define N 8
#else
#define N 7
#endif
#define entry(n) asm volatile("1: .pushsection my_table, \"a\"\n.quad 1b\n.quad %c0\n.popsection" : : "i"(n))
int first(int x) { entry(N); return source(x) + 1; }
int second(int x) { return source(x); }
