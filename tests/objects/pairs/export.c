/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An export more. */
#include "kernel.h"

int first(int x) { return source(x); }
#define EXPORT(sym) static const void *const used section("___ksymtab+" #sym) __ksymtab_##sym = &sym
EXPORT(first);
#ifdef PATCHED
int second(int x) { return source(x) + 2; }
EXPORT(second);
#else
int second(int x) { return source(x) + 2; }
#endif
