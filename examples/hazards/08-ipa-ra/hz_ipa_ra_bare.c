// SPDX-License-Identifier: GPL-2.0-or-later
/* Compiled without -pg, so that nothing in it can be redirected and ipa-ra is on. */
#include <linux/kernel.h>

int hz_bare(int x);

static noinline int bare_leaf(int x)
{
	return x + 5;
}

int hz_bare(int x)
{
	return bare_leaf(x) + x * 100;
}
