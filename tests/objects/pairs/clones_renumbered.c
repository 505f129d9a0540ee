/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two constprop clones whose numbers are exchanged. Flags: -fipa-cp-clone. */
#include "kernel.h"

static noinline int work(int x, int how, void *p)
{
	int i, sum = 0;
	for (i = 0; i < how; i++)
		sum += source(x + i * how);
	sink(p);
	return sum;
}
#ifdef REAL
#define HOW 7
#else
#define HOW 5
#endif
#ifdef PATCHED
int second(int x, void *p) { return work(x, HOW, p) + work(x + 1, HOW, p); }
int first(int x, void *p) { return work(x, 3, p) + work(x + 1, 3, p); }
#else
int first(int x, void *p) { return work(x, 3, p) + work(x + 1, 3, p); }
int second(int x, void *p) { return work(x, HOW, p) + work(x + 1, HOW, p); }
#endif
