/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Two processes with a device of Vulkan's each, and a buffer of one of them that the other imports.
 * In each round the exporter does a long job on its words, and the importer a short one that also
 * keeps a copy. Each hands over a sync file, for which the next waits on its GPU's queue; nobody
 * waits on the CPU, but for rounds long ago. The copies show what each round came out as. With --gl
 * a third process is between the two: it looks at the words in OpenGL, waits for the exporter, and
 * the importer for it.
 */

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd_message.h"
#include "vulkan_commands.h"
#include "vulkan_external.h"
#include "vulkan_gl.h"
#include "vulkan_report.h"
#include "vulkan_steps.h"

enum {
	NUM_SLOTS = 16, /* rounds in flight */
	NUM_ROUNDS = 100,
	NUM_STEPS = 2000,
	NUM_STEPS_SHORT = 100,
	/* The control: the exporter is still at it when the importer looks. */
	NUM_ROUNDS_NO_WAIT = 5,
	NUM_STEPS_NO_WAIT = 50000,
	MEMORY_TYPE = 1u << 31, /* a message that has a buffer */
};

#define LIMIT_NS 100000000000ull /* only so that what hangs ends */
#define WORDS_SIZE (NUM_WORDS * sizeof(uint32_t))

struct slot {
	VkCommandBuffer commands;
	VkSemaphore wait, signal;
	VkFence fence;
	struct vulkan_buffer copy; /* the importer's */
	bool used;
};

struct side {
	struct vulkan vulkan;
	struct vulkan_steps steps;
	struct vulkan_buffer buffer;
	struct slot slots[NUM_SLOTS];
	uint32_t num_rounds, num_long_steps;
	bool waits;
	int from, to; /* sockets: whom it waits for, and who waits for it */
};

/* ---- A side --------------------------------------------------------------------------------- */

static void choose_lengths(struct side *side, const struct vulkan_options *options)
{
	side->waits = !options->no_wait;
	side->num_rounds = options->rounds ? options->rounds :
		side->waits                ? NUM_ROUNDS :
					     NUM_ROUNDS_NO_WAIT;
	side->num_long_steps = options->steps ? options->steps :
		side->waits                   ? NUM_STEPS :
						NUM_STEPS_NO_WAIT;
}

/* Between the device's own queues and others, at both ends of a side's work. */
static void hand_over(const struct side *side, VkCommandBuffer commands, bool comes)
{
	uint32_t own = side->vulkan.queue_family, others = VK_QUEUE_FAMILY_EXTERNAL;
	const VkBufferMemoryBarrier barrier = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER,
		.srcAccessMask = comes ? 0 : VK_ACCESS_MEMORY_WRITE_BIT,
		.dstAccessMask = comes ? VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT : 0,
		.srcQueueFamilyIndex = comes ? others : own,
		.dstQueueFamilyIndex = comes ? own : others,
		.buffer = side->buffer.buffer,
		.size = VK_WHOLE_SIZE,
	};

	vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT,
		VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, 0, 0, NULL, 1, &barrier, 0, NULL);
}

static void make_slots(struct side *side)
{
	const VkFenceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
	const struct vulkan *vulkan = &side->vulkan;

	for (uint32_t i = 0; i < NUM_SLOTS; i++) {
		struct slot *slot = &side->slots[i];

		slot->commands = vulkan_commands_begin(vulkan);
		slot->wait = external_semaphore(vulkan);
		slot->signal = external_semaphore(vulkan);
		vulkan_must(
			vkCreateFence(vulkan->device, &info, NULL, &slot->fence), "vkCreateFence");
	}
}

/* Whether the slot had a round before, which is over then. */
static bool free_slot(const struct side *side, struct slot *slot)
{
	VkDevice device = side->vulkan.device;

	if (!slot->used) {
		return false;
	}
	vulkan_must(vkWaitForFences(device, 1, &slot->fence, VK_TRUE, LIMIT_NS), "vkWaitForFences");
	vulkan_must(vkResetFences(device, 1, &slot->fence), "vkResetFences");
	slot->used = false;
	return true;
}

/* The slot's commands, behind the other's fence, if there is one. Takes it, and returns this
 * side's. The control has none: a driver may well wait when one is exported. */
static int submit(const struct side *side, struct slot *slot, bool has_fence, int fence_fd)
{
	const VkPipelineStageFlags all = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
	const VkSubmitInfo info = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.waitSemaphoreCount = has_fence && side->waits,
		.pWaitSemaphores = &slot->wait,
		.pWaitDstStageMask = &all,
		.commandBufferCount = 1,
		.pCommandBuffers = &slot->commands,
		.signalSemaphoreCount = side->waits,
		.pSignalSemaphores = &slot->signal,
	};

	if (has_fence && side->waits) {
		external_semaphore_import(&side->vulkan, slot->wait, fence_fd);
	}
	vulkan_must(vkQueueSubmit(side->vulkan.queues[0], 1, &info, slot->fence), "vkQueueSubmit");
	slot->used = true;
	return side->waits ? external_semaphore_export(&side->vulkan, slot->signal) : -1;
}

static void begin_round(VkCommandBuffer commands)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
	};

	vulkan_must(vkBeginCommandBuffer(commands, &begin), "vkBeginCommandBuffer");
}

/* ---- The exporter --------------------------------------------------------------------------- */

static void clear_buffer(const struct side *side)
{
	VkCommandBuffer commands = vulkan_commands_begin(&side->vulkan);

	vkCmdFillBuffer(commands, side->buffer.buffer, 0, VK_WHOLE_SIZE, 0);
	vulkan_barrier(commands);
	hand_over(side, commands, false);
	vulkan_commands_end(commands);
	vulkan_run(&side->vulkan, commands);
}

static void export_rounds(struct side *side)
{
	VkDescriptorSet set = vulkan_steps_set(&side->steps, &side->buffer);
	int fence_fd = -1;

	for (uint32_t round = 0; round < side->num_rounds; round++) {
		struct slot *slot = &side->slots[round % NUM_SLOTS];

		free_slot(side, slot);
		begin_round(slot->commands);
		hand_over(side, slot->commands, true);
		vulkan_steps_record(
			&side->steps, slot->commands, set, 2 * round, side->num_long_steps);
		hand_over(side, slot->commands, false);
		vulkan_commands_end(slot->commands);
		fence_fd = submit(side, slot, round > 0, fence_fd);
		fd_message_send(side->to, round, fence_fd);
		fence_fd = fd_message_receive(side->from, &(uint32_t){ 0 });
	}
	if (fence_fd >= 0) {
		close(fence_fd);
	}
	for (uint32_t i = 0; i < NUM_SLOTS; i++) {
		free_slot(side, &side->slots[i]);
	}
}

/* What cannot be had is said here, once; the importer ends with this process's end of the
 * socket. */
static bool export_buffer(struct side *side)
{
	const struct vulkan *vulkan = &side->vulkan;
	VkExternalMemoryHandleTypeFlagBits type = external_memory_type(vulkan);
	int fd;

	if (type == 0) {
		report_skipped("share",
			"the device cannot both export and import memory, as "
			"dma-buf or opaque descriptor");
		return false;
	}
	if (!external_semaphores_are_there(vulkan)) {
		report_skipped("share",
			"the device has no VK_KHR_external_semaphore_fd with sync "
			"files");
		return false;
	}
	printf("share: memory as %s, fences as sync files\n", external_memory_name(type));
	fflush(stdout);
	fd = external_buffer_export(vulkan, &side->buffer, WORDS_SIZE, type);
	clear_buffer(side);
	fd_message_send(side->to, MEMORY_TYPE | type, fd);
	return true;
}

/* ---- The importer --------------------------------------------------------------------------- */

static bool import_buffer(struct side *side)
{
	uint32_t message;
	int fd = fd_message_receive(side->from, &message);

	if (message == 0) {
		return false;
	}
	external_buffer_import(&side->vulkan, &side->buffer, WORDS_SIZE,
		(VkExternalMemoryHandleTypeFlagBits)(message & ~MEMORY_TYPE), fd);
	return true;
}

static void copy_words(const struct side *side, const struct slot *slot)
{
	const VkBufferCopy all = { .size = WORDS_SIZE };

	vkCmdCopyBuffer(slot->commands, side->buffer.buffer, slot->copy.buffer, 1, &all);
	vulkan_barrier(slot->commands);
}

/* What the words are after a job; all are asked for, in order. */
static const uint32_t *expect_job(const struct side *side, uint32_t job)
{
	static uint32_t expected[NUM_WORDS];
	uint32_t num_steps = job % 2 == 0 ? side->num_long_steps : NUM_STEPS_SHORT;

	for (uint32_t i = 0; i < NUM_WORDS; i++) {
		expected[i] = steps_expected(expected[i], i, job, num_steps);
	}
	return expected;
}

/* After both jobs of a round. */
static uint32_t look_at_round(const struct side *side, const struct slot *slot, uint32_t round)
{
	expect_job(side, 2 * round);
	return count_wrong_words(slot->copy.words, expect_job(side, 2 * round + 1), side->waits) >
		0;
}

static uint32_t import_rounds(struct side *side)
{
	VkDescriptorSet set = vulkan_steps_set(&side->steps, &side->buffer);
	uint32_t num_wrong = 0, message;

	for (uint32_t round = 0; round < side->num_rounds + NUM_SLOTS; round++) {
		struct slot *slot = &side->slots[round % NUM_SLOTS];
		int fence_fd;

		if (free_slot(side, slot)) {
			num_wrong += look_at_round(side, slot, round - NUM_SLOTS);
		}
		if (round >= side->num_rounds) {
			continue;
		}
		fence_fd = fd_message_receive(side->from, &message);
		begin_round(slot->commands);
		hand_over(side, slot->commands, true);
		vulkan_steps_record(
			&side->steps, slot->commands, set, 2 * round + 1, NUM_STEPS_SHORT);
		copy_words(side, slot);
		hand_over(side, slot->commands, false);
		vulkan_commands_end(slot->commands);
		fence_fd = submit(side, slot, true, fence_fd);
		fd_message_send(side->to, round, fence_fd);
	}
	return num_wrong;
}

/* ---- Both ----------------------------------------------------------------------------------- */

static void open_side(struct side *side, const struct vulkan_options *options)
{
	vulkan_open(&side->vulkan, options->driver);
	vulkan_steps_init(&side->steps, &side->vulkan);
	make_slots(side);
}

/* Each side's part: returns when it is over, having reported. */
static void run_exporter(struct side *side, const struct vulkan_options *options)
{
	open_side(side, options);
	if (export_buffer(side)) {
		export_rounds(side);
		report(true, "share: the exporter's fences have signalled, all %u",
			side->num_rounds);
	} else {
		fd_message_send(side->to, 0, -1);
	}
}

static void run_importer(struct side *side, const struct vulkan_options *options)
{
	uint32_t num_wrong;

	open_side(side, options);
	if (!import_buffer(side)) {
		return;
	}
	for (uint32_t i = 0; i < NUM_SLOTS; i++) {
		vulkan_buffer_init(&side->vulkan, &side->slots[i].copy, WORDS_SIZE,
			VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
	}
	num_wrong = import_rounds(side);
	report((num_wrong == 0) == side->waits,
		"share: a job of each process in turn, %s: %u of %u rounds are wrong",
		side->waits ? "each waits" : "nobody waits", num_wrong, side->num_rounds);
}

/* Between the two jobs of a round. */
static const uint32_t *expect_in_gl(uint32_t round, void *arg)
{
	const struct side *side = arg;

	if (round > 0) {
		expect_job(side, 2 * round - 1);
	}
	return expect_job(side, 2 * round);
}

static void run_gl(struct side *side, const struct vulkan_options *options)
{
	const struct gl_share share = {
		.from = side->from,
		.to = side->to,
		.num_rounds = side->num_rounds,
		.waits = side->waits,
		.expected = expect_in_gl,
		.arg = side,
	};
	uint32_t num_wrong;

	if (gl_share_run(&share, &num_wrong)) {
		report((num_wrong == 0) == side->waits,
			"share: OpenGL looks at the words, %s: %u of %u rounds are wrong",
			side->waits ? "and waits" : "and does not wait", num_wrong,
			side->num_rounds);
	}
}

static void wait_for_other(pid_t process)
{
	int status;

	if (waitpid(process, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		report(false, "share: another process has ended otherwise");
	}
}

/* One end is whom the next waits for. */
static void connect_sides(struct side *side, struct side *next)
{
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) {
		err(1, "socketpair");
	}
	side->to = sockets[0];
	next->from = sockets[1];
}

/* The ends of others, without which one that ends is missed. */
static void close_others(const struct side *sides, uint32_t num_sides, uint32_t own)
{
	for (uint32_t i = 0; i < num_sides; i++) {
		if (i != own) {
			close(sides[i].from);
			close(sides[i].to);
		}
	}
}

enum { MAX_SIDES = 3 };

typedef void run_side(struct side *side, const struct vulkan_options *options);

/* The processes, in the order in which they have the words. */
static run_side *const two[] = { run_exporter, run_importer };
static run_side *const three[] = { run_exporter, run_gl, run_importer };

static struct side sides[MAX_SIDES];

/* In a process of its own, before there is anything of Vulkan's, which a fork would not have. */
static pid_t start(
	run_side *run, uint32_t index, uint32_t num_sides, const struct vulkan_options *options)
{
	pid_t process = fork();
	int status;

	if (process < 0) {
		err(1, "fork");
	}
	if (process > 0) {
		return process;
	}
	close_others(sides, num_sides, index);
	run(&sides[index], options);
	status = report_status();
	exit(status == REPORT_SKIPPED ? 0 : status);
}

void vulkan_share(const struct vulkan_options *options)
{
	run_side *const *runs = options->gl ? three : two;
	uint32_t num_sides = options->gl ? 3 : 2;
	pid_t processes[MAX_SIDES];

	if (options->gl && !gl_share_is_built()) {
		report_skipped("share with OpenGL", "built without GBM or epoxy");
		return;
	}
	for (uint32_t i = 0; i < num_sides; i++) {
		choose_lengths(&sides[i], options);
		connect_sides(&sides[i], &sides[(i + 1) % num_sides]);
	}
	for (uint32_t i = 1; i < num_sides; i++) {
		processes[i] = start(runs[i], i, num_sides, options);
	}
	close_others(sides, num_sides, 0);
	run_exporter(&sides[0], options);
	close(sides[0].from);
	close(sides[0].to);
	for (uint32_t i = 1; i < num_sides; i++) {
		wait_for_other(processes[i]);
	}
}
