/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A variable begins with another value. */
#include "kernel.h"

#ifdef PATCHED
int limit = 20;
#else
int limit = 10;
#endif
int first(int x) { return limit + x; }
