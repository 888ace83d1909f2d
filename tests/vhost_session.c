/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "vhost_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char directory[] = "/tmp/vgfence-vhost-user-XXXXXX";
char path[sizeof(directory) + 8];

struct echo_device device;
struct front_end front_end;
struct front_end_queue *const queue = &front_end.queues[0];

void begin_unconnected(void)
{
	echo_device_init(&device, path);
}

void begin_connected(void)
{
	begin_unconnected();
	front_end_init(&front_end, path, echo_device_run, &device);
}

void begin_negotiated(void)
{
	begin_connected();
	front_end_negotiate(&front_end, UINT64_MAX);
}

void begin_started(void)
{
	begin_connected();
	front_end_start(&front_end);
}

void finish(void)
{
	front_end_finish(&front_end);
	assert_false(vhost_user_is_connected(device.server));
	assert_null(device.memory);
	assert_int_equal(device.num_held, 0);
	echo_device_finish(&device);
}

void run(void)
{
	echo_device_run(&device);
}

void assert_used(struct front_end_queue *of, uint32_t head, uint32_t written)
{
	uint32_t used_head, used_written;

	assert_true(front_end_used(of, &used_head, &used_written));
	assert_int_equal(used_head, head);
	assert_int_equal(used_written, written);
}

void assert_not_used(struct front_end_queue *of)
{
	uint32_t head, written;

	assert_false(front_end_used(of, &head, &written));
}

void assert_echo(uint32_t index)
{
	struct front_end_queue *of = &front_end.queues[index];
	const char *answer;

	device.hold = false;
	answer = front_end_request(&front_end, index, 0, "hello", 5, 64);
	front_end_kick(of);
	run();
	assert_used(of, 0, 5);
	assert_memory_equal(answer, "hello", 5);
}

void assert_next_front_end_is_served(void)
{
	front_end_disconnect(&front_end);
	front_end_connect(&front_end, path);
	front_end.next_free = FRONT_END_NEAR;
	front_end_start(&front_end);
	assert_echo(0);
	assert_echo(1);
}

int main(int argc, char *argv[])
{
	int failed;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	failed = run_registered_tests(argv);
	assert_int_equal(rmdir(directory), 0);
	return failed;
}
