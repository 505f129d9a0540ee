/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A clone that took a member by value must take the structure again. */
#include "kernel.h"

struct config { int a, b, c; };
static noinline int read_one(struct config *c, int x)
{
#ifdef PATCHED
	sink(c);
#endif
	return source(c->b + x) + source(x);
}
int first(struct config *c) { return read_one(c, 1) + read_one(c, 2); }
int second(struct config *c) { return read_one(c, 3); }
int third(int x) { return source(x); }
