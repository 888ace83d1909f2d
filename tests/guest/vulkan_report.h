/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VULKAN_REPORT_H
#define VULKAN_REPORT_H

#include <stdbool.h>

enum { REPORT_SKIPPED = 77 };

/* One line of the output for each check, which says what it is about. */
__attribute__((format(printf, 2, 3))) void report(bool right, const char *format, ...);

/* A check that cannot be made here, by name, and what it takes. */
__attribute__((format(printf, 2, 3))) void report_skipped(
	const char *name, const char *format, ...);

/* What the process ends with: 1 if a check has failed, 77 if none was made. */
int report_status(void);

#endif
