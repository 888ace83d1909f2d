/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "alloc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The names are the linker's. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);

static atomic_ulong calls;
static atomic_ulong failing_call; /* the value of `calls` at which to fail */
static atomic_size_t largest;
static _Atomic(void (*)(void)) before_each;

unsigned long alloc_count(void)
{
	return calls;
}

size_t alloc_largest(void)
{
	return largest;
}

void alloc_fail(unsigned long nth)
{
	failing_call = nth > 0 ? calls + nth : 0;
}

void alloc_set_hook(void (*hook)(void))
{
	before_each = hook;
}

void alloc_reset(void)
{
	before_each = NULL;
	failing_call = 0;
	calls = 0;
	largest = 0;
}

static bool allocation_fails(size_t size)
{
	void (*hook)(void) = before_each;
	size_t seen = largest;
	unsigned long call;

	if (hook) {
		hook();
	}
	while (size > seen && !atomic_compare_exchange_weak(&largest, &seen, size)) {
	}
	call = ++calls;
	if (call == failing_call) {
		errno = ENOMEM;
		return true;
	}
	return false;
}

void *__wrap_malloc(size_t size)
{
	return allocation_fails(size) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(count, size, &total)) {
		total = SIZE_MAX;
	}
	return allocation_fails(total) ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size)
{
	return allocation_fails(size) ? NULL : __real_realloc(block, size);
}
