/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function changes that has a section group for itself. */
#include "kernel.h"

asm(".pushsection .text.grouped, \"axG\", @progbits, grouped, comdat\n"
    ".globl grouped\n.type grouped, @function\n"
#ifdef PATCHED
    "grouped: call __fentry__\n\tmov $2, %eax\n\tret\n"
#else
    "grouped: call __fentry__\n\tmov $1, %eax\n\tret\n"
#endif
    ".size grouped, . - grouped\n"
    ".popsection");
int second(int x) { return source(x) + 1; }
