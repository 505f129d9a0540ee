/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A new function, and a caller of it. */
#include "kernel.h"

#ifdef PATCHED
static noinline int added(int x) { return source(x) + 11; }
int caller(int x) { return added(x) + 1; }
#else
int caller(int x) { return source(x) + 1; }
#endif
int other(int x) { return source(x) - 1; }
