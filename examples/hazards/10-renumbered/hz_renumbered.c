// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static int sums[8];

static noinline int work(int x, int k)
{
	int i, sum = 0;

	for (i = 0; i < k; i++) {
		sum += sums[i % 8] * k + (x >> i);
		sum ^= x * k;
	}
	return sum;
}

static noinline int three(int x)
{
	return work(x, 3) + work(x + 1, 3);
}

static noinline int five(int x)
{
	return work(x, 5) + work(x + 1, 5);
}

static noinline int any(int x)
{
	return work(x, x) + work(x + 1, x);
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "three %d\nfive %d\nany %d\n", three(number), five(number), any(number));
	return 0;
}

LAB_MODULE("hz_renumbered");
