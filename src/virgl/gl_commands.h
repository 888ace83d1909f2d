/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GL_COMMANDS_H
#define GL_COMMANDS_H

/*
 * The little that has to be known of a GL context's command stream: which commands change the
 * subcontext, and with it the GL context that is current. Each command begins with 32 bits: its
 * type in the lowest 8, the length of what follows, in units of 4 bytes, in the highest 16.
 */

#include <stdbool.h>
#include <stddef.h>

/* The size of the commands at the start that choose a subcontext; 0 for none. */
size_t gl_commands_prologue(const void *commands, size_t size);

/* Whether any command changes the subcontext; true for a stream that ends within a command. */
bool gl_commands_change_context(const void *commands, size_t size);

#endif
