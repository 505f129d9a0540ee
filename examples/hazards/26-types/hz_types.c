// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/types.h>
#include "../lab.h"

LAB_NUMBER(number, 7);

struct window {
	int low;
	int high;
	u16 port;
};

static struct window window;

/* once, as what happens when a device is found */
static noinline void fill(int x)
{
	if (window.port)
		return;
	window.low = x;
	window.high = 10 * x;
	window.port = x;
}

static noinline int width(void)
{
	return window.high - 2 * window.low;
}

static noinline int port(void)
{
	return window.port;
}

static int lab_show(struct seq_file *m, void *unused)
{
	fill(number);
	seq_printf(m, "width %d\nport %d\n", width(), port());
	return 0;
}

LAB_MODULE("hz_types");
