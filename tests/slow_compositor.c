/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence-slow-compositor COUNT: a Wayland compositor for one client with two windows. It answers
 * each frame at once, until a window shows SLOW_COLOR: that frame is answered when the other window
 * has had COUNT frames more. So who is slow depends on no clock. Prints its socket's path, and then
 * what it does.
 */

#include "support.h"

#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "compositor.h"
#include "slow_color.h"

static struct compositor compositor;
static struct compositor_surface *slow; /* or NULL */
static unsigned int count;              /* of frames that it waits for */
static unsigned int last_frame;         /* of the other window, that it waits for */
static bool ends;

static struct compositor_surface *other_than(const struct compositor_surface *window)
{
	struct compositor_surface *first = compositor_window(&compositor, 0);

	return first == window ? compositor_window(&compositor, 1) : first;
}

static unsigned int num_frames(const struct compositor_surface *window)
{
	return window != NULL ? window->num_commits : 0;
}

static bool shows_slow_color(const struct compositor_surface *window)
{
	const struct compositor_buffer *buffer = window->current.buffer;

	return buffer != NULL && compositor_pixel(buffer, 0, 0) == SLOW_COLOR;
}

static void look(struct compositor_surface *window)
{
	if (slow == NULL && window->num_answers > 0 && shows_slow_color(window)) {
		slow = window;
		last_frame = num_frames(other_than(window)) + count;
		printf("slow\n");
	}
}

static void answer(struct compositor_surface *window)
{
	while (window != slow && window->num_answers > 0) {
		compositor_answer(window);
	}
}

static void release_held(void)
{
	struct compositor_buffer *buffer;

	wl_list_for_each(buffer, &compositor.buffers, link)
	{
		if (buffer->is_held) {
			compositor_release(buffer);
		}
	}
}

static void step(void)
{
	struct compositor_surface *window;

	for (unsigned int i = 0; (window = compositor_window(&compositor, i)) != NULL; i++) {
		if (window->num_acks == 0) {
			compositor_configure(window, 0, 0);
		}
		look(window);
	}
	if (slow != NULL && num_frames(other_than(slow)) >= last_frame) {
		slow = NULL;
		printf("answered behind %u frames of the other window\n", count);
	}
	for (unsigned int i = 0; (window = compositor_window(&compositor, i)) != NULL; i++) {
		answer(window);
	}
	release_held();
}

static int note_end(int number, void *data)
{
	(void)number;
	(void)data;
	ends = true;
	return 0;
}

int main(int argc, char **argv)
{
	struct wl_event_loop *loop;

	if (argc != 2) {
		errx(2, "usage: vgfence-slow-compositor COUNT");
	}
	count = (unsigned int)strtoul(argv[1], NULL, 10);
	setvbuf(stdout, NULL, _IOLBF, 0);
	compositor_begin(&compositor, COMPOSITOR_NO_DMABUF | COMPOSITOR_NO_EXPLICIT);
	loop = wl_display_get_event_loop(compositor.display);
	wl_event_loop_add_signal(loop, SIGTERM, note_end, NULL);
	printf("%s\n", compositor.path);
	while (!ends) {
		wl_event_loop_dispatch(loop, -1);
		step();
		compositor_send(&compositor);
	}
	compositor_end(&compositor);
	return 0;
}
