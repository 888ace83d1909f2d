/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef REAL_H
#define REAL_H

/*
 * The library in whose place this one is. It is opened when one of its functions is first called,
 * so that a process that only has this one preloaded does not get GL's libraries.
 *
 * It is VGFENCE_VIRGLRENDERER in the environment, if that is set; else libvirglrenderer.so.1 as the
 * loader finds it, unless this one goes by that name; else that of the folder in which the build
 * found it.
 */

#include <stdbool.h>

#include <vgfence/vgfence.h>

/* Made by stubs.py. The names stand one behind the other, the last one is empty. */
extern void *real_functions[];
extern const char real_names[];

/* The address of a function; one that fails with -ENOSYS if the library does not have it, or if
 * there is no library. Called by stubs. */
void *real_find(unsigned int index);

bool real_has(const char *name);

/* Its path, or NULL if there is none. Exported for `vgfence info`. */
const char *vgf_real_library(void);

/* To standard error, if VGFENCE_LOG says so: none, error, warning (the default) or debug. */
void in_place_log(enum vgf_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
