/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * GPU addresses of the software GPU behind the virtio-gpu device: bind, work, unbind, in an order
 * that fence IDs alone make. Each wait has its control: without it there is a fault, or the content
 * is another one. No test depends on time: what is to wait, waits for a fence that the test
 * signals, be it that the host holds the work back or that the GPU does.
 */

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gpu_guest.h"
#include "gpu_private.h"
#include "guest_limits.h"
#include "renderer.h"
#include "soft_gpu.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define FAULT VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER
#define REFUSED VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER
#define UNUSABLE VIRTIO_GPU_RESP_ERR_UNSPEC
#define FULL VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY

#define PAGE SOFT_GPU_PAGE

/* Resources of the guest's memory, four pages each, which contexts 1 and 2 have. */
#define FIRST 7
#define SECOND 8
#define FIRST_OFFSET 0u
#define SECOND_OFFSET (4 * PAGE)

/* GPU addresses. */
#define DATA 0x100000u
#define NOWHERE 0x80000000u
#define LAST_PAGE 0xfffff000u

static struct guest guest;
static uint64_t last_fence;

static void start(void)
{
	guest_start(&guest, NULL);
	last_fence = 1000;
	assert_int_equal(create_blob(&guest, FIRST, FIRST_OFFSET, 4 * PAGE), OK);
	assert_int_equal(create_blob(&guest, SECOND, SECOND_OFFSET, 4 * PAGE), OK);
	for (uint32_t ctx_id = 1; ctx_id <= 2; ctx_id++) {
		assert_int_equal(create_context(&guest, ctx_id), OK);
		assert_int_equal(attach_context(&guest, ctx_id, FIRST), OK);
		assert_int_equal(attach_context(&guest, ctx_id, SECOND), OK);
	}
}

#define TEST_GUEST(name) TEST_BETWEEN(name, start(), guest_stop(&guest))

/* ---- Command streams ------------------------------------------------------------------------ */

#define MAP(resource, offset, address, size)                                                       \
	SOFT_GPU_RESOURCE, resource, SOFT_GPU_OFFSET, offset, SOFT_GPU_ADDRESS, address,           \
		SOFT_GPU_MAP, size
#define MAP_NULL(address, size) SOFT_GPU_ADDRESS, address, SOFT_GPU_MAP_NULL, size
#define UNMAP(address, size) SOFT_GPU_ADDRESS, address, SOFT_GPU_UNMAP, size
#define FILL(address, size, value)                                                                 \
	SOFT_GPU_ADDRESS, address, SOFT_GPU_VALUE, value, SOFT_GPU_FILL, size
#define COPY(to, from, size) SOFT_GPU_ADDRESS, to, SOFT_GPU_SOURCE, from, SOFT_GPU_COPY, size
#define ADD(address, size, value)                                                                  \
	SOFT_GPU_ADDRESS, address, SOFT_GPU_VALUE, value, SOFT_GPU_ADD, size

#define WORDS(...)                                                                                 \
	.words = (const uint32_t[]){ __VA_ARGS__ },                                                \
	.num_words = sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t)
#define AFTER(...)                                                                                 \
	.num_in_fences = sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t),             \
	.in_fences = { __VA_ARGS__ }

/* Submits, on a ring of a context, and does not wait. Returns the token. */
#define SUBMIT(context, on_ring, id, ...)                                                          \
	submit(&guest,                                                                             \
		&(const struct job){                                                               \
			.ctx_id = (context), .ring = (on_ring), .fence_id = (id), __VA_ARGS__ })

static uint32_t wait_type(uint32_t token)
{
	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type;
}

static bool is_done(uint32_t token)
{
	gpu_dispatch(guest.gpu);
	return guest.responses[GPU_QUEUE_CONTROL][token].done;
}

/* Submits to ring 0, waits, and returns how it ended. */
#define RUN(context, ...) wait_type(SUBMIT(context, 0, ++last_fence, WORDS(__VA_ARGS__)))

/* A word of the first resource, and of the second. */
static uint32_t first(uint32_t offset)
{
	return read_memory(&guest, FIRST_OFFSET + offset);
}

static uint32_t second(uint32_t offset)
{
	return read_memory(&guest, SECOND_OFFSET + offset);
}

/* ---- A gate --------------------------------------------------------------------------------- */

/* A fence that opens when the test says so. Work behind it is held back by the host, if the fence
 * has no descriptor, or else waits on the GPU. */
struct gate {
	bool on_gpu;
	int fd;
	uint32_t token;
};

#define GATE 1 /* its ID */

static void close_gate(struct gate *gate, bool on_gpu)
{
	gate->on_gpu = on_gpu;
	gate->fd = on_gpu ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : 0;
	assert_true(gate->fd >= 0);
	guest.held_fd = gate->fd;
	gate->token = guest_hold(&guest, 0, VGF_RING_GLOBAL, GATE);
	guest.held_fd = 0;
}

static void open_gate(struct gate *gate)
{
	if (gate->on_gpu) {
		assert_int_equal(eventfd_write(gate->fd, 1), 0);
		close(gate->fd);
	} else {
		guest_signal(&guest, gate->token);
	}
}

static void between_gate(void (*test)(struct gate *gate))
{
	for (int on_gpu = 0; on_gpu < 2; on_gpu++) {
		struct gpu_stats stats;
		struct gate gate;

		start();
		close_gate(&gate, on_gpu);
		test(&gate);
		gpu_get_stats(guest.gpu, &stats);
		assert_true(!on_gpu || stats.fences.run_host == 0);
		guest_stop(&guest);
	}
}

/* Twice: with the work behind the gate on the host, and on the GPU. */
#define TEST_GATE(name)                                                                            \
	static void name##_gated(struct gate *gate);                                               \
	TEST(name)                                                                                 \
	{                                                                                          \
		between_gate(name##_gated);                                                        \
	}                                                                                          \
	static void name##_gated(struct gate *gate)

/* ---- Operations ----------------------------------------------------------------------------- */

TEST_GUEST(a_mapping_is_memory_of_the_blob)
{
	assert_int_equal(RUN(1, MAP(FIRST, PAGE, DATA, 2 * PAGE)), OK);
	assert_int_equal(RUN(1, FILL(DATA, 8, 5), ADD(DATA + 4, 4, 2), COPY(DATA + PAGE, DATA, 8),
				 FILL(DATA + 2 * PAGE - 4, 4, 9)),
		OK);
	assert_int_equal(first(PAGE), 5);
	assert_int_equal(first(PAGE + 4), 7);
	assert_int_equal(first(PAGE + 8), 0);
	assert_int_equal(first(2 * PAGE), 5);
	assert_int_equal(first(2 * PAGE + 4), 7);
	assert_int_equal(first(3 * PAGE - 4), 9);
	assert_int_equal(first(0), 0);
	assert_int_equal(first(3 * PAGE), 0);
}

TEST_GUEST(work_goes_over_the_borders_of_mappings)
{
	assert_int_equal(RUN(1, MAP(FIRST, PAGE, DATA, PAGE), MAP(FIRST, 0, DATA + PAGE, PAGE),
				 MAP(SECOND, 0, NOWHERE, 4 * PAGE)),
		OK);
	assert_int_equal(RUN(1, FILL(DATA, 2 * PAGE, 100), ADD(DATA + PAGE - 4, 8, 1),
				 COPY(NOWHERE + 8, DATA + 4, 2 * PAGE - 8)),
		OK);
	assert_int_equal(first(2 * PAGE - 4), 101); /* the end of the page that is first */
	assert_int_equal(first(0), 101);
	assert_int_equal(first(PAGE - 4), 100);
	assert_int_equal(second(4), 0);
	assert_int_equal(second(8), 100);
	assert_int_equal(second(PAGE), 101);
	assert_int_equal(second(PAGE + 4), 101);
	assert_int_equal(second(2 * PAGE - 4), 100);
	assert_int_equal(second(2 * PAGE), 0);
}

TEST_GUEST(a_null_mapping_reads_zero_and_keeps_nothing)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE), MAP_NULL(NOWHERE, 16 * PAGE)), OK);
	assert_int_equal(RUN(1, FILL(DATA, 12, 5), FILL(NOWHERE + PAGE, 4, 7),
				 COPY(DATA, NOWHERE + PAGE, 4), COPY(DATA + 4, NOWHERE, 4)),
		OK);
	assert_int_equal(first(0), 0);
	assert_int_equal(first(4), 0);
	assert_int_equal(first(8), 5);
}

TEST_GUEST(control_without_the_null_mapping_it_is_a_fault)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, COPY(DATA, NOWHERE + PAGE, 4)), FAULT);
}

TEST_GUEST(what_is_unmapped_is_a_fault)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, 3 * PAGE)), OK);
	assert_int_equal(RUN(1, UNMAP(DATA + PAGE, PAGE)), OK);
	assert_int_equal(RUN(1, FILL(DATA, PAGE, 1), FILL(DATA + 2 * PAGE, PAGE, 3)), OK);
	assert_int_equal(RUN(1, FILL(DATA + PAGE, 4, 2)), FAULT);
	assert_int_equal(first(PAGE - 4), 1);
	assert_int_equal(first(PAGE), 0);
	assert_int_equal(first(2 * PAGE), 3);
}

/* Sparse: all of a range is null, then pages within, then one of those goes. */
TEST_GUEST(operations_of_a_batch_are_done_in_their_order)
{
	assert_int_equal(RUN(1, MAP_NULL(DATA, 16 * PAGE), MAP(FIRST, 0, DATA + 2 * PAGE, 3 * PAGE),
				 MAP(FIRST, 0, DATA + 3 * PAGE, PAGE), UNMAP(DATA + 4 * PAGE, PAGE),
				 MAP(SECOND, 0, NOWHERE, PAGE)),
		OK);
	assert_int_equal(RUN(1, FILL(DATA + PAGE, PAGE, 1), FILL(DATA + 2 * PAGE, 4, 2),
				 ADD(DATA + 3 * PAGE, 4, 3), FILL(DATA + 5 * PAGE, 4, 4),
				 COPY(NOWHERE, DATA + 2 * PAGE - 4, 8)),
		OK);
	assert_int_equal(first(0), 5);
	assert_int_equal(first(PAGE), 0);
	assert_int_equal(second(0), 0);
	assert_int_equal(second(4), 5);
	assert_int_equal(RUN(1, FILL(DATA + 4 * PAGE, 4, 9)), FAULT);
}

TEST_GUEST(a_mapping_goes_up_to_the_last_address)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, LAST_PAGE, PAGE)), OK);
	assert_int_equal(RUN(1, FILL(LAST_PAGE, PAGE, 6)), OK);
	assert_int_equal(first(PAGE - 4), 6);
}

TEST_GUEST(binds_need_no_fence_for_work_behind_them_on_their_ring)
{
	SUBMIT(1, 0, 0, WORDS(MAP(FIRST, 0, DATA, PAGE)));
	SUBMIT(1, 0, 0, WORDS(FILL(DATA, 4, 1)));
	SUBMIT(1, 0, 0, WORDS(MAP(SECOND, 0, DATA, PAGE)));
	assert_int_equal(RUN(1, FILL(DATA, 4, 2)), OK);
	assert_int_equal(first(0), 1);
	assert_int_equal(second(0), 2);
}

TEST_GUEST(contexts_have_addresses_of_their_own)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(2, MAP(SECOND, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, FILL(DATA, 4, 1)), OK);
	assert_int_equal(RUN(2, FILL(DATA, 4, 2)), OK);
	assert_int_equal(first(0), 1);
	assert_int_equal(second(0), 2);
}

/* ---- What is refused ------------------------------------------------------------------------ */

/* Of a batch that has a good operation in front of a bad one, none is done. */
TEST_GUEST(a_batch_is_refused_as_a_whole)
{
	assert_int_equal(create_2d(&guest, 20, 32, 32), OK);
	assert_int_equal(attach_context(&guest, 1, 20), OK);
	assert_int_equal(create_blob(&guest, 21, 0, PAGE), OK); /* not attached */
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, UNMAP(DATA, PAGE), MAP(99, 0, NOWHERE, PAGE)), REFUSED);
	assert_int_equal(RUN(1, UNMAP(DATA, PAGE), MAP(20, 0, NOWHERE, PAGE)), REFUSED);
	assert_int_equal(RUN(1, UNMAP(DATA, PAGE), MAP(21, 0, NOWHERE, PAGE)), REFUSED);
	assert_int_equal(RUN(1, UNMAP(DATA, PAGE), MAP(FIRST, PAGE, NOWHERE, 4 * PAGE)), REFUSED);
	assert_int_equal(RUN(1, UNMAP(DATA, PAGE), MAP(FIRST, 5 * PAGE, NOWHERE, PAGE)), REFUSED);
	assert_int_equal(RUN(1, UNMAP(DATA, PAGE), MAP(FIRST, 4, NOWHERE, PAGE)), REFUSED);
	assert_int_equal(RUN(1, UNMAP(DATA, PAGE), FILL(NOWHERE, 4, 1)), REFUSED);
	assert_int_equal(RUN(1, FILL(DATA, 4, 1)), OK); /* the mapping is there */
	assert_int_equal(first(0), 1);
	assert_int_equal(RUN(1, FILL(NOWHERE, 4, 1)), FAULT);
}

TEST_GUEST(a_range_that_is_none_is_refused_and_harms_nothing)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, 4 * PAGE)), OK);
	assert_int_equal(RUN(1, MAP_NULL(DATA + 4, PAGE)), REFUSED);
	assert_int_equal(RUN(1, MAP_NULL(DATA, PAGE + 4)), REFUSED);
	assert_int_equal(RUN(1, MAP_NULL(DATA, 0)), REFUSED);
	assert_int_equal(RUN(1, UNMAP(LAST_PAGE, 2 * PAGE)), REFUSED);
	assert_int_equal(RUN(1, FILL(DATA + 2, 4, 1)), REFUSED);
	assert_int_equal(RUN(1, FILL(DATA, 6, 1)), REFUSED);
	assert_int_equal(RUN(1, ADD(DATA, 0, 1)), REFUSED);
	assert_int_equal(RUN(1, COPY(DATA, 0xfffffffc, 8)), REFUSED);
	assert_int_equal(RUN(1, COPY(DATA, DATA + 4, 8)), REFUSED);
	assert_int_equal(RUN(1, COPY(DATA + 4, DATA, 8)), REFUSED);
	assert_int_equal(RUN(1, COPY(DATA + 8, DATA, 8)), OK);
	assert_int_equal(RUN(1, FILL(DATA, 4, 1)), OK);
}

/* Gives a blob two pieces of memory, of which the first may be no whole pages. */
static uint32_t attach_pieces(uint32_t resource_id, uint32_t first_size)
{
	const struct {
		struct virtio_gpu_resource_attach_backing request;
		struct virtio_gpu_mem_entry entries[2];
	} attach = {
		.request = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, 0),
			.resource_id = htole32(resource_id),
			.nr_entries = htole32(2),
		},
		.entries = {
			{ .addr = htole64(GUEST_ADDR + SECOND_OFFSET),
				.length = htole32(first_size) },
			{ .addr = htole64(GUEST_ADDR + FIRST_OFFSET),
				.length = htole32(2 * PAGE - first_size) },
		},
	};

	return guest_call(&guest, &attach, sizeof(attach));
}

/* A page would be as many pieces as the guest likes, and each takes a job time. */
TEST_GUEST(memory_that_is_no_whole_pages_is_not_mapped)
{
	assert_int_equal(create_empty_blob(&guest, 20, 2 * PAGE), OK);
	assert_int_equal(attach_context(&guest, 1, 20), OK);
	assert_int_equal(attach_pieces(20, PAGE - 4), OK);
	assert_int_equal(RUN(1, MAP(20, 0, DATA, PAGE)), REFUSED);
	assert_int_equal(detach_backing(&guest, 20), OK);
	assert_int_equal(attach_pieces(20, PAGE), OK);
	assert_int_equal(RUN(1, MAP(20, 0, DATA, 2 * PAGE)), OK);
	assert_int_equal(RUN(1, FILL(DATA + PAGE - 4, 8, 5)), OK);
	assert_int_equal(second(PAGE - 4), 5);
	assert_int_equal(first(0), 5);
	/* Nor is it used, if it comes later. */
	assert_int_equal(detach_backing(&guest, 20), OK);
	assert_int_equal(attach_pieces(20, PAGE - 4), OK);
	assert_int_equal(RUN(1, FILL(DATA, 4, 6)), FAULT);
	assert_int_equal(second(0), 0);
}

/* As many operations as may be, and one more; the same with bytes. */
TEST_GUEST(a_submission_has_64_operations_and_64_kib_at_most)
{
	uint32_t words[2 * (2 + SOFT_GPU_MAX_COMMANDS + 1)] = { SOFT_GPU_ADDRESS, DATA,
		SOFT_GPU_VALUE, 1 };
	struct job job = { .ctx_id = 1, .words = words };

	assert_int_equal(RUN(1, MAP_NULL(DATA, 32 * PAGE), MAP(FIRST, 0, DATA, PAGE)), OK);
	for (uint32_t i = 0; i <= SOFT_GPU_MAX_COMMANDS; i++) {
		words[4 + 2 * i] = SOFT_GPU_ADD;
		words[5 + 2 * i] = 4;
	}
	for (uint32_t i = 0; i < 2; i++) {
		job.fence_id = ++last_fence;
		job.num_words = 2 * (2 + SOFT_GPU_MAX_COMMANDS + i);
		assert_int_equal(wait_type(submit(&guest, &job)), i == 0 ? OK : REFUSED);
	}
	assert_int_equal(first(0), SOFT_GPU_MAX_COMMANDS);
	assert_int_equal(RUN(1, FILL(DATA, SOFT_GPU_MAX_BYTES - 4, 1), FILL(DATA, 4, 5)), OK);
	assert_int_equal(RUN(1, FILL(DATA, SOFT_GPU_MAX_BYTES - 4, 1), FILL(DATA, 8, 6)), REFUSED);
	assert_int_equal(first(0), 5);
}

/* Maps every other page, until there is no more room. Returns how many. */
static uint32_t map_all(uint32_t ctx_id)
{
	uint32_t words[4 * SOFT_GPU_MAX_COMMANDS], count = 0, type;

	do {
		for (uint32_t i = 0; i < SOFT_GPU_MAX_COMMANDS; i++) {
			const uint32_t operation[] = { MAP_NULL((count + i) * 2 * PAGE, PAGE) };

			memcpy(words + 4 * i, operation, sizeof(operation));
		}
		type = wait_type(SUBMIT(ctx_id, 0, ++last_fence, .words = words,
			.num_words = 4 * SOFT_GPU_MAX_COMMANDS));
		count += type == OK ? SOFT_GPU_MAX_COMMANDS : 0;
	} while (type == OK);
	assert_int_equal(type, FULL);
	return count;
}

/* The last batch does not fit, as each operation counts twice until it is done. */
#define MOST_MAPPED (MAX_CONTEXT_MAPPINGS - SOFT_GPU_MAX_COMMANDS)

TEST_GUEST(a_context_has_4096_mappings_at_most)
{
	assert_int_equal(map_all(1), MOST_MAPPED);
	assert_int_equal(RUN(1, FILL((MOST_MAPPED - 1) * 2 * PAGE, PAGE, 1)), OK);
	assert_int_equal(RUN(2, MAP_NULL(DATA, PAGE)), OK);
	assert_int_equal(RUN(1, UNMAP(0, NOWHERE)), OK);
	assert_int_equal(map_all(1), MOST_MAPPED);
}

TEST_GUEST(all_contexts_have_65536_mappings_at_most)
{
	uint32_t count = 0;

	for (uint32_t ctx_id = 1; ctx_id <= MAX_MAPPINGS / MOST_MAPPED; ctx_id++) {
		if (ctx_id > 2) {
			assert_int_equal(create_context(&guest, ctx_id), OK);
		}
		count += map_all(ctx_id);
	}
	assert_int_equal(create_context(&guest, 100), OK);
	count += map_all(100);
	assert_in_range(count, MAX_MAPPINGS - 2 * SOFT_GPU_MAX_COMMANDS, MAX_MAPPINGS);
	assert_int_equal(destroy_context(&guest, 1), OK);
	assert_in_range(map_all(100), 1, MOST_MAPPED); /* it has left room */
}

/* ---- Faults --------------------------------------------------------------------------------- */

TEST_GATE(after_a_fault_work_of_that_context_fails_in_its_place)
{
	uint32_t tokens[7];

	for (uint32_t ctx_id = 1; ctx_id <= 2; ctx_id++) {
		assert_int_equal(RUN(ctx_id, MAP(FIRST, 0, DATA, PAGE)), OK);
	}
	tokens[0] = SUBMIT(1, 1, 20, AFTER(GATE),
		WORDS(ADD(DATA, 4, 1), FILL(NOWHERE, 4, 1), ADD(DATA, 4, 1)));
	tokens[1] = SUBMIT(1, 1, 21, WORDS(ADD(DATA, 4, 10)));
	tokens[2] = SUBMIT(1, 2, 22, AFTER(20), WORDS(ADD(DATA, 4, 10)));
	tokens[3] = SUBMIT(1, 3, 23, AFTER(20), WORDS(UNMAP(DATA, PAGE)));
	tokens[4] = SUBMIT(1, 4, 24, AFTER(20), .resource_id = SECOND, .value = 5);
	tokens[5] = SUBMIT(2, 1, 25, AFTER(20), WORDS(ADD(DATA, 4, 100)));
	tokens[6] = SUBMIT(2, 2, 26, AFTER(21, 22, 23, 24), WORDS(ADD(DATA, 4, 1000)));
	assert_false(is_done(tokens[0]));
	open_gate(gate);
	assert_int_equal(wait_type(tokens[0]), FAULT);
	for (uint32_t i = 1; i <= 4; i++) {
		assert_int_equal(wait_type(tokens[i]), UNUSABLE);
	}
	assert_int_equal(wait_type(tokens[5]), OK);
	assert_int_equal(wait_type(tokens[6]), OK);
	assert_int_equal(first(0), 1101);
	assert_int_equal(second(0), 0);
	assert_int_equal(RUN(1, ADD(DATA, 4, 1)), UNUSABLE);
	assert_int_equal(RUN(1, MAP_NULL(NOWHERE, PAGE)), UNUSABLE);
}

TEST_GUEST(a_new_context_with_the_same_id_is_usable)
{
	assert_int_equal(RUN(1, FILL(DATA, 4, 1)), FAULT);
	assert_int_equal(RUN(1, SOFT_GPU_NOTHING, 0), UNUSABLE);
	assert_int_equal(destroy_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(attach_context(&guest, 1, FIRST), OK);
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, FILL(DATA, 4, 1)), OK);
	assert_int_equal(first(0), 1);
}

TEST_GUEST(a_store_that_fails_leaves_the_addresses_usable)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, SOFT_GPU_RESOURCE, 99, SOFT_GPU_STORE, 1, FILL(DATA, 4, 1)), FAULT);
	assert_int_equal(RUN(1, FILL(DATA + 4, 4, 2)), OK);
	assert_int_equal(first(0), 0);
	assert_int_equal(first(4), 2);
}

/* ---- Order ---------------------------------------------------------------------------------- */

/* Binds on ring 0; on other rings of both contexts bind behind the gate, write, read, unbind. */
TEST_GATE(bind_work_unbind_are_ordered_by_fence_ids_alone)
{
	uint32_t tokens[7];

	assert_int_equal(RUN(2, MAP(SECOND, 0, NOWHERE, PAGE)), OK);
	tokens[0] = SUBMIT(1, 0, 20, AFTER(GATE), WORDS(MAP(FIRST, 0, DATA, PAGE)));
	tokens[1] = SUBMIT(2, 0, 21, AFTER(20), WORDS(MAP(FIRST, 0, DATA, PAGE)));
	tokens[2] = SUBMIT(1, 1, 22, AFTER(20), WORDS(FILL(DATA, 4, 7)));
	tokens[3] = SUBMIT(2, 2, 23, AFTER(21, 22), WORDS(COPY(NOWHERE, DATA, 4)));
	tokens[4] = SUBMIT(1, 3, 24, AFTER(23), WORDS(ADD(DATA, 4, 1)));
	tokens[5] = SUBMIT(1, 0, 25, AFTER(24), WORDS(UNMAP(DATA, PAGE)));
	tokens[6] = SUBMIT(2, 0, 26, AFTER(23), WORDS(UNMAP(DATA, PAGE)));
	for (uint32_t i = 0; i < 7; i++) {
		assert_false(is_done(tokens[i]));
	}
	open_gate(gate);
	for (uint32_t i = 0; i < 7; i++) {
		assert_int_equal(wait_type(tokens[i]), OK);
	}
	assert_int_equal(first(0), 8);
	assert_int_equal(second(0), 7);
}

TEST_GATE(control_work_that_does_not_wait_for_its_bind_faults)
{
	uint32_t token = SUBMIT(1, 0, 20, AFTER(GATE), WORDS(MAP(FIRST, 0, DATA, PAGE)));

	assert_int_equal(wait_type(SUBMIT(1, 1, 21, WORDS(FILL(DATA, 4, 7)))), FAULT);
	open_gate(gate);
	assert_int_equal(wait_type(token), UNUSABLE);
	assert_int_equal(first(0), 0);
}

/* Rings 1 and 2 use the page, 2 for longer; ring 3 goes on meanwhile, beside the blocked unbind. */
TEST_GATE(an_unbind_waits_for_the_last_user_while_other_rings_go_on)
{
	uint32_t user, unbind, behind;

	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE), MAP(SECOND, 0, NOWHERE, PAGE)), OK);
	SUBMIT(1, 1, 20, WORDS(ADD(DATA, 4, 1)));
	user = SUBMIT(1, 2, 21, AFTER(GATE), WORDS(ADD(DATA, 4, 2)));
	unbind = SUBMIT(1, 0, 22, AFTER(20, 21), WORDS(UNMAP(DATA, PAGE)));
	behind = SUBMIT(1, 0, 23, WORDS(MAP_NULL(DATA + PAGE, PAGE))); /* the bind ring's order */
	for (uint64_t id = 30; id < 40; id++) {
		assert_int_equal(
			wait_type(SUBMIT(1, 3, id, AFTER(20), WORDS(ADD(NOWHERE, 4, 1)))), OK);
	}
	assert_false(is_done(user));
	assert_false(is_done(unbind));
	assert_false(is_done(behind));
	assert_int_equal(second(0), 10);
	open_gate(gate);
	assert_int_equal(wait_type(unbind), OK);
	assert_int_equal(wait_type(behind), OK);
	assert_int_equal(first(0), 3);
}

TEST_GATE(control_an_unbind_that_does_not_wait_takes_the_page_from_its_user)
{
	uint32_t user;

	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	user = SUBMIT(1, 2, 20, AFTER(GATE), WORDS(ADD(DATA, 4, 2)));
	assert_int_equal(wait_type(SUBMIT(1, 0, 21, WORDS(UNMAP(DATA, PAGE)))), OK);
	open_gate(gate);
	assert_int_equal(wait_type(user), FAULT);
	assert_int_equal(first(0), 0);
}

/* The second bind puts another page there, for work that comes later. Returns both users. */
static void rebind(bool waits, uint32_t users[2])
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, 2 * PAGE), MAP(SECOND, 0, NOWHERE, PAGE)), OK);
	assert_int_equal(RUN(1, FILL(DATA, 4, 1), FILL(DATA + PAGE, 4, 2)), OK);
	users[0] = SUBMIT(1, 1, 20, AFTER(GATE), WORDS(COPY(NOWHERE, DATA, 4)));
	SUBMIT(1, 0, 21, .num_in_fences = waits, .in_fences = { 20 },
		WORDS(MAP(FIRST, PAGE, DATA, PAGE)));
	users[1] = SUBMIT(1, 2, 22, AFTER(21), WORDS(COPY(NOWHERE + 4, DATA, 4)));
}

TEST_GATE(a_bind_in_place_of_another_waits_for_the_users_of_that)
{
	uint32_t users[2];

	rebind(true, users);
	assert_false(is_done(users[1]));
	open_gate(gate);
	assert_int_equal(wait_type(users[0]), OK);
	assert_int_equal(wait_type(users[1]), OK);
	assert_int_equal(second(0), 1);
	assert_int_equal(second(4), 2);
}

TEST_GATE(control_a_bind_that_does_not_wait_shows_its_page_to_earlier_work)
{
	uint32_t users[2];

	rebind(false, users);
	assert_int_equal(wait_type(users[1]), OK);
	open_gate(gate);
	assert_int_equal(wait_type(users[0]), OK);
	assert_int_equal(second(0), 2);
	assert_int_equal(second(4), 2);
}

/* Of the consumer's context alone the bind is there; the producer's work is what it waits for. */
static void read_other(struct gate *gate, bool waits, uint32_t value)
{
	uint32_t producer, consumer;

	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(2, MAP(FIRST, 0, DATA, PAGE), MAP(SECOND, 0, NOWHERE, PAGE)), OK);
	producer = SUBMIT(1, 1, 20, AFTER(GATE), WORDS(FILL(DATA, 4, 7)));
	consumer = SUBMIT(2, 1, 21, .num_in_fences = waits, .in_fences = { 20 },
		WORDS(COPY(NOWHERE, DATA, 4), ADD(NOWHERE, 4, 1)));
	assert_int_equal(waits ? is_done(consumer) : wait_type(consumer), waits ? 0 : OK);
	open_gate(gate);
	assert_int_equal(wait_type(producer), OK);
	assert_int_equal(wait_type(consumer), OK);
	assert_int_equal(second(0), value);
}

TEST_GATE(work_reads_what_another_context_wrote_before_its_fence)
{
	read_other(gate, true, 8);
}

TEST_GATE(control_work_that_does_not_wait_reads_what_was_there)
{
	read_other(gate, false, 1);
}

/* What waits for a batch that is refused runs, as for any fence with an error. */
TEST_GATE(work_behind_a_bind_that_is_refused_runs)
{
	uint32_t bad = SUBMIT(1, 0, 20, AFTER(GATE), WORDS(MAP(99, 0, DATA, PAGE)));
	uint32_t own = SUBMIT(1, 1, 21, AFTER(20), WORDS(FILL(DATA, 4, 1)));
	uint32_t other;

	assert_int_equal(RUN(2, MAP(FIRST, 0, DATA, PAGE)), OK);
	other = SUBMIT(2, 1, 22, AFTER(20), WORDS(FILL(DATA, 4, 2)));
	open_gate(gate);
	assert_int_equal(wait_type(bad), REFUSED);
	assert_int_equal(wait_type(own), FAULT);
	assert_int_equal(wait_type(other), OK);
	assert_int_equal(first(0), 2);
}

/* ---- Memory that goes ----------------------------------------------------------------------- */

#define HOST 9
#define ALL_MEMORY (512u << 20) /* that blobs can have of the host's */

TEST_GUEST(memory_of_the_host_stays_while_it_is_mapped)
{
	assert_int_equal(create_host_blob(&guest, HOST, PAGE), OK);
	assert_int_equal(attach_context(&guest, 1, HOST), OK);
	assert_int_equal(RUN(1, MAP(HOST, 0, DATA, PAGE), MAP(FIRST, 0, NOWHERE, PAGE)), OK);
	assert_int_equal(RUN(1, FILL(DATA, PAGE, 7)), OK);
	assert_int_equal(unref(&guest, HOST), OK);
	/* Another one with its ID is another one. */
	assert_int_equal(create_host_blob(&guest, HOST, PAGE), OK);
	assert_int_equal(RUN(1, ADD(DATA, 4, 1), COPY(NOWHERE, DATA, 8)), OK);
	assert_int_equal(first(0), 8);
	assert_int_equal(first(4), 7);
}

/* The rest of the window's mappings are cut out of it: each is a user. */
TEST_GUEST(memory_of_the_host_goes_with_its_last_mapping)
{
	assert_int_equal(create_host_blob(&guest, HOST, ALL_MEMORY), OK);
	assert_int_equal(attach_context(&guest, 1, HOST), OK);
	assert_int_equal(RUN(1, MAP(HOST, 0, DATA, 3 * PAGE)), OK);
	assert_int_equal(RUN(1, MAP_NULL(DATA + PAGE, PAGE)), OK);
	assert_int_equal(unref(&guest, HOST), OK);
	assert_int_equal(create_host_blob(&guest, HOST, PAGE), FULL);
	assert_int_equal(RUN(1, UNMAP(DATA, PAGE)), OK);
	assert_int_equal(create_host_blob(&guest, HOST, PAGE), FULL);
	assert_int_equal(RUN(1, UNMAP(DATA + 2 * PAGE, PAGE)), OK);
	assert_int_equal(create_host_blob(&guest, HOST, ALL_MEMORY), OK);
}

/* Each has a descriptor, and an eighth of these is for blobs. */
#define MANY 2000u

static void start_with_descriptors(void)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max < 8 * (MANY + 1)) {
		print_message("skipped: too few descriptors\n");
		skip();
	}
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	start();
}

/* Many blobs of the host's memory let go of at once: all but 12 MiB of what there may be. */
static void let_go_of_many(void)
{
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(create_host_blob(&guest, HOST, 64 * PAGE), OK);
		assert_int_equal(attach_context(&guest, 1, HOST), OK);
		assert_int_equal(RUN(1, MAP(HOST, 0, DATA + i * PAGE, PAGE)), OK);
		assert_int_equal(unref(&guest, HOST), OK);
	}
	assert_int_equal(create_host_blob(&guest, HOST, ALL_MEMORY), FULL);
	assert_int_equal(RUN(1, UNMAP(DATA, MANY * PAGE)), OK);
}

#define TEST_MANY(name) TEST_BETWEEN(name, start_with_descriptors(), guest_stop(&guest))

TEST_MANY(memory_that_nobody_uses_makes_room_for_more)
{
	let_go_of_many();
	assert_int_equal(create_host_blob(&guest, HOST, ALL_MEMORY), OK);
}

/* A part in each round, though nothing else happens. */
TEST_MANY(memory_that_nobody_uses_is_freed)
{
	struct renderer *renderer = guest.gpu->renderer;

	let_go_of_many();
	while (gpu_timeout(guest.gpu, 1000) == 0) {
	}
	assert_false(renderer->ops->must_dispatch(renderer));
}

TEST_GUEST(a_detached_resource_stays_mapped)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(detach_context(&guest, 1, FIRST), OK);
	assert_int_equal(RUN(1, FILL(DATA, 4, 3)), OK);
	assert_int_equal(first(0), 3);
	assert_int_equal(RUN(1, MAP(FIRST, 0, NOWHERE, PAGE)), REFUSED);
}

/* What the guest has back is not touched any more. Returns how work ends that uses its mapping. */
static uint32_t use_after(uint32_t (*take)(struct guest *guest, uint32_t resource_id))
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE), MAP(SECOND, 0, NOWHERE, PAGE)), OK);
	assert_int_equal(RUN(1, FILL(DATA, 4, 1)), OK);
	assert_int_equal(take(&guest, FIRST), OK);
	memset(guest.memory + FIRST_OFFSET, 0, PAGE); /* is something else now */
	assert_int_equal(RUN(2, MAP_NULL(DATA, PAGE)), OK);
	return RUN(1, FILL(DATA, 4, 2));
}

TEST_GUEST(memory_that_the_guest_takes_back_is_a_fault)
{
	assert_int_equal(use_after(unref), FAULT);
	assert_int_equal(first(0), 0);
	assert_int_equal(RUN(1, FILL(NOWHERE, 4, 1)), UNUSABLE);
}

TEST_GUEST(a_backing_that_the_guest_detaches_is_a_fault)
{
	assert_int_equal(use_after(detach_backing), FAULT);
	assert_int_equal(first(0), 0);
}

TEST_GUEST(what_is_unmapped_may_go)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, MAP_NULL(DATA, PAGE)), OK);
	assert_int_equal(unref(&guest, FIRST), OK);
	assert_int_equal(RUN(1, FILL(DATA, 4, 2)), OK);
	assert_int_equal(first(0), 0);
}

static atomic_bool has_unused;

static bool look_for_unused(void)
{
	struct renderer *renderer = guest.gpu->renderer;

	atomic_store(&has_unused, renderer->ops->must_dispatch(renderer));
	return false;
}

/* What a job lets go of is freed by the loop's thread, which therefore answers. */
TEST_GUEST(what_a_job_lets_go_of_is_for_the_loop)
{
	guest.on_take_turn = look_for_unused;
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(unref(&guest, FIRST), OK);
	assert_false(atomic_load(&has_unused));
	assert_int_equal(RUN(1, MAP_NULL(DATA, PAGE)), OK);
	assert_true(atomic_load(&has_unused));
	assert_int_equal(RUN(1, MAP_NULL(DATA, PAGE)), OK);
	assert_false(atomic_load(&has_unused));
}

/* Sends a request that takes the memory back, and looks whether it is answered at once, or behind
 * work that uses GPU addresses of context 1; is_gone: another context has that ID by then. */
static void take_back_from(struct gate *gate, bool at_once, bool is_gone)
{
	const struct virtio_gpu_resource_unref request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF, 0),
		.resource_id = htole32(FIRST),
	};
	uint32_t user, taken;

	user = SUBMIT(1, 1, 20, AFTER(GATE), WORDS(FILL(DATA, 4, 2)));
	if (is_gone) {
		assert_int_equal(destroy_context(&guest, 1), OK);
		assert_int_equal(create_context(&guest, 1), OK);
	}
	taken = guest_send(&guest, GPU_QUEUE_CONTROL, &request, sizeof(request),
		sizeof(struct virtio_gpu_ctrl_hdr));
	assert_int_equal(is_done(taken), at_once);
	open_gate(gate);
	assert_int_equal(wait_type(taken), OK);
	assert_int_equal(wait_type(user), OK);
}

static void take_back(struct gate *gate, bool at_once)
{
	take_back_from(gate, at_once, false);
}

TEST_GATE(memory_that_work_uses_is_taken_back_behind_it)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	take_back(gate, false);
	assert_int_equal(first(0), 2);
}

/* As a kernel's driver does when a program closes a handle. */
TEST_GATE(memory_that_is_detached_but_mapped_is_taken_back_behind_work)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(detach_context(&guest, 1, FIRST), OK);
	take_back(gate, false);
	assert_int_equal(first(0), 2);
}

/* Also if it was first, or alone, mapped in another context. */
TEST_GATE(memory_that_several_contexts_have_mapped_is_taken_back_behind_work)
{
	assert_int_equal(RUN(2, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(detach_context(&guest, 1, FIRST), OK);
	take_back(gate, false);
	assert_int_equal(first(0), 2);
}

TEST_GATE(memory_of_other_contexts_is_taken_back_at_once)
{
	assert_int_equal(detach_context(&guest, 1, FIRST), OK);
	assert_int_equal(RUN(2, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, MAP(SECOND, 0, DATA, PAGE)), OK);
	take_back(gate, true);
	assert_int_equal(first(0), 0);
	assert_int_equal(second(0), 2);
}

/* Also if several others have it mapped. */
TEST_GATE(memory_that_several_other_contexts_have_mapped_is_taken_back_at_once)
{
	assert_int_equal(create_context(&guest, 3), OK);
	assert_int_equal(attach_context(&guest, 3, FIRST), OK);
	assert_int_equal(detach_context(&guest, 1, FIRST), OK);
	assert_int_equal(RUN(2, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(3, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, MAP(SECOND, 0, DATA, PAGE)), OK);
	take_back(gate, true);
	assert_int_equal(second(0), 2);
}

/* Each mapping counts: one of two is left, be it of a piece that was cut. */
TEST_GATE(memory_of_which_a_piece_is_still_mapped_is_taken_back_behind_work)
{
	assert_int_equal(RUN(2, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, 3 * PAGE), MAP(FIRST, 0, NOWHERE, PAGE)), OK);
	assert_int_equal(RUN(1, UNMAP(DATA + PAGE, PAGE), UNMAP(NOWHERE, PAGE)), OK);
	assert_int_equal(RUN(1, UNMAP(DATA + 2 * PAGE, PAGE)), OK);
	assert_int_equal(detach_context(&guest, 1, FIRST), OK);
	take_back(gate, false);
	assert_int_equal(first(0), 2);
}

TEST_GATE(memory_that_is_detached_and_unmapped_is_taken_back_at_once)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	assert_int_equal(detach_context(&guest, 1, FIRST), OK);
	assert_int_equal(RUN(1, MAP(SECOND, 0, DATA, PAGE)), OK);
	take_back(gate, true);
	assert_int_equal(first(0), 0);
}

/* ---- Contexts that go ----------------------------------------------------------------------- */

TEST_GATE(a_context_goes_with_its_mappings_when_its_work_is_done)
{
	uint32_t tokens[3];

	assert_int_equal(create_host_blob(&guest, HOST, ALL_MEMORY), OK);
	assert_int_equal(attach_context(&guest, 1, HOST), OK);
	assert_int_equal(RUN(1, MAP(HOST, 0, DATA, PAGE)), OK);
	tokens[0] = SUBMIT(1, 0, 20, AFTER(GATE),
		WORDS(MAP(FIRST, 0, DATA + PAGE, PAGE), MAP(HOST, PAGE, NOWHERE, PAGE)));
	tokens[1] = SUBMIT(1, 1, 21, AFTER(20), WORDS(FILL(DATA, 2 * PAGE, 4)));
	tokens[2] = SUBMIT(1, 0, 22, AFTER(21), WORDS(UNMAP(DATA, 2 * PAGE)));
	if (gate->on_gpu) { /* otherwise its binds are made when the context has nothing more */
		assert_int_equal(destroy_context(&guest, 1), OK);
		assert_int_equal(create_context(&guest, 1), OK);
		assert_int_equal(wait_type(SUBMIT(1, 5, 30, WORDS(FILL(DATA, 4, 1)))), FAULT);
	}
	open_gate(gate);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(wait_type(tokens[i]), OK);
	}
	assert_int_equal(first(0), 4);
	if (!gate->on_gpu) {
		assert_int_equal(destroy_context(&guest, 1), OK);
	}
	assert_int_equal(unref(&guest, HOST), OK);
	assert_int_equal(create_host_blob(&guest, HOST, ALL_MEMORY), OK);
}

/* They write nothing, and what the guest does later may need them. */
TEST_GUEST(binds_without_a_fence_are_done_after_a_drain)
{
	SUBMIT(1, 0, 0, .busy_us = 200000, WORDS(MAP(FIRST, 0, DATA, PAGE)));
	gpu_drain(guest.gpu, 0, -1);
	assert_int_equal(RUN(1, FILL(DATA, 4, 1)), OK);
	assert_int_equal(first(0), 1);
}

/* Held back, so that it comes to the GPU when the context has nothing more. */
TEST_GATE(a_bind_maps_nothing_of_the_next_context_with_its_id)
{
	uint32_t bind, work;

	bind = SUBMIT(1, 0, 20, AFTER(GATE), WORDS(MAP(FIRST, 0, DATA, PAGE)));
	work = SUBMIT(1, 0, 21, WORDS(FILL(DATA, 4, 1)));
	assert_int_equal(destroy_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(attach_context(&guest, 1, FIRST), OK);
	open_gate(gate);
	assert_int_equal(wait_type(bind), gate->on_gpu ? OK : REFUSED);
	assert_int_equal(wait_type(work), gate->on_gpu ? OK : FAULT);
	assert_int_equal(first(0), gate->on_gpu); /* it was the old one's, too, when it was bound */
}

/* What the old one has mapped, its work may still use. */
TEST_GATE(memory_is_taken_back_behind_work_of_a_context_that_is_gone)
{
	assert_int_equal(RUN(1, MAP(FIRST, 0, DATA, PAGE)), OK);
	take_back_from(gate, false, true);
	assert_int_equal(first(0), 2);
}

TEST_GATE(a_reset_ends_binds_that_wait_and_all_mappings)
{
	assert_int_equal(create_host_blob(&guest, HOST, ALL_MEMORY), OK);
	assert_int_equal(attach_context(&guest, 1, HOST), OK);
	assert_int_equal(RUN(1, MAP(HOST, 0, DATA, PAGE)), OK);
	SUBMIT(1, 0, 20, AFTER(GATE), WORDS(MAP(HOST, 0, NOWHERE, PAGE)));
	SUBMIT(1, 1, 21, AFTER(20), WORDS(FILL(NOWHERE, 4, 1)));
	guest_reset(&guest);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_host_blob(&guest, HOST, ALL_MEMORY), OK);
	assert_int_equal(RUN(1, FILL(DATA, 4, 1)), FAULT);
	if (gate->on_gpu) {
		close(gate->fd);
	}
}
