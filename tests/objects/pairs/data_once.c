/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A new variable among old ones of a shared section. */
#include "kernel.h"

#define once section(".data.once")
int first(int x) { static once bool before; if (!before) { before = true; return source(x); } return 0; }
#ifdef PATCHED
int second(int x) { static once bool fresh; if (!fresh) { fresh = true; return source(x); } return 1; }
#else
int second(int x) { return source(x); }
#endif
int third(int x) { static once bool after; if (!after) { after = true; return source(x); } return 2; }
