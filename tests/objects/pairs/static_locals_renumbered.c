/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A static local more renumbers the others. */
#include "kernel.h"

int earlier(int x)
{
#ifdef PATCHED
	static int count;
	if (x == 77)
		return count++;
#endif
	return source(x);
}
int first(int x) { static int count; count += x; return count; }
#ifdef REAL
int second(int x) { static int count; count -= x + 1; return count; }
#else
int second(int x) { static int count; count -= x; return count; }
#endif
