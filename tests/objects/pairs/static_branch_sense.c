/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The initial sense of a static branch, a bit of the key's address in the jump table. */
#include "kernel.h"

static struct static_key key;
void keys(void) { sink(&key); }
#ifdef PATCHED
int first(int x) { if (static_branch(&key, true)) return 1; return source(x); }
#else
int first(int x) { if (static_branch(&key, false)) return 1; return source(x); }
#endif
int second(int x) { if (static_branch(&key, false)) return 2; return source(x); }
