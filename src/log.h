/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef LOG_H
#define LOG_H

/*
 * Messages. They wait in a buffer of the device until its lock is free, as a log callback may call
 * back into the library.
 */

#include "device.h"

/* Locked. Warnings are limited to a few a second. */
__attribute__((format(printf, 3, 4))) void device_log(
	struct vgf_device *device, enum vgf_log_level level, const char *format, ...);

/* Locked. What was asked for in the name of a fence, and the error it got. */
void log_refused(
	struct vgf_device *device, const struct vgf_fence_name *name, const char *what, int error);

/* Unlocked. */
void log_flush(struct vgf_device *device, const struct log_buffer *log);

/* "context 3 ring 1 fence 17" */
#define NAME_SIZE 64
const char *name_text(char text[NAME_SIZE], const struct vgf_fence_name *name);

#endif
