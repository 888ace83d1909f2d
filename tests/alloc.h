/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef ALLOC_H
#define ALLOC_H

/*
 * Counts allocations, and lets one fail.
 *
 * It replaces malloc, calloc and realloc in what is linked with
 * -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc: the library's objects, so not libvgfence.so, and
 * the test itself. If a test allocates too, it reads the counts before and after.
 */

#include <stddef.h>

/* Since the program started, or alloc_reset; of all threads. */
unsigned long alloc_count(void);

/* The largest since then, in bytes. */
size_t alloc_largest(void);

/* The n-th allocation from now on fails: 1 is the next one, 0 none. */
void alloc_fail(unsigned long nth);

/* Called before each allocation: the place to change something under the library's feet. */
void alloc_set_hook(void (*hook)(void));

/* Starts the counts again, and takes back what the two above have set. */
void alloc_reset(void);

#endif
