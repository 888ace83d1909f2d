/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory_fault.h"
#include "memory_file.h"
#include "udmabuf.h"
#include "vfio_dma_buf.h"

/* The largest page that a file may have (hugetlbfs). */
#define MAX_PAGE_SIZE (1u << 30)

/* A part of a file, mapped. Tables share it. */
struct mapping {
	atomic_uint references;
	/* Which file: no other can have both numbers as long as it is mapped. */
	dev_t device;
	ino_t inode;
	uint64_t offset, size;
	int fd;         /* of the file; below 0: there was none left */
	uint8_t *start; /* of what was asked for */
	void *base;     /* of what mmap gave: whole pages */
	size_t length;
	struct memory_fault_range *range;
};

struct region {
	struct guest_region where;
	struct mapping *mapping;
};

struct guest_memory {
	atomic_uint references;
	size_t num_regions;
	struct region regions[]; /* by guest address */
};

/* ---- Mappings ----------------------------------------------------------------------------- */

static void mapping_unref(struct mapping *mapping)
{
	if (!mapping || atomic_fetch_sub(&mapping->references, 1) > 1) {
		return;
	}
	memory_fault_unguard(mapping->range);
	munmap(mapping->base, mapping->length);
	if (mapping->fd >= 0) {
		close(mapping->fd);
	}
	free(mapping);
}

/* The offset of a mapping must be whole pages, and so must its length if the file has huge
 * pages. */
static int map_pages(struct mapping *mapping, const struct stat *file, int fd)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), blocks = (uint64_t)file->st_blksize, skip;

	if (blocks > page && blocks <= MAX_PAGE_SIZE && (blocks & (blocks - 1)) == 0) {
		page = blocks;
	}
	skip = mapping->offset & (page - 1);
	/* Size and offset lie in the file, so no sum here wraps. */
	mapping->length = (size_t)((skip + mapping->size + page - 1) & ~(page - 1));
	mapping->base = mmap(NULL, mapping->length, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_NORESERVE, fd, (off_t)(mapping->offset - skip));
	if (mapping->base == MAP_FAILED) {
		return -errno;
	}
	mapping->start = (uint8_t *)mapping->base + skip;
	return 0;
}

static int mapping_create(
	const struct guest_region *region, const struct stat *file, int fd, struct mapping **out)
{
	struct mapping *mapping = calloc(1, sizeof(*mapping));
	int ret;

	if (!mapping) {
		return -ENOMEM;
	}
	mapping->references = 1;
	mapping->device = file->st_dev;
	mapping->inode = file->st_ino;
	mapping->offset = region->offset;
	mapping->size = region->size;
	ret = map_pages(mapping, file, fd);
	if (ret == 0) {
		ret = memory_fault_guard(mapping->base, mapping->length, &mapping->range);
		if (ret < 0) {
			munmap(mapping->base, mapping->length);
		}
	}
	if (ret < 0) {
		free(mapping);
		return ret;
	}
	mapping->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	*out = mapping;
	return 0;
}

static struct mapping *find_mapping(const struct guest_memory *memory,
	const struct guest_region *region, const struct stat *file)
{
	for (size_t i = 0; memory && i < memory->num_regions; i++) {
		struct mapping *mapping = memory->regions[i].mapping;

		if (mapping->device == file->st_dev && mapping->inode == file->st_ino &&
			mapping->offset == region->offset && mapping->size == region->size &&
			!memory_fault_is_lost(mapping->range)) {
			return mapping;
		}
	}
	return NULL;
}

/* Which part of its file can be mapped a device says by mmap. It is shared with no other region:
 * all devices have one inode. */
static int get_device_mapping(const struct guest_region *region, int fd, struct mapping **out)
{
	struct stat file;

	if (region->size > INT64_MAX - MAX_PAGE_SIZE ||
		region->offset > INT64_MAX - MAX_PAGE_SIZE - region->size) {
		return -EINVAL;
	}
	if (fstat(fd, &file) < 0) {
		return -errno;
	}
	return mapping_create(region, &file, fd, out);
}

static int get_mapping(const struct guest_memory *previous, const struct guest_region *region,
	int fd, struct mapping **out)
{
	struct stat file;

	if (vfio_is_device(fd)) {
		return get_device_mapping(region, fd, out);
	}
	if (!memory_file_is_ours(fd)) {
		return -EMEDIUMTYPE;
	}
	if (fstat(fd, &file) < 0) {
		return -errno;
	}
	if (!S_ISREG(file.st_mode) || region->size > (uint64_t)file.st_size ||
		region->offset > (uint64_t)file.st_size - region->size) {
		return -EINVAL;
	}
	*out = find_mapping(previous, region, &file);
	if (*out) {
		atomic_fetch_add(&(*out)->references, 1);
		return 0;
	}
	return mapping_create(region, &file, fd, out);
}

/* ---- Tables ------------------------------------------------------------------------------- */

static struct guest_memory *table_create(size_t num_regions)
{
	struct guest_memory *memory = calloc(
		1, sizeof(*memory) + num_regions * sizeof(struct region));

	if (memory) {
		memory->references = 1;
	}
	return memory;
}

/* Both not empty, and neither wraps. */
static bool overlaps(uint64_t start, uint64_t size, uint64_t other_start, uint64_t other_size)
{
	return start < other_start ? other_start - start < size : start - other_start < other_size;
}

static bool fits(const struct guest_memory *memory, const struct guest_region *region)
{
	if (region->size == 0 || region->size > SIZE_MAX - MAX_PAGE_SIZE ||
		region->guest_addr > UINT64_MAX - region->size ||
		region->user_addr > UINT64_MAX - region->size) {
		return false;
	}
	for (size_t i = 0; i < memory->num_regions; i++) {
		const struct guest_region *other = &memory->regions[i].where;

		if (overlaps(region->guest_addr, region->size, other->guest_addr, other->size) ||
			overlaps(region->user_addr, region->size, other->user_addr, other->size)) {
			return false;
		}
	}
	return true;
}

/* There is room for it. The mapping's reference is the table's from here on. */
static void insert(
	struct guest_memory *memory, const struct guest_region *region, struct mapping *mapping)
{
	size_t at = memory->num_regions++;

	while (at > 0 && memory->regions[at - 1].where.guest_addr > region->guest_addr) {
		memory->regions[at] = memory->regions[at - 1];
		at--;
	}
	memory->regions[at] = (struct region){ *region, mapping };
}

static int insert_file(struct guest_memory *memory, const struct guest_memory *previous,
	const struct guest_region *region, int fd)
{
	struct mapping *mapping = NULL;
	int ret;

	if (!fits(memory, region)) {
		return -EINVAL;
	}
	ret = get_mapping(previous, region, fd, &mapping);
	if (ret == 0) {
		insert(memory, region, mapping);
	}
	return ret;
}

/* All but one region (NULL: all) of another table, which may be NULL. */
static void insert_table(
	struct guest_memory *memory, const struct guest_memory *other, const struct region *without)
{
	for (size_t i = 0; other && i < other->num_regions; i++) {
		const struct region *region = &other->regions[i];

		if (region != without) {
			atomic_fetch_add(&region->mapping->references, 1);
			insert(memory, &region->where, region->mapping);
		}
	}
}

int guest_memory_create(const struct guest_region *regions, const int *fds, size_t num_regions,
	struct guest_memory *previous, struct guest_memory **out)
{
	struct guest_memory *memory;
	int ret = 0;

	if (num_regions > GUEST_MEMORY_MAX_REGIONS) {
		return -E2BIG;
	}
	memory = table_create(num_regions);
	if (!memory) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < num_regions && ret == 0; i++) {
		ret = insert_file(memory, previous, &regions[i], fds[i]);
	}
	if (ret < 0) {
		guest_memory_unref(memory);
		return ret;
	}
	*out = memory;
	return 0;
}

int guest_memory_add(struct guest_memory *memory, const struct guest_region *region, int fd,
	struct guest_memory **out)
{
	size_t num_regions = memory ? memory->num_regions : 0;
	struct guest_memory *added;
	int ret;

	if (num_regions >= GUEST_MEMORY_MAX_REGIONS) {
		return -E2BIG;
	}
	added = table_create(num_regions + 1);
	if (!added) {
		return -ENOMEM;
	}
	insert_table(added, memory, NULL);
	ret = insert_file(added, memory, region, fd);
	if (ret < 0) {
		guest_memory_unref(added);
		return ret;
	}
	*out = added;
	return 0;
}

int guest_memory_remove(
	struct guest_memory *memory, const struct guest_region *region, struct guest_memory **out)
{
	const struct region *found = NULL;
	struct guest_memory *less;

	for (size_t i = 0; memory && i < memory->num_regions; i++) {
		const struct guest_region *where = &memory->regions[i].where;

		if (where->guest_addr == region->guest_addr &&
			where->user_addr == region->user_addr && where->size == region->size) {
			found = &memory->regions[i];
		}
	}
	if (!found) {
		return -ENOENT;
	}
	less = table_create(memory->num_regions - 1);
	if (!less) {
		return -ENOMEM;
	}
	insert_table(less, memory, found);
	*out = less;
	return 0;
}

struct guest_memory *guest_memory_ref(struct guest_memory *memory)
{
	if (memory) {
		atomic_fetch_add(&memory->references, 1);
	}
	return memory;
}

void guest_memory_unref(struct guest_memory *memory)
{
	if (!memory || atomic_fetch_sub(&memory->references, 1) > 1) {
		return;
	}
	for (size_t i = 0; i < memory->num_regions; i++) {
		mapping_unref(memory->regions[i].mapping);
	}
	free(memory);
}

bool guest_memory_is_lost(const struct guest_memory *memory)
{
	for (size_t i = 0; memory && i < memory->num_regions; i++) {
		if (memory_fault_is_lost(memory->regions[i].mapping->range)) {
			return true;
		}
	}
	return false;
}

/* ---- Translating -------------------------------------------------------------------------- */

/* The region with this address, or NULL. */
static const struct region *find_region(const struct guest_memory *memory, uint64_t guest_addr)
{
	size_t low = 0, high = memory->num_regions;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct region *region = &memory->regions[middle];

		if (guest_addr < region->where.guest_addr) {
			high = middle;
		} else if (guest_addr - region->where.guest_addr >= region->where.size) {
			low = middle + 1;
		} else {
			return region;
		}
	}
	return NULL;
}

int guest_memory_map(const struct guest_memory *memory, uint64_t guest_addr, uint64_t size,
	struct iovec *iov, size_t max_iov)
{
	size_t count = 0;

	while (size > 0) {
		const struct region *region = memory ? find_region(memory, guest_addr) : NULL;
		uint64_t at, length;

		if (!region) {
			return -EFAULT;
		}
		if (count == max_iov) {
			return -E2BIG;
		}
		at = guest_addr - region->where.guest_addr;
		length = region->where.size - at < size ? region->where.size - at : size;
		iov[count++] = (struct iovec){ region->mapping->start + at, (size_t)length };
		guest_addr += length; /* a region's end does not wrap */
		size -= length;
	}
	return (int)count;
}

void *guest_memory_user(const struct guest_memory *memory, uint64_t user_addr, uint64_t size)
{
	for (size_t i = 0; memory && i < memory->num_regions; i++) {
		const struct region *region = &memory->regions[i];
		uint64_t at = user_addr - region->where.user_addr;

		if (user_addr >= region->where.user_addr && at < region->where.size &&
			size <= region->where.size - at) {
			return region->mapping->start + at;
		}
	}
	return NULL;
}

int guest_memory_file(const struct guest_memory *memory, const void *start, uint64_t size,
	struct file_piece *piece)
{
	for (size_t i = 0; memory && i < memory->num_regions; i++) {
		const struct mapping *mapping = memory->regions[i].mapping;
		uint64_t at = (uint64_t)((uintptr_t)start - (uintptr_t)mapping->start);

		if ((uintptr_t)start < (uintptr_t)mapping->start || at >= mapping->size) {
			continue;
		}
		*piece = (struct file_piece){
			.fd = mapping->fd,
			.offset = mapping->offset + at,
			.size = mapping->size - at < size ? mapping->size - at : size,
		};
		return mapping->fd >= 0 ? 0 : -EMFILE;
	}
	return -EFAULT;
}
