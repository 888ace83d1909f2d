/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "memory_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fd_kind.h"

/* The ID of the mount that a descriptor was opened in, which the kernel tells by itself; below 0:
 * unknown. */
static long mount_of(int fd)
{
	char path[64], line[128];
	long mount = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (!file) {
		return -1;
	}
	while (mount < 0 && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "mnt_id: %ld", &mount) != 1) {
			mount = -1;
		}
	}
	fclose(file);
	return mount;
}

/* fuseblk is none of them. An overlay's lower layers may be of FUSE, but never the upper one, and
 * what is open for writing is there. */
static bool is_on_disk(const char *type)
{
	static const char *const types[] = { "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs",
		"overlay" };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(type, types[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* One line of mountinfo: ID, other things, and behind a dash the type. See proc(5). */
static bool is_disk_mount(const char *line, long mount)
{
	const char *dash = strstr(line, " - ");
	char type[16];

	return strtol(line, NULL, 10) == mount && dash && sscanf(dash, " - %15s", type) == 1 &&
		is_on_disk(type);
}

/* Of a mount that this process does not see nothing is known. */
static bool has_disk(int fd)
{
	long mount = mount_of(fd);
	bool found = false;
	char *line = NULL;
	size_t room = 0;
	FILE *file;

	if (mount < 0) {
		return false;
	}
	file = fopen("/proc/self/mountinfo", "re");
	if (!file) {
		return false;
	}
	while (!found && getline(&line, &room, file) >= 0) {
		found = is_disk_mount(line, mount);
	}
	free(line);
	fclose(file);
	return found;
}

static bool is_writable(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_ACCMODE) == O_RDWR && !(flags & O_PATH);
}

bool memory_file_is_ours(int fd)
{
	/* Only the kernel's own files in memory have seals, and it answers that by itself. What it
	 * tells of an epoll set, that one's user can delay. */
	return fcntl(fd, F_GET_SEALS) >= 0 ||
		(fd_file_type(fd) == S_IFREG && is_writable(fd) && has_disk(fd));
}
