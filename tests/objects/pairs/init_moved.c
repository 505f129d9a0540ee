/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function loses its __init, another gets one. */
#include "kernel.h"

#ifdef PATCHED
#define LATER
#define ONCE __init
#else
#define LATER __init
#define ONCE
#endif
LATER int first(int x) { return source(x); }
ONCE int second(int x) { return source(x) + 2; }
