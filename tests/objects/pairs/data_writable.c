/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A static that was only read gets its first write, and leaves .rodata. */
#include "kernel.h"

static int level = 3;
#ifdef PATCHED
void set(int x) { level = x; }
#else
void set(int x) { source(x); }
#endif
int get(void) { return READ_ONCE(level); }
