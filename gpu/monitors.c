/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "monitors.h"

#include <string.h>

#include <vgfence/fence.h>

#include "edid.h"
#include "gpu_private.h"

/* In place of a scanout: the question is for all of them. */
#define ALL_MONITORS UINT32_MAX

/* A window that is smaller is no monitor. */
#define MIN_SIZE 16

void monitors_init(struct gpu *gpu)
{
	struct monitors *monitors = &gpu->monitors;

	memset(monitors->modes, 0, sizeof(monitors->modes));
	monitors->num_scanouts = gpu->options.num_scanouts;
	for (uint32_t i = 0; i < gpu->options.num_scanouts; i++) {
		/* Side by side. */
		monitors->modes[i] = (struct virtio_gpu_display_one){
			.r = { .x = i * gpu->options.width,
				.width = gpu->options.width,
				.height = gpu->options.height },
			.enabled = 1,
		};
	}
}

void gpu_forget_monitors(struct gpu *gpu)
{
	monitors_init(gpu);
}

/* ---- The guest's event ---------------------------------------------------------------------- */

/* While the event is set the guest may be about to clear it for what was before. */
static void raise_event(struct gpu *gpu)
{
	struct monitors *monitors = &gpu->monitors;

	monitors->changed = gpu->events_read & VIRTIO_GPU_EVENT_DISPLAY;
	if (monitors->notified) {
		return;
	}
	monitors->notified = true;
	gpu->events_read |= VIRTIO_GPU_EVENT_DISPLAY;
	if (gpu->callbacks.config_changed != NULL) {
		gpu->callbacks.config_changed(gpu->cookie);
	}
}

void monitors_clear_events(struct gpu *gpu, uint32_t events)
{
	gpu->events_read &= ~events;
	if (events & VIRTIO_GPU_EVENT_DISPLAY) {
		gpu->monitors.notified = false;
		if (gpu->monitors.changed) {
			raise_event(gpu);
		}
	}
}

void monitors_forget_guest(struct gpu *gpu)
{
	gpu->events_read = 0;
	gpu->monitors.told = gpu->monitors.notified = gpu->monitors.changed = false;
	gpu->monitors.told_edids = gpu->monitors.old_edids = 0;
}

/* ---- Answers to the guest ------------------------------------------------------------------- */

static void set_type(struct pending_request *pending, uint32_t type)
{
	if (pending->type == RESPONSE_LATER) { /* otherwise its fence could not be made */
		pending->type = type;
	}
}

static void answer_modes(struct gpu *gpu, struct pending_request *pending)
{
	struct virtio_gpu_display_one modes[VIRTIO_GPU_MAX_SCANOUTS] = { 0 };

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		const struct virtio_gpu_display_one *mode = &gpu->monitors.modes[i];

		modes[i].r.x = htole32(mode->r.x);
		modes[i].r.y = htole32(mode->r.y);
		modes[i].r.width = htole32(mode->r.width);
		modes[i].r.height = htole32(mode->r.height);
		modes[i].enabled = htole32(mode->enabled);
	}
	gpu->monitors.told = true;
	gpu->monitors.notified = gpu->monitors.changed = false;
	respond_to(pending, modes, sizeof(modes));
	set_type(pending, VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	/* Linux asks for EDIDs before modes: what changed in between is told by both. */
	if (gpu->monitors.old_edids != 0) {
		gpu->monitors.old_edids = 0;
		raise_event(gpu);
	}
}

/* Of a monitor that is not there: what the options say. */
static uint32_t make_edid(struct gpu *gpu, uint32_t index, uint8_t *edid)
{
	const struct virtio_gpu_display_one *mode = &gpu->monitors.modes[index];

	return edid_make(edid, mode->enabled ? mode->r.width : gpu->options.width,
		mode->enabled ? mode->r.height : gpu->options.height, index);
}

/* edid: the display's, or NULL. */
static void answer_edid(
	struct gpu *gpu, struct pending_request *pending, const uint8_t *edid, uint32_t size)
{
	struct {
		uint32_t size, padding;
		uint8_t edid[EDID_MAX_SIZE];
	} response = { 0 };

	if (edid != NULL && size <= sizeof(response.edid)) {
		memcpy(response.edid, edid, size);
	} else {
		size = make_edid(gpu, pending->asks_for, response.edid);
	}
	gpu->monitors.told_edids |= 1u << pending->asks_for;
	gpu->monitors.old_edids &= ~(1u << pending->asks_for);
	response.size = htole32(size);
	respond_to(pending, &response, sizeof(response));
	set_type(pending, VIRTIO_GPU_RESP_OK_EDID);
}

/* With what is known. */
static void answer(struct gpu *gpu, struct pending_request *pending)
{
	if (pending->asks_for == ALL_MONITORS) {
		answer_modes(gpu, pending);
	} else {
		answer_edid(gpu, pending, NULL, 0);
	}
}

/* ---- Questions ------------------------------------------------------------------------------ */

static bool ask(struct gpu *gpu)
{
	return gpu->options.num_scanouts > 0 && gpu->callbacks.ask_monitors != NULL &&
		gpu->callbacks.ask_monitors(gpu->cookie);
}

/* It has got its answer, maybe at the end of a round, whose answers are published by then. */
static void end_question(struct gpu *gpu, struct pending_request *pending)
{
	monitors_drop(gpu, pending);
	signal_own_fence(pending, 0);
	complete_if_done(pending);
	gpu->must_wake = gpu->must_wake || !pending->used;
}

void monitors_drop(struct gpu *gpu, struct pending_request *pending)
{
	if (pending->awaits_display) {
		TAILQ_REMOVE(&gpu->monitors.questions, pending, question_link);
		if (gpu->monitors.edid_asked == pending) {
			gpu->monitors.edid_asked = NULL;
		}
		pending->awaits_display = false;
	}
}

void monitors_give_up(struct gpu *gpu)
{
	struct pending_request *pending;

	while ((pending = TAILQ_FIRST(&gpu->monitors.questions)) != NULL) {
		answer(gpu, pending);
		end_question(gpu, pending);
	}
}

/* The first question has been answered; those after it may need one of their own. */
static void next_question(struct gpu *gpu)
{
	if (!TAILQ_EMPTY(&gpu->monitors.questions) && !ask(gpu)) {
		monitors_give_up(gpu);
	}
}

static uint32_t await_display(struct gpu *gpu, struct request *request, uint32_t asks_for)
{
	struct pending_request *pending = request->pending;

	pending->asks_for = asks_for;
	if (TAILQ_EMPTY(&gpu->monitors.questions) && !ask(gpu)) {
		answer(gpu, pending);
		return pending->type;
	}
	pending->awaits_display = true;
	pending->signals_fence = true;
	TAILQ_INSERT_TAIL(&gpu->monitors.questions, pending, question_link);
	return RESPONSE_LATER;
}

/* Otherwise a display may be asked, which reads what is shown just now. */
bool display_is_free(struct gpu *gpu, const struct request *request)
{
	(void)request;
	return !gpu_uses_display(gpu);
}

uint32_t get_display_info(struct gpu *gpu, struct request *request)
{
	return await_display(gpu, request, ALL_MONITORS);
}

uint32_t get_edid(struct gpu *gpu, struct request *request)
{
	struct {
		uint32_t scanout, padding;
	} body;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	if (le32toh(body.scanout) >= gpu->monitors.num_scanouts) {
		return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
	}
	return await_display(gpu, request, le32toh(body.scanout));
}

/* ---- Answers of the display ----------------------------------------------------------------- */

static uint32_t at_most(uint32_t value, uint32_t limit)
{
	return value < limit ? value : limit;
}

/* Returns whether anything is different. */
static bool learn(struct monitors *monitors, const struct virtio_gpu_display_one *from)
{
	struct virtio_gpu_display_one modes[VIRTIO_GPU_MAX_SCANOUTS] = { 0 };
	bool changed;

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		if (from[i].enabled && from[i].r.width >= MIN_SIZE &&
			from[i].r.height >= MIN_SIZE) {
			modes[i] = from[i];
			modes[i].enabled = 1;
			modes[i].r.width = at_most(from[i].r.width, SCANOUT_MAX_SIZE);
			modes[i].r.height = at_most(from[i].r.height, SCANOUT_MAX_SIZE);
		}
	}
	changed = memcmp(modes, monitors->modes, sizeof(modes)) != 0;
	if (changed) {
		monitors->old_edids |= monitors->told_edids;
		monitors->told_edids = 0;
	}
	memcpy(monitors->modes, modes, sizeof(modes));
	monitors->num_scanouts = VIRTIO_GPU_MAX_SCANOUTS;
	return changed;
}

/* A display is asked for the EDID of a monitor only if it has that: others may have no answer. */
static bool ask_edid(struct gpu *gpu, const struct pending_request *pending)
{
	return gpu->callbacks.ask_edid != NULL && gpu->monitors.modes[pending->asks_for].enabled &&
		gpu->callbacks.ask_edid(gpu->cookie, pending->asks_for);
}

void gpu_tell_monitors(struct gpu *gpu, const struct virtio_gpu_display_one *monitors)
{
	struct pending_request *pending = TAILQ_FIRST(&gpu->monitors.questions);
	bool changed = gpu->options.num_scanouts > 0 && monitors != NULL &&
		learn(&gpu->monitors, monitors);

	/* An answer for all of them tells it too. */
	if (changed && gpu->monitors.told &&
		(pending == NULL || pending->asks_for != ALL_MONITORS)) {
		raise_event(gpu);
	}
	if (pending == NULL) {
		return;
	}
	if (monitors != NULL && pending->asks_for != ALL_MONITORS && ask_edid(gpu, pending)) {
		gpu->monitors.edid_asked = pending;
		return;
	}
	answer(gpu, pending);
	end_question(gpu, pending);
	next_question(gpu);
}

void gpu_tell_edid(struct gpu *gpu, const uint8_t *edid, uint32_t size)
{
	struct pending_request *pending = gpu->monitors.edid_asked;

	if (pending != NULL) {
		answer_edid(gpu, pending, edid, size);
		end_question(gpu, pending);
	}
	next_question(gpu);
}
