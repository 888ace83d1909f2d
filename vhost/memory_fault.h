/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef MEMORY_FAULT_H
#define MEMORY_FAULT_H

/*
 * Mappings of files that somebody else can shorten: touching what is not there any more raises
 * SIGBUS, which would end the process. A handler replaces the whole mapping by zero pages, once,
 * and what was interrupted goes on.
 *
 * Nothing else helps: sealing would keep a file's size, but neither QEMU nor User-Mode Linux seals
 * its file, and looking before every access would be a race.
 *
 * The first mapping sets the handler, which stays. It passes a SIGBUS of any other address to the
 * handler that was there before. Any thread may call these.
 */

#include <stdbool.h>
#include <stddef.h>

struct memory_fault_range;

/* Guards a mapping, which must not be unmapped before memory_fault_unguard. Returns 0; -ENOSPC if
 * there are very many already; what sigaction failed with. */
int memory_fault_guard(void *base, size_t length, struct memory_fault_range **out);
void memory_fault_unguard(struct memory_fault_range *range);

/* Whether it has become zero pages. */
bool memory_fault_is_lost(const struct memory_fault_range *range);

#endif
