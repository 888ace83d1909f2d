/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RECORD_H
#define RECORD_H

/* Records a guest's traffic, in the format that tests/data/traces/README.md describes. */

#include <stddef.h>
#include <stdint.h>

#include "gpu.h"

struct recorder;

/* A guest makes it grow as fast as it likes. It ends before the record that is too much. */
#define RECORDER_MAX_SIZE (UINT64_C(1) << 30)

/* Opens a recording, and replaces one that is there. It ends at that size, or when it cannot be
 * written any more (a full disk), with a message to the device's log. Returns 0, -ENOMEM or what
 * opening the file failed with. */
int recorder_create(struct gpu *gpu, const char *path, struct recorder **out);
void recorder_destroy(struct recorder *recorder); /* NULL is fine */

/* Returns the sequence number. */
uint32_t recorder_request(
	struct recorder *recorder, enum gpu_queue queue, const void *data, size_t size);

/* The first `written` bytes of the request's writable buffers are the response. */
void recorder_completion(struct recorder *recorder, const struct gpu_request *request, uint32_t seq,
	uint32_t written);

#endif
