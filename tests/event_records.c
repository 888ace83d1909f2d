/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "event_records.h"

#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

struct event_record *event_records(const char *path, size_t *count)
{
	struct event_file_header header;
	struct event_record *records;
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(read(fd, &header, sizeof(header)), sizeof(header));
	assert_memory_equal(header.magic, EVENT_FILE_MAGIC, sizeof(header.magic));
	assert_int_equal(le32toh(header.version), EVENT_FILE_VERSION);
	assert_int_equal(header.flags, 0);
	*count = ((size_t)status.st_size - sizeof(header)) / sizeof(*records);
	assert_int_equal(sizeof(header) + *count * sizeof(*records), status.st_size);
	records = calloc(*count + 1, sizeof(*records));
	assert_non_null(records);
	assert_int_equal(read(fd, records, *count * sizeof(*records)), *count * sizeof(*records));
	close(fd);
	unlink(path);
	return records;
}
