/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A changed function hands out its own address and calls another changed one. */
#include "kernel.h"

static noinline int second(int x);
int first(int x)
{
	sink(first);
	sink(second);
#ifdef PATCHED
	return second(x) + 2;
#else
	return second(x) + 1;
#endif
}
static noinline int second(int x)
{
#ifdef PATCHED
	return source(x) * 3;
#else
	return source(x) * 2;
#endif
}
