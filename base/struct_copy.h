/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef STRUCT_COPY_H
#define STRUCT_COPY_H

/*
 * Structs that a caller hands over with their size, so that later versions can add members at the
 * end: as copy_struct_from_user does it in the kernel. A caller that was built with an older header
 * leaves the new members out, and they are 0. One that was built with a newer header may use what
 * this version does not know: then the bytes past the end are not 0, and that is an error.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* What is reserved for members that later versions may have has to be that. */
static inline bool is_zero(const void *memory, size_t size)
{
	const unsigned char *bytes = memory;

	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Whether a version may have had this size. These structs begin with it, and so have its alignment:
 * another size would end in the middle of a member. */
static inline bool is_struct_size(size_t given, size_t least)
{
	return given >= least && given % sizeof(size_t) == 0;
}

/* 0, or -EINVAL if no version had that size, -E2BIG if it has more than is known. */
static inline int struct_copy(void *to, size_t known, size_t least, const void *from, size_t given)
{
	if (!is_struct_size(given, least)) {
		return -EINVAL;
	}
	if (given > known && !is_zero((const unsigned char *)from + known, given - known)) {
		return -E2BIG;
	}
	memset(to, 0, known);
	memcpy(to, from, given < known ? given : known);
	return 0;
}

#endif
