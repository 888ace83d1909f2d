/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FD_MESSAGE_H
#define FD_MESSAGE_H

#include <stdint.h>

/* A number with a descriptor, or with -1, over a socket that keeps messages apart. What fails, or
 * has no other side any more, ends the process. */

/* Closes the descriptor. */
void fd_message_send(int socket, uint32_t number, int fd);

/* Returns the descriptor. */
int fd_message_receive(int socket, uint32_t *number);

#endif
