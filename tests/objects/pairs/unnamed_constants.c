/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Constants of .L__unnamed_N have other numbers; the real change is in one of them. Flags: keep local labels. */
#include "kernel.h"

#ifdef REAL
#define LAST 8
#else
#define LAST 7
#endif
#ifdef PATCHED
#define NAME(n) ".L__unnamed_1" #n
#else
#define NAME(n) ".L__unnamed_2" #n
#endif
static const int first_table[] asm(NAME(1)) = { 1, 2, 3, 5 };
static const int second_table[] asm(NAME(2)) = { 1, 2, 3, LAST };
void first(void) { sink(first_table); }
void second(void) { sink(second_table); }
