// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static noinline int scale(int value, int factor)
{
	int i, sum = 0;

	for (i = 0; i < factor; i++)
		sum += value * factor + (value >> i);
	return sum;
}

static noinline int plain(int x)
{
	return scale(x, 3) + 1;
}

static noinline int special(int x)
{
	return scale(x, 3) + 2;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "plain %d\nspecial %d\n", plain(number), special(number));
	return 0;
}

LAB_MODULE("hz_constprop");
