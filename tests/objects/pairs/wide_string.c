/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A string of 16-bit characters changes after its first. */
#include "kernel.h"

typedef unsigned short wide;
extern void show(const wide *text);
#ifdef PATCHED
void first(void) { show(u"secure boot"); }
#else
void first(void) { show(u"secure bolt"); }
#endif
void second(void) { show(u"secure"); }
