/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A switch over constants becomes a table CSWTCH.N; one value changes. */
#include "kernel.h"

int first(int x)
{
	switch (x) {
	case 0: return 10;
	case 1: return 29;
	case 2: return 33;
	case 3: return 41;
#ifdef PATCHED
	case 4: return 58;
#else
	case 4: return 57;
#endif
	}
	return -1;
}
int second(int x)
{
	switch (x) {
	case 0: return 10;
	case 1: return 29;
	case 2: return 33;
	case 3: return 41;
	case 4: return 57;
	}
	return -1;
}
