/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function and a variable become global, and nothing else; the real change is in the function. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
#ifdef PATCHED
#define linkage
#else
#define linkage static used
#endif
linkage noinline int first(int x) { sink(NULL); return source(x) + MORE; }
linkage int state = 3;
int second(int x) { state += x; return source(x) + 1; }
int third(int x) { return first(x) + 2; }
