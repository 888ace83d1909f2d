/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "error_name.h"
#include "log.h"

/* What a guest's mistakes may add to the host's log, in lines a second. */
#define WARNINGS_A_SECOND 10

const char *name_text(char text[NAME_SIZE], const struct vgf_fence_name *name)
{
	if (name->ring == VGF_RING_GLOBAL) {
		snprintf(text, NAME_SIZE, "context %" PRIu32 " global timeline fence %" PRIu64,
			name->ctx_id, name->fence_id);
	} else if (name->ring == RING_IMPORTED) {
		snprintf(text, NAME_SIZE, "context %" PRIu32 " imported fence", name->ctx_id);
	} else {
		snprintf(text, NAME_SIZE, "context %" PRIu32 " ring %" PRId32 " fence %" PRIu64,
			name->ctx_id, name->ring, name->fence_id);
	}
	return text;
}

static bool is_too_much(struct vgf_device *device)
{
	uint64_t second = now_ns() / 1000000000;

	if (device->log_second != second) {
		device->log_second = second;
		device->log_count = 0;
	}
	return ++device->log_count > WARNINGS_A_SECOND;
}

void device_log(struct vgf_device *device, enum vgf_log_level level, const char *format, ...)
{
	struct log_buffer *log = &device->log;
	va_list arguments;

	if (!device->callbacks.log || log->count == LOG_LINES ||
		(level != VGF_LOG_ERROR && is_too_much(device))) {
		return;
	}
	log->level[log->count] = level;
	va_start(arguments, format);
	vsnprintf(log->line[log->count], LOG_LINE_SIZE, format, arguments);
	va_end(arguments);
	log->count++;
}

void log_refused(
	struct vgf_device *device, const struct vgf_fence_name *name, const char *what, int error)
{
	char text[NAME_SIZE];

	device_log(device, VGF_LOG_WARNING, "%s: refused: %s (%s)", name_text(text, name), what,
		error_name(error));
}

void log_flush(struct vgf_device *device, const struct log_buffer *log)
{
	for (unsigned int i = 0; i < log->count; i++) {
		device->callbacks.log(device->cookie, log->level[i], log->line[i]);
	}
}
