/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Guest memory as dma-bufs. What cannot be one is told apart anywhere; the rest needs /dev/udmabuf,
 * which a virtual host has.
 */

#include "gpu_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "exported.h"
#include "gpu_private.h"
#include "guest_memory.h"
#include "sw_sync.h"
#include "udmabuf.h"

#define PAGE 4096u
#define NUM_PAGES 16u
#define SIDE 32u
#define OK VIRTIO_GPU_RESP_OK_NODATA

static bool has_udmabuf(void)
{
	return access("/dev/udmabuf", R_OK | W_OK) == 0;
}

/* A file in memory, whose pages have their number in each word. */
static int make_memory(int seals)
{
	uint32_t page[PAGE / 4];
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	for (uint32_t i = 0; i < NUM_PAGES; i++) {
		for (size_t j = 0; j < PAGE / 4; j++) {
			page[j] = i;
		}
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	}
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static int create(int fd, uint64_t offset, uint64_t size)
{
	const struct file_piece piece = { fd, offset, size };

	return udmabuf_create(&piece, 1);
}

/* ---- What cannot be one --------------------------------------------------------------------- */

TEST(pieces_are_whole_pages)
{
	int fd = make_memory(F_SEAL_SHRINK);

	assert_int_equal(udmabuf_create(NULL, 0), -EINVAL);
	assert_int_equal(create(fd, 0, 0), -EINVAL);
	assert_int_equal(create(fd, 1, PAGE), -EINVAL);
	assert_int_equal(create(fd, PAGE / 2, PAGE), -EINVAL);
	assert_int_equal(create(fd, 0, PAGE + 4), -EINVAL);
	assert_int_equal(create(fd, 0, UINT64_MAX), -EINVAL);
	close(fd);
}

TEST(there_are_limits)
{
	int fd = make_memory(F_SEAL_SHRINK);
	struct file_piece pieces[1025];

	for (size_t i = 0; i < 1025; i++) {
		pieces[i] = (struct file_piece){ fd, 0, PAGE };
	}
	assert_int_equal(udmabuf_create(pieces, 1025), -E2BIG);
	for (size_t i = 0; i < 1024; i++) {
		pieces[i].size = UINT64_C(1) << 62;
	}
	assert_int_equal(udmabuf_create(pieces, 1024), -EFBIG);
	pieces[0].size = UINT64_MAX - PAGE + 1;
	assert_int_equal(udmabuf_create(pieces, 1), -EFBIG);
	close(fd);
}

TEST(other_files_are_told_apart)
{
	int open_memory = make_memory(0), no_writing = make_memory(F_SEAL_SHRINK | F_SEAL_WRITE);
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	assert_int_equal(create(open_memory, 0, PAGE), -EPERM);
	assert_int_equal(create(no_writing, 0, PAGE), -EPERM);
	assert_int_equal(create(file, 0, PAGE), -EMEDIUMTYPE);
	close(open_memory);
	close(no_writing);
	close(file);
}

TEST(without_the_device_it_says_so)
{
	int fd = make_memory(F_SEAL_SHRINK), dma_buf;

	dma_buf = create(fd, 0, PAGE);
	if (has_udmabuf()) {
		assert_true(dma_buf >= 0);
		close(dma_buf);
	} else {
		assert_int_equal(dma_buf, -ENODEV);
	}
	close(fd);
}

/* ---- Content -------------------------------------------------------------------------------- */

static void need_udmabuf(void)
{
	if (!has_udmabuf()) {
		print_message("there is no /dev/udmabuf: ./run vm has one\n");
		skip();
	}
}

static uint32_t word_at(int dma_buf, size_t offset)
{
	size_t start = offset & ~(size_t)(PAGE - 1);
	uint32_t *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, dma_buf, (off_t)start);
	uint32_t word;

	assert_true(page != MAP_FAILED);
	word = page[(offset - start) / 4];
	munmap(page, PAGE);
	return word;
}

TEST(pieces_follow_each_other)
{
	static const uint32_t expected[] = { 5, 0, 1, 15 };
	const uint32_t word = 0x12345678;
	struct file_piece pieces[] = { { -1, 5 * PAGE, PAGE }, { -1, 0, 2 * PAGE },
		{ -1, 15 * PAGE, PAGE } };
	int dma_buf, fd;

	need_udmabuf();
	fd = make_memory(F_SEAL_SHRINK);
	pieces[0].fd = pieces[1].fd = pieces[2].fd = fd;
	dma_buf = udmabuf_create(pieces, 3);
	assert_true(dma_buf >= 0);
	assert_int_equal(lseek(dma_buf, 0, SEEK_END), 4 * PAGE);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(word_at(dma_buf, i * PAGE), expected[i]);
	}
	/* It is the memory itself. */
	assert_int_equal(pwrite(fd, &word, sizeof(word), 15 * PAGE + 8), sizeof(word));
	assert_int_equal(word_at(dma_buf, 3 * PAGE + 8), word);
	close(dma_buf);
	close(fd);
}

/* A virtual host's own pages: this machine's are not ours to take. */
static bool take_huge_pages(void)
{
	int fd = getenv("VGFENCE_VM") != NULL ?
		open("/proc/sys/vm/nr_hugepages", O_WRONLY | O_CLOEXEC) :
		-1;
	bool taken = fd >= 0 && write(fd, "2", 1) == 1;

	if (fd >= 0) {
		close(fd);
	}
	return taken;
}

TEST(huge_pages_are_taken_or_told_apart)
{
	uint32_t *memory;
	int fd, dma_buf;

	need_udmabuf();
	if (!take_huge_pages()) {
		print_message("no huge pages: ./run vm --kind qemu has some\n");
		skip();
	}
	fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 2 << 20), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	memory = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(memory != MAP_FAILED);
	memory[5 * PAGE / 4] = 0xabcdef;
	dma_buf = create(fd, 5 * PAGE, PAGE);
	if (dma_buf >= 0) {
		assert_int_equal(word_at(dma_buf, 0), 0xabcdef);
		close(dma_buf);
	} else {
		assert_int_equal(dma_buf, -EOPNOTSUPP);
	}
	print_message("huge pages: %s\n", dma_buf >= 0 ? "taken" : "refused by this kernel");
	munmap(memory, 2 << 20);
	close(fd);
}

/* ---- What a guest shows --------------------------------------------------------------------- */

static struct guest guest;

static void start(void)
{
	guest_start(&guest, NULL);
	assert_int_equal(fcntl(guest.memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
}

/* A test that is skipped is so before it has made anything. */
static void start_with_udmabuf(void)
{
	need_udmabuf();
	start();
}

static void start_without_udmabuf(void)
{
	if (has_udmabuf()) {
		print_message("there is a /dev/udmabuf: this is for a machine without\n");
		skip();
	}
	start();
}

#define TEST_GUEST(name) TEST_BETWEEN(name, start(), guest_stop(&guest))
#define TEST_IN_PLACE(name) TEST_BETWEEN(name, start_with_udmabuf(), guest_stop(&guest))
#define TEST_COPIED(name) TEST_BETWEEN(name, start_without_udmabuf(), guest_stop(&guest))

static uint32_t show(uint32_t resource_id)
{
	return show_blob(&guest, 0, resource_id, SIDE);
}

static void draw(size_t offset, uint32_t pixel)
{
	*(uint32_t *)(guest.memory + offset) = htole32(pixel);
}

TEST_IN_PLACE(a_display_reads_what_the_guest_draws)
{
	struct gpu_buffer buffer;

	assert_int_equal(create_blob(&guest, 1, 8 * PAGE, PAGE), OK);
	assert_int_equal(show(1), OK);
	draw(8 * PAGE, 0x00ff00);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
	assert_int_equal(word_at(buffer.fd, buffer.offset), 0x00ff00);
	draw(8 * PAGE, 0x0000ff);
	assert_int_equal(word_at(buffer.fd, buffer.offset), 0x0000ff);
	close(buffer.fd);
}

TEST_IN_PLACE(the_memory_comes_back_when_the_display_has_released_it)
{
	struct virtio_gpu_resource_detach_backing detach = {
		.hdr.type = htole32(VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING),
		.resource_id = htole32(1),
	};
	struct gpu_buffer buffer;
	int before;
	uint32_t token;

	assert_int_equal(create_blob(&guest, 1, 8 * PAGE, PAGE), OK);
	assert_int_equal(show(1), OK);
	before = count_fds();
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
	close(buffer.fd);
	assert_true(count_fds() > before); /* it is kept for the next frame */
	token = guest_send(&guest, GPU_QUEUE_CONTROL, &detach, sizeof(detach), sizeof(detach.hdr));
	assert_int_equal(guest.leaving, buffer.key);
	assert_false(guest.responses[GPU_QUEUE_CONTROL][token].done);
	gpu_tell_released(guest.gpu, buffer.key);
	guest_wait(&guest, GPU_QUEUE_CONTROL, token);
	assert_int_equal(count_fds(), before);
}

TEST_IN_PLACE(there_are_only_so_many)
{
	struct gpu_buffer buffer;
	int before;

	before = count_fds();
	for (uint32_t id = 1; id <= MAX_DMA_BUFS + 1; id++) {
		int expected = id <= MAX_DMA_BUFS ? 0 : -ENOSPC;

		assert_int_equal(create_blob(&guest, id, 8 * PAGE, PAGE), OK);
		assert_int_equal(show(id), OK);
		assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), expected);
		if (expected == 0) {
			close(buffer.fd);
		}
	}
	assert_int_equal(count_fds(), before + MAX_DMA_BUFS + MAX_EXPORTED);
	guest_reset(&guest);
	assert_int_equal(count_fds(), before);
}

TEST_GUEST(memory_that_is_not_whole_pages_is_copied_and_that_is_told_once)
{
	struct gpu_buffer buffer;

	for (uint32_t id = 1; id <= 3; id++) {
		assert_int_equal(create_blob(&guest, id, 8 * PAGE + 16, PAGE), OK);
		assert_int_equal(show(id), OK);
		assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EOPNOTSUPP);
		assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EOPNOTSUPP);
	}
	assert_int_equal(guest.num_errors, 1);
}

/* ---- What the software renderer shows ------------------------------------------------------- */

static uint32_t show_2d(uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_set_scanout request = {
		.hdr.type = htole32(VIRTIO_GPU_CMD_SET_SCANOUT),
		.r = { .width = htole32(width), .height = htole32(height) },
		.resource_id = htole32(resource_id),
	};

	return guest_call(&guest, &request, sizeof(request));
}

static uint32_t transfer(uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_transfer_to_host_2d request = {
		.hdr.type = htole32(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D),
		.r = { .width = htole32(width), .height = htole32(height) },
		.resource_id = htole32(resource_id),
	};

	return guest_call(&guest, &request, sizeof(request));
}

static void make_2d(uint32_t resource_id, uint32_t width, uint32_t height)
{
	assert_int_equal(create_2d(&guest, resource_id, width, height), OK);
	assert_int_equal(attach_backing(&guest, resource_id, 8 * PAGE, width * height * 4), OK);
	assert_int_equal(show_2d(resource_id, width, height), OK);
}

static void flush_2d(uint32_t resource_id, uint32_t width, uint32_t height, uint64_t fence_id)
{
	uint32_t token = send_flush(&guest, resource_id, width, height, fence_id);

	assert_int_equal(guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type, OK);
}

/* Also one that does not fill a page, and without a page of the guest's at its beginning. */
TEST_IN_PLACE(a_2d_resource_is_read_in_place)
{
	static const uint32_t sides[][2] = { { SIDE, SIDE }, { 5, 3 }, { 33, 41 } };
	struct gpu_buffer buffer, again;

	for (uint32_t i = 0; i < 3; i++) {
		uint32_t width = sides[i][0], height = sides[i][1];
		size_t last = ((size_t)width * height - 1) * 4;

		make_2d(i + 1, width, height);
		draw(8 * PAGE + last, 0x00ff00);
		assert_int_equal(transfer(i + 1, width, height), OK);
		flush_2d(i + 1, width, height, i + 1);
		assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
		assert_int_equal(buffer.stride, width * 4);
		assert_int_equal(buffer.drm_format, 0x34325258); /* XR24 */
		assert_int_equal(word_at(buffer.fd, buffer.offset + last), 0x00ff00);
		draw(8 * PAGE + last, 0x0000ff); /* it is shown when it has been transferred */
		assert_int_equal(word_at(buffer.fd, buffer.offset + last), 0x00ff00);
		assert_int_equal(transfer(i + 1, width, height), OK);
		assert_int_equal(word_at(buffer.fd, buffer.offset + last), 0x0000ff);
		assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &again), 0);
		assert_int_equal(again.key, buffer.key);
		assert_int_equal(word_at(again.fd, again.offset + last), 0x0000ff);
		close(again.fd);
		close(buffer.fd);
	}
}

TEST_IN_PLACE(a_guest_that_does_not_ask_what_is_shown_may_draw_so_its_pixels_are_copied)
{
	struct gpu_buffer buffer;

	make_2d(1, SIDE, SIDE);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EOPNOTSUPP);
	flush_2d(1, SIDE, SIDE, 1);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
	close(buffer.fd);
	flush_2d(1, SIDE, SIDE, 0);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EOPNOTSUPP);
	assert_int_equal(guest.num_errors, 0);
}

TEST_IN_PLACE(a_2d_resource_takes_descriptors_only_while_it_is_there)
{
	struct gpu_buffer buffer;
	int before;

	before = count_fds();
	make_2d(1, SIDE, SIDE);
	assert_int_equal(count_fds(), before);
	flush_2d(1, SIDE, SIDE, 1);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
	close(buffer.fd);
	gpu_tell_released(guest.gpu, buffer.key);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(count_fds(), before);
}

TEST_IN_PLACE(a_blob_of_the_hosts_is_read_in_place)
{
	struct gpu_buffer buffer;

	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_host_blob(&guest, 1, PAGE), OK);
	assert_int_equal(map_blob(&guest, 1, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_int_equal(show(1), OK);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
	*(uint32_t *)guest.window.memory = htole32(0x123456);
	assert_int_equal(word_at(buffer.fd, buffer.offset), 0x123456);
	close(buffer.fd);
}

TEST_COPIED(without_the_device_a_2d_resource_is_copied_and_that_is_told_once)
{
	struct gpu_buffer buffer;
	int before;

	before = count_fds();
	for (uint32_t id = 1; id <= 3; id++) {
		make_2d(id, SIDE, SIDE);
		flush_2d(id, SIDE, SIDE, id);
		assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EOPNOTSUPP);
	}
	assert_int_equal(guest.num_errors, 1);
	assert_int_equal(count_fds(), before);
}

/* ---- Frames that are not drawn yet ---------------------------------------------------------- */

static struct gpu_buffer taken;

static bool take(uint32_t scanout, uint64_t frame, const struct gpu_buffer *buffer)
{
	(void)scanout;
	(void)frame;
	taken = *buffer;
	return true;
}

static int poll_taken(void)
{
	struct pollfd poll_fd = { .fd = taken.acquire_fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0);
}

static void need_sw_sync(void)
{
	if (access(SW_SYNC_PATH, R_OK | W_OK) < 0) {
		print_message("there is no " SW_SYNC_PATH ": ./run vm has one\n");
		skip();
	}
}

static void start_with_sw_sync(void)
{
	need_sw_sync();
	start_with_udmabuf();
}

/* A flush behind a fence of the kernel's, of the guest's own pages. */
TEST_BETWEEN(
	a_frame_is_offered_with_the_kernels_own_fence, start_with_sw_sync(), guest_stop(&guest))
{
	const struct flush_request behind = {
		.resource_id = 1,
		.width = SIDE,
		.height = SIDE,
		.num_in_fences = 1,
		.in_fences = { 1 },
	};
	struct vgf_device *device = guest.gpu->renderer->ops->get_device(guest.gpu->renderer);
	int timeline = sw_sync_timeline();
	uint32_t held, flushed;

	assert_int_equal(create_blob(&guest, 1, 8 * PAGE, PAGE), OK);
	assert_int_equal(show(1), OK);
	assert_int_equal(create_context(&guest, 1), OK);
	held = guest_hold(&guest, 1, 5, 1);
	assert_int_equal(
		vgf_fence_publish_take(device, &guest.held[held], sw_sync_fence(timeline, 1)), 0);
	taken = (struct gpu_buffer){ .fd = -1, .acquire_fd = -1 };
	guest.tells = true;
	guest.on_offer = take;
	flushed = send_flush_behind(&guest, &behind);
	assert_true(taken.fd >= 0 && taken.acquire_fd >= 0);
	assert_int_equal(poll_taken(), 0);
	assert_int_equal(sw_sync_advance(timeline, 1), 0);
	assert_int_equal(poll_taken(), 1);
	close(taken.fd);
	close(taken.acquire_fd);
	guest_signal(&guest, held);
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, flushed)).type, OK);
	gpu_tell_released(guest.gpu, taken.key);
	close(timeline);
}

static void start_with_sync_files(void)
{
	const struct gpu_options options = {
		.num_scanouts = 1,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.renderer.sync_files = true,
	};

	need_sw_sync();
	need_udmabuf();
	guest_start(&guest, &options);
	assert_int_equal(fcntl(guest.memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
}

/* A flush behind a job of the software GPU, which waits for a fence of the test's. */
TEST_BETWEEN(
	a_frame_is_offered_with_the_fence_of_its_job, start_with_sync_files(), guest_stop(&guest))
{
	const struct job job = {
		.ctx_id = 1,
		.fence_id = 2,
		.resource_id = 1,
		.value = 0x00ff00,
		.num_in_fences = 1,
		.in_fences = { 1 },
	};
	struct vgf_device *device = guest.gpu->renderer->ops->get_device(guest.gpu->renderer);
	int timeline = sw_sync_timeline();
	uint32_t gate, drawn;

	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_blob(&guest, 1, 8 * PAGE, PAGE), OK);
	assert_int_equal(attach_context(&guest, 1, 1), OK);
	assert_int_equal(show(1), OK);
	gate = guest_hold(&guest, 1, 5, 1);
	assert_int_equal(
		vgf_fence_publish_take(device, &guest.held[gate], sw_sync_fence(timeline, 1)), 0);
	drawn = submit(&guest, &job);
	taken = (struct gpu_buffer){ .fd = -1, .acquire_fd = -1 };
	guest.tells = true;
	guest.on_offer = take;
	send_flush(&guest, 1, SIDE, SIDE, 0);
	assert_true(taken.fd >= 0 && taken.acquire_fd >= 0);
	assert_int_equal(poll_taken(), 0);
	assert_int_equal(sw_sync_advance(timeline, 1), 0);
	guest_signal(&guest, gate);
	guest_wait(&guest, GPU_QUEUE_CONTROL, drawn);
	assert_int_equal(poll_taken(), 1);
	assert_int_equal(word_at(taken.fd, taken.offset), 0x00ff00);
	close(taken.fd);
	close(taken.acquire_fd);
	gpu_tell_shown(guest.gpu, 0, 1);
	gpu_tell_released(guest.gpu, taken.key);
	close(timeline);
}
