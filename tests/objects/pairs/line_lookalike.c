/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A number behind a string that names no file: not a line. */
#include "kernel.h"

extern void configure(const char *what, int value);
#ifdef PATCHED
int first(int x) { configure("mode", 1000); return source(x); }
#else
int first(int x) { configure("mode", 20); return source(x); }
#endif
int second(int x) { configure("mode", 20); return source(x) + 1; }
