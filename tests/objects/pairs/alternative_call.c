/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The replacement of an alternative calls another function. */
#include "kernel.h"

#ifdef PATCHED
int first(int x) { alternative("call source", "call source_new", 8); return x; }
#else
int first(int x) { alternative("call source", "call source_old", 8); return x; }
#endif
int second(int x) { alternative("call source", "call source_old", 8); return x; }
