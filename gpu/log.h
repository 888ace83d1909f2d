/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef LOG_H
#define LOG_H

/* Messages of the device. What a guest can cause is limited to a few a second. */

#include <stdint.h>

struct gpu;

struct log_limit {
	uint64_t second;
	uint32_t count, dropped;
};

/* The guest did wrong. */
void log_guest(struct gpu *gpu, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Something of the host failed. */
void log_error(struct gpu *gpu, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
