/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "support.h"

/* Of every test program that has none of its own: the linker takes it from a library then. */
int main(int argc, char *argv[])
{
	return run_registered_tests(argv);
}
