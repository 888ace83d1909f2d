/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "rfb_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LOST_ROUNDS 20000 /* of a millisecond: only so that the test ends if something is lost */

enum { CURSOR = -239, DESKTOP_SIZE = -223, EXT_DESKTOP_SIZE = -308 };

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "Could not run test: %s\n", #condition);                   \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int rfb_client_open(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path));
	CHECK(connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

bool rfb_client_send(struct rfb_client *client, const void *bytes, size_t size)
{
	return send(client->fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* The device runs meanwhile. Returns false if the server has ended the connection. */
static bool wait_for_bytes(struct rfb_client *client)
{
	struct pollfd fd = { .fd = client->fd, .events = POLLIN };

	for (int i = 0; i < LOST_ROUNDS; i++) {
		client->run(client->arg);
		if (poll(&fd, 1, 1) > 0) {
			return true;
		}
	}
	return false;
}

static void receive(struct rfb_client *client, void *to, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t length;

		CHECK(wait_for_bytes(client));
		length = recv(client->fd, (char *)to + done, size - done, MSG_DONTWAIT);
		CHECK(length > 0);
		done += (size_t)length;
	}
}

static uint16_t receive_u16(struct rfb_client *client)
{
	uint16_t number;

	receive(client, &number, sizeof(number));
	return ntohs(number);
}

static void set_size(struct rfb_client *client, uint32_t width, uint32_t height)
{
	free(client->pixels);
	client->width = width;
	client->height = height;
	client->pixels = calloc((size_t)width * height, sizeof(uint32_t));
	CHECK(client->pixels != NULL);
	client->sizes++;
}

void rfb_client_prefer(struct rfb_client *client, int32_t encoding)
{
	const struct {
		uint8_t type, padding;
		uint16_t count;
		uint32_t encodings[4];
	} message = { 2, 0, htons(4),
		{ htonl((uint32_t)encoding), htonl((uint32_t)CURSOR), htonl((uint32_t)DESKTOP_SIZE),
			htonl((uint32_t)EXT_DESKTOP_SIZE) } };

	CHECK(rfb_client_send(client, &message, sizeof(message)));
}

/* 32 bits, little-endian, 0x00rrggbb. */
static void set_pixel_format(struct rfb_client *client)
{
	static const uint8_t message[20] = { 0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16,
		8, 0 };

	CHECK(rfb_client_send(client, message, sizeof(message)));
}

void rfb_client_connect(
	struct rfb_client *client, const char *path, void (*run)(void *arg), void *arg)
{
	const uint8_t none = 1, shared = 1;
	char bytes[16], name[64];
	uint32_t number;
	uint16_t width;

	*client = (struct rfb_client){ .fd = rfb_client_open(path), .run = run, .arg = arg };
	receive(client, bytes, 12);
	CHECK(memcmp(bytes, "RFB 003.008\n", 12) == 0);
	CHECK(rfb_client_send(client, "RFB 003.008\n", 12));
	receive(client, bytes, 2); /* one kind of security, and that is none */
	CHECK(bytes[0] == 1 && bytes[1] == 1);
	CHECK(rfb_client_send(client, &none, 1));
	receive(client, &number, sizeof(number));
	CHECK(number == 0);
	CHECK(rfb_client_send(client, &shared, 1));
	width = receive_u16(client);
	set_size(client, width, receive_u16(client));
	receive(client, bytes, 16);
	receive(client, &number, sizeof(number));
	CHECK(ntohl(number) < sizeof(name));
	receive(client, name, ntohl(number));
	client->sizes = 0;
	set_pixel_format(client);
	rfb_client_prefer(client, RFB_RAW);
}

void rfb_client_close(struct rfb_client *client)
{
	close(client->fd);
	free(client->pixels);
	client->pixels = NULL;
}

/* ---- Updates -------------------------------------------------------------------------------- */

void rfb_client_request(struct rfb_client *client, bool incremental)
{
	const struct {
		uint8_t type, incremental;
		uint16_t x, y, width, height;
	} message = { 3, incremental, 0, 0, htons((uint16_t)client->width),
		htons((uint16_t)client->height) };

	CHECK(rfb_client_send(client, &message, sizeof(message)));
}

static void read_raw(struct rfb_client *client, const uint16_t *rect)
{
	CHECK(rect[0] + rect[2] <= client->width && rect[1] + rect[3] <= client->height);
	for (uint32_t y = 0; y < rect[3]; y++) {
		receive(client, client->pixels + (size_t)(rect[1] + y) * client->width + rect[0],
			rect[2] * sizeof(uint32_t));
	}
	client->received += (uint64_t)rect[2] * rect[3];
}

/* What is in it is not looked at. */
static void read_zrle(struct rfb_client *client, const uint16_t *rect)
{
	uint32_t left;
	char bytes[4096];

	receive(client, &left, sizeof(left));
	for (left = ntohl(left); left >= sizeof(bytes); left -= (uint32_t)sizeof(bytes)) {
		receive(client, bytes, sizeof(bytes));
	}
	receive(client, bytes, left);
	client->received += (uint64_t)rect[2] * rect[3];
}

static void read_cursor(struct rfb_client *client, const uint16_t *rect)
{
	uint8_t mask[64 * 64 / 8];
	size_t size = (size_t)rect[2] * rect[3];

	CHECK(size == 0 || (rect[2] == 64 && rect[3] == 64));
	if (size > 0) {
		receive(client, client->cursor, sizeof(client->cursor));
		receive(client, mask, sizeof(mask));
	}
	client->has_cursor = size > 0;
}

static void read_ext_size(struct rfb_client *client, const uint16_t *rect)
{
	uint8_t head[4], screen[16];

	receive(client, head, sizeof(head));
	for (int i = 0; i < head[0]; i++) {
		receive(client, screen, sizeof(screen));
	}
	set_size(client, rect[2], rect[3]);
}

static void read_rect(struct rfb_client *client)
{
	uint16_t rect[4];
	int32_t encoding;

	for (int i = 0; i < 4; i++) {
		rect[i] = receive_u16(client);
	}
	receive(client, &encoding, sizeof(encoding));
	encoding = (int32_t)ntohl((uint32_t)encoding);
	client->encoding = encoding;
	if (encoding == RFB_ZRLE) {
		read_zrle(client, rect);
	} else if (encoding == RFB_RAW) {
		read_raw(client, rect);
	} else if (encoding == CURSOR) {
		read_cursor(client, rect);
	} else if (encoding == EXT_DESKTOP_SIZE) {
		read_ext_size(client, rect);
	} else {
		CHECK(encoding == DESKTOP_SIZE);
		set_size(client, rect[2], rect[3]);
	}
}

/* What the server can do with a clipboard. */
static void skip_text(struct rfb_client *client)
{
	uint8_t byte, padding[2];
	uint32_t length;

	receive(client, padding, sizeof(padding));
	receive(client, &length, sizeof(length));
	for (length = 0 - ntohl(length); length > 0; length--) {
		receive(client, &byte, 1);
	}
}

void rfb_client_read_update(struct rfb_client *client)
{
	uint8_t head[2];
	uint16_t count;

	receive(client, head, sizeof(head));
	while (head[0] == 3) {
		skip_text(client);
		receive(client, head, sizeof(head));
	}
	CHECK(head[0] == 0);
	count = receive_u16(client);
	for (uint16_t i = 0; i < count; i++) {
		read_rect(client);
	}
}

/* ---- Input ---------------------------------------------------------------------------------- */

void rfb_client_key(struct rfb_client *client, uint32_t keysym, bool down)
{
	const struct {
		uint8_t type, down;
		uint16_t padding;
		uint32_t keysym;
	} message = { 4, down, 0, htonl(keysym) };

	CHECK(rfb_client_send(client, &message, sizeof(message)));
}

void rfb_client_pointer(struct rfb_client *client, uint8_t buttons, uint16_t x, uint16_t y)
{
	const struct {
		uint8_t type, buttons;
		uint16_t x, y;
	} message = { 5, buttons, htons(x), htons(y) };

	CHECK(rfb_client_send(client, &message, sizeof(message)));
}

void rfb_client_resize(struct rfb_client *client, uint16_t width, uint16_t height)
{
	const struct {
		uint8_t type, padding;
		uint16_t width, height;
		uint8_t count, padding2;
		uint16_t screen[8];
	} message = { 251, 0, htons(width), htons(height), 1, 0,
		{ 0, 0, 0, 0, htons(width), htons(height), 0, 0 } };

	CHECK(rfb_client_send(client, &message, sizeof(message)));
}

bool rfb_client_is_disconnected(struct rfb_client *client)
{
	char bytes[4096];

	while (wait_for_bytes(client)) {
		ssize_t size = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (size == 0 || (size < 0 && errno == ECONNRESET)) {
			return true;
		}
	}
	return false;
}
