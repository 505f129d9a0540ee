/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A module of the laboratory. Reading /proc/hz_NAME runs its function `lab_show`; numbers that the compiler must not
 * know are parameters of the module.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#define LAB_NUMBER(name, value)		\
	static int name = (value);	\
	module_param(name, int, 0644)

#define LAB_MODULE(proc)							\
static int __init lab_init(void)						\
{										\
	return proc_create_single(proc, 0444, NULL, lab_show) ? 0 : -ENOMEM;	\
}										\
										\
static void __exit lab_exit(void)						\
{										\
	remove_proc_entry(proc, NULL);						\
}										\
										\
module_init(lab_init);								\
module_exit(lab_exit);								\
MODULE_DESCRIPTION("kgbuild: laboratory of compiler optimisations");		\
MODULE_LICENSE("GPL")
