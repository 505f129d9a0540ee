/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A constant of a mergeable section changes. Flags: -msse2. */
#include "kernel.h"

typedef int four __attribute__((vector_size(16)));
#ifdef PATCHED
void first(four *p) { *p = (four){ 11, 22, 33, 45 }; }
#else
void first(four *p) { *p = (four){ 11, 22, 33, 44 }; }
#endif
void second(four *p) { *p = (four){ 5, 6, 7, 8 }; }
