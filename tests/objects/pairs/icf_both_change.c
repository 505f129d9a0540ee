/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two equal functions both change, each its own way. Flags: -fipa-icf. */
#include "kernel.h"

#ifdef PATCHED
static noinline int twin_a(int x) { return source(x * 3) + source(x + 13); }
static noinline int twin_b(int x) { return source(x * 3) + source(x + 12); }
#else
static noinline int twin_a(int x) { return source(x * 3) + source(x + 11); }
static noinline int twin_b(int x) { return source(x * 3) + source(x + 11); }
#endif
int call_a(int x) { return twin_a(x) + 1; }
int call_b(int x) { return twin_b(x) + 2; }
