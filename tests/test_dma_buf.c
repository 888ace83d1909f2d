/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The fences on a dma-buf. What works without one is tested anywhere. The rest is tested if the
 * kernel has vgem, on a dma-buf of each kind that the kernel makes: vgem's, udmabuf, a heap's.
 */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

#include <vgfence/dma_buf.h>
#include <vgfence/fence.h>
#include <vgfence/sync_file.h>

#include "sw_sync.h"
#include "vgem.h"

#define READ VGF_ACCESS_READ
#define WRITE VGF_ACCESS_WRITE
#define READ_WRITE VGF_ACCESS_READ_WRITE

static const uint32_t accesses[] = { READ, WRITE, READ_WRITE };
#define ACCESSES (sizeof(accesses) / sizeof(accesses[0]))

/* ---- What is no dma-buf ------------------------------------------------------------------- */

TEST(what_is_no_dma_buf_is_enotty)
{
	int fence = make_fence(false), sockets[2], fds[4];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	fds[0] = make_fence(true);
	fds[1] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	fds[2] = sockets[0];
	fds[3] = sockets[1];
	for (size_t i = 0; i < 4; i++) {
		for (size_t j = 0; j < ACCESSES; j++) {
			assert_int_equal(
				vgf_dma_buf_export_sync_file(fds[i], accesses[j]), -ENOTTY);
			assert_int_equal(
				vgf_dma_buf_import_sync_file(fds[i], accesses[j], fence), -ENOTTY);
		}
		close(fds[i]);
	}
	close(fence);
}

TEST(a_descriptor_that_is_not_open_is_ebadf)
{
	int closed = make_fence(false), fence = make_fence(false);
	const int fds[] = { -1, INT_MIN, INT_MAX, closed };

	close(closed);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(vgf_dma_buf_export_sync_file(fds[i], READ), -EBADF);
		assert_int_equal(vgf_dma_buf_import_sync_file(fds[i], READ, fence), -EBADF);
	}
	close(fence);
}

static void assert_accesses_refused(int dma_buf, int fence)
{
	const uint32_t wrong[] = { 0, 4, 7, READ | 8, 1u << 31, UINT32_MAX };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(vgf_dma_buf_export_sync_file(dma_buf, wrong[i]), -EINVAL);
		assert_int_equal(vgf_dma_buf_import_sync_file(dma_buf, wrong[i], fence), -EINVAL);
	}
}

TEST(another_access_is_einval)
{
	int fence = make_fence(false);

	assert_accesses_refused(fence, fence);
	close(fence);
}

/* ---- Buffers and fences ------------------------------------------------------------------- */

static int need_vgem(void)
{
	int vgem = vgem_open();

	if (vgem < 0) {
		print_message("skipped: no vgem device in /dev/dri here; `./run vm` runs this "
			      "where there is one\n");
		skip();
	}
	return vgem;
}

/* Returns its dma-buf. */
static int make_vgem_buffer(int vgem)
{
	uint32_t buffer;
	int dma_buf;

	assert_int_equal(vgem_buffer_create(vgem, &buffer), 0);
	dma_buf = vgem_buffer_export(vgem, buffer);
	vgem_buffer_destroy(vgem, buffer);
	return dma_buf;
}

/* Returns a negative number if the kernel has none. */
static int make_udmabuf(void)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = 4096 };
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	int memory = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int dma_buf = -1;

	assert_true(memory >= 0);
	assert_int_equal(ftruncate(memory, 4096), 0);
	assert_int_equal(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	create.memfd = (__u32)memory;
	if (device >= 0) {
		dma_buf = ioctl(device, UDMABUF_CREATE, &create);
		close(device);
	}
	close(memory);
	return dma_buf;
}

static int make_heap_buffer(void)
{
	struct dma_heap_allocation_data data = { .len = 4096, .fd_flags = O_CLOEXEC | O_RDWR };
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	int ret;

	if (heap < 0) {
		return -1;
	}
	ret = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data);
	close(heap);
	return ret < 0 ? -1 : (int)data.fd;
}

/* Runs a test with a fresh dma-buf of each kind. A virtual host has all of them. */
static void for_each_kind(void (*test)(int vgem, int dma_buf))
{
	int vgem = need_vgem();
	const int buffers[] = { make_vgem_buffer(vgem), make_udmabuf(), make_heap_buffer() };

	for (size_t i = 0; i < 3; i++) {
		if (buffers[i] >= 0) {
			test(vgem, buffers[i]);
			close(buffers[i]);
		} else {
			assert_null(getenv("VGFENCE_VM"));
		}
	}
	close(vgem);
}

static struct vgem_fence make_vgem_fence(int vgem)
{
	struct vgem_fence fence;

	assert_int_equal(vgem_fence_init(vgem, &fence), 0);
	assert_int_equal(vgf_sync_file_status(fence.fd), 0);
	return fence;
}

static void signal_vgem_fence(int vgem, const struct vgem_fence *fence)
{
	assert_int_equal(vgem_fence_signal(vgem, fence), 0);
}

static int export(int dma_buf, uint32_t access)
{
	int fd = vgf_dma_buf_export_sync_file(dma_buf, access);

	assert_true(fd >= 0);
	return fd;
}

static void import(int dma_buf, uint32_t access, int fence_fd)
{
	assert_int_equal(vgf_dma_buf_import_sync_file(dma_buf, access, fence_fd), 0);
}

/* Whether an access would have to wait, as the library's export says. The kernel is asked in
 * another way, and must agree. */
static bool waits(int dma_buf, uint32_t access)
{
	struct pollfd pollfd = { .fd = dma_buf, .events = access == READ ? POLLIN : POLLOUT };
	int fd = export(dma_buf, access);
	int status = vgf_sync_file_status(fd);

	assert_true(status == 0 || status == 1);
	assert_int_equal(vgf_sync_file_poll(fd), status);
	assert_int_equal(poll(&pollfd, 1, 0), status);
	close(fd);
	return status == 0;
}

static void assert_waits(int dma_buf, bool reader, bool writer)
{
	assert_int_equal(waits(dma_buf, READ), reader);
	assert_int_equal(waits(dma_buf, WRITE), writer);
	assert_int_equal(waits(dma_buf, READ_WRITE), writer);
}

/* ---- Who waits for whom ------------------------------------------------------------------- */

/* The control for all that follow: what they see pending comes from what they import. */
static void without_fences(int vgem, int dma_buf)
{
	(void)vgem;
	assert_waits(dma_buf, false, false);
}

TEST(nobody_waits_for_a_buffer_without_fences)
{
	for_each_kind(without_fences);
}

static void with_a_writer(int vgem, int dma_buf)
{
	for (size_t i = 1; i < ACCESSES; i++) {
		struct vgem_fence writer = make_vgem_fence(vgem);

		import(dma_buf, accesses[i], writer.fd);
		assert_waits(dma_buf, true, true);
		signal_vgem_fence(vgem, &writer);
		assert_waits(dma_buf, false, false);
		vgem_fence_finish(vgem, &writer);
	}
}

TEST(everybody_waits_for_a_writer)
{
	for_each_kind(with_a_writer);
}

static void with_readers(int vgem, int dma_buf)
{
	struct vgem_fence readers[] = { make_vgem_fence(vgem), make_vgem_fence(vgem) };

	import(dma_buf, READ, readers[0].fd);
	assert_waits(dma_buf, false, true);
	import(dma_buf, READ, readers[1].fd);
	assert_waits(dma_buf, false, true);
	signal_vgem_fence(vgem, &readers[1]);
	assert_waits(dma_buf, false, true);
	signal_vgem_fence(vgem, &readers[0]);
	assert_waits(dma_buf, false, false);
	vgem_fence_finish(vgem, &readers[0]);
	vgem_fence_finish(vgem, &readers[1]);
}

TEST(writers_alone_wait_for_readers)
{
	for_each_kind(with_readers);
}

static void with_both(int vgem, int dma_buf)
{
	struct vgem_fence reader = make_vgem_fence(vgem), writer = make_vgem_fence(vgem);

	import(dma_buf, READ, reader.fd);
	import(dma_buf, WRITE, writer.fd);
	assert_waits(dma_buf, true, true);
	signal_vgem_fence(vgem, &writer);
	assert_waits(dma_buf, false, true);
	signal_vgem_fence(vgem, &reader);
	assert_waits(dma_buf, false, false);
	vgem_fence_finish(vgem, &reader);
	vgem_fence_finish(vgem, &writer);
}

TEST(a_writer_does_not_replace_a_reader)
{
	for_each_kind(with_both);
}

TEST(a_driver_s_own_fences_are_exported)
{
	int vgem = need_vgem();
	uint32_t buffer, fence;
	int dma_buf;

	assert_int_equal(vgem_buffer_create(vgem, &buffer), 0);
	dma_buf = vgem_buffer_export(vgem, buffer);
	assert_true(dma_buf >= 0);
	for (int write = 0; write <= 1; write++) {
		assert_int_equal(vgem_attach(vgem, buffer, write, &fence), 0);
		assert_waits(dma_buf, write, true);
		assert_int_equal(vgem_signal(vgem, fence), 0);
		assert_waits(dma_buf, false, false);
	}
	close(dma_buf);
	vgem_buffer_destroy(vgem, buffer);
	close(vgem);
}

TEST(an_imported_fence_keeps_a_driver_waiting)
{
	int vgem = need_vgem();
	struct vgem_fence reader = make_vgem_fence(vgem);
	uint32_t buffer, fence;
	int dma_buf;

	assert_int_equal(vgem_buffer_create(vgem, &buffer), 0);
	dma_buf = vgem_buffer_export(vgem, buffer);
	import(dma_buf, READ, reader.fd);
	/* vgem does not wait, but refuses. */
	assert_int_equal(vgem_attach(vgem, buffer, true, &fence), -EBUSY);
	assert_int_equal(vgem_attach(vgem, buffer, false, &fence), 0);
	assert_int_equal(vgem_signal(vgem, fence), 0);
	signal_vgem_fence(vgem, &reader);
	assert_int_equal(vgem_attach(vgem, buffer, true, &fence), 0);
	assert_int_equal(vgem_signal(vgem, fence), 0);
	close(dma_buf);
	vgem_buffer_destroy(vgem, buffer);
	vgem_fence_finish(vgem, &reader);
	close(vgem);
}

/* ---- What is kept ------------------------------------------------------------------------- */

static void with_a_file_closed(int vgem, int dma_buf)
{
	struct vgem_fence writer = make_vgem_fence(vgem);
	int fd;

	import(dma_buf, WRITE, writer.fd);
	close(writer.fd);
	writer.fd = -1;
	fd = export(dma_buf, READ);
	assert_int_equal(vgf_sync_file_status(fd), 0);
	signal_vgem_fence(vgem, &writer);
	assert_int_equal(vgf_sync_file_status(fd), 1);
	close(fd);
	vgem_fence_finish(vgem, &writer);
}

TEST(a_buffer_keeps_the_fence_of_a_closed_file)
{
	for_each_kind(with_a_file_closed);
}

static void before_and_after(int vgem, int dma_buf)
{
	struct vgem_fence first = make_vgem_fence(vgem), second = make_vgem_fence(vgem);
	int none = export(dma_buf, WRITE), one, both;

	import(dma_buf, WRITE, first.fd);
	one = export(dma_buf, WRITE);
	import(dma_buf, WRITE, second.fd);
	both = export(dma_buf, WRITE);
	assert_int_equal(vgf_sync_file_info(one, NULL, 0), 1);
	assert_int_equal(vgf_sync_file_info(both, NULL, 0), 2);
	assert_int_equal(vgf_sync_file_poll(none), 1);
	assert_int_equal(vgf_sync_file_poll(one), 0);
	signal_vgem_fence(vgem, &first);
	assert_int_equal(vgf_sync_file_poll(one), 1);
	assert_int_equal(vgf_sync_file_poll(both), 0);
	signal_vgem_fence(vgem, &second);
	assert_int_equal(vgf_sync_file_poll(both), 1);
	close(none);
	close(one);
	close(both);
	vgem_fence_finish(vgem, &first);
	vgem_fence_finish(vgem, &second);
}

TEST(an_export_has_the_fences_of_its_time)
{
	for_each_kind(before_and_after);
}

static void with_a_merge(int vgem, int dma_buf)
{
	struct vgem_fence fences[] = { make_vgem_fence(vgem), make_vgem_fence(vgem) };
	const int fds[] = { fences[0].fd, fences[1].fd };
	int merged = vgf_sync_file_merge(fds, 2);

	assert_true(merged >= 0);
	import(dma_buf, WRITE, merged);
	signal_vgem_fence(vgem, &fences[1]);
	assert_waits(dma_buf, true, true);
	signal_vgem_fence(vgem, &fences[0]);
	assert_waits(dma_buf, false, false);
	close(merged);
	vgem_fence_finish(vgem, &fences[0]);
	vgem_fence_finish(vgem, &fences[1]);
}

TEST(all_fences_of_a_file_are_imported)
{
	for_each_kind(with_a_merge);
}

static void with_a_signalled_fence(int vgem, int dma_buf)
{
	struct vgem_fence writer = make_vgem_fence(vgem);

	signal_vgem_fence(vgem, &writer);
	import(dma_buf, WRITE, writer.fd);
	assert_waits(dma_buf, false, false);
	vgem_fence_finish(vgem, &writer);
}

TEST(nobody_waits_for_a_fence_that_has_signalled)
{
	for_each_kind(with_a_signalled_fence);
}

static void with_an_error(int vgem, int dma_buf)
{
	int timeline = sw_sync_timeline();
	int fence = sw_sync_fence(timeline, 1);
	int before, after;

	(void)vgem;
	assert_true(fence >= 0);
	import(dma_buf, WRITE, fence);
	before = export(dma_buf, READ);
	assert_int_equal(vgf_sync_file_status(before), 0);
	close(timeline); /* with the fence pending: an error */
	assert_int_equal(vgf_sync_file_status(before), -ENOENT);
	after = export(dma_buf, READ);
	assert_int_equal(vgf_sync_file_status(after), 1);
	close(before);
	close(after);
	close(fence);
}

TEST(an_error_is_told_by_what_was_exported_before)
{
	int timeline = sw_sync_timeline();

	if (timeline < 0) {
		print_message("skipped: no " SW_SYNC_PATH
			      " here; `./run vm --kind uml` runs this where there is one\n");
		skip();
	}
	close(timeline);
	for_each_kind(with_an_error);
}

/* ---- Failures ----------------------------------------------------------------------------- */

static void with_bad_arguments(int vgem, int dma_buf)
{
	int event = make_fence(false), closed = make_fence(false);

	(void)vgem;
	close(closed);
	assert_int_equal(vgf_dma_buf_import_sync_file(dma_buf, WRITE, event), -ENOTTY);
	assert_int_equal(vgf_dma_buf_import_sync_file(dma_buf, WRITE, dma_buf), -ENOTTY);
	assert_int_equal(vgf_dma_buf_import_sync_file(dma_buf, WRITE, closed), -EBADF);
	assert_int_equal(vgf_dma_buf_import_sync_file(dma_buf, WRITE, -2), -EBADF);
	assert_int_equal(vgf_dma_buf_import_sync_file(dma_buf, WRITE, VGF_FENCE_DONE), 0);
	assert_accesses_refused(dma_buf, event);
	assert_waits(dma_buf, false, false);
	close(event);
}

TEST(a_refused_import_changes_nothing)
{
	for_each_kind(with_bad_arguments);
}

static void without_descriptors(int vgem, int dma_buf)
{
	struct vgem_fence writer = make_vgem_fence(vgem);
	int before = count_fds(), imported, none, one;

	limit_fds(0);
	imported = vgf_dma_buf_import_sync_file(dma_buf, WRITE, writer.fd);
	none = vgf_dma_buf_export_sync_file(dma_buf, READ);
	limit_fds(1);
	one = vgf_dma_buf_export_sync_file(dma_buf, READ);
	unlimit_fds();
	assert_int_equal(imported, 0);
	assert_int_equal(none, -EMFILE);
	assert_true(one >= 0);
	assert_int_equal(count_fds(), before + 1);
	assert_true(fcntl(one, F_GETFD) & FD_CLOEXEC);
	close(one);
	signal_vgem_fence(vgem, &writer);
	vgem_fence_finish(vgem, &writer);
}

TEST(an_export_takes_one_descriptor_or_is_emfile)
{
	for_each_kind(without_descriptors);
}
