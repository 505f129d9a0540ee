// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static int base;

static noinline int __init setup(int x)
{
	return x * 3 + 1;
}

static noinline int get(int x)
{
	return x + base;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "get %d\n", get(number));
	return 0;
}

static int __init start(void)
{
	base = setup(number);
	return proc_create_single("hz_init_memory", 0444, NULL, lab_show) ? 0 : -ENOMEM;
}

static void __exit end(void)
{
	remove_proc_entry("hz_init_memory", NULL);
}

module_init(start);
module_exit(end);
MODULE_DESCRIPTION("kgbuild: laboratory of compiler optimisations");
MODULE_LICENSE("GPL");
