/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace.h"

#define FILE_HEADER_SIZE 16
#define RECORD_HEADER_SIZE 24
#define CTRL_HEADER_SIZE 24 /* struct virtio_gpu_ctrl_hdr */
#define VERSION 1

struct parser {
	struct trace *trace;
	const uint8_t *bytes;
	size_t size;
	size_t at;
	size_t max_records;
	size_t *requests; /* indices of the requests; their sequence numbers rise */
	struct trace_error *error;
};

static uint32_t get_u32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return le32toh(value);
}

static uint64_t get_u64(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return le64toh(value);
}

static int fail(struct parser *parser, const char *message)
{
	*parser->error = (struct trace_error){ .offset = parser->at, .message = message };
	return -EBADMSG;
}

static int parse_file_header(struct parser *parser)
{
	if (parser->size == 0) {
		return fail(parser, "the file is empty");
	}
	if (parser->size < FILE_HEADER_SIZE) {
		return fail(parser, "too short for a trace");
	}
	if (memcmp(parser->bytes, "VGTRACE1", 8) != 0) {
		return fail(parser, "not a trace");
	}
	if (get_u32(parser->bytes + 8) != VERSION) {
		return fail(parser, "a version of the format that is not known");
	}
	if (get_u32(parser->bytes + 12) != 0) {
		return fail(parser, "flags that are not known");
	}
	parser->at = FILE_HEADER_SIZE;
	return 0;
}

/* The request with this sequence number, or TRACE_NONE. */
static size_t find_request(const struct parser *parser, uint32_t seq)
{
	const struct trace *trace = parser->trace;
	size_t low = 0, high = trace->num_requests;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (trace->records[parser->requests[middle]].seq < seq) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (low == trace->num_requests || trace->records[parser->requests[low]].seq != seq) {
		return TRACE_NONE;
	}
	return parser->requests[low];
}

static int check_request(struct parser *parser, struct trace_record *record)
{
	struct trace *trace = parser->trace;

	if (record->size < CTRL_HEADER_SIZE) {
		return fail(parser, "a request without a whole header");
	}
	if (trace->num_requests > 0 &&
		trace->records[parser->requests[trace->num_requests - 1]].seq >= record->seq) {
		return fail(parser, "a request's sequence number is not above the last one's");
	}
	parser->requests[trace->num_requests++] = trace->num_records;
	return 0;
}

static int check_completion(struct parser *parser, struct trace_record *record)
{
	size_t request = find_request(parser, record->seq);

	if (request == TRACE_NONE) {
		return fail(parser, "a completion without a request before it");
	}
	if (parser->trace->records[request].peer != TRACE_NONE) {
		return fail(parser, "a second completion of a request");
	}
	record->peer = request;
	parser->trace->records[request].peer = parser->trace->num_records;
	return 0;
}

static int check_record(struct parser *parser, struct trace_record *record)
{
	const struct trace *trace = parser->trace;

	if (trace->num_records > 0 && record->t_ns < trace->records[trace->num_records - 1].t_ns) {
		return fail(parser, "a record is earlier than the one before it");
	}
	switch (record->kind) {
	case TRACE_REQUEST:
		return check_request(parser, record);
	case TRACE_COMPLETION:
		return check_completion(parser, record);
	}
	return fail(parser, "a kind of record that is not known");
}

static int grow(struct parser *parser)
{
	size_t room = parser->max_records > 0 ? 2 * parser->max_records : 256;
	struct trace_record *records;
	size_t *requests;

	if (parser->trace->num_records < parser->max_records) {
		return 0;
	}
	records = realloc(parser->trace->records, room * sizeof(*records));
	if (records == NULL) {
		return -ENOMEM;
	}
	parser->trace->records = records;
	requests = realloc(parser->requests, room * sizeof(*requests));
	if (requests == NULL) {
		return -ENOMEM;
	}
	parser->requests = requests;
	parser->max_records = room;
	return 0;
}

static int parse_record(struct parser *parser)
{
	const uint8_t *at = parser->bytes + parser->at;
	size_t left = parser->size - parser->at;
	struct trace_record record;
	int ret;

	if (left < RECORD_HEADER_SIZE || left - RECORD_HEADER_SIZE < get_u32(at + 20)) {
		parser->trace->cut_at = parser->at;
		parser->at = parser->size;
		return 0;
	}
	record = (struct trace_record){
		.t_ns = get_u64(at),
		.kind = (enum trace_kind)get_u32(at + 8),
		.queue = get_u32(at + 12),
		.seq = get_u32(at + 16),
		.size = get_u32(at + 20),
		.data = at + RECORD_HEADER_SIZE,
		.peer = TRACE_NONE,
	};
	ret = grow(parser);
	if (ret < 0) {
		*parser->error = (struct trace_error){ .message = strerror(ENOMEM) };
		return ret;
	}
	ret = check_record(parser, &record);
	if (ret < 0) {
		return ret;
	}
	parser->trace->records[parser->trace->num_records++] = record;
	parser->at += RECORD_HEADER_SIZE + record.size;
	return 0;
}

int trace_parse_take(struct trace *trace, void *bytes, size_t size, struct trace_error *error)
{
	struct parser parser = { .trace = trace, .bytes = bytes, .size = size, .error = error };
	int ret;

	*trace = (struct trace){ .bytes = bytes };
	ret = parse_file_header(&parser);
	while (ret == 0 && parser.at < size) {
		ret = parse_record(&parser);
	}
	free(parser.requests);
	if (ret < 0) {
		trace_finish(trace);
	}
	return ret;
}

/* Reads to the end: a trace may come from a pipe. */
static int read_all(int fd, uint8_t **bytes, size_t *size)
{
	size_t room = 0;

	*bytes = NULL;
	*size = 0;
	for (;;) {
		ssize_t count;

		if (*size == room) {
			uint8_t *more = realloc(*bytes, room += room / 2 + 65536);

			if (more == NULL) {
				return -ENOMEM;
			}
			*bytes = more;
		}
		count = read(fd, *bytes + *size, room - *size);
		if (count == 0) {
			return 0;
		}
		if (count > 0) {
			*size += (size_t)count;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
}

int trace_load(struct trace *trace, const char *path, struct trace_error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t *bytes;
	size_t size;
	int ret;

	if (fd < 0) {
		ret = -errno;
		*error = (struct trace_error){ .message = strerror(-ret) };
		return ret;
	}
	ret = read_all(fd, &bytes, &size);
	close(fd);
	if (ret < 0) {
		free(bytes);
		*error = (struct trace_error){ .message = strerror(-ret) };
		return ret;
	}
	return trace_parse_take(trace, bytes, size, error);
}

void trace_finish(struct trace *trace)
{
	free(trace->records);
	free(trace->bytes);
	*trace = (struct trace){ 0 };
}
