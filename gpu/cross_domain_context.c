/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Contexts: what they have, and the driver that runs their submissions. */

#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cross_domain_private.h"

/* All structs in trees begin with their ID. */
static int compare_ids(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static struct vgf_device *device_of(const struct cross_context *context)
{
	struct renderer *inner = context->domain->inner;

	return inner->ops->get_device(inner);
}

/* ---- What is counted, what is said ---------------------------------------------------------- */

int cross_take_fds(struct cross_context *context, uint32_t count)
{
	struct cross_domain *domain = context->domain;

	if (count > domain->max_fds / 4 - context->num_fds ||
		count > domain->max_fds - domain->num_fds) {
		return -EMFILE;
	}
	context->num_fds += count;
	domain->num_fds += count;
	return 0;
}

void cross_give_fds(struct cross_context *context, uint32_t count)
{
	context->num_fds -= count;
	context->domain->num_fds -= count;
}

void cross_close(struct cross_context *context, int *fd)
{
	if (*fd >= 0) {
		close(*fd);
		*fd = -1;
		cross_give_fds(context, 1);
	}
}

int cross_refuse(const struct cross_context *context, const struct vgf_fence_name *fence,
	bool fenced, int error, const char *format, ...)
{
	char where[64], what[160];
	va_list arguments;
	int length;

	length = fence->ring == VGF_RING_GLOBAL ?
		snprintf(where, sizeof(where), "no ring") :
		snprintf(where, sizeof(where), "ring %d", fence->ring);
	if (fenced) {
		snprintf(where + length, sizeof(where) - (size_t)length, ", fence %" PRIu64,
			fence->fence_id);
	} else {
		snprintf(where + length, sizeof(where) - (size_t)length, ", no fence");
	}
	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	log_guest(
		context->domain->gpu, "cross-domain context %u, %s: %s", context->id, where, what);
	return error;
}

/* ---- Resources ------------------------------------------------------------------------------ */

static struct cross_attached *find_attached(
	const struct cross_context *context, uint32_t resource_id)
{
	struct cross_attached *const *found = tfind(&resource_id, &context->attached, compare_ids);

	return found != NULL ? *found : NULL;
}

int cross_context_attach(struct cross_context *context, uint32_t resource_id)
{
	const struct resource *resource = find_resource(context->domain->gpu, resource_id);
	struct cross_attached *attached = find_attached(context, resource_id);

	if (attached == NULL) {
		if (context->num_attached == MAX_CROSS_DOMAIN_ATTACHED ||
			context->domain->num_attached == MAX_CROSS_DOMAIN_ALL_ATTACHED) {
			return -ENOSPC;
		}
		attached = calloc(1, sizeof(*attached));
		if (attached == NULL) {
			return -ENOMEM;
		}
		attached->id = resource_id;
		if (tsearch(attached, &context->attached, compare_ids) == NULL) {
			free(attached);
			return -ENOMEM;
		}
		context->num_attached++;
		context->domain->num_attached++;
	}
	attached->serial = resource->serial;
	return 0;
}

void cross_context_detach(struct cross_context *context, uint32_t resource_id)
{
	struct cross_attached *attached = find_attached(context, resource_id);

	if (attached != NULL) {
		tdelete(attached, &context->attached, compare_ids);
		context->num_attached--;
		context->domain->num_attached--;
		free(attached);
	}
}

struct resource *cross_context_resource(struct cross_context *context, uint32_t resource_id)
{
	const struct cross_attached *attached = find_attached(context, resource_id);
	struct resource *resource = find_resource(context->domain->gpu, resource_id);

	return attached != NULL && resource != NULL && resource->serial == attached->serial ?
		resource :
		NULL;
}

/* ---- Rings ---------------------------------------------------------------------------------- */

static const struct renderer_backing *ring_memory(
	struct cross_context *context, const struct cross_attached *ring)
{
	const struct resource *resource = find_resource(context->domain->gpu, ring->id);

	return resource != NULL && resource->serial == ring->serial &&
			resource_is_guest_blob(resource) && resource->backing != NULL &&
			!resource->is_detaching ?
		&resource->backing->base :
		NULL;
}

int cross_ring_write(struct cross_context *context, const struct cross_attached *ring,
	const void *header, size_t header_size, const void *data, size_t data_size)
{
	const struct renderer_backing *memory = ring_memory(context, ring);
	int ret = memory != NULL ? backing_write(memory, header_size, data, data_size) : -ENOENT;

	return ret < 0 ? ret : backing_write(memory, 0, header, header_size);
}

static int set_ring(struct cross_context *context, const struct cross_message *message,
	const char *name, uint32_t resource_id, size_t size, struct cross_attached *ring)
{
	const struct resource *resource = cross_context_resource(context, resource_id);
	const struct renderer_backing *memory;

	if (resource == NULL) {
		return cross_refuse(context, &message->fence, message->fenced, -ENOENT,
			"INIT: the %s ring is resource %u, which the context does not have", name,
			resource_id);
	}
	*ring = (struct cross_attached){ resource_id, resource->serial };
	memory = ring_memory(context, ring);
	if (memory == NULL || memory->size < size || resource->blob_size < size) {
		return cross_refuse(context, &message->fence, message->fenced, -EINVAL,
			"INIT: the %s ring, resource %u, is no blob of %zu bytes of guest memory",
			name, resource_id, size);
	}
	return 0;
}

/* ---- Commands ------------------------------------------------------------------------------- */

static int init(struct cross_context *context, const struct cross_message *message,
	const struct cross_domain_init *init)
{
	int ret = 0;

	if (context->is_initialized) {
		return cross_refuse(
			context, &message->fence, message->fenced, -EEXIST, "a second INIT");
	}
	if (init->channel_type != CROSS_DOMAIN_NO_CHANNEL &&
		init->channel_type != CROSS_DOMAIN_WAYLAND) {
		return cross_refuse(context, &message->fence, message->fenced, -EOPNOTSUPP,
			"INIT: channel type %u; there is only 1, Wayland", init->channel_type);
	}
	ret = set_ring(context, message, "query", init->query_ring,
		sizeof(struct cross_domain_image_requirements), &context->query_ring);
	if (ret == 0 && init->channel_type == CROSS_DOMAIN_WAYLAND) {
		ret = set_ring(context, message, "channel", init->channel_ring,
			CROSS_DOMAIN_MAX_RECEIVE, &context->channel_ring);
		if (ret == 0) {
			ret = cross_channel_open(context);
			if (ret < 0) {
				cross_refuse(context, &message->fence, message->fenced, ret,
					"INIT: the compositor at %s: %s",
					context->domain->address.sun_path, strerror(-ret));
			}
		}
	}
	context->is_initialized = ret == 0;
	return ret;
}

/* A guest reads the ring whatever becomes of its question: then there is an image of no bytes. */
static int get_image_requirements(struct cross_context *context,
	const struct cross_message *message,
	const struct cross_domain_get_image_requirements *image)
{
	struct cross_domain_image_requirements answer = { 0 };
	int ret, error;

	if (!context->is_initialized) {
		return cross_refuse(context, &message->fence, message->fenced, -ENOTCONN,
			"GET_IMAGE_REQUIREMENTS before INIT");
	}
	error = cross_image_requirements(image, &answer);
	if (error < 0) {
		cross_refuse(context, &message->fence, message->fenced, error,
			"GET_IMAGE_REQUIREMENTS: %u by %u of format 0x%08x", image->width,
			image->height, image->drm_format);
	}
	for (size_t i = 0; i < 4; i++) {
		answer.strides[i] = htole32(answer.strides[i]);
		answer.offsets[i] = htole32(answer.offsets[i]);
	}
	answer.modifier = htole64(answer.modifier);
	answer.size = htole64(answer.size);
	answer.blob_id = htole32(answer.blob_id);
	answer.map_info = htole32(answer.map_info);
	answer.memory_index = answer.physical_device_index = -1;
	ret = cross_ring_write(context, &context->query_ring, &answer, sizeof(answer), NULL, 0);
	if (ret < 0) {
		cross_refuse(context, &message->fence, message->fenced, ret,
			"GET_IMAGE_REQUIREMENTS: the query ring has no memory any more");
	}
	return error < 0 ? error : ret;
}

static int send_bytes(struct cross_context *context, const struct cross_message *message,
	struct cross_command *command)
{
	struct cross_bytes *bytes = command->bytes;
	int ret;

	command->bytes = NULL;
	ret = cross_channel_send_take(context, bytes);
	return ret < 0 ? cross_refuse(context, &message->fence, message->fenced, ret, "SEND: %s",
				 ret == -ENOTCONN ? "there is no channel" : strerror(-ret)) :
			 0;
}

static int write_pipe(struct cross_context *context, const struct cross_message *message,
	struct cross_command *command)
{
	const struct cross_domain_read_write *write = &command->body.write;
	struct cross_bytes *bytes = command->bytes;
	int ret;

	command->bytes = NULL;
	ret = cross_item_write_take(context, write->identifier, bytes, write->hang_up != 0);
	return ret < 0 ?
		cross_refuse(context, &message->fence, message->fenced, ret, "WRITE: pipe %u: %s",
			write->identifier, ret == -ENOENT ? "there is none" : strerror(-ret)) :
		0;
}

/* Without a fence there is nothing to be told. */
static int poll_channel(struct cross_context *context, const struct cross_message *message)
{
	int ret = 0;

	if (message->fenced) {
		ret = cross_channel_poll(context, &message->fence);
	}
	return ret < 0 ? cross_refuse(context, &message->fence, message->fenced, ret, "POLL: %s",
				 ret == -ENOTCONN      ? "there is no channel" :
					 ret == -EPIPE ? "the channel has ended" :
							 strerror(-ret)) :
			 0;
}

static int run_command(struct cross_context *context, const struct cross_message *message,
	struct cross_command *command)
{
	switch (command->type) {
	case CROSS_DOMAIN_INIT:
		return init(context, message, &command->body.init);
	case CROSS_DOMAIN_GET_IMAGE_REQUIREMENTS:
		return get_image_requirements(context, message, &command->body.image);
	case CROSS_DOMAIN_SEND:
		return send_bytes(context, message, command);
	case CROSS_DOMAIN_WRITE:
		return write_pipe(context, message, command);
	case CROSS_DOMAIN_POLL:
		return poll_channel(context, message);
	case CROSS_DOMAIN_WAIT_FENCE:
		return 0; /* the fence is the submission's */
	case CROSS_DOMAIN_RECEIVE:
	case CROSS_DOMAIN_READ:
		break; /* cross_message_create lets none through */
	}
	return -EINVAL;
}

/* ---- The driver ----------------------------------------------------------------------------- */

static void take_message(struct cross_context *context, struct cross_message *message)
{
	TAILQ_REMOVE(&context->messages, message, link);
	context->num_messages--;
}

/* Work without a ring is among that of ring 0. */
static int32_t queue_of(const struct cross_message *message)
{
	return message->fence.ring == VGF_RING_GLOBAL ? 0 : message->fence.ring;
}

/* Those before it on its ring that were not run have been cancelled. */
static void drop_cancelled(struct cross_context *context, const struct cross_message *message)
{
	struct cross_message *other = TAILQ_FIRST(&context->messages), *next;

	for (; other != message; other = next) {
		next = TAILQ_NEXT(other, link);
		if (queue_of(other) == queue_of(message)) {
			take_message(context, other);
			cross_message_destroy(context, other);
		}
	}
}

/* What the library keeps of a submission. */
struct given {
	struct cross_message *message;
};

static int run_message(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct cross_context *context = data;
	struct cross_message *message;
	struct given given;
	int ret;

	memcpy(&given, job->command, sizeof(given));
	message = given.message;
	drop_cancelled(context, message);
	ret = cross_fences_give(message, job);
	if (ret < 0) {
		return ret; /* it comes again */
	}
	take_message(context, message);
	/* Before a POLL is run, whose fence may then be signalled. */
	*out_fence_fd = message->has_poll ? VGF_FENCE_BY_CALL : VGF_FENCE_DONE;
	for (uint32_t i = 0; i < message->num_commands && ret == 0; i++) {
		ret = run_command(context, message, &message->commands[i]);
	}
	if (ret == 0 && message->wait_fd >= 0) {
		*out_fence_fd = message->wait_fd;
		message->wait_fd = -1;
		cross_give_fds(context, 1); /* it is the library's */
	}
	cross_message_destroy(context, message);
	/* It must not come again: there is no message any more, and a part of it may have run. */
	return vgf_job_runs_again(job, ret) ? -EIO : ret;
}

/* What its pipes do not take now still goes to them. */
static void end_items(struct cross_context *context)
{
	struct cross_item *item, *next;

	for (item = LIST_FIRST(&context->items); item != NULL; item = next) {
		next = LIST_NEXT(item, link);
		item->is_over = true;
		if (TAILQ_EMPTY(&item->queue)) {
			cross_item_destroy(item);
		}
	}
}

static void drop(struct cross_context *context)
{
	while (!LIST_EMPTY(&context->items)) {
		cross_item_destroy(LIST_FIRST(&context->items));
	}
	cross_channel_finish(context);
	TAILQ_REMOVE(&context->domain->all, context, link);
	context->domain->num_contexts--;
	free(context);
}

void cross_context_settle(struct cross_context *context)
{
	if (!context->has_ended) {
		return;
	}
	if (TAILQ_EMPTY(&context->channel.queue)) {
		cross_channel_finish(context);
	}
	if (context->waiting == 0) {
		drop(context);
	}
}

static void finish(void *data, bool cancelled)
{
	struct cross_context *context = data;
	struct cross_message *message;

	if (cancelled) {
		context->channel.num_polls = 0; /* not ours to signal any more */
	}
	cross_channel_drop_polls(context);
	while ((message = TAILQ_FIRST(&context->messages)) != NULL) {
		take_message(context, message);
		cross_message_destroy(context, message);
	}
	end_items(context);
	while (context->attached != NULL) {
		cross_context_detach(context, **(uint32_t **)context->attached);
	}
	if (context->is_open) {
		tdelete(context, &context->domain->contexts, compare_ids);
	}
	context->has_ended = true;
	if (cancelled) {
		drop(context);
	} else {
		cross_context_settle(context);
	}
}

/* Whose bytes have waited for the longest: who reads them may never do so. */
static bool drop_oldest(struct cross_domain *domain)
{
	struct cross_context *context;

	TAILQ_FOREACH(context, &domain->all, link) {
		if (context->has_ended) {
			drop(context);
			return true;
		}
	}
	return false;
}

void cross_contexts_drop(struct cross_domain *domain)
{
	struct cross_context *context, *next;

	for (context = TAILQ_FIRST(&domain->all); context != NULL; context = next) {
		next = TAILQ_NEXT(context, link);
		if (context->has_ended) {
			drop(context);
		}
	}
}

/* ---- Contexts ------------------------------------------------------------------------------- */

struct cross_context *cross_context_find(const struct cross_domain *domain, uint32_t ctx_id)
{
	struct cross_context *const *found = tfind(&ctx_id, &domain->contexts, compare_ids);

	return found != NULL ? *found : NULL;
}

int cross_context_create(struct cross_domain *domain, uint32_t ctx_id)
{
	static const struct vgf_driver driver = {
		.size = sizeof(driver),
		.wait = VGF_WAIT_DRIVER,
		.independent_rings = true,
		.submit = run_message,
		.destroy = finish,
	};
	struct cross_context *context;
	int ret;

	if (domain->num_contexts == MAX_CROSS_DOMAIN_CONTEXTS && !drop_oldest(domain)) {
		return -ENOSPC;
	}
	context = calloc(1, sizeof(*context));
	if (context == NULL) {
		return -ENOMEM;
	}
	context->id = ctx_id;
	context->domain = domain;
	context->last_item_id = 1; /* they are odd */
	LIST_INIT(&context->items);
	TAILQ_INIT(&context->messages);
	cross_channel_init(context);
	if (tsearch(context, &domain->contexts, compare_ids) == NULL) {
		free(context);
		return -ENOMEM;
	}
	context->is_open = true;
	TAILQ_INSERT_TAIL(&domain->all, context, link);
	domain->num_contexts++;
	ret = vgf_context_create(device_of(context), ctx_id, &driver, context);
	if (ret < 0) {
		finish(context, true);
	}
	return ret;
}

/* What it has sent still goes; nothing more is received. */
int cross_context_destroy(struct cross_context *context)
{
	int ret;

	tdelete(context, &context->domain->contexts, compare_ids);
	context->is_open = false;
	cross_channel_drop_polls(context);
	ret = vgf_context_destroy(device_of(context), context->id);
	return ret < 0 ? ret : 0;
}

static int refuse_submission(struct cross_context *context, const struct vgf_submission *submission,
	int error, bool *will_retire)
{
	*will_retire = (submission->flags & VGF_FENCED) &&
		vgf_fence_refuse(device_of(context), &submission->fence, submission->flags, NULL,
			error) == 0;
	return error;
}

int cross_context_submit(
	struct cross_context *context, const struct vgf_submission *submission, bool *will_retire)
{
	struct vgf_submission copy = *submission;
	struct given given;
	struct cross_message *message;
	int ret = cross_message_create(context, submission, &message);

	if (ret < 0) {
		return refuse_submission(context, submission, ret, will_retire);
	}
	TAILQ_INSERT_TAIL(&context->messages, message, link);
	context->num_messages++;
	given.message = message;
	copy.command = &given;
	copy.size = sizeof(given);
	copy.flags |= message->has_poll || message->wait_fd >= 0 ? VGF_PATIENT : 0;
	ret = vgf_submit(device_of(context), &copy, will_retire);
	/* The driver takes it off the list, and frees it. */
	if (ret < 0 && TAILQ_LAST(&context->messages, ) == message) {
		take_message(context, message);
		cross_message_destroy(context, message);
	}
	return ret < 0 ? ret : 0;
}
