/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "proxy_wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	char space[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int))];
	struct cmsghdr header; /* its alignment */
};

/* ---- What comes ----------------------------------------------------------------------------- */

int wire_stream_add_fd_take(struct wire_stream *stream, int fd)
{
	if (stream->num_fds == sizeof(stream->fds) / sizeof(stream->fds[0])) {
		close(fd);
		return -EMFILE;
	}
	stream->fds[stream->num_fds++] = fd;
	return 0;
}

int wire_stream_take_fd(struct wire_stream *stream)
{
	int fd = stream->fds[0];

	if (stream->num_fds == 0) {
		return -1;
	}
	stream->num_fds--;
	memmove(stream->fds, stream->fds + 1, stream->num_fds * sizeof(stream->fds[0]));
	return fd;
}

void wire_stream_clear(struct wire_stream *stream)
{
	while (stream->num_fds > 0) {
		close(stream->fds[--stream->num_fds]);
	}
	stream->size = 0;
}

int wire_stream_add(struct wire_stream *stream, const void *data, size_t size)
{
	if (size > sizeof(stream->data) - stream->size) {
		return -EMSGSIZE;
	}
	memcpy(stream->data + stream->size, data, size);
	stream->size += size;
	return 0;
}

/* Those of one control message. */
static int add_fds(struct wire_stream *stream, struct cmsghdr *header)
{
	size_t size = header->cmsg_len - CMSG_LEN(0);
	int ret = 0;

	if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
		return 0;
	}
	for (size_t at = 0; at < size; at += sizeof(int)) {
		int fd, added;

		memcpy(&fd, CMSG_DATA(header) + at, sizeof(fd));
		added = wire_stream_add_fd_take(stream, fd);
		ret = ret < 0 ? ret : added;
	}
	return ret;
}

int wire_stream_read(struct wire_stream *stream, int socket_fd)
{
	union control control;
	struct iovec iov = { stream->data + stream->size, sizeof(stream->data) - stream->size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t size = recvmsg(socket_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int ret = 0;

	if (size <= 0) {
		return size < 0 ? -errno : -EPIPE;
	}
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL && ret == 0;
		header = CMSG_NXTHDR(&message, header)) {
		ret = add_fds(stream, header);
	}
	stream->size += (size_t)size;
	return message.msg_flags & MSG_CTRUNC ? -EMFILE : ret;
}

int wire_stream_take_message(struct wire_stream *stream, struct wire_message *message)
{
	uint32_t words[2];

	if (stream->size < sizeof(words)) {
		return 0;
	}
	memcpy(words, stream->data, sizeof(words));
	message->object = words[0];
	message->opcode = words[1] & 0xffff;
	message->size = words[1] >> 16;
	if (message->size < sizeof(words) || message->size > WIRE_MAX_MESSAGE ||
		message->size % sizeof(uint32_t) != 0) {
		return -EMSGSIZE;
	}
	if (stream->size < message->size) {
		return 0;
	}
	memcpy(message->words, stream->data, message->size);
	stream->size -= message->size;
	memmove(stream->data, stream->data + message->size, stream->size);
	return 1;
}

/* ---- Messages ------------------------------------------------------------------------------- */

void wire_message_make(struct wire_message *message, uint32_t object, uint32_t opcode,
	const uint32_t *words, uint32_t num_words)
{
	message->object = object;
	message->opcode = opcode;
	message->size = (2 + num_words) * (uint32_t)sizeof(uint32_t);
	message->words[0] = object;
	message->words[1] = message->size << 16 | opcode;
	if (num_words > 0) {
		memcpy(message->words + 2, words, num_words * sizeof(uint32_t));
	}
}

void wire_message_set_object(struct wire_message *message, uint32_t object)
{
	message->object = object;
	message->words[0] = object;
}

void wire_walk_begin(
	struct wire_walk *walk, const struct wl_message *signature, struct wire_message *message)
{
	*walk = (struct wire_walk){
		.message = message,
		.signature = signature->signature,
		.types = signature->types,
		.at = 2,
	};
}

/* A size, and so many bytes in whole words. A string ends with a zero. */
static bool skip_bytes(struct wire_walk *walk, struct wire_argument *argument)
{
	const struct wire_message *message = walk->message;
	uint32_t size = *argument->word, left = message->size - walk->at * 4;
	const char *bytes = (const char *)(message->words + walk->at);

	if (size > left || (size + 3) / 4 * 4 > left) {
		return false;
	}
	if (argument->type == 's' && size > 0) {
		if (bytes[size - 1] != '\0') {
			return false;
		}
		argument->string = bytes;
	}
	walk->at += (size + 3) / 4;
	return true;
}

static bool read_argument(struct wire_walk *walk, struct wire_argument *argument)
{
	if (argument->type == 'h') {
		return true;
	}
	if (walk->message->size < (walk->at + 1) * sizeof(uint32_t)) {
		return false;
	}
	argument->word = &walk->message->words[walk->at++];
	return (argument->type != 's' && argument->type != 'a') || skip_bytes(walk, argument);
}

bool wire_walk_next(struct wire_walk *walk, struct wire_argument *argument)
{
	while (*walk->signature == '?' || (*walk->signature >= '0' && *walk->signature <= '9')) {
		walk->signature++;
	}
	if (*walk->signature == '\0' || walk->is_wrong) {
		return false;
	}
	*argument = (struct wire_argument){ .type = *walk->signature++,
		.interface = *walk->types++ };
	walk->is_wrong = !read_argument(walk, argument);
	return !walk->is_wrong;
}

/* ---- What goes ------------------------------------------------------------------------------ */

int wire_output_add(struct wire_output *output, const struct wire_message *message)
{
	if (message->size > sizeof(output->data) - output->size) {
		return -ENOBUFS;
	}
	memcpy(output->data + output->size, message->words, message->size);
	output->size += message->size;
	return 0;
}

int wire_output_add_fd_take(struct wire_output *output, int fd)
{
	if (output->num_fds == sizeof(output->fds) / sizeof(output->fds[0])) {
		close(fd);
		return -EMFILE;
	}
	output->fds[output->num_fds++] = fd;
	return 0;
}

/* The first bytes, with as many of the descriptors as go at a time: whoever reads takes them in
 * order, before their messages or with them. */
static ssize_t write_some(struct wire_output *output, int socket_fd, uint32_t num_fds)
{
	union control control = { .space = { 0 } };
	struct iovec iov = { output->data, output->size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (num_fds > 0) {
		size_t size = num_fds * sizeof(int);

		/* What is behind these descriptors waits for the next ones. */
		iov.iov_len = num_fds < output->num_fds ? 1 : output->size;
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(size);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(size);
		memcpy(CMSG_DATA(&control.header), output->fds, size);
	}
	return sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int wire_output_write(struct wire_output *output, int socket_fd)
{
	while (output->size > 0) {
		uint32_t num_fds = output->num_fds < WIRE_MAX_FDS ? output->num_fds : WIRE_MAX_FDS;
		ssize_t size = write_some(output, socket_fd, num_fds);

		if (size < 0) {
			return errno == EAGAIN ? 0 : -errno;
		}
		for (uint32_t i = 0; i < num_fds; i++) {
			close(output->fds[i]);
		}
		output->num_fds -= num_fds;
		memmove(output->fds, output->fds + num_fds, output->num_fds * sizeof(int));
		output->size -= (size_t)size;
		memmove(output->data, output->data + size, output->size);
	}
	return 0;
}

void wire_output_clear(struct wire_output *output)
{
	while (output->num_fds > 0) {
		close(output->fds[--output->num_fds]);
	}
	output->size = 0;
}
