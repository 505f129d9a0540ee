// SPDX-License-Identifier: GPL-2.0-or-later
// /proc/kgbuild_ledger: an alias of a variable, and a bit that is set. For tests/kernel/ledger.

#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <asm/sync_bitops.h>

static unsigned int ledger_level = 3;
module_param_named(level, ledger_level, uint, 0444);

int ledger_first;
int ledger_second;
extern int ledger_current __attribute__((alias("ledger_first")));

static unsigned long ledger_bits;

static noinline int ledger_add(int value)
{
	return value + 1;
}
NOKPROBE_SYMBOL(ledger_add);

static int ledger_show(struct seq_file *m, void *v)
{
	set_bit(READ_ONCE(ledger_level), &ledger_bits);
	seq_printf(m, "current %d bits %lx next %d level %u\n", READ_ONCE(ledger_current), ledger_bits,
		   ledger_add(READ_ONCE(ledger_first)), READ_ONCE(ledger_level));
	return 0;
}

static int __init ledger_init(void)
{
	ledger_first = 1;
	ledger_second = 2;
	return proc_create_single("kgbuild_ledger", 0444, NULL, ledger_show) ? 0 : -ENOMEM;
}

static void __exit ledger_exit(void)
{
	remove_proc_entry("kgbuild_ledger", NULL);
}

module_init(ledger_init);
module_exit(ledger_exit);
MODULE_ALIAS("kgbuild-ledger-old");
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("For tests/kernel/ledger");
