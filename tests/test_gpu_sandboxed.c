/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* 'vgfence gpu --sandbox' as a process, with one guest after another: what it draws, with each
 * renderer, and that nothing which it needs is denied. VGFENCE_PROGRAM: the program. */

#include "support.h"

#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/virtio_gpu.h>

#include "front_end.h"
#if HAVE_VIRGL
#include "gl_stream.h"
#endif

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define SIDE 16
#define SIZE (SIDE * SIDE * 4)
#define LIMIT_MS 20000 /* only so that what is lost ends the test */
#define TEXTURE_2D 2
#define BIND_RENDER_TARGET (1 << 1)
#define MAX_WORDS 256

static char directory[] = "/tmp/vgfence-sandboxed-XXXXXX";
static char socket_path[sizeof(directory) + 8], log_path[sizeof(directory) + 8],
	record_path[sizeof(directory) + 8], trace_path[sizeof(directory) + 8];
static pid_t program;
static struct front_end front_end;
static uint64_t backing;

/* ---- The program ---------------------------------------------------------------------------- */

static void name_files(void)
{
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(socket_path, sizeof(socket_path), "%s/s", directory);
	snprintf(log_path, sizeof(log_path), "%s/l", directory);
	snprintf(record_path, sizeof(record_path), "%s/r", directory);
	snprintf(trace_path, sizeof(trace_path), "%s/t", directory);
}

/* The file is there before that. */
static bool listens(void)
{
	FILE *sockets = fopen("/proc/net/unix", "re");
	char line[512];
	bool found = false;

	assert_non_null(sockets);
	while (!found && fgets(line, sizeof(line), sockets) != NULL) {
		/* __SO_ACCEPTCON */
		found = strstr(line, " 00010000 ") != NULL && strstr(line, socket_path) != NULL;
	}
	fclose(sockets);
	return found;
}

static void wait_for_socket(void)
{
	for (int i = 0; !listens(); i++) {
		assert_true(i < LIMIT_MS / 10);
		poll(NULL, 0, 10);
	}
}

static void start_program(const char *renderer)
{
	const char *path = getenv("VGFENCE_PROGRAM");
	char socket_option[128], record_option[128], trace_option[128], control_option[128];
	char *arguments[] = { (char *)path, "gpu", socket_option, "--renderer", (char *)renderer,
		"--sandbox", "--scanouts=1", "--size=640x480", record_option, trace_option,
		control_option, "--stats", NULL };
	posix_spawn_file_actions_t actions;

	assert_non_null(path);
	name_files();
	snprintf(socket_option, sizeof(socket_option), "--socket=%s", socket_path);
	snprintf(record_option, sizeof(record_option), "--record=%s", record_path);
	snprintf(trace_option, sizeof(trace_option), "--trace=%s", trace_path);
	snprintf(control_option, sizeof(control_option), "--control=%s/c", directory);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(
		&actions, STDERR_FILENO, log_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(posix_spawn(&program, path, &actions, NULL, arguments, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	wait_for_socket();
}

/* What it has said. */
static const char *read_log(void)
{
	static char text[16384];
	int fd = open(log_path, O_RDONLY | O_CLOEXEC);
	ssize_t size = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[size > 0 ? size : 0] = '\0';
	return text;
}

static off_t size_of(const char *path)
{
	struct stat file;

	return stat(path, &file) < 0 ? -1 : file.st_size;
}

/* ---- The guest ------------------------------------------------------------------------------ */

static struct virtio_gpu_ctrl_hdr header(uint32_t type, uint32_t ctx_id)
{
	return (struct virtio_gpu_ctrl_hdr){ .type = htole32(type), .ctx_id = htole32(ctx_id) };
}

static uint32_t call(const void *request, uint32_t size)
{
	const uint64_t free_before = front_end.next_free;
	const struct virtio_gpu_ctrl_hdr *response = front_end_request(
		&front_end, 0, 0, request, size, sizeof(*response));
	uint32_t head, written;

	front_end_kick(&front_end.queues[0]);
	for (int i = 0; !front_end_used(&front_end.queues[0], &head, &written); i++) {
		assert_true(i < LIMIT_MS);
		poll(NULL, 0, 1);
	}
	front_end.next_free = free_before;
	return le32toh(response->type);
}

static void connect_guest(void)
{
	front_end_init(&front_end, socket_path, NULL, NULL);
	front_end_start(&front_end);
	backing = front_end_alloc(&front_end, SIZE);
}

static void attach_backing(uint32_t resource_id)
{
	struct {
		struct virtio_gpu_resource_attach_backing request;
		struct virtio_gpu_mem_entry entry;
	} attach = {
		.request = { .hdr = header(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, 0),
			.resource_id = htole32(resource_id),
			.nr_entries = htole32(1) },
		.entry = { .addr = htole64(backing), .length = htole32(SIZE) },
	};

	assert_int_equal(call(&attach, sizeof(attach)), OK);
}

/* A frame on the monitor. */
static void show(uint32_t resource_id)
{
	const struct virtio_gpu_rect all = { .width = htole32(SIDE), .height = htole32(SIDE) };
	const struct virtio_gpu_resource_create_2d create = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, 0),
		.resource_id = htole32(resource_id),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.width = htole32(SIDE),
		.height = htole32(SIDE),
	};
	const struct virtio_gpu_set_scanout scanout = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT, 0),
		.r = all,
		.resource_id = htole32(resource_id),
	};
	const struct virtio_gpu_transfer_to_host_2d transfer = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, 0),
		.r = all,
		.resource_id = htole32(resource_id),
	};
	const struct virtio_gpu_resource_flush flush = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH, 0),
		.r = all,
		.resource_id = htole32(resource_id),
	};

	assert_int_equal(call(&create, sizeof(create)), OK);
	attach_backing(resource_id);
	assert_int_equal(call(&scanout, sizeof(scanout)), OK);
	assert_int_equal(call(&transfer, sizeof(transfer)), OK);
	assert_int_equal(call(&flush, sizeof(flush)), OK);
}

static void create_context(uint32_t capset)
{
	const struct virtio_gpu_ctx_create create = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, 1),
		.context_init = htole32(capset),
	};

	assert_int_equal(call(&create, sizeof(create)), OK);
}

static void submit(const uint32_t *words, size_t count)
{
	struct {
		struct virtio_gpu_cmd_submit request;
		uint32_t words[MAX_WORDS];
	} submit = { .request.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, 1) };

	submit.request.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE);
	submit.request.hdr.fence_id = htole64(1);
	submit.request.size = htole32((uint32_t)(count * sizeof(words[0])));
	memcpy(submit.words, words, count * sizeof(words[0]));
	assert_int_equal(
		call(&submit, (uint32_t)(sizeof(submit.request) + count * sizeof(words[0]))), OK);
}

static void end_program(void)
{
	char command[sizeof(directory) + 16];
	int status;

	/* It may take long to be ready for another guest, and is then ended in the middle. */
	connect_guest();
	show(1);
	kill(program, SIGTERM);
	assert_int_equal(waitpid(program, &status, 0), program);
	front_end_finish(&front_end);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == EXIT_FAILURE && strstr(read_log(), "in the middle of")) {
		/* OpenGL does not end when it is asked to. */
		print_message("skipped: what was recorded, as this machine took too long to end\n");
	} else {
		assert_int_equal(WEXITSTATUS(status), 0);
		/* It was opened before, and written now. */
		assert_true(size_of(record_path) > 16);
		assert_true(size_of(trace_path) > 0);
	}
	/* It is not taken away, as the next one replaces it. */
	assert_int_equal(size_of(socket_path), 0);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	assert_int_equal(system(command), 0);
}

/* ---- The tests ------------------------------------------------------------------------------ */

TEST_BETWEEN(
	the_software_gpu_works_for_one_guest_after_another, start_program("soft"), end_program())
{
	const uint32_t busy_a_millisecond[] = { htole32(1), htole32(1000) };

	for (int i = 0; i < 3; i++) {
		connect_guest();
		show(1);
		create_context(0);
		submit(busy_a_millisecond, 2);
		front_end_finish(&front_end);
	}
	assert_null(strstr(read_log(), "denied"));
}

#if HAVE_VIRGL

/* Fills a texture by OpenGL and reads it. */
static void draw(uint32_t pixel)
{
	const struct virtio_gpu_resource_create_3d create = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_3D, 0),
		.resource_id = htole32(2),
		.target = htole32(TEXTURE_2D),
		.format = htole32(GL_STREAM_FORMAT),
		.bind = htole32(BIND_RENDER_TARGET),
		.width = htole32(SIDE),
		.height = htole32(SIDE),
		.depth = htole32(1),
		.array_size = htole32(1),
	};
	const struct virtio_gpu_ctx_resource attach = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1),
		.resource_id = htole32(2),
	};
	const struct virtio_gpu_transfer_host_3d read_back = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 1),
		.box = { .w = htole32(SIDE), .h = htole32(SIDE), .d = htole32(1) },
		.resource_id = htole32(2),
		.stride = htole32(SIDE * 4),
	};
	const uint32_t *pixels = front_end_at(&front_end, backing);
	struct gl_stream stream;

	assert_int_equal(call(&create, sizeof(create)), OK);
	attach_backing(2);
	assert_int_equal(call(&attach, sizeof(attach)), OK);
	gl_stream_begin(&stream);
	gl_stream_fill(&stream, 2, pixel);
	submit(stream.words, stream.count);
	assert_int_equal(call(&read_back, sizeof(read_back)), OK);
	for (int i = 0; i < SIDE * SIDE; i++) {
		assert_int_equal(pixels[i], pixel);
	}
}

/* By Mesa, when virglrenderer before 1.0 is started anew for the next guest. */
static void assert_only_the_gpus_were_looked_for(const char *log)
{
	static const char looked[] = "openat of /dev/dri was denied";
	const char *denied = strstr(log, "denied");

	assert_null(strstr(log, "failed"));
	if (denied != NULL) {
		assert_non_null(strstr(log, looked));
		assert_null(strstr(denied + 1, "denied"));
	}
}

TEST_BETWEEN(opengl_works_for_one_guest_after_another, start_program("virgl"), end_program())
{
	for (uint32_t i = 0; i < 3; i++) {
		connect_guest();
		show(1);
		create_context(VIRTIO_GPU_CAPSET_VIRGL2);
		draw(PIXEL(i, 127, 255 - i, 255));
		front_end_finish(&front_end);
	}
	assert_only_the_gpus_were_looked_for(read_log());
}

#else

TEST(opengl_works_for_one_guest_after_another)
{
	print_message("skipped: built without virglrenderer (libvirglrenderer-dev)\n");
	skip();
}

#endif
