/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What it costs to wait for a fence with a descriptor, without any library: it is added to the
 * epoll set, epoll_wait returns it, its status is asked for (a sync file may end in an error; an
 * eventfd answers ENOTTY), and it is closed, which takes it out of the epoll set. As in the
 * library, only the oldest fence of each timeline is watched.
 */

#include <errno.h>
#include <linux/sync_file.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench.h"
#include "clock.h"
#include "load.h"

#define MAX_EVENTS 64

struct bare_load {
	int epoll_fd;
	uint32_t timelines;
	int *fds; /* of the fence with ID n at n modulo num_fds */
	uint32_t num_fds;
	uint64_t oldest, next; /* fence IDs: the pending ones are oldest to next - 1 */
	struct fd_pool pool;
};

static int *fence_fd(struct bare_load *load, uint64_t id)
{
	return &load->fds[id % load->num_fds];
}

static int watch(struct bare_load *load, uint64_t id)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = id };

	return epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, *fence_fd(load, id), &event) < 0 ? -errno :
											   0;
}

static int add(struct bare_load *load)
{
	int fd = fd_pool_take(&load->pool);

	if (fd < 0) {
		return fd;
	}
	uint64_t id = load->next++;
	*fence_fd(load, id) = fd;
	return id - load->oldest < load->timelines ? watch(load, id) : 0;
}

static int retire(struct bare_load *load, uint64_t id)
{
	int *fd = fence_fd(load, id);
	struct sync_file_info info = { .num_fences = 0 };

	if (ioctl(*fd, SYNC_IOC_FILE_INFO, &info) == 0 || errno != ENOTTY) {
		return -EIO;
	}
	close(*fd);
	*fd = -1;
	uint64_t successor = id + load->timelines;
	return successor < load->next ? watch(load, successor) : 0;
}

static int retire_batch(struct bare_load *load, uint32_t batch)
{
	struct epoll_event events[MAX_EVENTS];

	while (batch) {
		int count = epoll_wait(load->epoll_fd, events, MAX_EVENTS, 0);
		if (count <= 0 || (uint32_t)count > batch) {
			return -EIO;
		}
		for (int i = 0; i < count; i++) {
			int error = retire(load, events[i].data.u64);
			if (error < 0) {
				return error;
			}
		}
		load->oldest += (uint32_t)count;
		batch -= (uint32_t)count;
	}
	return 0;
}

static int run_batch(struct bare_load *load, uint32_t batch, uint64_t *fence_ns, uint64_t *write_ns)
{
	uint64_t start = now_ns();

	for (uint32_t i = 0; i < batch; i++) {
		int error = add(load);
		if (error < 0) {
			return error;
		}
	}
	uint64_t added = now_ns();
	for (uint32_t i = 0; i < batch; i++) {
		if (eventfd_write(*fence_fd(load, load->oldest + i), 1) < 0) {
			return -errno;
		}
	}
	uint64_t written = now_ns();
	int error = retire_batch(load, batch);
	*fence_ns += now_ns() - written + added - start;
	*write_ns += written - added;
	return error;
}

int bare_load_run(struct bare_load *load, uint32_t count, uint32_t batch, struct load_times *times)
{
	uint64_t fence_ns = 0, write_ns = 0;
	int error = fd_pool_fill(&load->pool, count, &times->make_ns);

	for (uint32_t i = 0; i < count && error == 0; i += batch) {
		error = run_batch(load, batch, &fence_ns, &write_ns);
	}
	if (error < 0) {
		return bench_error(error, "bare system calls");
	}
	times->fence_ns = (double)fence_ns / count;
	times->write_ns = (double)write_ns / count;
	return 0;
}

static int fill(struct bare_load *load, uint32_t pending)
{
	while (load->next - load->oldest < pending) {
		double unused;
		int error = fd_pool_fill(&load->pool, 1, &unused);
		if (error == 0) {
			error = add(load);
		}
		if (error < 0) {
			return error;
		}
	}
	return 0;
}

int bare_load_trim(struct bare_load *load, uint32_t pending)
{
	uint32_t excess = (uint32_t)(load->next - load->oldest) - pending;

	for (uint32_t i = 0; i < excess; i++) {
		if (eventfd_write(*fence_fd(load, load->oldest + i), 1) < 0) {
			return bench_error(-errno, "signalling a fence");
		}
	}
	int error = retire_batch(load, excess);
	return error < 0 ? bench_error(error, "bare system calls") : 0;
}

int bare_load_create(const struct load_options *options, struct bare_load **load)
{
	*load = NULL;
	struct bare_load *new = calloc(1, sizeof(*new));
	if (!new) {
		return bench_error(-ENOMEM, "bare system calls");
	}
	new->epoll_fd = -1;
	new->timelines = options->contexts * options->rings;
	new->num_fds = options->pending + LOAD_MAX_BATCH;
	new->fds = malloc(new->num_fds * sizeof(new->fds[0]));
	if (!new->fds) {
		bare_load_destroy(new);
		return bench_error(-ENOMEM, "bare system calls");
	}
	memset(new->fds, -1, new->num_fds * sizeof(new->fds[0]));
	new->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int error = new->epoll_fd < 0 ? bench_error(-errno, "epoll_create1") :
					fill(new, options->pending);
	if (error < 0) {
		bare_load_destroy(new);
		return error;
	}
	*load = new;
	return 0;
}

void bare_load_destroy(struct bare_load *load)
{
	if (!load) {
		return;
	}
	for (uint32_t i = 0; load->fds && i < load->num_fds; i++) {
		if (load->fds[i] >= 0) {
			close(load->fds[i]);
		}
	}
	fd_pool_finish(&load->pool);
	if (load->epoll_fd >= 0) {
		close(load->epoll_fd);
	}
	free(load->fds);
	free(load);
}
