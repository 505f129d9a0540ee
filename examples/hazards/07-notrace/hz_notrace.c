// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static noinline notrace int inner(int x)
{
	return x + 5;
}

static noinline notrace int middle(int x)
{
	return inner(x) * 2;
}

static noinline int outer(int x)
{
	return middle(x) + 1;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "outer %d\n", outer(number));
	return 0;
}

LAB_MODULE("hz_notrace");
