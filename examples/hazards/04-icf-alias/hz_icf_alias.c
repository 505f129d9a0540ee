// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static noinline int first(int x)
{
	return x * 11 + number;
}

static noinline int second(int x)
{
	return x * 11 + number;
}

static noinline int use_first(int x)
{
	return first(x) + 100;
}

static noinline int use_second(int x)
{
	return second(x) + 200;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "first %d\nsecond %d\n", use_first(number), use_second(number));
	return 0;
}

LAB_MODULE("hz_icf_alias");
