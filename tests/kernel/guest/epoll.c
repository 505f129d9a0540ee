// SPDX-License-Identifier: GPL-2.0-or-later
/* epoll 32|64: epoll_pwait2() on no file, as a 32-bit or a 64-bit program calls it; the exit status is the error. */
#include "guest.h"

/* the same for both; epoll_pwait has no compat entry on x86 */
enum { EPOLL_PWAIT2 = 441 };

static u64 room[4];

static long call32(long nr, long a, long b, long c, long d, long e, int f)
{
	asm volatile("lea -128(%%rsp), %%rsp\n\tpush %%rbp\n\tmov %[f], %%ebp\n\tint $0x80\n\tpop %%rbp\n\t"
		     "lea 128(%%rsp), %%rsp"
		     : "+a"(nr)
		     : "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), [f] "r"(f)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)nr;
}

int program(int count, char **words)
{
	if (count != 2)
		return 255;
	if (number(words[1]) == 32)
		must(call32(EPOLL_PWAIT2, -1, (long)room, 1, 0, (long)room, 8));
	else
		must(call(EPOLL_PWAIT2, -1, (long)room, 1, 0, (long)room, 8));
	return 0;
}
