/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A string changes, the code does not. */
#include "kernel.h"

#ifdef PATCHED
int first(int x) { return printk("value %u\n", x); }
#else
int first(int x) { return printk("value %d\n", x); }
#endif
int second(int x) { return printk("another %d\n", x); }
