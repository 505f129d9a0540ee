/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function gains an entry; those of the next one stay. */
#include "kernel.h"

int first(int x)
{
#ifdef PATCHED
	if (x == 4)
		bug_entry(BUGFLAG_WARNING, 10);
#endif
	return source(x);
}
int second(int x) { if (x == 4) bug_entry(BUGFLAG_WARNING, 11); return source(x) + 1; }
