// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

struct cfg {
	int first, second, third;
};

static struct cfg cfgs[2] = { { 1, 20, 300 }, { 2, 40, 600 } };

static noinline int calc(struct cfg *cfg, int x)
{
	return cfg->second * 10 + x;
}

static noinline int once(struct cfg *cfg, int x)
{
	return calc(cfg, x) + READ_ONCE(cfg->first);
}

static noinline int twice(struct cfg *cfg, int x)
{
	return calc(cfg, x) + calc(cfg, x + 1) + READ_ONCE(cfg->first);
}

static noinline int other(struct cfg *cfg, int x)
{
	return x + READ_ONCE(cfg->first);
}

static int lab_show(struct seq_file *m, void *unused)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(cfgs); i++) {
		seq_printf(m, "once %d\n", once(&cfgs[i], number));
		seq_printf(m, "twice %d\n", twice(&cfgs[i], number));
		seq_printf(m, "other %d\n", other(&cfgs[i], number));
	}
	return 0;
}

LAB_MODULE("hz_isra");
