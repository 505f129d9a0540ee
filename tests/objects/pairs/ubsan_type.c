/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The type that UBSAN would name changes, and no code. */
#include "kernel.h"

#ifdef PATCHED
typedef int bits;
#else
typedef unsigned int bits;
#endif
int first(int x, bits y) { return x << y; }
int second(int x, int y) { return (x << y) + 1; }
