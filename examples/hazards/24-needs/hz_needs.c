// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);
LAB_NUMBER(level, 5);

static noinline int get(int x)
{
	return x + level;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "get %d\n", get(number));
	return 0;
}

LAB_MODULE("hz_needs");
