/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SCREEN_CAPTURE_H
#define SCREEN_CAPTURE_H

/*
 * Pictures of what a real compositor shows, by a client of its own: weston_capture_v1, which Weston
 * has for every client if it was started with --debug, or zwlr_screencopy_manager_v1, which
 * compositors of wlroots have. Each picture is of a repaint that begins after it was asked for,
 * pixel by pixel, and without the pointer where this is apart from the rest.
 */

#include <stdbool.h>
#include <stdint.h>

struct screen_capture;

/* Connects to the compositor that WAYLAND_DISPLAY names. NULL, with a line that says why: there is
 * none, or it gives no pictures. */
struct screen_capture *screen_capture_open(void);
void screen_capture_close(struct screen_capture *capture);

void screen_capture_get_size(
	const struct screen_capture *capture, uint32_t *width, uint32_t *height);

/* The time from one picture of the screen to the next, or 0 if the compositor does not tell. */
uint64_t screen_capture_get_period_ns(const struct screen_capture *capture);

/* Asks for a picture. One at a time. */
void screen_capture_begin(struct screen_capture *capture);

/* Readable if there is something to dispatch, which does not wait. */
int screen_capture_get_fd(const struct screen_capture *capture);
void screen_capture_dispatch(struct screen_capture *capture);

/* Whether the picture is there; a pixel of it, 0xrrggbb; whether each is this color. It stays until
 * the next one is asked for. */
bool screen_capture_is_done(const struct screen_capture *capture);
uint32_t screen_capture_get_pixel(const struct screen_capture *capture, uint32_t x, uint32_t y);
bool screen_capture_is_all(const struct screen_capture *capture, uint32_t color);

#endif
