// SPDX-License-Identifier: GPL-2.0-or-later
/* sock FAMILY TYPE PROTOCOL: open a socket; the exit status is the error, 0 for none. */
#include "guest.h"

int program(int count, char **words)
{
	if (count != 4)
		return 255;
	must(call(SOCKET, number(words[1]), number(words[2]), number(words[3]), 0, 0, 0));
	return 0;
}
