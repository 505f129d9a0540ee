/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A callee that never returned does now: the caller's code after the call is missing. */
#include "kernel.h"

extern __attribute__((noreturn)) void halt_for_ever(void);
static noinline cold void fail(int x)
{
	printk("failed %d\n", x);
#ifdef PATCHED
	if (x != 5)
		return;
#endif
	halt_for_ever();
}
int caller(int x) { if (unlikely(x > 9)) fail(x); return source(x); }
int other(int x) { return source(x) + 1; }
