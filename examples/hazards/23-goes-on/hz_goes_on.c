// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

/* all of them are set as the module is loaded, and not again */
static int seed;
static int lowest, highest;
static int token;

static noinline void set(int x)
{
	seed = x;
	lowest = x / 2;
	highest = x * 2;
}

static noinline int draw(int x)
{
	return x + seed;
}

static noinline int peek(int x)
{
	return x > 100 ? seed : -seed;
}

static noinline int limit(int x)
{
	return x < lowest ? lowest : x > highest ? highest : x;
}

static noinline int first(int x)
{
	static int kept;

	if (!kept)
		kept = x;
	return kept;
}

static noinline int sign(int x)
{
	if (!token)
		token = x * 3;
	return x + token;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "draw %d\npeek %d\nlimit %d\n", draw(number), peek(number), limit(number));
	seq_printf(m, "first %d\nsign %d\n", first(number), sign(number));
	return 0;
}

static int __init start(void)
{
	set(number + 34);
	first(number + 34);
	sign(number + 34);
	return proc_create_single("hz_goes_on", 0444, NULL, lab_show) ? 0 : -ENOMEM;
}

static void __exit end(void)
{
	remove_proc_entry("hz_goes_on", NULL);
}

module_init(start);
module_exit(end);
MODULE_DESCRIPTION("kgbuild: laboratory of compiler optimisations");
MODULE_LICENSE("GPL");
