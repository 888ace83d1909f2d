/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RFB_CLIENT_H
#define RFB_CLIENT_H

/*
 * A VNC client for tests, of RFB 3.8 (RFC 6143). By itself it behaves well, and knows raw pixels, a
 * cursor's shape and another size of the desktop; of ZRLE no more than which pixels come. It lets a
 * test send any bytes.
 *
 * If the server ends the connection, or says what it may not, it ends the program.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RFB_RAW 0
#define RFB_RRE 2
#define RFB_ZRLE 16
#define RFB_EXTENDED_CLIPBOARD ((int32_t)0xc0a1e5ce) /* which is none */

struct rfb_client {
	int fd;
	void (*run)(void *arg); /* lets the server's device run */
	void *arg;
	uint32_t width, height;
	uint32_t *pixels;   /* 0x00rrggbb, width by height */
	uint64_t received;  /* pixels, of all updates */
	int32_t encoding;   /* of the last rectangle */
	unsigned int sizes; /* how often it was told one */
	bool has_cursor;    /* its shape, of 64 by 64, has come */
	uint32_t cursor[64 * 64];
};

/* Connects to a path, and says hello. */
void rfb_client_connect(
	struct rfb_client *client, const char *path, void (*run)(void *arg), void *arg);
void rfb_client_close(struct rfb_client *client);

/* A connection of which nothing has been read or written. */
int rfb_client_open(const char *path);

/* Instead of raw pixels, if the server likes. */
void rfb_client_prefer(struct rfb_client *client, int32_t encoding);

/* Any bytes. Returns whether they were sent. */
bool rfb_client_send(struct rfb_client *client, const void *bytes, size_t size);

/* Asks for all, or for what has changed since; and waits for the answer to that. */
void rfb_client_request(struct rfb_client *client, bool incremental);
void rfb_client_read_update(struct rfb_client *client);

void rfb_client_key(struct rfb_client *client, uint32_t keysym, bool down);
void rfb_client_pointer(struct rfb_client *client, uint8_t buttons, uint16_t x, uint16_t y);
void rfb_client_resize(struct rfb_client *client, uint16_t width, uint16_t height);

/* Whether the server has ended the connection, after it has had some time for that. */
bool rfb_client_is_disconnected(struct rfb_client *client);

#endif
