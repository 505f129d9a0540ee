/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two functions that call each other; one changes. */
#include "kernel.h"

#ifdef PATCHED
#define MORE 2
#else
#define MORE 1
#endif
static noinline int odd(int x);
static noinline int even(int x) { return x ? odd(x - 1) + source(x) : 1; }
static noinline int odd(int x) { return x ? even(x - 1) * MORE + source(x) : 0; }
int first(int x) { return even(x) + source(1); }
