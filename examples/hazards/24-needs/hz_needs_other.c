// SPDX-License-Identifier: GPL-2.0-or-later
/* Another module, which hz_needs does without. */
#include "../lab.h"

LAB_NUMBER(low, 30);
LAB_NUMBER(high, 60);

int hz_level(int x)
{
	return x & 1 ? high : low;
}

MODULE_DESCRIPTION("kgbuild: laboratory of compiler optimisations");
MODULE_LICENSE("GPL");
