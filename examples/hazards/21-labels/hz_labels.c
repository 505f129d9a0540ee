// SPDX-License-Identifier: GPL-2.0-or-later
#include "../lab.h"

LAB_NUMBER(number, 3);

static const unsigned char program[] = { 0, 1, 0, 2 };

/* a program of three operations: add, multiply, end */
static noinline int run(const unsigned char *p, int x)
{
	static const void *const table[] __annotate_jump_table = { &&add, &&multiply, &&end };

	goto *table[*p++];
add:
	x += 100;
	goto *table[*p++];
multiply:
	x *= 3;
	goto *table[*p++];
end:
	return x;
}

/* goes on where it was the last time: twice once, and once */
static noinline int resume(int x)
{
	static void *state = &&twice;

	goto *state;
twice:
	state = &&once;
	return 2 * x;
once:
	state = &&twice;
	return x;
}

static int lab_show(struct seq_file *m, void *unused)
{
	int x = resume(number);

	seq_printf(m, "run %d\nresume %d\n", run(program, number), x + resume(number));
	return 0;
}

LAB_MODULE("hz_labels");
