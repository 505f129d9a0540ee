/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Definitions change places, and so the numbers of static locals. */
#include "kernel.h"

#ifdef REAL
#define SECOND(x) ((x) + 1)
#else
#define SECOND(x) (x)
#endif
#ifdef PATCHED
int second(int x) { static int count; count -= SECOND(x); return count; }
int first(int x) { static int count; count += x; return count; }
#else
int first(int x) { static int count; count += x; return count; }
int second(int x) { static int count; count -= SECOND(x); return count; }
#endif
