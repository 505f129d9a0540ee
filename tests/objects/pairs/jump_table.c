/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two cases of a switch that is a table of addresses change places. */
#include "kernel.h"

int a(int), b(int), c(int), d(int), e(int), f(int);
#ifdef PATCHED
#define ONE 2
#define TWO 1
#else
#define ONE 1
#define TWO 2
#endif
int first(int x)
{
	switch (x) {
	case 0: return a(x);
	case ONE: return b(x) + 1;
	case TWO: return c(x) + 1;
	case 3: return d(x);
	case 4: return e(x);
	case 5: return f(x);
	}
	return -1;
}
int second(int x) { return source(x); }
