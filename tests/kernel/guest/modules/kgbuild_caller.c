// SPDX-License-Identifier: GPL-2.0-or-later
// A module that calls an exported function of lib/, which no live patch can redirect. For tests/kernel/cases/cases.toml.

#include <linux/module.h>
#include <linux/sbitmap.h>

static bool ask;
module_param(ask, bool, 0444);

static int __init caller_init(void)
{
	if (ask)
		sbitmap_bitmap_show(NULL, NULL);
	return 0;
}

static void __exit caller_exit(void)
{
}

module_init(caller_init);
module_exit(caller_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("For tests/kernel/cases");
