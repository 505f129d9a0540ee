/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An absolute symbol has another value. */
#include "kernel.h"

#ifdef PATCHED
asm(".globl magic\n.set magic, 0x1235\n");
#else
asm(".globl magic\n.set magic, 0x1234\n");
#endif
extern void magic(void);
int first(int x) { magic(); return x; }
int second(int x) { return source(x); }
