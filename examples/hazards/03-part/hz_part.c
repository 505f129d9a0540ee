// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 70);

static int taken;
static int sums[8];

static int take(int x)
{
	int i;

	taken++;
	if (likely(x < 10))
		return x;
	for (i = 0; i < ARRAY_SIZE(sums); i++) {
		sums[i] += x * i;
		sums[i] ^= sums[(i + 3) % ARRAY_SIZE(sums)] >> 2;
		if (sums[i] > 100000)
			sums[i] = sums[(i + 1) % ARRAY_SIZE(sums)] / 3;
	}
	for (i = 1; i < ARRAY_SIZE(sums); i++)
		sums[0] += sums[i] % (x + i);
	return x + 1000;
}

static noinline int first(int x)
{
	return take(x) + 1;
}

static noinline int second(int x)
{
	return take(x + 1) + 2;
}

static noinline int third(int x)
{
	return take(x + 2) + 3;
}

static int lab_show(struct seq_file *m, void *unused)
{
	int results;

	taken = 0;
	memset(sums, 0, sizeof(sums));
	results = first(number) + second(number) + third(number) + first(number / 10);
	seq_printf(m, "taken %d\nresults %d\n", taken, results);
	return 0;
}

LAB_MODULE("hz_part");
