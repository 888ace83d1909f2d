/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence bench display: what it costs the device to show a frame of 1920 by 1080, by each way that
 * a display can take it: the CPU time of its thread, and the bytes that it copies.
 *
 * The guest's frame is a blob in its memory, all of which is flushed. One way after the other shows
 * a frame, so that other work on the machine hits all alike. The front end's display is a thread
 * that reads what it is sent. A Wayland compositor is the one that WAYLAND_DISPLAY names; how long
 * that takes is not counted.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <linux/virtio_gpu.h>

#include "bench.h"
#include "clock.h"
#include "display_socket.h"
#include "display_wayland.h"
#include "guest.h"

#define MAX_FRAMES 200
#define WIDTH 1920u
#define HEIGHT 1080u
#define PICTURE 1
#define READ_SIZE ((size_t)WIDTH * HEIGHT * 4)
#define GIVE_UP_MS 10000

enum way {
	SOCKET,
	COPIED,
	IN_PLACE,
	NUM_WAYS,
};

static const struct {
	const char *name, *text;
} ways[NUM_WAYS] = {
	[SOCKET] = { "socket", "the front end's display, by its socket" },
	[COPIED] = { "copied", "a Wayland window, by wl_shm" },
	[IN_PLACE] = { "in_place", "a Wayland window, by a dma-buf" },
};

struct bench {
	struct bench_guest guest; /* the first member: callbacks of it have this as cookie */
	uint32_t num_flushes;

	enum way way; /* which shows what is flushed now */
	struct display_socket *socket;
	struct display_wayland *wayland;
	pthread_t reader;
	int reader_fd;
	bool has_reader;
	int buffer_error; /* why the guest's memory could not be had in place */

	unsigned int num_frames;
	uint64_t
		cpu_ns[NUM_WAYS]; /* of all frames: the clock of some machines has ticks of 10 ms */
	uint64_t copied[NUM_WAYS]; /* bytes, by one frame */
	bool measured[NUM_WAYS];
};

/* ---- The guest ------------------------------------------------------------------------------- */

static void note_message(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	if (level <= VGF_LOG_WARNING) {
		fprintf(stderr, "vgfence bench: display: %s\n", message);
	}
}

/* What the device and its display have to do for the request in hand. */
static void run(struct bench *bench)
{
	gpu_dispatch(bench->guest.gpu);
	if (bench->way == SOCKET) {
		while (display_socket_dispatch(bench->socket) > 0) {
		}
	} else if (bench->wayland != NULL) {
		display_wayland_dispatch(bench->wayland);
	}
}

static void wait_for_work(struct bench *bench)
{
	struct pollfd fds[2] = { { .fd = gpu_get_fd(bench->guest.gpu), .events = POLLIN },
		{ .fd = -1 } };

	if (bench->way == SOCKET) {
		fds[1].fd = display_socket_get_fd(bench->socket);
		fds[1].events = display_socket_wants_write(bench->socket) ? POLLOUT : 0;
	} else if (bench->wayland != NULL) {
		fds[1].fd = display_wayland_get_fd(bench->wayland);
		fds[1].events = POLLIN;
	}
	poll(fds, 2, gpu_timeout(bench->guest.gpu, 1000));
}

static bool is_done(const struct bench *bench, uint32_t token)
{
	return bench_guest_result(&bench->guest, token) != -EINPROGRESS &&
		(bench->way != SOCKET || !display_socket_wants_write(bench->socket));
}

/* All of the picture, of which one pixel has changed. */
static int flush(struct bench *bench)
{
	uint64_t end_ns = now_ns() + GIVE_UP_MS * NS_PER_MS;
	uint32_t token;

	bench_guest_pixels(&bench->guest, PICTURE)[0] = ++bench->num_flushes;
	token = bench_guest_flush(&bench->guest, PICTURE, BENCH_GUEST_GLOBAL);
	for (run(bench); !is_done(bench, token); run(bench)) {
		if (now_ns() > end_ns) {
			return -ETIMEDOUT;
		}
		wait_for_work(bench);
	}
	return bench_guest_result(&bench->guest, token);
}

/* ---- The displays ---------------------------------------------------------------------------- */

static void scanout_changed(void *cookie, uint32_t scanout, uint32_t width, uint32_t height)
{
	struct bench *bench = cookie;

	if (bench->socket != NULL) {
		display_socket_set_scanout(bench->socket, scanout, width, height);
	}
	if (bench->wayland != NULL) {
		display_wayland_set_scanout(bench->wayland, scanout, width, height);
	}
}

static bool scanout_flushed(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint64_t frame)
{
	struct bench *bench = cookie;

	if (bench->way != SOCKET) {
		return bench->wayland != NULL &&
			display_wayland_update(bench->wayland, scanout, rect, frame);
	}
	display_socket_update(bench->socket, scanout, rect, frame);
	return false;
}

static void buffer_leaving(void *cookie, uint64_t key)
{
	struct bench *bench = cookie;

	if (bench->wayland != NULL) {
		display_wayland_buffer_leaving(bench->wayland, key);
	}
}

static int get_buffer(void *cookie, uint32_t scanout, struct gpu_buffer *out)
{
	struct bench *bench = cookie;

	if (bench->way != IN_PLACE) {
		return -EOPNOTSUPP;
	}
	bench->buffer_error = gpu_get_scanout_buffer(bench->guest.gpu, scanout, out);
	return bench->buffer_error;
}

static int open_wayland(struct bench *bench)
{
	static const struct display_wayland_ops ops = {
		.read = bench_guest_read,
		.get_buffer = get_buffer,
		.release = bench_guest_release,
		.shown = bench_guest_shown,
	};

	return display_wayland_create(NULL, &ops, bench, &bench->wayland);
}

static void *read_all(void *arg)
{
	struct bench *bench = arg;
	char *buffer = malloc(READ_SIZE);

	while (buffer != NULL && read(bench->reader_fd, buffer, READ_SIZE) > 0) {
	}
	free(buffer);
	return NULL;
}

static void ignore_monitors(void *cookie, const struct virtio_gpu_display_one *monitors)
{
	(void)cookie;
	(void)monitors;
}

static void ignore_edid(void *cookie, const uint8_t *edid, uint32_t size)
{
	(void)cookie;
	(void)edid;
	(void)size;
}

static int open_socket(struct bench *bench)
{
	static const struct display_socket_ops ops = {
		.read = bench_guest_read,
		.monitors = ignore_monitors,
		.edid = ignore_edid,
	};
	int sockets[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) {
		return -errno;
	}
	bench->reader_fd = sockets[1];
	ret = -pthread_create(&bench->reader, NULL, read_all, bench);
	if (ret < 0) {
		close(sockets[0]);
		close(sockets[1]);
		return ret;
	}
	bench->has_reader = true;
	fcntl(sockets[0], F_SETFL, O_NONBLOCK);
	return display_socket_create_take(sockets[0], &ops, bench, &bench->socket);
}

/* ---- Measuring ------------------------------------------------------------------------------- */

static uint64_t copied_bytes(const struct bench *bench)
{
	struct display_wayland_stats stats;

	if (bench->way == SOCKET) {
		return display_socket_get_copied(bench->socket);
	}
	display_wayland_get_stats(bench->wayland, &stats);
	return stats.copied_bytes;
}

static bool is_possible(const struct bench *bench, enum way way)
{
	return way == SOCKET || (bench->wayland != NULL && (way == COPIED || !bench->buffer_error));
}

static int measure(struct bench *bench, enum way way)
{
	uint64_t start, copied;
	int ret;

	bench->way = way;
	copied = copied_bytes(bench);
	start = thread_cpu_ns();
	ret = flush(bench);
	bench->cpu_ns[way] += thread_cpu_ns() - start;
	bench->copied[way] = copied_bytes(bench) - copied;
	bench->measured[way] = ret == 0 && (way != IN_PLACE || bench->copied[way] == 0);
	return ret;
}

static int measure_frames(struct bench *bench, unsigned int count)
{
	int ret = 0;

	memset(bench->cpu_ns, 0, sizeof(bench->cpu_ns));
	for (unsigned int i = 0; i < count && ret == 0; i++) {
		bench_progress("display", i, count);
		for (int way = 0; way < NUM_WAYS && ret == 0; way++) {
			if (is_possible(bench, (enum way)way)) {
				ret = measure(bench, (enum way)way);
			}
		}
	}
	bench_progress("display", 1, 1);
	return ret;
}

/* The first frames are for a compositor to get to know its buffers. */
static int measure_all(struct bench *bench)
{
	int ret = measure_frames(bench, 4);

	return ret < 0 ? ret : measure_frames(bench, bench->num_frames);
}

/* ---- The result ------------------------------------------------------------------------------ */

static void add_row(struct json_object *array, const struct bench *bench, enum way way, double us)
{
	struct json_object *row = json_object_new_object();

	json_object_object_add(row, "name", json_object_new_string(ways[way].name));
	json_object_object_add(row, "cpu_us", bench_number(us));
	json_object_object_add(
		row, "copied_bytes", json_object_new_int64((int64_t)bench->copied[way]));
	json_object_array_add(array, row);
}

static double us_of(const struct bench *bench, enum way way)
{
	return (double)bench->cpu_ns[way] / NS_PER_US / bench->num_frames;
}

static void show(struct bench *bench, struct json_object *array)
{
	double first = us_of(bench, SOCKET);

	if (array == NULL) {
		printf("%-44s%10s%14s%10s\n", "a frame of 1920 by 1080, shown by", "CPU us",
			"bytes copied", "of first");
	}
	for (int way = 0; way < NUM_WAYS; way++) {
		double us = us_of(bench, (enum way)way);

		if (!bench->measured[way]) {
			fprintf(stderr, "vgfence bench: display: skipped %s: %s\n", ways[way].name,
				bench->wayland == NULL ? "no Wayland compositor (WAYLAND_DISPLAY)" :
					bench->buffer_error < 0 ?
							 strerror(-bench->buffer_error) :
							 "the compositor takes no such dma-buf");
		} else if (array != NULL) {
			add_row(array, bench, (enum way)way, us);
		} else {
			printf("%-44s%10.0f%14llu%9.2fx\n", ways[way].text, us,
				(unsigned long long)bench->copied[way], us / first);
		}
	}
}

/* ---- All of it ------------------------------------------------------------------------------- */

static int start(struct bench *bench)
{
	static const struct gpu_callbacks callbacks = {
		.complete = bench_guest_note_complete,
		.scanout_changed = scanout_changed,
		.scanout_flushed = scanout_flushed,
		.cursor_changed = bench_guest_ignore_cursor,
		.buffer_leaving = buffer_leaving,
		.log = note_message,
	};
	const struct gpu_options options = {
		.num_scanouts = 1,
		.width = WIDTH,
		.height = HEIGHT,
		.fence_passing_bit = -1,
		.display_ceiling_ms = GIVE_UP_MS,
	};
	int ret;

	bench->guest.width = WIDTH;
	bench->guest.height = HEIGHT;
	bench->guest.num_pictures = 1;
	ret = bench_guest_start(&bench->guest, &callbacks, &options);
	if (ret == 0) {
		ret = open_socket(bench);
	}
	if (ret == 0) {
		open_wayland(bench); /* without it there is less to measure */
		ret = bench_guest_show(&bench->guest, 0, PICTURE);
	}
	return ret;
}

static void stop(struct bench *bench)
{
	struct display_wayland *wayland = bench->wayland;
	struct display_socket *socket = bench->socket;

	bench->wayland = NULL;
	bench->socket = NULL;
	display_wayland_destroy(wayland);
	display_socket_destroy(socket); /* and the reader's connection ends */
	if (bench->has_reader) {
		pthread_join(bench->reader, NULL);
		close(bench->reader_fd);
	}
	bench_guest_stop(&bench->guest);
}

int bench_display(unsigned int rounds, struct json_object *array)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	int ret;

	if (bench == NULL) {
		return bench_error(-ENOMEM, "display");
	}
	bench->num_frames = bench_rounds(rounds, MAX_FRAMES);
	ret = start(bench);
	if (ret == 0) {
		ret = measure_all(bench);
	}
	if (ret == 0) {
		show(bench, array);
	}
	stop(bench);
	free(bench);
	return ret < 0 ? bench_error(ret, "display") : 0;
}
