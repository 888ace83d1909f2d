/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VHOST_SESSION_H
#define VHOST_SESSION_H

/*
 * A front end that talks to the device that echoes: what the programs about the back end of
 * vhost-user share.
 */

#include "echo_device.h"
#include "front_end.h"
#include "support.h"

#define BIT(bit) (UINT64_C(1) << (bit))

extern char path[]; /* of the device's socket */
extern struct echo_device device;
extern struct front_end front_end;
extern struct front_end_queue *const queue; /* the first one */

/* The device listens; then a front end is connected, has negotiated, or has started its queues. */
void begin_unconnected(void);
void begin_connected(void);
void begin_negotiated(void);
void begin_started(void);

/* Nothing of a front end is left in the device. */
void finish(void);

/* The device does what there is to do. */
void run(void);

/* What comes next in the used ring. */
void assert_used(struct front_end_queue *of, uint32_t head, uint32_t written);
void assert_not_used(struct front_end_queue *of);

/* A request goes all the way, on queue `index`. */
void assert_echo(uint32_t index);

void assert_next_front_end_is_served(void);

#define TEST_CONNECTED(name) TEST_BETWEEN(name, begin_connected(), finish())
#define TEST_NEGOTIATED(name) TEST_BETWEEN(name, begin_negotiated(), finish())
#define TEST_STARTED(name) TEST_BETWEEN(name, begin_started(), finish())

#endif
