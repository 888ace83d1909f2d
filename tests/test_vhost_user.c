/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The back end of vhost-user, with a device that echoes: front ends that keep the rules, and front
 * ends and guests that do not. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "alloc.h"
#include "echo_device.h"
#include "front_end.h"

#define BIT(bit) (UINT64_C(1) << (bit))

static char directory[] = "/tmp/vgfence-vhost-user-XXXXXX";
static char path[sizeof(directory) + 8];

static struct echo_device device;
static struct front_end front_end;
static struct front_end_queue *const queue = &front_end.queues[0];

static void begin_unconnected(void)
{
	echo_device_init(&device, path);
}

static void begin_connected(void)
{
	begin_unconnected();
	front_end_init(&front_end, path, echo_device_run, &device);
}

static void begin_negotiated(void)
{
	begin_connected();
	front_end_negotiate(&front_end, UINT64_MAX);
}

static void begin(void)
{
	begin_connected();
	front_end_start(&front_end);
}

static void end(void)
{
	front_end_finish(&front_end);
	assert_false(vhost_user_is_connected(device.server));
	assert_null(device.memory);
	assert_int_equal(device.num_held, 0);
	echo_device_finish(&device);
}

#define TEST_CONNECTED(name) TEST_BETWEEN(name, begin_connected(), end())
#define TEST_NEGOTIATED(name) TEST_BETWEEN(name, begin_negotiated(), end())
#define TEST_STARTED(name) TEST_BETWEEN(name, begin(), end())

static void run(void)
{
	echo_device_run(&device);
}

static void assert_used(struct front_end_queue *of, uint32_t head, uint32_t written)
{
	uint32_t used_head, used_written;

	assert_true(front_end_used(of, &used_head, &used_written));
	assert_int_equal(used_head, head);
	assert_int_equal(used_written, written);
}

static void assert_not_used(struct front_end_queue *of)
{
	uint32_t head, written;

	assert_false(front_end_used(of, &head, &written));
}

/* A request goes all the way, on queue `index`. */
static void assert_echo(uint32_t index)
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

static void assert_next_front_end_is_served(void)
{
	front_end_disconnect(&front_end);
	front_end_connect(&front_end, path);
	front_end.next_free = FRONT_END_NEAR;
	front_end_start(&front_end);
	assert_echo(0);
	assert_echo(1);
}

/* ---- Negotiating -------------------------------------------------------------------------- */

TEST_CONNECTED(features_are_the_devices_and_those_of_rings)
{
	assert_int_equal(front_end_get_number(&front_end, VHOST_USER_GET_FEATURES),
		ECHO_FEATURES | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
			BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VHOST_USER_F_PROTOCOL_FEATURES));
}

TEST_CONNECTED(the_device_learns_which_features_were_accepted)
{
	front_end_negotiate(&front_end, BIT(3) | BIT(VIRTIO_F_VERSION_1));
	assert_int_equal(device.features, BIT(3));
}

/* QEMU passes on bits of its own, such as this one. */
TEST_NEGOTIATED(features_that_were_not_offered_are_dropped)
{
	assert_int_equal(front_end_call_number(&front_end, VHOST_USER_SET_FEATURES,
				 front_end.features | BIT(40) | BIT(1)),
		0);
	assert_int_equal(device.features, ECHO_FEATURES);
}

TEST_NEGOTIATED(features_that_change_the_rings_are_refused)
{
	const unsigned int bits[] = { VIRTIO_F_RING_PACKED, VIRTIO_F_ACCESS_PLATFORM,
		VIRTIO_F_IN_ORDER };

	for (size_t i = 0; i < 3; i++) {
		assert_int_not_equal(front_end_call_number(&front_end, VHOST_USER_SET_FEATURES,
					     front_end.features | BIT(bits[i])),
			0);
	}
}

TEST_NEGOTIATED(protocol_features_that_were_not_offered_are_refused)
{
	assert_int_not_equal(front_end_call_number(&front_end, VHOST_USER_SET_PROTOCOL_FEATURES,
				     BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT(16)),
		0);
}

TEST_NEGOTIATED(numbers_of_queues_and_memory_slots_are_told)
{
	assert_int_equal(front_end_get_number(&front_end, VHOST_USER_GET_QUEUE_NUM), ECHO_QUEUES);
	assert_int_equal(front_end_get_number(&front_end, VHOST_USER_GET_MAX_MEM_SLOTS),
		GUEST_MEMORY_MAX_REGIONS);
}

TEST_CONNECTED(nothing_is_acknowledged_where_that_was_not_negotiated)
{
	front_end_send(
		&front_end, VHOST_USER_SET_OWNER, VHOST_USER_FLAG_NEED_REPLY, NULL, 0, NULL, 0);
	/* The next answer is that of the next message. */
	assert_int_equal(front_end_get_number(&front_end, VHOST_USER_GET_QUEUE_NUM), ECHO_QUEUES);
}

/* ---- Requests ----------------------------------------------------------------------------- */

TEST_STARTED(a_request_is_answered)
{
	assert_echo(0);
	assert_echo(1);
	assert_echo(0);
}

TEST_STARTED(a_request_in_an_indirect_table_of_another_region_is_answered)
{
	struct vring_desc *table;

	table = front_end_at(&front_end, FRONT_END_FAR);
	table[0] = (struct vring_desc){ FRONT_END_NEXT - 2, 5, VRING_DESC_F_NEXT, 1 };
	table[1] = (struct vring_desc){ FRONT_END_NEXT + 100, 5, VRING_DESC_F_WRITE, 0 };
	memcpy(front_end_at(&front_end, FRONT_END_NEXT - 2), "he", 2);
	memcpy(front_end_at(&front_end, FRONT_END_NEXT), "llo", 3);
	front_end_desc(queue, 4, FRONT_END_FAR, 32, VRING_DESC_F_INDIRECT, 0);
	front_end_offer(queue, 4);
	front_end_show(queue);
	front_end_kick(queue);
	run();
	assert_used(queue, 4, 5);
	assert_memory_equal(front_end_at(&front_end, FRONT_END_NEXT + 100), "hello", 5);
}

TEST_STARTED(what_one_round_completes_is_notified_once)
{
	device.hold = true;
	for (uint16_t i = 0; i < 16; i += 2) {
		front_end_request(&front_end, 0, i, "x", 1, 1);
	}
	front_end_kick(queue);
	run();
	assert_int_equal(device.num_held, 8);
	assert_int_equal(front_end_notifications(queue), 0);
	echo_device_release(&device);
	assert_not_used(queue);
	run();
	assert_int_equal(front_end_notifications(queue), 1);
	assert_int_equal(queue->used->idx, 8);
}

TEST_STARTED(a_guest_that_wants_no_notification_gets_none)
{
	assert_echo(0);
	front_end_notifications(queue);
	queue->avail->ring[queue->size] = 2; /* the event index: after the third */
	assert_echo(0);
	assert_int_equal(front_end_notifications(queue), 0);
	assert_echo(0);
	assert_int_equal(front_end_notifications(queue), 1);
}

/* What is made available while others are being handled needs no kick, and the device says so. */
TEST_STARTED(kicks_are_wanted_again_when_all_is_handled)
{
	const uint16_t *avail_event;

	avail_event = (const uint16_t *)&queue->used->ring[queue->size];
	for (uint16_t i = 0; i < 3; i++) {
		assert_int_equal(*avail_event, i);
		assert_echo(0);
	}
}

TEST_STARTED(many_kicks_are_noticed_though_none_is_read)
{
	for (int i = 0; i < 1000; i++) {
		front_end_kick(queue);
		assert_echo(0);
	}
}

/* Waits a little, for nothing to happen: the time is a lower bound, so a slow machine is none. */
TEST_STARTED(nothing_wakes_up_an_idle_device)
{
	struct timespec before, after;
	int64_t ns;

	assert_echo(0);
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(vhost_user_dispatch(device.server, 20), 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	ns = (after.tv_sec - before.tv_sec) * INT64_C(1000000000) + after.tv_nsec - before.tv_nsec;
	assert_true(ns >= 20000000);
}

TEST_STARTED(a_kick_without_a_request_does_nothing)
{
	front_end_kick(queue);
	run();
	assert_int_equal(device.handled, 0);
	assert_int_equal(front_end_notifications(queue), 0);
}

TEST_STARTED(no_more_than_a_queue_is_handled_before_others)
{
	for (int i = 0; i < 16; i++) {
		front_end_desc(queue, (uint32_t)i, FRONT_END_FAR, 1, 0, 0);
		front_end_offer(queue, (uint16_t)i);
	}
	front_end_show(queue);
	front_end_kick(queue);
	assert_int_equal(vhost_user_dispatch(device.server, -1), 0);
	assert_int_equal(device.handled, 16);
	/* Looks again without waiting, though no kick is wanted yet. */
	assert_int_equal(vhost_user_dispatch(device.server, -1), 0);
	assert_echo(0);
}

TEST_STARTED(requests_that_take_long_let_others_have_their_turn)
{
	device.slow_ms = 150;
	for (uint16_t i = 0; i < 3; i++) {
		front_end_desc(queue, i, FRONT_END_FAR, 1, 0, 0);
		front_end_offer(queue, i);
	}
	front_end_show(queue);
	front_end_kick(queue);
	for (uint16_t i = 0; i < 3; i++) {
		assert_int_equal(vhost_user_dispatch(device.server, -1), 0);
		assert_int_equal(device.handled, i + 1);
		assert_used(queue, i, 0);
	}
	device.slow_ms = 0;
	assert_echo(0);
}

TEST_STARTED(a_notification_can_go_to_a_socket)
{
	uint64_t count = 0;
	int sockets[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(
		front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_CALL, 0, sockets[1]), 0);
	close(sockets[1]);
	/* One at once, as notifications may have gone to the descriptor before. */
	assert_int_equal(recv(sockets[0], &count, sizeof(count), MSG_DONTWAIT), sizeof(count));
	assert_int_equal(recv(sockets[0], &count, sizeof(count), MSG_DONTWAIT), -1);
	assert_echo(0);
	assert_int_equal(recv(sockets[0], &count, sizeof(count), MSG_DONTWAIT), sizeof(count));
	assert_int_equal(count, 1);
	close(sockets[0]);
	assert_echo(0);
}

TEST_STARTED(a_notification_that_is_not_read_is_not_waited_for)
{
	int blocking = eventfd(0, EFD_CLOEXEC);

	assert_int_equal(eventfd_write(blocking, UINT64_MAX - 1), 0);
	assert_int_equal(
		front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_CALL, 0, blocking), 0);
	assert_echo(0);
	close(blocking);
}

TEST_STARTED(a_queue_without_a_call_descriptor_works)
{
	assert_int_equal(front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_CALL, 0, -1), 0);
	assert_echo(0);
}

TEST_STARTED(a_kick_that_would_block_a_reader_is_fine)
{
	close(queue->kick_fd);
	queue->kick_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(
		front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_KICK, 0, queue->kick_fd),
		0);
	assert_echo(0);
	run();
}

/* ---- Two threads -------------------------------------------------------------------------- */

#define ANSWER_MS 10000 /* only where a notification was lost */

struct device_thread {
	pthread_t thread;
	struct vhost_user_watch stop;
	bool stopped;
};

static void note_stop(void *arg)
{
	struct device_thread *thread = arg;

	thread->stopped = true;
}

static void *run_device(void *arg)
{
	struct device_thread *thread = arg;

	while (!thread->stopped) {
		vhost_user_dispatch(device.server, -1);
	}
	return NULL;
}

static void start_thread(struct device_thread *thread)
{
	*thread = (struct device_thread){
		.stop = { .fd = make_fence(false), .readable = note_stop, .arg = thread },
	};
	assert_int_equal(vhost_user_watch(device.server, &thread->stop), 0);
	assert_int_equal(pthread_create(&thread->thread, NULL, run_device, thread), 0);
}

static void stop_thread(struct device_thread *thread)
{
	signal_fence(thread->stop.fd);
	pthread_join(thread->thread, NULL);
	vhost_user_unwatch(device.server, &thread->stop);
	close(thread->stop.fd);
}

static uint16_t load(const uint16_t *from)
{
	return __atomic_load_n(from, __ATOMIC_SEQ_CST);
}

static void store(uint16_t *to, uint16_t value)
{
	__atomic_store_n(to, value, __ATOMIC_SEQ_CST);
}

/* As Linux's driver does: kicks only where the device wants it. */
static void make_available(bool event_idx, uint16_t head)
{
	uint16_t old = queue->next_avail;
	bool wanted;

	front_end_offer(queue, head);
	front_end_show(queue);
	if (event_idx) {
		wanted = vring_need_event(
			load((uint16_t *)&queue->used->ring[queue->size]), queue->next_avail, old);
	} else {
		wanted = !(load(&queue->used->flags) & VRING_USED_F_NO_NOTIFY);
	}
	if (wanted) {
		front_end_kick(queue);
	}
}

/* Asks for notifications only where there is nothing left to look at. */
static uint32_t wait_for_one(bool event_idx)
{
	struct pollfd pollfd = { .fd = queue->call_fd, .events = POLLIN };
	uint32_t head, written;

	while (!front_end_used(queue, &head, &written)) {
		if (event_idx) {
			store(&queue->avail->ring[queue->size], queue->next_used);
		} else {
			store(&queue->avail->flags, 0);
		}
		if (load(&queue->used->idx) == queue->next_used) {
			assert_int_equal(poll(&pollfd, 1, ANSWER_MS), 1);
			front_end_notifications(queue);
		}
		if (!event_idx) {
			store(&queue->avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
		}
	}
	return head;
}

static void exchange(uint64_t features, unsigned int requests)
{
	const bool event_idx = features & BIT(VIRTIO_RING_F_EVENT_IDX);
	struct device_thread thread;

	begin_negotiated();
	assert_int_equal(front_end_call_number(&front_end, VHOST_USER_SET_FEATURES,
				 BIT(VHOST_USER_F_PROTOCOL_FEATURES) | features),
		0);
	assert_int_equal(front_end_set_memory(&front_end), 0);
	front_end_make_queue(&front_end, 0, 16);
	assert_int_equal(front_end_start_queue(&front_end, 0, 0), 0);
	for (uint32_t i = 0; i < 8; i++) {
		front_end_desc(queue, i, FRONT_END_FAR, 1, 0, 0);
	}
	start_thread(&thread);
	for (uint16_t i = 0; i < 8; i++) {
		make_available(event_idx, i);
	}
	for (unsigned int i = 8; i < requests; i++) {
		make_available(event_idx, (uint16_t)wait_for_one(event_idx));
	}
	for (int i = 0; i < 8; i++) {
		wait_for_one(event_idx);
	}
	stop_thread(&thread);
	assert_int_equal(device.handled, requests);
	end();
}

TEST(no_kick_and_no_notification_is_lost_with_flags)
{
	exchange(0, 5000);
}

TEST(no_kick_and_no_notification_is_lost_with_the_event_index)
{
	exchange(BIT(VIRTIO_RING_F_EVENT_IDX), 5000);
}

/* ---- Queues start and stop ---------------------------------------------------------------- */

TEST_NEGOTIATED(requests_from_before_the_start_need_no_kick)
{
	assert_int_equal(front_end_set_memory(&front_end), 0);
	front_end_make_queue(&front_end, 0, 16);
	front_end_request(&front_end, 0, 0, "x", 1, 1);
	assert_int_equal(front_end_start_queue(&front_end, 0, 0), 0);
	assert_used(queue, 0, 1);
}

TEST_STARTED(a_queue_that_is_disabled_waits)
{
	assert_int_equal(front_end_call_state(&front_end, VHOST_USER_SET_VRING_ENABLE, 0, 0), 0);
	front_end_request(&front_end, 0, 0, "x", 1, 1);
	front_end_kick(queue);
	run();
	assert_not_used(queue);
	assert_echo(1);
	assert_int_equal(front_end_call_state(&front_end, VHOST_USER_SET_VRING_ENABLE, 0, 1), 0);
	assert_used(queue, 0, 1);
	assert_echo(0);
}

TEST_NEGOTIATED(without_protocol_features_queues_need_not_be_enabled)
{
	const uint64_t call = 0;

	assert_int_equal(
		front_end_call_number(&front_end, VHOST_USER_SET_FEATURES, BIT(VIRTIO_F_VERSION_1)),
		0);
	assert_int_equal(front_end_set_memory(&front_end), 0);
	front_end_make_queue(&front_end, 0, 16);
	assert_int_equal(front_end_call_state(&front_end, VHOST_USER_SET_VRING_NUM, 0, 16), 0);
	assert_int_equal(front_end_set_addr(&front_end, 0), 0);
	assert_int_equal(front_end_call(&front_end, VHOST_USER_SET_VRING_KICK, &call, sizeof(call),
				 &queue->kick_fd, 1),
		0);
	assert_echo(0);
}

TEST_STARTED(get_vring_base_completes_what_is_in_flight)
{
	assert_echo(0);
	device.hold = true;
	front_end_request(&front_end, 0, 2, "abc", 3, 3);
	front_end_request(&front_end, 0, 4, "de", 2, 3);
	front_end_kick(queue);
	run();
	assert_int_equal(device.num_held, 2);
	assert_int_equal(front_end_stop_queue(&front_end, 0), 3);
	assert_int_equal(device.drains, 1);
	assert_used(queue, 2, 3);
	assert_used(queue, 4, 2);
	assert_int_equal(device.resets, 0);
}

TEST_STARTED(a_stopped_queue_goes_on_where_it_was)
{
	assert_echo(0);
	assert_int_equal(front_end_stop_queue(&front_end, 0), 1);
	front_end_request(&front_end, 0, 2, "x", 1, 1);
	front_end_kick(queue);
	run();
	assert_not_used(queue);
	assert_int_equal(front_end_start_queue(&front_end, 0, 1), 0);
	assert_used(queue, 2, 1);
	assert_int_equal(device.resets, 0);
}

TEST_NEGOTIATED(the_base_of_a_queue_that_never_ran_is_what_was_set)
{
	assert_int_equal(front_end_stop_queue(&front_end, 0), 0);
	assert_int_equal(front_end_call_state(&front_end, VHOST_USER_SET_VRING_BASE, 0, 77), 0);
	assert_int_equal(front_end_stop_queue(&front_end, 0), 77);
	assert_int_equal(device.resets, 0);
}

/* A guest reset its device: so QEMU and User-Mode Linux tell, in effect. */
TEST_STARTED(a_queue_that_begins_elsewhere_resets_the_device)
{
	assert_echo(0);
	device.hold = true;
	front_end_request(&front_end, 1, 2, "x", 1, 1);
	front_end_kick(&front_end.queues[1]);
	run();
	assert_int_equal(front_end_call_state(&front_end, VHOST_USER_SET_VRING_ENABLE, 0, 0), 0);
	front_end_make_queue(&front_end, 0, 16);
	assert_int_equal(front_end_start_queue(&front_end, 0, 0), 0);
	assert_int_equal(device.resets, 1);
	assert_echo(0);
}

TEST_STARTED(reset_device_completes_resets_and_stops)
{
	device.hold = true;
	front_end_request(&front_end, 0, 2, "abc", 3, 3);
	front_end_kick(queue);
	run();
	assert_int_equal(front_end_call(&front_end, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0), 0);
	assert_int_equal(device.resets, 1);
	assert_used(queue, 2, 3);
	front_end_request(&front_end, 0, 0, "x", 1, 1);
	front_end_kick(queue);
	run();
	assert_not_used(queue);
	/* The memory is still known. */
	for (uint32_t i = 0; i < 2; i++) {
		front_end_make_queue(&front_end, i, 16);
		assert_int_equal(front_end_start_queue(&front_end, i, 0), 0);
		assert_echo(i);
	}
}

TEST_STARTED(reset_owner_stops_the_queues_alone)
{
	assert_int_equal(front_end_call(&front_end, VHOST_USER_RESET_OWNER, NULL, 0, NULL, 0), 0);
	assert_int_equal(device.resets, 0);
	front_end_request(&front_end, 0, 0, "x", 1, 1);
	front_end_kick(queue);
	run();
	assert_not_used(queue);
}

TEST_STARTED(a_running_queue_cannot_be_changed)
{
	assert_int_not_equal(front_end_call_state(&front_end, VHOST_USER_SET_VRING_NUM, 0, 32), 0);
	assert_int_not_equal(front_end_call_state(&front_end, VHOST_USER_SET_VRING_BASE, 0, 0), 0);
	assert_int_not_equal(front_end_set_addr(&front_end, 0), 0);
	assert_echo(0);
}

/* ---- Memory ------------------------------------------------------------------------------- */

static void remap(struct front_end_region *region)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	char *copy;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)(region->where.offset + region->where.size)), 0);
	copy = mmap(NULL, region->where.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		(off_t)region->where.offset);
	assert_true(copy != MAP_FAILED);
	memcpy(copy, region->map, region->where.size);
	assert_int_equal(munmap(region->map, region->where.size), 0);
	close(region->fd);
	region->fd = fd;
	region->map = (uint8_t *)copy;
}

/* The guest's pages stay what they are; they are in another file now. */
TEST_STARTED(memory_is_replaced_with_requests_in_flight)
{
	char *answer;

	device.hold = true;
	front_end_request(&front_end, 0, 2, "abc", 3, 3);
	front_end_kick(queue);
	run();
	remap(&front_end.regions[2]);
	assert_int_equal(front_end_set_memory(&front_end), 0);
	echo_device_release(&device);
	run();
	assert_used(queue, 2, 3);

	device.hold = false;
	answer = front_end_at(&front_end, FRONT_END_FAR);
	front_end_desc(queue, 0, FRONT_END_NEXT, 5, VRING_DESC_F_NEXT, 1);
	front_end_desc(queue, 1, FRONT_END_FAR, 5, VRING_DESC_F_WRITE, 0);
	memcpy(front_end_at(&front_end, FRONT_END_NEXT), "hello", 5);
	front_end_offer(queue, 0);
	front_end_show(queue);
	front_end_kick(queue);
	run();
	assert_used(queue, 0, 5);
	assert_memory_equal(answer, "hello", 5);
}

TEST_STARTED(a_region_is_added_and_removed_while_running)
{
	struct vhost_user_mem_region message = { .region = front_end.regions[2].where };
	int fd;

	message.region = front_end.regions[2].where;
	fd = front_end.regions[2].fd;
	assert_int_equal(front_end_call(&front_end, VHOST_USER_REM_MEM_REG, &message,
				 sizeof(message), NULL, 0),
		0);
	assert_int_not_equal(front_end_call(&front_end, VHOST_USER_REM_MEM_REG, &message,
				     sizeof(message), NULL, 0),
		0);
	assert_echo(0);
	assert_int_equal(front_end_call(&front_end, VHOST_USER_ADD_MEM_REG, &message,
				 sizeof(message), &fd, 1),
		0);
	assert_int_not_equal(front_end_call(&front_end, VHOST_USER_ADD_MEM_REG, &message,
				     sizeof(message), &fd, 1),
		0);
	front_end_desc(queue, 0, FRONT_END_FAR, 5, 0, 0);
	front_end_offer(queue, 0);
	front_end_show(queue);
	front_end_kick(queue);
	run();
	assert_used(queue, 0, 0);
	/* One descriptor more is allowed there, and closed. */
	assert_int_equal(front_end_call(&front_end, VHOST_USER_REM_MEM_REG, &message,
				 sizeof(message), &fd, 1),
		0);
}

TEST_STARTED(a_region_is_removed_under_a_request)
{
	struct vhost_user_mem_region message;

	device.hold = true;
	message = (struct vhost_user_mem_region){ .region = front_end.regions[2].where };
	front_end_desc(queue, 0, FRONT_END_FAR, 5, VRING_DESC_F_NEXT, 1);
	front_end_desc(queue, 1, FRONT_END_FAR + 8, 5, VRING_DESC_F_WRITE, 0);
	front_end_offer(queue, 0);
	front_end_show(queue);
	front_end_kick(queue);
	run();
	assert_int_equal(front_end_call(&front_end, VHOST_USER_REM_MEM_REG, &message,
				 sizeof(message), NULL, 0),
		0);
	echo_device_release(&device);
	run();
	assert_used(queue, 0, 5);
}

TEST_STARTED(a_queue_whose_rings_are_taken_away_stops)
{
	struct vhost_user_mem_region message;
	eventfd_t count = 0;

	message = (struct vhost_user_mem_region){ .region = front_end.regions[0].where };
	assert_int_equal(front_end_call(&front_end, VHOST_USER_REM_MEM_REG, &message,
				 sizeof(message), NULL, 0),
		0);
	assert_int_equal(eventfd_read(queue->err_fd, &count), 0);
	front_end_kick(queue);
	run();
	assert_int_equal(device.handled, 0);
	assert_next_front_end_is_served();
}

TEST_NEGOTIATED(user_mode_linuxs_table_with_room_for_two_is_taken)
{
	struct vhost_user_mem_table table = { .num_regions = 1 };

	table.regions[0] = front_end.regions[0].where;
	assert_int_equal(front_end_call(&front_end, VHOST_USER_SET_MEM_TABLE, &table, 8 + 2 * 32,
				 &front_end.regions[0].fd, 1),
		0);
	assert_non_null(device.memory);
}

TEST_NEGOTIATED(tables_that_are_wrong_are_refused)
{
	struct vhost_user_mem_table table = { .num_regions = 2 }, wrong;
	int fds[2];

	for (size_t i = 0; i < 2; i++) {
		table.regions[i] = front_end.regions[i].where;
		fds[i] = front_end.regions[i].fd;
	}
	assert_int_not_equal(
		front_end_call(&front_end, VHOST_USER_SET_MEM_TABLE, &table, 8 + 2 * 32, fds, 1),
		0);
	assert_int_not_equal(front_end_call(&front_end, VHOST_USER_SET_MEM_TABLE, &table,
				     8 + 2 * 32 - 1, fds, 2),
		0);
	assert_int_not_equal(
		front_end_call(&front_end, VHOST_USER_SET_MEM_TABLE, &table, 4, NULL, 0), 0);
	wrong = table;
	wrong.num_regions = UINT32_MAX;
	assert_int_not_equal(
		front_end_call(&front_end, VHOST_USER_SET_MEM_TABLE, &wrong, sizeof(wrong), fds, 2),
		0);
	wrong = table;
	wrong.regions[1].guest_addr = wrong.regions[0].guest_addr;
	assert_int_not_equal(
		front_end_call(&front_end, VHOST_USER_SET_MEM_TABLE, &wrong, 8 + 2 * 32, fds, 2),
		0);
	wrong = table;
	wrong.regions[1].size += 1;
	assert_int_not_equal(
		front_end_call(&front_end, VHOST_USER_SET_MEM_TABLE, &wrong, 8 + 2 * 32, fds, 2),
		0);
	assert_null(device.memory);
	assert_int_equal(
		front_end_call(&front_end, VHOST_USER_SET_MEM_TABLE, &table, 8 + 2 * 32, fds, 2),
		0);
}

TEST_STARTED(a_front_end_that_shortens_its_memory_is_disconnected)
{
	front_end_desc(queue, 0, FRONT_END_FAR, 8, VRING_DESC_F_NEXT, 1);
	front_end_desc(queue, 1, FRONT_END_NEXT, 8, VRING_DESC_F_WRITE, 0);
	front_end_offer(queue, 0);
	front_end_show(queue);
	assert_int_equal(ftruncate(front_end.regions[2].fd, 0), 0);
	front_end_kick(queue);
	assert_true(front_end_is_disconnected(&front_end));
	assert_int_equal(device.resets, 1);
	assert_non_null(strstr(device.last_log, "shortened"));
	assert_int_equal(ftruncate(front_end.regions[2].fd, 0x3000 + FRONT_END_REGION_SIZE), 0);
	assert_next_front_end_is_served();
}

/* ---- Configuration space, other channels -------------------------------------------------- */

static int get_config(uint32_t offset, uint32_t size, uint32_t message_size, void *data)
{
	union vhost_user_payload payload = { .config = { .offset = offset, .size = size } };
	uint32_t request;
	int ret;

	front_end_send(&front_end, VHOST_USER_GET_CONFIG, 0, &payload, message_size, NULL, 0);
	ret = front_end_receive(&front_end, &request, &payload, sizeof(payload));
	assert_int_equal(request, VHOST_USER_GET_CONFIG);
	if (ret > 12) {
		assert_int_equal(payload.config.offset, offset);
		assert_int_equal(payload.config.size, size);
		memcpy(data, payload.config.data, size);
	}
	return ret;
}

static int64_t set_config(uint32_t offset, uint32_t size, uint32_t flags, uint32_t message_size)
{
	struct vhost_user_config config = { .offset = offset, .size = size, .flags = flags };

	memset(config.data, 0x5a, sizeof(config.data));
	return front_end_call(&front_end, VHOST_USER_SET_CONFIG, &config, message_size, NULL, 0);
}

TEST_NEGOTIATED(the_configuration_is_read)
{
	uint8_t data[ECHO_CONFIG_SIZE];

	for (uint8_t i = 0; i < ECHO_CONFIG_SIZE; i++) {
		device.config[i] = i;
	}
	assert_int_equal(get_config(0, ECHO_CONFIG_SIZE, 12 + ECHO_CONFIG_SIZE, data), 12 + 24);
	assert_memory_equal(data, device.config, ECHO_CONFIG_SIZE);
	assert_int_equal(get_config(20, 4, 16, data), 16);
	assert_memory_equal(data, device.config + 20, 4);
}

TEST_NEGOTIATED(configuration_that_is_not_there_reads_as_nothing)
{
	uint8_t data[ECHO_CONFIG_SIZE];

	assert_int_equal(get_config(0, ECHO_CONFIG_SIZE + 1, 12 + ECHO_CONFIG_SIZE + 1, data), 0);
	assert_int_equal(get_config(UINT32_MAX, 4, 16, data), 0);
	assert_int_equal(get_config(0, UINT32_MAX, 16, data), 0);
	assert_int_equal(get_config(0, 8, 16, data), 0);
	assert_int_equal(get_config(0, 257, 12 + 257, data), 0);
	assert_int_equal(get_config(0, 0, 3, data), 0);
}

TEST_NEGOTIATED(the_configuration_is_written)
{
	assert_int_equal(set_config(4, 4, 0, 16), 0);
	assert_int_equal(device.config[3], 0);
	assert_int_equal(device.config[4], 0x5a);
	assert_int_equal(device.config[7], 0x5a);
	assert_int_equal(device.config[8], 0);
	assert_int_not_equal(set_config(ECHO_CONFIG_SIZE / 2, 4, 0, 16), 0);
	assert_int_not_equal(set_config(4, 4, 1, 16), 0);
	assert_int_not_equal(set_config(4, 8, 0, 16), 0);
	assert_int_not_equal(set_config(UINT32_MAX, 4, 0, 16), 0);
	assert_int_not_equal(set_config(0, 0, 0, 11), 0);
}

TEST_NEGOTIATED(a_change_of_the_configuration_is_told)
{
	struct vhost_user_header header;
	int sockets[2];

	vhost_user_config_changed(device.server);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(
		front_end_call(&front_end, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &sockets[1], 1),
		0);
	close(sockets[1]);
	vhost_user_config_changed(device.server);
	assert_int_equal(recv(sockets[0], &header, sizeof(header), MSG_DONTWAIT), sizeof(header));
	assert_int_equal(header.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(header.flags, VHOST_USER_VERSION);
	assert_int_equal(header.size, 0);
	close(sockets[0]);
	vhost_user_config_changed(device.server);
	assert_int_equal(device.warnings, 1);
}

TEST_NEGOTIATED(the_gpus_socket_goes_to_the_device)
{
	int sockets[2];
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	front_end_send(&front_end, VHOST_USER_GPU_SET_SOCKET, 0, NULL, 0, &sockets[1], 1);
	run();
	close(sockets[1]);
	assert_true(device.gpu_socket_fd >= 0);
	assert_int_equal(fcntl(device.gpu_socket_fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(send(device.gpu_socket_fd, "x", 1, 0), 1);
	assert_int_equal(recv(sockets[0], &byte, 1, MSG_DONTWAIT), 1);
	close(sockets[0]);
}

static void note_readable(void *arg)
{
	struct vhost_user_watch *watch = arg;
	eventfd_t count;

	eventfd_read(watch->fd, &count);
	device.handled++;
}

TEST_STARTED(a_descriptor_of_the_devices_is_watched)
{
	struct vhost_user_watch watch = { .readable = note_readable, .arg = &watch };

	watch.fd = make_fence(false);
	assert_int_equal(vhost_user_watch(device.server, &watch), 0);
	run();
	assert_int_equal(device.handled, 0);
	signal_fence(watch.fd);
	assert_int_equal(vhost_user_dispatch(device.server, -1), 0);
	assert_int_equal(device.handled, 1);
	vhost_user_unwatch(device.server, &watch);
	signal_fence(watch.fd);
	run();
	assert_int_equal(device.handled, 1);
	close(watch.fd);
}

struct pair {
	struct vhost_user_watch watch;
	struct pair *other;
};

static void unwatch_the_other(void *arg)
{
	struct pair *pair = arg;

	vhost_user_unwatch(device.server, &pair->other->watch);
	device.handled++;
}

/* Both are ready in one round; whichever comes first takes the other one away. */
TEST_STARTED(a_descriptor_that_is_not_watched_any_more_is_not_told_of)
{
	struct pair pairs[2];

	for (int i = 0; i < 2; i++) {
		pairs[i].other = &pairs[1 - i];
		pairs[i].watch = (struct vhost_user_watch){ .fd = make_fence(true),
			.events = EPOLLIN | EPOLLET,
			.readable = unwatch_the_other,
			.arg = &pairs[i] };
		assert_int_equal(vhost_user_watch(device.server, &pairs[i].watch), 0);
	}
	run();
	assert_int_equal(device.handled, 1);
	for (int i = 0; i < 2; i++) {
		vhost_user_unwatch(device.server, &pairs[i].watch);
		close(pairs[i].watch.fd);
	}
}

/* ---- Connections -------------------------------------------------------------------------- */

TEST_STARTED(the_next_front_end_is_served)
{
	assert_next_front_end_is_served();
	assert_int_equal(device.resets, 1);
}

TEST_STARTED(a_second_front_end_waits_for_the_first_to_leave)
{
	static struct front_end second;
	char byte;

	front_end_init(&second, path, echo_device_run, &device);
	front_end_send(&second, VHOST_USER_GET_QUEUE_NUM, 0, NULL, 0, NULL, 0);
	assert_echo(0);
	assert_int_equal(recv(second.socket_fd, &byte, 1, MSG_DONTWAIT), -1);
	front_end_disconnect(&front_end);
	/* It was asked while it waited. */
	assert_int_equal(front_end_get_number(&second, VHOST_USER_GET_QUEUE_NUM), ECHO_QUEUES);
	front_end_finish(&second);
}

TEST_STARTED(a_front_end_dies_with_requests_in_flight)
{
	device.hold = true;
	for (uint16_t i = 0; i < 16; i += 2) {
		front_end_request(&front_end, 0, i, "x", 1, 1);
		front_end_request(&front_end, 1, i, "x", 1, 1);
	}
	front_end_kick(queue);
	front_end_kick(&front_end.queues[1]);
	run();
	assert_int_equal(device.num_held, 16);
	front_end_disconnect(&front_end);
	assert_int_equal(device.num_held, 0);
	assert_int_equal(device.resets, 1);
	assert_null(device.memory);
	assert_next_front_end_is_served();
}

TEST_STARTED(a_kick_after_the_front_end_has_died_does_nothing)
{
	front_end_disconnect(&front_end);
	front_end_request(&front_end, 0, 0, "x", 1, 1);
	front_end_kick(queue);
	run();
	assert_int_equal(device.handled, 0);
}

TEST(a_device_is_destroyed_under_a_front_end)
{
	begin();
	device.hold = true;
	front_end_request(&front_end, 0, 0, "x", 1, 1);
	front_end_kick(queue);
	run();
	echo_device_finish(&device);
	assert_int_equal(device.num_held, 0);
	front_end.run = NULL;
	assert_true(front_end_is_disconnected(&front_end));
	front_end_finish(&front_end);
}

/* What a front end sends to set itself up, as bytes. */
struct script {
	struct {
		struct vhost_user_header header;
		union vhost_user_payload payload;
		int fds[FRONT_END_REGIONS];
		size_t num_fds;
	} messages[16];
	size_t count;
};

static void add(struct script *script, uint32_t request, const void *payload, uint32_t size,
	const int *fds, size_t num_fds)
{
	size_t at = script->count++;

	script->messages[at].header = (struct vhost_user_header){ request,
		VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY, size };
	if (size > 0) {
		memcpy(&script->messages[at].payload, payload, size);
	}
	for (size_t i = 0; i < num_fds; i++) {
		script->messages[at].fds[i] = fds[i];
	}
	script->messages[at].num_fds = num_fds;
}

static void make_script(struct script *script)
{
	const uint64_t protocol = front_end_get_number(
		&front_end, VHOST_USER_GET_PROTOCOL_FEATURES);
	const uint64_t features = front_end_get_number(&front_end, VHOST_USER_GET_FEATURES);
	const struct vhost_user_vring_addr addr = {
		.desc = queue->desc_addr + FRONT_END_USER_OFFSET,
		.used = queue->used_addr + FRONT_END_USER_OFFSET,
		.avail = queue->avail_addr + FRONT_END_USER_OFFSET,
	};
	const struct vhost_user_vring_state num = { 0, 16 }, base = { 0, 0 }, enable = { 0, 1 };
	struct vhost_user_mem_table table = { .num_regions = FRONT_END_REGIONS };
	const uint64_t index = 0;
	int fds[FRONT_END_REGIONS];

	for (size_t i = 0; i < FRONT_END_REGIONS; i++) {
		table.regions[i] = front_end.regions[i].where;
		fds[i] = front_end.regions[i].fd;
	}
	add(script, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
	add(script, VHOST_USER_SET_PROTOCOL_FEATURES, &protocol, 8, NULL, 0);
	add(script, VHOST_USER_SET_FEATURES, &features, 8, NULL, 0);
	add(script, VHOST_USER_SET_MEM_TABLE, &table, 8 + 3 * 32, fds, 3);
	add(script, VHOST_USER_SET_VRING_NUM, &num, 8, NULL, 0);
	add(script, VHOST_USER_SET_VRING_BASE, &base, 8, NULL, 0);
	add(script, VHOST_USER_SET_VRING_ADDR, &addr, 40, NULL, 0);
	add(script, VHOST_USER_SET_VRING_CALL, &index, 8, &queue->call_fd, 1);
	add(script, VHOST_USER_SET_VRING_ERR, &index, 8, &queue->err_fd, 1);
	add(script, VHOST_USER_SET_VRING_KICK, &index, 8, &queue->kick_fd, 1);
	add(script, VHOST_USER_SET_VRING_ENABLE, &enable, 8, NULL, 0);
	add(script, VHOST_USER_GET_VRING_BASE, &base, 8, NULL, 0);
}

/* Sends it up to the `left`-th byte. Returns whether that was all of it. */
static bool play(const struct script *script, size_t left)
{
	for (size_t i = 0; i < script->count; i++) {
		const struct vhost_user_header *header = &script->messages[i].header;
		uint8_t bytes[sizeof(*header) + sizeof(union vhost_user_payload)];
		size_t size = sizeof(*header) + header->size;

		if (left == 0) {
			return false;
		}
		memcpy(bytes, header, sizeof(*header));
		memcpy(bytes + sizeof(*header), &script->messages[i].payload, header->size);
		size = left < size ? left : size;
		assert_int_equal(front_end_send_bytes(&front_end, bytes, size,
					 script->messages[i].fds, script->messages[i].num_fds),
			(int)size);
		left -= size;
		assert_int_equal(vhost_user_dispatch(device.server, 0), 0);
	}
	return true;
}

TEST_CONNECTED(a_front_end_dies_at_any_point)
{
	struct script script = { 0 };
	int fds;

	front_end_make_queue(&front_end, 0, 16);
	make_script(&script);
	front_end_disconnect(&front_end);
	fds = count_fds();
	for (size_t left = 0;; left++) {
		bool all;

		front_end_connect(&front_end, path);
		all = play(&script, left);
		front_end_disconnect(&front_end);
		assert_int_equal(count_fds(), fds);
		assert_null(device.memory);
		if (all) {
			break;
		}
	}
	assert_int_equal(device.warnings, 0);
	assert_next_front_end_is_served();
}

/* ---- Messages in pieces ------------------------------------------------------------------- */

TEST_STARTED(a_message_may_come_byte_by_byte)
{
	const struct {
		struct vhost_user_header header;
		struct vhost_user_vring_state state;
	} message = { { VHOST_USER_GET_VRING_BASE, VHOST_USER_VERSION, 8 }, { 1, 0 } };
	struct vhost_user_vring_state answer;
	uint32_t request;

	for (size_t i = 0; i < sizeof(message); i++) {
		assert_int_equal(
			front_end_send_bytes(&front_end, (const char *)&message + i, 1, NULL, 0),
			1);
		assert_echo(0); /* others do not wait for the rest */
	}
	assert_int_equal(front_end_receive(&front_end, &request, &answer, sizeof(answer)), 8);
	assert_int_equal(answer.index, 1);
}

TEST_CONNECTED(several_messages_may_come_at_once)
{
	const struct vhost_user_header two[] = {
		{ VHOST_USER_GET_QUEUE_NUM, VHOST_USER_VERSION, 0 },
		{ VHOST_USER_GET_MAX_MEM_SLOTS, VHOST_USER_VERSION, 0 },
	};
	uint64_t answer;
	uint32_t request;

	assert_int_equal(front_end_send_bytes(&front_end, two, sizeof(two), NULL, 0), 24);
	assert_int_equal(front_end_receive(&front_end, &request, &answer, 8), 8);
	assert_int_equal(request, VHOST_USER_GET_QUEUE_NUM);
	assert_int_equal(front_end_receive(&front_end, &request, &answer, 8), 8);
	assert_int_equal(request, VHOST_USER_GET_MAX_MEM_SLOTS);
}

TEST_STARTED(a_front_end_that_reads_no_replies_is_disconnected)
{
	const struct vhost_user_header message = { VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0 };
	int sent = 0;

	for (int i = 0; i < 100000 && sent >= 0; i++) {
		sent = front_end_send_bytes(&front_end, &message, sizeof(message), NULL, 0);
		if (i % 16 == 0) {
			run();
		}
	}
	assert_int_equal(sent, -EPIPE);
	assert_next_front_end_is_served();
}

/* ---- Messages that are wrong -------------------------------------------------------------- */

/* With an acknowledgement it is an error, and the connection stays; without one it ends. */
static void assert_message_refused(
	uint32_t request, const void *payload, uint32_t size, const int *fds, size_t num_fds)
{
	unsigned int warnings;
	bool has_reply = request == VHOST_USER_GET_VRING_BASE;

	begin();
	warnings = device.warnings;
	if (!has_reply) {
		assert_true(front_end_call(&front_end, request, payload, size, fds, num_fds) > 0);
		assert_int_equal(device.warnings, ++warnings);
		assert_echo(1);
	}
	front_end_send(&front_end, request, 0, payload, size, fds, num_fds);
	assert_true(front_end_is_disconnected(&front_end));
	assert_int_equal(device.warnings, warnings + 1);
	assert_next_front_end_is_served();
	end();
}

TEST(unknown_requests_are_refused)
{
	const uint32_t requests[] = { 0, 6, 7, 19, 22, 26, 31, 35, 39, 40, 41, 1000, INT32_MAX,
		UINT32_MAX };

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		assert_message_refused(requests[i], NULL, 0, NULL, 0);
	}
}

TEST(messages_of_the_wrong_size_are_refused)
{
	const struct {
		uint32_t request, size;
	} messages[] = {
		{ VHOST_USER_SET_OWNER, 8 },
		{ VHOST_USER_SET_FEATURES, 0 },
		{ VHOST_USER_SET_FEATURES, 7 },
		{ VHOST_USER_SET_FEATURES, 9 },
		{ VHOST_USER_SET_PROTOCOL_FEATURES, 4 },
		{ VHOST_USER_SET_VRING_NUM, 4 },
		{ VHOST_USER_SET_VRING_BASE, 12 },
		{ VHOST_USER_SET_VRING_ADDR, 39 },
		{ VHOST_USER_SET_VRING_KICK, 0 },
		{ VHOST_USER_SET_VRING_CALL, 16 },
		{ VHOST_USER_SET_VRING_ERR, 1 },
		{ VHOST_USER_SET_VRING_ENABLE, 16 },
		{ VHOST_USER_GET_VRING_BASE, 4 },
		{ VHOST_USER_ADD_MEM_REG, 32 },
		{ VHOST_USER_REM_MEM_REG, 48 },
		{ VHOST_USER_RESET_DEVICE, 1 },
	};
	const uint8_t payload[64] = { 0 };

	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		assert_message_refused(messages[i].request, payload, messages[i].size, NULL, 0);
	}
}

TEST(messages_with_too_many_or_too_few_descriptors_are_refused)
{
	const struct {
		uint32_t request, size;
		size_t num_fds;
	} messages[] = {
		{ VHOST_USER_SET_OWNER, 0, 1 },
		{ VHOST_USER_SET_FEATURES, 8, 1 },
		{ VHOST_USER_SET_VRING_NUM, 8, 8 },
		{ VHOST_USER_SET_VRING_KICK, 8, 0 },
		{ VHOST_USER_SET_VRING_KICK, 8, 2 },
		{ VHOST_USER_SET_VRING_CALL, 8, 0 },
		{ VHOST_USER_SET_VRING_ERR, 8, 2 },
		{ VHOST_USER_SET_BACKEND_REQ_FD, 0, 0 },
		{ VHOST_USER_SET_BACKEND_REQ_FD, 0, 2 },
		{ VHOST_USER_GPU_SET_SOCKET, 0, 0 },
		{ VHOST_USER_GPU_SET_SOCKET, 0, 2 },
		{ VHOST_USER_ADD_MEM_REG, 40, 0 },
		{ VHOST_USER_ADD_MEM_REG, 40, 2 },
		{ VHOST_USER_REM_MEM_REG, 40, 2 },
		{ VHOST_USER_GET_VRING_BASE, 8, 1 },
	};
	const uint8_t payload[64] = { 0 };
	int fds[8];

	for (size_t i = 0; i < 8; i++) {
		fds[i] = make_fence(false);
	}
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		assert_message_refused(
			messages[i].request, payload, messages[i].size, fds, messages[i].num_fds);
	}
	for (size_t i = 0; i < 8; i++) {
		close(fds[i]);
	}
}

TEST(a_queue_that_is_not_there_is_refused)
{
	const uint32_t indices[] = { ECHO_QUEUES, 255, UINT32_MAX };
	int fence = make_fence(false);

	for (size_t i = 0; i < 3; i++) {
		const struct vhost_user_vring_state vring = { .index = indices[i], .num = 1 };
		const struct vhost_user_vring_addr addr = { .index = indices[i] };
		const uint64_t number = indices[i];

		assert_message_refused(VHOST_USER_SET_VRING_NUM, &vring, 8, NULL, 0);
		assert_message_refused(VHOST_USER_SET_VRING_BASE, &vring, 8, NULL, 0);
		assert_message_refused(VHOST_USER_GET_VRING_BASE, &vring, 8, NULL, 0);
		assert_message_refused(VHOST_USER_SET_VRING_ENABLE, &vring, 8, NULL, 0);
		assert_message_refused(VHOST_USER_SET_VRING_ADDR, &addr, 40, NULL, 0);
		assert_message_refused(VHOST_USER_SET_VRING_KICK, &number, 8, &fence, 1);
		assert_message_refused(VHOST_USER_SET_VRING_CALL, &number, 8, &fence, 1);
		assert_message_refused(VHOST_USER_SET_VRING_ERR, &number, 8, &fence, 1);
	}
	close(fence);
}

TEST_NEGOTIATED(numbers_that_are_wrong_are_refused)
{
	const uint32_t sizes[] = { 0, 3, 2048, UINT32_MAX };
	const struct vhost_user_vring_addr logged = { .flags = 1 };
	const uint64_t bits[] = { 1 << 9, 1 << 16, BIT(32), BIT(63) };
	int other = make_fence(false);

	for (size_t i = 0; i < 4; i++) {
		assert_true(front_end_call_state(
				    &front_end, VHOST_USER_SET_VRING_NUM, 0, sizes[i]) > 0);
	}
	assert_true(front_end_call_state(&front_end, VHOST_USER_SET_VRING_BASE, 0, 65536) > 0);
	assert_true(front_end_call_state(&front_end, VHOST_USER_SET_VRING_ENABLE, 0, 2) > 0);
	assert_true(
		front_end_call(&front_end, VHOST_USER_SET_VRING_ADDR, &logged, 40, NULL, 0) > 0);
	for (size_t i = 0; i < 4; i++) {
		assert_true(front_end_call(&front_end, VHOST_USER_SET_VRING_CALL, &bits[i], 8,
				    &other, 1) > 0);
		assert_true(front_end_call_number(&front_end, VHOST_USER_SET_VRING_CALL,
				    bits[i] | VHOST_USER_VRING_NO_FD) > 0);
	}
	close(other);
}

TEST_STARTED(descriptors_that_are_no_eventfds_are_refused)
{
	int fds[4], sockets[2];

	fds[0] = memfd_create("file", MFD_CLOEXEC);
	fds[1] = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(pipe2(fds + 2, O_CLOEXEC), 0);
	for (size_t i = 0; i < 4; i++) {
		assert_true(front_end_set_vring_fd(
				    &front_end, VHOST_USER_SET_VRING_KICK, 0, fds[i]) > 0);
		assert_true(front_end_set_vring_fd(
				    &front_end, VHOST_USER_SET_VRING_CALL, 0, fds[i]) > 0);
		assert_true(front_end_set_vring_fd(
				    &front_end, VHOST_USER_SET_VRING_ERR, 0, fds[i]) > 0);
		close(fds[i]);
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_true(
		front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_KICK, 0, sockets[0]) > 0);
	close(sockets[0]);
	close(sockets[1]);
	assert_next_front_end_is_served();
}

TEST_STARTED(a_queue_that_is_to_be_polled_is_refused)
{
	assert_true(front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_KICK, 0, -1) > 0);
	assert_echo(0);
}

TEST(rings_outside_of_memory_do_not_start)
{
	const uint64_t addresses[] = { 0, FRONT_END_NEAR,
		FRONT_END_FAR + FRONT_END_USER_OFFSET + FRONT_END_REGION_SIZE - 16,
		UINT64_MAX - 15 };

	for (size_t i = 0; i < 4; i++) {
		begin_negotiated();
		assert_int_equal(front_end_set_memory(&front_end), 0);
		front_end_make_queue(&front_end, 0, 16);
		queue->desc_addr = addresses[i] - FRONT_END_USER_OFFSET;
		assert_true(front_end_start_queue(&front_end, 0, 0) > 0);
		front_end_kick(queue);
		run();
		end();
	}
}

static void send_header(uint32_t request, uint32_t flags, uint32_t size)
{
	const struct vhost_user_header header = { request, flags, size };

	assert_int_equal(front_end_send_bytes(&front_end, &header, sizeof(header), NULL, 0), 12);
}

TEST_STARTED(what_is_no_message_disconnects)
{
	const struct vhost_user_header headers[] = {
		{ VHOST_USER_GET_FEATURES, 0, 0 },
		{ VHOST_USER_GET_FEATURES, 2, 0 },
		{ VHOST_USER_GET_FEATURES, 3, 0 },
		{ VHOST_USER_GET_FEATURES, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 0 },
		{ VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 4096 },
		{ VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, UINT32_MAX },
		{ UINT32_MAX, UINT32_MAX, UINT32_MAX },
	};

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		send_header(headers[i].request, headers[i].flags, headers[i].size);
		assert_true(front_end_is_disconnected(&front_end));
		assert_next_front_end_is_served();
	}
}

TEST_STARTED(more_descriptors_than_any_message_has_disconnect)
{
	const size_t counts[] = { 9, 10, 64 };
	int fds[64], before;

	for (size_t i = 0; i < 64; i++) {
		fds[i] = make_fence(false);
	}
	for (size_t i = 0; i < 3; i++) {
		before = count_fds();
		front_end_send(&front_end, VHOST_USER_SET_VRING_KICK, VHOST_USER_FLAG_NEED_REPLY,
			fds, 8, fds, counts[i]);
		assert_true(front_end_is_disconnected(&front_end));
		assert_next_front_end_is_served();
		assert_int_equal(count_fds(), before);
	}
	for (size_t i = 0; i < 64; i++) {
		close(fds[i]);
	}
}

TEST_STARTED(descriptors_that_come_in_pieces_are_counted_together)
{
	const struct vhost_user_header header = { VHOST_USER_SET_OWNER, VHOST_USER_VERSION, 0 };
	int fence = make_fence(false);

	for (size_t i = 0; i < 11; i++) {
		assert_int_equal(
			front_end_send_bytes(&front_end, (const char *)&header + i, 1, &fence, 1),
			1);
		assert_int_equal(front_end_is_disconnected(&front_end), i >= 8);
		if (i >= 8) {
			break;
		}
	}
	close(fence);
	assert_next_front_end_is_served();
}

TEST_STARTED(no_room_for_descriptors_disconnects)
{
	front_end_send(
		&front_end, VHOST_USER_SET_VRING_CALL, 0, &(uint64_t){ 0 }, 8, &queue->call_fd, 1);
	limit_fds(0);
	run();
	unlimit_fds();
	assert_true(front_end_is_disconnected(&front_end));
	assert_next_front_end_is_served();
}

TEST(nothing_is_lost_where_memory_runs_out)
{
	int64_t ret = 1;

	for (unsigned long nth = 1; ret != 0; nth++) {
		begin_negotiated();
		front_end_make_queue(&front_end, 0, 16);
		alloc_fail(nth);
		ret = front_end_set_memory(&front_end);
		if (ret == 0) {
			ret = front_end_start_queue(&front_end, 0, 0);
		}
		alloc_reset();
		assert_true(ret >= 0);
		end();
	}
}

/* ---- Guests that are wrong ---------------------------------------------------------------- */

/* The queue stops, and says so once; everything else goes on. */
static void assert_queue_stops(void)
{
	unsigned int handled = device.handled;
	eventfd_t count = 0;

	front_end_show(queue);
	front_end_kick(queue);
	run();
	front_end_kick(queue);
	run();
	assert_int_equal(device.handled, handled);
	assert_int_equal(device.warnings, 1);
	assert_non_null(strstr(device.last_log, "queue 0 stops"));
	assert_int_equal(eventfd_read(queue->err_fd, &count), 0);
	assert_int_equal(count, 1);
	assert_echo(1);
}

TEST_STARTED(a_wrong_chain_stops_the_queue_alone)
{
	front_end_desc(queue, 0, FRONT_END_FAR, 1, VRING_DESC_F_NEXT, 0);
	front_end_offer(queue, 0);
	assert_queue_stops();
}

TEST_STARTED(a_wrong_index_stops_the_queue_alone)
{
	queue->next_avail = 17;
	assert_queue_stops();
}

TEST_STARTED(a_buffer_outside_of_memory_stops_the_queue_alone)
{
	front_end_desc(queue, 0, FRONT_END_FAR + FRONT_END_REGION_SIZE, 1, 0, 0);
	front_end_offer(queue, 0);
	assert_queue_stops();
}

TEST_STARTED(requests_in_flight_outlive_their_queues_error)
{
	device.hold = true;
	front_end_request(&front_end, 0, 2, "abc", 3, 3);
	front_end_offer(queue, 99);
	front_end_show(queue);
	front_end_kick(queue);
	run();
	assert_int_equal(device.num_held, 1);
	echo_device_release(&device);
	run();
	assert_used(queue, 2, 3);
}

TEST_STARTED(a_queue_works_again_after_an_error_and_a_reset)
{
	front_end_desc(queue, 0, 0, 1, 0, 0);
	front_end_offer(queue, 0);
	assert_queue_stops();
	front_end_stop_queue(&front_end, 0);
	front_end_make_queue(&front_end, 0, 16);
	assert_int_equal(front_end_start_queue(&front_end, 0, 0), 0);
	assert_echo(0);
}

/* ---- The socket's file -------------------------------------------------------------------- */

static int create_another(struct vhost_user **other)
{
	static const struct vhost_user_device_ops none;

	return vhost_user_create(path, 1, &none, NULL, other);
}

TEST(the_socket_is_removed_at_the_end)
{
	begin_unconnected();
	assert_int_equal(access(path, F_OK), 0);
	echo_device_finish(&device);
	assert_int_equal(access(path, F_OK), -1);
}

TEST_STARTED(a_socket_that_somebody_listens_on_stays)
{
	struct vhost_user *other = NULL;

	assert_int_equal(create_another(&other), -EADDRINUSE);
	assert_echo(0);
	assert_next_front_end_is_served();
}

TEST(a_stale_socket_is_replaced)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	begin();
	assert_echo(0);
	end();
}

TEST(what_is_no_socket_is_not_replaced)
{
	struct vhost_user *other = NULL;
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(create_another(&other), -EEXIST);
	assert_int_equal(unlink(path), 0);
}

TEST(another_ones_socket_is_not_removed)
{
	struct vhost_user *other = NULL;

	begin_unconnected();
	assert_int_equal(unlink(path), 0);
	assert_int_equal(create_another(&other), 0);
	echo_device_finish(&device);
	assert_int_equal(access(path, F_OK), 0);
	vhost_user_destroy(other);
	assert_int_equal(access(path, F_OK), -1);
}

TEST(paths_and_numbers_that_cannot_be_are_refused)
{
	static const struct vhost_user_device_ops none;
	struct vhost_user *other = NULL;
	char long_path[256];

	memset(long_path, 'x', sizeof(long_path));
	long_path[255] = '\0';
	assert_int_equal(vhost_user_create(long_path, 1, &none, NULL, &other), -ENAMETOOLONG);
	assert_int_equal(vhost_user_create(path, 0, &none, NULL, &other), -EINVAL);
	assert_int_equal(vhost_user_create(path, 257, &none, NULL, &other), -EINVAL);
	assert_int_equal(vhost_user_create("/nowhere/at/all", 1, &none, NULL, &other), -ENOENT);
	assert_null(other);
	vhost_user_destroy(NULL);
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
