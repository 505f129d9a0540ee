/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A static local of an inline function that two functions have in them. */
#include "kernel.h"

static inline int next_id(void) { static int id; return ++id; }
int first(int x) { return source(x) + next_id(); }
#ifdef PATCHED
int second(int x) { return source(x + 1) + next_id(); }
#else
int second(int x) { return source(x) - next_id(); }
#endif
int third(int x) { return source(x); }
