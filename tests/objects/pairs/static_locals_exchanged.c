/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two functions exchange the static locals they had; text and names stay as they are. */
#include "kernel.h"

#ifdef PATCHED
int second(int x) { static int count = 10; count += x; return count; }
int first(int x) { static int count = 20; count += x; return count; }
#else
int first(int x) { static int count = 10; count += x; return count; }
int second(int x) { static int count = 20; count += x; return count; }
#endif
