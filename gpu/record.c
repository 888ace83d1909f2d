/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "record.h"
#include "trace.h"

/* Written at once: some hundred records. */
#define BUFFER_SIZE (64u << 10)

struct recorder {
	struct gpu *gpu;
	FILE *file; /* NULL once it has ended */
	uint64_t start_ns;
	uint64_t size; /* of the records */
	uint32_t seq;
};

struct file_header {
	char magic[8];
	uint32_t version, flags;
};

struct record_header {
	uint64_t t_ns;
	uint32_t kind, queue, seq, size;
};

static void end(struct recorder *recorder, int error)
{
	log_error(recorder->gpu, "the recording ends here: %s", strerror(error));
	fclose(recorder->file);
	recorder->file = NULL;
}

static void put(struct recorder *recorder, const void *data, size_t size)
{
	if (recorder->file != NULL && size > 0 && fwrite(data, 1, size, recorder->file) != size) {
		end(recorder, errno);
	}
}

static void put_header(struct recorder *recorder, enum trace_kind kind, enum gpu_queue queue,
	uint32_t seq, size_t size)
{
	const struct record_header header = {
		.t_ns = htole64(now_ns() - recorder->start_ns),
		.kind = htole32(kind),
		.queue = htole32(queue),
		.seq = htole32(seq),
		.size = htole32((uint32_t)size),
	};

	if (recorder->file == NULL) {
		return;
	}
	recorder->size += sizeof(header) + size;
	if (recorder->size > RECORDER_MAX_SIZE) {
		end(recorder, EFBIG);
	}
	put(recorder, &header, sizeof(header));
}

int recorder_create(struct gpu *gpu, const char *path, struct recorder **out)
{
	const struct file_header header = { .magic = "VGTRACE1", .version = htole32(1) };
	struct recorder *recorder = calloc(1, sizeof(*recorder));

	if (recorder == NULL) {
		return -ENOMEM;
	}
	recorder->gpu = gpu;
	recorder->start_ns = now_ns();
	recorder->file = fopen(path, "wbe");
	if (recorder->file == NULL) {
		int error = -errno;

		free(recorder);
		return error;
	}
	setvbuf(recorder->file, NULL, _IOFBF, BUFFER_SIZE);
	put(recorder, &header, sizeof(header));
	*out = recorder;
	return 0;
}

void recorder_destroy(struct recorder *recorder)
{
	if (recorder == NULL) {
		return;
	}
	if (recorder->file != NULL && fclose(recorder->file) != 0) {
		log_error(recorder->gpu, "the end of the recording is lost: %s", strerror(errno));
	}
	free(recorder);
}

uint32_t recorder_request(
	struct recorder *recorder, enum gpu_queue queue, const void *data, size_t size)
{
	recorder->seq++;
	put_header(recorder, TRACE_REQUEST, queue, recorder->seq, size);
	put(recorder, data, size);
	return recorder->seq;
}

void recorder_completion(struct recorder *recorder, const struct gpu_request *request, uint32_t seq,
	uint32_t written)
{
	put_header(recorder, TRACE_COMPLETION, request->queue, seq, written);
	for (size_t i = 0; i < request->num_writable && written > 0; i++) {
		uint32_t length = request->writable[i].iov_len < written ?
			(uint32_t)request->writable[i].iov_len :
			written;

		put(recorder, request->writable[i].iov_base, length);
		written -= length;
	}
}
