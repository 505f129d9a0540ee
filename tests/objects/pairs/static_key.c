/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A static branch asks another key: only the jump table differs. */
#include "kernel.h"

static struct static_key first_key, second_key;
void keys(void) { sink(&first_key); sink(&second_key); }
#ifdef PATCHED
int first(int x) { if (static_branch(&second_key, false)) return 1; return source(x); }
#else
int first(int x) { if (static_branch(&first_key, false)) return 1; return source(x); }
#endif
int second(int x) { if (static_branch(&second_key, false)) return 2; return source(x); }
