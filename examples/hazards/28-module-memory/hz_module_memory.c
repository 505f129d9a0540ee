// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/percpu.h>
#include <linux/srcu.h>
#include "../lab.h"

LAB_NUMBER(number, 7);

static noinline int get(int x)
{
	return 3 * x;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "get %d\n", get(number));
	return 0;
}

LAB_MODULE("hz_module_memory");
