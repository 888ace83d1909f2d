/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The guest's memory: which addresses can be used, and how long it stays. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/magic.h>

#include "alloc.h"
#include "guest_memory.h"

#define PAGE 0x1000

#define REGIONS 3

static const struct guest_region three[REGIONS] = {
	{ .guest_addr = 0x10000, .size = 4 * PAGE, .user_addr = 0x7f0000000000, .offset = 0 },
	{ .guest_addr = 0x14000, .size = 2 * PAGE, .user_addr = 0x7e0000000000, .offset = PAGE },
	{ .guest_addr = 0x8000000000, .size = PAGE, .user_addr = 0x10000, .offset = 0x230 },
};

static int make_file(off_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static void make_files(int *fds)
{
	for (size_t i = 0; i < REGIONS; i++) {
		fds[i] = make_file(8 * PAGE);
	}
}

static void close_files(const int *fds)
{
	for (size_t i = 0; i < REGIONS; i++) {
		close(fds[i]);
	}
}

static struct guest_memory *make_three(void)
{
	struct guest_memory *memory;
	int fds[REGIONS];

	make_files(fds);
	assert_int_equal(guest_memory_create(three, fds, REGIONS, NULL, &memory), 0);
	close_files(fds);
	return memory;
}

static int count_mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	int count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		count += strstr(line, "memfd:guest") != NULL;
	}
	fclose(file);
	return count;
}

/* ---- Translating -------------------------------------------------------------------------- */

TEST(an_address_is_found_in_each_region)
{
	struct guest_memory *memory = make_three();
	struct iovec iov[2];

	for (size_t i = 0; i < REGIONS; i++) {
		uint64_t last = three[i].size - 1;
		char *start = guest_memory_user(memory, three[i].user_addr, 1);

		assert_non_null(start);
		assert_int_equal(guest_memory_map(memory, three[i].guest_addr, 1, iov, 2), 1);
		assert_ptr_equal(iov[0].iov_base, start);
		assert_int_equal(
			guest_memory_map(memory, three[i].guest_addr + last, 1, iov, 2), 1);
		assert_ptr_equal(iov[0].iov_base, start + last);
		assert_int_equal(iov[0].iov_len, 1);
	}
	guest_memory_unref(memory);
}

TEST(what_one_region_writes_the_file_has)
{
	struct guest_memory *memory;
	int fds[REGIONS];
	struct iovec iov;
	char byte = 0;

	make_files(fds);
	assert_int_equal(guest_memory_create(three, fds, REGIONS, NULL, &memory), 0);
	/* The third one begins in the middle of a page. */
	assert_int_equal(guest_memory_map(memory, three[2].guest_addr + 7, 1, &iov, 1), 1);
	*(char *)iov.iov_base = 'x';
	assert_int_equal(pread(fds[2], &byte, 1, 0x230 + 7), 1);
	assert_int_equal(byte, 'x');
	guest_memory_unref(memory);
	close_files(fds);
}

TEST(a_buffer_goes_on_in_the_region_that_follows)
{
	struct guest_memory *memory = make_three();
	struct iovec iov[3];

	assert_int_equal(guest_memory_map(memory, 0x13ff0, 0x20, iov, 3), 2);
	assert_int_equal(iov[0].iov_len, 0x10);
	assert_int_equal(iov[1].iov_len, 0x10);
	assert_ptr_equal(iov[1].iov_base, guest_memory_user(memory, three[1].user_addr, 1));
	assert_int_equal(guest_memory_map(memory, 0x13ff0, 0x20, iov, 1), -E2BIG);
	assert_int_equal(guest_memory_map(memory, 0x10000, 6 * PAGE, iov, 3), 2);
	guest_memory_unref(memory);
}

TEST(what_is_not_all_in_memory_is_efault)
{
	const struct {
		uint64_t addr, size;
	} outside[] = {
		{ 0, 1 },
		{ 0xffff, 1 },
		{ 0xffff, 2 },
		{ 0x16000, 1 },
		{ 0x15fff, 2 },
		{ 0x10000, 6 * PAGE + 1 },
		{ 0x10000, UINT64_MAX },
		{ UINT64_MAX, 1 },
		{ UINT64_MAX, UINT64_MAX },
		{ 0x8000000fff, 2 },
	};
	struct guest_memory *memory = make_three();
	struct iovec iov[4];

	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		assert_int_equal(guest_memory_map(memory, outside[i].addr, outside[i].size, iov, 4),
			-EFAULT);
	}
	assert_int_equal(guest_memory_map(NULL, 0x10000, 1, iov, 4), -EFAULT);
	guest_memory_unref(memory);
}

TEST(a_front_ends_address_must_lie_in_one_region)
{
	struct guest_memory *memory = make_three();

	assert_non_null(guest_memory_user(memory, three[0].user_addr, 4 * PAGE));
	assert_null(guest_memory_user(memory, three[0].user_addr, 4 * PAGE + 1));
	assert_null(guest_memory_user(memory, three[0].user_addr + 4 * PAGE, 1));
	assert_null(guest_memory_user(memory, three[0].user_addr - 1, 1));
	assert_null(guest_memory_user(memory, three[0].user_addr + 8, UINT64_MAX));
	assert_null(guest_memory_user(memory, 0x10000 - 1, 2));
	assert_null(guest_memory_user(NULL, three[0].user_addr, 1));
	guest_memory_unref(memory);
}

/* ---- Tables that are refused -------------------------------------------------------------- */

static int create_two(struct guest_region first, struct guest_region second)
{
	const struct guest_region regions[] = { first, second };
	int fds[] = { make_file(8 * PAGE), make_file(8 * PAGE) };
	struct guest_memory *memory = NULL;
	int ret = guest_memory_create(regions, fds, 2, NULL, &memory);

	if (ret == 0) {
		guest_memory_unref(memory);
	}
	close(fds[0]);
	close(fds[1]);
	return ret;
}

static struct guest_region region(uint64_t guest_addr, uint64_t user_addr, uint64_t size)
{
	return (struct guest_region){
		.guest_addr = guest_addr, .user_addr = user_addr, .size = size
	};
}

TEST(regions_that_overlap_are_einval)
{
	assert_int_equal(create_two(region(PAGE, PAGE, PAGE), region(2 * PAGE, 2 * PAGE, PAGE)), 0);
	assert_int_equal(create_two(region(PAGE, PAGE, PAGE + 1), region(2 * PAGE, 4 * PAGE, PAGE)),
		-EINVAL);
	assert_int_equal(create_two(region(2 * PAGE, PAGE, PAGE), region(PAGE, 4 * PAGE, PAGE + 1)),
		-EINVAL);
	assert_int_equal(create_two(region(PAGE, PAGE, PAGE + 1), region(4 * PAGE, 2 * PAGE, PAGE)),
		-EINVAL);
	assert_int_equal(create_two(region(PAGE, PAGE, 4 * PAGE), region(2 * PAGE, 9 * PAGE, PAGE)),
		-EINVAL);
	assert_int_equal(create_two(region(0, 0, PAGE), region(0, 9 * PAGE, PAGE)), -EINVAL);
}

TEST(regions_that_wrap_or_are_empty_are_einval)
{
	const struct guest_region good = region(PAGE, PAGE, PAGE);

	assert_int_equal(create_two(good, region(4 * PAGE, 4 * PAGE, 0)), -EINVAL);
	assert_int_equal(create_two(good, region(UINT64_MAX - PAGE + 2, 4 * PAGE, PAGE)), -EINVAL);
	assert_int_equal(create_two(good, region(4 * PAGE, UINT64_MAX - PAGE + 2, PAGE)), -EINVAL);
	assert_int_equal(create_two(good, region(4 * PAGE, 4 * PAGE, UINT64_MAX)), -EINVAL);
}

static int create_at(uint64_t offset, uint64_t size)
{
	struct guest_region where = region(PAGE, PAGE, size);

	where.offset = offset;
	return create_two(where, region(1 << 30, 1 << 30, PAGE));
}

TEST(regions_past_the_end_of_their_file_are_einval)
{
	assert_int_equal(create_at(0, 8 * PAGE), 0);
	assert_int_equal(create_at(7 * PAGE + 1, PAGE - 1), 0);
	assert_int_equal(create_at(0, 8 * PAGE + 1), -EINVAL);
	assert_int_equal(create_at(1, 8 * PAGE), -EINVAL);
	assert_int_equal(create_at(8 * PAGE, 1), -EINVAL);
	assert_int_equal(create_at(UINT64_MAX, 1), -EINVAL);
	assert_int_equal(create_at(UINT64_MAX - PAGE + 1, PAGE), -EINVAL);
	assert_int_equal(create_at(PAGE, UINT64_MAX - PAGE + 1), -EINVAL);
}

/* Who serves another file system could let us wait for ever, from the first question. */
TEST(what_is_no_file_of_memory_is_refused)
{
	const struct guest_region where = region(PAGE, PAGE, 1);
	struct guest_memory *memory, *empty;
	int fds[] = { make_fence(false), open("/", O_RDONLY | O_CLOEXEC),
		open("/proc/self/comm", O_RDWR | O_CLOEXEC),
		open("/proc/self/mem", O_RDWR | O_CLOEXEC), open("/dev/zero", O_RDWR | O_CLOEXEC),
		-1, -1 };
	const size_t count = sizeof(fds) / sizeof(fds[0]);

	assert_int_equal(pipe(fds + count - 2), 0);
	assert_int_equal(guest_memory_create(NULL, NULL, 0, NULL, &empty), 0);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(
			guest_memory_create(&where, &fds[i], 1, NULL, &memory), -EMEDIUMTYPE);
		assert_int_equal(guest_memory_add(empty, &where, fds[i], &memory), -EMEDIUMTYPE);
		close(fds[i]);
		assert_int_equal(
			guest_memory_create(&where, &fds[i], 1, NULL, &memory), -EMEDIUMTYPE);
	}
	guest_memory_unref(empty);
}

/* QEMU's memory-backend-file, or User-Mode Linux without room in /dev/shm. */
TEST(a_file_on_a_disk_is_memory_if_it_can_be_written)
{
	const struct guest_region where = region(PAGE, 0, PAGE);
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct guest_memory *memory;
	struct statfs file_system;
	char path[64];
	int read_only;

	if (fd < 0 || fstatfs(fd, &file_system) < 0 ||
		(file_system.f_type != EXT4_SUPER_MAGIC && file_system.f_type != XFS_SUPER_MAGIC &&
			file_system.f_type != OVERLAYFS_SUPER_MAGIC)) {
		printf("skipped: the build directory is not on ext4, XFS or an overlay\n");
		close(fd);
		skip();
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(guest_memory_create(&where, &read_only, 1, NULL, &memory), -EMEDIUMTYPE);
	assert_int_equal(guest_memory_create(&where, &fd, 1, NULL, &memory), 0);
	guest_memory_unref(memory);
	close(read_only);
	close(fd);
}

TEST(a_sealed_file_is_memory)
{
	const struct guest_region where = region(PAGE, 0, PAGE);
	struct guest_memory *memory;
	int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), 0);
	assert_int_equal(guest_memory_create(&where, &fd, 1, NULL, &memory), 0);
	guest_memory_unref(memory);
	close(fd);
}

TEST(a_file_that_cannot_be_written_is_refused)
{
	const struct guest_region where = region(PAGE, PAGE, PAGE);
	struct guest_memory *memory;
	int fd = make_file(8 * PAGE), read_only;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read_only >= 0);
	assert_int_equal(guest_memory_create(&where, &read_only, 1, NULL, &memory), -EACCES);
	close(read_only);
	close(fd);
}

TEST(too_many_regions_are_e2big)
{
	struct guest_region regions[GUEST_MEMORY_MAX_REGIONS + 1];
	int fds[GUEST_MEMORY_MAX_REGIONS + 1];
	struct guest_memory *memory, *more;
	int fd = make_file(PAGE);

	for (size_t i = 0; i <= GUEST_MEMORY_MAX_REGIONS; i++) {
		regions[i] = region(i * PAGE, i * PAGE, PAGE);
		fds[i] = fd;
	}
	assert_int_equal(
		guest_memory_create(regions, fds, GUEST_MEMORY_MAX_REGIONS + 1, NULL, &memory),
		-E2BIG);
	assert_int_equal(
		guest_memory_create(regions, fds, GUEST_MEMORY_MAX_REGIONS, NULL, &memory), 0);
	assert_int_equal(
		guest_memory_add(memory, &regions[GUEST_MEMORY_MAX_REGIONS], fd, &more), -E2BIG);
	guest_memory_unref(memory);
	close(fd);
}

/* ---- Tables that follow others ------------------------------------------------------------ */

TEST(a_region_is_added_and_removed)
{
	struct guest_memory *one = NULL, *two, *less;
	struct iovec iov;
	int fds[REGIONS];

	make_files(fds);
	assert_int_equal(guest_memory_add(NULL, &three[2], fds[2], &one), 0);
	assert_int_equal(guest_memory_add(one, &three[0], fds[0], &two), 0);
	assert_int_equal(guest_memory_map(one, three[0].guest_addr, 1, &iov, 1), -EFAULT);
	assert_int_equal(guest_memory_map(two, three[0].guest_addr, 1, &iov, 1), 1);
	assert_int_equal(guest_memory_map(two, three[2].guest_addr, 1, &iov, 1), 1);

	assert_int_equal(guest_memory_add(two, &three[0], fds[0], &less), -EINVAL);
	assert_int_equal(guest_memory_remove(two, &three[1], &less), -ENOENT);
	assert_int_equal(guest_memory_remove(NULL, &three[1], &less), -ENOENT);
	assert_int_equal(guest_memory_remove(two, &three[2], &less), 0);
	assert_int_equal(guest_memory_map(less, three[2].guest_addr, 1, &iov, 1), -EFAULT);
	assert_int_equal(guest_memory_map(less, three[0].guest_addr, 1, &iov, 1), 1);
	guest_memory_unref(one);
	guest_memory_unref(two);
	guest_memory_unref(less);
	close_files(fds);
}

TEST(what_stays_is_mapped_once)
{
	struct guest_memory *memory, *next;
	int fds[REGIONS], before = count_mappings();
	void *address;

	make_files(fds);
	assert_int_equal(guest_memory_create(three, fds, REGIONS, NULL, &memory), 0);
	assert_int_equal(guest_memory_create(three, fds, 2, memory, &next), 0);
	assert_int_equal(count_mappings(), before + REGIONS);
	address = guest_memory_user(memory, three[1].user_addr, 1);
	assert_ptr_equal(guest_memory_user(next, three[1].user_addr, 1), address);

	guest_memory_unref(memory);
	assert_int_equal(count_mappings(), before + 2);
	*(char *)address = 1;
	guest_memory_unref(next);
	assert_int_equal(count_mappings(), before);
	close_files(fds);
}

TEST(another_file_is_mapped_anew)
{
	struct guest_memory *memory, *next;
	int fd = make_file(8 * PAGE), other = make_file(8 * PAGE);

	assert_int_equal(guest_memory_create(three, &fd, 1, NULL, &memory), 0);
	assert_int_equal(guest_memory_create(three, &other, 1, memory, &next), 0);
	assert_ptr_not_equal(guest_memory_user(next, three[0].user_addr, 1),
		guest_memory_user(memory, three[0].user_addr, 1));
	guest_memory_unref(memory);
	guest_memory_unref(next);
	close(fd);
	close(other);
}

TEST(nothing_is_left_where_memory_runs_out)
{
	struct guest_memory *memory;
	int fds[REGIONS], before = count_mappings(), ret;

	make_files(fds);
	for (unsigned long nth = 1;; nth++) {
		alloc_fail(nth);
		ret = guest_memory_create(three, fds, REGIONS, NULL, &memory);
		alloc_reset();
		if (ret == 0) {
			break;
		}
		assert_int_equal(ret, -ENOMEM);
		assert_int_equal(count_mappings(), before);
	}
	guest_memory_unref(memory);
	close_files(fds);
}

static void *take_and_drop(void *arg)
{
	for (int i = 0; i < 10000; i++) {
		guest_memory_unref(guest_memory_ref(arg));
	}
	guest_memory_unref(arg);
	return NULL;
}

TEST(references_are_dropped_by_any_thread)
{
	struct guest_memory *memory = make_three();
	int before = count_mappings();
	pthread_t threads[2];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			pthread_create(&threads[i], NULL, take_and_drop, guest_memory_ref(memory)),
			0);
	}
	guest_memory_unref(memory);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(count_mappings(), before - REGIONS);
}

/* ---- Files that are shortened ------------------------------------------------------------- */

TEST(memory_that_is_taken_away_reads_as_zeros)
{
	struct guest_memory *memory;
	volatile char *first, *last;
	int fd = make_file(8 * PAGE);

	assert_int_equal(guest_memory_create(three, &fd, 1, NULL, &memory), 0);
	first = guest_memory_user(memory, three[0].user_addr, 1);
	last = first + three[0].size - 1;
	*first = *last = 1;
	assert_false(guest_memory_is_lost(memory));
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_false(guest_memory_is_lost(memory));
	assert_int_equal(*first, 1);
	assert_int_equal(*last, 0);
	assert_true(guest_memory_is_lost(memory));
	*last = 2;
	assert_int_equal(*last, 2);
	guest_memory_unref(memory);
	close(fd);
}

TEST(memory_that_was_lost_is_not_shared_with_the_next_table)
{
	struct guest_memory *memory, *next;
	volatile char *address;
	int fd = make_file(8 * PAGE);

	assert_int_equal(guest_memory_create(three, &fd, 1, NULL, &memory), 0);
	address = guest_memory_user(memory, three[0].user_addr, 1);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(*address, 0);
	assert_int_equal(guest_memory_create(three, &fd, 1, memory, &next), -EINVAL);
	assert_int_equal(ftruncate(fd, 8 * PAGE), 0);
	assert_int_equal(guest_memory_create(three, &fd, 1, memory, &next), 0);
	assert_false(guest_memory_is_lost(next));
	guest_memory_unref(memory);
	guest_memory_unref(next);
	close(fd);
}

/* In a process of its own, without the handler of cmocka. */
TEST(another_bus_error_still_ends_the_process)
{
	struct guest_memory *memory;
	int fd = make_file(PAGE), status;
	volatile char *other = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	pid_t child;

	assert_true(other != MAP_FAILED);
	assert_int_equal(ftruncate(fd, 0), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGBUS, SIG_DFL);
		memory = make_three();
		_exit(memory && *other);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	munmap((void *)other, PAGE);
	close(fd);
}

static char *others_page;
static int num_others;

static void handle_signal(int signal_number)
{
	assert_int_equal(signal_number, SIGBUS);
	num_others++;
	mmap(others_page, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void handle_fault(int signal_number, siginfo_t *info, void *context)
{
	assert_ptr_equal(info->si_addr, others_page);
	assert_non_null(context);
	handle_signal(signal_number);
}

static void check_others_handler(const struct sigaction *action)
{
	struct guest_memory *memory;
	struct sigaction before;
	int fd = make_file(PAGE);

	num_others = 0;
	others_page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(others_page != MAP_FAILED);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(sigaction(SIGBUS, action, &before), 0);
	memory = make_three();
	assert_int_equal(*(volatile char *)others_page, 0);
	assert_int_equal(num_others, 1);
	guest_memory_unref(memory);
	assert_int_equal(sigaction(SIGBUS, &before, NULL), 0);
	munmap(others_page, PAGE);
	close(fd);
}

TEST(another_bus_error_is_for_the_handler_that_was_there)
{
	const struct sigaction simple = { .sa_handler = handle_signal };
	const struct sigaction full = { .sa_sigaction = handle_fault, .sa_flags = SA_SIGINFO };

	check_others_handler(&simple);
	check_others_handler(&full);
}
