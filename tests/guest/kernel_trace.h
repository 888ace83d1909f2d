/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef KERNEL_TRACE_H
#define KERNEL_TRACE_H

/* The kernel's trace of virtio-gpu's queue. What fails ends the program. */

#include <stdbool.h>
#include <stdio.h>

enum { TRACE_COMMAND_FLUSH = 0x104, TRACE_COMMAND_SUBMIT = 0x207 };

void kernel_trace_begin(void);

/* The trace so far, to be closed; and no more is traced. */
FILE *kernel_trace_end(void);

/* Of a line of the trace: the number after a name, or 0. */
unsigned long kernel_trace_number(const char *line, const char *name);

/* Whether the first submission after the first one, of another context, was sent before that was
 * answered: ends the program if they are not in the trace. */
bool kernel_trace_end_submissions(void);

#endif
