/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/sync_file.h>
#include <xf86drm.h>

#include "command_stream.h"
#include "context.h"

bool is_virtio_gpu(int fd)
{
	drmVersionPtr version = drmGetVersion(fd);
	bool is = version && strcmp(version->name, "virtio_gpu") == 0;

	drmFreeVersion(version);
	return is;
}

int open_render_node(uint32_t device)
{
	static char paths[2][32]; /* of those that were found before */
	uint32_t found = 0;

	if (paths[device][0]) {
		int fd = open(paths[device], O_RDWR | O_CLOEXEC);
		if (fd >= 0 || errno != ENOENT) {
			return fd;
		}
		/* The driver was unbound, and now it has another number. */
	}
	for (int minor = 128; minor < 192; minor++) {
		char path[32];

		snprintf(path, sizeof(path), "/dev/dri/renderD%d", minor);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && is_virtio_gpu(fd) && found++ == device) {
			memcpy(paths[device], path, sizeof(path));
			return fd;
		}
		if (fd >= 0) {
			close(fd);
		}
	}
	if (device == 0) {
		errx(1, "no render node of virtio-gpu in /dev/dri");
	}
	return -1;
}

/* Whether it is there, and 1. */
static bool is_set(uint64_t param)
{
	int fd = open_render_node(0), value = 0;
	struct uapi_getparam getparam = {
		.param = param,
		.value = (uintptr_t)&value,
	};
	int ret = drmIoctl(fd, UAPI_IOCTL_GETPARAM, &getparam);

	close(fd);
	return ret == 0 && value == 1;
}

bool has_fence_passing(void)
{
	return is_set(UAPI_PARAM_FENCE_PASSING);
}

bool has_host_memory(void)
{
	return is_set(UAPI_PARAM_HOST_VISIBLE);
}

bool passes_all(void)
{
	FILE *parameter = fopen("/sys/module/virtio_gpu/parameters/fence_passing", "re");
	char value[8] = "";

	if (parameter) {
		if (!fgets(value, sizeof(value), parameter)) {
			err(1, "fence_passing");
		}
		fclose(parameter);
	}
	return strcmp(value, "all\n") == 0;
}

int context_init(int fd, uint32_t capset, uint32_t num_rings, bool passing)
{
	struct uapi_context_param params[] = {
		{ UAPI_CONTEXT_CAPSET_ID, capset },
		{ UAPI_CONTEXT_NUM_RINGS, num_rings },
		{ UAPI_CONTEXT_FENCE_PASSING, 1 },
	};
	struct uapi_context_init init = {
		.num_params = passing ? 3 : 2,
		.params = (uintptr_t)params,
	};

	return drmIoctl(fd, UAPI_IOCTL_CONTEXT_INIT, &init) < 0 ? -errno : 0;
}

void blob_close(int fd, const struct blob *blob)
{
	struct drm_gem_close close = { .handle = blob->handle };

	drmIoctl(fd, DRM_IOCTL_GEM_CLOSE, &close);
}

int blob_make_unmapped(int fd, size_t size, struct blob *out)
{
	struct uapi_blob blob = {
		.blob_mem = UAPI_BLOB_MEM_HOST3D,
		.blob_flags = UAPI_BLOB_SHAREABLE,
		.size = size,
	};

	if (drmIoctl(fd, UAPI_IOCTL_BLOB, &blob) < 0) {
		return -errno;
	}
	*out = (struct blob){ blob.res_handle, blob.bo_handle, size };
	return 0;
}

void *blob_make(int fd, bool host_memory, size_t size, struct blob *out)
{
	struct uapi_blob blob = {
		.blob_mem = host_memory ? UAPI_BLOB_MEM_HOST3D : UAPI_BLOB_MEM_GUEST,
		.blob_flags = UAPI_BLOB_MAPPABLE | UAPI_BLOB_SHAREABLE,
		.size = size,
	};
	struct uapi_map map = { 0 };
	void *address = MAP_FAILED;

	if (drmIoctl(fd, UAPI_IOCTL_BLOB, &blob) < 0) {
		return NULL;
	}
	*out = (struct blob){ blob.res_handle, blob.bo_handle, size };
	map.handle = blob.bo_handle;
	if (drmIoctl(fd, UAPI_IOCTL_MAP, &map) == 0) {
		address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
			(off_t)map.offset);
	}
	if (address == MAP_FAILED) {
		int error = errno;

		blob_close(fd, out);
		errno = error;
		return NULL;
	}
	return address;
}

bool use_host_memory;

static void make_buffer(struct context *context)
{
	struct blob blob;
	void *address = blob_make(
		context->fd, use_host_memory, CONTEXT_NUM_SLOTS * sizeof(uint32_t), &blob);

	if (!address) {
		err(1, "making a blob resource");
	}
	context->resource = blob.resource;
	context->handle = blob.handle;
	context->slots = address;
}

void context_open(struct context *context, uint32_t num_rings, bool passing)
{
	context_open_on(context, 0, num_rings, passing);
}

void context_open_on(struct context *context, uint32_t device, uint32_t num_rings, bool passing)
{
	int ret;

	context->fd = open_render_node(device);
	if (context->fd < 0) {
		err(1, "opening device %u", device);
	}
	context->passing = passing;
	ret = context_init(context->fd, CAPSET_DRM, num_rings, passing);
	if (ret < 0) {
		errx(1, "making a context %s fence passing: %s", passing ? "with" : "without",
			strerror(-ret));
	}
	make_buffer(context);
}

void context_close(struct context *context)
{
	close(context->fd);
	context->fd = -1;
}

void context_unmap(struct context *context)
{
	munmap((void *)context->slots, CONTEXT_NUM_SLOTS * sizeof(uint32_t));
	context->slots = NULL;
}

/* Returns how many words the command stream has. */
static uint32_t write_stream(
	const struct context *context, const struct context_job *job, uint32_t *stream)
{
	const uint32_t store[] = {
		SOFT_GPU_RESOURCE,
		context->resource,
		SOFT_GPU_OFFSET,
		job->slot * (uint32_t)sizeof(uint32_t),
		SOFT_GPU_STORE,
		job->value,
	};
	const uint32_t *words = job->words ? job->words : store;
	uint32_t num_words = job->words ? job->num_words : sizeof(store) / sizeof(store[0]);

	stream[0] = SOFT_GPU_BUSY;
	stream[1] = job->busy_us;
	memcpy(stream + 2, words, num_words * sizeof(*words));
	return num_words + 2;
}

int context_try_submit(struct context *context, const struct context_job *job, uint32_t extra_flags,
	int *out_fence_fd)
{
	uint32_t stream[2 + CONTEXT_MAX_WORDS];
	uint32_t num_words = write_stream(context, job, stream);
	struct uapi_execbuffer exec = {
		.flags = UAPI_EXEC_RING_IDX | extra_flags,
		.size = num_words * (uint32_t)sizeof(stream[0]),
		.command = (uintptr_t)stream,
		.bo_handles = (uintptr_t)&job->handle,
		.num_bo_handles = job->handle != 0 ? 1 : 0,
		.fence_fd = job->in_fence_fd,
		.ring_idx = job->ring,
		.syncobj_stride = sizeof(struct uapi_syncobj),
		.num_in_syncobjs = job->in_syncobj ? 1 : 0,
		.num_out_syncobjs = job->out_syncobj ? 1 : 0,
		.in_syncobjs = (uintptr_t)job->in_syncobj,
		.out_syncobjs = (uintptr_t)job->out_syncobj,
	};

	if (job->in_fence_fd >= 0) {
		exec.flags |= UAPI_EXEC_FENCE_FD_IN;
	}
	if (out_fence_fd) {
		exec.flags |= UAPI_EXEC_FENCE_FD_OUT;
	}
	if (drmIoctl(context->fd, UAPI_IOCTL_EXECBUFFER, &exec) < 0) {
		return -errno;
	}
	if (out_fence_fd) {
		*out_fence_fd = exec.fence_fd;
	}
	return 0;
}

void context_submit(struct context *context, const struct context_job *job, int *out_fence_fd)
{
	bool shared = context->passing && !job->private_fence;
	int ret = context_try_submit(
		context, job, shared ? UAPI_EXEC_SHARED_FENCE : 0, out_fence_fd);

	if (ret < 0) {
		errx(1, "submitting a job: %s", strerror(-ret));
	}
}

int merge_fences(int a_fd, int b_fd)
{
	struct sync_merge_data data = { .fd2 = b_fd };

	if (ioctl(a_fd, SYNC_IOC_MERGE, &data) < 0) {
		err(1, "merging sync files");
	}
	return data.fence;
}

bool wait_fence(int fd, int timeout_ms)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	int ret;

	do {
		ret = poll(&pollfd, 1, timeout_ms);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0 || (pollfd.revents & (POLLERR | POLLNVAL))) {
		err(1, "waiting for a sync file");
	}
	return ret == 1;
}

int fence_status(int fd)
{
	struct sync_file_info info = { 0 };

	if (ioctl(fd, SYNC_IOC_FILE_INFO, &info) < 0) {
		err(1, "asking a sync file");
	}
	return info.status;
}
