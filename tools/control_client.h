/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CONTROL_CLIENT_H
#define CONTROL_CLIENT_H

/*
 * A client of a device's control socket (docs/observing.md): sends a request, a line of JSON, and
 * gets an answer. Errors are negative errno values. The device has a guest, which may have taken it
 * over: nothing of an answer is trusted.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <json-c/json.h>
#include <vgfence/fence.h>

/* How long a device is waited for. One that is in the middle of something answers later; this is
 * longer than stopping a queue takes by default, which is twice --drain-ms and a second. */
#define CONTROL_TIMEOUT_MS 15000

struct control_client {
	int fd;
	char *bytes; /* of an answer, so far */
	size_t size, room;
};

/* Connects. Returns 0; -ETIMEDOUT if the device did not let it in for CONTROL_TIMEOUT_MS; or what
 * socket or connect failed with. */
int control_client_open(struct control_client *client, const char *path);
void control_client_close(struct control_client *client);

/* Sends a request, which is put. One at a time. Returns 0; -ETIMEDOUT if the device has not read
 * those before; -ENOMEM; what send failed with. */
int control_client_send_put(struct control_client *client, struct json_object *request);

/*
 * Takes what has come of the answer. Returns 1 with the whole answer, an object, in *answer, which
 * the caller puts; 0 if more is to come: the descriptor polls readable then; -ECONNRESET if the
 * device has gone; -EBADMSG for what is no answer; -ENOMEM.
 */
int control_client_receive(struct control_client *client, struct json_object **answer);

/* Both, and waits for the answer for CONTROL_TIMEOUT_MS at most. Returns 0, -ETIMEDOUT, or what
 * they do. */
int control_client_ask_put(
	struct control_client *client, struct json_object *request, struct json_object **answer);

/* ---- Parts of requests and answers ---------------------------------------------------------- */

struct json_object *control_request(const char *name); /* or NULL */

/* 0, or NULL, if there is no such member of this type. */
uint64_t control_number(struct json_object *object, const char *key);
struct json_object *control_member(
	struct json_object *object, const char *key, enum json_type type);

/* Context, ring and fence of an object. */
struct vgf_fence_name control_name(struct json_object *object);

/* Prints a text of the device's: characters that are not printable as \xNN, but for newlines if
 * there may be lines. */
void control_print_text(FILE *file, const char *text, bool lines);

#endif
