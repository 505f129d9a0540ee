// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 3);

static int third[2] __read_mostly = { 5, 6 };
static int second[2] __read_mostly = { 1000, 2000 };
static int first[8] __read_mostly = { 10, 11, 12, 13, 14, 15, 16, 17 };

static noinline int sum(void)
{
	int *p, s = 0;

	for (p = first; p < first + 8; p++) {
		s += *p;
		barrier();
	}
	return s;
}

static noinline int other(int x)
{
	first[x & 7] = 10 + (x & 7);
	second[x & 1] = x + 997;
	third[x & 1] = x + 3;
	return second[~x & 1] + third[~x & 1];
}

static int lab_show(struct seq_file *m, void *unused)
{
	int x = other(number);

	seq_printf(m, "other %d\nsum %d\n", x, sum());
	return 0;
}

LAB_MODULE("hz_section_ends");
