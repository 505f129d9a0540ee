// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/cache.h>
#include <linux/uaccess.h>
#include "../lab.h"

LAB_NUMBER(number, 7);
LAB_NUMBER(hand, 0);

static int base;
static int limit __ro_after_init = 5;
static int mode = 1;
static int seen;

static int plain(int x)
{
	return x + 1;
}

static int twice(int x)
{
	return 2 * x;
}

static int (*hook)(int) = plain;

/* init code alone calls it */
static noinline int setup(int x)
{
	return 3 * x;
}

static noinline void choose(int x)
{
	hook = x > 100 ? twice : plain;
}

static noinline int raise(int x)
{
	return limit + x;
}

static noinline void set_mode(int x)
{
	mode = x;
}

static noinline int get_mode(void)
{
	return mode;
}

static int lab_show(struct seq_file *m, void *unused)
{
	int (*call)(int);

	if (hand)
		choose(number);
	call = READ_ONCE(hook);
	if (hand) {
		seq_printf(m, "hook %d\n", call(number));
	} else {
		seq_printf(m, "own %d\n", call == plain || call == twice);
		hook = plain;
	}
	set_mode(number);
	seq_printf(m, "base %d\nraise %d\nmode %d\n", base, raise(number), get_mode());
	WRITE_ONCE(seen, seen + 1);
	return 0;
}

static int __init start(void)
{
	base = setup(number);
	limit = 2 * number;
	return proc_create_single("hz_too_late", 0444, NULL, lab_show) ? 0 : -ENOMEM;
}

static void __exit end(void)
{
	remove_proc_entry("hz_too_late", NULL);
}

module_init(start);
module_exit(end);
MODULE_DESCRIPTION("kgbuild: laboratory of compiler optimisations");
MODULE_LICENSE("GPL");
