/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SUPPORT_H
#define SUPPORT_H

/*
 * What the test programs share. cmocka wants these headers before its own, so they are here.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Open descriptors and threads of this process. */
int count_fds(void);
int count_threads(void);

/*
 * cmocka fixtures: a test fails if it ends with more or fewer descriptors or threads than it began
 * with. Threads get some seconds to end, as a joined one is counted until the kernel has reaped it.
 * They keep nothing in *state.
 */
int setup_counts(void **state);
int teardown_counts(void **state);

#define counted_test(function)                                                                     \
	cmocka_unit_test_setup_teardown(function, setup_counts, teardown_counts)

/* Lets exactly `more` further descriptors be opened; then EMFILE. The end of the test, by
 * teardown_counts, undoes it too. count_fds does not work meanwhile, as it needs one itself. */
void limit_fds(unsigned int more);
void unlimit_fds(void);

/* A fence that this process signals: an eventfd. */
int make_fence(bool signalled);
void signal_fence(int fence_fd);

#endif
