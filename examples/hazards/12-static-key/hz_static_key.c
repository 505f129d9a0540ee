// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/filter.h>
#include <linux/jump_label.h>
#include <linux/mm.h>
#include "../lab.h"

static DEFINE_STATIC_KEY_TRUE(own_on);
static DEFINE_STATIC_KEY_FALSE(own_off);

static noinline int kernel_key(void)
{
	if (static_branch_unlikely(&init_on_free))
		return 1;
	return 0;
}

static noinline int own_key(void)
{
	if (static_branch_unlikely(&own_off))
		return 1;
	return 0;
}

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "kernel %d\nown %d\n", kernel_key(), own_key());
	seq_printf(m, "on %d\n", static_key_enabled(&own_on));
	return 0;
}

LAB_MODULE("hz_static_key");
