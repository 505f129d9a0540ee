// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

#define IPA_RA noinline __attribute__((optimize("ipa-ra")))

int hz_bare(int x);

static int seen;

static IPA_RA int leaf(int x)
{
	return x + seen;
}

static IPA_RA int caller(int a, int b)
{
	return leaf(b) + a * 100;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seen = number - 7;
	seq_printf(m, "caller %d\nbare %d\n", caller(number + 3, number + 2), hz_bare(number));
	return 0;
}

LAB_MODULE("hz_ipa");
