/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The only user of two static locals of one name changes: which is which, only the line of its declaration says. */
#include "kernel.h"

#ifdef PATCHED
#define MORE 4
#else
#define MORE 3
#endif
int first(int x)
{
	if (x > 5) { static int count = 9; count += MORE; return count; }
	{ static int count = 9; count -= x; return count + source(x); }
}
