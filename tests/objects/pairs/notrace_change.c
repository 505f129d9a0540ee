/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function ftrace can't redirect changes. */
#include "kernel.h"

#ifdef PATCHED
notrace noinline int quiet(int x) { return source(x) + 2; }
#else
notrace noinline int quiet(int x) { return source(x) + 1; }
#endif
int caller(int x) { return quiet(x) + 1; }
