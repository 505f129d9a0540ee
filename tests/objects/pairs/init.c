/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Code and data of .init change. */
#include "kernel.h"

#ifdef PATCHED
#define N 2
#else
#define N 1
#endif
int __init start(void) { return source(N); }
int running(int x) { return source(x); }
