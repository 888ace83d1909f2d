/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The virtio-gpu device behind its socket: front ends with and without a display, guests that reset
 * the device or leave, and work that takes long. */

#include "support.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/virtio_gpu.h>

#include "server_session.h"
#include "soft_gpu.h"
#include "udmabuf.h"
#include "vhost_user.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA

#define NEVER_MS 1000000 /* longer than any test */
#define HOSTMEM 0x100000

enum {
	GET_PROTOCOL_FEATURES = 1,
	GET_DISPLAY_INFO = 3,
	CURSOR_POS = 4,
	CURSOR_POS_HIDE = 5,
	CURSOR_UPDATE = 6,
	SCANOUT = 7,
	UPDATE = 8,
	DMABUF_UPDATE = 10,
	GET_EDID = 11,
	DMABUF_SCANOUT2 = 12,
};

static char directory[] = "/tmp/vgfence-gpu-server-XXXXXX";
static char path[sizeof(directory) + 8];

static int end_fd = -1; /* of the server that is made next */
static bool front_end_dma_bufs;

/* In place of the kernel's, which not every machine has: the memory's own file. */
static struct file_piece udmabuf;

int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count);
int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count)
{
	assert_int_equal(count, 1);
	udmabuf = pieces[0];
	return fcntl(pieces[0].fd, F_DUPFD_CLOEXEC, 0);
}

/* The software GPU, and where the memory of its blobs begins in their files. */
static const struct renderer_ops *soft;
static struct renderer_ops ops;
static uint64_t blob_offset;

static int map_blob(struct renderer *renderer, uint32_t resource_id, struct renderer_map *map)
{
	int ret = soft->map_blob(renderer, resource_id, map);

	map->offset = blob_offset;
	return ret;
}

static int create_renderer(const struct vgf_callbacks *callbacks, void *cookie,
	const struct renderer_options *options, struct renderer **out)
{
	int ret = renderer_soft_create(callbacks, cookie, options, out);

	if (ret == 0) {
		soft = (*out)->ops;
		ops = *soft;
		ops.map_blob = map_blob;
		(*out)->ops = &ops;
	}
	return ret;
}

/* ---- The server and its front end --------------------------------------------------------- */

static void begin_with(uint32_t display_timeout_ms)
{
	const struct gpu_server_options options = {
		.socket_path = path,
		.drain_ms = 20000,
		.end_fd = end_fd,
		.gpu = { .num_scanouts = 16,
			.width = 640,
			.height = 480,
			.hostmem_size = HOSTMEM,
			.fence_passing_bit = 23 },
		.display_timeout_ms = display_timeout_ms,
		.front_end_dma_bufs = front_end_dma_bufs,
		.log = log_to_test,
	};

	assert_int_equal(gpu_server_create(&options, create_renderer, &server), 0);
	front_end_init(&front_end, path, run, NULL);
	front_end_start(&front_end);
}

static void begin(void)
{
	begin_with(10);
}

static void end(void)
{
	front_end_finish(&front_end);
	gpu_server_destroy(server);
}

#define TEST_SERVER(name) TEST_BETWEEN(name, begin(), end())

/* ---- The guest ---------------------------------------------------------------------------- */

static struct virtio_gpu_rect rectangle(uint32_t width, uint32_t height)
{
	return (struct virtio_gpu_rect){ .width = htole32(width), .height = htole32(height) };
}

/* The type of the response. The request is the only one in flight. */
static uint32_t call_on(uint32_t index, const void *request, uint32_t size)
{
	uint32_t written;
	const struct virtio_gpu_ctrl_hdr *response = send_and_wait(
		index, request, size, sizeof(*response), &written);

	return written > 0 ? le32toh(response->type) : 0;
}

static uint32_t call(const void *request, uint32_t size)
{
	return call_on(0, request, size);
}

static uint32_t create_2d(uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_resource_create_2d request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D),
		.resource_id = htole32(resource_id),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.width = htole32(width),
		.height = htole32(height),
	};

	return call(&request, sizeof(request));
}

static uint32_t set_scanout(uint32_t scanout, uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_set_scanout request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT),
		.r = rectangle(width, height),
		.scanout_id = htole32(scanout),
		.resource_id = htole32(resource_id),
	};

	return call(&request, sizeof(request));
}

static uint32_t flush(uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_resource_flush request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH),
		.r = rectangle(width, height),
		.resource_id = htole32(resource_id),
	};

	return call(&request, sizeof(request));
}

static uint32_t create_blob(uint32_t resource_id, uint64_t address, uint32_t size)
{
	const struct {
		struct virtio_gpu_resource_create_blob request;
		struct virtio_gpu_mem_entry entry;
	} request = {
		.request = { .hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB),
			.resource_id = htole32(resource_id),
			.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
			.nr_entries = htole32(1),
			.size = htole64(size) },
		.entry = { .addr = htole64(address), .length = htole32(size) },
	};

	return call(&request, sizeof(request));
}

static uint32_t set_scanout_blob(uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_set_scanout_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB),
		.r = rectangle(width, height),
		.resource_id = htole32(resource_id),
		.width = htole32(width),
		.height = htole32(height),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(width * 4) },
	};

	return call(&request, sizeof(request));
}

/* On the first scanout. */
static uint32_t update_cursor(uint32_t resource_id)
{
	const struct virtio_gpu_update_cursor request = {
		.hdr = header(VIRTIO_GPU_CMD_UPDATE_CURSOR),
		.pos = { .x = htole32(7), .y = htole32(9) },
		.resource_id = htole32(resource_id),
	};

	return call_on(1, &request, sizeof(request));
}

/* What a guest does that boots again: its queues begin at 0. */
static void restart_queues(uint16_t control_base, uint16_t cursor_base)
{
	for (uint32_t i = 0; i < FRONT_END_QUEUES; i++) {
		front_end_free_queue(&front_end, i);
		front_end_make_queue(&front_end, i, 16);
	}
	assert_int_equal(front_end_start_queue(&front_end, 0, control_base), 0);
	assert_int_equal(front_end_start_queue(&front_end, 1, cursor_base), 0);
}

/* ---- A display ---------------------------------------------------------------------------- */

struct shown {
	uint32_t width, height; /* of the first scanout */
	unsigned int num_scanouts, num_updates, num_cursors, num_hidden;
	uint64_t pixels; /* updated */
	bool one_color;  /* each update is of one */
	uint32_t color;  /* of the last one */
};

static bool read_all(int fd, void *to, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t length = recv(fd, (char *)to + done, size - done, 0);

		if (length > 0) {
			done += (size_t)length;
		} else if (done == 0) {
			return false;
		} else {
			run(NULL);
		}
	}
	return true;
}

static void look_at_pixels(struct shown *shown, const uint32_t *pixels, size_t count)
{
	shown->color = pixels[0] & 0xffffff;
	for (size_t i = 0; i < count; i++) {
		shown->one_color = shown->one_color && (pixels[i] & 0xffffff) == shown->color;
	}
	shown->pixels += count;
	shown->num_updates++;
}

/* All that a display has been told by now. */
static struct shown read_display(int fd)
{
	static uint32_t payload[700000];
	struct shown shown = { .one_color = true };
	uint32_t message[3];

	run(NULL);
	while (read_all(fd, message, sizeof(message))) {
		assert_true(message[2] <= sizeof(payload));
		assert_true(message[2] == 0 || read_all(fd, payload, message[2]));
		if (message[0] == SCANOUT) {
			shown.num_scanouts++;
			if (payload[0] == 0) {
				shown.width = payload[1];
				shown.height = payload[2];
			}
		} else if (message[0] == UPDATE) {
			assert_int_equal(message[2],
				(5 + (uint64_t)payload[3] * payload[4]) * sizeof(uint32_t));
			look_at_pixels(&shown, payload + 5, payload[3] * payload[4]);
		} else {
			shown.num_cursors += message[0] == CURSOR_UPDATE;
			shown.num_hidden += message[0] == CURSOR_POS_HIDE;
		}
		run(NULL);
	}
	return shown;
}

static void show_something(void)
{
	assert_int_equal(create_2d(1, 100, 50), OK);
	assert_int_equal(set_scanout(0, 1, 100, 50), OK);
	assert_int_equal(flush(1, 100, 50), OK);
}

TEST_SERVER(a_display_is_told_what_the_guest_shows)
{
	struct shown shown;
	int display;

	display = set_display();
	show_something();
	shown = read_display(display);
	assert_int_equal(shown.num_scanouts, 1);
	assert_int_equal(shown.width, 100);
	assert_int_equal(shown.height, 50);
	assert_int_equal(shown.pixels, 100 * 50);
	close(display);
}

/* A guest that has two frame buffers, as most have. */
TEST_SERVER(a_page_flip_is_one_update_and_no_new_screen)
{
	struct shown shown;
	int display;

	display = set_display();
	show_something();
	assert_int_equal(create_2d(2, 100, 50), OK);
	read_display(display);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(set_scanout(0, 1 + i % 2, 100, 50), OK);
		assert_int_equal(flush(1 + i % 2, 100, 50), OK);
		shown = read_display(display);
		assert_int_equal(shown.num_scanouts, 0);
		assert_int_equal(shown.num_updates, 1);
		assert_int_equal(shown.pixels, 100 * 50);
	}
	/* Whatever it says has changed, it is another picture. */
	assert_int_equal(set_scanout(0, 1, 100, 50), OK);
	assert_int_equal(flush(1, 10, 10), OK);
	assert_int_equal(read_display(display).pixels, 100 * 50);
	close(display);
}

/* The guest may draw the next frame as soon as it has the response. */
TEST_SERVER(the_response_of_a_flush_says_that_the_pixels_were_read)
{
	const uint32_t width = 512, height = 500, size = width * height * 4;
	const uint64_t address = front_end_alloc(&front_end, size);
	struct shown shown;
	int display;

	display = set_display();
	assert_int_equal(create_blob(1, address, size), OK);
	assert_int_equal(set_scanout_blob(1, width, height), OK);
	memset(front_end_at(&front_end, address), 0x11, size);
	assert_int_equal(flush(1, width, height), OK);
	memset(front_end_at(&front_end, address), 0x22, size);
	shown = read_display(display);
	assert_int_equal(shown.pixels, width * height);
	assert_true(shown.one_color);
	assert_int_equal(shown.color, 0x111111);
	/* The display reads nothing of three frames: it gets none that is half another. */
	for (int i = 3; i < 6; i++) {
		memset(front_end_at(&front_end, address), 0x11 * i, size);
		assert_int_equal(flush(1, width, height), OK);
	}
	memset(front_end_at(&front_end, address), 0x77, size);
	shown = read_display(display);
	assert_int_equal(shown.num_updates, 2);
	assert_true(shown.one_color);
	assert_int_equal(shown.color, 0x555555);
	close(display);
}

TEST_SERVER(a_cursor_outlives_its_resource_but_not_the_guest)
{
	struct virtio_gpu_resource_unref unref = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF),
		.resource_id = htole32(1),
	};
	const struct virtio_gpu_update_cursor move = {
		.hdr = header(VIRTIO_GPU_CMD_MOVE_CURSOR),
	};
	struct shown shown;
	int display;

	assert_int_equal(create_2d(1, 64, 64), OK);
	assert_int_equal(update_cursor(1), OK);
	assert_int_equal(call(&unref, sizeof(unref)), OK);
	display = set_display();
	assert_int_equal(read_display(display).num_cursors, 1);
	assert_int_equal(call_on(1, &move, sizeof(move)), OK);
	assert_int_equal(read_display(display).num_hidden, 0);
	front_end_stop_queue(&front_end, 0);
	front_end_stop_queue(&front_end, 1);
	restart_queues(0, 0);
	shown = read_display(display);
	assert_int_equal(shown.num_hidden, 1);
	assert_int_equal(shown.num_cursors, 0);
	close(display);
}

/* QEMU gives the socket, then the queues begin at 0. */
TEST_SERVER(a_display_outlives_the_guests_reset)
{
	struct shown shown;
	int display;

	show_something();
	front_end_stop_queue(&front_end, 0);
	front_end_stop_queue(&front_end, 1);
	display = set_display();
	restart_queues(0, 0);
	shown = read_display(display);
	assert_int_equal(shown.width, 0);
	show_something();
	shown = read_display(display);
	assert_int_equal(shown.width, 100);
	assert_int_equal(shown.pixels, 100 * 50);
	close(display);
}

/* QEMU gives a new one if the guest goes on after a pause. */
TEST_SERVER(a_display_that_comes_later_is_told_what_is_shown)
{
	uint16_t control_base, cursor_base;
	struct shown shown;
	int display;

	close(set_display());
	show_something();
	assert_int_equal(create_2d(2, 64, 64), OK);
	assert_int_equal(update_cursor(2), OK);
	control_base = front_end_stop_queue(&front_end, 0);
	cursor_base = front_end_stop_queue(&front_end, 1);
	display = set_display();
	restart_queues(control_base, cursor_base);
	shown = read_display(display);
	assert_int_equal(shown.num_scanouts, 1);
	assert_int_equal(shown.width, 100);
	assert_int_equal(shown.pixels, 100 * 50);
	assert_int_equal(shown.num_cursors, 1);
	close(display);
}

/* More messages than are sent at a time. */
TEST_SERVER(a_display_is_told_of_every_scanout)
{
	struct shown shown;
	int display;

	assert_int_equal(create_2d(1, 100, 50), OK);
	for (uint32_t i = 0; i < 16; i++) {
		assert_int_equal(set_scanout(i, 1, 100, 50), OK);
	}
	display = set_display();
	shown = read_display(display);
	assert_int_equal(shown.num_scanouts, 16);
	assert_int_equal(shown.pixels, 16 * 100 * 50);
	close(display);
}

/* The device's end must be closed. */
TEST_SERVER(a_display_leaves_with_its_front_end)
{
	char byte;
	int display;

	display = set_display();
	front_end_disconnect(&front_end);
	read_display(display);
	assert_int_equal(recv(display, &byte, 1, 0), 0);
	close(display);
}

/* In the middle of a message that is larger than what a socket holds. */
TEST_SERVER(a_display_may_leave_in_the_middle)
{
	int display;

	display = set_display();
	assert_int_equal(create_2d(1, 2048, 1024), OK);
	assert_int_equal(set_scanout(0, 1, 2048, 1024), OK);
	assert_int_equal(flush(1, 2048, 1024), OK);
	close(display);
	assert_int_equal(flush(1, 2048, 1024), OK);
}

static void assert_harmless_display(int fd)
{
	assert_true(fd >= 0);
	/* It may be refused or not: what it cannot do is noticed when it is used. */
	assert_true(front_end_call(&front_end, VHOST_USER_GPU_SET_SOCKET, NULL, 0, &fd, 1) >= 0);
	close(fd);
	assert_int_equal(flush(1, 100, 50), OK);
	run(NULL);
}

TEST_SERVER(displays_that_are_no_connections_do_no_harm)
{
	int pipe_fds[2];

	show_something();
	assert_harmless_display(eventfd(0, EFD_CLOEXEC));
	assert_harmless_display(memfd_create("display", MFD_CLOEXEC));
	assert_harmless_display(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	assert_harmless_display(open("/dev/null", O_RDWR | O_CLOEXEC));
	assert_harmless_display(open("/", O_PATH | O_CLOEXEC));
	assert_harmless_display(epoll_create1(EPOLL_CLOEXEC));
	assert_harmless_display(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	assert_harmless_display(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_harmless_display(pipe_fds[0]);
	assert_harmless_display(pipe_fds[1]);
	assert_int_equal(flush(1, 100, 50), OK);
}

/* ---- What a display says ------------------------------------------------------------------ */

static void answer(int fd, uint32_t request, const void *payload, uint32_t size)
{
	const uint32_t header[] = { request, 4, size };

	assert_int_equal(send(fd, header, sizeof(header), 0), sizeof(header));
	assert_int_equal(send(fd, payload, size, 0), size);
}

/* Two monitors, of which the first has a window of this width. */
static void answer_questions(int fd, uint32_t width)
{
	struct virtio_gpu_resp_display_info info = {
		.pmodes = { { .r = rectangle(width, 700), .enabled = htole32(1) },
			{ .r = rectangle(1024, 768), .enabled = htole32(1) } },
	};
	struct virtio_gpu_resp_edid edid = { .size = htole32(256) };
	uint32_t message[3], payload[16];
	uint64_t features = 1;

	while (read_all(fd, message, sizeof(message))) {
		assert_true(message[2] <= sizeof(payload));
		assert_true(message[2] == 0 || read_all(fd, payload, message[2]));
		if (message[0] == GET_PROTOCOL_FEATURES) {
			answer(fd, message[0], &features, sizeof(features));
		} else if (message[0] == GET_DISPLAY_INFO) {
			answer(fd, message[0], &info, sizeof(info));
		} else if (message[0] == GET_EDID) {
			memset(edid.edid, 0x60 + (int)payload[0], sizeof(edid.edid));
			answer(fd, message[0], &edid, sizeof(edid));
		}
		run(NULL);
	}
}

/* Asks the device while a display answers; fd below 0: none does. What is behind the response's
 * header goes to `to`. */
static void ask(int fd, uint32_t width, const void *request, uint32_t size, void *to, uint32_t room)
{
	const uint64_t free_before = front_end.next_free;
	const uint32_t header_size = sizeof(struct virtio_gpu_ctrl_hdr);
	const uint8_t *response = front_end_request(
		&front_end, 0, 0, request, size, header_size + room);
	uint32_t head, written;

	front_end_kick(&front_end.queues[0]);
	for (int i = 0; !front_end_used(&front_end.queues[0], &head, &written); i++) {
		assert_true(i < LOST_ROUNDS);
		assert_int_equal(gpu_server_dispatch(server, 1), 0);
		if (fd >= 0) {
			answer_questions(fd, width);
		}
	}
	assert_int_equal(written, header_size + room);
	memcpy(to, response + header_size, room);
	front_end.next_free = free_before;
}

static uint32_t ask_width(int fd, uint32_t width, uint32_t monitor)
{
	const struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO);
	struct virtio_gpu_display_one modes[VIRTIO_GPU_MAX_SCANOUTS];

	ask(fd, width, &request, sizeof(request), modes, sizeof(modes));
	return le32toh(modes[monitor].enabled) ? le32toh(modes[monitor].r.width) : 0;
}

static uint8_t ask_edid(int fd, uint32_t scanout)
{
	const struct virtio_gpu_cmd_get_edid request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_EDID),
		.scanout = htole32(scanout),
	};
	struct {
		uint32_t size, padding;
		uint8_t edid[1024];
	} response;

	ask(fd, 1000, &request, sizeof(request), &response, sizeof(response));
	assert_true(le32toh(response.size) >= 128);
	return response.edid[0];
}

static uint32_t read_events(void)
{
	uint32_t events;

	assert_int_equal(
		gpu_read_config(gpu_server_get_gpu(server), 0, &events, sizeof(events)), 0);
	return le32toh(events);
}

TEST_BETWEEN(the_displays_monitors_reach_the_guest, begin_with(NEVER_MS), end())
{
	int display;

	assert_int_equal(ask_width(-1, 0, 0), 640);
	display = set_display();
	assert_int_equal(ask_width(display, 1000, 0), 1000);
	assert_int_equal(ask_width(display, 1100, 0), 1100); /* the window was resized */
	assert_int_equal(ask_width(display, 1100, 1), 1024);
	assert_int_equal(ask_width(display, 1100, 2), 0);
	assert_int_equal(ask_edid(display, 0), 0x60);
	assert_int_equal(ask_edid(display, 1), 0x61);
	assert_int_equal(ask_edid(display, 2), 0); /* which the display does not have: ours */
	close(display);
}

/* ---- A display that shows memory in place --------------------------------------------------- */

#define WORDS 1024u

static void begin_in_place(void)
{
	front_end_dma_bufs = true;
	begin();
	front_end_dma_bufs = false;
}

#define TEST_IN_PLACE(name) TEST_BETWEEN(name, begin_in_place(), end())

struct in_place {
	int display;
	bool answers; /* updates; it takes note of them all the same */
	unsigned int num_buffers, num_updates, num_copies;
	int fd; /* of the last buffer, or -1 */
};

static bool receive_header(struct in_place *in_place, uint32_t *message)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec piece = { message, 3 * sizeof(*message) };
	struct msghdr received = { .msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	const struct cmsghdr *attached;

	if (recvmsg(in_place->display, &received, MSG_CMSG_CLOEXEC) <= 0) {
		return false;
	}
	attached = CMSG_FIRSTHDR(&received);
	if (message[0] == DMABUF_SCANOUT2 && in_place->fd >= 0) {
		close(in_place->fd);
		in_place->fd = -1;
	}
	if (attached != NULL) {
		memcpy(&in_place->fd, CMSG_DATA(attached), sizeof(in_place->fd));
	}
	return true;
}

static void answer_in_place(struct in_place *in_place, uint32_t request)
{
	static const struct virtio_gpu_resp_display_info info;
	const uint64_t features = 3;

	if (request == GET_PROTOCOL_FEATURES) {
		answer(in_place->display, request, &features, sizeof(features));
	} else if (request == GET_DISPLAY_INFO) {
		answer(in_place->display, request, &info, sizeof(info));
	} else if (request == DMABUF_UPDATE && in_place->answers) {
		answer(in_place->display, request, NULL, 0);
	}
}

static void serve(struct in_place *in_place)
{
	static uint32_t payload[5 + WORDS];
	uint32_t message[3];

	run(NULL);
	while (receive_header(in_place, message)) {
		assert_true(message[2] <= sizeof(payload));
		assert_true(message[2] == 0 || read_all(in_place->display, payload, message[2]));
		in_place->num_buffers += message[0] == DMABUF_SCANOUT2 && in_place->fd >= 0;
		in_place->num_updates += message[0] == DMABUF_UPDATE;
		in_place->num_copies += message[0] == UPDATE;
		answer_in_place(in_place, message[0]);
		run(NULL);
	}
}

/* What the display's memory has, as it is now. */
static uint32_t word_in_place(const struct in_place *in_place)
{
	uint32_t word = 0;

	assert_int_equal(
		pread(in_place->fd, &word, sizeof(word), (off_t)udmabuf.offset), sizeof(word));
	return word;
}

/* A display, and a picture in a page of the guest's that it shows. Returns the page. */
static uint32_t *show_in_place(struct in_place *in_place)
{
	uint64_t address = front_end_alloc(&front_end, 8192);
	uint32_t *pixels;

	address = (address + 4095) / 4096 * 4096;
	pixels = front_end_at(&front_end, address);
	*in_place = (struct in_place){ .display = set_display(), .answers = true, .fd = -1 };
	serve(in_place);
	assert_int_equal(create_blob(1, address, 4096), OK);
	assert_int_equal(set_scanout_blob(1, 32, 32), OK);
	pixels[0] = 0x112233;
	assert_int_equal(flush(1, 32, 32), OK);
	serve(in_place);
	return pixels;
}

static void end_in_place(struct in_place *in_place)
{
	close(in_place->display);
	if (in_place->fd >= 0) {
		close(in_place->fd);
	}
}

TEST_IN_PLACE(a_display_reads_the_guests_memory_in_place)
{
	struct in_place in_place;
	uint32_t *pixels = show_in_place(&in_place);

	assert_int_equal(in_place.num_buffers, 1);
	assert_int_equal(in_place.num_updates, 1);
	assert_int_equal(in_place.num_copies, 0);
	assert_int_equal(word_in_place(&in_place), 0x112233);
	pixels[0] = 0x445566;
	assert_int_equal(word_in_place(&in_place), 0x445566);
	assert_int_equal(flush(1, 32, 32), OK);
	serve(&in_place);
	assert_int_equal(in_place.num_buffers, 1);
	assert_int_equal(in_place.num_updates, 2);
	end_in_place(&in_place);
}

/* Sends a request; it is not waited for. Returns the rounds of a display until it is answered, or
 * -1: it was not. */
static int rounds_until_answered(struct in_place *in_place, const void *request, uint32_t size)
{
	uint32_t head, written;

	front_end_request(&front_end, 0, 0, request, size, sizeof(struct virtio_gpu_ctrl_hdr));
	front_end_kick(&front_end.queues[0]);
	run(NULL);
	for (int i = 0; i < 4; i++) {
		if (front_end_used(&front_end.queues[0], &head, &written)) {
			return i;
		}
		serve(in_place);
	}
	return -1;
}

TEST_IN_PLACE(a_fenced_flush_is_answered_when_the_front_end_has_shown_it)
{
	struct in_place in_place;
	struct virtio_gpu_resource_flush request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH),
		.r = rectangle(32, 32),
		.resource_id = htole32(1),
	};
	uint32_t head, written;

	show_in_place(&in_place);
	request.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE);
	request.hdr.fence_id = htole64(1);
	assert_in_range(rounds_until_answered(&in_place, &request, sizeof(request)), 1, 3);
	/* The control: one that does not answer. */
	in_place.answers = false;
	request.hdr.fence_id = htole64(2);
	assert_int_equal(rounds_until_answered(&in_place, &request, sizeof(request)), -1);
	assert_int_equal(in_place.num_updates, 3);
	/* Until it leaves. */
	end_in_place(&in_place);
	run(NULL);
	assert_true(front_end_used(&front_end.queues[0], &head, &written));
}

TEST_IN_PLACE(memory_is_the_guests_when_the_front_end_has_released_it)
{
	struct in_place in_place;
	const struct virtio_gpu_resource_unref request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF),
		.resource_id = htole32(1),
	};

	show_in_place(&in_place);
	assert_in_range(rounds_until_answered(&in_place, &request, sizeof(request)), 1, 3);
	assert_int_equal(in_place.fd, -1);
	end_in_place(&in_place);
}

/* A guest may not keep up with a display that comes later. */
TEST_BETWEEN(other_monitors_are_an_event, begin_with(NEVER_MS), end())
{
	uint32_t bit = htole32(VIRTIO_GPU_EVENT_DISPLAY);
	int display;

	display = set_display();
	run(NULL);
	answer_questions(display, 1000);
	assert_int_equal(read_events(), 0); /* It has not asked yet. */
	assert_int_equal(ask_width(display, 1000, 0), 1000);
	assert_int_equal(ask_width(display, 1100, 0), 1100);
	assert_int_equal(read_events(), 0);
	close(display);
	display = set_display();
	run(NULL);
	answer_questions(display, 1100);
	assert_int_equal(read_events(), 0);
	close(display);
	display = set_display();
	run(NULL);
	answer_questions(display, 1200);
	assert_int_equal(read_events(), VIRTIO_GPU_EVENT_DISPLAY);
	assert_int_equal(gpu_write_config(gpu_server_get_gpu(server), 4, &bit, sizeof(bit)), 0);
	assert_int_equal(read_events(), 0);
	close(display);
}

/* For which the display is asked for its monitors as well. */
TEST_BETWEEN(what_a_question_for_an_edid_finds_is_an_event, begin_with(NEVER_MS), end())
{
	int display = set_display();

	assert_int_equal(ask_width(display, 1100, 0), 1100);
	assert_int_equal(read_events(), 0);
	assert_int_equal(ask_edid(display, 0), 0x60); /* by then its window has a width of 1000 */
	assert_int_equal(read_events(), VIRTIO_GPU_EVENT_DISPLAY);
	close(display);
}

static unsigned int num_notifications(void)
{
	struct vhost_user_header header;
	unsigned int count = 0;

	run(NULL);
	while (recv(front_end.channel_fd, &header, sizeof(header), MSG_DONTWAIT) > 0) {
		assert_int_equal(header.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
		count++;
	}
	return count;
}

static void resize_a_window(uint32_t width)
{
	const struct virtio_gpu_display_one monitors[VIRTIO_GPU_MAX_SCANOUTS] = {
		{ .r = { .width = width, .height = 700 }, .enabled = 1 },
	};

	gpu_tell_monitors(gpu_server_get_gpu(server), monitors);
}

/* Whoever has a window resizes it as often as they like. */
TEST_SERVER(a_channel_that_comes_later_has_what_was_told_before)
{
	assert_int_equal(ask_width(-1, 0, 0), 640);
	resize_a_window(1000);
	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(num_notifications(), 1);
	/* It is not read, and another one comes. */
	assert_int_equal(ask_width(-1, 0, 0), 1000);
	resize_a_window(1001);
	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(num_notifications(), 1);
	assert_int_equal(read_events(), VIRTIO_GPU_EVENT_DISPLAY);
}

TEST_SERVER(the_guest_is_notified_once_until_it_has_cleared_the_event)
{
	const uint32_t bit = htole32(VIRTIO_GPU_EVENT_DISPLAY);
	struct gpu *gpu = gpu_server_get_gpu(server);

	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(ask_width(-1, 0, 0), 640);
	for (uint32_t i = 0; i < 1000; i++) {
		resize_a_window(1000 + i);
	}
	assert_int_equal(num_notifications(), 1);
	/* What was after that it may not have seen. */
	assert_int_equal(gpu_write_config(gpu, 4, &bit, sizeof(bit)), 0);
	assert_int_equal(read_events(), VIRTIO_GPU_EVENT_DISPLAY);
	assert_int_equal(num_notifications(), 1);
	assert_int_equal(gpu_write_config(gpu, 4, &bit, sizeof(bit)), 0);
	assert_int_equal(read_events(), 0);
	assert_int_equal(num_notifications(), 0);
	/* It asks before it clears. */
	resize_a_window(1000);
	resize_a_window(1001);
	assert_int_equal(ask_width(-1, 0, 0), 1001);
	assert_int_equal(gpu_write_config(gpu, 4, &bit, sizeof(bit)), 0);
	assert_int_equal(read_events(), 0);
	assert_int_equal(num_notifications(), 1);
	/* In between there is one more. */
	resize_a_window(1002);
	assert_int_equal(ask_width(-1, 0, 0), 1002);
	resize_a_window(1003);
	assert_int_equal(num_notifications(), 2);
	assert_int_equal(gpu_write_config(gpu, 4, &bit, sizeof(bit)), 0);
	assert_int_equal(read_events(), VIRTIO_GPU_EVENT_DISPLAY);
}

/* As Linux asks: for EDIDs, then for modes, and then it clears the event. */
TEST_SERVER(modes_that_an_edid_does_not_have_are_an_event)
{
	const uint32_t bit = htole32(VIRTIO_GPU_EVENT_DISPLAY);
	struct gpu *gpu = gpu_server_get_gpu(server);

	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(ask_width(-1, 0, 0), 640);
	resize_a_window(1000);
	ask_edid(-1, 0);
	resize_a_window(1001);
	assert_int_equal(ask_width(-1, 0, 0), 1001);
	assert_int_equal(gpu_write_config(gpu, 4, &bit, sizeof(bit)), 0);
	assert_int_equal(read_events(), VIRTIO_GPU_EVENT_DISPLAY);
	ask_edid(-1, 0);
	assert_int_equal(ask_width(-1, 0, 0), 1001);
	assert_int_equal(gpu_write_config(gpu, 4, &bit, sizeof(bit)), 0);
	assert_int_equal(read_events(), 0);
	/* Who does not ask for EDIDs is told once. */
	resize_a_window(1002);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ask_width(-1, 0, 0), 1002);
		assert_int_equal(gpu_write_config(gpu, 4, &bit, sizeof(bit)), 0);
		assert_int_equal(read_events(), i == 0 ? VIRTIO_GPU_EVENT_DISPLAY : 0);
	}
}

/* It keeps what was known, and tells what it learns then. */
TEST_SERVER(a_display_that_answers_nothing_keeps_no_guest_waiting)
{
	int display;

	display = set_display();
	assert_int_equal(ask_width(-1, 0, 0), 640);
	assert_int_equal(ask_edid(-1, 0), 0);
	assert_int_equal(ask_width(-1, 0, 15), 640);
	answer_questions(display, 1000);
	assert_int_equal(read_events(), VIRTIO_GPU_EVENT_DISPLAY);
	assert_int_equal(ask_width(display, 1000, 0), 1000);
	close(display);
}

static void send_question(uint16_t head)
{
	const struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO);

	front_end_request(&front_end, 0, head, &request, sizeof(request), 408);
}

static void assert_answers(unsigned int count)
{
	uint32_t head, written;

	for (unsigned int i = 0; i < count; i++) {
		assert_true(front_end_used(&front_end.queues[0], &head, &written));
		assert_int_equal(written, 408);
	}
}

/* A guest takes a fence for the end of all before it. */
TEST_SERVER(fences_that_come_after_a_question_wait_with_it)
{
	struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO);
	struct virtio_gpu_resource_flush later = { .hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH) };
	uint32_t head, written;
	int display;

	display = set_display();
	show_something();
	request.flags = later.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE);
	request.fence_id = htole64(1);
	later.hdr.fence_id = htole64(2);
	later.resource_id = htole32(1);
	front_end_request(&front_end, 0, 0, &request, sizeof(request), 408);
	front_end_request(&front_end, 0, 2, &later, sizeof(later), sizeof(later.hdr));
	front_end_kick(&front_end.queues[0]);
	assert_int_equal(gpu_server_dispatch(server, 0), 0);
	assert_false(front_end_used(&front_end.queues[0], &head, &written));
	for (uint32_t i = 0; i < 2; i++) {
		for (int j = 0; !front_end_used(&front_end.queues[0], &head, &written); j++) {
			assert_true(j < LOST_ROUNDS);
			assert_int_equal(gpu_server_dispatch(server, 1), 0);
		}
		assert_int_equal(head, 2 * i);
	}
	close(display);
}

/* QEMU waits for the queue to stop, and answers nothing meanwhile. */
TEST_BETWEEN(a_queue_that_stops_waits_for_no_display, begin_with(NEVER_MS), end())
{
	int display;

	display = set_display();
	send_question(0);
	send_question(2);
	front_end_kick(&front_end.queues[0]);
	gpu_server_dispatch(server, 0);
	front_end_stop_queue(&front_end, 0);
	assert_answers(2);
	close(display);
}

TEST_BETWEEN(a_display_that_leaves_answers_no_more, begin_with(NEVER_MS), end())
{
	int display;

	display = set_display();
	send_question(0);
	send_question(2);
	front_end_kick(&front_end.queues[0]);
	gpu_server_dispatch(server, 0);
	close(display);
	run(NULL);
	assert_answers(2);
}

TEST_BETWEEN(a_front_end_leaves_and_so_do_its_monitors, begin_with(NEVER_MS), end())
{
	int display;

	display = set_display();
	assert_int_equal(ask_width(display, 1000, 0), 1000);
	send_question(0);
	front_end_kick(&front_end.queues[0]);
	gpu_server_dispatch(server, 0);
	front_end_disconnect(&front_end);
	run(NULL);
	close(display);
	front_end_connect(&front_end, path);
	front_end.next_free = FRONT_END_NEAR;
	front_end_start(&front_end);
	assert_int_equal(ask_width(-1, 0, 0), 640);
}

/* ---- Work --------------------------------------------------------------------------------- */

struct submission {
	struct virtio_gpu_cmd_submit request;
	uint32_t command[2];
};

/* On a ring of context 1. */
static struct submission fenced_job(uint64_t fence_id, uint32_t busy_us)
{
	struct submission submission = {
		.request.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D),
		.request.size = htole32(sizeof(submission.command)),
		.command = { htole32(SOFT_GPU_BUSY), htole32(busy_us) },
	};

	submission.request.hdr.flags = htole32(
		VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	submission.request.hdr.fence_id = htole64(fence_id);
	submission.request.hdr.ctx_id = htole32(1);
	return submission;
}

static uint32_t create_context(void)
{
	struct virtio_gpu_ctx_create request = { .hdr = header(VIRTIO_GPU_CMD_CTX_CREATE) };

	request.hdr.ctx_id = htole32(1);
	return call(&request, sizeof(request));
}

/* Fills the queue with work that does not end in any test's time. */
static void send_endless_jobs(void)
{
	assert_int_equal(create_context(), OK);
	for (uint16_t i = 0; i < 8; i++) {
		struct submission job = fenced_job(i + 1, 1000000000);

		front_end_request(&front_end, 0, (uint16_t)(2 * i), &job, sizeof(job),
			sizeof(job.request.hdr));
	}
	front_end_kick(&front_end.queues[0]);
	run(NULL);
}

TEST_SERVER(a_front_end_dies_with_jobs_in_flight)
{
	for (int i = 0; i < 3; i++) {
		send_endless_jobs();
		front_end_disconnect(&front_end);
		run(NULL);
		front_end_connect(&front_end, path);
		front_end.next_free = FRONT_END_NEAR;
		front_end_start(&front_end);
	}
	assert_int_equal(create_context(), OK);
}

TEST(the_server_ends_with_jobs_in_flight)
{
	begin();
	send_endless_jobs();
	gpu_server_destroy(server);
	server = NULL;
	front_end.run = NULL;
	front_end_finish(&front_end);
}

TEST_SERVER(a_reset_answers_all_jobs_in_flight)
{
	uint32_t head, written;
	unsigned int count = 0;

	send_endless_jobs();
	assert_false(front_end_used(&front_end.queues[0], &head, &written));
	assert_int_equal(front_end_call(&front_end, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0), 0);
	while (front_end_used(&front_end.queues[0], &head, &written)) {
		assert_int_equal(written, sizeof(struct virtio_gpu_ctrl_hdr));
		count++;
	}
	assert_int_equal(count, 8);
	restart_queues(0, 0);
	assert_int_equal(create_context(), OK);
}

/* ---- While the loop's thread sleeps -------------------------------------------------------- */

static pthread_t loop;
static atomic_bool has_loop, loop_ends, answered_elsewhere;
static int leaving_display = -1; /* closed while the next request is completed */

void __real_vhost_user_complete(
	struct vhost_user *vhost_user, uint32_t queue, uint32_t token, uint32_t written);
void __wrap_vhost_user_complete(
	struct vhost_user *vhost_user, uint32_t queue, uint32_t token, uint32_t written);
void __wrap_vhost_user_complete(
	struct vhost_user *vhost_user, uint32_t queue, uint32_t token, uint32_t written)
{
	__real_vhost_user_complete(vhost_user, queue, token, written);
	if (leaving_display >= 0) {
		close(leaving_display);
		leaving_display = -1;
	}
	if (atomic_load(&has_loop) && !pthread_equal(pthread_self(), loop)) {
		atomic_store(&answered_elsewhere, true);
	}
}

/* What is sent to it at the end of the round finds it gone, when answers have been published. */
TEST_BETWEEN(a_display_leaves_before_it_is_asked, begin_with(NEVER_MS), end())
{
	const struct virtio_gpu_ctrl_hdr before = header(VIRTIO_GPU_CMD_RESOURCE_UNREF);
	uint32_t head, written;

	leaving_display = set_display();
	run(NULL);
	front_end_request(&front_end, 0, 0, &before, sizeof(before), sizeof(before));
	send_question(2);
	front_end_kick(&front_end.queues[0]);
	assert_int_equal(gpu_server_dispatch(server, 1000), 0);
	assert_int_equal(leaving_display, -1);
	assert_true(front_end_used(&front_end.queues[0], &head, &written));
	/* So the next round does not sleep, if there is anything left for it. */
	if (gpu_timeout(gpu_server_get_gpu(server), -1) == 0) {
		assert_int_equal(gpu_server_dispatch(server, 0), 0);
	}
	assert_answers(1);
}

static void *run_loop(void *arg)
{
	while (!atomic_load(&loop_ends)) {
		assert_int_equal(gpu_server_dispatch(server, -1), 0);
	}
	return arg;
}

static void send_job(uint64_t fence_id)
{
	const struct submission job = fenced_job(fence_id, 100);
	const uint64_t free_before = front_end.next_free;
	uint32_t head, written;

	front_end_request(&front_end, 0, 0, &job, sizeof(job), sizeof(job.request.hdr));
	front_end_kick(&front_end.queues[0]);
	while (!front_end_used(&front_end.queues[0], &head, &written)) {
		sched_yield();
	}
	assert_int_equal(written, sizeof(job.request.hdr));
	front_end.next_free = free_before;
}

/* Of many, as the loop's may not sleep yet when the work is done. */
TEST_SERVER(the_renderers_thread_answers)
{
	uint64_t id = 0;

	assert_int_equal(create_context(), OK);
	atomic_store(&loop_ends, false);
	assert_int_equal(pthread_create(&loop, NULL, run_loop, NULL), 0);
	atomic_store(&has_loop, true);
	do {
		send_job(++id);
	} while (!atomic_load(&answered_elsewhere));
	atomic_store(&has_loop, false);
	atomic_store(&loop_ends, true);
	front_end_kick(&front_end.queues[0]);
	pthread_join(loop, NULL);
}

/* Front ends ask for as many bytes as they know of; what the device does not know is 0. */
TEST_SERVER(a_newer_front_end_reads_the_configuration)
{
	union vhost_user_payload payload = { .config = { .size = 28 } };
	struct gpu_config config;
	uint32_t request, unknown[2];

	front_end_send(&front_end, VHOST_USER_GET_CONFIG, 0, &payload, 12 + 28, NULL, 0);
	assert_int_equal(
		front_end_receive(&front_end, &request, &payload, sizeof(payload)), 12 + 28);
	memcpy(&config, payload.config.data, sizeof(config));
	memcpy(unknown, payload.config.data + sizeof(config), sizeof(unknown));
	assert_int_equal(le32toh(config.num_scanouts), 16);
	assert_int_equal(le32toh(config.num_capsets), 1);
	assert_int_equal(le32toh(config.blob_alignment), 4096);
	assert_int_equal(unknown[0], 0);
	assert_int_equal(unknown[1], 0);
}

/* Without descriptors there are no fences and no memory, but there are answers. With some again
 * everything works as before. */
TEST_SERVER(the_device_outlives_that_descriptors_run_out)
{
	struct submission job = fenced_job(1, 10);
	int display;

	assert_int_equal(create_context(), OK);
	limit_fds(0);
	assert_true(call(&job, sizeof(job)) >= OK);
	show_something();
	unlimit_fds();
	job = fenced_job(2, 10);
	assert_int_equal(call(&job, sizeof(job)), OK);
	display = set_display();
	assert_int_equal(read_display(display).pixels, 100 * 50);
	close(display);
}

/* ---- The end ------------------------------------------------------------------------------ */

/* ---- Memory of the host -------------------------------------------------------------------- */

static uint32_t create_host_blob(uint32_t resource_id)
{
	const struct virtio_gpu_resource_create_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB),
		.resource_id = htole32(resource_id),
		.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_HOST3D),
		.blob_flags = htole32(VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE),
		.size = htole64(8192),
	};

	return call(&request, sizeof(request));
}

/* Asks for blob 1 at 0x3000, and does not wait. */
static const struct virtio_gpu_resp_map_info *send_map(void)
{
	const struct virtio_gpu_resource_map_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB),
		.resource_id = htole32(1),
		.offset = htole64(0x3000),
	};
	const struct virtio_gpu_resp_map_info *response = front_end_request(
		&front_end, 0, 0, &request, sizeof(request), sizeof(*response));

	front_end_kick(&front_end.queues[0]);
	run(NULL);
	return response;
}

/* The back end asks for this, of that place. Returns the descriptor. */
static int assert_asked(uint32_t request)
{
	struct vhost_user_header asked;
	struct vhost_user_mmap payload;
	int fd;

	run(NULL);
	assert_true(front_end_asked(&front_end, &asked, &payload, &fd));
	assert_int_equal(asked.request, request);
	assert_int_equal(payload.region, VIRTIO_GPU_SHM_ID_HOST_VISIBLE);
	assert_int_equal(payload.offset, 0x3000);
	assert_int_equal(payload.size, 8192);
	return fd;
}

/* It is mapped, and the front end has gone on. */
static void reply_to_map(void)
{
	char asked[sizeof(struct vhost_user_header) + VHOST_USER_UUID_SIZE];

	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 0);
	run(NULL);
	assert_int_equal(
		recv(front_end.channel_fd, asked, sizeof(asked), MSG_DONTWAIT), sizeof(asked));
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE, 1);
}

static void assert_completed(uint32_t written)
{
	uint32_t head, size;

	run(NULL);
	assert_true(front_end_used(&front_end.queues[0], &head, &size));
	assert_int_equal(size, written);
}

static const struct virtio_gpu_resp_map_info *map_all_the_way(void)
{
	const struct virtio_gpu_resp_map_info *response = send_map();

	close(assert_asked(VHOST_USER_BACKEND_SHMEM_MAP));
	reply_to_map();
	assert_completed(sizeof(*response));
	assert_int_equal(le32toh(response->hdr.type), VIRTIO_GPU_RESP_OK_MAP_INFO);
	return response;
}

TEST_SERVER(the_front_end_knows_the_window)
{
	struct vhost_user_shmem_config config;
	uint32_t request;

	front_end_send(&front_end, VHOST_USER_GET_SHMEM_CONFIG, 0, NULL, 0, NULL, 0);
	assert_int_equal(
		front_end_receive(&front_end, &request, &config, sizeof(config)), sizeof(config));
	assert_int_equal(config.num_regions, 1);
	assert_int_equal(config.sizes[VIRTIO_GPU_SHM_ID_HOST_VISIBLE], HOSTMEM);
}

TEST_SERVER(the_front_end_maps_a_blob)
{
	const struct virtio_gpu_resource_unref request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF),
		.resource_id = htole32(1),
	};
	const struct virtio_gpu_resp_map_info *response;
	void *memory;
	int fd;

	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(create_host_blob(1), OK);
	response = send_map();
	fd = assert_asked(VHOST_USER_BACKEND_SHMEM_MAP);
	memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	/* Nobody can take it away from the device. */
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	munmap(memory, 8192);
	close(fd);
	reply_to_map();
	assert_completed(sizeof(*response));
	assert_int_equal(le32toh(response->hdr.type), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_int_equal(le32toh(response->map_info), VIRTIO_GPU_MAP_CACHE_CACHED);
	assert_int_equal(call(&request, sizeof(request)), OK);
	assert_asked(VHOST_USER_BACKEND_SHMEM_UNMAP);
}

TEST_SERVER(a_front_end_without_a_channel_maps_nothing)
{
	const struct virtio_gpu_resp_map_info *response;

	assert_int_equal(create_host_blob(1), OK);
	response = send_map();
	assert_completed(sizeof(response->hdr));
	assert_int_equal(le32toh(response->hdr.type), VIRTIO_GPU_RESP_ERR_UNSPEC);
}

/* The front end has unmapped it by itself. */
TEST_SERVER(a_reset_device_has_nothing_mapped)
{
	struct gpu_stats stats;
	char byte;

	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(create_host_blob(1), OK);
	map_all_the_way();
	assert_int_equal(front_end_call(&front_end, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0), 0);
	run(NULL);
	assert_int_equal(recv(front_end.channel_fd, &byte, 1, MSG_DONTWAIT), -1);
	gpu_get_stats(gpu_server_get_gpu(server), &stats);
	assert_int_equal(stats.mapped_bytes, 0);
	/* The next guest has the place. */
	front_end_make_queue(&front_end, 0, 16);
	assert_int_equal(front_end_start_queue(&front_end, 0, 0), 0);
	assert_int_equal(create_host_blob(1), OK);
	map_all_the_way();
}

/* It waits for the queue to stop, and does not answer meanwhile. */
TEST_SERVER(a_queue_that_is_stopped_waits_for_no_mapping)
{
	const struct virtio_gpu_resp_map_info *response;

	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(create_host_blob(1), OK);
	response = send_map();
	front_end_stop_queue(&front_end, 0);
	assert_completed(sizeof(response->hdr));
	assert_int_equal(le32toh(response->hdr.type), VIRTIO_GPU_RESP_ERR_UNSPEC);
	close(assert_asked(VHOST_USER_BACKEND_SHMEM_MAP));
	reply_to_map();
	assert_asked(VHOST_USER_BACKEND_SHMEM_UNMAP);
}

TEST_SERVER(a_front_end_that_leaves_takes_its_mappings_along)
{
	struct gpu_stats stats;

	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(create_host_blob(1), OK);
	map_all_the_way();
	front_end_disconnect(&front_end);
	run(NULL);
	gpu_get_stats(gpu_server_get_gpu(server), &stats);
	assert_int_equal(stats.mapped_bytes, 0);
	front_end_connect(&front_end, path);
	front_end.next_free = FRONT_END_NEAR;
	front_end_start(&front_end);
	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(create_host_blob(1), OK);
	map_all_the_way();
}

/* ---- Objects for other devices ------------------------------------------------------------ */

static uint32_t create_cross_device_blob(uint32_t resource_id)
{
	const struct virtio_gpu_resource_create_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB),
		.resource_id = htole32(resource_id),
		.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_HOST3D),
		.blob_flags = htole32(VIRTIO_GPU_BLOB_FLAG_USE_CROSS_DEVICE),
		.size = htole64(8192),
	};

	return call(&request, sizeof(request));
}

/* There is room for the header of the response alone, so the guest does not get to see it. */
static void assign_uuid(uint32_t resource_id)
{
	const struct virtio_gpu_resource_assign_uuid request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID),
		.resource_id = htole32(resource_id),
	};

	assert_int_equal(call(&request, sizeof(request)), 0);
}

/* The next thing that the front end is told. */
static void assert_told(uint32_t request, uint8_t *uuid)
{
	struct {
		struct vhost_user_header header;
		uint8_t uuid[VHOST_USER_UUID_SIZE];
	} told;

	assert_int_equal(
		recv(front_end.channel_fd, &told, sizeof(told), MSG_DONTWAIT), sizeof(told));
	assert_int_equal(told.header.request, request);
	memcpy(uuid, told.uuid, sizeof(told.uuid));
}

/* Until the resource ends. */
TEST_SERVER(another_device_gets_a_blob_by_its_uuid)
{
	const struct virtio_gpu_resource_unref request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF),
		.resource_id = htole32(1),
	};
	struct gpu *gpu = gpu_server_get_gpu(server);
	uint8_t uuid[VHOST_USER_UUID_SIZE], again[VHOST_USER_UUID_SIZE];
	char byte;
	int fd;

	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(create_cross_device_blob(1), OK);
	assign_uuid(1);
	assert_told(VHOST_USER_BACKEND_SHARED_OBJECT_ADD, uuid);
	assign_uuid(1); /* that is no news */
	fd = gpu_get_shared(gpu, uuid);
	assert_true(fd >= 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), 8192);
	close(fd);
	assert_int_equal(call(&request, sizeof(request)), OK);
	assert_told(VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE, again);
	assert_memory_equal(again, uuid, sizeof(uuid));
	assert_int_equal(gpu_get_shared(gpu, uuid), -ENOENT);
	assert_int_equal(recv(front_end.channel_fd, &byte, 1, MSG_DONTWAIT), -1);
}

/* Who gets the file is told no offset. */
TEST_SERVER(another_device_gets_no_file_that_begins_elsewhere)
{
	uint8_t uuid[VHOST_USER_UUID_SIZE];

	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(create_cross_device_blob(1), OK);
	assign_uuid(1);
	assert_told(VHOST_USER_BACKEND_SHARED_OBJECT_ADD, uuid);
	blob_offset = 4096;
	assert_int_equal(gpu_get_shared(gpu_server_get_gpu(server), uuid), -EOPNOTSUPP);
	blob_offset = 0;
}

/* What is not for other devices, or the guest's own, or of a guest that was reset. */
TEST_SERVER(other_devices_get_nothing_else)
{
	uint8_t uuid[VHOST_USER_UUID_SIZE], again[VHOST_USER_UUID_SIZE];
	char byte;

	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(create_host_blob(1), OK);
	assign_uuid(1);
	assert_int_equal(create_2d(2, 16, 16), OK);
	assign_uuid(2);
	assert_int_equal(recv(front_end.channel_fd, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(create_cross_device_blob(3), OK);
	assign_uuid(3);
	assert_told(VHOST_USER_BACKEND_SHARED_OBJECT_ADD, uuid);
	assert_int_equal(front_end_call(&front_end, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0), 0);
	assert_told(VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE, again);
	assert_memory_equal(again, uuid, sizeof(uuid));
	assert_int_equal(gpu_get_shared(gpu_server_get_gpu(server), uuid), -ENOENT);
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
