/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A number behind the name of a file that is not the source's: not a line. */
#include "kernel.h"

extern void configure(const char *what, int value);
#ifdef PATCHED
int first(int x) { configure("users.c", 1000); return source(x); }
#else
int first(int x) { configure("users.c", 20); return source(x); }
#endif
int second(int x) { configure("users.c", 20); return source(x) + 1; }
