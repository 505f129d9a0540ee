/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Only the line in what UBSAN prints differs; the real change is the type that is shifted. */
#include "kernel.h"

#ifdef REAL
#define TYPE long
#else
#define TYPE int
#endif
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x, int y) { return x << y; }
TYPE second(TYPE x, int y) { return (x << y) + 1; }
