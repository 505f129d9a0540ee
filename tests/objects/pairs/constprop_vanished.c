/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A clone with a constant baked in is no more, for a caller passes another. */
#include "kernel.h"

static noinline int work(int x, int how) { return source(x * how) + source(how); }
int first(int x) { return work(x, 3); }
#ifdef PATCHED
int second(int x) { return work(x, x); }
#else
int second(int x) { return work(x, 3); }
#endif
int third(int x) { return source(x); }
