/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The library and a simple model of it are given the same random operations, and have to agree:
 * on what each call returns, on everything that is called back, on what must have happened once
 * all is dispatched.
 *
 * VGF_TEST_SEED=N runs that seed alone, VGF_TEST_STEPS=N as many operations of each seed,
 * VGF_TEST_TRACE=1 prints each.
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"
#include "model_run.h"

#define DEFAULT_STEPS 20000
#define SEEDS 30

static uint32_t limit_or_none(uint32_t limit)
{
	return limit > 0 ? limit : UINT32_MAX;
}

static uint64_t any_first_id(struct run *run)
{
	static const uint64_t ids[] = { 0, 0, 1, UINT32_MAX - 20, (uint64_t)1 << 63 };

	return ids[below(run, 5)];
}

static void begin(struct run *run, const struct settings *settings, uint64_t seed)
{
	struct vgf_options options = {
		.size = sizeof(struct vgf_options),
		.limits = settings->limits,
		.stall_ns = UINT64_MAX,
		.budget_ns = UINT64_MAX, /* the model knows no time */
		.ignore_bad_in_fences = settings->ignore_bad_in_fences,
	};
	struct model *model = &run->model;

	*run = (struct run){ .settings = settings, .seed = seed, .random = seed };
	current = run;
	memset(run->copies, 0xff, sizeof(run->copies));
	run->num_contexts = 1 + below(run, 5);
	if (settings->few_descriptors) {
		options.limits.max_fds = 1 + below(run, 5);
		options.limits.max_context_fds = 1 + below(run, options.limits.max_fds);
	}
	if (settings->short_rounds) {
		options.budget_items = 1 + below(run, 3);
	}
	run->first_id = any_first_id(run);
	model_init(model);
	model->limits = options.limits;
	model->limits.max_contexts = limit_or_none(model->limits.max_contexts);
	model->limits.max_fences = limit_or_none(model->limits.max_fences);
	model->limits.max_context_fences = limit_or_none(model->limits.max_context_fences);
	model->limits.max_in_fences = limit_or_none(model->limits.max_in_fences);
	model->limits.max_command_size = limit_or_none(model->limits.max_command_size);
	model->limits.max_fds = limit_or_none(model->limits.max_fds);
	model->limits.max_context_fds = limit_or_none(model->limits.max_context_fds);
	model->ignore_bad_in_fences = settings->ignore_bad_in_fences;
	assert_int_equal(
		vgf_device_create(settings->virglrenderer_callbacks ? &virglrenderer_callbacks :
								      &plain_callbacks,
			run, &options, &run->device),
		0);
	run->fds_before = count_fds();
}

static void end(struct run *run)
{
	bool in_callback = chance(run, 50);

	if (chance(run, 30)) {
		finish_all(run);
	}
	if (in_callback) {
		struct vgf_fence_name name = { run->model.next_id, 0, VGF_RING_GLOBAL };
		struct expectation expected = expect_fence(&run->model, &name, false);
		int ret = create_take(run->device, &name, 0, VGF_FENCE_DONE);

		check(is_expected(&expected, ret));
		if (ret == 0) {
			model_signal(model_put(&run->model, &name, 0, false), 0, true);
		}
		in_callback = false;
		for (unsigned int i = 0; i < run->model.num_fences; i++) {
			in_callback |= model_may_retire(&run->model, run->model.fences[i]);
		}
	}
	run->model.dispatching++;
	run->destroy_in_callback = in_callback;
	if (in_callback) {
		check(vgf_device_dispatch(run->device, 0) == -ECANCELED);
		check(!run->destroy_in_callback);
	} else {
		destroy_device(run);
	}
	check(run->notifications == 0);
	forget_imports(run);
	for (size_t i = 0; i < 8; i++) {
		if (run->copies[i] >= 0) {
			close(run->copies[i]);
		}
	}
	model_finish(&run->model);
}

static void run_seed(const struct settings *settings, uint64_t seed, unsigned int steps)
{
	static struct run run;

	begin(&run, settings, seed);
	for (run.step = 0; run.step < steps; run.step++) {
		model_begin(&run.model);
		any_operation(&run);
		model_end(&run.model);
	}
	end(&run);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void run_seeds(const struct settings *settings)
{
	unsigned int steps = (unsigned int)from_environment("VGF_TEST_STEPS", DEFAULT_STEPS);
	uint64_t seed = from_environment("VGF_TEST_SEED", 0);

	tracing = getenv("VGF_TEST_TRACE") != NULL;
	if (seed != 0) {
		print_message("seed %" PRIu64 ", %u steps\n", seed, steps);
		run_seed(settings, seed, steps);
		return;
	}
	print_message("seeds 1 to %d, %u steps each\n", SEEDS, steps);
	for (seed = 1; seed <= SEEDS; seed++) {
		run_seed(settings, seed, steps);
	}
}

TEST(agrees_with_the_model)
{
	run_seeds(&(struct settings){ .meddle = 0 });
}

TEST(agrees_when_callbacks_call_back)
{
	run_seeds(&(struct settings){ .meddle = 15 });
}

TEST(agrees_when_fences_retire_where_they_are_signalled)
{
	run_seeds(&(struct settings){ .signals_here = 80 });
	run_seeds(&(struct settings){ .signals_here = 60, .meddle = 10 });
	run_seeds(&(struct settings){ .signals_here = 60, .meddle = 3, .short_rounds = true });
}

TEST(agrees_when_rounds_are_short)
{
	run_seeds(&(struct settings){ .meddle = 3, .short_rounds = true });
}

TEST(agrees_when_there_are_few_descriptors)
{
	run_seeds(&(struct settings){ .meddle = 3, .few_descriptors = true });
}

TEST(agrees_at_the_limits_of_contexts_and_fences)
{
	run_seeds(&(struct settings){
		.meddle = 5,
		.limits = { .max_contexts = 3,
			.max_fences = 24,
			.max_context_fences = 12,
			.max_in_fences = 4,
			.max_command_size = 40 },
	});
}

TEST(agrees_when_bad_in_fences_are_ignored)
{
	run_seeds(&(struct settings){ .meddle = 5, .ignore_bad_in_fences = true });
}

TEST(agrees_with_the_callbacks_of_virglrenderer)
{
	run_seeds(&(struct settings){
		.meddle = 5, .signals_here = 50, .virglrenderer_callbacks = true });
}

int main(int argc, char *argv[])
{
	/* Fences that are pipes, whose reader the library has closed. */
	signal(SIGPIPE, SIG_IGN);
	return run_registered_tests(argv);
}
