/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "vulkan_report.h"

static uint32_t num_right, num_failed;

void report(bool right, const char *format, ...)
{
	va_list arguments;

	printf("%s: ", right ? "ok" : "FAILED");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
	if (right) {
		num_right++;
	} else {
		num_failed++;
	}
}

void report_skipped(const char *name, const char *format, ...)
{
	va_list arguments;

	printf("skipped: %s: ", name);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

int report_status(void)
{
	if (num_failed > 0) {
		return 1;
	}
	return num_right > 0 ? 0 : REPORT_SKIPPED;
}
