/* SPDX-License-Identifier: GPL-2.0-or-later */
/* As BTF ids are made (include/linux/btf_ids.h): a place in a table has a name and a label with a count and a line; the
   real change is which place is read. */
#include "kernel.h"

#ifdef PATCHED
#define LABEL "__ID__struct__thing__12346"
#else
#define LABEL "__ID__struct__thing__12345"
#endif
asm(".pushsection .BTF_ids,\"a\"\n"
    ".local first_ids; first_ids:\n"
    ".local " LABEL "; .type " LABEL ",@object; .size " LABEL ",4; " LABEL ": .zero 4\n"
    ".local second_ids; .type second_ids,@object; .size second_ids,4; second_ids: .zero 4\n"
    ".popsection");
extern const u32 first_ids[], second_ids[];

int first(void) { return first_ids[0] + 1; }
#ifdef REAL
int second(void) { return second_ids[0] + 2; }
#else
int second(void) { return first_ids[0] + 2; }
#endif
