/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "event_file.h"
#include "event_format.h"

/* 2 MiB: what a busy device does in a tenth of a second. A power of two. */
#define BUFFER_RECORDS 32768u

/* The thread lets so much time pass before it writes, so that it does not wake up for each. */
#define GATHER_MS 50

/* The program has less than a second to end. */
#define CLOSE_MS 250

/* Files of the process that were closed while their threads wait: each has 2 MiB. */
static atomic_int num_left_behind;

struct event_file {
	int fd;
	int wake_fd; /* an eventfd: the thread is to look */
	int done_fd; /* the same: the thread has ended */
	pthread_t thread;
	atomic_int owners; /* the thread, and who opened it: the last one frees */
	bool left_behind;  /* read by who frees */
	atomic_bool ending;
	atomic_int error;

	/* Counted up without end. One thread adds, at `head`; the other one takes, at `tail`. */
	_Atomic uint64_t head, tail;
	uint64_t lost, untold; /* of who adds */
	uint64_t size;         /* of the thread: of what is written */
	struct event_record buffer[BUFFER_RECORDS];
};

/* ---- Adding --------------------------------------------------------------------------------- */

static void kick(int fd)
{
	uint64_t one = 1;
	ssize_t ret;

	do {
		ret = write(fd, &one, sizeof(one));
	} while (ret < 0 && errno == EINTR);
}

/* Returns how many there are then. */
static uint64_t put(struct event_file *file, const struct event_record *record)
{
	uint64_t head = atomic_load_explicit(&file->head, memory_order_relaxed);

	file->buffer[head % BUFFER_RECORDS] = *record;
	atomic_store(&file->head, head + 1);
	return head + 1 - atomic_load(&file->tail);
}

static void put_and_wake(struct event_file *file, const struct event_record *record)
{
	uint64_t count = put(file, record);

	if (count == 1 || count == BUFFER_RECORDS / 2) {
		kick(file->wake_fd);
	}
}

/* In place of those that are missing since the last record. */
static void put_lost(struct event_file *file, uint64_t t_ns)
{
	const struct event_record lost = {
		.t_ns = htole64(t_ns),
		.fence_id = htole64(file->untold),
		.kind = htole16(EVENT_LOST),
	};

	file->untold = 0;
	put_and_wake(file, &lost);
}

static struct event_record to_record(const struct vgf_event *event)
{
	return (struct event_record){
		.t_ns = htole64(event->t_ns),
		.fence_id = htole64(event->fence.fence_id),
		.in_fence_id = htole64(event->in_fence.fence_id),
		.ctx_id = htole32(event->fence.ctx_id),
		.ring = htole32((uint32_t)event->fence.ring),
		.in_ctx_id = htole32(event->in_fence.ctx_id),
		.in_ring = htole32((uint32_t)event->in_fence.ring),
		.flags = htole32(event->flags),
		.status = htole32((uint32_t)event->status),
		.pending = htole32(event->pending),
		.held = htole32(event->held),
		.fds = htole32(event->fds),
		.kind = htole16((uint16_t)event->kind),
		.wait = htole16((uint16_t)event->wait),
	};
}

void event_file_add(void *arg, const struct vgf_event *event)
{
	struct event_file *file = arg;
	struct event_record record = to_record(event);
	uint64_t count = atomic_load_explicit(&file->head, memory_order_relaxed) -
		atomic_load(&file->tail);

	/* With room for what event_file_close has to tell. */
	if (count + 1 + (file->untold > 0) >= BUFFER_RECORDS || event_file_error(file) < 0) {
		file->lost++;
		file->untold++;
		return;
	}
	if (file->untold > 0) {
		put_lost(file, event->t_ns);
	}
	put_and_wake(file, &record);
}

int event_file_error(const struct event_file *file)
{
	return atomic_load(&file->error);
}

/* ---- Writing: the thread -------------------------------------------------------------------- */

static void free_file(struct event_file *file)
{
	if (atomic_fetch_sub(&file->owners, 1) > 1) {
		return;
	}
	if (file->fd >= 0) {
		close(file->fd);
	}
	close(file->wake_fd);
	close(file->done_fd);
	if (file->left_behind) {
		atomic_fetch_sub(&num_left_behind, 1);
	}
	free(file);
}

static uint64_t whole_records(const struct event_file *file)
{
	const size_t header = sizeof(struct event_file_header);

	return file->size < header ? 0 : (file->size - header) / sizeof(struct event_record);
}

/* Waits for room that long at a time, or without end for -1. */
static int write_all(struct event_file *file, const void *data, size_t size, int timeout_ms)
{
	const char *at = data;

	if (size > EVENT_FILE_MAX_SIZE - file->size) {
		return -EFBIG;
	}
	while (size > 0) {
		ssize_t count = write(file->fd, at, size);

		if (count > 0) {
			at += count;
			size -= (size_t)count;
			file->size += (uint64_t)count;
			atomic_store(&file->tail, whole_records(file));
		} else if (count < 0 && errno == EAGAIN) {
			struct pollfd poll_fd = { .fd = file->fd, .events = POLLOUT };

			if (poll(&poll_fd, 1, timeout_ms) == 0) {
				return -EAGAIN;
			}
		} else if (count < 0 && errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* Writes what there is, up to the end of the buffer. */
static int write_some(struct event_file *file)
{
	uint64_t tail = atomic_load(&file->tail);
	uint64_t count = atomic_load(&file->head) - tail;
	uint64_t to_end = BUFFER_RECORDS - tail % BUFFER_RECORDS;

	count = count < to_end ? count : to_end;
	return write_all(file, &file->buffer[tail % BUFFER_RECORDS],
		count * sizeof(struct event_record), -1);
}

static bool has_some(struct event_file *file)
{
	return atomic_load(&file->head) != atomic_load(&file->tail);
}

static void wait_until_woken(struct event_file *file, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = file->wake_fd, .events = POLLIN };
	uint64_t count;

	if (poll(&poll_fd, 1, timeout_ms) > 0 && read(file->wake_fd, &count, sizeof(count)) < 0) {
		return;
	}
}

/* A record that a full disk has cut would make all of the file a damaged one. */
static void fail(struct event_file *file, int error)
{
	const size_t header = sizeof(struct event_file_header);
	uint64_t part = file->size < header ? 0 :
					      (file->size - header) % sizeof(struct event_record);

	if (part > 0 && ftruncate(file->fd, (off_t)(file->size - part)) < 0) {
		/* It is no file that could be read again. */
	}
	atomic_store(&file->error, error);
}

/* On a network's or a user's file system this is long, and says only now that the disk is full. */
static void close_fd(struct event_file *file)
{
	if (close(file->fd) < 0 && event_file_error(file) == 0) {
		atomic_store(&file->error, -errno);
	}
	file->fd = -1;
}

static void *thread_main(void *arg)
{
	struct event_file *file = arg;
	int ret = 0;

	while (ret == 0 && (has_some(file) || !atomic_load(&file->ending))) {
		if (!has_some(file)) {
			wait_until_woken(file, -1);
		}
		if (!atomic_load(&file->ending)) {
			wait_until_woken(file, GATHER_MS);
		}
		while (ret == 0 && has_some(file)) {
			ret = write_some(file);
		}
	}
	if (ret < 0) {
		fail(file, ret);
	}
	close_fd(file);
	kick(file->done_fd);
	free_file(file);
	return NULL;
}

/* ---- Opening and closing -------------------------------------------------------------------- */

/* Signals are for the program's threads. */
static int start_thread(struct event_file *file)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* of the sandbox: one that is blocked ends the process */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&file->thread, NULL, thread_main, file);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -ret;
}

/* Nothing here waits for who reads a pipe: the thread does that, and can be left behind. */
static int open_all(struct event_file *file, const char *path)
{
	const struct event_file_header header = {
		.magic = EVENT_FILE_MAGIC,
		.version = htole32(EVENT_FILE_VERSION),
	};

	file->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	file->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (file->wake_fd < 0 || file->done_fd < 0) {
		return -errno;
	}
	file->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
	if (file->fd < 0) {
		return -errno;
	}
	return write_all(file, &header, sizeof(header), 0);
}

int event_file_open(const char *path, struct event_file **out)
{
	struct event_file *file;
	int ret;

	if (atomic_load(&num_left_behind) > 0) {
		return -EBUSY;
	}
	file = malloc(sizeof(*file));
	if (file == NULL) {
		return -ENOMEM;
	}
	memset(file, 0, sizeof(*file)); /* touches every page now, not when an event comes */
	file->fd = file->wake_fd = file->done_fd = -1;
	atomic_store(&file->owners, 2);
	ret = open_all(file, path);
	if (ret == 0) {
		ret = start_thread(file);
	}
	if (ret < 0) {
		atomic_store(&file->owners, 1);
		free_file(file);
		return ret;
	}
	*out = file;
	return 0;
}

/* Of those in the buffer. */
static uint64_t num_unwritten(const struct event_file *file)
{
	uint64_t head = atomic_load(&file->head), count = 0;

	for (uint64_t at = atomic_load(&file->tail); at < head; at++) {
		count += file->buffer[at % BUFFER_RECORDS].kind != htole16(EVENT_LOST);
	}
	return count;
}

int event_file_close(struct event_file *file, uint64_t *lost)
{
	struct pollfd poll_fd = { .fd = file->done_fd, .events = POLLIN };
	uint64_t end_ns = now_ns() + CLOSE_MS * NS_PER_MS;
	int ret;

	if (file->untold > 0 && event_file_error(file) == 0) {
		put_lost(file, now_ns());
	}
	atomic_store(&file->ending, true);
	kick(file->wake_fd);
	do {
		struct timespec left = time_until(end_ns);

		ret = ppoll(&poll_fd, 1, &left, NULL);
	} while (ret < 0 && errno == EINTR);
	if (ret > 0) {
		pthread_join(file->thread, NULL);
		ret = event_file_error(file);
	} else {
		pthread_detach(file->thread);
		atomic_fetch_add(&num_left_behind, 1);
		file->left_behind = true;
		ret = -ETIMEDOUT;
	}
	*lost = file->lost + num_unwritten(file);
	free_file(file);
	return ret;
}
