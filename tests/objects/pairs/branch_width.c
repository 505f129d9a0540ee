/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function grows, so that a branch over it needs its long form; the real change leads the branch elsewhere. */
#include "kernel.h"

asm(".pushsection .sched.text, \"ax\"\n"
    ".globl first\n.type first, @function\n"
#ifdef REAL
    "first: cmp $5, %edi\n\tje fourth\n\tlea 1(%rdi), %eax\n\tret\n"
#else
    "first: cmp $5, %edi\n\tje third\n\tlea 1(%rdi), %eax\n\tret\n"
#endif
    ".size first, . - first\n"
    ".globl second\n.type second, @function\n"
#ifdef PATCHED
    "second: .fill 100, 2, 0x9066\n\tret\n"
#else
    "second: .fill 10, 2, 0x9066\n\tret\n"
#endif
    ".size second, . - second\n"
    ".type third, @function\n"
    "third: lea 3(%rdi), %eax\n\tret\n"
    ".size third, . - third\n"
    ".type fourth, @function\n"
    "fourth: lea 4(%rdi), %eax\n\tret\n"
    ".size fourth, . - fourth\n"
    ".popsection");
