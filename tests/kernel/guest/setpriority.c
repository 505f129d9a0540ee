// SPDX-License-Identifier: GPL-2.0-or-later
/* setpriority WHICH: by the native and by the compat system call; prints the error of each. */
#include "guest.h"

enum { SETPRIORITY = 141, SETPRIORITY_32 = 97 };

int program(int count, char **words)
{
	if (count != 2)
		return 255;
	long which = number(words[1]);
	long old = SETPRIORITY_32;

	asm volatile("int $0x80" : "+a"(old) : "b"(which), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
	print_number(-call(SETPRIORITY, which, 0, 0, 0, 0, 0));
	print_number(-(int)old);
	return 0;
}
