/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The plugin's own messages, which a guest can cause. */

#include "virgl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void plugin_log(struct vgf_virgl *virgl, const char *format, ...)
{
	char message[256];
	va_list arguments;
	uint32_t dropped;

	if (!virgl->more.log) {
		return;
	}
	dropped = log_limit_take_dropped(&virgl->log_limit, false);
	if (dropped > 0) {
		snprintf(message, sizeof(message), "%" PRIu32 " more messages about contexts",
			dropped);
		virgl->more.log(virgl->cookie, VGF_LOG_WARNING, message);
	}
	if (!log_limit_pass(&virgl->log_limit)) {
		return;
	}
	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	virgl->more.log(virgl->cookie, VGF_LOG_WARNING, message);
}
