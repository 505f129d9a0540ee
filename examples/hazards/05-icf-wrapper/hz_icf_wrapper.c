// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static int table[8];

int hz_first(int x);
int hz_second(int x);

int hz_first(int x)
{
	int i;

	for (i = 0; i < 8; i++) {
		table[i] = x * i + table[(i + 1) % 8];
		if (table[i] > 1000)
			table[i] %= 77;
	}
	return table[x % 8] + table[(x + 3) % 8];
}

int hz_second(int x)
{
	int i;

	for (i = 0; i < 8; i++) {
		table[i] = x * i + table[(i + 1) % 8];
		if (table[i] > 1000)
			table[i] %= 77;
	}
	return table[x % 8] + table[(x + 3) % 8];
}

static int (*const calls[])(int) = { hz_first, hz_second };

static int lab_show(struct seq_file *m, void *unused)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		memset(table, 0, sizeof(table));
		seq_printf(m, "%d %d\n", i, READ_ONCE(calls[i])(number));
	}
	return 0;
}

LAB_MODULE("hz_icf_wrapper");
