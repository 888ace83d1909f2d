/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef LOG_LIMIT_H
#define LOG_LIMIT_H

/* A few log messages a second of one kind, and how many more there were. Any thread. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_LIMIT_A_SECOND 5

struct log_limit {
	pthread_mutex_t lock;
	int64_t second;
	uint32_t count;
	atomic_uint dropped; /* written with the lock alone */
};

void log_limit_init(struct log_limit *limit);

/* Whether another message may be written; otherwise it is counted. */
bool log_limit_pass(struct log_limit *limit);

/*
 * How many were dropped and have to be told now, in a message of the caller's: it is one of this
 * second's. 0 as long as their second is not over, unless this is the last chance. To be asked
 * before each log_limit_pass, and after each wait.
 */
uint32_t log_limit_take_dropped(struct log_limit *limit, bool last_chance);

/* The timeout of a wait, shortened to a second if there is something to be told. As poll's. */
int log_limit_timeout(struct log_limit *limit, int timeout_ms);

#endif
