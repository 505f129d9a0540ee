/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An exception table entry has another type. */
#include "kernel.h"

#ifdef PATCHED
u64 first(u64 *p) { return load_faulting(p, 5); }
#else
u64 first(u64 *p) { return load_faulting(p, 3); }
#endif
u64 second(u64 *p) { return load_faulting(p, 3) + 1; }
