/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Histories as a picture: a panel for each, two in a row, all of one scale. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "history.h"

#define PANEL_WIDTH 620
#define LABEL_WIDTH 110
#define PLOT_WIDTH (PANEL_WIDTH - LABEL_WIDTH - 20)
#define ROW_HEIGHT 24
#define PANEL_HEAD 30
#define PANEL_FOOT 34
#define TOP 56
#define MAX_ROWS 64

/* Bars of what waits are below the GPU's, one upon the other if there are several at once. */
#define BAR_HEIGHT 11
#define THIN_HEIGHT 3
#define MAX_THIN 3

#define COLOR_RUNS "#3b6fb6"
#define COLOR_HELD "#e8a33d"
#define COLOR_QUEUED "#a9c6ea"
#define COLOR_TURN "#c55a7e"
#define COLOR_ROW "#f1f1f1"
#define COLOR_ARROW "#444"

struct panel {
	FILE *file;
	const struct history *history;
	const struct history_window *window;
	const char *title;
	double x, y;           /* of its corner */
	size_t rows[MAX_ROWS]; /* tracks, from top to bottom */
	size_t num_rows;
	uint64_t thin_end_ns[MAX_ROWS][MAX_THIN];
};

static int compare_tracks(const struct history_track *left, const struct history_track *right)
{
	if (left->ctx_id != right->ctx_id) {
		return left->ctx_id < right->ctx_id ? -1 : 1;
	}
	return (left->ring > right->ring) - (left->ring < right->ring);
}

static size_t find_row(const struct panel *panel, size_t track)
{
	size_t row = 0;

	while (row < panel->num_rows && panel->rows[row] != track) {
		row++;
	}
	return row;
}

/* Those that have something to show, in the order of their names. */
static void find_rows(struct panel *panel)
{
	const struct history *history = panel->history;

	for (size_t i = 0; i < history->num_jobs && panel->num_rows < MAX_ROWS; i++) {
		const struct history_job *job = &history->jobs[i];
		size_t at = panel->num_rows;

		if (!history_shows(history, panel->window, job) ||
			find_row(panel, job->track) < panel->num_rows) {
			continue;
		}
		for (; at > 0 &&
			compare_tracks(&history->tracks[job->track],
				&history->tracks[panel->rows[at - 1]]) < 0;
			at--) {
			panel->rows[at] = panel->rows[at - 1];
		}
		panel->rows[at] = job->track;
		panel->num_rows++;
	}
}

static double to_x(const struct panel *panel, uint64_t t_ns)
{
	const struct history_window *window = panel->window;

	t_ns = history_end(panel->history, t_ns);
	t_ns = t_ns < window->from_ns ? window->from_ns : t_ns;
	t_ns = t_ns > window->to_ns ? window->to_ns : t_ns;
	return panel->x + LABEL_WIDTH +
		(double)(t_ns - window->from_ns) / (double)(window->to_ns - window->from_ns) *
		PLOT_WIDTH;
}

static double row_y(const struct panel *panel, size_t row)
{
	return panel->y + PANEL_HEAD + (double)row * ROW_HEIGHT;
}

static void draw_bar(struct panel *panel, double y, double height, const char *color,
	uint64_t from_ns, uint64_t to_ns)
{
	double left = to_x(panel, from_ns), right = to_x(panel, to_ns);

	if (from_ns != HISTORY_NEVER && right - left > 0.05) {
		fprintf(panel->file,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
			"fill=\"%s\"/>\n",
			left, y, right - left, height, color);
	}
}

/* Returns the number of a thin bar that is free then. */
static size_t find_thin(struct panel *panel, size_t row, uint64_t from_ns, uint64_t to_ns)
{
	for (size_t i = 0; i < MAX_THIN; i++) {
		if (panel->thin_end_ns[row][i] <= from_ns) {
			panel->thin_end_ns[row][i] = history_end(panel->history, to_ns);
			return i;
		}
	}
	return MAX_THIN - 1;
}

static void draw_job(struct panel *panel, const struct history_job *job)
{
	size_t row = find_row(panel, job->track);
	uint64_t gone_ns = job->run_ns != HISTORY_NEVER ? job->run_ns : job->signal_ns;
	uint64_t start_ns = job->start_ns != HISTORY_NEVER ? job->start_ns : job->signal_ns;
	double y = row_y(panel, row), thin;

	if (row == panel->num_rows) {
		return;
	}
	thin = y + BAR_HEIGHT + 1 +
		(double)find_thin(panel, row, job->accept_ns, job->retire_ns) * (THIN_HEIGHT + 0.5);
	fprintf(panel->file, "<g class=\"job\"><title>fence %" PRIu64 "</title>\n",
		job->fence.fence_id);
	if (job->held) {
		draw_bar(panel, thin, THIN_HEIGHT, COLOR_HELD, job->accept_ns, gone_ns);
	}
	draw_bar(panel, thin, THIN_HEIGHT, COLOR_QUEUED, job->run_ns, start_ns);
	draw_bar(panel, thin, THIN_HEIGHT, COLOR_TURN, job->signal_ns, job->retire_ns);
	draw_bar(panel, y, BAR_HEIGHT - 0.5, COLOR_RUNS, job->start_ns, job->signal_ns);
	fputs("</g>\n", panel->file);
}

/* From the end of the work that is waited for to the beginning of what waits. */
static void draw_arrow(struct panel *panel, const struct history_wait *wait)
{
	const struct history *history = panel->history;
	const struct history_job *from, *to = &history->jobs[wait->waiter];
	size_t from_row, to_row;
	double x[2], y[2];

	if (wait->producer == HISTORY_NONE) {
		return;
	}
	from = &history->jobs[wait->producer];
	from_row = find_row(panel, from->track);
	to_row = find_row(panel, to->track);
	if (from_row == to_row || from_row == panel->num_rows || to_row == panel->num_rows ||
		from->signal_ns < panel->window->from_ns || to->start_ns > panel->window->to_ns ||
		from->signal_ns > to->start_ns) {
		return;
	}
	x[0] = to_x(panel, from->signal_ns);
	x[1] = to_x(panel, to->start_ns);
	y[0] = row_y(panel, from_row) + BAR_HEIGHT / 2.0;
	y[1] = row_y(panel, to_row) + (from_row < to_row ? 0 : BAR_HEIGHT);
	fprintf(panel->file,
		"<line class=\"in-fence\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
		"stroke=\"" COLOR_ARROW "\" stroke-width=\"0.8\" marker-end=\"url(#arrow)\"/>\n",
		x[0], y[0], x[1], y[1]);
}

/* A distance between marks of the axis that leaves four to ten of them. */
static uint64_t axis_step(uint64_t length_us)
{
	uint64_t step = 1;

	while (length_us / step > 10) {
		step *= length_us / step > 20 ? length_us / step > 50 ? 10 : 5 : 2;
	}
	return step;
}

static void draw_axis(struct panel *panel)
{
	uint64_t length_us = (panel->window->to_ns - panel->window->from_ns) / NS_PER_US;
	uint64_t step = axis_step(length_us);
	double bottom = row_y(panel, panel->num_rows);

	for (uint64_t t = 0; t <= length_us; t += step) {
		double x = to_x(panel, panel->window->from_ns + t * NS_PER_US);

		fprintf(panel->file,
			"<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ccc\"/>\n"
			"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" "
			"font-size=\"11\">%" PRIu64 "%s</text>\n",
			x, x, panel->y + PANEL_HEAD - 3, bottom, x, bottom + 13, t,
			t == 0 ? " µs" : "");
	}
}

/* What the GPU was done with in the window. */
static size_t count_done(const struct panel *panel)
{
	size_t count = 0;

	for (size_t i = 0; i < panel->history->num_jobs; i++) {
		uint64_t signal_ns = panel->history->jobs[i].signal_ns;

		count += signal_ns >= panel->window->from_ns && signal_ns < panel->window->to_ns;
	}
	return count;
}

/* Of a file's name there may be anything. */
static void write_text(FILE *file, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '<' || c == '&' || c == '>' || c < 0x20 || c > 0x7e) {
			fprintf(file, "_");
		} else {
			fputc(c, file);
		}
	}
}

static void draw_panel(struct panel *panel)
{
	const struct history *history = panel->history;
	char text[HISTORY_NAME_SIZE];

	fprintf(panel->file, "<text x=\"%.1f\" y=\"%.1f\" font-weight=\"bold\">", panel->x + 8,
		panel->y + 16);
	write_text(panel->file, panel->title);
	fprintf(panel->file, "<tspan font-weight=\"normal\">: %s; %zu jobs done</tspan></text>\n",
		history->passing ? "in-fences are passed to the host" : "the guest waits",
		count_done(panel));
	for (size_t i = 0; i < panel->num_rows; i++) {
		fprintf(panel->file,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%d\" "
			"fill=\"" COLOR_ROW "\"/>\n"
			"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" "
			"font-size=\"11\">%s</text>\n",
			panel->x + LABEL_WIDTH, row_y(panel, i), PLOT_WIDTH, BAR_HEIGHT,
			panel->x + LABEL_WIDTH - 6, row_y(panel, i) + 10,
			history_track_name(&history->tracks[panel->rows[i]], text));
	}
	draw_axis(panel);
	for (size_t i = 0; i < history->num_jobs; i++) {
		if (history_shows(history, panel->window, &history->jobs[i])) {
			draw_job(panel, &history->jobs[i]);
		}
	}
	for (size_t i = 0; i < history->num_waits; i++) {
		draw_arrow(panel, &history->waits[i]);
	}
}

static void draw_legend(FILE *file)
{
	static const char *const entries[][2] = {
		{ COLOR_RUNS, "the GPU works" },
		{ COLOR_ROW, "the GPU is idle" },
		{ COLOR_HELD, "held by the host for in-fences" },
		{ COLOR_QUEUED, "queued in the GPU" },
		{ COLOR_TURN, "done, waits for its turn" },
	};
	double x = 12;

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		fprintf(file,
			"<rect x=\"%.1f\" y=\"14\" width=\"22\" height=\"11\" fill=\"%s\" "
			"stroke=\"#999\" stroke-width=\"0.5\"/>\n"
			"<text x=\"%.1f\" y=\"24\">%s</text>\n",
			x, entries[i][0], x + 28, entries[i][1]);
		x += 50 + 7 * (double)strlen(entries[i][1]);
	}
	fprintf(file,
		"<line x1=\"%.1f\" y1=\"20\" x2=\"%.1f\" y2=\"20\" stroke=\"" COLOR_ARROW "\" "
		"marker-end=\"url(#arrow)\"/>\n<text x=\"%.1f\" y=\"24\">waited for (in-fence)"
		"</text>\n",
		x, x + 22, x + 30);
}

static double draw_all(FILE *file, struct panel *panels, size_t count)
{
	double y = TOP;

	for (size_t i = 0; i < count; i += 2) {
		size_t rows = panels[i].num_rows;

		if (i + 1 < count && panels[i + 1].num_rows > rows) {
			rows = panels[i + 1].num_rows;
		}
		for (size_t k = i; k < count && k < i + 2; k++) {
			panels[k].x = (double)(k - i) * PANEL_WIDTH;
			panels[k].y = y;
			if (file != NULL) {
				draw_panel(&panels[k]);
			}
		}
		y += PANEL_HEAD + PANEL_FOOT + (double)rows * ROW_HEIGHT;
	}
	return y;
}

static void draw(FILE *file, struct panel *panels, size_t count)
{
	int width = count > 1 ? 2 * PANEL_WIDTH : PANEL_WIDTH + 440;
	double height = draw_all(NULL, panels, count);

	fprintf(file,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" "
		"height=\"%.0f\" font-family=\"sans-serif\" font-size=\"13\">\n"
		"<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" "
		"markerWidth=\"6\" markerHeight=\"6\" orient=\"auto\">"
		"<path d=\"M0 0 L8 4 L0 8 z\" fill=\"" COLOR_ARROW "\"/></marker></defs>\n"
		"<rect width=\"%d\" height=\"%.0f\" fill=\"white\"/>\n",
		width, height, width, height, width, height);
	draw_legend(file);
	draw_all(file, panels, count);
	fputs("</svg>\n", file);
}

int history_write_svg(const struct history *histories, const char *const *titles,
	const struct history_window *windows, size_t count, const char *path)
{
	struct panel *panels = calloc(count + 1, sizeof(*panels));
	FILE *file;
	int ret = 0;

	if (panels == NULL) {
		return -ENOMEM;
	}
	file = fopen(path, "we");
	if (file == NULL) {
		ret = -errno;
		free(panels);
		return ret;
	}
	for (size_t i = 0; i < count; i++) {
		panels[i].file = file;
		panels[i].history = &histories[i];
		panels[i].window = &windows[i];
		panels[i].title = titles[i];
		find_rows(&panels[i]);
	}
	draw(file, panels, count);
	if (ferror(file)) {
		ret = -EIO;
	}
	if (fclose(file) != 0 && ret == 0) {
		ret = -errno;
	}
	free(panels);
	return ret;
}
