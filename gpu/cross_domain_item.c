/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What has an identifier in a cross-domain context: pipes, and files and fences that came. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cross_domain_private.h"
#include "fd_kind.h"
#include "memory_file.h"

struct cross_item *cross_item_find(struct cross_context *context, uint32_t id)
{
	struct cross_item *item;

	LIST_FOREACH(item, &context->items, link) {
		if (item->id == id) {
			return item;
		}
	}
	return NULL;
}

static void make_room(void *arg);

static struct cross_item *create(
	struct cross_context *context, uint32_t id, enum cross_item_type type, int *error)
{
	struct cross_item *item;

	if (context->num_items == MAX_CROSS_DOMAIN_ITEMS) {
		*error = -ENOSPC;
		return NULL;
	}
	item = calloc(1, sizeof(*item));
	if (item == NULL) {
		*error = -ENOMEM;
		return NULL;
	}
	item->context = context;
	item->id = id;
	item->type = type;
	item->fd = -1;
	item->watch = (struct cross_watch){ .fd = -1, .ready = make_room, .arg = item };
	TAILQ_INIT(&item->queue);
	LIST_INSERT_HEAD(&context->items, item, link);
	context->num_items++;
	return item;
}

/* The epoll set of a channel loses a pipe by itself, as nobody else has that end. */
static void close_item(struct cross_item *item)
{
	cross_watch_set(item->context->domain, &item->watch, 0);
	cross_queue_clear(&item->queue);
	cross_close(item->context, &item->fd);
}

void cross_item_destroy(struct cross_item *item)
{
	close_item(item);
	if (item->is_ours) {
		item->context->domain->memory_size -= item->size;
	}
	LIST_REMOVE(item, link);
	item->context->num_items--;
	free(item);
}

int cross_item_take_fd(struct cross_item *item)
{
	int fd = item->fd;

	item->fd = -1;
	cross_item_destroy(item);
	return fd;
}

/* ---- Pipes that the guest reads ------------------------------------------------------------- */

static int open_pipe(struct cross_item *item, int *write_fd)
{
	int fds[2], ret = cross_take_fds(item->context, 2);

	if (ret < 0) {
		return ret;
	}
	if (pipe2(fds, O_CLOEXEC) < 0) {
		ret = -errno;
		cross_give_fds(item->context, 2);
		return ret;
	}
	item->fd = fds[0];
	*write_fd = fds[1];
	fcntl(item->fd, F_SETFL, O_NONBLOCK);
	ret = cross_channel_watch_pipe(item->context, item);
	if (ret < 0) {
		cross_close(item->context, write_fd);
	}
	return ret;
}

int cross_item_create_pipe(struct cross_context *context, uint32_t id, int *write_fd)
{
	struct cross_item *item;
	int ret = -ENOMEM;

	if (context->channel.socket_fd < 0) {
		return -ENOTCONN;
	}
	if (id < CROSS_DOMAIN_FIRST_READ_PIPE || cross_item_find(context, id) != NULL) {
		return -EINVAL;
	}
	item = create(context, id, CROSS_ITEM_READ_PIPE, &ret);
	if (item == NULL) {
		return ret;
	}
	ret = open_pipe(item, write_fd);
	if (ret < 0) {
		cross_item_destroy(item);
	}
	return ret;
}

/* ---- Pipes that the guest writes to --------------------------------------------------------- */

/*
 * Moves bytes there from a pipe of our own, which can be told not to wait each time: O_NONBLOCK is
 * not ours to set, as whoever sent the pipe, and who reads it, have the same open file.
 */
static ssize_t write_pipe(const struct cross_item *item, const uint8_t *data, size_t size)
{
	const int *fds = item->context->domain->pipe_fds;
	ssize_t count = write(fds[1], data, size), moved;
	uint8_t rest[PIPE_BUF];
	int error;

	if (count < 0) {
		return -errno;
	}
	moved = splice(fds[0], NULL, item->fd, NULL, (size_t)count, SPLICE_F_NONBLOCK);
	error = errno;
	if (moved < count) {
		(void)!read(fds[0], rest, sizeof(rest));
	}
	return moved < 0 ? -error : moved;
}

/* Returns how many bytes were written; -EAGAIN. */
static ssize_t write_some(const struct cross_item *item, const struct cross_bytes *bytes)
{
	const uint8_t *data = bytes->data + bytes->at;
	size_t size = bytes->size - bytes->at;
	ssize_t count = send(item->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (count < 0 && errno == ENOTSOCK) {
		return write_pipe(item, data, size < PIPE_BUF ? size : PIPE_BUF);
	}
	return count < 0 ? -errno : count;
}

/* Nobody may read it any more, which the guest has no way to learn: what it writes is lost. */
static void write_queue(struct cross_item *item)
{
	struct cross_bytes *bytes;

	while ((bytes = TAILQ_FIRST(&item->queue)) != NULL) {
		ssize_t count = write_some(item, bytes);

		if (count == -EAGAIN || count == -EINTR) {
			return;
		}
		if (count < 0) {
			close_item(item);
			return;
		}
		bytes->at += (size_t)count;
		if (bytes->at == bytes->size) {
			TAILQ_REMOVE(&item->queue, bytes, link);
			cross_bytes_destroy(bytes);
		}
	}
}

/* Also ends it, if that is all. */
static void go_on(struct cross_item *item)
{
	write_queue(item);
	if (TAILQ_EMPTY(&item->queue) && item->is_over) {
		cross_item_destroy(item);
		return;
	}
	item->watch.fd = item->fd;
	if (item->fd >= 0 &&
		cross_watch_set(item->context->domain, &item->watch,
			TAILQ_EMPTY(&item->queue) ? 0 : EPOLLOUT) < 0) {
		close_item(item);
	}
}

static void make_room(void *arg)
{
	struct cross_item *item = arg;
	struct cross_context *context = item->context;

	go_on(item);
	cross_context_settle(context);
}

int cross_item_write_take(
	struct cross_context *context, uint32_t id, struct cross_bytes *bytes, bool hang_up)
{
	struct cross_item *item = cross_item_find(context, id);

	if (item == NULL || item->type != CROSS_ITEM_WRITE_PIPE || item->is_over) {
		cross_bytes_destroy(bytes);
		return -ENOENT;
	}
	if (bytes != NULL && item->fd >= 0) {
		TAILQ_INSERT_TAIL(&item->queue, bytes, link);
	} else {
		cross_bytes_destroy(bytes);
	}
	item->is_over = hang_up;
	go_on(item);
	return 0;
}

/* ---- What came ------------------------------------------------------------------------------ */

static uint32_t next_id(struct cross_context *context)
{
	do {
		context->last_item_id = (context->last_item_id + 2) & 0x7fffffff;
	} while (cross_item_find(context, context->last_item_id) != NULL);
	return context->last_item_id;
}

/* Nobody is asked that could keep us waiting, as the server of a file system could. */
static bool is_pipe_to_write(int fd)
{
	int flags = fcntl(fd, F_GETFL), type;
	socklen_t size = sizeof(type);

	return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY &&
		(fcntl(fd, F_GETPIPE_SZ) > 0 ||
			getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0);
}

/* The size of a dma-buf, or 0: of these alone the kernel says who made them. */
static uint64_t dma_buf_size(int fd)
{
	char path[64], line[128];
	unsigned long long size = 0;
	bool is_dma_buf = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (file == NULL) {
		return 0;
	}
	while (fgets(line, sizeof(line), file) != NULL) {
		is_dma_buf = is_dma_buf || strncmp(line, "exp_name:", 9) == 0;
		if (strncmp(line, "size:", 5) == 0) {
			size = strtoull(line + 5, NULL, 10);
		}
	}
	fclose(file);
	return is_dma_buf ? size : 0;
}

/*
 * A file is copied. The guest would have it mapped, and whoever has it could shorten it meanwhile;
 * it may also be for reading only, and have no whole pages.
 */
static int add_file(struct cross_item *item, int fd, const struct stat *file)
{
	uint64_t size = (uint64_t)file->st_size;
	int copy;

	if (size == 0 || size > MAX_CROSS_DOMAIN_FILE) {
		return -EFBIG;
	}
	copy = cross_memory_copy(item->context->domain, fd, size, &item->size);
	if (copy < 0) {
		return copy;
	}
	close(fd);
	item->fd = copy;
	item->is_ours = true;
	return 0;
}

/* Whether a file is ours takes longest to find out: the kernel writes down all mounts for that. */
static int add_fd(struct cross_item *item, int fd, const char **reason)
{
	struct stat file;

	if (fd_is_sync_file(fd)) {
		item->type = CROSS_ITEM_SYNC;
		item->fd = fd;
		return 0;
	}
	if (is_pipe_to_write(fd)) {
		item->type = CROSS_ITEM_WRITE_PIPE;
		item->fd = fd;
		return 0;
	}
	if (memory_file_is_ours(fd) && fstat(fd, &file) == 0 && S_ISREG(file.st_mode)) {
		*reason = "a file of it, up to 1 MiB, cannot be copied";
		return add_file(item, fd, &file);
	}
	*reason = "it sent a descriptor that is no memory, no pipe to write to, and no sync file";
	item->size = dma_buf_size(fd);
	if (item->size == 0 || item->size > UINT32_MAX) {
		return -EOPNOTSUPP;
	}
	item->fd = fd;
	return 0;
}

struct cross_item *cross_item_create_take(
	struct cross_context *context, int fd, int *error, const char **reason)
{
	struct cross_item *item = NULL;

	*reason = "it sent more descriptors than may be";
	*error = cross_take_fds(context, 1);
	if (*error < 0) {
		close(fd);
		return NULL;
	}
	item = create(context, next_id(context), CROSS_ITEM_MEMORY, error);
	*error = item != NULL ? add_fd(item, fd, reason) : *error;
	if (*error < 0) {
		if (item == NULL || item->fd < 0) {
			cross_close(context, &fd);
		}
		if (item != NULL) {
			cross_item_destroy(item);
		}
		return NULL;
	}
	return item;
}
