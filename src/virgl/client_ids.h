/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CLIENT_IDS_H
#define CLIENT_IDS_H

/*
 * virglrenderer takes any fence IDs, also ones that do not grow: a VMM may count in 32 bits, or use
 * addresses. The device wants them to grow on a timeline. So an ID that does not gets another
 * number, the next one, and the VMM is called back with its own.
 *
 * Any thread. Nothing is allocated when a fence retires.
 */

#include <stdbool.h>

#include <vgfence/vgfence.h>

/* Sets *number to the device's number for a fence that is about to be created. 0 or -ENOMEM. */
int client_id_enter(const struct vgf_fence_name *client, uint64_t *number);

/* It was not created. */
void client_id_drop(const struct vgf_fence_name *client, uint64_t number);

/* A fence retires. Sets *id to the VMM's ID for it, and returns whether the VMM is to be told: not
 * after its context has ended. Those before it on its timeline have retired, too. */
bool client_id_retire(const struct vgf_fence_name *fence, uint64_t *id);

/* The number by which virglrenderer knows the fence that the VMM means by this ID. */
uint64_t client_id_number(uint64_t id);

/* A context ends, with its timelines when nothing of them is pending. Later ones get numbers above
 * all of theirs. Of a fence that it has by now the VMM is not told any more. */
void client_ids_end_context(uint32_t ctx_id);

/* All of them, as nothing is pending any more. */
void client_ids_clear(void);

#endif
