/* SPDX-License-Identifier: GPL-2.0-or-later */
/* objtool lists another function whose endbr may be sealed: no change of its code. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
#define seal(name) asm(".pushsection .ibt_endbr_seal, \"a\"\n.long " #name " - .\n.popsection")
int first(int x) { return source(x); }
int second(int x) { return source(x) + MORE; }
seal(first);
#ifdef PATCHED
seal(second);
#endif
