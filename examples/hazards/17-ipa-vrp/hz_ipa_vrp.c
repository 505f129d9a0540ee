// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static noinline int range(int x, int k)
{
	if (k > 5)
		return x * 1000;
	return x % (k + 1);
}

static noinline int three(int x)
{
	return range(x, 3) + 1;
}

static noinline int five(int x)
{
	return range(x, 5) + 2;
}

static noinline int fresh(int x)
{
	return x + 3;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "three %d\nfive %d\nfresh %d\n", three(number), five(number), fresh(number));
	return 0;
}

LAB_MODULE("hz_ipa_vrp");
