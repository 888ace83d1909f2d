/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What can be done with one descriptor that stands for a fence.
 *
 * Any pollable descriptor may come here, so the kernel's sync file calls are asked, never assumed:
 * what does not answer them is no sync file, and that is no failure.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <linux/sync_file.h>

#include <vgfence/fence.h>
#include <vgfence/sync_file.h>

#include "clock.h"
#include "export.h"
#include "sync_file.h"

/* Since Linux 6.6, and missing in the headers of Debian 12: include/uapi/linux/sync_file.h. */
#ifndef SYNC_IOC_SET_DEADLINE
struct sync_set_deadline {
	__u64 deadline_ns;
	__u64 pad;
};
#define SYNC_IOC_SET_DEADLINE _IOW(SYNC_IOC_MAGIC, 5, struct sync_set_deadline)
#endif

/* Without a look at the clock for those who do not wait. */
static struct timespec timeout_of(int64_t deadline_ns)
{
	return deadline_ns > 0 ? time_until((uint64_t)deadline_ns) : (struct timespec){ 0 };
}

/* Returns as vgf_sync_file_poll. ppoll's timeout is relative: after every signal handler what
 * remains is reckoned anew. */
static int poll_until(int fd, int64_t deadline_ns)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	struct timespec timeout;
	int ret;

	if (fd == VGF_FENCE_DONE) {
		return 1;
	}
	if (fd < 0) {
		return -EBADF; /* ppoll would pass over it, and wait for ever */
	}
	do {
		timeout = timeout_of(deadline_ns);
		ret = ppoll(&pollfd, 1, deadline_ns == INT64_MAX ? NULL : &timeout, NULL);
	} while (ret < 0 && errno == EINTR && (timeout.tv_sec > 0 || timeout.tv_nsec > 0));

	if (ret < 0) {
		/* The kernel looks at descriptors before signals, so EINTR says "not yet" too:
		 * another round without waiting could be interrupted again, and again. */
		return errno == EINTR ? 0 : -errno;
	}
	if (ret == 0) {
		return 0;
	}
	if (pollfd.revents & POLLIN) {
		return 1;
	}
	return (pollfd.revents & POLLNVAL) ? -EBADF : -EIO;
}

VGF_EXPORT int vgf_sync_file_poll(int fence_fd)
{
	return poll_until(fence_fd, 0);
}

VGF_EXPORT int vgf_sync_file_wait(int fence_fd, int64_t deadline_ns)
{
	int ret = poll_until(fence_fd, deadline_ns);

	if (ret == 0) {
		return -ETIME;
	}
	return ret < 0 ? ret : 0;
}

static int sync_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, request, arg);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

/* Most descriptors that are no sync files answer ENOTTY, but drivers may have other answers to a
 * call that they do not know, and for the second descriptor of a merge it is ENOENT. */
static int no_sync_file(int error)
{
	switch (error) {
	case -EBADF:
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return error;
	default:
		return -ENOTTY;
	}
}

/* A file with more fences than this is rare: then the kernel's word on the whole has to do. */
#define STATUS_FENCES 4

/*
 * Sets status to 1, 0 or an error. The kernel's status of the whole file hides the error of a point
 * of a syncobj's timeline, so the fences in it are asked; it is one call either way.
 *
 * Returns 0, or an error for what is no sync file.
 */
static int read_status(int fence_fd, int *status)
{
	struct sync_fence_info fences[STATUS_FENCES] = { 0 };
	struct sync_file_info info = {
		.num_fences = STATUS_FENCES,
		.sync_fence_info = (uintptr_t)fences,
	};
	int ret = sync_ioctl(fence_fd, SYNC_IOC_FILE_INFO, &info);

	if (ret == -EINVAL) {
		info = (struct sync_file_info){ 0 };
		ret = sync_ioctl(fence_fd, SYNC_IOC_FILE_INFO, &info);
		*status = info.status;
		return ret;
	}
	*status = 1;
	for (uint32_t i = 0; ret == 0 && i < info.num_fences; i++) {
		if (fences[i].status == 0) {
			*status = 0;
			break;
		}
		if (*status > 0) {
			*status = fences[i].status;
		}
	}
	return ret;
}

VGF_EXPORT int vgf_sync_file_status(int fence_fd)
{
	int status;

	return read_status(fence_fd, &status) < 0 ? vgf_sync_file_poll(fence_fd) : status;
}

int sync_file_error(int fence_fd)
{
	int status;

	/* What is no sync file has no error to tell. */
	return read_status(fence_fd, &status) < 0 || status > 0 ? 0 : status;
}

/* The last byte of a name stays 0, whatever the kernel says. */
static void copy_fence(struct vgf_sync_file_fence *to, const struct sync_fence_info *from)
{
	*to = (struct vgf_sync_file_fence){
		.status = from->status,
		.timestamp_ns = from->timestamp_ns,
	};
	memcpy(to->driver, from->driver_name, sizeof(to->driver) - 1);
	memcpy(to->timeline, from->obj_name, sizeof(to->timeline) - 1);
}

/*
 * Asks for `capacity` fences: the kernel describes all or, with -EINVAL if there are more by now,
 * of none. Returns how many there are.
 */
static int read_fences(
	int fence_fd, uint32_t capacity, struct vgf_sync_file_fence *fences, size_t count)
{
	struct sync_fence_info *infos = calloc(capacity, sizeof(*infos));
	struct sync_file_info info = {
		.num_fences = capacity,
		.sync_fence_info = (uintptr_t)infos,
	};
	int ret;

	if (!infos) {
		return -ENOMEM;
	}
	ret = sync_ioctl(fence_fd, SYNC_IOC_FILE_INFO, &info);
	if (ret == 0) {
		ret = (int)(info.num_fences < capacity ? info.num_fences : capacity);
		for (int i = 0; i < ret && (size_t)i < count; i++) {
			copy_fence(&fences[i], &infos[i]);
		}
	}
	free(infos);
	return ret;
}

VGF_EXPORT int vgf_sync_file_info(int fence_fd, struct vgf_sync_file_fence *fences, size_t count)
{
	int attempts = 8; /* a file's fences hardly ever become more */
	int ret;

	do {
		struct sync_file_info info = { 0 };

		ret = sync_ioctl(fence_fd, SYNC_IOC_FILE_INFO, &info);
		if (ret < 0) {
			return no_sync_file(ret);
		}
		if (info.num_fences > INT_MAX) {
			return -ENOMEM;
		}
		if (info.num_fences == 0 || count == 0) {
			return (int)info.num_fences;
		}
		ret = read_fences(fence_fd, info.num_fences, fences, count);
	} while (ret == -EINVAL && --attempts > 0);
	return ret < 0 ? no_sync_file(ret) : ret;
}

VGF_EXPORT int vgf_sync_file_name(int fence_fd, char name[VGF_SYNC_FILE_NAME])
{
	struct sync_file_info info = { 0 };
	int ret = sync_ioctl(fence_fd, SYNC_IOC_FILE_INFO, &info);

	if (ret < 0) {
		return no_sync_file(ret);
	}
	memcpy(name, info.name, VGF_SYNC_FILE_NAME - 1);
	name[VGF_SYNC_FILE_NAME - 1] = '\0';
	return 0;
}

VGF_EXPORT int vgf_sync_file_set_deadline(int fence_fd, uint64_t deadline_ns)
{
	struct sync_set_deadline deadline = { .deadline_ns = deadline_ns };
	int ret = 0;

	if (fence_fd != VGF_FENCE_DONE) {
		ret = sync_ioctl(fence_fd, SYNC_IOC_SET_DEADLINE, &deadline);
	}
	return ret < 0 ? no_sync_file(ret) : 0;
}

static int copy_fd(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 ? -errno : copy;
}

/* Of what has signalled: a copy of any. */
static int copy_one(const int *fence_fds, size_t count)
{
	while (count > 0 && fence_fds[count - 1] == VGF_FENCE_DONE) {
		count--;
	}
	return count > 0 ? copy_fd(fence_fds[count - 1]) : -EALREADY;
}

/* A node of the tree of merges: pending fences, as one descriptor, or none. */
struct pending {
	int fd;     /* negative: all signalled */
	bool owned; /* made on the way, so to be closed */
};

static void pending_finish(struct pending *pending)
{
	if (pending->owned) {
		close(pending->fd);
	}
}

static int merge_two(const struct pending *left, const struct pending *right)
{
	struct sync_merge_data data = { .name = "vgfence", .fd2 = right->fd };
	int ret = sync_ioctl(left->fd, SYNC_IOC_MERGE, &data);

	return ret < 0 ? no_sync_file(ret) : data.fence;
}

/*
 * Halves what there is to merge. Each merge copies all the fences of both its files, so a chain of
 * n merges would copy in the order of n² of them. Depth first, and a half is closed as soon as it
 * is part of the whole: at most one descriptor for each level of the tree is open, and one more.
 */
static int merge_range(const int *fence_fds, size_t count, struct pending *pending)
{
	struct pending left, right;
	int ret;

	if (count == 1) {
		ret = vgf_sync_file_poll(fence_fds[0]);
		*pending = (struct pending){ .fd = ret == 0 ? fence_fds[0] : -1 };
		return ret < 0 ? ret : 0;
	}

	ret = merge_range(fence_fds, count / 2, &left);
	if (ret < 0) {
		return ret;
	}
	ret = merge_range(fence_fds + count / 2, count - count / 2, &right);
	if (ret < 0) {
		pending_finish(&left);
		return ret;
	}
	if (left.fd < 0 || right.fd < 0) {
		*pending = left.fd < 0 ? right : left;
		return 0;
	}
	ret = merge_two(&left, &right);
	pending_finish(&left);
	pending_finish(&right);
	if (ret < 0) {
		return ret;
	}
	*pending = (struct pending){ .fd = ret, .owned = true };
	return 0;
}

VGF_EXPORT int vgf_sync_file_merge(const int *fence_fds, size_t count)
{
	struct pending all;
	int ret;

	if (count == 0) {
		return -EINVAL;
	}
	ret = merge_range(fence_fds, count, &all);
	if (ret < 0) {
		return ret;
	}
	if (all.owned) {
		return all.fd;
	}
	return all.fd < 0 ? copy_one(fence_fds, count) : copy_fd(all.fd);
}
