// SPDX-License-Identifier: GPL-2.0-or-later
/* kvm: print what /dev/kvm says is its version, without a virtual machine and with one. */
#include "guest.h"

enum { IOCTL = 16, READ_WRITE = 2, GET_API_VERSION = 0xae00, CREATE_VM = 0xae01 };

int program(int count, char **words)
{
	long device = must(call(OPEN, (long)"/dev/kvm", READ_WRITE, 0, 0, 0, 0));
	long machine;

	(void)words;
	if (count != 1)
		return 255;
	print_number(must(call(IOCTL, device, GET_API_VERSION, 0, 0, 0, 0)));
	machine = must(call(IOCTL, device, CREATE_VM, 0, 0, 0, 0));
	print_number(must(call(IOCTL, device, GET_API_VERSION, 0, 0, 0, 0)));
	must(call(CLOSE, machine, 0, 0, 0, 0, 0));
	return 0;
}
