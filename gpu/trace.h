/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef TRACE_H
#define TRACE_H

/*
 * Reads recorded guest traffic: what went over the queues of a virtio-gpu device, and when. The
 * format is described in tests/data/traces/README.md. A file is checked as a whole when it is
 * loaded, and need not be checked again. What the requests say is not looked at.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum trace_kind {
	TRACE_REQUEST = 1,
	TRACE_COMPLETION = 2,
};

/* No record: a request that was not completed before the recording ended. */
#define TRACE_NONE SIZE_MAX

struct trace_record {
	uint64_t t_ns; /* since the device started; never less than the record's before */
	enum trace_kind kind;
	uint32_t queue;
	uint32_t seq;
	uint32_t size;
	const uint8_t *data; /* a request has at least a struct virtio_gpu_ctrl_hdr */
	size_t peer;         /* the index of a request's completion, of a completion's request */
};

struct trace {
	struct trace_record *records; /* in the order of the file */
	size_t num_records;
	size_t num_requests;
	uint64_t cut_at; /* where the record begins that the file ends in; 0: it ends in none */
	void *bytes;
};

struct trace_error {
	uint64_t offset;     /* for -EBADMSG: of the header or record that is bad */
	const char *message; /* static, or of strerror */
};

/* Loads a file. If it ends in a record, as that of a device that was killed, what is before is
 * loaded. Returns 0; -EBADMSG if it is no trace, or a damaged one; what open or read failed with;
 * -ENOMEM. On an error it fills *error, and there is nothing to finish. */
int trace_load(struct trace *trace, const char *path, struct trace_error *error);

/* The same for bytes in memory from malloc, which belong to the trace from the call on, also
 * when it fails. */
int trace_parse_take(struct trace *trace, void *bytes, size_t size, struct trace_error *error);

void trace_finish(struct trace *trace);

#endif
