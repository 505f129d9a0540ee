// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);
LAB_NUMBER(broken, 0);

struct pair {
	int first, second;
};

static int calls;

static noinline int pure(int x)
{
	return x * 3 + 1;
}

static noinline int call_twice(int x)
{
	int once = pure(x);

	calls += 100;
	return once + pure(x);
}

static noinline void stop(int x)
{
	pr_err("stopped at %d\n", x);
	BUG();
}

static noinline int checked(int x, int limit)
{
	if (unlikely(x > limit)) {
		stop(x);
		return limit;
	}
	return x + 1;
}

static noinline void touch(struct pair *pair)
{
	pair->first++;
}

static noinline int reload(struct pair *pair)
{
	int before = pair->second;

	touch(pair);
	return before * 100 + pair->second;
}

static int lab_show(struct seq_file *m, void *unused)
{
	struct pair pairs[2] = { { 1, number }, { 2, number + 1 } };
	int i;

	calls = 0;
	seq_printf(m, "pure %d\n", call_twice(number));
	seq_printf(m, "calls %d\n", calls);
	for (i = 0; i < ARRAY_SIZE(pairs); i++)
		seq_printf(m, "reload %d %d\n", reload(&pairs[i]), pairs[i].first);
	seq_printf(m, "checked %d\n", checked(number, broken ? 3 : 100));
	return 0;
}

LAB_MODULE("hz_effects");
