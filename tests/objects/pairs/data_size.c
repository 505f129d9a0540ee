/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An array grows. */
#include "kernel.h"

#ifdef PATCHED
#define N 8
#else
#define N 4
#endif
static int table[N];
void first(int x) { table[x] = source(x); sink(table); }
int second(int x) { return source(x); }
