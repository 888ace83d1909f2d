/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Recordings of the virtio-gpu device, read back as 'vgfence replay' does. */

#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gpu_guest.h"
#include "record.h"
#include "trace.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA

static struct guest guest;
static char path[64];

static void start_recording(const char *file)
{
	const struct gpu_options options = { .fence_passing_bit = FENCE_PASSING_BIT };

	guest_start(&guest, &options);
	assert_int_equal(gpu_record_start(guest.gpu, file), 0);
}

static void start(void)
{
	int fd;

	strcpy(path, "/tmp/vgfence-record-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	start_recording(path);
}

static void end_test(struct trace *trace)
{
	struct trace_error error = { 0 };

	guest_stop(&guest);
	if (trace_load(trace, path, &error) < 0) {
		fail_msg("at %u: %s", (unsigned int)error.offset, error.message);
	}
	unlink(path);
}

TEST(records_requests_and_responses)
{
	/* Long enough for any machine to end the other one first. */
	const struct job slow = { .ctx_id = 1, .fence_id = 1, .busy_us = 500000 };
	const struct job quick = { .ctx_id = 1, .ring = 1, .fence_id = 2 };
	const struct virtio_gpu_ctrl_hdr *hdr;
	const struct trace_record *record;
	struct trace trace;
	uint32_t token;

	start();
	guest.piece = 5;
	assert_int_equal(create_context(&guest, 1), OK);
	token = submit(&guest, &slow);
	guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &quick));
	guest_wait(&guest, GPU_QUEUE_CONTROL, token);
	end_test(&trace);

	assert_int_equal(trace.num_records, 6);
	assert_int_equal(trace.num_requests, 3);
	record = &trace.records[0];
	assert_int_equal(record->size, sizeof(struct virtio_gpu_ctx_create));
	hdr = (const void *)record->data;
	assert_int_equal(le32toh(hdr->type), VIRTIO_GPU_CMD_CTX_CREATE);
	assert_int_equal(record->peer, 1);
	hdr = (const void *)trace.records[1].data;
	assert_int_equal(le32toh(hdr->type), OK);
	/* The second job was done first. */
	assert_int_equal(trace.records[4].peer, 3);
	assert_int_equal(trace.records[5].peer, 2);
	hdr = (const void *)trace.records[4].data;
	assert_int_equal(le64toh(hdr->fence_id), 2);
	assert_true(trace.records[5].t_ns >= trace.records[2].t_ns + 500000000);
	trace_finish(&trace);
}

TEST(records_payload_and_queue)
{
	const struct virtio_gpu_get_capset request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET, 0),
		.capset_id = htole32(6),
	};
	const struct virtio_gpu_update_cursor cursor = {
		.hdr = header(VIRTIO_GPU_CMD_MOVE_CURSOR, 0),
	};
	uint32_t capset[6];
	struct trace trace;

	start();
	guest.piece = 7;
	assert_int_equal(guest_ask(&guest, &request, sizeof(request), capset, sizeof(capset)),
		VIRTIO_GPU_RESP_OK_CAPSET);
	guest_wait(&guest, GPU_QUEUE_CONTROL,
		guest_send(&guest, GPU_QUEUE_CONTROL, &request, sizeof(request), 100));
	guest_wait(&guest, GPU_QUEUE_CURSOR,
		guest_send(&guest, GPU_QUEUE_CURSOR, &cursor, sizeof(cursor), 0));
	end_test(&trace);

	assert_int_equal(trace.num_records, 6);
	assert_int_equal(trace.records[3].size, 24 + sizeof(capset));
	assert_int_equal(trace.records[1].size, 24 + sizeof(capset));
	assert_memory_equal(trace.records[1].data + 24, capset, sizeof(capset));
	assert_int_equal(trace.records[4].queue, GPU_QUEUE_CURSOR);
	assert_int_equal(trace.records[5].queue, GPU_QUEUE_CURSOR);
	assert_int_equal(trace.records[5].size, 0);
	trace_finish(&trace);
}

TEST(leaves_out_what_has_no_header)
{
	struct trace trace;

	start();
	assert_int_equal(guest_call(&guest, "short", 5), 0);
	assert_int_equal(create_context(&guest, 1), OK);
	end_test(&trace);
	assert_int_equal(trace.num_requests, 1);
	trace_finish(&trace);
}

TEST(goes_on_over_a_reset)
{
	const struct job never = { .ctx_id = 1, .fence_id = 1, .busy_us = 1000000000 };
	struct trace trace;

	start();
	for (int i = 0; i < 3; i++) {
		assert_int_equal(create_context(&guest, 1), OK);
		submit(&guest, &never);
		gpu_reset(guest.gpu);
	}
	end_test(&trace);
	assert_int_equal(trace.num_requests, 6);
	assert_int_equal(trace.num_records, 12);
	trace_finish(&trace);
}

TEST(a_full_disk_ends_the_recording_alone)
{
	static uint8_t large[1 << 20];
	struct virtio_gpu_ctrl_hdr *hdr = (void *)large;

	if (access("/dev/full", W_OK) < 0) {
		print_message("there is no /dev/full\n");
		skip();
	}
	start_recording("/dev/full");
	*hdr = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);
	guest_call(&guest, large, sizeof(large));
	assert_int_equal(guest.num_errors, 1);
	guest_call(&guest, large, sizeof(large));
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(guest.num_errors, 1);
	guest_stop(&guest);
}

/* The disk has room for the first of two requests, and a part of the second. */
TEST(what_a_full_disk_has_cut_off_is_read_up_to_there)
{
	static uint8_t large[1 << 16];
	struct virtio_gpu_ctrl_hdr *hdr = (void *)large;
	struct rlimit old, limit;
	struct trace_error error;
	struct trace trace;

	start();
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	limit = old;
	limit.rlim_cur = sizeof(large) * 3 / 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	*hdr = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);
	guest_call(&guest, large, sizeof(large));
	guest_call(&guest, large, sizeof(large));
	guest_stop(&guest);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(trace_load(&trace, path, &error), 0);
	assert_int_equal(trace.num_records, 2);
	assert_in_range(trace.cut_at, sizeof(large), limit.rlim_cur - 1);
	trace_finish(&trace);
	unlink(path);
}

/* To a file that takes it all. */
TEST(a_recording_ends_at_its_largest_size)
{
	static uint8_t large[1 << 20];
	struct virtio_gpu_ctrl_hdr *hdr = (void *)large;
	const size_t room = RECORDER_MAX_SIZE / sizeof(large);

	start_recording("/dev/null");
	*hdr = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);
	for (size_t i = 0; i < room - 1; i++) {
		guest_call(&guest, large, sizeof(large));
	}
	assert_int_equal(guest.num_errors, 0);
	guest_call(&guest, large, sizeof(large));
	assert_int_equal(guest.num_errors, 1);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(guest.num_errors, 1);
	guest_stop(&guest);
}

TEST(a_file_that_cannot_be_opened_is_an_error)
{
	guest_start(&guest, NULL);
	assert_int_equal(gpu_record_start(guest.gpu, "/dev/null/x"), -ENOTDIR);
	guest_stop(&guest);
}

/* ---- Damaged files --------------------------------------------------------------------------- */

#define HEADER_SIZE 16
#define RECORD_SIZE 24 /* without its bytes */

struct file {
	uint8_t bytes[512];
	size_t size;
};

static void put_u32(struct file *file, size_t at, uint32_t value)
{
	value = htole32(value);
	memcpy(file->bytes + at, &value, sizeof(value));
}

static struct file make_file(void)
{
	struct file file = { .size = HEADER_SIZE };

	memcpy(file.bytes, "VGTRACE1", 8);
	put_u32(&file, 8, 1);
	return file;
}

static void add_record(
	struct file *file, uint32_t t_ns, enum trace_kind kind, uint32_t seq, uint32_t size)
{
	put_u32(file, file->size, t_ns);
	put_u32(file, file->size + 8, kind);
	put_u32(file, file->size + 16, seq);
	put_u32(file, file->size + 20, size);
	file->size += RECORD_SIZE + size;
}

/* NULL: it is good. */
static void expect_message(const struct file *file, size_t offset, const char *message)
{
	struct trace_error error = { 0 };
	void *bytes = malloc(file->size);
	struct trace trace;
	int ret;

	assert_non_null(bytes);
	memcpy(bytes, file->bytes, file->size);
	ret = trace_parse_take(&trace, bytes, file->size, &error);
	if (message == NULL) {
		assert_int_equal(ret, 0);
		trace_finish(&trace);
		return;
	}
	assert_int_equal(ret, -EBADMSG);
	assert_int_equal(error.offset, offset);
	assert_string_equal(error.message, message);
}

TEST(a_header_that_is_not_known_is_told)
{
	struct file file = make_file();

	expect_message(&file, 0, NULL);
	file.size--;
	expect_message(&file, 0, "too short for a trace");
	file.size++;
	put_u32(&file, 12, 1);
	expect_message(&file, 0, "flags that are not known");
}

TEST(a_record_that_cannot_be_is_told_by_its_place)
{
	struct file good = make_file(), file;
	size_t end;

	add_record(&good, 100, TRACE_REQUEST, 5, 24);
	expect_message(&good, 0, NULL);
	end = good.size;
	file = good;
	add_record(&file, 100, TRACE_REQUEST, 6, 23);
	expect_message(&file, end, "a request without a whole header");
	file = good;
	add_record(&file, 100, TRACE_REQUEST, 5, 24);
	expect_message(&file, end, "a request's sequence number is not above the last one's");
	file = good;
	add_record(&file, 99, TRACE_REQUEST, 6, 24);
	expect_message(&file, end, "a record is earlier than the one before it");
	file = good;
	add_record(&file, 100, TRACE_COMPLETION, 4, 0);
	expect_message(&file, end, "a completion without a request before it");
	add_record(&good, 100, TRACE_COMPLETION, 5, 0);
	expect_message(&good, 0, NULL);
	end = good.size;
	add_record(&good, 100, TRACE_COMPLETION, 5, 0);
	expect_message(&good, end, "a second completion of a request");
}
