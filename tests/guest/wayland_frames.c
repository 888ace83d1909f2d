/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence-wayland-frames: a Wayland client whose frames are drawn by slow work of the GPU, and are
 * committed before they are drawn. See usage() below; frame_compositor.c looks at the frames.
 */

#include <err.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <wayland-client.h>

#include "frame_clock.h"
#include "kernel_trace.h"
#include "window.h"

#define MAX_ROUNDS 1001u
#define NUM_PINGS 1000u

struct options {
	uint32_t frames, busy_us, rounds;
	bool new_buffers, trace;
	const char *sockets[2]; /* to compare */
	uint32_t num_sockets;
};

static void usage(FILE *stream)
{
	fputs("usage: vgfence-wayland-frames [OPTION...]\n"
	      "\n"
	      "Shows frames that are drawn by slow work. Prints how many.\n"
	      "\n"
	      "  --frames N     how many (default 100)\n"
	      "  --busy US      how long each takes to draw (default 2000)\n"
	      "  --new-buffers  each has a buffer of its own\n"
	      "  --trace        and one more, which takes a second to draw: whether it is sent\n"
	      "                 before it is drawn, by the kernel's trace\n"
	      "  --compare A,B  how long frames take to two compositors (sockets) in turns: from\n"
	      "                 the commit until the compositor has it, drawn; and which of them\n"
	      "                 the guest waits for, by the kernel's trace\n"
	      "  --rounds N     frames of each length for that (default 101)\n",
		stream);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- Many frames ---------------------------------------------------------------------------- */

static void sleep_a_moment(void)
{
	const struct timespec moment = { .tv_nsec = 5000000 };

	nanosleep(&moment, NULL);
}

static void show_frame(struct window *window, const struct options *options, uint32_t number)
{
	struct window_buffer *buffer = window_take_buffer(window);

	if (options->new_buffers && number > WINDOW_NUM_BUFFERS) {
		window_end_buffer(window, buffer);
		window_create_buffer(window, WINDOW_WIDTH, buffer);
	}
	window_draw(window, buffer, number, options->busy_us);
	window_show(window, buffer);
}

/* When all is quiet: whether the next thing that the kernel sends of another context, which is the
 * proxy's message, goes before the work is answered. */
static void trace_frame(struct window *window, uint32_t number)
{
	const struct options slow = { .busy_us = 1000000 };

	window_settle(window);
	wl_display_roundtrip(window->display);
	sleep_a_moment();
	kernel_trace_begin();
	show_frame(window, &slow, number);
	window_settle(window);
	printf("sent before the work is done: %s\n", kernel_trace_end_submissions() ? "yes" : "no");
}

static void show_frames(const struct options *options)
{
	struct window window;

	window_open(&window, NULL, false);
	for (uint32_t i = 1; i <= options->frames; i++) {
		show_frame(&window, options, i);
	}
	window_settle(&window);
	if (options->trace) {
		trace_frame(&window, options->frames + 1);
	}
	window_close(&window);
	printf("frames shown: %u\n", options->frames);
}

/* ---- How long they take --------------------------------------------------------------------- */

struct measured {
	struct window window;
	struct window_buffer clock_buffer;
	volatile struct frame_clock *clock; /* or NULL: by ticks */
	int64_t offset_ns;                  /* of the host's clock to the guest's */
	uint32_t frame_ticks;               /* of the last frame */
	bool is_answered;
	uint32_t number;
	double us[MAX_ROUNDS];
};

/* The host answers at once: its time is in the middle of the shortest question. */
static void ask_time(struct measured *measured)
{
	volatile struct frame_clock *clock = measured->clock;
	uint64_t shortest = UINT64_MAX;

	for (uint64_t i = 1; i <= NUM_PINGS; i++) {
		uint64_t begin = now_ns(), end;

		clock->ping = i;
		while (clock->pong != i) {
			if (now_ns() - begin > 5000000000u) {
				errx(1, "the compositor does not tell the time");
			}
			sched_yield();
		}
		end = now_ns();
		if (end - begin < shortest) {
			shortest = end - begin;
			measured->offset_ns = (int64_t)(clock->pong_ns - begin - (end - begin) / 2);
		}
	}
	clock->ping = FRAME_CLOCK_DONE;
}

static void open_clock(struct measured *measured)
{
	struct window *window = &measured->window;
	struct wl_surface *surface;

	window_create_buffer(window, FRAME_CLOCK_WIDTH, &measured->clock_buffer);
	measured->clock = (volatile struct frame_clock *)measured->clock_buffer.pixels;
	surface = wl_compositor_create_surface(window->compositor);
	wl_surface_attach(surface, measured->clock_buffer.buffer, 0, 0);
	wl_surface_commit(surface);
	wl_display_flush(window->display);
	ask_time(measured);
	wl_display_roundtrip(window->display);
}

static void measured_open(struct measured *measured, const char *socket)
{
	window_open(&measured->window, socket, true);
	if (has_host_memory()) {
		open_clock(measured);
	}
}

static double us_per_tick(void)
{
	static double us;
	uint64_t begin_ns = now_ns();
	uint32_t begin = frame_clock_ticks();

	if (us == 0) {
		while (now_ns() - begin_ns < 50000000) {
		}
		us = (double)(now_ns() - begin_ns) / 1000 / (frame_clock_ticks() - begin);
	}
	return us;
}

static void note_ticks(void *data, struct wl_callback *callback, uint32_t ticks)
{
	struct measured *measured = data;

	wl_callback_destroy(callback);
	measured->frame_ticks = ticks;
	measured->is_answered = true;
}

static double show_by_ticks(struct measured *measured, struct window_buffer *buffer)
{
	static const struct wl_callback_listener listener = { note_ticks };
	struct window *window = &measured->window;
	uint32_t begin;

	measured->is_answered = false;
	wl_callback_add_listener(wl_surface_frame(window->surface), &listener, measured);
	begin = frame_clock_ticks();
	window_show(window, buffer);
	while (!measured->is_answered) {
		wl_display_dispatch(window->display);
	}
	return (measured->frame_ticks - begin) * us_per_tick();
}

static double show_by_clock(struct measured *measured, struct window_buffer *buffer)
{
	struct window *window = &measured->window;
	uint64_t begin = now_ns();

	window_show(window, buffer);
	while (measured->clock->num_frames != measured->number) {
		wl_display_dispatch(window->display);
	}
	return (double)((int64_t)(measured->clock->frame_ns - begin) - measured->offset_ns) / 1000;
}

/* From the commit until the compositor has it. Returns microseconds. */
static double measure_frame(struct measured *measured, uint32_t busy_us)
{
	struct window *window = &measured->window;
	struct window_buffer *buffer = window_take_buffer(window);
	double us;

	window_draw(window, buffer, ++measured->number, busy_us);
	us = measured->clock != NULL ? show_by_clock(measured, buffer) :
				       show_by_ticks(measured, buffer);
	window_settle(window);
	return us;
}

static int compare_numbers(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

/* The median, and what a tenth of the frames are below: what else the machine does is in the first
 * more than in the second. */
static void report(struct measured *measured, uint32_t rounds)
{
	qsort(measured->us, rounds, sizeof(measured->us[0]), compare_numbers);
	printf(" %.0f %.0f", measured->us[rounds / 2], measured->us[rounds / 10]);
}

/* A frame of 50 ms, when all is quiet: whether the next thing that the kernel sends of another
 * context, which is the proxy's message, goes before the work is answered. */
static bool is_sent_at_once(struct measured *measured)
{
	struct window *window = &measured->window;
	bool before;

	window_settle(window);
	sleep_a_moment();
	kernel_trace_begin();
	measure_frame(measured, 50000);
	before = kernel_trace_end_submissions();
	return before;
}

static void compare(const struct options *options)
{
	static const uint32_t lengths[] = { 100, 200, 500, 1000, 2000, 5000, 10000 };
	static struct measured measured[2];

	for (int i = 0; i < 2; i++) {
		measured_open(&measured[i], options->sockets[i]);
	}
	for (size_t length = 0; length < sizeof(lengths) / sizeof(lengths[0]); length++) {
		for (uint32_t round = 0; round < 2 * options->rounds; round++) {
			measured[round % 2].us[round / 2] = measure_frame(
				&measured[round % 2], lengths[length]);
			sleep_a_moment();
		}
		printf("%u", lengths[length]);
		report(&measured[0], options->rounds);
		report(&measured[1], options->rounds);
		printf("\n");
		fflush(stdout);
	}
	if (measured[0].clock == NULL) {
		return; /* User-Mode Linux has no trace */
	}
	printf("sent before the work is done: %s %s\n",
		is_sent_at_once(&measured[0]) ? "yes" : "no",
		is_sent_at_once(&measured[1]) ? "yes" : "no");
}

/* ---- The command line ----------------------------------------------------------------------- */

static uint32_t number(const char *text, uint32_t max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end || value < 1 || value > max) {
		errx(2, "not a number from 1 to %u: '%s'", max, text);
	}
	return (uint32_t)value;
}

static void parse_sockets(struct options *options, char *text)
{
	char *comma = strchr(text, ',');

	if (comma == NULL) {
		errx(2, "--compare takes two sockets, not '%s'", text);
	}
	*comma = '\0';
	options->sockets[0] = text;
	options->sockets[1] = comma + 1;
	options->num_sockets = 2;
}

static void parse(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {
		{ "frames", required_argument, NULL, 'f' },
		{ "busy", required_argument, NULL, 'b' },
		{ "new-buffers", no_argument, NULL, 'n' },
		{ "trace", no_argument, NULL, 't' },
		{ "compare", required_argument, NULL, 'c' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'f':
			options->frames = number(optarg, 1000000);
			break;
		case 'b':
			options->busy_us = number(optarg, 1000000);
			break;
		case 'n':
			options->new_buffers = true;
			break;
		case 't':
			options->trace = true;
			break;
		case 'c':
			parse_sockets(options, optarg);
			break;
		case 'r':
			options->rounds = number(optarg, MAX_ROUNDS);
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct options options = { .frames = 100, .busy_us = 2000, .rounds = 101 };

	parse(argc, argv, &options);
	if (options.num_sockets > 0) {
		compare(&options);
	} else {
		show_frames(&options);
	}
	return 0;
}
