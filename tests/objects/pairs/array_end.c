/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A loop runs to the end of an array that lies in a shared section before padding. */
#include "kernel.h"

#define shared section(".data..read_mostly")
static shared u64 before __attribute__((aligned(16))) = 4;
static shared char table[12] = { 1 };
static shared u64 after __attribute__((aligned(16))) = 4;
int first(int x)
{
	char *p;
	for (p = table; p < table + 12; p++)
		*p = source(*p);
	return after++ + before++;
}
#ifdef PATCHED
int second(int x) { return source(x) + after; }
#else
int second(int x) { return source(x) - after; }
#endif
