/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench.h"
#include "clock.h"
#include "load.h"

int fd_pool_fill(struct fd_pool *pool, uint32_t count, double *make_ns)
{
	uint64_t start = now_ns();
	uint32_t made = 0;

	while (pool->count < count && pool->count < LOAD_MAX_FDS_RUN) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0) {
			return bench_error(-errno, "eventfd");
		}
		pool->fds[pool->count++] = fd;
		made++;
	}
	*make_ns = made ? (double)(now_ns() - start) / made : 0;
	return 0;
}

int fd_pool_take(struct fd_pool *pool)
{
	return pool->count ? pool->fds[--pool->count] : -EMFILE;
}

void fd_pool_finish(struct fd_pool *pool)
{
	while (pool->count) {
		close(fd_pool_take(pool));
	}
}
