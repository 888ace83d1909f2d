/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EVENT_FILE_H
#define EVENT_FILE_H

/*
 * Writes events of fences to a file, in the format of event_format.h. A thread writes; who adds an
 * event copies it to a buffer, and never waits. What the buffer has no room for, because the file
 * is slow, is counted and left out; the file says so there.
 */

#include <vgfence/inspect.h>

struct event_file;

/* The file ends there, with -EFBIG: a guest makes it grow, at most by 64 bytes for each event. */
#define EVENT_FILE_MAX_SIZE (UINT64_C(1) << 30)

/* Replaces a file that is there. Returns 0; -EBUSY while one that was closed with -ETIMEDOUT is
 * still being written; -ENOMEM; -EAGAIN if there is no thread to be had, or if it is a pipe that is
 * full; what opening the file failed with. */
int event_file_open(const char *path, struct event_file **out);

/* For vgf_device_trace; arg: a struct event_file. One thread at a time. */
void event_file_add(void *arg, const struct vgf_event *event);

/* 0, or what writing failed with: it has ended there. Any thread. */
int event_file_error(const struct event_file *file);

/* Writes what is left, for a quarter of a second at most, and closes. lost: set to how many events
 * are not in the file, those that it says are missing among them. Returns 0, what writing failed
 * with, or -ETIMEDOUT: then a thread goes on until the file has taken the rest, or fails. */
int event_file_close(struct event_file *file, uint64_t *lost);

#endif
