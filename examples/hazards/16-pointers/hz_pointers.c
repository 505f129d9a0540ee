// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 7);

static noinline int handle(int x)
{
	return x + 1;
}

static noinline int retired(int x)
{
	return x + 2;
}

static int (*stored)(int) = handle;
static int (*callback)(int);

static noinline int compare(int x)
{
	if (READ_ONCE(stored) == handle)
		return 100 + x;
	return 200 + x;
}

static noinline void set_callback(void)
{
	WRITE_ONCE(callback, retired);
}

static noinline const char *name_of(void)
{
	return module_name(THIS_MODULE);
}

static int lab_show(struct seq_file *m, void *unused)
{
	if (!callback)
		set_callback();
	seq_printf(m, "handle %d\ncompare %d\n", READ_ONCE(stored)(number), compare(number));
	seq_printf(m, "callback %d\nname %s\n", READ_ONCE(callback)(number), name_of());
	return 0;
}

LAB_MODULE("hz_pointers");
