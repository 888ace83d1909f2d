/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The back end of vhost-user and a front end that keeps the rules: features, queues, memory, the
 * configuration space. Then guests that do not keep them. */

#include "vhost_session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_config.h>

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

/* Waits a little for nothing to happen. The time is a lower bound, so a slow machine does no
 * harm. */
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
	/* In several turns, if this thread waits for a processor in one: it ends by the clock. */
	while (device.handled < 16) {
		assert_int_equal(vhost_user_dispatch(device.server, -1), 0);
	}
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
	/* The flag that keeps a write from waiting is the front end's, too. */
	assert_int_equal(fcntl(blocking, F_SETFL, 0), 0);
	queue->avail->ring[queue->size] = queue->used->idx; /* it wants to know of the next */
	assert_echo(0);
	close(blocking);
}

TEST_STARTED(a_queue_without_a_call_descriptor_works)
{
	assert_int_equal(front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_CALL, 0, -1), 0);
	assert_echo(0);
}

/* With the event index a guest does not kick twice for one request. */
TEST_STARTED(a_kick_of_the_descriptor_before_is_not_lost)
{
	front_end_request(&front_end, 0, 0, "hello", 5, 5);
	close(queue->kick_fd); /* with its kick, which nobody has seen */
	queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(
		front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_KICK, 0, queue->kick_fd),
		0);
	assert_used(queue, 0, 5);
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

#define ANSWER_MS 10000 /* only if a notification was lost */

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

/* Kicks only if the device wants it, as Linux's driver does. */
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

/* Asks for notifications only if there is nothing left to look at. */
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
	finish();
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

/* This is how QEMU and User-Mode Linux say that a guest reset its device. */
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

/* So often that the indices have come round: the base of the next guest's queue is what it was. */
static void serve_65536_requests(void)
{
	for (unsigned int i = 0; i < 65536; i++) {
		const uint64_t next_free = front_end.next_free;

		front_end_request(&front_end, 0, 0, "hello", 5, 64);
		front_end_kick(queue);
		assert_int_equal(vhost_user_dispatch(device.server, 0), 0);
		assert_used(queue, 0, 5);
		front_end.next_free = next_free;
	}
}

static void begin_with(uint64_t features)
{
	begin_connected();
	front_end_negotiate(&front_end, features);
	assert_int_equal(front_end_set_memory(&front_end), 0);
	front_end_make_queue(&front_end, 0, 16);
	assert_int_equal(front_end_start_queue(&front_end, 0, 0), 0);
	serve_65536_requests();
}

static void reset_is_noticed(uint64_t features)
{
	begin_with(features);
	assert_int_equal(front_end_stop_queue(&front_end, 0), 0);
	front_end_make_queue(&front_end, 0, 16);
	assert_int_equal(front_end_start_queue(&front_end, 0, 0), 0);
	assert_int_equal(device.resets, 1);
	assert_echo(0);
	serve_65536_requests();
	/* User-Mode Linux does not ask for the base. */
	assert_int_equal(front_end_call_state(&front_end, VHOST_USER_SET_VRING_ENABLE, 0, 0), 0);
	front_end_make_queue(&front_end, 0, 16);
	assert_int_equal(front_end_start_queue(&front_end, 0, 0), 0);
	assert_int_equal(device.resets, 2);
	finish();
}

TEST(a_reset_is_noticed_after_any_number_of_requests)
{
	reset_is_noticed(UINT64_MAX);
	reset_is_noticed(~BIT(VIRTIO_RING_F_EVENT_IDX));
}

static void pause_is_no_reset(uint64_t features)
{
	begin_with(features);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(front_end_stop_queue(&front_end, 0), 0);
		assert_int_equal(front_end_start_queue(&front_end, 0, 0), 0);
		assert_int_equal(device.resets, 0);
	}
	assert_echo(0);
	finish();
}

TEST(a_pause_is_no_reset_after_any_number_of_requests)
{
	pause_is_no_reset(UINT64_MAX);
	pause_is_no_reset(~BIT(VIRTIO_RING_F_EVENT_IDX));
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

/* The guest's pages have the same content, but are in another file now. */
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

TEST_NEGOTIATED(memory_that_may_block_is_refused_with_what_to_do)
{
	struct vhost_user_mem_table table = { .num_regions = 1 };
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	table.regions[0] = front_end.regions[0].where;
	assert_int_not_equal(
		front_end_call(&front_end, VHOST_USER_SET_MEM_TABLE, &table, 8 + 32, &fd, 1), 0);
	assert_int_equal(device.warnings, 2); /* the other one is about the message */
	assert_non_null(strstr(device.first_log, "memory-backend-memfd"));
	close(fd);
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

/* ---- While the loop sleeps ----------------------------------------------------------------- */

static void hold_one(uint64_t from)
{
	device.hold = true;
	front_end_desc(queue, 0, from, 8, VRING_DESC_F_NEXT, 1);
	front_end_desc(queue, 1, FRONT_END_NEXT, 8, VRING_DESC_F_WRITE, 0);
	front_end_offer(queue, 0);
	front_end_show(queue);
	front_end_kick(queue);
	run();
	assert_int_equal(device.num_held, 1);
}

static void release_unseen(struct echo_device *of)
{
	echo_device_release(of);
	assert_not_used(queue);
}

static void release_and_publish(struct echo_device *of)
{
	release_unseen(of);
	vhost_user_publish(of->server);
	assert_used(queue, 0, 8);
}

TEST_STARTED(what_another_thread_completes_meanwhile_is_seen_at_once)
{
	unsigned int notifications;

	hold_one(FRONT_END_FAR);
	assert_int_equal(device.num_sleeps, 0); /* no round could have waited */
	notifications = front_end_notifications(queue);
	device.meanwhile = release_and_publish;
	assert_int_equal(vhost_user_dispatch(device.server, 1), 0);
	assert_int_equal(device.num_sleeps, 1);
	assert_int_equal(device.num_wakes, 1);
	assert_int_equal(front_end_notifications(queue), 1);
	assert_int_equal(notifications, 0);
}

/* The control. */
TEST_STARTED(otherwise_at_the_end_of_the_round)
{
	hold_one(FRONT_END_FAR);
	device.meanwhile = release_unseen;
	assert_int_equal(vhost_user_dispatch(device.server, 1), 0);
	assert_used(queue, 0, 8);
}

static void shorten_and_publish(struct echo_device *of)
{
	of->meanwhile = NULL;
	assert_int_equal(ftruncate(front_end.regions[2].fd, 0), 0);
	echo_device_release(of);
	vhost_user_publish(of->server);
}

/* Who finds it cannot disconnect: the loop wakes up for that. */
TEST_STARTED(memory_that_another_thread_finds_shortened_ends_the_connection)
{
	hold_one(FRONT_END_FAR);
	device.meanwhile = shorten_and_publish;
	assert_int_equal(vhost_user_dispatch(device.server, -1), 0);
	assert_false(vhost_user_is_connected(device.server));
	assert_non_null(strstr(device.last_log, "shortened"));
	assert_int_equal(device.resets, 1);
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

/* What a guest writes there is no fault of its front end's. */
TEST_NEGOTIATED(a_wrong_write_of_the_configuration_disconnects_nobody)
{
	const uint64_t protocol = BIT(VHOST_USER_PROTOCOL_F_CONFIG); /* no acknowledgements */
	const struct vhost_user_config configs[] = {
		{ .offset = ECHO_CONFIG_SIZE / 2, .size = 4 },
		{ .offset = UINT32_MAX, .size = 4 },
		{ .offset = 4, .size = 4, .flags = 1 },
		{ .offset = 4, .size = 8 },
	};

	front_end_send(&front_end, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &protocol, 8, NULL, 0);
	for (unsigned int i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
		front_end_send(&front_end, VHOST_USER_SET_CONFIG, 0, &configs[i], 16, NULL, 0);
		run();
		assert_int_equal(device.warnings, i + 1);
		assert_int_equal(
			front_end_get_number(&front_end, VHOST_USER_GET_QUEUE_NUM), ECHO_QUEUES);
	}
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

/* The loop polls it, and who serves a file can let that wait; so can who has a socket of another
 * kind. */
TEST_NEGOTIATED(the_gpus_socket_is_one)
{
	int fds[] = { open("/dev/null", O_RDWR | O_CLOEXEC), memfd_create("file", MFD_CLOEXEC),
		socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
		socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		assert_true(fds[i] >= 0);
		assert_int_not_equal(
			front_end_call(&front_end, VHOST_USER_GPU_SET_SOCKET, NULL, 0, &fds[i], 1),
			0);
		assert_true(device.gpu_socket_fd < 0);
		close(fds[i]);
	}
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
	/* Maybe nobody looked at that one. */
	assert_int_equal(
		front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_ERR, 0, queue->err_fd), 0);
	assert_int_equal(eventfd_read(queue->err_fd, &count), 0);
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
