/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A static local of one function goes, another function gets one of that name. */
#include "kernel.h"

#ifdef PATCHED
int first(int x) { return source(x); }
int second(int x) { static int count; count += x; return count + source(x); }
#else
int first(int x) { static int count; count += x; return count + source(x); }
int second(int x) { return source(x); }
#endif
