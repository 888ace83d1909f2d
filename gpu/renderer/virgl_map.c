/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A dma-buf or shared memory is what its descriptor says. The descriptor of other Vulkan memory is
 * opaque: what is in it is the driver's affair. But virglrenderer can map it here, and if that is a
 * mapping of the descriptor's own file, as it is with lavapipe, the kernel says at which offset.
 */

#include "virgl_map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define VIRGL_RENDERER_UNSTABLE_APIS /* in virglrenderer 0.10 */
#include <virglrenderer.h>

static int to_errno(int ret)
{
	return ret == -1 ? -EINVAL : ret > 0 ? -ret : ret;
}

/* ---- Where a pointer is in its file ------------------------------------------------------- */

struct mapping {
	uintptr_t start, end;
	uint64_t offset;
	unsigned int major, minor;
	uint64_t inode;
};

static bool parse_mapping(const char *line, struct mapping *mapping)
{
	return sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %" SCNx64 " %x:%x %" SCNu64,
		       &mapping->start, &mapping->end, &mapping->offset, &mapping->major,
		       &mapping->minor, &mapping->inode) == 6;
}

static int find_mapping(uintptr_t address, struct mapping *mapping)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[256]; /* what is cut off is a name, and its rest looks like no mapping */
	int ret = -EOPNOTSUPP;

	if (maps == NULL) {
		return -errno;
	}
	while (ret < 0 && fgets(line, sizeof(line), maps) != NULL) {
		if (parse_mapping(line, mapping) && address >= mapping->start &&
			address < mapping->end) {
			ret = 0;
		}
	}
	fclose(maps);
	return ret;
}

static int find_offset(uintptr_t address, int fd, uint64_t *offset)
{
	struct mapping mapping = { 0 };
	struct stat file;
	int ret = find_mapping(address, &mapping);

	if (ret < 0) {
		return ret;
	}
	if (fstat(fd, &file) < 0) {
		return -errno;
	}
	if (file.st_ino != mapping.inode || major(file.st_dev) != mapping.major ||
		minor(file.st_dev) != mapping.minor) {
		return -EOPNOTSUPP;
	}
	*offset = mapping.offset + (address - mapping.start);
	return 0;
}

/* And how much of the file is the memory: behind it there may be more of the driver's. */
static int find_opaque(uint32_t resource_id, struct virgl_map *map)
{
	void *address;
	int ret = to_errno(virgl_renderer_resource_map(resource_id, &address, &map->size));

	if (ret < 0) {
		return ret;
	}
	ret = find_offset((uintptr_t)address, map->fd, &map->offset);
	virgl_renderer_resource_unmap(resource_id);
	return ret;
}

/* ---- All of it ---------------------------------------------------------------------------- */

/* The last page of a file may be cut short, and can be touched all the same. */
static int limit_size(struct virgl_map *map)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	off_t end = lseek(map->fd, 0, SEEK_END); /* a dma-buf has no other size */

	if (end < 0) {
		return -errno;
	}
	if (map->offset % page != 0 || map->offset >= (uint64_t)end) {
		return -ERANGE;
	}
	if (map->size > (uint64_t)end - map->offset) {
		map->size = (uint64_t)end - map->offset;
	}
	map->size = (map->size + page - 1) / page * page;
	return 0;
}

static int set_place(uint32_t resource_id, uint32_t fd_type, struct virgl_map *map)
{
	int ret = to_errno(virgl_renderer_resource_get_map_info(resource_id, &map->map_info));

	map->map_info &= VIRGL_RENDERER_MAP_CACHE_MASK;
	map->offset = 0;
	map->size = UINT64_MAX; /* all of the file */
	if (ret == 0 && fd_type == VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE) {
		ret = find_opaque(resource_id, map);
	}
	return ret < 0 ? ret : limit_size(map);
}

int virgl_map_resource(uint32_t resource_id, struct virgl_map *map)
{
	struct virgl_map found = { .fd = -1 };
	uint32_t fd_type;
	int ret = virgl_renderer_resource_export_blob(resource_id, &fd_type, &found.fd);

	if (ret != 0) {
		/* It has several errors for "there is none". */
		return -EOPNOTSUPP;
	}
	ret = set_place(resource_id, fd_type, &found);
	if (ret < 0) {
		close(found.fd);
		return ret;
	}
	*map = found;
	return 0;
}
