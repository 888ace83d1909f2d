/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "support.h"

#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

/* Else what runs for hours, and looks only at how a program ends, would not notice it. */
TEST(what_is_undefined_ends_a_program)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		volatile int most = INT_MAX;

		close(STDERR_FILENO);
		most = most + 1;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_not_equal(status, 0);
}
