// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 3);

static const int first[8] = { 11, 12, 13, 14, 15, 16, 17, 18 };
static const int second[8] = { 11, 12, 13, 14, 15, 16, 17, 18 };

static noinline int read_first(int x)
{
	return first[x & 7] + 100;
}

static noinline int read_second(int x)
{
	return second[x & 7] + 200;
}

static noinline int choose(int x)
{
	switch (x) {
	case 1:
		return 500;
	case 2:
		return 71;
	case 3:
		return 9000;
	case 4:
		return 3;
	case 5:
		return 66;
	case 6:
		return 10;
	default:
		return -1;
	}
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "first %d\nsecond %d\nchoose %d\n", read_first(number), read_second(number), choose(number));
	return 0;
}

LAB_MODULE("hz_tables");
