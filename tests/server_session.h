/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SERVER_SESSION_H
#define SERVER_SESSION_H

/* A guest of the virtio-gpu device behind its socket: what the programs about the server share. */

#include <linux/virtio_gpu.h>

#include "front_end.h"
#include "server.h"

/* Of a millisecond: only so that a test ends if something is lost. */
#define LOST_ROUNDS 20000

extern struct gpu_server *server; /* made by the test */
extern struct front_end front_end;

/* For the options: prints with VGF_TEST_LOG. */
void log_to_test(void *cookie, enum vgf_log_level level, const char *message);

/* The server does what there is to do; also for front_end_init. */
void run(void *arg);

struct virtio_gpu_ctrl_hdr header(uint32_t type);

/* Sends a request, which is the only one in flight, and waits. Returns the response, which the next
 * one may write over; *written: its size. */
const void *send_and_wait(
	uint32_t queue, const void *request, uint32_t size, uint32_t room, uint32_t *written);

/* Gives the device one end of a display's socket. Returns the other one, which does not block. */
int set_display(void);

#endif
