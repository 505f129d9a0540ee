/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Only the padding before a function differs. */
#include "kernel.h"

/* not by the compiler: the padding is written out, so that it can differ */
#ifdef PATCHED
#define PADDING "mov $0x1234, %eax\n\t.fill 11, 1, 0x90\n"
#else
#define PADDING ".fill 16, 1, 0x90\n"
#endif
asm(".pushsection .text.first, \"ax\", @progbits\n"
    ".type __pfx_first, @function\n"
    "__pfx_first: " PADDING
    ".size __pfx_first, . - __pfx_first\n"
    ".globl first\n.type first, @function\n"
    "first: call __fentry__\n\tmov $1, %eax\n\tret\n"
    ".size first, . - first\n"
    ".popsection");
int second(int x) { return source(x) + 1; }
