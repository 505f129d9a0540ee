// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/jump_label.h>
#include <linux/static_call.h>
#include "../lab.h"

static DEFINE_STATIC_KEY_FALSE(off);
static DEFINE_STATIC_KEY_TRUE(on);
static struct static_key_false row[3] = { STATIC_KEY_FALSE_INIT, STATIC_KEY_FALSE_INIT, STATIC_KEY_FALSE_INIT };

static int plus(int number)
{
	return number + 1;
}

static int minus(int number)
{
	return number - 1;
}

static void mark(int *number)
{
	*number += 1000;
}

DEFINE_STATIC_CALL(pick, plus);
DEFINE_STATIC_CALL_RET0(none, plus);
DEFINE_STATIC_CALL_NULL(maybe, mark);

static noinline int keys(void)
{
	int sum = 0;

	if (static_branch_unlikely(&off))
		sum += 1;
	if (static_branch_likely(&off))
		sum += 10;
	if (static_branch_unlikely(&on))
		sum += 100;
	if (static_branch_likely(&on))
		sum += 1000;
	if (static_branch_unlikely(&row[1]))
		sum += 10000;
	return sum;
}

static noinline int loop(int number)
{
	int sum = 0;

	while (number--) {
		if (static_branch_unlikely(&row[2]))
			sum += number;
		sum += static_call(pick)(0);
	}
	return sum;
}

static noinline int calls(int number)
{
	static_call_cond(maybe)(&number);
	return static_call(pick)(number) + static_call(none)(number);
}

/* a call at the end is a jump */
static noinline int last(int number)
{
	return static_call(pick)(number * 2);
}

static noinline void last_maybe(int *number)
{
	*number += 2;
	static_call_cond(maybe)(number);
}

static int switched_set(const char *value, const struct kernel_param *unused)
{
	bool to;
	int error = kstrtobool(value, &to);

	if (error)
		return error;
	if (to) {
		static_branch_enable(&off);
		static_branch_disable(&on);
		static_branch_enable(&row[1]);
		static_branch_enable(&row[2]);
		static_call_update(pick, minus);
		static_call_update(none, minus);
		static_call_update(maybe, mark);
	} else {
		static_branch_disable(&off);
		static_branch_enable(&on);
		static_branch_disable(&row[1]);
		static_branch_disable(&row[2]);
		static_call_update(pick, plus);
		static_call_update(none, (int (*)(int))__static_call_return0);
		static_call_update(maybe, NULL);
	}
	return 0;
}

static const struct kernel_param_ops switched_ops = { .set = switched_set };
module_param_cb(switched, &switched_ops, NULL, 0200);

static int lab_show(struct seq_file *m, void *unused)
{
	int number = 0;

	last_maybe(&number);
	seq_printf(m, "%d %d %d %d %d\n", keys(), loop(3), calls(5), last(5), number);
	return 0;
}

LAB_MODULE("hz_own_keys");
