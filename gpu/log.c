/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "gpu_private.h"
#include "log.h"

#define MAX_A_SECOND 5
#define MAX_MESSAGE 256

/* Called with a string literal from below only. */
static void log_list(
	struct gpu *gpu, enum vgf_log_level level, const char *format, va_list arguments)
{
	char message[MAX_MESSAGE];

	if (gpu->callbacks.log != NULL) {
		vsnprintf(message, sizeof(message), format, arguments);
		gpu->callbacks.log(gpu->cookie, level, message);
	}
}

/* The first message of a later second says how many were dropped. */
static bool may_log(struct gpu *gpu)
{
	struct log_limit *limit = &gpu->log_limit;
	uint32_t dropped = limit->dropped;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (limit->second != (uint64_t)now.tv_sec) {
		*limit = (struct log_limit){ .second = (uint64_t)now.tv_sec };
		if (dropped > 0) {
			log_error(gpu, "%" PRIu32 " more messages about the guest", dropped);
		}
	}
	if (limit->count == MAX_A_SECOND) {
		limit->dropped++;
		return false;
	}
	limit->count++;
	return true;
}

void log_guest(struct gpu *gpu, const char *format, ...)
{
	va_list arguments;

	if (!may_log(gpu)) {
		return;
	}
	va_start(arguments, format);
	log_list(gpu, VGF_LOG_WARNING, format, arguments);
	va_end(arguments);
}

void log_error(struct gpu *gpu, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_list(gpu, VGF_LOG_ERROR, format, arguments);
	va_end(arguments);
}
