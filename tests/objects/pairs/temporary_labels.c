/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Temporary labels in the symbol table have other names. Flags: keep local labels. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
#ifdef PATCHED
#define label(n) asm volatile(".Ltmp7" #n ":" ::: "memory")
#else
#define label(n) asm volatile(".Ltmp3" #n ":" ::: "memory")
#endif
int first(int x) { label(1); sink(NULL); return source(x); }
int second(int x) { label(2); sink(NULL); return source(x + MORE); }
