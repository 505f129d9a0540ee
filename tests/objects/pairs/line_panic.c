/* SPDX-License-Identifier: GPL-2.0-or-later */
/* panic is given the name of the function and the line; the real change is a number further on. */
#include "kernel.h"

#ifdef REAL
#define COUNT 8
#else
#define COUNT 9
#endif
extern void panic(const char *fmt, ...);
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { if (x < 0) panic("%s: line %d", __func__, __LINE__); return source(x); }
int second(int x) { if (x < 0) panic("%s: %d and %d", __func__, 5, COUNT); return source(x) + 1; }
