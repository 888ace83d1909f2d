/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "support.h"

/* The main of every test program that has none of its own: the linker then takes this one from a
 * library. */
int main(int argc, char *argv[])
{
	return run_registered_tests(argv);
}
