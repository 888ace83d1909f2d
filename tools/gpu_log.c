/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "gpu_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "vgfence gpu: "
#define MAX_LINE 512

_Static_assert(MAX_LINE <= PIPE_BUF, "a line goes into a pipe as a whole, or not at all");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_socket, must_poll;
static unsigned int dropped;

/* Whether descriptor 2 is now an open file of our own, which does not wait. */
static bool open_again(void)
{
	int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	bool ours = fd >= 0 && dup2(fd, STDERR_FILENO) >= 0;

	if (fd >= 0) {
		close(fd);
	}
	return ours;
}

void gpu_log_start(void)
{
	struct stat file;

	if (fstat(STDERR_FILENO, &file) < 0) {
		return;
	}
	is_socket = S_ISSOCK(file.st_mode);
	must_poll = (S_ISFIFO(file.st_mode) || S_ISCHR(file.st_mode)) && !open_again();
}

/* Returns whether it has been written. If nobody reads it any more, it counts as written. */
static bool write_now(const char *text, size_t size)
{
	struct pollfd writable = { .fd = STDERR_FILENO, .events = POLLOUT };
	ssize_t written;

	if (is_socket) {
		written = send(STDERR_FILENO, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (must_poll && poll(&writable, 1, 0) <= 0) {
		return false;
	} else {
		written = write(STDERR_FILENO, text, size);
	}
	return written >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

/* Locked. Returns whether nothing is left to be told. */
static bool tell_dropped(void)
{
	char line[MAX_LINE];

	if (dropped == 0) {
		return true;
	}
	snprintf(line, sizeof(line), PREFIX "%u lines were lost: nobody read the log\n", dropped);
	if (!write_now(line, strlen(line))) {
		return false;
	}
	dropped = 0;
	return true;
}

static void write_line(const char *line, size_t size)
{
	pthread_mutex_lock(&lock);
	if (!tell_dropped() || !write_now(line, size)) {
		dropped++;
	}
	pthread_mutex_unlock(&lock);
}

void gpu_log_line(const char *format, ...)
{
	char line[MAX_LINE] = PREFIX;
	va_list arguments;
	size_t length;

	va_start(arguments, format);
	/* With room for the newline. */
	vsnprintf(line + strlen(PREFIX), sizeof(line) - strlen(PREFIX) - 1, format, arguments);
	va_end(arguments);
	length = strlen(line);
	line[length] = '\n';
	write_line(line, length + 1);
}

void gpu_log_text(const char *text)
{
	while (*text != '\0') {
		size_t length = strcspn(text, "\n");

		length += text[length] == '\n';
		length = length < MAX_LINE ? length : MAX_LINE;
		write_line(text, length);
		text += length;
	}
}

void gpu_log_finish(void)
{
	pthread_mutex_lock(&lock);
	tell_dropped();
	pthread_mutex_unlock(&lock);
}
