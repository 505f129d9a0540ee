/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A flag more renumbers the once-flags; the real change is the value one begins with. */
#include "kernel.h"

#ifdef REAL
#define STARTS true
#else
#define STARTS false
#endif
#define complain_once(n, starts) do {						\
	static bool __already_done = starts;		\
	if (!__already_done) { __already_done = true; printk("complaint %d\n", n); }		\
} while (0)
int first(int x) { if (x == 4) complain_once(2, false); return source(x) + 1; }
int second(int x) { if (x == 5) complain_once(3, STARTS); return source(x) + 2; }
int later(int x)
{
#ifdef PATCHED
	if (x == 77)
		complain_once(1, false);
#endif
	return source(x);
}
