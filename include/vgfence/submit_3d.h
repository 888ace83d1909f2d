/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_SUBMIT_3D_H
#define VGFENCE_SUBMIT_3D_H

/*
 * From the bytes of a guest's SUBMIT_3D request to a submission. For VMMs that do not decode it
 * themselves. The rules of <vgfence/vgfence.h> hold here, too.
 */

#include <sys/uio.h>

#include <vgfence/vgfence.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A decoded SUBMIT_3D request. It has a copy of everything. */
struct vgf_submit_3d {
	struct vgf_submission submission;
	void *storage; /* the memory of in_fences and command */
};

/*
 * Decodes a SUBMIT_3D request (type 0x0207, struct virtio_gpu_cmd_submit: a header of 24 bytes,
 * le32 size, le32 num_in_fences, then num_in_fences le64 IDs, then size bytes of command stream).
 *
 * - iov: the device-readable part of the descriptor chain, in any pieces. Each byte is read once: a
 *   guest that changes it meanwhile changes nothing that was checked.
 * - fence_passing: whether the feature was negotiated. If not, num_in_fences is padding and is
 *   ignored, and so is VIRTIO_GPU_FLAG_FENCE_SHAREABLE.
 * - limits: those of the device; NULL for the defaults.
 * - reason: set to a static string that says what is wrong, or to NULL. May be NULL.
 *
 * Returns 0: call vgf_submit_3d_finish when the request is not needed any more. Or an error, after
 * which there is nothing to finish:
 * - -EBADMSG: shorter than a header; in-fence IDs or command stream past the end;
 * - -EINVAL: not a SUBMIT_3D; a command stream that is no multiple of 4; a ring of 64 or above;
 *   reserved members of the limits that are not 0;
 * - -E2BIG: more in-fences or a longer command stream than the limits;
 * - -ENOMEM.
 * After an error, submission.flags has VGF_FENCED if the request's fence is known; submission.fence
 * is then for vgf_fence_refuse. It is not known if the header is too short or the ring is bad.
 */
int vgf_submit_3d_decode(const struct iovec *iov, size_t iov_count, bool fence_passing,
	const struct vgf_limits *limits, struct vgf_submit_3d *submit, const char **reason);

/* Frees what vgf_submit_3d_decode allocated; the struct may be used again. */
void vgf_submit_3d_finish(struct vgf_submit_3d *submit);

#ifdef __cplusplus
}
#endif

#endif
