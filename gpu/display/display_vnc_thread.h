/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DISPLAY_VNC_THREAD_H
#define DISPLAY_VNC_THREAD_H

/*
 * The thread that libvncserver runs in, and what it shares with display_vnc.c. It has a descriptor
 * table of its own where the kernel can do that: libvncserver uses select, which takes no
 * descriptor from FD_SETSIZE on, and a guest's fences and blobs may take up all that are below.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"

#define VNC_MAX_CLIENTS 4
#define VNC_CURSOR_SIZE 64
#define VNC_CURSOR_PIXELS ((size_t)VNC_CURSOR_SIZE * VNC_CURSOR_SIZE)

/* Of the channel between the two, a packet each. */
enum vnc_packet_type {
	VNC_WAKE,    /* to the thread: look at what is shared */
	VNC_CLIENT,  /* to the thread: client `a`, with its socket */
	VNC_GONE,    /* from the thread, as all that follow: client `a` */
	VNC_KEY,     /* keysym, whether it is down */
	VNC_POINTER, /* buttons, x, y */
	VNC_RESIZE,  /* width, height */
};

struct vnc_packet {
	uint32_t type, a, b, c;
};

struct vnc_shared {
	pthread_mutex_t lock;
	bool woken;         /* a packet is on its way already */
	struct frame frame; /* `dirty` is what the thread does not have yet */
	bool cursor_changed, cursor_moved;
	bool cursor_visible;
	uint32_t cursor_x, cursor_y, hot_x, hot_y;
	uint32_t cursor[VNC_CURSOR_PIXELS]; /* 0xaarrggbb */
};

struct vnc_thread_start {
	struct vnc_shared *shared;
	int channel_fd; /* the thread's end, to be closed once it has been joined */
};

/* For pthread_create. arg: a struct vnc_thread_start, the thread's own from then on. Ends when the
 * other end of the channel is shut down. */
void *vnc_thread_run(void *arg);

#endif
