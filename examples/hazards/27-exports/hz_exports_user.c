// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

/* another source, with its own copy of the declaration */
long hz_scale(int x);

LAB_NUMBER(number, -7);

static int lab_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "scale %ld\n", hz_scale(number));
	return 0;
}

LAB_MODULE("hz_exports_user");
