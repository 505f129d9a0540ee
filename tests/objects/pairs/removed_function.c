/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A static function goes into its caller's body. */
#include "kernel.h"

#ifdef PATCHED
int caller(int x) { return source(x) + 2; }
#else
static noinline int gone(int x) { return source(x) + 1; }
int caller(int x) { return gone(x) + 1; }
#endif
int other(int x) { return source(x) - 1; }
