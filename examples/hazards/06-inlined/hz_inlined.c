// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static int small(int x)
{
	return x + 5;
}

static int (*handler)(int) = small;

static noinline int direct(int x)
{
	return small(x) * 2;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "direct %d\nstored %d\n", direct(number), READ_ONCE(handler)(number));
	return 0;
}

LAB_MODULE("hz_inlined");
