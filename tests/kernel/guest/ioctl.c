// SPDX-License-Identifier: GPL-2.0-or-later
/* ioctl FILE REQUEST: one without an argument; the exit status is the error, 0 for none. */
#include "guest.h"

enum { IOCTL = 16 };

int program(int count, char **words)
{
	if (count != 3)
		return 255;
	long file = must(call(OPEN, (long)words[1], 0, 0, 0, 0, 0));
	must(call(IOCTL, file, number(words[2]), 0, 0, 0, 0));
	return 0;
}
