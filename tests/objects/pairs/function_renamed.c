/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A static function that a table points to has another name; the real change is beside it. */
#include "kernel.h"

struct ops { int (*get)(int); };
int (*kept)(int);
#ifdef PATCHED
#define get fetch
#endif
static noinline int get(int x) { return source(x) * 7; }
const struct ops table = { get };
int first(int x)
{
	kept = get;
	return source(x) * 3;
}
int second(int x)
{
#ifdef REAL
	x++;
#endif
	return source(x) * 2;
}
