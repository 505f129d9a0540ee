// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/sched/debug.h>
#include "../lab.h"

LAB_NUMBER(number, 7);

static noinline __sched int red(int x)
{
	return x + number;
}

static noinline __sched int use_red(int x)
{
	return red(x) * 10;
}

static noinline __sched int blue(int x)
{
	return x - number;
}

static noinline __sched int use_blue(int x)
{
	return blue(x) * 10;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "red %d\nblue %d\n", use_red(number), use_blue(number));
	return 0;
}

LAB_MODULE("hz_no_relocation");
