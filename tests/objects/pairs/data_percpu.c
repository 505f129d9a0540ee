/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A variable becomes one per CPU: other memory of the same bytes. */
#include "kernel.h"

#ifdef PATCHED
#define WHERE ".data..percpu"
#else
#define WHERE ".data..read_mostly"
#endif
section(WHERE) int counter = 1;
int get(void) { return counter; }
