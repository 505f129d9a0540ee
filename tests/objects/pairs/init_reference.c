/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changed code refers to init memory. */
#include "kernel.h"

extern char boot_text[];
section(".init.data") char own_text[16] = "early";
#ifdef PATCHED
int first(int x) { sink(own_text); return source(x); }
#else
int first(int x) { return source(x); }
#endif
int __init start(void) { sink(own_text); return 0; }
