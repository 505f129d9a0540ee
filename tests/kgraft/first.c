// SPDX-License-Identifier: GPL-2.0-or-later
/* The first of two units of the "kernel" that the harness is. */
__attribute__((noinline, used)) static int helper(void)
{
	return 100;
}

int counter = 7;
void *const first_helper = helper;

__attribute__((noinline)) int mod_helper(int a)
{
	return (a ^ 5) * 3 + (a << 3) - (a >> 1);
}
