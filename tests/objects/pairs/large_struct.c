/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A large constant structure is copied onto the stack; one member differs. */
#include "kernel.h"

struct large { u64 a[64]; const char *name; };
extern void take(struct large l);
#ifdef PATCHED
void first(void) { struct large l = { { 1, 2, 3, 5 }, "large" }; take(l); }
#else
void first(void) { struct large l = { { 1, 2, 3, 4 }, "large" }; take(l); }
#endif
void second(void) { struct large l = { { 1, 2, 3, 4 }, "large" }; take(l); }
