/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgf_fence_attach_dma_buf, with an eventfd as dma-buf: what it counts, and what it refuses. It is
 * linked with -Wl,--wrap=vgf_dma_buf_export_sync_file and vgf_dma_buf_import_sync_file.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>

#include "alloc.h"
#include "fake.h"

/* The names are the linker's. */
int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access);
int __wrap_vgf_dma_buf_import_sync_file(int dma_buf_fd, uint32_t access, int fence_fd);

static unsigned int num_imports;

int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access)
{
	int fd = eventfd(1, EFD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int __wrap_vgf_dma_buf_import_sync_file(int dma_buf_fd, uint32_t access, int fence_fd)
{
	assert_true(fcntl(dma_buf_fd, F_GETFD) >= 0 && fcntl(fence_fd, F_GETFD) >= 0);
	num_imports++;
	return 0;
}

static int attach(struct fake_vmm *vmm, uint64_t fence_id, int dma_buf)
{
	return vgf_fence_attach_dma_buf(vmm->device, VGF_HOST, fence_id, dma_buf, VGF_ACCESS_WRITE);
}

/* Of 64 descriptors a context may have 16, and the last one is for fences. */
TEST_VMM(dma_bufs_that_wait_for_a_fence_count_as_its_contexts_descriptors,
	.options.limits.max_fds = 64)
{
	int dma_buf = make_fence(false);

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 0);
	for (unsigned int i = 0; i < 15; i++) {
		assert_int_equal(attach(vmm, 1, dma_buf), 1);
	}
	assert_int_equal(attach(vmm, 1, dma_buf), -EMFILE);
	assert_int_equal(get_stats(vmm).fds, 15);
	assert_int_equal(attach(vmm, 2, dma_buf), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_non_null(strstr(vmm->log, "retired without a descriptor"));
	assert_int_equal(get_stats(vmm).fds, 1);
	close(dma_buf);
}

TEST_VMM(they_count_as_the_devices_descriptors, .options.limits.max_fds = 3)
{
	int dma_buf = make_fence(false);

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(attach(vmm, 1, dma_buf), 1);
	assert_int_equal(attach(vmm, 1, dma_buf), 1);
	assert_int_equal(attach(vmm, 1, dma_buf), -EMFILE);
	close(dma_buf);
}

TEST_VMM(a_dma_buf_gets_the_fence_with_its_descriptor)
{
	const struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 1);
	int dma_buf = make_fence(false);

	num_imports = 0;
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(attach(vmm, 1, dma_buf), 1);
	assert_int_equal(num_imports, 0);
	assert_int_equal(publish_take(vmm->device, &name, make_fence(false)), 0);
	assert_int_equal(num_imports, 1);
	assert_int_equal(get_stats(vmm).fds, 1);
	assert_int_equal(attach(vmm, 1, dma_buf), 0);
	assert_int_equal(num_imports, 2);
	close(dma_buf);
}

/* It is of its own work, whatever is before it. */
TEST_VMM(a_fence_that_has_signalled_is_not_attached)
{
	int dma_buf = make_fence(false);

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 2, VGF_FENCE_DONE), 0);
	assert_int_equal(attach(vmm, 2, dma_buf), -EALREADY);
	assert_int_equal(attach(vmm, 3, dma_buf), -ENOENT);
	close(dma_buf);
}

TEST_VMM(without_memory_or_descriptors_nothing_is_attached)
{
	int dma_buf = make_fence(false);

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	alloc_fail(1);
	assert_int_equal(attach(vmm, 1, dma_buf), -ENOMEM);
	alloc_fail(0);
	limit_fds(0);
	assert_int_equal(attach(vmm, 1, dma_buf), -EMFILE);
	unlimit_fds();
	assert_int_equal(get_stats(vmm).fds, 0);
	assert_int_equal(attach(vmm, 1, dma_buf), 1);
	close(dma_buf);
}
