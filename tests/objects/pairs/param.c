/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A module parameter's entry changes. */
#include "kernel.h"

struct param { const char *name; int perm; };
#ifdef PATCHED
static struct param used section("__param") __param_debug = { "debug", 0644 };
#else
static struct param used section("__param") __param_debug = { "debug", 0444 };
#endif
int first(int x) { return source(x); }
