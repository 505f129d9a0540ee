/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two equal functions are one body; one changes and they part. Flags: -fipa-icf. */
#include "kernel.h"

static noinline int twin_a(int x) { return source(x * 3) + source(x + 11); }
#ifdef PATCHED
static noinline int twin_b(int x) { return source(x * 3) + source(x + 12); }
#else
static noinline int twin_b(int x) { return source(x * 3) + source(x + 11); }
#endif
int call_a(int x) { return twin_a(x) + 1; }
int call_b(int x) { return twin_b(x) + 2; }
