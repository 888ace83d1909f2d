/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A guest's SUBMIT_3D request, made into a submission.
 *
 * The bytes are the guest's, which can change them at any time: nothing is read twice, what was
 * checked is a copy. Counts are compared with the bytes that are there before memory is allocated.
 */

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vgfence/submit_3d.h>
#include <vgfence/vgfence.h>

#include "export.h"
#include "options.h"
#include "virtio_gpu.h"

struct fault {
	int error;
	const char *reason;
};

static const struct fault short_header = { -EBADMSG, "shorter than a request header" };
static const struct fault bad_ring = { -EINVAL, "ring index of 64 or above" };
static const struct fault bad_type = { -EINVAL, "not a SUBMIT_3D request" };
static const struct fault short_request = { -EBADMSG, "shorter than a SUBMIT_3D request" };
static const struct fault short_in_fences = { -EBADMSG, "in-fence IDs reach past the end" };
static const struct fault short_command = { -EBADMSG, "command stream reaches past the end" };
static const struct fault odd_command = { -EINVAL, "command stream is no multiple of 4 bytes" };
static const struct fault many_in_fences = { -E2BIG, "more in-fences than the limit" };
static const struct fault long_command = { -E2BIG, "command stream longer than the limit" };
static const struct fault bad_limits = { -EINVAL, "the limits have reserved members" };
static const struct fault no_memory = { -ENOMEM, "out of memory" };

/* What has not been read yet of an iovec. */
struct reader {
	const struct iovec *iov;
	size_t count;
	size_t offset; /* into iov[0] */
};

/* Whether `size` more bytes are there. Subtracts, as the sum of all lengths may overflow. */
static bool reader_has(const struct reader *reader, uint64_t size)
{
	size_t offset = reader->offset;

	for (size_t i = 0; i < reader->count; i++) {
		if (reader->iov[i].iov_len - offset >= size) {
			return true;
		}
		size -= reader->iov[i].iov_len - offset;
		offset = 0;
	}
	return size == 0;
}

/* Copies `size` bytes, which the caller knows to be there. */
static void reader_read(struct reader *reader, void *data, size_t size)
{
	char *to = data;

	while (size > 0) {
		size_t length = reader->iov->iov_len - reader->offset;

		if (length == 0) {
			reader->iov++;
			reader->count--;
			reader->offset = 0;
			continue;
		}
		if (length > size) {
			length = size;
		}
		memcpy(to, (const char *)reader->iov->iov_base + reader->offset, length);
		reader->offset += length;
		to += length;
		size -= length;
	}
}

/* Fills in what a fence needs. It comes before all else, so that a request that turns out to be bad
 * can still be answered in its turn. */
static const struct fault *decode_header(const struct virtio_gpu_ctrl_hdr *header,
	bool fence_passing, struct vgf_submission *submission)
{
	uint32_t flags = le32toh(header->flags);
	bool has_ring = flags & VIRTIO_GPU_FLAG_INFO_RING_IDX;

	if (has_ring && header->ring_idx >= VGF_MAX_RINGS) {
		return &bad_ring;
	}
	submission->fence.ctx_id = le32toh(header->ctx_id);
	submission->fence.ring = has_ring ? header->ring_idx : VGF_RING_GLOBAL;
	if (flags & VIRTIO_GPU_FLAG_FENCE) {
		submission->fence.fence_id = le64toh(header->fence_id);
		submission->flags = VGF_FENCED;
		if (fence_passing && (flags & VIRTIO_GPU_FLAG_FENCE_SHAREABLE)) {
			submission->flags |= VGF_SHAREABLE;
		}
	}
	return le32toh(header->type) == VIRTIO_GPU_CMD_SUBMIT_3D ? NULL : &bad_type;
}

/*
 * What the request itself gets wrong comes before the limits, which are the host's.
 *
 * More bytes than the request needs are fine: the specification leaves it to the guest how buffers
 * make up a request, `size` alone says where the command stream ends, and other devices do
 * not look further either.
 */
static const struct fault *check_sizes(const struct reader *reader, uint32_t num_in_fences,
	uint32_t size, const struct vgf_limits *limits)
{
	uint64_t in_fences_size = (uint64_t)num_in_fences * sizeof(uint64_t);
	uint32_t max_in_fences = DEFAULT_MAX_IN_FENCES;
	uint32_t max_command_size = DEFAULT_MAX_COMMAND_SIZE;

	if (limits && limits->max_in_fences > 0) {
		max_in_fences = limits->max_in_fences;
	}
	if (limits && limits->max_command_size > 0) {
		max_command_size = limits->max_command_size;
	}

	if (!reader_has(reader, in_fences_size)) {
		return &short_in_fences;
	}
	if (!reader_has(reader, in_fences_size + size)) {
		return &short_command;
	}
	if (size % 4 != 0) {
		return &odd_command;
	}
	if (limits && limits_have_reserved(limits)) {
		return &bad_limits;
	}
	if (num_in_fences > max_in_fences) {
		return &many_in_fences;
	}
	if (size > max_command_size) {
		return &long_command;
	}
	return NULL;
}

/* IDs and command stream go into one block, the IDs first as they need the alignment. */
static const struct fault *read_payload(
	struct reader *reader, uint32_t num_in_fences, uint32_t size, struct vgf_submit_3d *submit)
{
	uint64_t *in_fences = NULL;
	size_t total;

	if (num_in_fences == 0 && size == 0) {
		return NULL;
	}
	/* On a 32-bit host a guest can make a chain longer than memory, of one page many times. */
	if (!__builtin_add_overflow((uint64_t)num_in_fences * sizeof(*in_fences), size, &total)) {
		in_fences = malloc(total);
	}
	if (!in_fences) {
		return &no_memory;
	}
	reader_read(reader, in_fences, total);
	for (uint32_t i = 0; i < num_in_fences; i++) {
		in_fences[i] = le64toh(in_fences[i]);
	}

	submit->storage = in_fences;
	submit->submission.num_in_fences = num_in_fences;
	submit->submission.in_fences = in_fences;
	submit->submission.command = in_fences + num_in_fences;
	submit->submission.size = size;
	return NULL;
}

static const struct fault *decode(struct reader *reader, bool fence_passing,
	const struct vgf_limits *limits, struct vgf_submit_3d *submit)
{
	struct virtio_gpu_cmd_submit request;
	const size_t header_size = sizeof(request.hdr);
	const struct fault *fault;
	uint32_t num_in_fences, size;

	if (!reader_has(reader, header_size)) {
		return &short_header;
	}
	reader_read(reader, &request.hdr, header_size);
	fault = decode_header(&request.hdr, fence_passing, &submit->submission);
	if (fault) {
		return fault;
	}

	if (!reader_has(reader, sizeof(request) - header_size)) {
		return &short_request;
	}
	reader_read(reader, (char *)&request + header_size, sizeof(request) - header_size);
	size = le32toh(request.size);
	num_in_fences = fence_passing ? le32toh(request.num_in_fences) : 0;
	fault = check_sizes(reader, num_in_fences, size, limits);
	if (fault) {
		return fault;
	}
	return read_payload(reader, num_in_fences, size, submit);
}

VGF_EXPORT int vgf_submit_3d_decode(const struct iovec *iov, size_t iov_count, bool fence_passing,
	const struct vgf_limits *limits, struct vgf_submit_3d *submit, const char **reason)
{
	struct reader reader = { .iov = iov, .count = iov_count };
	const struct fault *fault;

	*submit = (struct vgf_submit_3d){ 0 };
	fault = decode(&reader, fence_passing, limits, submit);
	if (reason) {
		*reason = fault ? fault->reason : NULL;
	}
	return fault ? fault->error : 0;
}

VGF_EXPORT void vgf_submit_3d_finish(struct vgf_submit_3d *submit)
{
	free(submit->storage);
	*submit = (struct vgf_submit_3d){ 0 };
}
