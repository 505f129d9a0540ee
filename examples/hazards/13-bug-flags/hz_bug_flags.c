// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static noinline int warn(int x)
{
	WARN_ON(x > 100);
	return x + 1;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "warn %d\n", warn(number));
	return 0;
}

LAB_MODULE("hz_bug_flags");
