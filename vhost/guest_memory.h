/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

/*
 * The memory of a guest, mapped: a table of regions. A table never changes; when the front end
 * adds, removes or replaces regions, a new one is made that shares the mappings which stay. A table
 * and its mappings live as long as somebody has a reference. So a request that is being handled, or
 * a resource's backing, never loses its memory.
 *
 * What the guest writes there can change at any time: read each byte once.
 *
 * All of it is memory of the kernel's, so that no access waits for anybody; or of a device that the
 * front end has by VFIO (vfio_dma_buf.h).
 *
 * A front end can also shorten the file while it is mapped. What is lost then reads as zeros, in
 * this process alone, and guest_memory_is_lost says so (see memory_fault.h).
 *
 * A table has a descriptor of each region's file, which those share that have the mapping.
 *
 * References may be taken and dropped by any thread. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct guest_memory;

/* One region, as vhost-user describes it (VhostUserMemoryRegion). */
struct guest_region {
	uint64_t guest_addr; /* its address in the guest */
	uint64_t size;       /* in bytes */
	uint64_t user_addr;  /* its address in the front end; addresses of rings are such */
	uint64_t offset;     /* in the file */
};

/* How many regions a table may have. */
#define GUEST_MEMORY_MAX_REGIONS 64

/*
 * Makes a table. fds: one for each region, borrowed. previous: mappings of the same file, offset
 * and size are shared with it; may be NULL.
 *
 * Returns 0; -EMEDIUMTYPE for what is no file that memory_file.h lets through: touching others
 * may take for ever; -EINVAL for regions that overlap (in either address space), wrap, are empty,
 * or lie past the end of their file; -E2BIG for too many; what mmap says; -ENOMEM.
 */
int guest_memory_create(const struct guest_region *regions, const int *fds, size_t num_regions,
	struct guest_memory *previous, struct guest_memory **out);

/*
 * Makes a table with one region more (VHOST_USER_ADD_MEM_REG), or less (VHOST_USER_REM_MEM_REG:
 * -ENOENT if there is none with these addresses and this size). The one that was there stays as it
 * is. memory: NULL is an empty table.
 */
int guest_memory_add(struct guest_memory *memory, const struct guest_region *region, int fd,
	struct guest_memory **out);
int guest_memory_remove(
	struct guest_memory *memory, const struct guest_region *region, struct guest_memory **out);

struct guest_memory *guest_memory_ref(struct guest_memory *memory); /* NULL is fine, for both */
void guest_memory_unref(struct guest_memory *memory);

/*
 * Where in a file the memory is at a pointer of guest_memory_map: up to `size` bytes, as many as
 * are there one after the other. The descriptor is the table's.
 *
 * Returns 0; -EFAULT for another pointer; -EMFILE if the table has no descriptor for it, as there
 * was none when it was made.
 */
struct file_piece;
int guest_memory_file(const struct guest_memory *memory, const void *start, uint64_t size,
	struct file_piece *piece);

/*
 * Translates `size` bytes at a guest address; they may go on in a region that follows directly.
 * Returns how many entries of iov were written, at least 1 for a size above 0; -EFAULT if not all
 * of it is guest memory; -E2BIG if max_iov are too few. memory: NULL has no bytes.
 */
int guest_memory_map(const struct guest_memory *memory, uint64_t guest_addr, uint64_t size,
	struct iovec *iov, size_t max_iov);

/* Translates an address of the front end's. NULL if not all of it lies in one region. */
void *guest_memory_user(const struct guest_memory *memory, uint64_t user_addr, uint64_t size);

/* Whether some of it has been lost, as its file was shortened. */
bool guest_memory_is_lost(const struct guest_memory *memory);

#endif
