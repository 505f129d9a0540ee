/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A new string comes before others, whose offsets shift. */
#include "kernel.h"

int early(int x)
{
#ifdef PATCHED
	printk("something new\n");
#endif
	return printk("an old one\n") + x;
}
int first(int x) { return printk("value %d\n", x); }
#ifdef REAL
int second(int x) { return printk("another %x\n", x); }
#else
int second(int x) { return printk("another %d\n", x); }
#endif
