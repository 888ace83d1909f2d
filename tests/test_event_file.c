/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Files of events: what is in them, disks that are full, readers that are slow. */

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "event_file.h"
#include "event_format.h"
#include "event_records.h"
#include "gpu_guest.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA

static char path[64];

static void make_path(void)
{
	int fd;

	strcpy(path, "/tmp/vgfence-events-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
}

static void wait_for_record(void)
{
	struct stat status = { 0 };

	while (status.st_size < (off_t)sizeof(struct event_record)) {
		assert_int_equal(stat(path, &status), 0);
		usleep(1000);
	}
}

/* What closing the file at `path` fails with, or 0; and which thread did it then. */
static int close_error;
static pthread_t closed_by;

int __wrap_close(int fd);
int __real_close(int fd);

int __wrap_close(int fd)
{
	char link[32], name[sizeof(path)];
	ssize_t length;
	int ret;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = close_error != 0 ? readlink(link, name, sizeof(name)) : 0;
	ret = __real_close(fd);
	if (length > 0 && strlen(path) == (size_t)length && memcmp(name, path, strlen(path)) == 0) {
		closed_by = pthread_self();
		errno = close_error;
		return -1;
	}
	return ret;
}

static struct vgf_event make_event(uint64_t fence_id)
{
	return (struct vgf_event){
		.t_ns = 1000 + fence_id,
		.kind = VGF_EVENT_WAIT,
		.fence = { fence_id, 2, 3 },
		.in_fence = { fence_id - 1, 4, VGF_RING_GLOBAL },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.status = -EIO,
		.wait = VGF_WAIT_HOST,
		.pending = 5,
		.held = 6,
		.fds = 7,
	};
}

static void add(struct event_file *file, uint64_t fence_id)
{
	const struct vgf_event event = make_event(fence_id);

	event_file_add(file, &event);
}

TEST(a_record_has_all_of_an_event)
{
	struct event_file *file;
	struct event_record *records;
	uint64_t lost;
	size_t count;

	make_path();
	assert_int_equal(event_file_open(path, &file), 0);
	add(file, 17);
	add(file, 18);
	assert_int_equal(event_file_close(file, &lost), 0);
	assert_int_equal(lost, 0);
	records = event_records(path, &count);
	assert_int_equal(count, 2);
	assert_int_equal(le64toh(records[0].t_ns), 1017);
	assert_int_equal(le16toh(records[0].kind), VGF_EVENT_WAIT);
	assert_int_equal(le64toh(records[0].fence_id), 17);
	assert_int_equal(le32toh(records[0].ctx_id), 2);
	assert_int_equal(le32toh(records[0].ring), 3);
	assert_int_equal(le64toh(records[0].in_fence_id), 16);
	assert_int_equal(le32toh(records[0].in_ctx_id), 4);
	assert_int_equal(le32toh(records[0].in_ring), UINT32_MAX);
	assert_int_equal(le32toh(records[0].flags), VGF_FENCED | VGF_SHAREABLE);
	assert_int_equal((int32_t)le32toh(records[0].status), -EIO);
	assert_int_equal(le16toh(records[0].wait), VGF_WAIT_HOST);
	assert_int_equal(le32toh(records[0].pending), 5);
	assert_int_equal(le32toh(records[0].held), 6);
	assert_int_equal(le32toh(records[0].fds), 7);
	assert_int_equal(le64toh(records[1].fence_id), 18);
	free(records);
}

/* What was lost is told where it is missing, so that all that there should be is accounted for. */
static void expect_all(
	const struct event_record *records, size_t count, uint64_t num_events, uint64_t lost)
{
	uint64_t next = 1;

	for (size_t i = 0; i < count; i++) {
		if (le16toh(records[i].kind) == EVENT_LOST) {
			next += le64toh(records[i].fence_id);
			lost -= le64toh(records[i].fence_id);
		} else {
			assert_int_equal(le64toh(records[i].fence_id), next);
			next++;
		}
	}
	assert_int_equal(lost, 0);
	assert_int_equal(next, num_events + 1);
}

TEST(many_events_come_in_order)
{
	const uint64_t num_events = 300000;
	struct event_file *file;
	struct event_record *records;
	uint64_t lost;
	size_t count;

	make_path();
	assert_int_equal(event_file_open(path, &file), 0);
	for (uint64_t id = 1; id <= num_events; id++) {
		add(file, id);
	}
	assert_int_equal(event_file_close(file, &lost), 0);
	records = event_records(path, &count);
	expect_all(records, count, num_events, lost);
	free(records);
}

struct reading {
	int fd;
	struct event_record records[50000];
	size_t size;
};

static void *read_pipe(void *arg)
{
	struct reading *reading = arg;
	ssize_t count = 1;

	while (count > 0 && reading->size < sizeof(reading->records)) {
		count = read(reading->fd, (char *)reading->records + reading->size,
			sizeof(reading->records) - reading->size);
		reading->size += count > 0 ? (size_t)count : 0;
	}
	return NULL;
}

/* A pipe is read only when the last event is there, for which there is no room. */
TEST(what_is_lost_last_is_told)
{
	const uint64_t num_events = 100000;
	static struct reading reading;
	struct event_file_header file_header;
	struct event_file *file;
	pthread_t reader;
	uint64_t lost;
	size_t count;

	make_path();
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	reading.fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reading.fd >= 0);
	assert_int_equal(event_file_open(path, &file), 0);
	for (uint64_t id = 1; id <= num_events; id++) {
		add(file, id);
	}
	assert_int_equal(fcntl(reading.fd, F_SETFL, 0), 0);
	assert_int_equal(read(reading.fd, &file_header, sizeof(file_header)), sizeof(file_header));
	assert_int_equal(pthread_create(&reader, NULL, read_pipe, &reading), 0);
	assert_int_equal(event_file_close(file, &lost), 0);
	pthread_join(reader, NULL);
	close(reading.fd);
	unlink(path);
	count = reading.size / sizeof(struct event_record);
	expect_all(reading.records, count, num_events, lost);
	assert_int_equal(le16toh(reading.records[count - 1].kind), EVENT_LOST);
}

TEST(it_is_written_while_it_is_open)
{
	struct event_file *file;
	uint64_t lost;

	make_path();
	assert_int_equal(event_file_open(path, &file), 0);
	add(file, 1);
	wait_for_record();
	assert_int_equal(event_file_close(file, &lost), 0);
	unlink(path);
}

/* The kernel lists threads in the order in which they were made; their IDs begin anew some time. */
static int newest_thread(void)
{
	DIR *threads = opendir("/proc/self/task");
	const struct dirent *entry;
	int newest = 0;

	assert_non_null(threads);
	while ((entry = readdir(threads))) {
		newest = atoi(entry->d_name);
	}
	closedir(threads);
	return newest;
}

/* How often it has gone to sleep, or -1 if it is awake. */
static long sleeps(int thread)
{
	char name[64], line[256], state = 0;
	long count = -1;
	FILE *file;

	snprintf(name, sizeof(name), "/proc/self/task/%d/status", thread);
	file = fopen(name, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		(void)sscanf(line, "State: %c", &state);
		(void)sscanf(line, "voluntary_ctxt_switches: %ld", &count);
	}
	fclose(file);
	assert_true(count >= 0);
	return state == 'S' ? count : -1;
}

TEST(its_thread_sleeps_while_nothing_happens)
{
	struct event_file *file;
	uint64_t lost;
	long before;
	int writer;

	make_path();
	assert_int_equal(event_file_open(path, &file), 0);
	writer = newest_thread();
	assert_int_not_equal(writer, getpid());
	add(file, 1);
	wait_for_record();
	do { /* without end for a thread that wakes up by itself */
		before = sleeps(writer);
		usleep(100000);
	} while (before < 0 || sleeps(writer) != before);
	assert_int_equal(event_file_close(file, &lost), 0);
	unlink(path);
}

/* A limit on the size of files, for a disk that has room for a part. Returns the old one. */
static struct rlimit limit_files(size_t size)
{
	struct rlimit old, limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	limit = old;
	limit.rlim_cur = size;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	return old;
}

TEST(a_full_disk_ends_it)
{
	struct event_file *file;
	struct rlimit old;
	uint64_t lost;

	if (access("/dev/full", W_OK) < 0) {
		skip();
	}
	/* The header is written when it is opened. */
	assert_int_equal(event_file_open("/dev/full", &file), -ENOSPC);

	make_path();
	old = limit_files(sizeof(struct event_file_header) + 10 * sizeof(struct event_record) + 20);
	assert_int_equal(event_file_open(path, &file), 0);
	for (uint64_t id = 1; id <= 100; id++) {
		add(file, id);
	}
	while (event_file_error(file) == 0) {
		usleep(1000);
	}
	add(file, 101);
	assert_int_equal(event_file_close(file, &lost), -EFBIG);
	assert_int_equal(lost, 91);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);

	size_t count;
	struct event_record *records = event_records(path, &count);
	assert_int_equal(count, 10); /* whole ones */
	free(records);
}

TEST(closing_is_waited_for_by_the_thread_and_its_error_told)
{
	struct event_file *file;
	uint64_t lost;

	make_path();
	assert_int_equal(event_file_open(path, &file), 0);
	add(file, 1);
	closed_by = pthread_self();
	close_error = EDQUOT;
	assert_int_equal(event_file_close(file, &lost), -EDQUOT);
	close_error = 0;
	assert_false(pthread_equal(closed_by, pthread_self()));
	unlink(path);
}

/* More than a pipe and the buffer hold: who adds does not wait. */
TEST(a_reader_that_does_not_read_holds_up_nobody)
{
	const uint64_t num_events = 200000;
	struct event_file *file;
	uint64_t lost, start_ns;
	int reader, ret;

	make_path();
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(event_file_open(path, &file), -ENXIO);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reader >= 0);
	assert_int_equal(event_file_open(path, &file), 0);
	start_ns = now_ns();
	for (uint64_t id = 1; id <= num_events; id++) {
		add(file, id);
	}
	assert_in_range(now_ns() - start_ns, 0, 5 * NS_PER_S);
	start_ns = now_ns();
	assert_int_equal(event_file_close(file, &lost), -ETIMEDOUT);
	assert_in_range(now_ns() - start_ns, 0, 10 * NS_PER_S);
	assert_true(lost > num_events / 2);
	unlink(path);

	/* The thread that waits is the only one. */
	make_path();
	assert_int_equal(event_file_open(path, &file), -EBUSY);
	close(reader); /* which ends it */
	while ((ret = event_file_open(path, &file)) == -EBUSY) {
		usleep(1000);
	}
	assert_int_equal(ret, 0);
	assert_int_equal(event_file_close(file, &lost), 0);
	unlink(path);
}

/* Nor does a reader that has not read what was in the pipe before. */
TEST(a_full_pipe_is_refused_at_once)
{
	struct event_file *file;
	int reader, writer;

	make_path();
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	writer = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reader >= 0 && writer >= 0);
	while (write(writer, path, sizeof(path)) > 0) {
	}
	assert_int_equal(event_file_open(path, &file), -EAGAIN);
	while (read(reader, path, sizeof(path)) > 0) {
	}
	close(writer);
	close(reader);
	unlink(path);
}

TEST(a_device_writes_what_its_fences_do)
{
	static struct guest guest;
	const struct gpu_options options = { .fence_passing_bit = FENCE_PASSING_BIT };
	const struct job job = { .ctx_id = 1, .fence_id = 1, .busy_us = 1000 };
	struct event_record *records;
	char life[16] = "";
	size_t count;

	make_path();
	guest_start(&guest, &options);
	assert_int_equal(gpu_trace_stop(guest.gpu), -ENOENT);
	assert_int_equal(gpu_trace_start(guest.gpu, "/nowhere/events"), -ENOENT);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(gpu_trace_start(guest.gpu, path), 0);
	assert_int_equal(gpu_trace_start(guest.gpu, path), -EALREADY);
	guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));
	assert_int_equal(gpu_trace_stop(guest.gpu), 0);
	assert_int_equal(gpu_trace_stop(guest.gpu), -ENOENT);
	guest_stop(&guest);
	records = event_records(path, &count);
	for (size_t i = 0; i < count && i < sizeof(life) - 1; i++) {
		life[i] = (char)('0' + le16toh(records[i].kind));
	}
	assert_string_equal(life, "1456"); /* accepted, run, signalled, retired */
	assert_true(le64toh(records[2].t_ns) - le64toh(records[1].t_ns) >= NS_PER_MS);
	free(records);
}

/* Of ten jobs there are some forty events. */
TEST(why_a_trace_lacks_events_is_told)
{
	static struct guest guest;
	const struct gpu_options options = { .fence_passing_bit = FENCE_PASSING_BIT };
	struct job job = { .ctx_id = 1 };
	struct rlimit old;

	make_path();
	guest_start(&guest, &options);
	guest.watched = "the trace lacks ";
	assert_int_equal(create_context(&guest, 1), OK);
	old = limit_files(sizeof(struct event_file_header) + sizeof(struct event_record));
	assert_int_equal(gpu_trace_start(guest.gpu, path), 0);
	for (job.fence_id = 1; job.fence_id <= 10; job.fence_id++) {
		guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));
	}
	assert_int_equal(gpu_trace_stop(guest.gpu), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_non_null(strstr(guest.watched_warning, " events: File too large"));
	guest_stop(&guest);
	unlink(path);
}
