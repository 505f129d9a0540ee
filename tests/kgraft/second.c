// SPDX-License-Identifier: GPL-2.0-or-later
/* The second: a function of the same name. */
__attribute__((noinline, used)) static int helper(void)
{
	return 200;
}

void *const second_helper = helper;
