/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "server_session.h"

#include <endian.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

#define ROUNDS 20

struct gpu_server *server;
struct front_end front_end;

void log_to_test(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	(void)level;
	if (getenv("VGF_TEST_LOG")) {
		print_message("log: %s\n", message);
	}
}

void run(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(gpu_server_dispatch(server, 0), 0);
	}
}

struct virtio_gpu_ctrl_hdr header(uint32_t type)
{
	return (struct virtio_gpu_ctrl_hdr){ .type = htole32(type) };
}

const void *send_and_wait(
	uint32_t queue, const void *request, uint32_t size, uint32_t room, uint32_t *written)
{
	const uint64_t free_before = front_end.next_free;
	const void *response = front_end_request(&front_end, queue, 0, request, size, room);
	uint32_t head;

	front_end_kick(&front_end.queues[queue]);
	for (int i = 0; !front_end_used(&front_end.queues[queue], &head, written); i++) {
		assert_true(i < LOST_ROUNDS);
		assert_int_equal(gpu_server_dispatch(server, 1), 0);
	}
	front_end.next_free = free_before;
	return response;
}

int set_display(void)
{
	int sockets[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets), 0);
	assert_int_equal(
		front_end_call(&front_end, VHOST_USER_GPU_SET_SOCKET, NULL, 0, &sockets[1], 1), 0);
	close(sockets[1]);
	return sockets[0];
}
