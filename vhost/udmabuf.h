/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef UDMABUF_H
#define UDMABUF_H

/*
 * Pages of files in memory as one dma-buf, by /dev/udmabuf (Linux 4.20; <linux/udmabuf.h>): memory
 * of a guest's that a display, or a GPU, reads in place. The dma-buf has references of its own to
 * the pages.
 *
 * Any thread. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stdint.h>

struct file_piece {
	int fd; /* borrowed */
	uint64_t offset, size;
};

/*
 * Returns a close-on-exec dma-buf, which the caller owns; -ENODEV if there is no /dev/udmabuf, or
 * it may not be opened; -EINVAL if there is no piece, or the offset or size of one is not whole
 * pages; -E2BIG if there are more pieces than the module takes (its parameter list_limit, 1024);
 * -EFBIG if they are larger together than it takes (size_limit_mb, 64); -EMEDIUMTYPE if the file of
 * a piece has no seals, so is no memfd; -EPERM if its size is not sealed against shrinking, or
 * writing is sealed; -EOPNOTSUPP if it has huge pages (hugetlb) and the kernel refuses these: Linux
 * 6.12 takes any 4096 bytes of them, older kernels may not; what the module failed with.
 */
int udmabuf_create(const struct file_piece *pieces, uint32_t count);

/* The module's limits now: pieces of one dma-buf, and bytes. */
uint64_t udmabuf_max_pieces(void);
uint64_t udmabuf_max_size(void);

/* Whether there is a /dev/udmabuf that this process may use. */
bool udmabuf_is_there(void);

/* For a process that will open no more files: opens it for good, if it is there, and reads the
 * limits for the last time. Once, while nobody else uses this. */
void udmabuf_keep(void);

#endif
