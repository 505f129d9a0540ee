// SPDX-License-Identifier: GPL-2.0-or-later
/* badwrite FILE COUNT: write COUNT bytes from an address where nothing is; the exit status is the error. */
#include "guest.h"

int program(int count, char **words)
{
	if (count != 3)
		return 255;
	long file = must(call(OPEN, (long)words[1], 1, 0, 0, 0, 0));

	must(call(WRITE, file, 8, number(words[2]), 0, 0, 0));
	return 0;
}
