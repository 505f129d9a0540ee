/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function changes that is in a section group with another. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
asm(".pushsection .text.grouped, \"axG\", @progbits, grouped, comdat\n"
    ".globl grouped\n.type grouped, @function\n"
#ifdef PATCHED
    "grouped: call __fentry__\n\tmov $2, %eax\n\tret\n"
#else
    "grouped: call __fentry__\n\tmov $1, %eax\n\tret\n"
#endif
    ".size grouped, . - grouped\n"
    ".popsection\n"
    ".pushsection .text.helper, \"axG\", @progbits, grouped, comdat\n"
    ".type helper, @function\n"
    "helper: call __fentry__\n\tmov $3, %eax\n\tret\n"
    ".size helper, . - helper\n"
    ".popsection");
int second(int x) { return source(x) + MORE; }
