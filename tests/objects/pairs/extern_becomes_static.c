/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function of another unit is shadowed by one of this unit. */
#include "kernel.h"

#ifdef PATCHED
static noinline int helper(int x) { return source(x) + 3; }
#else
extern int helper(int x);
#endif
int first(int x) { return helper(x) + 1; }
int second(int x) { return source(x); }
