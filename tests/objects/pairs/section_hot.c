/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Functions move to the section for hot code; the real change is in one of them. */
#include "kernel.h"

#ifdef REAL
#define MORE 3
#else
#define MORE 2
#endif
#ifdef PATCHED
#define moved __attribute__((hot))
#else
#define moved
#endif
moved int first(int x) { return source(x); }
moved int second(int x) { return source(x + MORE); }
