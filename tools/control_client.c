/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "control_client.h"

/* A device sends no more: gpu/server/line_socket.h. */
#define MAX_ANSWER ((size_t)4 << 20)

/* ---- Bytes ---------------------------------------------------------------------------------- */

int control_client_open(struct control_client *client, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval timeout = { .tv_sec = CONTROL_TIMEOUT_MS / 1000 };
	size_t length = strlen(path);

	*client = (struct control_client){ .fd = -1 };
	if (length >= sizeof(address.sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, path, length);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0) {
		return -errno;
	}
	/* A device that lets nobody in has a line, which is waited for if it is full. */
	if (setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
		connect(client->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno == EAGAIN ? ETIMEDOUT : errno;

		control_client_close(client);
		return -error;
	}
	return 0;
}

void control_client_close(struct control_client *client)
{
	if (client->fd >= 0) {
		close(client->fd);
	}
	free(client->bytes);
	*client = (struct control_client){ .fd = -1 };
}

/* Waits for nobody: there is room, unless the device has not read many requests. */
static int send_all(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t count = send(fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (count < 0 && errno == EAGAIN) {
			return -ETIMEDOUT;
		}
		if (count < 0 && errno != EINTR) {
			return errno == EPIPE ? -ECONNRESET : -errno;
		}
		text += count > 0 ? count : 0;
		size -= count > 0 ? (size_t)count : 0;
	}
	return 0;
}

int control_client_send_put(struct control_client *client, struct json_object *request)
{
	const char *text = json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN);
	int ret = request != NULL && text != NULL ? send_all(client->fd, text, strlen(text)) :
						    -ENOMEM;

	json_object_put(request);
	return ret == 0 ? send_all(client->fd, "\n", 1) : ret;
}

/* The 0 behind it is room, too. */
static int make_room(struct control_client *client)
{
	size_t room = client->room > 0 ? client->room * 2 : 65536;
	char *bytes;

	if (client->size + 1 < client->room) {
		return 0;
	}
	if (room > 2 * MAX_ANSWER) {
		return -EBADMSG;
	}
	bytes = realloc(client->bytes, room);
	if (bytes == NULL) {
		return -ENOMEM;
	}
	client->bytes = bytes;
	client->room = room;
	return 0;
}

static int parse(struct control_client *client, struct json_object **answer)
{
	struct json_object *object;

	client->bytes[client->size - 1] = '\0';
	client->size = 0;
	object = json_tokener_parse(client->bytes);
	if (!json_object_is_type(object, json_type_object)) {
		json_object_put(object);
		return -EBADMSG;
	}
	*answer = object;
	return 1;
}

int control_client_receive(struct control_client *client, struct json_object **answer)
{
	int ret = make_room(client);
	ssize_t count;

	if (ret < 0) {
		return ret;
	}
	count = recv(client->fd, client->bytes + client->size, client->room - client->size - 1,
		MSG_DONTWAIT);
	if (count < 0) {
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	}
	if (count == 0) {
		return -ECONNRESET;
	}
	client->size += (size_t)count;
	return client->bytes[client->size - 1] == '\n' ? parse(client, answer) : 0;
}

int control_client_ask_put(
	struct control_client *client, struct json_object *request, struct json_object **answer)
{
	uint64_t end_ns = now_ns() + CONTROL_TIMEOUT_MS * NS_PER_MS;
	int ret = control_client_send_put(client, request);

	while (ret == 0) {
		struct pollfd poll_fd = { .fd = client->fd, .events = POLLIN };
		struct timespec left = time_until(end_ns);
		int ready = ppoll(&poll_fd, 1, &left, NULL);

		if (ready == 0) {
			return -ETIMEDOUT;
		}
		ret = ready < 0 && errno != EINTR ? -errno : control_client_receive(client, answer);
	}
	return ret < 0 ? ret : 0;
}

/* ---- Parts ---------------------------------------------------------------------------------- */

struct json_object *control_request(const char *name)
{
	struct json_object *request = json_object_new_object();

	if (request != NULL) {
		json_object_object_add(request, "request", json_object_new_string(name));
	}
	return request;
}

struct json_object *control_member(struct json_object *object, const char *key, enum json_type type)
{
	struct json_object *value;

	if (!json_object_is_type(object, json_type_object) ||
		!json_object_object_get_ex(object, key, &value) ||
		!json_object_is_type(value, type)) {
		return NULL;
	}
	return value;
}

uint64_t control_number(struct json_object *object, const char *key)
{
	struct json_object *value = control_member(object, key, json_type_int);

	return value != NULL ? json_object_get_uint64(value) : 0;
}

struct vgf_fence_name control_name(struct json_object *object)
{
	struct vgf_fence_name name = {
		.fence_id = control_number(object, "fence"),
		.ctx_id = (uint32_t)control_number(object, "context"),
		.ring = VGF_RING_GLOBAL,
	};

	if (control_member(object, "ring", json_type_int) != NULL) {
		name.ring = (int32_t)control_number(object, "ring");
	}
	return name;
}

void control_print_text(FILE *file, const char *text, bool lines)
{
	for (; *text != '\0'; text++) {
		unsigned char byte = (unsigned char)*text;

		if ((byte >= ' ' && byte <= '~') || (lines && byte == '\n')) {
			fputc(byte, file);
		} else {
			fprintf(file, "\\x%02x", byte);
		}
	}
}
