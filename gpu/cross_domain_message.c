/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* From a guest's bytes to commands that are checked, with descriptors for what they name. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>

#include "cross_domain_private.h"

/* ---- Bytes that are sent -------------------------------------------------------------------- */

/* Also of a single byte there are a few hundred. */
static size_t memory_of(size_t size)
{
	return sizeof(struct cross_bytes) + size;
}

struct cross_bytes *cross_bytes_create(
	struct cross_context *context, const void *data, size_t size, int *error)
{
	struct cross_bytes *bytes;

	*error = -ENOSPC;
	if (memory_of(size) > MAX_CROSS_DOMAIN_WAITING - context->waiting) {
		return NULL;
	}
	*error = -ENOMEM;
	bytes = calloc(1, memory_of(size));
	if (bytes == NULL) {
		return NULL;
	}
	bytes->context = context;
	bytes->size = size;
	memcpy(bytes->data, data, size);
	context->waiting += memory_of(size);
	return bytes;
}

void cross_bytes_destroy(struct cross_bytes *bytes)
{
	if (bytes == NULL) {
		return;
	}
	for (uint32_t i = 0; i < bytes->num_fds; i++) {
		cross_close(bytes->context, &bytes->fds[i]);
	}
	for (uint32_t i = 0; i < bytes->num_fenced; i++) {
		cross_close(bytes->context, &bytes->fenced_fds[i]);
	}
	bytes->context->waiting -= memory_of(bytes->size);
	free(bytes);
}

void cross_queue_clear(struct cross_queue *queue)
{
	struct cross_bytes *bytes;

	while ((bytes = TAILQ_FIRST(queue)) != NULL) {
		TAILQ_REMOVE(queue, bytes, link);
		cross_bytes_destroy(bytes);
	}
}

/* ---- Reading -------------------------------------------------------------------------------- */

/* What is read of a submission, and what it becomes. */
struct parser {
	struct cross_context *context;
	const struct vgf_submission *submission;
	struct cross_message *message;
};

#define REFUSE(parser, error, ...)                                                                 \
	cross_refuse((parser)->context, &(parser)->submission->fence,                              \
		(parser)->submission->flags &VGF_FENCED, error, __VA_ARGS__)

/* A resource as a descriptor, of which there is one more. */
static int open_resource(struct cross_context *context, struct resource *resource)
{
	struct renderer *renderer = &context->domain->base;
	struct renderer_map map;
	int ret;

	if (resource->kind != RESOURCE_BLOB || resource->is_detaching) {
		return -EOPNOTSUPP;
	}
	if (resource_is_guest_blob(resource)) {
		return resource->backing != NULL ? backing_get_dma_buf(context->domain->gpu,
							   resource->backing, resource->blob_size) :
						   -EOPNOTSUPP;
	}
	ret = renderer->ops->map_blob(renderer, resource->id, &map);
	if (ret == 0 && map.offset != 0) {
		close(map.fd);
		ret = -EOPNOTSUPP;
	}
	return ret < 0 ? ret : map.fd;
}

static const char *why_not(const struct resource *resource, int error)
{
	if (error != -EOPNOTSUPP) {
		return strerror(-error);
	}
	if (resource->kind != RESOURCE_BLOB) {
		return "it is no blob";
	}
	return resource_is_guest_blob(resource) ?
		"guest memory cannot be sent without /dev/udmabuf and a sealed memfd" :
		"its memory cannot be sent";
}

/* A descriptor of a resource that the context has, counted. command: its name, for the log. */
static int open_counted(struct parser *parser, const char *command, uint32_t resource_id)
{
	struct resource *resource = cross_context_resource(parser->context, resource_id);
	int fd;

	if (resource == NULL) {
		return REFUSE(parser, -ENOENT, "%s: the context does not have resource %u", command,
			resource_id);
	}
	if (cross_take_fds(parser->context, 1) < 0) {
		return REFUSE(parser, -EMFILE, "%s: too many descriptors", command);
	}
	fd = open_resource(parser->context, resource);
	if (fd < 0) {
		cross_give_fds(parser->context, 1);
		return REFUSE(parser, fd, "%s: resource %u: %s", command, resource_id,
			why_not(resource, fd));
	}
	return fd;
}

static int send_blob(struct parser *parser, struct cross_bytes *bytes, uint32_t resource_id)
{
	int fd = open_counted(parser, "SEND", resource_id);

	if (fd < 0) {
		return fd;
	}
	bytes->fds[bytes->num_fds++] = fd;
	return 0;
}

/* Of the resource's descriptor nothing is sent. */
static int send_fenced_blob(struct parser *parser, struct cross_bytes *bytes, uint32_t resource_id)
{
	int fd;

	if (parser->message->num_fenced == MAX_CROSS_DOMAIN_FENCED) {
		return REFUSE(parser, -E2BIG, "SEND: more than %u blobs that get the fence",
			MAX_CROSS_DOMAIN_FENCED);
	}
	fd = open_counted(parser, "SEND", resource_id);
	if (fd < 0) {
		return fd;
	}
	parser->message->num_fenced++;
	bytes->fenced_fds[bytes->num_fenced++] = fd;
	parser->message->takes_fences = true;
	return 0;
}

/* One that has signalled, until the in-fences are known to be sync files. */
static int send_sync(struct parser *parser, struct cross_bytes *bytes, uint32_t id)
{
	int signalled_fd = parser->context->domain->signalled_fd, fd;

	if (signalled_fd < 0) {
		return REFUSE(parser, -EOPNOTSUPP,
			"SEND: a fence: there are no sync files without /dev/udmabuf and Linux "
			"6.0");
	}
	if (id != 0) {
		return REFUSE(parser, -EINVAL, "SEND: fence %u; that of all in-fences is 0", id);
	}
	if (cross_take_fds(parser->context, 1) < 0) {
		return REFUSE(parser, -EMFILE, "SEND: too many descriptors");
	}
	fd = fcntl(signalled_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		cross_give_fds(parser->context, 1);
		return REFUSE(parser, -errno, "SEND: a fence: %s", strerror(errno));
	}
	bytes->sync_files |= 1u << bytes->num_fds;
	bytes->fds[bytes->num_fds++] = fd;
	parser->message->takes_fences = true;
	return 0;
}

/* If the message is refused later, the guest is told that nobody writes to the pipe any more. */
static int send_pipe(struct parser *parser, struct cross_bytes *bytes, uint32_t id)
{
	int ret = cross_item_create_pipe(parser->context, id, &bytes->fds[bytes->num_fds]);

	if (ret < 0) {
		return REFUSE(parser, ret, "SEND: a pipe 0x%08x to read: %s", id, strerror(-ret));
	}
	bytes->num_fds++;
	return 0;
}

static int send_identifier(
	struct parser *parser, struct cross_bytes *bytes, uint32_t type, uint32_t id)
{
	switch (type) {
	case CROSS_DOMAIN_ID_BLOB:
		return send_blob(parser, bytes, id);
	case CROSS_DOMAIN_ID_SYNC:
		return send_sync(parser, bytes, id);
	case CROSS_DOMAIN_ID_READ_PIPE:
		return send_pipe(parser, bytes, id);
	case CROSS_DOMAIN_ID_FENCED_BLOB:
		return send_fenced_blob(parser, bytes, id);
	default:
		return REFUSE(parser, -EOPNOTSUPP,
			"SEND: an identifier of type %u; there are 1, a blob, 2, a fence, 3, a "
			"pipe to read, and 128, a blob that gets the fence",
			type);
	}
}

/* Too much that waits is the end: a compositor that misses a message understands none after it. */
static int copy_bytes(
	struct parser *parser, struct cross_command *command, const void *data, size_t size)
{
	int ret;

	command->bytes = cross_bytes_create(parser->context, data, size, &ret);
	if (command->bytes != NULL) {
		return 0;
	}
	if (ret == -ENOSPC) {
		cross_channel_end(parser->context, "more bytes wait than may");
	}
	return REFUSE(parser, ret, "%zu bytes more than what waits: %s", size, strerror(-ret));
}

static int read_send(struct parser *parser, struct cross_command *command, struct reader *reader)
{
	struct cross_domain_send_receive send;
	uint32_t count, size;
	int ret;

	if (!reader_read(reader, &send, sizeof(send))) {
		return REFUSE(parser, -EINVAL, "SEND: it is cut short");
	}
	count = le32toh(send.num_identifiers);
	size = le32toh(send.data_size);
	if (count > CROSS_DOMAIN_MAX_IDENTIFIERS || size > reader->left ||
		(count > 0 && size == 0)) {
		return REFUSE(parser, -EINVAL,
			"SEND: %u identifiers and %u bytes, of which %zu are there", count, size,
			reader->left);
	}
	ret = copy_bytes(parser, command, reader->at, size);
	for (uint32_t i = 0; i < count && ret == 0; i++) {
		ret = send_identifier(parser, command->bytes, le32toh(send.identifier_types[i]),
			le32toh(send.identifiers[i]));
	}
	return ret;
}

static int read_write(struct parser *parser, struct cross_command *command, struct reader *reader)
{
	struct cross_domain_read_write *write = &command->body.write;

	if (!reader_read(reader, write, sizeof(*write))) {
		return REFUSE(parser, -EINVAL, "WRITE: it is cut short");
	}
	write->identifier = le32toh(write->identifier);
	write->hang_up = le32toh(write->hang_up);
	write->data_size = le32toh(write->data_size);
	if (write->data_size > reader->left) {
		return REFUSE(parser, -EINVAL, "WRITE: %u bytes, of which %zu are there",
			write->data_size, reader->left);
	}
	return write->data_size > 0 ? copy_bytes(parser, command, reader->at, write->data_size) : 0;
}

static int read_init(struct parser *parser, struct cross_command *command, struct reader *reader)
{
	struct cross_domain_init *init = &command->body.init;

	if (!reader_read(reader, init, sizeof(*init))) {
		return REFUSE(parser, -EINVAL, "INIT: it is cut short");
	}
	init->query_ring = le32toh(init->query_ring);
	init->channel_ring = le32toh(init->channel_ring);
	init->channel_type = le32toh(init->channel_type);
	return 0;
}

static int read_image(struct parser *parser, struct cross_command *command, struct reader *reader)
{
	struct cross_domain_get_image_requirements *image = &command->body.image;

	if (!reader_read(reader, image, sizeof(*image))) {
		return REFUSE(parser, -EINVAL, "GET_IMAGE_REQUIREMENTS: it is cut short");
	}
	image->width = le32toh(image->width);
	image->height = le32toh(image->height);
	image->drm_format = le32toh(image->drm_format);
	return 0;
}

/* Its fence is the submission's, which nothing else may keep or end. */
static int read_poll(struct parser *parser)
{
	const struct vgf_submission *submission = parser->submission;

	if ((submission->flags & VGF_FENCED) &&
		submission->fence.ring != CROSS_DOMAIN_CHANNEL_RING) {
		return REFUSE(parser, -EINVAL, "POLL: its fence has to be on ring 1");
	}
	parser->message->has_poll = submission->flags & VGF_FENCED;
	return 0;
}

static int wait_for_sync(struct parser *parser, uint32_t id)
{
	struct cross_item *item = cross_item_find(parser->context, id);

	if (item == NULL || item->type != CROSS_ITEM_SYNC) {
		return REFUSE(parser, -ENOENT, "WAIT_FENCE: no fence %u came", id);
	}
	parser->message->wait_fd = cross_item_take_fd(item);
	return 0;
}

/* Those of whoever reads it, too: the guest will write. */
static int wait_for_blob(struct parser *parser, uint32_t resource_id)
{
	int fd = open_counted(parser, "WAIT_FENCE", resource_id), ret;

	if (fd < 0) {
		return fd;
	}
	ret = vgf_dma_buf_export_sync_file(fd, VGF_ACCESS_WRITE);
	close(fd);
	if (ret < 0) {
		cross_give_fds(parser->context, 1);
		return REFUSE(parser, ret == -ENOTTY ? -EOPNOTSUPP : ret,
			"WAIT_FENCE: resource %u: %s", resource_id,
			ret == -ENOTTY ? "it is no dma-buf, or this is no Linux 6.0" :
					 strerror(-ret));
	}
	parser->message->wait_fd = ret;
	return 0;
}

/* Without a fence there is nothing to be signalled: the library closes the sync file. */
static int read_wait(struct parser *parser, struct reader *reader)
{
	struct cross_domain_wait_fence wait;
	uint32_t type, id;

	if (!reader_read(reader, &wait, sizeof(wait))) {
		return REFUSE(parser, -EINVAL, "WAIT_FENCE: it is cut short");
	}
	type = le32toh(wait.identifier_type);
	id = le32toh(wait.identifier);
	if (type != CROSS_DOMAIN_ID_SYNC && type != CROSS_DOMAIN_ID_BLOB) {
		return REFUSE(parser, -EOPNOTSUPP,
			"WAIT_FENCE: an identifier of type %u; there are 1, a blob, and 2, a "
			"fence",
			type);
	}
	return type == CROSS_DOMAIN_ID_SYNC ? wait_for_sync(parser, id) : wait_for_blob(parser, id);
}

static int read_body(struct parser *parser, struct cross_command *command, struct reader *reader)
{
	switch (command->type) {
	case CROSS_DOMAIN_INIT:
		return read_init(parser, command, reader);
	case CROSS_DOMAIN_GET_IMAGE_REQUIREMENTS:
		return read_image(parser, command, reader);
	case CROSS_DOMAIN_POLL:
		return read_poll(parser);
	case CROSS_DOMAIN_SEND:
		return read_send(parser, command, reader);
	case CROSS_DOMAIN_WRITE:
		return read_write(parser, command, reader);
	case CROSS_DOMAIN_WAIT_FENCE:
		return read_wait(parser, reader);
	case CROSS_DOMAIN_RECEIVE:
	case CROSS_DOMAIN_READ:
		break;
	}
	return REFUSE(parser, -EOPNOTSUPP, "there is no command %u for a guest", command->type);
}

static int read_command(struct parser *parser, struct reader *reader)
{
	struct cross_message *message = parser->message;
	struct cross_command *command = &message->commands[message->num_commands];
	struct cross_domain_header header;
	struct reader body = { reader->at, reader->left };
	uint16_t size;

	if (message->has_poll || message->wait_fd >= 0) {
		return REFUSE(parser, -EINVAL, "a command behind a %s",
			message->has_poll ? "POLL" : "WAIT_FENCE");
	}
	if (message->num_commands == MAX_CROSS_DOMAIN_COMMANDS) {
		return REFUSE(parser, -E2BIG, "more than %u commands", MAX_CROSS_DOMAIN_COMMANDS);
	}
	memcpy(&header, reader->at, sizeof(header)); /* at any address */
	size = le16toh(header.size);
	if (size < sizeof(header) || size > reader->left) {
		return REFUSE(parser, -EINVAL, "a command of %u bytes, where there are %zu", size,
			reader->left);
	}
	body.left = size;
	reader->at += size;
	reader->left -= size;
	message->num_commands++;
	command->type = header.command;
	return read_body(parser, command, &body);
}

/* Up to three bytes behind the last command are what makes words of it. */
static int read_commands(struct parser *parser)
{
	struct reader reader = { parser->submission->command, parser->submission->size };
	int ret = 0;

	while (ret == 0 && reader.left >= sizeof(struct cross_domain_header)) {
		ret = read_command(parser, &reader);
	}
	if (ret == 0 && reader.left >= sizeof(uint32_t)) {
		ret = REFUSE(parser, -EINVAL, "a command of %zu bytes", reader.left);
	}
	return ret;
}

int cross_message_create(struct cross_context *context, const struct vgf_submission *submission,
	struct cross_message **out)
{
	struct parser parser = { .context = context, .submission = submission };
	int ret;

	if (context->num_messages == MAX_CROSS_DOMAIN_HELD) {
		cross_channel_end(context, "more submissions are held back than may be");
		return REFUSE(&parser, -ENOSPC, "too many are held back");
	}
	parser.message = calloc(1, sizeof(*parser.message));
	if (parser.message == NULL) {
		return -ENOMEM;
	}
	parser.message->fence = submission->fence;
	parser.message->fenced = submission->flags & VGF_FENCED;
	parser.message->wait_fd = -1;
	ret = read_commands(&parser);
	if (ret < 0) {
		cross_message_destroy(context, parser.message);
		return ret;
	}
	*out = parser.message;
	return 0;
}

void cross_message_destroy(struct cross_context *context, struct cross_message *message)
{
	for (uint32_t i = 0; i < message->num_commands; i++) {
		cross_bytes_destroy(message->commands[i].bytes);
	}
	cross_close(context, &message->wait_fd);
	free(message);
}
