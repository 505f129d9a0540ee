/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A weak definition changes. */
#include "kernel.h"

#ifdef PATCHED
weak int arch_hook(int x) { return source(x) + 2; }
#else
weak int arch_hook(int x) { return source(x) + 1; }
#endif
int caller(int x) { return arch_hook(x); }
