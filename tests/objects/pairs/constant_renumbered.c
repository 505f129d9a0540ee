/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A table that the compiler makes gets another number; the real change is in a table. */
#include "kernel.h"

#ifdef REAL
#define LAST 59
#else
#define LAST 58
#endif
int earlier(int x)
{
#ifdef PATCHED
	switch (x) { case 0: return 91; case 1: return 17; case 2: return 66; case 3: return 5; case 4: return 38; }
#endif
	return -3;
}
int first(int x)
{
	switch (x) { case 0: return 11; case 1: return 27; case 2: return 46; case 3: return 53; case 4: return 98; }
	return -1;
}
int second(int x)
{
	switch (x) { case 0: return 12; case 1: return 28; case 2: return 47; case 3: return 54; case 4: return LAST; }
	return -2;
}
