/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The rows of vgfence bench growth as a picture: panels in which each row is a point, by how many
 * fences are pending, and its colour says how many contexts there are. A line joins the medians, so
 * that a knee is one.
 */

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "bench.h"
#include "growth.h"

#define WIDTH 460
#define HEIGHT 320
#define LEFT 60
#define RIGHT 20
#define PANEL_TOP 40
#define BOTTOM 46
#define TOP 58
#define ROWS_MAX 96

static const struct {
	uint32_t contexts;
	const char *color;
} legend[] = {
	{ 1, "#d62728" },
	{ 4, "#ff7f0e" },
	{ 16, "#bcbd22" },
	{ 64, "#2ca02c" },
	{ 256, "#1f77b4" },
	{ 1024, "#9467bd" },
};

#define NUM_LEGEND (sizeof(legend) / sizeof(legend[0]))

static double get_alone(const struct growth_row *row)
{
	return row->ns[0];
}

static double get_together(const struct growth_row *row)
{
	return row->ns[1];
}

static double get_of_bare(const struct growth_row *row)
{
	return growth_of_bare(row, 0);
}

static double get_together_of_bare(const struct growth_row *row)
{
	return growth_of_bare(row, 1);
}

static double get_wakeups(const struct growth_row *row)
{
	return row->wakeups[1];
}

static double get_bytes(const struct growth_row *row)
{
	return row->bytes < 0 ? NAN : row->bytes / 1024;
}

static const struct {
	const char *title;
	double (*get)(const struct growth_row *row);
	bool logarithmic;
} kinds[] = {
	{ "a fence, dispatched alone, ns", get_alone, false },
	{ "of the bare system calls' time", get_of_bare, false },
	{ "a fence, up to eight dispatched together, ns", get_together, false },
	{ "of the bare system calls' time, together", get_together_of_bare, false },
	{ "wake-ups a fence, up to eight together", get_wakeups, false },
	{ "heap in all, KiB", get_bytes, true },
};

#define NUM_KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct panel {
	FILE *file;
	const struct growth_row *rows;
	size_t count;
	size_t kind;
	uint32_t limit;
	double x, y;     /* of its corner */
	int first, last; /* marks of the axis of values */
	double step;     /* between marks: of the values, or of their logarithms */
	int powers;      /* the axis of fences ends at four to the power of this */
};

static double value_of(const struct panel *panel, size_t row)
{
	return kinds[panel->kind].get(&panel->rows[row]);
}

static double place_x(const struct panel *panel, double pending)
{
	return panel->x + LEFT + log2(pending) / 2 / panel->powers * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct panel *panel, double value)
{
	double at = (kinds[panel->kind].logarithmic ? log10(value) : value) / panel->step;

	return panel->y + HEIGHT - BOTTOM -
		(at - panel->first) / (panel->last - panel->first) * (HEIGHT - BOTTOM - PANEL_TOP);
}

/* One, two or five times a power of ten, so that up to eight of them are enough. */
static double axis_step(double most)
{
	double step = pow(10, floor(log10(most / 8)));

	return most / step <= 16 ? 2 * step : most / step <= 40 ? 5 * step : 10 * step;
}

static double greatest(const struct panel *panel)
{
	double most = 0;

	for (size_t i = 0; i < panel->count; i++) {
		most = fmax(most, value_of(panel, i)); /* of a number and NaN the number */
	}
	return most > 0 ? most : 1;
}

static void draw_mark(const struct panel *panel, double value)
{
	double y = place_y(panel, value);

	fprintf(panel->file,
		"<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n"
		"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" font-size=\"11\">%.6g</text>\n",
		panel->x + LEFT, panel->x + WIDTH - RIGHT, y, y, panel->x + LEFT - 6, y + 4, value);
}

static void draw_values_axis(struct panel *panel)
{
	double most = greatest(panel);
	bool logarithmic = kinds[panel->kind].logarithmic;

	panel->first = logarithmic ? 1 : 0;
	panel->step = logarithmic ? 1 : axis_step(most);
	panel->last = (int)ceil((logarithmic ? log10(most) : most) / panel->step);
	for (int i = panel->first; i <= panel->last; i++) {
		draw_mark(panel, logarithmic ? pow(10, i) : i * panel->step);
	}
}

static void draw_fences_axis(const struct panel *panel)
{
	double bottom = panel->y + HEIGHT - BOTTOM;
	double limit = place_x(panel, panel->limit);

	for (int i = 0; i <= panel->powers; i++) {
		fprintf(panel->file,
			"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" "
			"font-size=\"11\">%.0f</text>\n",
			place_x(panel, pow(4, i)), bottom + 16, pow(4, i));
	}
	if (limit <= panel->x + WIDTH - RIGHT) {
		fprintf(panel->file,
			"<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#888\" "
			"stroke-dasharray=\"4 3\"/>\n",
			limit, limit, panel->y + PANEL_TOP, bottom);
	}
}

static const char *color_of(const struct growth_row *row)
{
	size_t i = 0;

	while (i < NUM_LEGEND - 1 && legend[i].contexts != row->contexts) {
		i++;
	}
	return legend[i].color;
}

static void draw_points(const struct panel *panel)
{
	for (size_t i = 0; i < panel->count; i++) {
		double value = value_of(panel, i);

		if (!isnan(value)) {
			fprintf(panel->file,
				"<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\" "
				"fill-opacity=\"0.7\"/>\n",
				place_x(panel, growth_pending(&panel->rows[i])),
				place_y(panel, value), color_of(&panel->rows[i]));
		}
	}
}

static void draw_medians(const struct panel *panel)
{
	fputs("<polyline fill=\"none\" stroke=\"#333\" stroke-width=\"1.5\" points=\"",
		panel->file);
	for (int power = 0; power <= panel->powers; power++) {
		double values[ROWS_MAX];
		size_t count = 0;

		for (size_t i = 0; i < panel->count; i++) {
			if (growth_pending(&panel->rows[i]) == (uint32_t)pow(4, power) &&
				!isnan(value_of(panel, i))) {
				values[count++] = value_of(panel, i);
			}
		}
		if (count > 0) {
			fprintf(panel->file, "%.1f,%.1f ", place_x(panel, pow(4, power)),
				place_y(panel, bench_percentile(values, count, 50)));
		}
	}
	fputs("\"/>\n", panel->file);
}

static void draw_panel(struct panel *panel)
{
	fprintf(panel->file, "<text x=\"%.1f\" y=\"%.1f\" font-weight=\"bold\">%s</text>\n",
		panel->x + LEFT, panel->y + PANEL_TOP - 14, kinds[panel->kind].title);
	draw_values_axis(panel);
	draw_fences_axis(panel);
	draw_medians(panel);
	draw_points(panel);
}

static void draw_legend(FILE *file)
{
	fprintf(file, "<text x=\"%d\" y=\"24\">contexts:</text>\n", LEFT);
	for (size_t i = 0; i < NUM_LEGEND; i++) {
		int x = LEFT + 74 + 62 * (int)i;
		fprintf(file,
			"<circle cx=\"%d\" cy=\"20\" r=\"4\" fill=\"%s\"/>\n"
			"<text x=\"%d\" y=\"24\">%" PRIu32 "</text>\n",
			x, legend[i].color, x + 9, legend[i].contexts);
	}
	fprintf(file,
		"<text x=\"%d\" y=\"46\">Across: fences pending. A line joins the medians. Dashes: "
		"the limit of descriptors.</text>\n",
		LEFT);
}

static void draw(FILE *file, const struct growth_row *rows, size_t count, uint32_t limit)
{
	struct panel panel = { .file = file, .rows = rows, .count = count, .limit = limit };
	int width = 2 * WIDTH, height = TOP + HEIGHT * (int)(NUM_KINDS / 2);
	uint32_t most = 1;

	for (size_t i = 0; i < count; i++) {
		most = growth_pending(&rows[i]) > most ? growth_pending(&rows[i]) : most;
	}
	panel.powers = (int)(log2(most) / 2) + 1;
	fprintf(file,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
		"height=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n"
		"<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
		width, height, width, height, width, height);
	draw_legend(file);
	for (size_t i = 0; i < NUM_KINDS; i++) {
		panel.kind = i;
		panel.x = WIDTH * (int)(i % 2);
		panel.y = TOP + HEIGHT * (int)(i / 2);
		draw_panel(&panel);
	}
	fputs("</svg>\n", file);
}

int growth_write_svg_take(const struct growth_row *rows, size_t count, uint32_t limit, FILE *file)
{
	int ret = 0;

	draw(file, rows, count, limit);
	if (ferror(file)) {
		ret = -EIO;
	}
	if (fclose(file) != 0 && ret == 0) {
		ret = -errno;
	}
	return ret;
}
