/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tail that was split off a function has another number; the real change is in it. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
#ifdef PATCHED
#define NAME "helper.part.3"
#else
#define NAME "helper.part.0"
#endif
static noinline int rest(int x) asm(NAME);
static noinline int rest(int x) { sink(NULL); return source(x) + MORE; }
int first(int x) { return x > 3 ? rest(x) : 0; }
int second(int x) { return x > 4 ? rest(x) : 1; }
