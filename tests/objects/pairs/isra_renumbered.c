/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An isra clone stays what it is while something else changes. */
#include "kernel.h"

struct config { int a, b, c; };
static noinline int read_one(struct config *c, int x) { return source(c->b + x) + source(x); }
int first(struct config *c) { return read_one(c, 1) + read_one(c, 2); }
#ifdef PATCHED
int second(struct config *c) { return read_one(c, 4) * 2; }
#else
int second(struct config *c) { return read_one(c, 3); }
#endif
