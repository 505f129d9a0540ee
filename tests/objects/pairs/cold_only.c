/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Only the cold half of a function differs. */
#include "kernel.h"

extern cold void complain(int n);
int first(int x)
{
	if (unlikely(x < 0)) {
#ifdef PATCHED
		complain(2);
#else
		complain(1);
#endif
		return source(x) + 5;
	}
	return source(x);
}
int second(int x) { if (unlikely(x < 0)) { complain(3); return source(x) + 6; } return source(x) + 1; }
