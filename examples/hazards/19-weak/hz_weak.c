// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

/* The kernel has it and does not export it. */
extern unsigned int nr_running(void) __attribute__((weak));

static noinline int has(void)
{
	return nr_running != NULL;
}

static noinline int mixed(int x)
{
	return x * 2 + has();
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "has %d\nmixed %d\n", has(), mixed(number));
	return 0;
}

LAB_MODULE("hz_weak");
