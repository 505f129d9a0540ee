/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two static locals of one name in one function. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
/* clang names static locals after their function: first.count, first.count.1 */
#ifdef PATCHED
int first(int x)
{
	if (x > 5) { static int count = 9; count += MORE; return count; }
	{ static int count = 9; count -= x; return count + source(x); }
}
int second(int x) { if (x > 5) return source(x); return x; }
#else
int first(int x)
{
	if (x > 5) { static int count = 9; count += MORE; return count; }
	{ static int count = 9; count -= x; return count + source(x); }
}
int second(int x) { if (x > 5) return source(x) + 1; return x; }
#endif
