/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A message is given file and line; the real change is a number in a message. */
#include "kernel.h"

#ifdef REAL
#define COUNT 8
#else
#define COUNT 9
#endif
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { if (x < 0) printk("\0013RTNL: assertion failed at %s (%d)\n", __FILE__, __LINE__); return source(x); }
int second(int x) { if (x < 0) printk("\0013%s has %d\n", "queue", COUNT); return source(x) + 1; }
