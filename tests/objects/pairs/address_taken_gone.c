/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function whose address was handed out is no more. */
#include "kernel.h"

#ifdef PATCHED
int register_all(void) { sink(NULL); return 0; }
#else
static int callback(int x) { return source(x) + 1; }
int register_all(void) { sink(callback); return 0; }
#endif
int other(int x) { return source(x); }
