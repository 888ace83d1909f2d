/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SANDBOX_H
#define SANDBOX_H

/*
 * Confines the process for good, once it has all that it needs: what it may still ask of the kernel
 * is a list (docs/sandbox.md). It opens no file, makes no socket, connects to nobody, and starts no
 * process. What is not in the list fails with EPERM and is told, by name: a guest that makes a
 * library try something must not be able to end the device with it, and whoever tries gets nothing.
 *
 * One for a process. Errors are negative errno values.
 */

#include <stdbool.h>

struct sandbox_options {
	/* Machine code is made and run, as OpenGL in software does. */
	bool makes_code;
};

/* Makes the descriptor of sandbox_get_fd. A thread that is to have a descriptor table of its own is
 * made after this, and keeps that descriptor: what it is denied would be told late otherwise, or
 * written to what has that number there. Returns 0, or what eventfd failed with. */
int sandbox_prepare(void);

/* Confines all threads that there are, and that will be. Returns 1 if the kernel has Landlock and
 * this thread, and those that it makes, are also confined by that; 0 if it has none. -EOPNOTSUPP
 * without libseccomp; an error of the kernel's, after which nothing is confined that matters: the
 * process should end. */
int sandbox_enter(const struct sandbox_options *options);

/* Readable when something was denied; below 0 before sandbox_prepare or sandbox_enter, and where
 * this machine's registers are not known: then nothing is told. Belongs to the sandbox, for
 * ever. */
int sandbox_get_fd(void);

/* Calls `line` for what was denied for the first time: a system call each. */
void sandbox_dispatch(void (*line)(const char *text));

/* The part of Landlock by itself: this thread, and those that it makes, open nothing more. Returns
 * as sandbox_enter. */
int sandbox_close_files(void);

#endif
