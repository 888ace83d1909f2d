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
 * TEST(name) { ... } is a test; it registers itself. The tests of a program stand in one file and
 * run in the order in which they stand there.
 *
 * A test fails if it ends with more or fewer descriptors or threads than it began with. Threads get
 * some seconds to end, as a joined one is counted until the kernel has reaped it.
 */
#define TEST(name)                                                                                 \
	static void name(void);                                                                    \
	REGISTER_TEST(name, name)                                                                  \
	static void name(void)

/* A test with a statement before it and one after it. The kinds of test that a program has of its
 * own are made of this. */
#define TEST_BETWEEN(test, before, after)                                                          \
	static void test(void);                                                                    \
	static void test##_between(void)                                                           \
	{                                                                                          \
		before;                                                                            \
		test();                                                                            \
		after;                                                                             \
	}                                                                                          \
	REGISTER_TEST(test, test##_between)                                                        \
	static void test(void)

/* The same for a test that is given what was made for it. `destroy` is an expression too. */
#define TEST_WITH(test, type, object, create, destroy)                                             \
	static void test(type object);                                                             \
	static void test##_with_##object(void)                                                     \
	{                                                                                          \
		type object = create;                                                              \
		test(object);                                                                      \
		destroy;                                                                           \
	}                                                                                          \
	REGISTER_TEST(test, test##_with_##object)                                                  \
	static void test(type object)

/* For such macros: `function` is what runs. */
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

/* Runs all tests of the program, or those that match the pattern in argv[1]. Returns how many
 * failed. It is what main does: a program that has nothing else to do needs no main of its own. */
int run_registered_tests(char *argv[]);

/* No library that is loaded now is unloaded. A leak of one that was has no name for virgl.supp, and
 * GL's take long to be loaded again for each device. */
void keep_libraries(void);

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
