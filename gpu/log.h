/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef LOG_H
#define LOG_H

/* Messages of the device, a few a second of each kind: a guest can cause all of them. */

#include <stdbool.h>

#include <vgfence/vgfence.h>

#include "log_limit.h"

struct gpu;

struct log {
	struct log_limit guest, host, renderer;
};

/* The guest did wrong. */
void log_guest(struct gpu *gpu, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Something of the host failed. */
void log_error(struct gpu *gpu, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What the library says, or virglrenderer: their callback. Any thread. */
void log_renderer(void *cookie, enum vgf_log_level level, const char *message);

void log_init(struct gpu *gpu);

/* A timeout for poll, shortened if there is something to be told in a while. */
int log_timeout(struct gpu *gpu, int timeout_ms);

/* Tells how many messages there were more, if it is time for that. */
void log_tell_dropped(struct gpu *gpu, bool last_chance);

#endif
