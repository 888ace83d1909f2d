/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "log_limit.h"

#include <time.h>

void log_limit_init(struct log_limit *limit)
{
	*limit = (struct log_limit){ .lock = PTHREAD_MUTEX_INITIALIZER };
}

/* Locked. */
static void begin_second(struct log_limit *limit)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec != limit->second) {
		limit->second = now.tv_sec;
		limit->count = 0;
	}
}

bool log_limit_pass(struct log_limit *limit)
{
	bool pass;

	pthread_mutex_lock(&limit->lock);
	begin_second(limit);
	pass = limit->count < LOG_LIMIT_A_SECOND;
	if (pass) {
		limit->count++;
	} else {
		limit->dropped++;
	}
	pthread_mutex_unlock(&limit->lock);
	return pass;
}

/* Hardly ever: neither the lock nor the time is needed to find out. */
static bool has_dropped(const struct log_limit *limit)
{
	return atomic_load_explicit(&limit->dropped, memory_order_relaxed) > 0;
}

uint32_t log_limit_take_dropped(struct log_limit *limit, bool last_chance)
{
	uint32_t dropped = 0;

	if (!has_dropped(limit)) {
		return 0;
	}
	pthread_mutex_lock(&limit->lock);
	begin_second(limit);
	if (limit->dropped > 0 && (limit->count < LOG_LIMIT_A_SECOND || last_chance)) {
		dropped = limit->dropped;
		limit->dropped = 0;
		limit->count++;
	}
	pthread_mutex_unlock(&limit->lock);
	return dropped;
}

int log_limit_timeout(struct log_limit *limit, int timeout_ms)
{
	const int second_ms = 1000;

	return has_dropped(limit) && (timeout_ms < 0 || timeout_ms > second_ms) ? second_ms :
										  timeout_ms;
}
