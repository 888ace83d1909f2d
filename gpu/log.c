/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "gpu_private.h"
#include "log.h"

#define MAX_MESSAGE 256

static void write_message(struct gpu *gpu, enum vgf_log_level level, const char *message)
{
	if (gpu->callbacks.log != NULL) {
		gpu->callbacks.log(gpu->cookie, level, message);
	}
}

static void tell_dropped(
	struct gpu *gpu, struct log_limit *limit, const char *subject, bool last_chance)
{
	uint32_t dropped = log_limit_take_dropped(limit, last_chance);
	char message[MAX_MESSAGE];

	if (dropped > 0) {
		snprintf(message, sizeof(message), "%" PRIu32 " more messages about the %s",
			dropped, subject);
		write_message(gpu, VGF_LOG_WARNING, message);
	}
}

void log_tell_dropped(struct gpu *gpu, bool last_chance)
{
	tell_dropped(gpu, &gpu->log.guest, "guest", last_chance);
	tell_dropped(gpu, &gpu->log.host, "host", last_chance);
	tell_dropped(gpu, &gpu->log.renderer, "renderer", last_chance);
}

void log_init(struct gpu *gpu)
{
	log_limit_init(&gpu->log.guest);
	log_limit_init(&gpu->log.host);
	log_limit_init(&gpu->log.renderer);
}

int log_timeout(struct gpu *gpu, int timeout_ms)
{
	timeout_ms = log_limit_timeout(&gpu->log.guest, timeout_ms);
	timeout_ms = log_limit_timeout(&gpu->log.host, timeout_ms);
	return log_limit_timeout(&gpu->log.renderer, timeout_ms);
}

void log_renderer(void *cookie, enum vgf_log_level level, const char *message)
{
	struct gpu *gpu = cookie;

	if (level != VGF_LOG_DEBUG) {
		tell_dropped(gpu, &gpu->log.renderer, "renderer", false);
		if (!log_limit_pass(&gpu->log.renderer)) {
			return;
		}
	}
	write_message(gpu, level, message);
}

void log_guest(struct gpu *gpu, const char *format, ...)
{
	char message[MAX_MESSAGE];
	va_list arguments;

	tell_dropped(gpu, &gpu->log.guest, "guest", false);
	if (!log_limit_pass(&gpu->log.guest)) {
		return;
	}
	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	write_message(gpu, VGF_LOG_WARNING, message);
}

void log_error(struct gpu *gpu, const char *format, ...)
{
	char message[MAX_MESSAGE];
	va_list arguments;

	tell_dropped(gpu, &gpu->log.host, "host", false);
	if (!log_limit_pass(&gpu->log.host)) {
		return;
	}
	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	write_message(gpu, VGF_LOG_ERROR, message);
}
