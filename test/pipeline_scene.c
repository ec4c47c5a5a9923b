/* SPDX-License-Identifier: BSD-3-Clause */

#include "pipeline_scene.h"

#include <sched.h>

int line_source(struct evwork_emitter *out, void *arg)
{
	struct line *line = arg;
	int rc;

	atomic_fetch_add(&line->source_calls, 1);
	line->source_thread = pthread_self();
	if (line->made == line->numbers)
		return EVWORK_SOURCE_END;
	rc = evwork_emit(out, &line->made);
	line->made += rc == 0;
	return rc ? rc : EVWORK_SOURCE_MORE;
}

int line_pass(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;
	int rc = evwork_emit(out, item);

	atomic_fetch_add(&line->refused, rc != 0);
	return rc;
}

static void drop(void *item, void *arg)
{
	struct line *line = arg;

	(void)item;
	atomic_fetch_add(&line->dropped, 1);
}

static void on_item(struct evwork_pipeline *pipeline, void *item, void *arg)
{
	struct line *line = arg;
	int number = *(int *)item;

	(void)pipeline;
	line->item_thread = pthread_self();
	if (line->item_count < LINE_ITEMS)
		line->items[line->item_count] = number;
	line->item_count++;
	if (line->on_item)
		line->on_item(line, number);
}

static void on_room(struct evwork_pipeline *pipeline, void *arg)
{
	struct line *line = arg;

	(void)pipeline;
	line->rooms++;
}

static void on_done(struct evwork_pipeline *pipeline, int status, void *arg)
{
	struct line *line = arg;

	line->dones++;
	line->status = status;
	evwork_pipeline_stats(pipeline, &line->stats);
	if (line->on_done)
		line->on_done(line);
	if (!line->keeps)
		line->free_rc = evwork_pipeline_free(pipeline);
}

void line_init(struct line *line, struct world *world, int numbers, int stages)
{
	int i;

	memset(line, 0, sizeof(*line));
	gate_init(&line->gate);
	line->world = world;
	line->numbers = numbers;
	for (i = 0; i < stages; i++) {
		line->stages[i].run = line_pass;
		line->stages[i].item_size = sizeof(int);
		line->stages[i].drop = drop;
	}
	line->options.source = line_source;
	line->options.stages = line->stages;
	line->options.stage_count = (size_t)stages;
	line->options.item_size = sizeof(int);
	line->options.item = on_item;
	line->options.drop = drop;
	line->options.done = on_done;
	line->options.room = on_room;
	line->options.arg = line;
}

void line_fini(struct line *line)
{
	gate_fini(&line->gate);
}

void line_open(struct line *line, int threads, int numbers, int stages)
{
	line_init(line, &line->own, numbers, stages);
	world_open(&line->own, threads);
}

void line_close(struct line *line)
{
	line_fini(line);
	world_close(&line->own);
}

void line_start(struct line *line)
{
	ck_assert_int_eq(evwork_pipeline_start(line->world->loop, &line->options,
		&line->pipeline), 0);
}

void line_run(struct line *line)
{
	world_run_until(line->world, &line->dones, 1);
}

void await_quiet(struct world *world)
{
	struct evwork_lane_stats stats;

	do {
		sched_yield();
		stats = stats_of(evwork_pool_lane(world->pool));
	} while (stats.queued > 0 || stats.running > 0);
}

void line_expect(const struct line *line, int count, int status)
{
	int i;

	ck_assert_int_eq(line->dones, 1);
	ck_assert_int_eq(line->status, status);
	ck_assert_int_eq(line->free_rc, 0);
	ck_assert_int_eq(line->item_count, count);
	for (i = 0; i < count && i < LINE_ITEMS; i++)
		if (line->items[i] != i)
			ck_abort_msg("%d came for %d", line->items[i], i);
	ck_assert_uint_eq(line->stats.inside, 0);
	ck_assert_uint_eq(line->stats.delivered, (unsigned)count);
	ck_assert_uint_eq(line->stats.dropped, (unsigned)atomic_load(&line->dropped));
}
