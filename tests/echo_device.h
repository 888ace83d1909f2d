/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef ECHO_DEVICE_H
#define ECHO_DEVICE_H

/*
 * The simplest device behind vhost-user: writes what it reads. It can be told to hold requests
 * back.
 */

#include <stdbool.h>
#include <stdint.h>

#include "vhost_user.h"

#define ECHO_QUEUES 2
#define ECHO_FEATURES 0x28 /* any two bits */
#define ECHO_CONFIG_SIZE 24
#define ECHO_SHMEM 2 /* the ID of the only region */
#define ECHO_SHMEM_SIZE 0x10000

struct echo_device {
	struct vhost_user *server;
	bool hold;            /* requests that come from now on */
	unsigned int slow_ms; /* how long each takes at least */
	/* What another thread does each time that the loop sleeps; or NULL. */
	void (*meanwhile)(struct echo_device *device);
	unsigned int num_sleeps, num_wakes;
	struct {
		uint32_t queue;
		struct virtqueue_request request;
	} held[ECHO_QUEUES * VIRTQUEUE_MAX_SIZE];
	unsigned int num_held;
	unsigned int handled, drains, resets, warnings;
	uint64_t features;
	uint8_t config[ECHO_CONFIG_SIZE]; /* the first half can be written */
	struct guest_memory *memory;
	int gpu_socket_fd; /* below 0: there is none */
	bool has_shmem;
	int shared_fd;         /* the file of each of them; 0: there is none */
	unsigned int num_done; /* what was asked of the front end and is answered */
	int last_done;         /* the status of the last one */
	/* Of these, messages about how many more there were, and how many these told of. */
	unsigned int tellings, told_dropped;
	char first_log[256], last_log[256];
};

/* Listens at a path. Ends the program if that fails. */
void echo_device_init(struct echo_device *device, const char *path);
void echo_device_finish(struct echo_device *device);

/* Dispatches until there is nothing left to do. arg: the device. */
void echo_device_run(void *arg);

/* Answers what was held back. The guest sees it at the end of the next round. */
void echo_device_release(struct echo_device *device);

#endif
