/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What the device answers while its renderer is in OpenGL: here the guest asks from inside the
 * renderer. */

#include "support.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aside.h"
#include "clock.h"
#include "renderer.h"
#include "server_session.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define CONTROL 0
#define CURSOR 1
#define SLOW 7 /* the context that takes long to make */
#define NO_CONTEXT 99
#define SIDE 64 /* of pictures */
#define PICTURE_SIZE (SIDE * SIDE * 4)

/* Of the front end's display. */
enum {
	GET_PROTOCOL_FEATURES = 1,
	GET_DISPLAY_INFO = 3,
	CURSOR_UPDATE = 6,
};

static char directory[] = "/tmp/vgfence-aside-XXXXXX";
static char path[sizeof(directory) + 8];

/* ---- A renderer that takes long ----------------------------------------------------------- */

static struct aside *aside;
static const struct renderer_ops *soft;
static struct renderer_ops slow_ops;
static void (*meanwhile)(void);
static bool reading_is_slow, each_takes_a_round, has_no_threads;
static int first_error;       /* of aside_enter */
static unsigned int num_made; /* contexts, in the order of their IDs */
static unsigned int num_read; /* pictures */
static pthread_t loop;
static atomic_bool was_elsewhere; /* called in another thread */
static bool may_not_be_realtime;
static unsigned int num_realtime; /* threads */
static pthread_t realtime_thread;

/* The names are the linker's. */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
	void *(*function)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
	void *(*function)(void *arg), void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
	void *(*function)(void *arg), void *arg)
{
	int error;

	if (has_no_threads || (attributes && may_not_be_realtime)) {
		return has_no_threads ? EAGAIN : EPERM;
	}
	error = __real_pthread_create(thread, attributes, function, arg);
	if (attributes && error == 0) {
		realtime_thread = *thread;
		num_realtime++;
	}
	return error;
}

static void do_meanwhile(void)
{
	if (aside) {
		int ret = aside_enter(aside);
		first_error = first_error ? first_error : ret;
	}
	meanwhile();
	if (aside) {
		aside_leave(aside);
	}
}

static int make_context(struct renderer *renderer, uint32_t ctx_id, uint64_t serial,
	uint32_t context_init, const char *name)
{
	if (ctx_id == SLOW && meanwhile) {
		do_meanwhile();
	}
	if (each_takes_a_round) {
		usleep(6000); /* more than a queue has in a round */
	}
	num_made++;
	return soft->context_create(renderer, ctx_id, serial, context_init, name);
}

static int read_picture(struct renderer *renderer, uint32_t resource_id,
	const struct virtio_gpu_rect *rect, uint32_t *pixels, uint32_t *format)
{
	if (!pthread_equal(pthread_self(), loop)) {
		atomic_store(&was_elsewhere, true);
		return -EINVAL;
	}
	if (reading_is_slow) {
		reading_is_slow = false;
		do_meanwhile();
	}
	num_read++;
	return soft->read_pixels(renderer, resource_id, rect, pixels, format);
}

static renderer_done held_done;
static void *held_arg;

/* Held back until the test says that it is done. */
static int hold_transfer(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	const struct renderer_transfer *what, renderer_done done, void *arg)
{
	(void)renderer;
	(void)ctx_id;
	(void)resource_id;
	(void)what;
	held_done = done;
	held_arg = arg;
	return 0;
}

static int create_slow(const struct vgf_callbacks *callbacks, void *cookie,
	const struct renderer_options *options, struct renderer **out)
{
	int ret = renderer_soft_create(callbacks, cookie, options, out);

	if (ret == 0) {
		aside = options->aside;
		soft = (*out)->ops;
		slow_ops = *soft;
		slow_ops.context_create = make_context;
		slow_ops.read_pixels = read_picture;
		slow_ops.transfer_to_host = hold_transfer;
		(*out)->ops = &slow_ops;
	}
	return ret;
}

/* ---- The server and its guest ------------------------------------------------------------- */

static void begin_with(bool has_gl, int drain_ms)
{
	const struct gpu_server_options options = {
		.socket_path = path,
		.drain_ms = drain_ms,
		.end_fd = -1,
		.has_gl = has_gl,
		.gpu = { .num_scanouts = 1, .width = 640, .height = 480, .fence_passing_bit = -1 },
		.log = log_to_test,
	};

	loop = pthread_self();
	num_made = num_read = 0;
	meanwhile = NULL;
	reading_is_slow = each_takes_a_round = has_no_threads = false;
	first_error = 0;
	num_realtime = 0;
	atomic_store(&was_elsewhere, false);
	assert_int_equal(gpu_server_create(&options, create_slow, &server), 0);
	front_end_init(&front_end, path, run, NULL);
	front_end_start(&front_end);
}

/* For realtime priority: the second thread starts with the first call that may take long. */
static void begin_without_permission(void)
{
	may_not_be_realtime = true;
	begin_with(true, 20000);
	may_not_be_realtime = false;
}

static void end(void)
{
	front_end_finish(&front_end);
	gpu_server_destroy(server);
}

#define TEST_ASIDE(name) TEST_BETWEEN(name, begin_with(true, 20000), end())
#define TEST_ALONE(name) TEST_BETWEEN(name, begin_with(false, 20000), end())
#define TEST_IMPATIENT(name) TEST_BETWEEN(name, begin_with(true, 0), end())

static const struct virtio_gpu_ctrl_hdr *responses[16]; /* by descriptor, of either queue */

/* Shown and kicked. Each takes two descriptors, from `head` on. */
static void ask(uint32_t queue, uint16_t head, const void *request, uint32_t size)
{
	responses[head] = front_end_request(&front_end, queue, head, request, size, 2048);
	front_end_kick(&front_end.queues[queue]);
}

static void ask_for(uint16_t head, uint32_t type, uint32_t flags)
{
	const struct {
		struct virtio_gpu_ctrl_hdr header;
		uint32_t index, padding;
	} request = { .header = { .type = htole32(type), .flags = htole32(flags) } };

	ask(CONTROL, head, &request, sizeof(request));
}

static void ask_context(uint16_t head, uint32_t type, uint32_t ctx_id)
{
	const struct virtio_gpu_ctx_create request = {
		.hdr = { .type = htole32(type), .ctx_id = htole32(ctx_id) },
	};

	ask(CONTROL, head, &request,
		type == VIRTIO_GPU_CMD_CTX_CREATE ? sizeof(request) : sizeof(request.hdr));
}

static void ask_cursor(uint16_t head, uint32_t type, uint32_t resource_id)
{
	const struct virtio_gpu_update_cursor request = {
		.hdr = header(type),
		.resource_id = htole32(resource_id),
	};

	ask(CURSOR, head, &request, sizeof(request));
}

/* The next answer is that one, of this type; the server does nothing for it. */
static void assert_answered(uint32_t queue, uint16_t head, uint32_t type)
{
	uint32_t which, written;

	for (int i = 0; !front_end_used(&front_end.queues[queue], &which, &written); i++) {
		assert_true(i < LOST_ROUNDS);
		usleep(1000);
	}
	assert_int_equal(which, head);
	assert_int_equal(le32toh(responses[head]->type), type);
}

static bool is_answered(uint32_t queue)
{
	uint32_t which, written;

	return front_end_used(&front_end.queues[queue], &which, &written);
}

/* Makes the slow context, and does that meanwhile. */
static void take_long(void (*what)(void))
{
	meanwhile = what;
	ask_context(14, VIRTIO_GPU_CMD_CTX_CREATE, SLOW);
	run(NULL);
	meanwhile = NULL;
}

/* ---- What needs no OpenGL ----------------------------------------------------------------- */

static void all_that_needs_none(void)
{
	ask_for(0, VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);
	assert_answered(CONTROL, 0, VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	ask_for(2, VIRTIO_GPU_CMD_GET_EDID, 0);
	assert_answered(CONTROL, 2, VIRTIO_GPU_RESP_OK_EDID);
	ask_for(4, VIRTIO_GPU_CMD_GET_CAPSET_INFO, 0);
	assert_answered(CONTROL, 4, VIRTIO_GPU_RESP_OK_CAPSET_INFO);
	ask_cursor(0, VIRTIO_GPU_CMD_UPDATE_CURSOR, 0);
	assert_answered(CURSOR, 0, OK);
	ask_cursor(2, VIRTIO_GPU_CMD_MOVE_CURSOR, 0);
	assert_answered(CURSOR, 2, OK);
}

/* The first of a queue is always notified of. */
static void a_notification(void)
{
	ask_cursor(0, VIRTIO_GPU_CMD_MOVE_CURSOR, 0);
	for (int i = 0; front_end_notifications(&front_end.queues[CURSOR]) == 0; i++) {
		assert_true(i < LOST_ROUNDS);
		usleep(1000);
	}
	assert_answered(CURSOR, 0, OK);
}

TEST_ASIDE(the_guest_is_notified_meanwhile)
{
	take_long(a_notification);
	assert_answered(CONTROL, 14, OK);
}

TEST_ASIDE(what_needs_no_gl_is_answered_meanwhile)
{
	for (int i = 0; i < 3; i++) {
		take_long(all_that_needs_none);
		assert_answered(CONTROL, 14, OK);
		ask_context(0, VIRTIO_GPU_CMD_CTX_DESTROY, SLOW);
		run(NULL);
		assert_answered(CONTROL, 0, OK);
	}
}

static void ask_and_wait(void)
{
	ask_for(0, VIRTIO_GPU_CMD_GET_EDID, 0);
	usleep(50000);
	assert_false(is_answered(CONTROL));
}

TEST_ALONE(without_the_second_thread_it_is_answered_later)
{
	take_long(ask_and_wait);
	assert_answered(CONTROL, 14, OK);
	assert_answered(CONTROL, 0, VIRTIO_GPU_RESP_OK_EDID);
}

TEST_BETWEEN(where_there_can_be_no_second_thread_it_is_too_and_once_it_is_said_why,
	begin_without_permission(), end())
{
	has_no_threads = true;
	take_long(ask_and_wait);
	assert_int_equal(first_error, -EAGAIN);
	assert_answered(CONTROL, 14, OK);
	assert_answered(CONTROL, 0, VIRTIO_GPU_RESP_OK_EDID);

	has_no_threads = false;
	first_error = 0;
	ask_context(0, VIRTIO_GPU_CMD_CTX_DESTROY, SLOW);
	run(NULL);
	assert_answered(CONTROL, 0, OK);
	take_long(ask_and_wait);
	assert_int_equal(first_error, 0);
	assert_answered(CONTROL, 14, OK);
	assert_answered(CONTROL, 0, VIRTIO_GPU_RESP_OK_EDID);
}

/* Of the same round, whose end is far. */
static void the_first_is_answered(void)
{
	assert_answered(CONTROL, 0, VIRTIO_GPU_RESP_OK_EDID);
}

TEST_ASIDE(what_was_completed_before_is_shown_meanwhile)
{
	ask_for(0, VIRTIO_GPU_CMD_GET_EDID, 0);
	take_long(the_first_is_answered);
	assert_answered(CONTROL, 14, OK);
}

/* ---- What does ---------------------------------------------------------------------------- */

static void make_and_destroy(void)
{
	ask_context(0, VIRTIO_GPU_CMD_CTX_CREATE, 1);
	ask_context(2, VIRTIO_GPU_CMD_CTX_DESTROY, 1);
	ask_for(4, VIRTIO_GPU_CMD_GET_DISPLAY_INFO, VIRTIO_GPU_FLAG_FENCE);
	ask_for(6, VIRTIO_GPU_CMD_GET_EDID, 0);
	assert_answered(CONTROL, 6, VIRTIO_GPU_RESP_OK_EDID);
	assert_int_equal(num_made, 0);
}

TEST_ASIDE(what_needs_gl_or_has_a_fence_comes_later_in_its_order)
{
	take_long(make_and_destroy);
	assert_answered(CONTROL, 14, OK);
	assert_answered(CONTROL, 0, OK);
	assert_answered(CONTROL, 2, OK);
	assert_answered(CONTROL, 4, VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	assert_int_equal(num_made, 2);
}

/* Its picture is the renderer's, so it has to wait; and what comes after it must not be undone. */
static void a_picture_and_a_move(void)
{
	ask_cursor(0, VIRTIO_GPU_CMD_UPDATE_CURSOR, 1);
	ask_cursor(2, VIRTIO_GPU_CMD_MOVE_CURSOR, 1);
	ask_for(4, VIRTIO_GPU_CMD_GET_EDID, 0);
	assert_answered(CONTROL, 4, VIRTIO_GPU_RESP_OK_EDID);
	assert_false(is_answered(CURSOR));
}

static void ask_for_picture(void)
{
	const struct virtio_gpu_resource_create_2d picture = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D),
		.resource_id = htole32(1),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM),
		.width = htole32(SIDE),
		.height = htole32(SIDE),
	};

	ask(CONTROL, 0, &picture, sizeof(picture));
}

static void make_picture(void)
{
	ask_for_picture();
	run(NULL);
	assert_answered(CONTROL, 0, OK);
}

TEST_ASIDE(a_cursor_with_a_picture_of_the_renderers_waits_and_so_does_what_follows)
{
	make_picture();
	take_long(a_picture_and_a_move);
	assert_answered(CURSOR, 0, OK);
	assert_answered(CURSOR, 2, OK);
}

/* What makes its picture waits, too. */
static void a_new_picture(void)
{
	ask_for_picture();
	ask_cursor(0, VIRTIO_GPU_CMD_UPDATE_CURSOR, 1);
	ask_for(4, VIRTIO_GPU_CMD_GET_EDID, 0);
	assert_answered(CONTROL, 4, VIRTIO_GPU_RESP_OK_EDID);
	assert_false(is_answered(CURSOR));
}

TEST_ASIDE(a_cursor_waits_for_its_picture_to_be_made)
{
	take_long(a_new_picture);
	assert_answered(CONTROL, 14, OK);
	assert_answered(CONTROL, 0, OK);
	assert_answered(CURSOR, 0, OK);
}

/* ---- The front end's display -------------------------------------------------------------- */

static void answer(int fd, uint32_t request, const void *payload, uint32_t size)
{
	const uint32_t header[] = { request, 4, size };

	assert_int_equal(send(fd, header, sizeof(header), 0), sizeof(header));
	assert_int_equal(send(fd, payload, size, 0), size);
}

static void answer_monitors(int fd)
{
	const struct virtio_gpu_resp_display_info info = { 0 };

	answer(fd, GET_DISPLAY_INFO, &info, sizeof(info));
}

/* It has told its features and its monitors. */
static int set_greeted_display(void)
{
	const uint64_t features = 0;
	int fd = set_display();

	answer(fd, GET_PROTOCOL_FEATURES, &features, sizeof(features));
	run(NULL);
	answer_monitors(fd);
	run(NULL);
	return fd;
}

/* The first pixel of the cursor that it was told of last. */
static uint32_t last_cursor(int fd)
{
	static uint32_t payload[SIDE * SIDE + 16];
	uint32_t message[3], pixel = 0;

	while (recv(fd, message, sizeof(message), 0) == sizeof(message)) {
		assert_true(message[2] <= sizeof(payload));
		if (message[2] > 0) {
			assert_int_equal(recv(fd, payload, message[2], 0), message[2]);
		}
		if (message[0] == CURSOR_UPDATE) {
			pixel = payload[5];
		}
	}
	return pixel;
}

/* A question, a transfer that is behind it on a timeline of no context, and a flush of what that
 * draws to. */
static void make_a_chain(void)
{
	struct virtio_gpu_ctrl_hdr question = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO);
	struct virtio_gpu_transfer_to_host_2d transfer = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D),
		.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
		.resource_id = htole32(1),
	};
	const struct virtio_gpu_resource_flush flush = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH),
		.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
		.resource_id = htole32(1),
	};

	question.flags = transfer.hdr.flags = htole32(
		VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	question.ctx_id = transfer.hdr.ctx_id = htole32(NO_CONTEXT);
	question.fence_id = htole64(1);
	transfer.hdr.fence_id = htole64(2);
	ask(CONTROL, 0, &question, sizeof(question));
	ask(CONTROL, 2, &transfer, sizeof(transfer));
	ask(CONTROL, 4, &flush, sizeof(flush));
	run(NULL);
	held_done(held_arg, 0);
}

static void show_picture(void)
{
	const struct {
		struct virtio_gpu_resource_attach_backing request;
		struct virtio_gpu_mem_entry entry;
	} attach = {
		.request = { .hdr = header(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING),
			.resource_id = htole32(1),
			.nr_entries = htole32(1) },
		.entry = { .addr = htole64(front_end_alloc(&front_end, PICTURE_SIZE)),
			.length = htole32(PICTURE_SIZE) },
	};
	const struct virtio_gpu_set_scanout scanout = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT),
		.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
		.resource_id = htole32(1),
	};

	make_picture();
	ask(CONTROL, 0, &attach, sizeof(attach));
	run(NULL);
	assert_answered(CONTROL, 0, OK);
	ask(CONTROL, 0, &scanout, sizeof(scanout));
	run(NULL);
	assert_answered(CONTROL, 0, OK);
}

static int display_fd;

/* The second move comes after all that was done with the first. */
static void a_display_answers(void)
{
	answer_monitors(display_fd);
	for (uint16_t head = 6; head < 10; head += 2) {
		ask_cursor(head, VIRTIO_GPU_CMD_MOVE_CURSOR, 0);
		assert_answered(CURSOR, head, OK);
	}
}

/* What it answers lets a flush go on, which is read with OpenGL. */
TEST_ASIDE(what_a_display_says_is_heard_in_the_loops_thread)
{
	display_fd = set_greeted_display();
	show_picture();
	make_a_chain();
	assert_false(is_answered(CONTROL));
	num_read = 0;
	take_long(a_display_answers);
	assert_false(atomic_load(&was_elsewhere));
	assert_answered(CONTROL, 14, OK);
	assert_answered(CONTROL, 0, VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	assert_answered(CONTROL, 2, OK);
	run(NULL); /* what was behind these goes on in the next round */
	assert_int_equal(num_read, 1);
	assert_answered(CONTROL, 4, OK);
	close(display_fd);
}

static void another_picture(void)
{
	ask_cursor(2, VIRTIO_GPU_CMD_UPDATE_CURSOR, 2);
	ask_for(4, VIRTIO_GPU_CMD_GET_CAPSET_INFO, 0);
	assert_answered(CONTROL, 4, VIRTIO_GPU_RESP_OK_CAPSET_INFO);
}

static void make_blob(uint32_t color)
{
	const uint64_t address = front_end_alloc(&front_end, PICTURE_SIZE);
	const struct {
		struct virtio_gpu_resource_create_blob request;
		struct virtio_gpu_mem_entry entry;
	} blob = {
		.request = { .hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB),
			.resource_id = htole32(2),
			.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
			.nr_entries = htole32(1),
			.size = htole64(PICTURE_SIZE) },
		.entry = { .addr = htole64(address), .length = htole32(PICTURE_SIZE) },
	};

	memcpy(front_end_at(&front_end, address), &color, sizeof(color));
	ask(CONTROL, 0, &blob, sizeof(blob));
	run(NULL);
	assert_answered(CONTROL, 0, OK);
}

/* The guest has changed it in the meantime, with one that needs no OpenGL. */
TEST_ASIDE(a_cursor_that_is_being_read_does_not_undo_the_next_one)
{
	display_fd = set_greeted_display();
	make_picture();
	make_blob(htole32(0xff123456));
	meanwhile = another_picture;
	reading_is_slow = true;
	ask_cursor(0, VIRTIO_GPU_CMD_UPDATE_CURSOR, 1);
	run(NULL);
	assert_int_equal(num_read, 1);
	assert_answered(CURSOR, 0, OK);
	assert_answered(CURSOR, 2, OK);
	assert_int_equal(last_cursor(display_fd), 0xff123456);
	close(display_fd);
}

/* ---- A hostile guest ---------------------------------------------------------------------- */

static atomic_bool floods;

/* As fast as it is answered. */
static void *flood(void *arg)
{
	(void)arg;
	while (atomic_load(&floods)) {
		const uint64_t free_before = front_end.next_free;

		ask_cursor(0, VIRTIO_GPU_CMD_MOVE_CURSOR, 0);
		while (!is_answered(CURSOR)) {
			if (!atomic_load(&floods)) {
				return NULL;
			}
		}
		front_end.next_free = free_before;
	}
	return NULL;
}

static pthread_t flooder;

static void start_flood(void)
{
	assert_int_equal(pthread_create(&flooder, NULL, flood, NULL), 0);
	usleep(20000);
}

TEST_ASIDE(a_guest_that_asks_without_end_does_not_keep_the_loop)
{
	atomic_store(&floods, true);
	take_long(start_flood);
	assert_int_equal(num_made, 1);
	atomic_store(&floods, false);
	pthread_join(flooder, NULL);
}

/* ---- With realtime priority --------------------------------------------------------------- */

static bool realtime_is_allowed(void)
{
	const struct sched_param lowest = { .sched_priority = 1 }, none = { 0 };
	bool allowed = pthread_setschedparam(pthread_self(), SCHED_RR, &lowest) == 0;

	pthread_setschedparam(pthread_self(), SCHED_OTHER, &none);
	return allowed;
}

TEST_ASIDE(the_second_thread_has_realtime_priority_if_that_is_allowed)
{
	struct sched_param param;
	int policy;

	take_long(all_that_needs_none);
	assert_answered(CONTROL, 14, OK);
	assert_int_equal(num_realtime, realtime_is_allowed() ? 1 : 0);
	if (num_realtime > 0) {
		assert_int_equal(pthread_getschedparam(realtime_thread, &policy, &param), 0);
		assert_int_equal(policy, SCHED_RR);
		assert_int_equal(param.sched_priority, 1);
	}
}

TEST_BETWEEN(without_permission_there_is_one_all_the_same, begin_without_permission(), end())
{
	take_long(all_that_needs_none);
	assert_answered(CONTROL, 14, OK);
	assert_int_equal(num_realtime, 0);
}

static uint64_t cpu_time_ns(pthread_t thread)
{
	struct timespec used;
	clockid_t clock;

	assert_int_equal(pthread_getcpuclockid(thread, &clock), 0);
	assert_int_equal(clock_gettime(clock, &used), 0);
	return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

/* It is measured while the guest asks; twice the share is for the turns that end a period. */
static void flood_for_a_while(void)
{
	uint64_t start_ns = now_ns(), cpu_ns = cpu_time_ns(realtime_thread), periods;

	assert_int_equal(pthread_create(&flooder, NULL, flood, NULL), 0);
	usleep(300000);
	cpu_ns = cpu_time_ns(realtime_thread) - cpu_ns;
	periods = (now_ns() - start_ns) / ASIDE_PERIOD_NS + 2;
	print_message("%u us of CPU time in %u periods\n", (unsigned int)(cpu_ns / 1000),
		(unsigned int)periods);
	assert_true(cpu_ns > 0);
	assert_true(cpu_ns <= periods * 2 * ASIDE_SHARE_NS);
}

static void flood_beside_gl(void)
{
	atomic_store(&floods, true);
	take_long(flood_for_a_while);
	atomic_store(&floods, false);
	pthread_join(flooder, NULL);
}

TEST(a_guest_that_asks_without_end_does_not_keep_a_processor)
{
	begin_with(true, 20000);
	if (num_realtime > 0) {
		flood_beside_gl();
	} else {
		print_message("skipped: realtime priority is not allowed here (RLIMIT_RTPRIO)\n");
	}
	end();
	if (num_realtime == 0) {
		skip();
	}
}

static void break_the_ring(void)
{
	ask_context(0, VIRTIO_GPU_CMD_CTX_CREATE, 1);
	front_end_offer(&front_end.queues[CONTROL], 999);
	front_end_show(&front_end.queues[CONTROL]);
	front_end_kick(&front_end.queues[CONTROL]);
	for (int i = 0; i < 100; i++) { /* until that is seen, or some time later */
		usleep(1000);
	}
}

TEST_ASIDE(a_ring_that_breaks_meanwhile_stops_behind_what_came_before)
{
	eventfd_t told = 0;

	take_long(break_the_ring);
	assert_answered(CONTROL, 14, OK);
	assert_answered(CONTROL, 0, OK);
	ask_for(2, VIRTIO_GPU_CMD_GET_EDID, 0);
	run(NULL);
	assert_false(is_answered(CONTROL));
	assert_int_equal(eventfd_read(front_end.queues[CONTROL].err_fd, &told), 0);
	assert_int_equal(told, 1);
}

static void ask_to_stop(void)
{
	front_end_send(&front_end, VHOST_USER_GET_VRING_BASE, 0,
		&(const struct vhost_user_vring_state){ .index = CONTROL },
		sizeof(struct vhost_user_vring_state), NULL, 0);
}

/* At this request of its queue. */
static void assert_stopped(uint32_t base)
{
	struct vhost_user_vring_state state;
	uint32_t request;

	assert_int_equal(
		front_end_receive(&front_end, &request, &state, sizeof(state)), sizeof(state));
	assert_int_equal(state.num, base);
}

static void leave_some(void)
{
	make_and_destroy();
	ask_to_stop();
}

TEST_ASIDE(a_queue_that_stops_has_answered_all)
{
	take_long(leave_some);
	assert_stopped(5);
	assert_answered(CONTROL, 14, OK);
	assert_answered(CONTROL, 0, OK);
	assert_answered(CONTROL, 2, OK);
	assert_answered(CONTROL, 4, VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
}

static void ask_slow_ones(void)
{
	ask_context(0, VIRTIO_GPU_CMD_CTX_CREATE, 1);
	ask_context(2, VIRTIO_GPU_CMD_CTX_CREATE, 3);
	ask_context(4, VIRTIO_GPU_CMD_CTX_CREATE, 4);
}

/* Once the second thread has had all that was asked for. */
static void leave_them(void)
{
	ask_for(8, VIRTIO_GPU_CMD_GET_EDID, 0);
	assert_answered(CONTROL, 8, VIRTIO_GPU_RESP_OK_EDID);
	ask_to_stop();
}

static void leave_slow_ones(void)
{
	ask_slow_ones();
	ask_for(6, VIRTIO_GPU_CMD_GET_DISPLAY_INFO, VIRTIO_GPU_FLAG_FENCE);
	leave_them();
}

static void assert_slow_ones(uint32_t third, uint32_t last)
{
	assert_stopped(6);
	assert_answered(CONTROL, 14, OK);
	assert_answered(CONTROL, 0, OK);
	assert_true(is_answered(CONTROL));
	assert_answered(CONTROL, 4, third);
	assert_answered(CONTROL, 6, last);
}

/* Otherwise as many as it has places keep the front end for as many times as long as one takes. The
 * first has its turn before the front end's message does, and the second may: in the round, and by
 * the kick. */
TEST_IMPATIENT(a_queue_that_stops_refuses_what_comes_too_late)
{
	each_takes_a_round = true;
	take_long(leave_slow_ones);
	assert_slow_ones(VIRTIO_GPU_RESP_ERR_UNSPEC, VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(le32toh(responses[6]->flags), VIRTIO_GPU_FLAG_FENCE);
	assert_in_range(num_made, 2, 3);
}

static void leave_what_gives_back(void)
{
	ask_slow_ones();
	ask_context(6, VIRTIO_GPU_CMD_CTX_DESTROY, SLOW);
	leave_them();
}

/* A guest takes back what it had given even if the device refuses that. */
TEST_IMPATIENT(a_queue_that_stops_refuses_nothing_that_gives_something_back)
{
	each_takes_a_round = true;
	take_long(leave_what_gives_back);
	assert_slow_ones(VIRTIO_GPU_RESP_ERR_UNSPEC, OK);
	assert_in_range(num_made, 2, 3);
}

TEST_ASIDE(a_queue_that_stops_handles_what_comes_in_time)
{
	each_takes_a_round = true;
	take_long(leave_slow_ones);
	assert_slow_ones(OK, VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	assert_int_equal(le32toh(responses[6]->flags), VIRTIO_GPU_FLAG_FENCE);
	assert_int_equal(num_made, 4);
}

static void leave(void)
{
	make_and_destroy();
	shutdown(front_end.socket_fd, SHUT_RDWR);
}

TEST_ASIDE(a_front_end_that_leaves_meanwhile_leaves_nothing)
{
	take_long(leave);
	assert_true(front_end_is_disconnected(&front_end));
}

/* ---- Long turns ---------------------------------------------------------------------------- */

#define LONG_TURN_NS (6 * (uint64_t)ASIDE_SHARE_NS)

static uint64_t burn_until_ns; /* of the thread's CPU time */

static bool burn(void *arg)
{
	(void)arg;
	burn_until_ns += LONG_TURN_NS;
	while (thread_cpu_ns() < burn_until_ns) {
	}
	return true;
}

/* One turn may be on when it is measured. */
static void check_share(struct aside *burning)
{
	uint64_t start_ns = now_ns(), cpu_ns, time_ns;

	assert_int_equal(aside_enter(burning), 0);
	usleep(300000);
	cpu_ns = cpu_time_ns(realtime_thread);
	time_ns = now_ns() - start_ns;
	aside_leave(burning);
	print_message(
		"%u of %u us\n", (unsigned int)(cpu_ns / 1000), (unsigned int)(time_ns / 1000));
	assert_true(cpu_ns >= LONG_TURN_NS / 2);
	assert_true(cpu_ns <= time_ns * ASIDE_SHARE_NS / ASIDE_PERIOD_NS + 2 * LONG_TURN_NS);
}

TEST(turns_that_take_longer_than_a_period_do_not_keep_a_processor_either)
{
	int wake_set = epoll_create1(EPOLL_CLOEXEC);
	struct aside *burning;

	num_realtime = 0;
	burn_until_ns = 0;
	assert_int_equal(aside_create(wake_set, burn, NULL, &burning), 0);
	if (num_realtime > 0) {
		check_share(burning);
	} else {
		print_message("skipped: realtime priority is not allowed here (RLIMIT_RTPRIO)\n");
	}
	aside_destroy(burning);
	close(wake_set);
	if (num_realtime == 0) {
		skip();
	}
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
