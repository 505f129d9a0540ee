// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static int folded = 5;
static int constant = 6;

static noinline int read_folded(int x)
{
	return x * folded;
}

static noinline int read_constant(int x)
{
	return x * READ_ONCE(constant);
}

static noinline void write_folded(int x)
{
	if (x < 0)
		pr_info("negative\n");
}

static noinline void write_constant(int x)
{
	if (x < 0)
		pr_info("below zero\n");
}

static int lab_show(struct seq_file *m, void *unused)
{
	write_folded(number);
	write_constant(number);
	seq_printf(m, "folded %d\nconstant %d\n", read_folded(number), read_constant(number));
	return 0;
}

LAB_MODULE("hz_first_write");
