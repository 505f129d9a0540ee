// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/module.h>
#include "hz_exports.h"

noinline long hz_scale(int x)
{
	return 3L * x;
}
EXPORT_SYMBOL_GPL(hz_scale);

MODULE_DESCRIPTION("kgbuild: laboratory of compiler optimisations");
MODULE_LICENSE("GPL");
