/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Only the line in what UBSAN prints differs; the real change is the length of an array. */
#include "kernel.h"

#ifdef REAL
#define LENGTH 9
#else
#define LENGTH 8
#endif
extern int first_array[8], second_array[LENGTH];
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { return first_array[x]; }
int second(int x) { return second_array[x] + 1; }
