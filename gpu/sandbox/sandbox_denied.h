/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SANDBOX_DENIED_H
#define SANDBOX_DENIED_H

/* What happens to a system call that the filter traps (SIGSYS): it fails with EPERM, and is told.
 * As sandbox.h has it. */

/* As sandbox_prepare. */
int sandbox_denied_prepare(void);

/* Returns 1; 0 if it is not known where this machine has its registers: then the filter itself has
 * to make such calls fail, and nobody is told. Or an error. */
int sandbox_denied_start(void);

int sandbox_denied_get_fd(void);
void sandbox_denied_dispatch(void (*line)(const char *text));

#endif
