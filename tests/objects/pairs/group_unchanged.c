/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A section group stays as it is beside a function that changes. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
asm(".pushsection .text.grouped, \"axG\", @progbits, grouped, comdat\n"
    ".globl grouped\n.type grouped, @function\n"
    "grouped: call __fentry__\n\tmov $1, %eax\n\tret\n"
    ".size grouped, . - grouped\n"
    ".popsection\n"
    ".pushsection .text.helper, \"axG\", @progbits, grouped, comdat\n"
    ".type helper, @function\n"
    "helper: call __fentry__\n\tmov $3, %eax\n\tret\n"
    ".size helper, . - helper\n"
    ".popsection");
#ifdef PATCHED
int first(int x) { return source(x) + 2; }
#else
int first(int x) { return source(x) + 1; }
#endif
int second(int x) { return source(x) + MORE; }
