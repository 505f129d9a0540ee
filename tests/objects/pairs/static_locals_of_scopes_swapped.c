/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two static locals of one name change places in a function that is inlined: clang gives them each other's names. */
#include "kernel.h"

#ifdef REAL
#define MORE 2
#else
#define MORE 1
#endif
static always_inline int helper(int x, bool up)
{
#ifdef PATCHED
	if (!up) { static int count; count -= x; return count; }
	{ static int count; count += x; return count; }
#else
	if (up) { static int count; count += x; return count; }
	{ static int count; count -= x; return count; }
#endif
}
int first(int x) { return helper(x, true); }
int second(int x) { return helper(x, false) + MORE; }
