/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What a guest waits for an answer that needs no OpenGL, while a context draws. With a real
 * renderer, and the device in a thread of its own, as it would be in a process.
 *
 * VGF_TEST_ROUNDS: how many heavy jobs (default 1); the median and the 99th percentile are for the
 * reader, and what is checked is the order.
 */

#include "support.h"

#include <endian.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "gl_stream.h"
#include "renderer.h"
#include "server_session.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define CONTROL 0
#define CONTEXT 1

#define SIDE 2048 /* of what is drawn to */
#define SMALL 64  /* of what is drawn */
#define DRAWS 24
#define TEXTURE_2D 2
#define BIND_TARGET_AND_VIEW ((1 << 1) | (1 << 3))

#define MAX_ANSWERS 100000

static char directory[] = "/tmp/vgfence-aside-virgl-XXXXXX";
static char path[sizeof(directory) + 8];

/* ---- The device --------------------------------------------------------------------------- */

static pthread_t device;
static atomic_bool is_ready, ends;
static bool has_gl;

static void *run_device(void *arg)
{
	const struct gpu_server_options options = {
		.socket_path = path,
		.drain_ms = 20000,
		.end_fd = -1,
		.has_gl = has_gl,
		.gpu = {
			.num_scanouts = 1,
			.width = 640,
			.height = 480,
			.fence_passing_bit = -1,
		},
		.log = log_to_test,
	};

	(void)arg;
	assert_int_equal(gpu_server_create(&options, renderer_virgl_create, &server), 0);
	atomic_store(&is_ready, true);
	while (!atomic_load(&ends)) {
		assert_int_equal(gpu_server_dispatch(server, 10), 0);
	}
	gpu_server_destroy(server);
	return NULL;
}

static void begin_with(bool aside)
{
	has_gl = aside;
	atomic_store(&is_ready, false);
	atomic_store(&ends, false);
	assert_int_equal(pthread_create(&device, NULL, run_device, NULL), 0);
	for (int i = 0; !atomic_load(&is_ready); i++) {
		assert_true(i < LOST_ROUNDS);
		usleep(1000);
	}
	front_end_init(&front_end, path, NULL, NULL);
	front_end_start(&front_end);
}

static void end(void)
{
	front_end_finish(&front_end);
	atomic_store(&ends, true);
	pthread_join(device, NULL);
}

/* ---- The guest ---------------------------------------------------------------------------- */

static const struct virtio_gpu_ctrl_hdr *responses[16]; /* by descriptor */
static bool answered[16];

static void ask(uint16_t head, const void *request, uint32_t size)
{
	answered[head] = false;
	responses[head] = front_end_request(&front_end, CONTROL, head, request, size, 2048);
	front_end_kick(&front_end.queues[CONTROL]);
}

static void look(void)
{
	uint32_t head, written;

	while (front_end_used(&front_end.queues[CONTROL], &head, &written)) {
		answered[head] = true;
	}
}

/* Returns the type of the answer. At first it does not sleep: that would be measured. */
static uint32_t wait_for(uint16_t head)
{
	const uint64_t start_ns = now_ns();

	while (look(), !answered[head]) {
		uint64_t waited_ns = now_ns() - start_ns;

		assert_true(waited_ns < UINT64_C(60) * 1000000000);
		if (waited_ns > 2 * NS_PER_MS) {
			usleep(100);
		}
	}
	return le32toh(responses[head]->type);
}

static uint32_t call(const void *request, uint32_t size)
{
	ask(0, request, size);
	return wait_for(0);
}

static void make_context(void)
{
	const struct virtio_gpu_ctx_create request = {
		.hdr = { .type = htole32(VIRTIO_GPU_CMD_CTX_CREATE), .ctx_id = htole32(CONTEXT) },
		.context_init = htole32(VIRTIO_GPU_CAPSET_VIRGL2),
	};

	assert_int_equal(call(&request, sizeof(request)), OK);
}

static void make_texture(uint32_t resource_id, uint32_t side)
{
	const struct virtio_gpu_resource_create_3d create = {
		.hdr = { .type = htole32(VIRTIO_GPU_CMD_RESOURCE_CREATE_3D) },
		.resource_id = htole32(resource_id),
		.target = htole32(TEXTURE_2D),
		.format = htole32(GL_STREAM_FORMAT),
		.bind = htole32(BIND_TARGET_AND_VIEW),
		.width = htole32(side),
		.height = htole32(side),
		.depth = htole32(1),
		.array_size = htole32(1),
	};
	const struct virtio_gpu_ctx_resource attach = {
		.hdr = { .type = htole32(VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE),
			.ctx_id = htole32(CONTEXT) },
		.resource_id = htole32(resource_id),
	};

	assert_int_equal(call(&create, sizeof(create)), OK);
	assert_int_equal(call(&attach, sizeof(attach)), OK);
}

static void attach_memory(uint32_t resource_id, uint32_t size)
{
	const struct {
		struct virtio_gpu_resource_attach_backing request;
		struct virtio_gpu_mem_entry entry;
	} attach = {
		.request = { .hdr = { .type = htole32(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING) },
			.resource_id = htole32(resource_id),
			.nr_entries = htole32(1) },
		.entry = { .addr = htole64(front_end_alloc(&front_end, size)),
			.length = htole32(size) },
	};

	assert_int_equal(call(&attach, sizeof(attach)), OK);
}

/* Draws, and reads a pixel of what was drawn: that is answered when all of it is done. */
static void draw(uint16_t head)
{
	const struct gl_stream_rect all = { 0, 0, SIDE, SIDE };
	struct {
		struct virtio_gpu_cmd_submit request;
		uint32_t words[GL_STREAM_MAX];
	} submit = { .request.hdr = { .type = htole32(VIRTIO_GPU_CMD_SUBMIT_3D),
			     .ctx_id = htole32(CONTEXT) } };
	const struct virtio_gpu_transfer_host_3d transfer = {
		.hdr = { .type = htole32(VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D),
			.ctx_id = htole32(CONTEXT) },
		.box = { .w = htole32(1), .h = htole32(1), .d = htole32(1) },
		.resource_id = htole32(1),
		.stride = htole32(SIDE * 4),
	};
	struct gl_stream stream;
	uint32_t size;

	gl_stream_begin(&stream);
	for (int i = 0; i < DRAWS; i++) {
		gl_stream_draw(&stream, 1, &all, 2, SMALL, SMALL);
	}
	size = (uint32_t)(stream.count * sizeof(uint32_t));
	memcpy(submit.words, stream.words, size);
	submit.request.size = htole32(size);
	ask(head, &submit, (uint32_t)sizeof(submit.request) + size);
	ask((uint16_t)(head + 2), &transfer, sizeof(transfer));
}

/* ---- What it waits ------------------------------------------------------------------------ */

static uint64_t waits_ns[MAX_ANSWERS];
static size_t num_waits;

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static unsigned int num_rounds(void)
{
	const char *text = getenv("VGF_TEST_ROUNDS");

	return text ? (unsigned int)strtoul(text, NULL, 10) : 1;
}

/* Returns how many questions were answered before the drawing was done. */
static size_t ask_while_it_draws(void)
{
	const struct {
		struct virtio_gpu_ctrl_hdr header;
		uint32_t scanout, padding;
	} question = { .header.type = htole32(VIRTIO_GPU_CMD_GET_EDID) };
	const size_t before = num_waits;
	const uint64_t free_before = front_end.next_free;

	draw(8);
	while (!answered[10] && num_waits < MAX_ANSWERS) {
		const uint64_t free_now = front_end.next_free;
		const uint64_t start_ns = now_ns();

		ask(0, &question, sizeof(question));
		assert_int_equal(wait_for(0), VIRTIO_GPU_RESP_OK_EDID);
		front_end.next_free = free_now;
		if (!answered[10]) {
			waits_ns[num_waits++] = now_ns() - start_ns;
		}
		usleep(1000);
		look();
	}
	assert_int_equal(wait_for(8), OK);
	assert_int_equal(wait_for(10), OK);
	front_end.next_free = free_before;
	return num_waits - before;
}

static size_t ask_in_all_rounds(void)
{
	size_t count = 0;

	num_waits = 0;
	make_context();
	make_texture(1, SIDE);
	make_texture(2, SMALL);
	attach_memory(1, 4096);
	for (unsigned int i = 0; i < num_rounds(); i++) {
		count += ask_while_it_draws();
	}
	return count;
}

TEST_BETWEEN(it_is_answered_while_a_context_draws, begin_with(true), end())
{
	assert_true(ask_in_all_rounds() > 0);
	qsort(waits_ns, num_waits, sizeof(waits_ns[0]), compare);
	print_message("ran: %zu questions beside OpenGL, answered after %.0f us, p99 %.0f us\n",
		num_waits, (double)waits_ns[num_waits / 2] / 1000,
		(double)waits_ns[num_waits * 99 / 100] / 1000);
}

TEST_BETWEEN(without_the_second_thread_it_is_answered_when_that_is_done, begin_with(false), end())
{
	assert_int_equal(ask_in_all_rounds(), 0);
}

int main(int argc, char *argv[])
{
	int failed;

	(void)argc;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	failed = run_registered_tests(argv);
	assert_int_equal(rmdir(directory), 0);
	return failed;
}
