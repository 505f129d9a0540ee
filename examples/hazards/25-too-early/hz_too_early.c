// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/static_call.h>
#include "../lab.h"

LAB_NUMBER(number, 7);
LAB_NUMBER(level, 5);

static noinline void add(int *x)
{
	*x += 100;
	barrier();
}

static noinline int get(int x)
{
	return x + level;
}

static int lab_show(struct seq_file *m, void *unused)
{
	int x = number;

	add(&x);
	seq_printf(m, "add %d\nget %d\n", x, get(number));
	return 0;
}

LAB_MODULE("hz_too_early");
