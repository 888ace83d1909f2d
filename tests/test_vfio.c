/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Memory of a device that the front end has by VFIO. No machine of ours has such a device, so it is
 * a double: a file in memory with two BARs, and what the kernel would answer. What a device, and a
 * kernel that has the feature, really do is not seen here.
 */

#include "gpu_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "guest_memory.h"
#include "vfio_dma_buf.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define PAGE 4096u
#define SIDE 4u

/* Where they are in the device's file. A real one has 1 TiB between them. */
#define BAR0_OFFSET 0u
#define BAR0_SIZE (4 * PAGE)
#define BAR2_OFFSET (8 * PAGE)
#define BAR2_SIZE (8 * PAGE)
#define DEVICE_SIZE (16 * PAGE)

/* Where the guest has BAR 2: behind its memory. */
#define DEVICE_AT GUEST_SIZE

/* ---- The device ----------------------------------------------------------------------------- */

static int device_fd;
static int answer; /* an error; 0: a dma-buf */
static unsigned int num_made, num_asked;
static struct vfio_dma_buf made; /* what was last asked for */
static struct vfio_dma_range ranges[8];

static bool is_device(int fd)
{
	struct stat file, device;

	num_asked++;
	return fstat(fd, &file) == 0 && fstat(device_fd, &device) == 0 &&
		file.st_ino == device.st_ino && file.st_dev == device.st_dev;
}

static int tell_region(struct vfio_region_info *info)
{
	assert_true(info->argsz >= sizeof(*info));
	info->offset = info->index == VFIO_PCI_BAR2_REGION_INDEX ? BAR2_OFFSET : BAR0_OFFSET;
	info->size = info->index == VFIO_PCI_BAR0_REGION_INDEX ? BAR0_SIZE :
		info->index == VFIO_PCI_BAR2_REGION_INDEX      ? BAR2_SIZE :
								 0;
	return 0;
}

static int make(const struct vfio_device_feature *request)
{
	const struct vfio_dma_buf *asked = (const struct vfio_dma_buf *)request->data;

	assert_int_equal(request->flags, VFIO_DEVICE_FEATURE_GET | 11);
	assert_int_equal(request->argsz,
		sizeof(*request) + sizeof(*asked) + asked->nr_ranges * sizeof(ranges[0]));
	assert_true(asked->nr_ranges <= 8);
	made = *asked;
	for (uint32_t i = 0; i < asked->nr_ranges; i++) {
		ranges[i] = asked->dma_ranges[i];
	}
	num_made++;
	return answer < 0 ? answer : fcntl(device_fd, F_DUPFD_CLOEXEC, 0);
}

static int call(int fd, unsigned long request, void *arg)
{
	assert_true(is_device(fd));
	if (request == VFIO_DEVICE_GET_REGION_INFO) {
		return tell_region(arg);
	}
	assert_int_equal(request, VFIO_DEVICE_FEATURE);
	return make(arg);
}

static const struct vfio_calls double_calls = { .is_device = is_device, .call = call };
static const struct vfio_calls *real_calls;

static void start_device(void)
{
	device_fd = memfd_create("device", MFD_CLOEXEC);
	assert_true(device_fd >= 0);
	assert_int_equal(ftruncate(device_fd, DEVICE_SIZE), 0);
	answer = 0;
	num_made = 0;
	real_calls = vfio_calls;
	vfio_calls = &double_calls;
}

static void stop_device(void)
{
	vfio_calls = real_calls;
	close(device_fd);
}

#define TEST_DEVICE(name) TEST_BETWEEN(name, start_device(), stop_device())

/* ---- Pieces --------------------------------------------------------------------------------- */

TEST(what_is_no_device_is_told_apart_by_its_name)
{
	int fds[] = { memfd_create("[vfio-device]", MFD_CLOEXEC), eventfd(0, EFD_CLOEXEC),
		open("/proc/self/exe", O_RDONLY | O_CLOEXEC), -1 };

	for (size_t i = 0; i < 4; i++) {
		assert_false(vfio_is_device(fds[i]));
		if (fds[i] >= 0) {
			close(fds[i]);
		}
	}
}

TEST_DEVICE(pieces_become_ranges_of_their_bar)
{
	const struct file_piece pieces[] = { { device_fd, BAR2_OFFSET + 3 * PAGE, 2 * PAGE },
		{ device_fd, BAR2_OFFSET, PAGE } };
	int dma_buf = vfio_dma_buf_create(pieces, 2);

	assert_true(dma_buf >= 0);
	close(dma_buf);
	assert_int_equal(made.region_index, VFIO_PCI_BAR2_REGION_INDEX);
	assert_int_equal(made.open_flags, O_RDWR | O_CLOEXEC);
	assert_int_equal(made.flags, 0);
	assert_int_equal(made.nr_ranges, 2);
	assert_int_equal(ranges[0].offset, 3 * PAGE);
	assert_int_equal(ranges[0].length, 2 * PAGE);
	assert_int_equal(ranges[1].offset, 0);
	assert_int_equal(ranges[1].length, PAGE);
}

TEST_DEVICE(pieces_that_cannot_be_one_are_not_asked_for)
{
	struct file_piece pieces[] = { { device_fd, BAR2_OFFSET, PAGE },
		{ device_fd, BAR0_OFFSET, PAGE } };

	assert_int_equal(vfio_dma_buf_create(pieces, 0), -EINVAL);
	assert_int_equal(vfio_dma_buf_create(pieces, 2), -EXDEV);
	pieces[1].offset = BAR2_OFFSET + BAR2_SIZE; /* no BAR's */
	assert_int_equal(vfio_dma_buf_create(pieces, 2), -EXDEV);
	pieces[1].offset = BAR2_OFFSET + BAR2_SIZE - PAGE;
	pieces[1].size = 2 * PAGE; /* past the end */
	assert_int_equal(vfio_dma_buf_create(pieces, 2), -EXDEV);
	pieces[1].size = PAGE / 2;
	assert_int_equal(vfio_dma_buf_create(pieces, 2), -EINVAL);
	pieces[1].size = 0;
	assert_int_equal(vfio_dma_buf_create(pieces, 2), -EINVAL);
	pieces[0].offset++;
	assert_int_equal(vfio_dma_buf_create(pieces, 1), -EINVAL);
	pieces[0].offset = UINT64_MAX - PAGE + 1;
	assert_int_equal(vfio_dma_buf_create(pieces, 1), -EXDEV);
	assert_int_equal(num_made, 0);
}

TEST_DEVICE(what_the_kernel_says_is_passed_on)
{
	const struct file_piece piece = { device_fd, BAR0_OFFSET, PAGE };

	answer = -ENOTTY; /* before Linux 6.19, or not this driver */
	assert_int_equal(vfio_dma_buf_create(&piece, 1), -ENOTTY);
	answer = -EBUSY;
	assert_int_equal(vfio_dma_buf_create(&piece, 1), -EBUSY);
}

/* ---- A guest's blob in it ------------------------------------------------------------------- */

static struct guest guest;
static struct guest_memory *table;

/* The guest's memory, and BAR 2. */
static void start(void)
{
	const struct guest_region device = {
		.guest_addr = GUEST_ADDR + DEVICE_AT,
		.size = BAR2_SIZE,
		.user_addr = GUEST_ADDR + DEVICE_AT,
		.offset = BAR2_OFFSET,
	};

	start_device();
	guest_start(&guest, NULL);
	assert_int_equal(guest_memory_add(guest.table, &device, device_fd, &table), 0);
	gpu_set_memory(guest.gpu, table);
}

static void end_test(void)
{
	guest_stop(&guest);
	guest_memory_unref(table);
	stop_device();
}

#define TEST_BLOB(name) TEST_BETWEEN(name, start(), end_test())

static int show(uint32_t offset, uint32_t size, struct gpu_buffer *buffer)
{
	const struct virtio_gpu_set_scanout_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, 0),
		.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
		.resource_id = htole32(1),
		.width = htole32(SIDE),
		.height = htole32(SIDE),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(SIDE * 4) },
	};

	assert_int_equal(create_blob(&guest, 1, offset, size), OK);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	return gpu_get_scanout_buffer(guest.gpu, 0, buffer);
}

TEST_BLOB(a_blob_in_a_device_is_a_dma_buf_of_the_device)
{
	struct gpu_buffer buffer;
	struct stat file, device;

	assert_int_equal(show(DEVICE_AT + 2 * PAGE, 2 * PAGE, &buffer), 0);
	assert_int_equal(num_made, 1);
	assert_int_equal(made.region_index, VFIO_PCI_BAR2_REGION_INDEX);
	assert_int_equal(made.nr_ranges, 1);
	assert_int_equal(ranges[0].offset, 2 * PAGE);
	assert_int_equal(ranges[0].length, 2 * PAGE);
	assert_int_equal(fstat(buffer.fd, &file), 0);
	assert_int_equal(fstat(device_fd, &device), 0);
	assert_int_equal(file.st_ino, device.st_ino);
	close(buffer.fd);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
	assert_int_equal(num_made, 1); /* it is kept */
	close(buffer.fd);
}

/* Without a dma-buf the pixels are read as any memory's. */
TEST_BLOB(what_an_older_kernel_makes_no_dma_buf_of_is_copied)
{
	const struct virtio_gpu_rect rect = { .width = 1, .height = 1 };
	const uint32_t red = htole32(0xff0000);
	struct gpu_buffer buffer;
	uint32_t pixel;

	answer = -ENOTTY;
	assert_int_equal(pwrite(device_fd, &red, sizeof(red), BAR2_OFFSET + 2 * PAGE), sizeof(red));
	assert_int_equal(show(DEVICE_AT + 2 * PAGE, PAGE, &buffer), -EOPNOTSUPP);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EOPNOTSUPP);
	assert_int_equal(num_made, 1);
	assert_int_equal(guest.num_errors, 1);
	assert_int_equal(gpu_read_scanout(guest.gpu, 0, &rect, &pixel), 0);
	assert_int_equal(pixel & 0xffffff, 0xff0000);
}

TEST_BLOB(a_blob_that_is_partly_in_a_device_is_copied)
{
	struct {
		struct virtio_gpu_resource_create_blob blob;
		struct virtio_gpu_mem_entry entries[2];
	} request = {
		.blob = { .hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, 0),
			.resource_id = htole32(1),
			.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
			.nr_entries = htole32(2),
			.size = htole64(2 * PAGE) },
		.entries = { { .addr = htole64(GUEST_ADDR), .length = htole32(PAGE) },
			{ .addr = htole64(GUEST_ADDR + DEVICE_AT), .length = htole32(PAGE) } },
	};
	const struct virtio_gpu_set_scanout_blob scanout = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, 0),
		.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
		.resource_id = htole32(1),
		.width = htole32(SIDE),
		.height = htole32(SIDE),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(SIDE * 4) },
	};
	struct gpu_buffer buffer;

	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	assert_int_equal(guest_call(&guest, &scanout, sizeof(scanout)), OK);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EOPNOTSUPP);
	assert_int_equal(num_made, 0);
}

/* Page after page, so that no two are one piece: more than udmabuf takes, or not. */
static void show_pages(uint32_t count)
{
	static struct {
		struct virtio_gpu_resource_create_blob blob;
		struct virtio_gpu_mem_entry entries[GUEST_SIZE / PAGE];
	} request;
	struct gpu_buffer buffer;

	request.blob = (struct virtio_gpu_resource_create_blob){
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, 0),
		.resource_id = htole32(1),
		.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
		.nr_entries = htole32(count),
		.size = htole64(count * PAGE),
	};
	for (uint32_t i = 0; i < count; i++) {
		request.entries[i] = (struct virtio_gpu_mem_entry){
			.addr = htole64(GUEST_ADDR + (count - 1 - i) * PAGE),
			.length = htole32(PAGE),
		};
	}
	assert_int_equal(guest_call(&guest, &request,
				 sizeof(request.blob) + count * sizeof(request.entries[0])),
		OK);
	assert_int_equal(show_blob(&guest, 0, 1, SIDE), OK);
	num_asked = 0;
	if (gpu_get_scanout_buffer(guest.gpu, 0, &buffer) == 0) {
		/* There is a udmabuf that takes so many. */
		close(buffer.fd);
		gpu_tell_released(guest.gpu, buffer.key);
	}
	assert_in_range(num_asked, 1, 2);
	assert_int_equal(unref(&guest, 1), OK);
}

TEST_BLOB(whether_a_file_is_a_device_is_not_asked_for_each_piece)
{
	show_pages(100);
	show_pages(GUEST_SIZE / PAGE);
}

/* All devices have one inode, so what is the same file need not be the same memory. */
TEST_DEVICE(regions_of_devices_share_no_mapping)
{
	const struct guest_region region = { .guest_addr = PAGE, .size = PAGE, .user_addr = PAGE };
	struct guest_memory *first, *second;
	struct iovec before, after;

	assert_int_equal(guest_memory_create(&region, &device_fd, 1, NULL, &first), 0);
	assert_int_equal(guest_memory_create(&region, &device_fd, 1, first, &second), 0);
	assert_int_equal(guest_memory_map(first, PAGE, PAGE, &before, 1), 1);
	assert_int_equal(guest_memory_map(second, PAGE, PAGE, &after, 1), 1);
	assert_ptr_not_equal(before.iov_base, after.iov_base);
	guest_memory_unref(first);
	guest_memory_unref(second);
}

TEST_DEVICE(a_region_that_no_file_can_have_is_refused)
{
	struct guest_region region = {
		.guest_addr = PAGE, .size = PAGE, .user_addr = PAGE, .offset = UINT64_MAX - PAGE + 1
	};
	struct guest_memory *memory;

	assert_int_equal(guest_memory_create(&region, &device_fd, 1, NULL, &memory), -EINVAL);
	region.offset = INT64_MAX - PAGE + 1;
	assert_int_equal(guest_memory_create(&region, &device_fd, 1, NULL, &memory), -EINVAL);
}
