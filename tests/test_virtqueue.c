/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* One virtqueue, without a socket: what a driver may write into it, and what it may not. */

#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "alloc.h"
#include "front_end.h"
#include "virtqueue.h"

#define SIZE 16
#define INDIRECT (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define VERSION_1 (UINT64_C(1) << VIRTIO_F_VERSION_1)

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define TABLE VRING_DESC_F_INDIRECT

static struct front_end guest;
static struct front_end_queue *const driver = &guest.queues[0];
static struct guest_memory *memory;
static struct virtqueue *queue;
static struct virtqueue_request request;

static struct virtqueue_layout layout_of(const struct front_end_queue *rings, uint64_t features)
{
	return (struct virtqueue_layout){
		.size = rings->size,
		.desc = rings->desc_addr + FRONT_END_USER_OFFSET,
		.avail = rings->avail_addr + FRONT_END_USER_OFFSET,
		.used = rings->used_addr + FRONT_END_USER_OFFSET,
		.features = features | VERSION_1,
	};
}

static void make_memory(void)
{
	struct guest_region regions[FRONT_END_REGIONS];
	int fds[FRONT_END_REGIONS];

	for (size_t i = 0; i < FRONT_END_REGIONS; i++) {
		regions[i] = guest.regions[i].where;
		fds[i] = guest.regions[i].fd;
	}
	assert_int_equal(guest_memory_create(regions, fds, FRONT_END_REGIONS, NULL, &memory), 0);
}

static void begin_at(uint64_t features, uint32_t size, uint16_t base)
{
	struct virtqueue_layout layout;

	front_end_init(&guest, NULL, NULL, NULL);
	make_memory();
	front_end_make_queue(&guest, 0, size);
	driver->next_avail = driver->next_used = base;
	driver->avail->idx = driver->used->idx = base;
	layout = layout_of(driver, features);
	assert_int_equal(virtqueue_create(&layout, base, memory, &queue), 0);
}

static void begin(uint64_t features)
{
	begin_at(features, SIZE, 0);
}

static void end(void)
{
	virtqueue_destroy(queue);
	guest_memory_unref(memory);
	front_end_finish(&guest);
}

#define TEST_QUEUE(name, features) TEST_BETWEEN(name, begin(features), end())

/* A descriptor of its own for each number. */
static uint64_t buffer(unsigned int number)
{
	return FRONT_END_NEXT + UINT64_C(0x1000) * number;
}

static void offer(uint16_t head)
{
	front_end_offer(driver, head);
	front_end_show(driver);
}

static void assert_iov(const struct iovec *iov, uint64_t addr, size_t size)
{
	struct iovec expected;

	assert_int_equal(guest_memory_map(memory, addr, size, &expected, 1), 1);
	assert_ptr_equal(iov->iov_base, expected.iov_base);
	assert_int_equal(iov->iov_len, size);
}

/* Writes an indirect table, and its descriptor. */
static struct vring_desc *make_table(uint32_t at, uint32_t count)
{
	uint64_t addr = front_end_alloc(&guest, count * sizeof(struct vring_desc));

	front_end_desc(driver, at, addr, count * (uint32_t)sizeof(struct vring_desc), TABLE, 0);
	return front_end_at(&guest, addr);
}

/* ---- Requests ----------------------------------------------------------------------------- */

TEST_QUEUE(an_empty_queue_has_no_request, 0)
{
	assert_int_equal(virtqueue_pop(queue, &request), 0);
	assert_null(virtqueue_error(queue));
}

TEST_QUEUE(a_chain_comes_as_readable_and_writable_buffers, 0)
{
	front_end_desc(driver, 5, buffer(0), 24, NEXT, 3);
	front_end_desc(driver, 3, buffer(1), 100, NEXT, 9);
	front_end_desc(driver, 9, buffer(2), 7, NEXT | WRITE, 0);
	front_end_desc(driver, 0, FRONT_END_FAR, 1, WRITE, 0);
	offer(5);

	assert_int_equal(virtqueue_pop(queue, &request), 1);
	assert_int_equal(request.token, 5);
	assert_int_equal(request.num_readable, 2);
	assert_int_equal(request.num_writable, 2);
	assert_iov(&request.readable[0], buffer(0), 24);
	assert_iov(&request.readable[1], buffer(1), 100);
	assert_iov(&request.writable[0], buffer(2), 7);
	assert_iov(&request.writable[1], FRONT_END_FAR, 1);
	assert_int_equal(virtqueue_pop(queue, &request), 0);
	virtqueue_push(queue, 5, 0);
}

TEST_QUEUE(an_indirect_table_comes_as_its_buffers, INDIRECT)
{
	struct vring_desc *table;

	table = make_table(2, 3);
	table[0] = (struct vring_desc){ buffer(0), 24, NEXT, 2 };
	table[2] = (struct vring_desc){ buffer(1), 10, NEXT | WRITE, 1 };
	table[1] = (struct vring_desc){ buffer(2), 20, WRITE, 0 };
	offer(2);
	assert_int_equal(virtqueue_pop(queue, &request), 1);
	assert_int_equal(request.num_readable, 1);
	assert_int_equal(request.num_writable, 2);
	assert_iov(&request.writable[1], buffer(2), 20);
	virtqueue_push(queue, 2, 0);
}

TEST_QUEUE(an_indirect_table_may_end_a_chain, INDIRECT)
{
	struct vring_desc *table;

	table = make_table(3, 1);
	driver->desc[3].flags |= WRITE; /* to be ignored there */
	table[0] = (struct vring_desc){ buffer(1), 10, 0, 0 };
	front_end_desc(driver, 2, buffer(0), 24, NEXT, 3);
	offer(2);
	assert_int_equal(virtqueue_pop(queue, &request), 1);
	assert_int_equal(request.num_readable, 2);
	assert_int_equal(request.num_writable, 0);
	virtqueue_push(queue, 2, 0);
}

/* As Linux does for large command streams. */
TEST_QUEUE(an_indirect_table_may_be_longer_than_the_queue, INDIRECT)
{
	struct vring_desc *table;

	table = make_table(0, VIRTQUEUE_MAX_BUFFERS);
	for (uint16_t i = 0; i < VIRTQUEUE_MAX_BUFFERS; i++) {
		bool last = i == VIRTQUEUE_MAX_BUFFERS - 1;

		table[i] = (struct vring_desc){ FRONT_END_FAR + i, 1, last ? WRITE : NEXT,
			(uint16_t)(i + 1) };
	}
	offer(0);
	assert_int_equal(virtqueue_pop(queue, &request), 1);
	assert_int_equal(request.num_readable, VIRTQUEUE_MAX_BUFFERS - 1);
	assert_iov(&request.writable[0], FRONT_END_FAR + VIRTQUEUE_MAX_BUFFERS - 1, 1);
	virtqueue_push(queue, 0, 0);
}

TEST_QUEUE(a_buffer_or_a_table_may_span_regions, INDIRECT)
{
	uint64_t table = FRONT_END_NEXT - 16;
	const struct vring_desc first = { FRONT_END_NEXT - 10, 30, NEXT, 1 };
	const struct vring_desc second = { buffer(9), 3, WRITE, 0 };

	memcpy(front_end_at(&guest, table), &first, sizeof(first));
	memcpy(front_end_at(&guest, FRONT_END_NEXT), &second, sizeof(second));
	front_end_desc(driver, 0, table, 32, TABLE, 0);
	offer(0);
	assert_int_equal(virtqueue_pop(queue, &request), 1);
	assert_int_equal(request.num_readable, 2);
	assert_iov(&request.readable[0], FRONT_END_NEXT - 10, 10);
	assert_iov(&request.readable[1], FRONT_END_NEXT, 20);
	assert_int_equal(request.num_writable, 1);
	virtqueue_push(queue, 0, 0);
}

TEST(a_full_queue_of_requests_is_taken_and_indices_wrap)
{
	begin_at(0, VIRTQUEUE_MAX_SIZE, UINT16_MAX - 100);
	for (uint16_t i = 0; i < VIRTQUEUE_MAX_SIZE; i++) {
		front_end_desc(driver, i, buffer(0), 1, 0, 0);
		front_end_offer(driver, i);
	}
	front_end_show(driver);
	for (uint32_t i = 0; i < VIRTQUEUE_MAX_SIZE; i++) {
		assert_int_equal(virtqueue_pop(queue, &request), 1);
		assert_int_equal(request.token, i);
	}
	assert_int_equal(virtqueue_pop(queue, &request), 0);
	assert_int_equal(virtqueue_in_flight(queue), VIRTQUEUE_MAX_SIZE);
	assert_int_equal(virtqueue_base(queue), (uint16_t)(UINT16_MAX - 100 + VIRTQUEUE_MAX_SIZE));
	for (uint32_t i = 0; i < VIRTQUEUE_MAX_SIZE; i++) {
		virtqueue_push(queue, i, i);
	}
	virtqueue_publish(queue);
	for (uint32_t i = 0; i < VIRTQUEUE_MAX_SIZE; i++) {
		uint32_t head, written;

		assert_true(front_end_used(driver, &head, &written));
		assert_int_equal(head, i);
		assert_int_equal(written, i);
	}
	end();
}

TEST_QUEUE(requests_in_flight_keep_their_memory, 0)
{
	struct guest_memory *before;
	char *byte;

	front_end_desc(driver, 0, buffer(0), 1, WRITE, 0);
	offer(0);
	assert_int_equal(virtqueue_pop(queue, &request), 1);
	before = memory;
	make_memory();
	assert_int_equal(virtqueue_set_memory(queue, memory), 0);
	guest_memory_unref(before);

	byte = request.writable[0].iov_base;
	*byte = 'x';
	assert_int_equal(*(char *)front_end_at(&guest, buffer(0)), 'x');
	virtqueue_push(queue, 0, 1);
	virtqueue_publish(queue);
	assert_int_equal(driver->used->idx, 1);
}

TEST_QUEUE(nothing_is_allocated_once_the_slots_have_grown, INDIRECT)
{
	unsigned long before = 0;

	for (int round = 0; round < 5; round++) {
		struct vring_desc *table = make_table(0, 40);

		for (uint16_t i = 0; i < 40; i++) {
			table[i] = (struct vring_desc){ buffer(i), 8, i < 39 ? NEXT : 0,
				(uint16_t)(i + 1) };
		}
		offer(0);
		assert_int_equal(virtqueue_pop(queue, &request), 1);
		virtqueue_push(queue, 0, 0);
		if (round == 0) {
			before = alloc_count();
		}
	}
	assert_int_equal(alloc_count(), before);
}

/* ---- What a driver must not do ------------------------------------------------------------ */

/* Nothing comes any more, and the reason has these words in it. */
static void assert_refused(const char *words)
{
	assert_int_equal(virtqueue_pop(queue, &request), -EPROTO);
	assert_non_null(virtqueue_error(queue));
	if (!strstr(virtqueue_error(queue), words)) {
		fail_msg("'%s' does not say '%s'", virtqueue_error(queue), words);
	}
	front_end_desc(driver, 15, buffer(15), 1, 0, 0);
	offer(15);
	assert_int_equal(virtqueue_pop(queue, &request), -EPROTO);
}

TEST_QUEUE(a_chain_with_a_loop_is_refused, 0)
{
	front_end_desc(driver, 0, buffer(0), 1, NEXT, 1);
	front_end_desc(driver, 1, buffer(1), 1, NEXT, 0);
	offer(0);
	assert_refused("loop");
}

TEST_QUEUE(a_descriptor_that_follows_itself_is_refused, 0)
{
	front_end_desc(driver, 3, buffer(0), 1, NEXT, 3);
	offer(3);
	assert_refused("loop");
}

TEST_QUEUE(an_indirect_table_with_a_loop_is_refused, INDIRECT)
{
	struct vring_desc *table;

	table = make_table(0, 2);
	table[0] = (struct vring_desc){ buffer(0), 1, NEXT, 1 };
	table[1] = (struct vring_desc){ buffer(1), 1, NEXT, 0 };
	offer(0);
	assert_refused("loop");
}

TEST_QUEUE(a_head_out_of_range_is_refused, 0)
{
	offer(SIZE);
	assert_refused("begins at descriptor 16 of 16");
}

TEST_QUEUE(a_next_out_of_range_is_refused, 0)
{
	front_end_desc(driver, 0, buffer(0), 1, NEXT, UINT16_MAX);
	offer(0);
	assert_refused("descriptor 65535 of 16");
}

TEST_QUEUE(a_next_behind_the_indirect_table_is_refused, INDIRECT)
{
	struct vring_desc *table;

	table = make_table(0, 2);
	table[0] = (struct vring_desc){ buffer(0), 1, NEXT, 2 };
	offer(0);
	assert_refused("descriptor 2 of 2");
}

TEST_QUEUE(an_indirect_table_in_an_indirect_table_is_refused, INDIRECT)
{
	struct vring_desc *table;

	table = make_table(0, 2);
	table[0] = (struct vring_desc){ buffer(0), 16, TABLE, 0 };
	offer(0);
	assert_refused("in an indirect table");
}

TEST_QUEUE(an_indirect_table_that_goes_on_is_refused, INDIRECT)
{
	struct vring_desc *table;

	table = make_table(0, 1);
	table[0] = (struct vring_desc){ buffer(0), 1, 0, 0 };
	driver->desc[0].flags |= NEXT;
	offer(0);
	assert_refused("not the end");
}

TEST_QUEUE(an_indirect_table_that_was_not_negotiated_is_refused, 0)
{
	make_table(0, 1);
	offer(0);
	assert_refused("not negotiated");
}

TEST(indirect_tables_of_wrong_sizes_are_refused)
{
	const uint32_t sizes[] = { 0, 1, 15, 17, 33, UINT32_MAX };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		begin(INDIRECT);
		front_end_desc(driver, 0, buffer(0), sizes[i], TABLE, 0);
		offer(0);
		assert_refused("bytes");
		end();
	}
	begin(INDIRECT);
	front_end_desc(driver, 0, FRONT_END_NEAR, (VIRTQUEUE_MAX_BUFFERS + 1) * 16, TABLE, 0);
	offer(0);
	assert_refused("more than 2048");
	end();
	begin(INDIRECT);
	front_end_desc(driver, 0, FRONT_END_NEAR, 0xfffffff0, TABLE, 0);
	offer(0);
	assert_refused("more than 2048");
	end();
}

TEST(a_table_outside_of_memory_is_refused)
{
	const uint64_t addresses[] = { 0, FRONT_END_NEAR - 16,
		FRONT_END_FAR + FRONT_END_REGION_SIZE - 16, UINT64_MAX - 31, UINT64_MAX };

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		begin(INDIRECT);
		front_end_desc(driver, 0, addresses[i], 32, TABLE, 0);
		offer(0);
		assert_refused("table outside of memory");
		end();
	}
}

TEST(a_buffer_outside_of_memory_is_refused)
{
	const struct {
		uint64_t addr;
		uint32_t size;
	} outside[] = {
		{ 0, 1 },
		{ FRONT_END_NEAR - 1, 2 },
		{ FRONT_END_NEXT + FRONT_END_REGION_SIZE - 1, 2 },
		{ FRONT_END_NEAR, 2 * FRONT_END_REGION_SIZE + 1 },
		{ FRONT_END_NEAR, UINT32_MAX },
		{ UINT64_MAX, 1 },
		{ UINT64_MAX, UINT32_MAX },
		{ FRONT_END_NEAR + FRONT_END_USER_OFFSET, 1 },
	};

	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		begin(0);
		front_end_desc(driver, 0, outside[i].addr, outside[i].size, 0, 0);
		offer(0);
		assert_refused("buffer outside of memory");
		end();
	}
}

TEST_QUEUE(an_empty_buffer_is_refused, 0)
{
	front_end_desc(driver, 0, buffer(0), 0, 0, 0);
	offer(0);
	assert_refused("empty");
}

TEST_QUEUE(a_readable_buffer_after_a_writable_one_is_refused, 0)
{
	front_end_desc(driver, 0, buffer(0), 1, NEXT | WRITE, 1);
	front_end_desc(driver, 1, buffer(1), 1, 0, 0);
	offer(0);
	assert_refused("readable buffer after");
}

TEST_QUEUE(a_request_of_4_gib_is_refused, INDIRECT)
{
	const struct guest_region large = {
		.guest_addr = UINT64_C(1) << 40, .user_addr = UINT64_C(1) << 40, .size = 1 << 30
	};
	struct guest_memory *larger;
	struct vring_desc *table;
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 1 << 30), 0);
	assert_int_equal(guest_memory_add(memory, &large, fd, &larger), 0);
	assert_int_equal(virtqueue_set_memory(queue, larger), 0);
	guest_memory_unref(larger);
	close(fd);
	table = make_table(0, 4);
	for (uint16_t i = 0; i < 4; i++) {
		table[i] = (struct vring_desc){ large.guest_addr, 1 << 30, NEXT,
			(uint16_t)(i + 1) };
	}
	table[3].flags = 0;
	offer(0);
	assert_refused("4 GiB");
}

TEST(an_index_that_jumps_is_refused)
{
	const uint16_t jumps[] = { SIZE + 1, 0x8000, UINT16_MAX };

	for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		begin(0);
		driver->avail->idx = jumps[i];
		assert_refused("jumps");
		end();
	}
}

TEST_QUEUE(a_head_that_is_in_flight_is_refused, 0)
{
	front_end_desc(driver, 7, buffer(0), 1, 0, 0);
	offer(7);
	assert_int_equal(virtqueue_pop(queue, &request), 1);
	offer(7);
	assert_int_equal(virtqueue_pop(queue, &request), -EPROTO);
	assert_non_null(strstr(virtqueue_error(queue), "again in flight"));
	virtqueue_push(queue, 7, 0);
}

TEST_QUEUE(requests_from_before_an_error_are_completed, 0)
{
	uint32_t head, written;

	front_end_desc(driver, 0, buffer(0), 1, 0, 0);
	front_end_offer(driver, 0);
	front_end_offer(driver, SIZE);
	front_end_show(driver);
	assert_int_equal(virtqueue_pop(queue, &request), 1);
	assert_int_equal(virtqueue_pop(queue, &request), -EPROTO);
	virtqueue_push(queue, 0, 12);
	assert_true(virtqueue_publish(queue));
	assert_true(front_end_used(driver, &head, &written));
	assert_int_equal(head, 0);
	assert_int_equal(written, 12);
}

TEST_QUEUE(a_queue_stops_where_memory_runs_out, 0)
{
	front_end_desc(driver, 0, buffer(0), 1, 0, 0);
	offer(0);
	alloc_fail(1);
	assert_int_equal(virtqueue_pop(queue, &request), -ENOMEM);
	alloc_reset();
	assert_refused("out of memory");
}

/* ---- Rings that are refused --------------------------------------------------------------- */

static int create_with(struct virtqueue_layout layout)
{
	struct virtqueue *other = NULL;
	int ret = virtqueue_create(&layout, 0, memory, &other);

	virtqueue_destroy(other);
	return ret;
}

TEST_QUEUE(sizes_that_are_none_are_einval, 0)
{
	const uint32_t sizes[] = { 0, 3, 24, VIRTQUEUE_MAX_SIZE + 1, 2 * VIRTQUEUE_MAX_SIZE,
		1u << 31, UINT32_MAX };
	struct virtqueue_layout layout;

	layout = layout_of(driver, 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		layout.size = sizes[i];
		assert_int_equal(create_with(layout), -EINVAL);
	}
	layout.size = 1;
	assert_int_equal(create_with(layout), 0);
}

TEST_QUEUE(misaligned_rings_are_einval, 0)
{
	struct virtqueue_layout layout, good;

	good = layout = layout_of(driver, 0);
	layout.desc += 8;
	assert_int_equal(create_with(layout), -EINVAL);
	layout = good;
	layout.avail += 1;
	assert_int_equal(create_with(layout), -EINVAL);
	layout = good;
	layout.used += 2;
	assert_int_equal(create_with(layout), -EINVAL);
}

/* What is aligned there need not be so here. */
TEST_QUEUE(rings_that_are_misaligned_in_their_file_are_einval, 0)
{
	const struct guest_region odd = { .guest_addr = UINT64_C(1) << 40,
		.user_addr = UINT64_C(1) << 40,
		.size = 0x10000,
		.offset = 8 };
	const uint64_t addr = odd.user_addr + 0x1000;
	struct virtqueue_layout layout = { .size = SIZE };
	struct guest_memory *other;

	assert_int_equal(guest_memory_add(memory, &odd, guest.regions[0].fd, &other), 0);
	guest_memory_unref(memory);
	memory = other;
	layout.desc = addr;
	layout.avail = addr + 0x1000;
	layout.used = addr + 0x2000;
	assert_int_equal(create_with(layout), -EINVAL);
	layout.desc = layout_of(driver, 0).desc;
	assert_int_equal(create_with(layout), 0);
}

TEST_QUEUE(rings_outside_of_memory_are_efault, 0)
{
	const uint64_t end_of_near = FRONT_END_NEXT + FRONT_END_USER_OFFSET;
	struct virtqueue_layout layout, good;

	good = layout = layout_of(driver, 0);
	/* Exactly what fits, with the event index; then a little less. */
	layout.used = end_of_near - 136;
	layout.avail = end_of_near - 38;
	layout.desc = end_of_near - 256;
	assert_int_equal(create_with(layout), 0);
	layout.used += 4;
	assert_int_equal(create_with(layout), -EFAULT);
	layout = good;
	layout.avail = end_of_near - 36;
	assert_int_equal(create_with(layout), -EFAULT);
	layout = good;
	layout.desc = end_of_near - 240;
	assert_int_equal(create_with(layout), -EFAULT);
	layout = good;
	layout.desc = UINT64_MAX - 15;
	assert_int_equal(create_with(layout), -EFAULT);
	layout.desc = 0;
	assert_int_equal(create_with(layout), -EFAULT);
}

/* ---- Notifications and kicks -------------------------------------------------------------- */

/* One request, made, taken and pushed. */
static void complete_one(uint16_t head)
{
	front_end_desc(driver, head, buffer(head), 1, 0, 0);
	offer(head);
	assert_int_equal(virtqueue_pop(queue, &request), 1);
	virtqueue_push(queue, head, 0);
}

TEST_QUEUE(completions_show_when_they_are_published, 0)
{
	assert_false(virtqueue_publish(queue));
	complete_one(0);
	complete_one(1);
	assert_int_equal(driver->used->idx, 0);
	assert_true(virtqueue_publish(queue));
	assert_int_equal(driver->used->idx, 2);
	assert_false(virtqueue_publish(queue));
}

TEST_QUEUE(a_flag_suppresses_notifications, 0)
{
	driver->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	complete_one(0);
	assert_false(virtqueue_publish(queue));
	assert_int_equal(driver->used->idx, 1);
	driver->avail->flags = 0;
	complete_one(0);
	assert_true(virtqueue_publish(queue));
}

TEST_QUEUE(the_event_index_suppresses_notifications, EVENT_IDX)
{
	uint16_t *used_event;

	used_event = &driver->avail->ring[SIZE];
	driver->avail->flags = VRING_AVAIL_F_NO_INTERRUPT; /* to be ignored now */
	*used_event = 0;
	complete_one(0);
	assert_true(virtqueue_publish(queue));
	complete_one(0);
	assert_false(virtqueue_publish(queue));
	*used_event = 3;
	complete_one(0);
	assert_false(virtqueue_publish(queue));
	complete_one(0);
	assert_true(virtqueue_publish(queue));
	/* In the middle of a batch. */
	*used_event = 5;
	complete_one(0);
	complete_one(1);
	complete_one(2);
	assert_true(virtqueue_publish(queue));
}

TEST_QUEUE(the_first_completion_is_always_notified, EVENT_IDX)
{
	driver->avail->ring[SIZE] = 1000;
	complete_one(0);
	assert_true(virtqueue_publish(queue));
	complete_one(0);
	assert_false(virtqueue_publish(queue));
}

TEST_QUEUE(kicks_are_switched_by_a_flag, 0)
{
	assert_int_equal(driver->used->flags, 0);
	virtqueue_disable_kicks(queue);
	assert_int_equal(driver->used->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(virtqueue_enable_kicks(queue));
	assert_int_equal(driver->used->flags, 0);
}

TEST_QUEUE(kicks_are_switched_by_the_event_index, EVENT_IDX)
{
	const uint16_t *avail_event;

	avail_event = (const uint16_t *)&driver->used->ring[SIZE];
	complete_one(0);
	complete_one(0);
	virtqueue_disable_kicks(queue);
	assert_int_equal(driver->used->flags, 0);
	assert_int_equal(*avail_event, 0);
	assert_false(virtqueue_enable_kicks(queue));
	assert_int_equal(*avail_event, 2);
}

TEST(enabling_kicks_tells_of_requests_that_came_before)
{
	const uint64_t features[] = { 0, EVENT_IDX };

	for (size_t i = 0; i < 2; i++) {
		begin(features[i]);
		virtqueue_disable_kicks(queue);
		assert_int_equal(virtqueue_pop(queue, &request), 0);
		front_end_desc(driver, 0, buffer(0), 1, 0, 0);
		offer(0);
		assert_true(virtqueue_enable_kicks(queue));
		assert_int_equal(virtqueue_pop(queue, &request), 1);
		virtqueue_push(queue, 0, 0);
		assert_false(virtqueue_enable_kicks(queue));
		end();
	}
}
