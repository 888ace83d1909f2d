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

/*
 * TEST(name) { ... } is a test; it registers itself. The tests of a program stand in one file and run in the
 * order in which they stand there.
 *
 * A test fails if it ends with more or fewer descriptors or threads than it began with. Threads get some
 * seconds to end, as a joined one is counted until the kernel has reaped it.
 */
#define TEST(name)                                                                                 \
	static void name(void);                                                                    \
	REGISTER_TEST(name, name)                                                                  \
	static void name(void)

/* For macros that make something for a test first, and unmake it afterwards: `function` calls it. */
#define REGISTER_TEST(name, function)                                                              \
	__attribute__((constructor)) static void register_##name(void)                             \
	{                                                                                          \
		static struct test test = { #name, __LINE__, function };                           \
		register_test(&test);                                                              \
	}

struct test {
	const char *name;
	int line;
	void (*run)(void);
};

void register_test(struct test *test);

/* Runs all tests of the program, or those that match the pattern in argv[1]. Returns how many failed. What main
 * calls: a program that has nothing else to do needs none of its own. */
int run_registered_tests(char *argv[]);

/* Open descriptors and threads of this process. */
int count_fds(void);
int count_threads(void);

/* Lets exactly `more` further descriptors be opened; then EMFILE. The end of the test undoes
 * it too. count_fds does not work meanwhile, as it needs one itself. */
void limit_fds(unsigned int more);
void unlimit_fds(void);

/* A fence that this process signals: an eventfd. */
int make_fence(bool signalled);
void signal_fence(int fence_fd);

#endif
