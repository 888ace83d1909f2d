/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "drm_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xf86drm.h>

#include "drm_context.h"
#include "drm_gpu.h"

#define PAGE UINT64_C(4096)

static void call(const struct drm_guest *guest, unsigned long request, void *arg)
{
	assert_int_equal(drmIoctl(guest->drm_fd, request, arg), 0);
}

/* ---- Buffers ------------------------------------------------------------------------------ */

static uint64_t create_buffer(struct drm_guest *guest, struct drm_buffer *buffer)
{
	struct drm_msm_gem_new gem_new = { .size = buffer->size, .flags = MSM_BO_WC };
	struct drm_msm_gem_info info = { .info = MSM_INFO_GET_OFFSET };
	struct drm_panfrost_create_bo create = { .size = (uint32_t)buffer->size };
	struct drm_panfrost_mmap_bo map = { 0 };

	if (guest->is_msm) {
		call(guest, DRM_IOCTL_MSM_GEM_NEW, &gem_new);
		buffer->handle = info.handle = gem_new.handle;
		call(guest, DRM_IOCTL_MSM_GEM_INFO, &info);
		return info.value;
	}
	call(guest, DRM_IOCTL_PANFROST_CREATE_BO, &create);
	buffer->handle = map.handle = create.handle;
	buffer->address = create.offset;
	call(guest, DRM_IOCTL_PANFROST_MMAP_BO, &map);
	return map.offset;
}

void drm_buffer_init(struct drm_guest *guest, struct drm_buffer *buffer, uint64_t size)
{
	uint64_t offset;

	buffer->size = size;
	offset = create_buffer(guest, buffer);
	buffer->words = mmap(
		NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, guest->drm_fd, (off_t)offset);
	assert_ptr_not_equal(buffer->words, MAP_FAILED);
}

void drm_buffer_finish(struct drm_buffer *buffer)
{
	munmap(buffer->words, buffer->size);
}

void drm_buffer_share(const struct drm_guest *from, const struct drm_buffer *buffer,
	struct drm_guest *to, struct drm_buffer *shared)
{
	struct drm_msm_gem_info info = { .info = MSM_INFO_GET_OFFSET };
	int fd = -1;

	assert_int_equal(
		drmPrimeHandleToFD(from->drm_fd, buffer->handle, DRM_CLOEXEC | DRM_RDWR, &fd), 0);
	*shared = *buffer;
	assert_int_equal(drmPrimeFDToHandle(to->drm_fd, fd, &shared->handle), 0);
	close(fd);
	info.handle = shared->handle;
	call(to, DRM_IOCTL_MSM_GEM_INFO, &info);
	shared->words = mmap(NULL, shared->size, PROT_READ | PROT_WRITE, MAP_SHARED, to->drm_fd,
		(off_t)info.value);
	assert_ptr_not_equal(shared->words, MAP_FAILED);
}

/* ---- Submissions -------------------------------------------------------------------------- */

static int submit_stream(struct drm_guest *guest, int32_t ring, uint64_t id,
	const struct drm_wait *wait, const void *command, size_t size)
{
	struct vgf_submission submission = {
		.fence = make_name(guest->ctx_id, ring, id),
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = wait->ids,
		.in_fence_fds = &wait->fd,
		.num_in_fence_fds = wait->fd > 0,
		.command = command,
		.size = size,
	};
	bool will_retire;
	int ret;

	while (submission.num_in_fences < 8 && wait->ids[submission.num_in_fences] > 0) {
		submission.num_in_fences++;
	}
	ret = vgf_submit(guest->vmm->device, &submission, &will_retire);
	assert_true(will_retire);
	return ret;
}

/* Commands go to a new place, as the GPU may still read those before; once it is at its end, the
 * test has waited for the first of them. */
static uint64_t write_commands(
	struct drm_guest *guest, const struct vgfence_gpu_command *commands, uint32_t count)
{
	uint64_t size = (count + 1) * sizeof(*commands), offset;

	if (guest->used + size > guest->commands.size) {
		guest->used = 0;
	}
	offset = guest->used;
	guest->used += size;
	memcpy((char *)guest->commands.words + offset, commands, count * sizeof(*commands));
	memset((char *)guest->commands.words + offset + count * sizeof(*commands), 0,
		sizeof(*commands));
	return guest->commands.address + offset;
}

int drm_guest_execute(struct drm_guest *guest, int32_t ring, uint64_t id, struct drm_wait wait,
	const struct vgfence_gpu_command *commands, uint32_t count)
{
	const struct drm_context_commands stream = {
		.address = write_commands(guest, commands, count),
		.size = count * sizeof(*commands),
	};

	return submit_stream(guest, ring, id, &wait, &stream, sizeof(stream));
}

int drm_guest_bind(struct drm_guest *guest, uint64_t id, struct drm_wait wait,
	const struct drm_msm_vm_bind_op *ops, uint32_t count)
{
	return submit_stream(guest, DRM_CONTEXT_BIND_RING, id, &wait, ops, count * sizeof(*ops));
}

bool has_retired(struct fake_vmm *vmm, uint64_t id)
{
	vmm_dispatch(vmm);
	for (unsigned int i = 0; i < vmm->num_retired; i++) {
		if (vmm->retired[i].name.fence_id == id) {
			return true;
		}
	}
	return false;
}

int wait_for(struct fake_vmm *vmm, uint64_t id)
{
	while (!has_retired(vmm, id)) {
		struct pollfd fd = { .fd = vgf_device_get_fd(vmm->device), .events = POLLIN };

		assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
	}
	for (unsigned int i = 0; i < vmm->num_retired; i++) {
		if (vmm->retired[i].name.fence_id == id) {
			return vmm->retired[i].status;
		}
	}
	return -ENOENT;
}

/* ---- Contexts ----------------------------------------------------------------------------- */

void drm_guest_open(
	struct drm_guest *guest, struct fake_vmm *vmm, const char *face, uint32_t ctx_id)
{
	struct drm_context *context;

	*guest = (struct drm_guest){ .vmm = vmm, .ctx_id = ctx_id };
	guest->is_msm = strcmp(face, "msm") == 0;
	guest->drm_fd = open_drm_gpu(face);
	assert_true(guest->drm_fd >= 0);
	assert_int_equal(drm_context_create(guest->drm_fd, &context), 0);
	assert_int_equal(vgf_context_create(vmm->device, ctx_id, &drm_context_driver, context), 0);
	drm_buffer_init(guest, &guest->commands, DRM_COMMANDS_SIZE);
}

void drm_guest_bind_commands(struct drm_guest *guest, uint64_t id)
{
	guest->commands.address = DRM_COMMANDS_ADDRESS;
	assert_int_equal(bind_ops(guest, id, NOTHING,
				 MAP(DRM_COMMANDS_ADDRESS, &guest->commands, 0, DRM_COMMANDS_SIZE)),
		0);
}

void drm_guest_init(struct drm_guest *guest, struct fake_vmm *vmm, const char *face,
	uint32_t ctx_id, uint64_t first_id)
{
	drm_guest_open(guest, vmm, face, ctx_id);
	if (guest->is_msm) {
		drm_guest_bind_commands(guest, first_id);
		assert_int_equal(wait_for(vmm, first_id), 0);
	}
}

void drm_guest_finish(struct drm_guest *guest)
{
	drm_buffer_finish(&guest->commands);
	close(guest->drm_fd);
}
