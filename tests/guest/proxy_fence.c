/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Explicit synchronisation. The host's compositor gets the fence of a buffer with its commit, and
 * says by another when it has done with it. The client knows of neither: its fence is on the
 * dma-buf, and it has the buffer back when the other fence has signalled. Nobody waits for either
 * here.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy_session.h"

#include <linux-explicit-synchronization-unstable-v1-client-protocol.h>

#define FENCED_RELEASE 0u /* an event of zwp_linux_buffer_release_v1; there is one other */

/* Of a commit. */
struct release {
	STAILQ_ENTRY(release) link;
	struct buffer *buffer; /* a use of it, or NULL once it has been given back */
	int fence_fd;
};

bool fences_can_pass(const struct session *session)
{
	const uint32_t needed = CROSS_DOMAIN_SENDS_FENCES | CROSS_DOMAIN_RECEIVES_FENCES;

	return session->explicit_id != 0 && (session->channel.fences & needed) == needed;
}

int fences_add_surface(struct session *session, uint32_t surface_id, uint32_t *id)
{
	uint32_t words[2] = { 0, surface_id };
	int ret = session_add_own(
		session, &zwp_linux_surface_synchronization_v1_interface, &words[0]);

	if (ret < 0) {
		return ret;
	}
	*id = words[0];
	return session_request(session, session->explicit_id,
		ZWP_LINUX_EXPLICIT_SYNCHRONIZATION_V1_GET_SYNCHRONIZATION, words, 2, NULL);
}

int fences_end_surface(struct session *session, uint32_t id)
{
	return session_request(
		session, id, ZWP_LINUX_SURFACE_SYNCHRONIZATION_V1_DESTROY, NULL, 0, NULL);
}

/* ---- Releases ------------------------------------------------------------------------------- */

/* With the object of the host's that it is for. */
static void release_end(void *state)
{
	struct release *release = state;

	if (release->buffer != NULL) {
		buffer_end(release->buffer);
	}
	free(release);
}

static int add_release(struct session *session, struct buffer *buffer, uint32_t *id)
{
	struct release *release = calloc(1, sizeof(*release));
	int ret = release == NULL ?
		-ENOMEM :
		session_add_own(session, &zwp_linux_buffer_release_v1_interface, id);
	struct object *object;

	if (ret < 0) {
		free(release);
		buffer_end(buffer);
		return ret;
	}
	release->buffer = buffer;
	object = objects_of_host(&session->objects, *id);
	object->state = release;
	object->end = release_end;
	return 0;
}

int fences_commit(struct session *session, uint32_t id, struct buffer *buffer, bool has_in_fence)
{
	static const struct channel_identifier in_fences = { .type = CROSS_DOMAIN_ID_SYNC };
	uint32_t release_id;
	int ret = add_release(session, buffer, &release_id);

	if (ret == 0) {
		ret = session_request(session, id, ZWP_LINUX_SURFACE_SYNCHRONIZATION_V1_GET_RELEASE,
			&release_id, 1, NULL);
	}
	if (ret == 0 && has_in_fence) {
		ret = session_request(session, id,
			ZWP_LINUX_SURFACE_SYNCHRONIZATION_V1_SET_ACQUIRE_FENCE, NULL, 0,
			&in_fences);
	}
	return ret;
}

/* A release without its fence yet waits for that, behind those before it. */
static int queue(struct session *session, struct buffer *buffer, int fence_fd)
{
	struct release *release = calloc(1, sizeof(*release));

	if (release == NULL) {
		close(fence_fd);
		buffer_end(buffer);
		return -ENOMEM;
	}
	*release = (struct release){ .buffer = buffer, .fence_fd = fence_fd };
	STAILQ_INSERT_TAIL(&session->releases, release, link);
	return 0;
}

int fences_handle_event(
	struct session *session, const struct object *object, const struct wire_message *message)
{
	struct release *release = object->state;
	struct buffer *buffer;
	int fence_fd = -1;

	if (object->interface != &zwp_linux_buffer_release_v1_interface) {
		return 0;
	}
	if (message->opcode == FENCED_RELEASE) {
		fence_fd = wire_stream_take_fd(&session->events);
		if (fence_fd < 0) {
			return -EPROTO;
		}
	}
	buffer = release->buffer;
	release->buffer = NULL;
	if (buffer == NULL) { /* a second one */
		if (fence_fd >= 0) {
			close(fence_fd);
		}
		return -EPROTO;
	}
	if (fence_fd >= 0 && session->fences != PROXY_IGNORE) {
		return queue(session, buffer, fence_fd);
	}
	if (fence_fd >= 0) {
		close(fence_fd);
	}
	return buffer_released(session, buffer);
}

int fences_next_fd(const struct session *session)
{
	const struct release *release = STAILQ_FIRST(&session->releases);

	return release != NULL ? release->fence_fd : -1;
}

static struct buffer *take_first(struct session *session)
{
	struct release *release = STAILQ_FIRST(&session->releases);
	struct buffer *buffer = release->buffer;

	STAILQ_REMOVE_HEAD(&session->releases, link);
	close(release->fence_fd);
	free(release);
	return buffer;
}

/* That of a fence whose work has failed is a release, too. */
int fences_handle_next(struct session *session)
{
	return buffer_released(session, take_first(session));
}

void fences_end(struct session *session)
{
	while (!STAILQ_EMPTY(&session->releases)) {
		buffer_end(take_first(session));
	}
}
