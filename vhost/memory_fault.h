/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef MEMORY_FAULT_H
#define MEMORY_FAULT_H

/*
 * Mappings of files that somebody else can shorten: touching what is not there any more raises
 * SIGBUS, which would end the process. Here a handler puts zero pages in the place of the whole
 * mapping, once, and what was interrupted goes on.
 *
 * Nothing else keeps such a file's size (sealing it would, but neither QEMU nor User-Mode Linux
 * seal theirs), and looking before every access would be a race.
 *
 * The handler is set with a mapping and stays; a SIGBUS that is about no such mapping goes to the
 * handler that was there before. Any thread may call these.
 */

#include <stdbool.h>
#include <stddef.h>

struct memory_fault_range;

/* Guards a mapping, which must not be unmapped before memory_fault_unguard. Returns 0; -ENOSPC
 * where there are very many already; what sigaction says. */
int memory_fault_guard(void *base, size_t length, struct memory_fault_range **out);
void memory_fault_unguard(struct memory_fault_range *range);

/* Whether it has become zero pages. */
bool memory_fault_is_lost(const struct memory_fault_range *range);

#endif
