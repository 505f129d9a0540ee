/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A number before the name of a file: not a line. */
#include "kernel.h"

extern void configure(int value, const char *file);
#ifdef PATCHED
int first(int x) { configure(1000, __FILE__); return source(x); }
#else
int first(int x) { configure(20, __FILE__); return source(x); }
#endif
int second(int x) { configure(20, __FILE__); return source(x) + 1; }
