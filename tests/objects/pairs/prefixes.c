/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Padding before functions has symbols of its own; it goes with its function. Flags: -fpatchable-function-entry. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
#define PREFIX(name) asm(".pushsection .text." #name ", \"ax\", @progbits\n"		\
	".type __pfx_" #name ", @function\n"						\
	".set __pfx_" #name ", " #name " - 16\n"					\
	".size __pfx_" #name ", 16\n.popsection")
int first(int x) { return source(x); }
int second(int x) { return source(x) + MORE; }
#ifdef PATCHED
int third(int x) { return source(x) + 7; }
PREFIX(third);
#endif
PREFIX(first);
PREFIX(second);
