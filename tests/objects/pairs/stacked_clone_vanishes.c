/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Of two clones of one stem one is gone: its number says nothing of which. */
#include "kernel.h"

#ifdef PATCHED
static noinline int low(int x) asm("helper.isra.0.constprop.0");
static noinline int low(int x) { return source(x) * 5; }
int first(int x) { return low(x) + 1; }
int second(int x) { return low(x) + 2; }
#else
static noinline int low(int x) asm("helper.isra.0.constprop.0");
static noinline int low(int x) { return source(x) + 1; }
static noinline int high(int x) asm("helper.isra.0.constprop.1");
static noinline int high(int x) { return source(x) * 5; }
int first(int x) { return low(x) + 1; }
int second(int x) { return high(x) + 2; }
#endif
