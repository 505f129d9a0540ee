/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function has a second name. */
#include "kernel.h"

#ifdef PATCHED
int real_one(int x) { return source(x) + 2; }
#else
int real_one(int x) { return source(x) + 1; }
#endif
extern int second_name(int x) __attribute__((alias("real_one")));
int caller(int x) { return second_name(x); }
