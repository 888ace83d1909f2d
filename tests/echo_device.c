/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "echo_device.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ROUNDS 16
#define MAX_ECHO (1u << 20) /* a guest can ask for much more with little effort */

/* As many bytes as there are, and fit. */
static void echo(
	struct echo_device *device, uint32_t queue, const struct virtqueue_request *request)
{
	size_t from = 0, to = 0, from_done = 0, to_done = 0;
	uint32_t written = 0;

	while (from < request->num_readable && to < request->num_writable && written < MAX_ECHO) {
		const struct iovec *readable = &request->readable[from];
		const struct iovec *writable = &request->writable[to];
		size_t left = readable->iov_len - from_done, room = writable->iov_len - to_done;
		size_t size = left < room ? left : room;

		memmove((char *)writable->iov_base + to_done, /* a guest may name the same twice */
			(const char *)readable->iov_base + from_done, size);
		written += (uint32_t)size;
		from_done += size;
		to_done += size;
		if (from_done == readable->iov_len) {
			from++;
			from_done = 0;
		}
		if (to_done == writable->iov_len) {
			to++;
			to_done = 0;
		}
	}
	vhost_user_complete(device->server, queue, request->token, written);
}

void echo_device_release(struct echo_device *device)
{
	for (unsigned int i = 0; i < device->num_held; i++) {
		echo(device, device->held[i].queue, &device->held[i].request);
	}
	device->num_held = 0;
}

static uint64_t get_features(void *cookie)
{
	(void)cookie;
	return ECHO_FEATURES;
}

static void set_features(void *cookie, uint64_t features)
{
	struct echo_device *device = cookie;

	device->features = features;
}

static int read_config(void *cookie, uint32_t offset, void *data, uint32_t size)
{
	const struct echo_device *device = cookie;

	if (offset > ECHO_CONFIG_SIZE || size > ECHO_CONFIG_SIZE - offset) {
		return -EINVAL;
	}
	memcpy(data, device->config + offset, size);
	return 0;
}

static int write_config(void *cookie, uint32_t offset, const void *data, uint32_t size)
{
	struct echo_device *device = cookie;

	if (offset > ECHO_CONFIG_SIZE / 2 || size > ECHO_CONFIG_SIZE / 2 - offset) {
		return -EINVAL;
	}
	memcpy(device->config + offset, data, size);
	return 0;
}

static void set_memory(void *cookie, struct guest_memory *memory)
{
	struct echo_device *device = cookie;

	device->memory = memory;
}

static void handle(void *cookie, uint32_t queue, const struct virtqueue_request *request)
{
	struct echo_device *device = cookie;

	device->handled++;
	if (device->slow_ms > 0) {
		poll(NULL, 0, (int)device->slow_ms);
	}
	if (!device->hold) {
		echo(device, queue, request);
		return;
	}
	device->held[device->num_held].queue = queue;
	device->held[device->num_held].request = *request;
	device->num_held++;
}

static void sleeps(void *cookie)
{
	struct echo_device *device = cookie;

	device->num_sleeps++;
	if (device->meanwhile) {
		device->meanwhile(device);
	}
}

static void wakes(void *cookie)
{
	struct echo_device *device = cookie;

	device->num_wakes++;
}

static void drain(void *cookie)
{
	struct echo_device *device = cookie;

	device->drains++;
	echo_device_release(device);
}

static void reset(void *cookie)
{
	struct echo_device *device = cookie;

	device->resets++;
	echo_device_release(device);
}

static int set_gpu_socket_take(void *cookie, int socket_fd)
{
	struct echo_device *device = cookie;

	if (device->gpu_socket_fd >= 0) {
		close(device->gpu_socket_fd);
	}
	device->gpu_socket_fd = socket_fd;
	return 0;
}

static int get_shared_object(void *cookie, const uint8_t *uuid)
{
	const struct echo_device *device = cookie;

	(void)uuid;
	return device->shared_fd > 0 ? dup(device->shared_fd) : -ENOENT;
}

static uint64_t shmem_size(void *cookie, uint8_t region)
{
	const struct echo_device *device = cookie;

	return device->has_shmem && region == ECHO_SHMEM ? ECHO_SHMEM_SIZE : 0;
}

static void shmem_done(void *cookie, int status)
{
	struct echo_device *device = cookie;

	device->num_done++;
	device->last_done = status;
}

static void log_message(void *cookie, enum vgf_log_level level, const char *message)
{
	struct echo_device *device = cookie;

	if (level == VGF_LOG_DEBUG) {
		return;
	}
	if (device->warnings++ == 0) {
		snprintf(device->first_log, sizeof(device->first_log), "%s", message);
	}
	if (strstr(message, " more messages") != NULL) {
		device->tellings++;
		device->told_dropped += (unsigned int)strtoul(message, NULL, 10);
	}
	snprintf(device->last_log, sizeof(device->last_log), "%s", message);
}

void echo_device_init(struct echo_device *device, const char *path)
{
	static const struct vhost_user_device_ops ops = {
		.get_features = get_features,
		.set_features = set_features,
		.read_config = read_config,
		.write_config = write_config,
		.set_memory = set_memory,
		.handle = handle,
		.sleeps = sleeps,
		.wakes = wakes,
		.drain = drain,
		.reset = reset,
		.set_gpu_socket_take = set_gpu_socket_take,
		.get_shared_object = get_shared_object,
		.shmem_size = shmem_size,
		.shmem_done = shmem_done,
		.log = log_message,
	};
	int ret;

	memset(device, 0, sizeof(*device));
	device->gpu_socket_fd = -1;
	ret = vhost_user_create(path, ECHO_QUEUES, &ops, device, &device->server);
	if (ret < 0) {
		fprintf(stderr, "vhost_user_create: %s\n", strerror(-ret));
		abort();
	}
}

void echo_device_finish(struct echo_device *device)
{
	vhost_user_destroy(device->server);
	if (device->gpu_socket_fd >= 0) {
		close(device->gpu_socket_fd);
	}
}

void echo_device_run(void *arg)
{
	struct echo_device *device = arg;

	for (int i = 0; i < MAX_ROUNDS; i++) {
		if (vhost_user_dispatch(device->server, 0) < 0) {
			abort();
		}
	}
}
