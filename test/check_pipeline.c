/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Pipelines: what goes through them, how much of it at once, demand, pushing, batches,
 * refusals and failing system calls. How they end otherwise is in check_pipeline_ends.c, and
 * pipelines of random shape in check_pipeline_random.c.
 */

#include "pipeline_scene.h"

#include <errno.h>
#include <sched.h>

/* Source and stages run on a worker, item and done on the loop's thread, and all items
 * come in order (S-PIPE-1, -5, S-GEN-17). */
START_TEST(goes_through)
{
	struct line line;

	line_open(&line, 2, 1000, _i);
	line_start(&line);
	/* Nothing inside the call (S-GEN-3). */
	ck_assert_int_eq(line.item_count + line.dones, 0);
	world_run(line.world);
	line_expect(&line, 1000, 0);
	ck_assert_uint_eq(line.stats.emitted, 1000);
	ck_assert(pthread_equal(line.item_thread, pthread_self()));
	ck_assert(!pthread_equal(line.source_thread, pthread_self()));
	line_close(&line);
}
END_TEST

/* A pipeline of any length ends on a pool of one thread, also with queues of one place
 * (S-PIPE-3). */
START_TEST(one_thread)
{
	struct line line;
	int i;

	line_open(&line, 1, 300, _i);
	for (i = 0; i < _i; i++) {
		line.stages[i].queue = 1;
		line.stages[i].width = i % 3;
	}
	line.options.window = 1;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 300, 0);
	line_close(&line);
}
END_TEST

/* An empty source gives done without items, in a later turn (S-PIPE-6). */
START_TEST(empty)
{
	struct line line;

	line_open(&line, 1, 0, 2);
	line_start(&line);
	ck_assert_int_eq(line.dones, 0);
	world_run(line.world);
	line_expect(&line, 0, 0);
	ck_assert_int_eq(atomic_load(&line.source_calls), 1);
	line_close(&line);
}
END_TEST

/* How much is inside. */

/* A silent sink stops the source, when queues, places for calls and the window are full
 * (S-PIPE-2). */
START_TEST(silent_sink)
{
	struct evwork_pipeline_stats stats;
	struct line line;

	line_open(&line, 1, 1000, 2);
	line.stages[0].queue = 3;
	line.stages[1].queue = 2;
	line.options.window = 3;
	line_start(&line);
	/* The loop does not run. */
	await_quiet(line.world);
	ck_assert_int_eq(evwork_pipeline_stats(line.pipeline, &stats), 0);
	ck_assert_uint_eq(stats.inside, 3 + 1 + 2 + 1 + 3);
	ck_assert_uint_eq(stats.emitted, stats.inside);
	ck_assert_uint_eq(stats.peak, stats.inside);
	world_run(line.world);
	line_expect(&line, 1000, 0);
	ck_assert_uint_eq(line.stats.peak, 3 + 1 + 2 + 1 + 3);
	line_close(&line);
}
END_TEST

static int burst(struct evwork_emitter *out, void *item, void *arg)
{
	int i, number = *(int *)item * 100, rc = 0;

	(void)arg;
	for (i = 0; i < 100 && rc == 0; i++, number++)
		rc = evwork_emit(out, &number);
	return rc;
}

/* One call may emit many more than there is room for: emit never waits, and all of it
 * arrives before the next (S-PIPE-7, -2). */
START_TEST(bursts)
{
	struct line line;

	line_open(&line, 2, 40, 3);
	line.stages[1].run = burst;
	line.stages[1].width = _i ? 3 : 1;
	line.stages[2].queue = 2;
	line.options.window = 1;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 4000, 0);
	/* Two calls of it, and what else there is room for. */
	ck_assert_uint_le(line.stats.peak, 2 * 100 + 64 + 1 + 64 + 2 + 2 + 1 + 1);
	line_close(&line);
}
END_TEST

static int meet(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;

	if (*(int *)item >= 996) {
		gate_pass(&line->gate);
		return evwork_emit(out, item);
	}
	return evwork_emit(out, item);
}

static void open_when_all(void *arg)
{
	struct line *line = arg;

	gate_await(&line->gate, 4);
	gate_open(&line->gate);
}

static void *opener(void *arg)
{
	open_when_all(arg);
	return NULL;
}

/* As many calls as `width` run at once, also after items that were quick: they all wait
 * for each other (S-PIPE-4). */
START_TEST(width_is_reached)
{
	struct line line;
	pthread_t thread;

	line_open(&line, 4, 1000, 1);
	line.stages[0].run = meet;
	line.stages[0].width = 4;
	line.stages[0].unordered = _i == 1;
	line.stages[0].queue = _i == 2 ? 1 : 0;
	ck_assert_int_eq(pthread_create(&thread, NULL, opener, &line), 0);
	line_start(&line);
	world_run(line.world);
	pthread_join(thread, NULL);
	ck_assert_int_eq(line.status, 0);
	ck_assert_int_eq(line.item_count, 1000);
	line_close(&line);
}
END_TEST

static int block_first(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;
	int rc;

	if (*(int *)item == 0)
		gate_pass(&line->gate);
	rc = evwork_emit(out, item);
	atomic_fetch_add(&line->consumed, 1);
	return rc;
}

static void open_after_nine(struct line *line, int number)
{
	(void)number;
	if (line->item_count == 9)
		gate_open(&line->gate);
}

/* Without order what is finished goes on, past what is not (S-PIPE-5) … */
START_TEST(unordered)
{
	struct line line;

	line_open(&line, 2, 10, 1);
	line.stages[0].run = block_first;
	line.stages[0].width = 2;
	line.stages[0].unordered = 1;
	line.on_item = open_after_nine;
	line_start(&line);
	world_run(line.world);
	ck_assert_int_eq(line.item_count, 10);
	ck_assert_int_eq(line.items[9], 0);
	line_close(&line);
}
END_TEST

/* … with order it waits (S-PIPE-5). */
START_TEST(ordered)
{
	struct line line;

	line_open(&line, 2, 10, 1);
	line.stages[0].run = block_first;
	line.stages[0].width = 2;
	line_start(&line);
	while (atomic_load(&line.consumed) < 9)
		world_turns(line.world, 1);
	world_turns(line.world, 3);
	ck_assert_int_eq(line.item_count, 0);
	gate_open(&line.gate);
	world_run(line.world);
	line_expect(&line, 10, 0);
	line_close(&line);
}
END_TEST

static int asking_source(struct evwork_emitter *out, void *arg)
{
	struct line *line = arg;
	size_t room = evwork_emit_room(out);

	if (room < 1 || evwork_emit(out, &line->made) != 0 || evwork_emit_room(out) != room - 1)
		return -EPROTO;
	if (evwork_emitter_pipeline(out) != line->pipeline ||
	    evwork_pipeline_arg(line->pipeline) != line ||
	    evwork_job_err(evwork_emitter_job(out)) != 0 ||
	    evwork_emit(out, NULL) != -EINVAL || evwork_emit(NULL, &room) != -EINVAL)
		return -EPROTO;
	return ++line->made == line->numbers ? EVWORK_SOURCE_END : EVWORK_SOURCE_MORE;
}

/* What a source and a stage may ask: there is room at first, and less after each. */
START_TEST(asking)
{
	struct line line;

	line_open(&line, 1, 200, 1);
	line.options.source = asking_source;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 200, 0);
	ck_assert_uint_eq(evwork_emit_room(NULL), 0);
	ck_assert_ptr_null(evwork_emitter_pipeline(NULL));
	ck_assert_ptr_null(evwork_emitter_job(NULL));
	ck_assert_ptr_null(evwork_pipeline_arg(NULL));
	line_close(&line);
}
END_TEST

static struct {
	struct evwork_defer defer;
	int pending, called, wrong;
} deferring;

static void undo(void *arg)
{
	(void)arg;
	deferring.pending--;
	deferring.called++;
}

static int deferring_stage(struct evwork_emitter *out, void *item, void *arg)
{
	(void)arg;
	deferring.wrong += deferring.pending != 0;
	deferring.pending++;
	evwork_defer(evwork_emitter_job(out), &deferring.defer, undo, NULL);
	return evwork_emit(out, item);
}

/* What is registered with evwork_defer() in a call runs after that call (S-CRASH-12). */
START_TEST(defers)
{
	struct line line;

	line_open(&line, 1, 100, 1);
	line.stages[0].run = deferring_stage;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 100, 0);
	ck_assert_int_eq(deferring.called, 100);
	ck_assert_int_eq(deferring.wrong + deferring.pending, 0);
	line_close(&line);
}
END_TEST

/* Without `item` what comes to the sink is dropped. */
START_TEST(no_item)
{
	struct line line;

	line_open(&line, 1, 500, 1);
	line.options.item = NULL;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 0, 0);
	ck_assert_int_eq(atomic_load(&line.dropped), 500);
	line_close(&line);
}
END_TEST

/* Demand. */

/* As many items come as were asked for, requests add up, and the end needs none
 * (S-PIPE-12, -13, -15). */
START_TEST(demand)
{
	struct line line;

	line_open(&line, 1, 10, 1);
	line.options.demand = 1;
	line_start(&line);
	await_quiet(line.world);
	world_turns(line.world, 3);
	ck_assert_int_eq(line.item_count, 0);
	ck_assert_int_eq(evwork_pipeline_request(line.pipeline, 0), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_request(line.pipeline, -1), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_request(line.pipeline, 2), 0);
	ck_assert_int_eq(evwork_pipeline_request(line.pipeline, 3), 0);
	ck_assert_int_eq(line.item_count, 0);
	world_run_until(line.world, &line.item_count, 5);
	world_turns(line.world, 3);
	ck_assert_int_eq(line.item_count, 5);
	ck_assert_int_eq(line.dones, 0);
	ck_assert_int_eq(evwork_pipeline_request(line.pipeline, 5), 0);
	world_run(line.world);
	line_expect(&line, 10, 0);
	line_close(&line);
}
END_TEST

static void ask_for_one(struct line *line, int number)
{
	int before = line->item_count;

	(void)number;
	ck_assert_int_eq(evwork_pipeline_request(line->pipeline, line->arg ? INT64_MAX : 1), 0);
	ck_assert_int_eq(line->item_count, before);
}

/* Requests stop counting at INT64_MAX, which is without bound; and one from within item
 * does not call item (S-PIPE-12, -14). */
START_TEST(demand_from_item)
{
	struct line line;

	line_open(&line, 1, 500, 1);
	line.options.demand = 1;
	line.on_item = ask_for_one;
	line.arg = _i ? &line : NULL;
	line_start(&line);
	ck_assert_int_eq(evwork_pipeline_request(line.pipeline, 1), 0);
	world_run(line.world);
	line_expect(&line, 500, 0);
	line_close(&line);
}
END_TEST

static int failing_source(struct evwork_emitter *out, void *arg)
{
	(void)out;
	(void)arg;
	return -EPROTO;
}

/* An empty source and an error end it without any request (S-PIPE-15). */
START_TEST(end_without_demand)
{
	struct line line;

	line_open(&line, 1, 0, 1);
	line.options.demand = 1;
	if (_i)
		line.options.source = failing_source;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 0, _i ? -EPROTO : 0);
	line_close(&line);
}
END_TEST

/* Pushing. */

static void push_all(struct line *line)
{
	int rc = 0;

	while (rc == 0 && line->made < line->numbers) {
		rc = evwork_pipeline_push(line->pipeline, &line->made);
		line->made += rc == 0;
	}
	if (line->made == line->numbers)
		ck_assert_int_eq(evwork_pipeline_end(line->pipeline), 0);
	else
		ck_assert_int_eq(rc, -EAGAIN);
}

static void push_more(struct evwork_pipeline *pipeline, void *arg)
{
	struct line *line = arg;

	(void)pipeline;
	line->rooms++;
	push_all(line);
}

/* A push that finds no room is refused, and room is told of once; the bound holds, and the
 * order is that of the pushes. */
START_TEST(pushing)
{
	struct line line;

	line_open(&line, 1, 1000, _i);
	line.options.source = NULL;
	line.options.room = push_more;
	line.stages[0].queue = 5;
	line.options.window = 5;
	line_start(&line);
	push_all(&line);
	ck_assert_int_eq(line.item_count, 0);
	world_run(line.world);
	line_expect(&line, 1000, 0);
	ck_assert_uint_eq(line.stats.emitted, 1000);
	ck_assert_int_ge(line.rooms, 1);
	ck_assert_uint_le(line.stats.peak, _i ? 6 + 65 * (unsigned)(_i - 1) + 5 : 5);
	line_close(&line);
}
END_TEST

/* What push and end say when it is not for them. */
START_TEST(pushing_refused)
{
	struct world world;
	struct line line;
	int number = 0;

	world_open(&world, 1);
	line_init(&line, &world, 0, 1);
	line_start(&line);
	ck_assert_int_eq(evwork_pipeline_push(line.pipeline, &number), -EPERM);
	ck_assert_int_eq(evwork_pipeline_end(line.pipeline), -EPERM);
	world_run(&world);
	line_init(&line, &world, 0, 1);
	line.options.source = NULL;
	line.keeps = true;
	line_start(&line);
	ck_assert_int_eq(evwork_pipeline_push(NULL, &number), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_push(line.pipeline, NULL), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_end(NULL), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_push(line.pipeline, &number), 0);
	ck_assert_int_eq(evwork_pipeline_end(line.pipeline), 0);
	ck_assert_int_eq(evwork_pipeline_push(line.pipeline, &number), -EPIPE);
	ck_assert_int_eq(evwork_pipeline_end(line.pipeline), -EALREADY);
	line_run(&line);
	line_expect(&line, 1, 0);
	ck_assert_int_eq(evwork_pipeline_push(line.pipeline, &number), -EPIPE);
	ck_assert_int_eq(evwork_pipeline_end(line.pipeline), -EALREADY);
	ck_assert_int_eq(evwork_pipeline_free(line.pipeline), 0);
	line_fini(&line);
	world_close(&world);
}
END_TEST

/* Batches. */

static struct {
	atomic_int calls;
	int sizes[64];
} batches;

static int run_batch(struct evwork_emitter *out, void *items, size_t count, void *arg)
{
	int *numbers = items, call = atomic_fetch_add(&batches.calls, 1), rc = 0;
	size_t i;

	(void)arg;
	if (call < 64)
		batches.sizes[call] = (int)count;
	for (i = 0; i < count && rc == 0; i++)
		rc = evwork_emit(out, &numbers[i]);
	return rc;
}

static void batch_line(struct line *line, struct world *world, int numbers, int size, int wait_ms)
{
	atomic_store(&batches.calls, 0);
	line_init(line, world, numbers, 1);
	line->stages[0].run = NULL;
	line->stages[0].run_batch = run_batch;
	line->stages[0].batch = size;
	line->stages[0].batch_wait_ms = wait_ms;
}

/* A batch waits for its size, and the last one is what is left (S-PIPE-16). */
START_TEST(batch_by_size)
{
	struct world world;
	struct line line;
	int i;

	world_open_manual(&world, 2, 1000);
	batch_line(&line, &world, 47, 10, 1000);
	line_start(&line);
	line_run(&line);
	line_expect(&line, 47, 0);
	ck_assert_int_eq(atomic_load(&batches.calls), 5);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(batches.sizes[i], i < 4 ? 10 : 7);
	line_fini(&line);
	world_close(&world);
}
END_TEST

/* … or for its time, counted from its first item, and not a moment less (S-PIPE-16). */
START_TEST(batch_by_time)
{
	struct world world;
	struct line line;
	int number = 0;

	world_open_manual(&world, 1, 1000);
	batch_line(&line, &world, 0, 10, 5);
	line.options.source = NULL;
	line_start(&line);
	for (number = 0; number < 3; number++)
		ck_assert_int_eq(evwork_pipeline_push(line.pipeline, &number), 0);
	world_turns(&world, 3);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 5 * SYS_NS_PER_MS - 1), 0);
	world_turns(&world, 3);
	ck_assert_int_eq(evwork_pipeline_push(line.pipeline, &number), 0);
	world_turns(&world, 3);
	await_quiet(&world);
	ck_assert_int_eq(atomic_load(&batches.calls), 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 1), 0);
	world_run_until(&world, &line.item_count, 4);
	ck_assert_int_eq(atomic_load(&batches.calls), 1);
	ck_assert_int_eq(batches.sizes[0], 4);
	/* A second time. */
	number++;
	ck_assert_int_eq(evwork_pipeline_push(line.pipeline, &number), 0);
	world_turns(&world, 3);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 5 * SYS_NS_PER_MS), 0);
	world_run_until(&world, &line.item_count, 5);
	ck_assert_int_eq(evwork_pipeline_end(line.pipeline), 0);
	line_run(&line);
	line_expect(&line, 5, 0);
	ck_assert_int_eq(atomic_load(&batches.calls), 2);
	line_fini(&line);
	world_close(&world);
}
END_TEST

/* A batch that is more than the queue takes comes when that is full; without time it takes
 * what there is (S-PIPE-16). */
START_TEST(batch_of_full_queue)
{
	struct world world;
	struct line line;

	world_open_manual(&world, 1, 1000);
	batch_line(&line, &world, 30, 100, _i ? 1000 : 0);
	line.stages[0].queue = 9;
	line_start(&line);
	line_run(&line);
	line_expect(&line, 30, 0);
	ck_assert_int_ge(atomic_load(&batches.calls), 3);
	ck_assert_int_le(batches.sizes[0], 10);
	if (_i)
		ck_assert_int_eq(atomic_load(&batches.calls), 3);
	line_fini(&line);
	world_close(&world);
}
END_TEST

/* The first number becomes 0, 1 and 2, and waits for the gate before. */
static int three_of_first(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;
	int number = *(int *)item + 2, i;

	if (number > 2) {
		atomic_fetch_add(&line->consumed, 1);
		return evwork_emit(out, &number);
	}
	gate_pass(&line->gate);
	for (i = 0; i < number; i++)
		if (evwork_emit(out, &i) != 0)
			return -EPROTO;
	return evwork_emit(out, &number);
}

/* The places before a batch are promised to outputs that come after the first ones, which
 * are more than had room: the batch is then as large as it can be (S-PIPE-5, S-PIPE-16). */
START_TEST(batch_behind_promises)
{
	struct world world;
	struct line line;

	world_open_manual(&world, 2, 1000);
	batch_line(&line, &world, 10, 4, 1000);
	line.stages[1] = line.stages[0];
	line.stages[1].queue = 3;
	line.stages[0].run = three_of_first;
	line.stages[0].run_batch = NULL;
	line.stages[0].batch = 0;
	line.stages[0].batch_wait_ms = 0;
	line.stages[0].width = 2;
	line.options.stage_count = 2;
	line_start(&line);
	while (atomic_load(&line.consumed) < 3)
		world_turns(&world, 1);
	gate_open(&line.gate);
	line_run(&line);
	line_expect(&line, 12, 0);
	line_fini(&line);
	world_close(&world);
}
END_TEST

/* The loop. */

struct ticker {
	struct line *line;
	struct support_timer timer;
	int most;               /* items between two of its turns */
	int before;
};

static void tick_again(struct support_timer *timer)
{
	struct ticker *ticker = timer->arg;
	int since = ticker->line->item_count - ticker->before;

	if (since > ticker->most)
		ticker->most = since;
	ticker->before = ticker->line->item_count;
	if (!ticker->line->dones)
		ck_assert_int_eq(evwork_timer_start(ticker->line->world->loop, &timer->timer, 0), 0);
}

/* A source that is always ready does not keep a timer waiting: between two turns of it no
 * more items come than a turn may call (S-PIPE-17, S-DLV-5). */
START_TEST(shares_the_turn)
{
	struct evwork_pool_options pool = { .threads = 2 };
	struct evwork_loop_options loop = { .batch = 20, .budget_us = 1000000 };
	struct evwork_loop_stats stats;
	struct ticker ticker = { 0 };
	struct world world;
	struct line line;

	world_open_with(&world, &pool, &loop);
	line_init(&line, &world, 5000, 1);
	line.options.window = 1000;
	ticker.line = &line;
	support_timer_init(&ticker.timer, world.loop);
	ticker.timer.on = tick_again;
	ticker.timer.arg = &ticker;
	ck_assert_int_eq(evwork_timer_start(world.loop, &ticker.timer.timer, 0), 0);
	line_start(&line);
	world_run(&world);
	line_expect(&line, 5000, 0);
	ck_assert_int_ge(ticker.most, 1);
	ck_assert_int_le(ticker.most, 2 * 20);
	ck_assert_int_eq(evwork_loop_stats(world.loop, &stats), 0);
	ck_assert_uint_ge(stats.delivered, 5000);
	ck_assert_uint_ge(stats.turns, 5000 / 20);
	line_fini(&line);
	world_close(&world);
}
END_TEST

static int endless(struct evwork_emitter *out, void *arg)
{
	struct line *line = arg;
	int rc = evwork_emit(out, &line->made);

	line->made++;
	return rc ? rc : EVWORK_SOURCE_MORE;
}

static void stop_line(struct probe *probe)
{
	struct line *line = probe->arg;

	ck_assert_int_eq(evwork_pipeline_stop(line->pipeline), 0);
}

/* Others that wait for the pool's only worker get it, although the pipeline always has
 * something to do. */
START_TEST(gives_way)
{
	struct probe probe;
	struct line line;

	line_open(&line, 1, 0, 2);
	line.options.source = endless;
	line.options.item = NULL;
	line_start(&line);
	world_turns(line.world, 100);
	probe_init(&probe, 0);
	probe.on_done = stop_line;
	probe.arg = &line;
	ck_assert_int_eq(evwork_submit(line.world->loop, &probe.job), 0);
	world_run(line.world);
	expect_probe_once(&probe, 0);
	ck_assert_int_eq(line.status, -ECANCELED);
	line_close(&line);
}
END_TEST

/* Numbers from here on take longer than a carrier keeps its worker from others. */
#define FIRST_SLOW 3000

struct waiting_job {
	struct evwork_job job;
	struct line *line;
	int slow_calls;         /* before it ran */
	atomic_bool ran;
};

static int run_waiting(struct evwork_job *job)
{
	struct waiting_job *waiting = EVWORK_CONTAINER(job, struct waiting_job, job);

	waiting->slow_calls = atomic_load(&waiting->line->consumed);
	atomic_store(&waiting->ran, true);
	return 0;
}

static int pass_slowly(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;
	struct waiting_job *waiting = line->arg;
	int number = *(int *)item;
	int64_t until = sys_now() + 2 * SYS_NS_PER_MS;

	if (number >= FIRST_SLOW && !atomic_load(&waiting->ran)) {
		if (number == FIRST_SLOW &&
		    evwork_submit(line->world->loop, &waiting->job) != 0)
			return -EPROTO;
		while (sys_now() < until)
			sched_yield();
		atomic_fetch_add(&line->consumed, 1);
	}
	return evwork_emit(out, item);
}

/* … and soon, too, if the calls of a stage were quick, so that many are made in a row, and
 * become slow. */
START_TEST(gives_way_when_slow)
{
	struct waiting_job waiting;
	struct line line;

	line_open(&line, 1, 5000, 1);
	memset(&waiting, 0, sizeof(waiting));
	evwork_job_init(&waiting.job, run_waiting, NULL);
	waiting.line = &line;
	line.arg = &waiting;
	line.stages[0].run = pass_slowly;
	line.stages[0].queue = line.options.window = 2000;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 5000, 0);
	ck_assert_int_ge(waiting.slow_calls, 1);
	ck_assert_int_le(waiting.slow_calls, 10);
	line_close(&line);
}
END_TEST

/* Refusals. */

static void refuse(struct line *line, int rc)
{
	struct evwork_pipeline *pipeline = (void *)line;

	ck_assert_int_eq(evwork_pipeline_start(line->world->loop, &line->options, &pipeline), rc);
	ck_assert_ptr_eq(pipeline, line);
}

/* What is malformed is refused and leaves nothing behind (S-GEN-4). */
START_TEST(refusals)
{
	struct evwork_pipeline *pipeline;
	struct evwork_ctx *ctx;
	struct world world;
	struct line line, good;

	world_open(&world, 1);
	line_init(&line, &world, 1, 1);
	good = line;
#define REFUSED(change, rc) do { \
	line = good; \
	line.options.stages = line.stages; \
	change; \
	refuse(&line, rc); \
} while (0)
	ck_assert_int_eq(evwork_pipeline_start(NULL, &line.options, &pipeline), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_start(world.loop, NULL, &pipeline), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_start(world.loop, &line.options, NULL), -EINVAL);
	REFUSED(line.stages[0].run = NULL, -EINVAL);
	REFUSED(line.stages[0].run_batch = run_batch, -EINVAL);
	REFUSED(line.stages[0].item_size = 0, -EINVAL);
	REFUSED(line.stages[0].width = -1, -EINVAL);
	REFUSED(line.stages[0].queue = -1, -EINVAL);
	REFUSED(line.stages[0].batch = 1, -EINVAL);
	REFUSED(line.stages[0].batch = -1, -EINVAL);
	REFUSED(line.stages[0].batch_wait_ms = 1, -EINVAL);
	REFUSED(line.stages[0].batch_wait_ms = -1, -EINVAL);
	REFUSED(line.stages[0].run = NULL; line.stages[0].run_batch = run_batch, -EINVAL);
	REFUSED(line.options.stages = NULL, -EINVAL);
	REFUSED(line.options.item_size = 0, -EINVAL);
	REFUSED(line.options.window = -1, -EINVAL);
	REFUSED(line.options.policy = (enum evwork_pipeline_policy)2, -EINVAL);
	REFUSED(line.options.policy = (enum evwork_pipeline_policy)-1, -EINVAL);
	REFUSED(line.options.item_size = SIZE_MAX / 4, -ERANGE);
	REFUSED(line.stages[0].item_size = SIZE_MAX / 4, -ERANGE);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	REFUSED(line.options.ctx = ctx, -ECANCELED);
	/* The size comes first. */
	REFUSED(line.options.ctx = ctx; line.options.item_size = SIZE_MAX / 4, -ERANGE);
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	REFUSED(line.options.ctx = ctx; line.options.item_size = SIZE_MAX / 4, -ESHUTDOWN);
#undef REFUSED
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(evwork_pipeline_stop(NULL), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_cancel(NULL), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_request(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_stats(NULL, &line.stats), -EINVAL);
	ck_assert_int_eq(evwork_pipeline_free(NULL), 0);
	world_run(&world);
	line_fini(&line);
	world_close(&world);
}
END_TEST

static void on_other_thread(void *arg)
{
	struct line *line = arg;

	ck_assert_int_eq(evwork_pipeline_stop(line->pipeline), -EPERM);
	ck_assert_int_eq(evwork_pipeline_request(line->pipeline, 1), -EPERM);
}

/* What is refused while it runs and when it has ended (S-PIPE-15, S-GEN-4). */
START_TEST(refused_by_state)
{
	struct line line;

	line_open(&line, 1, 10, 1);
	line.keeps = true;
	line_start(&line);
	ck_assert_int_eq(evwork_pipeline_free(line.pipeline), -EBUSY);
	ck_assert_int_eq(evwork_pipeline_request(line.pipeline, 1), -EPERM);
	ck_assert_int_eq(evwork_pipeline_stats(line.pipeline, NULL), -EINVAL);
	support_elsewhere(on_other_thread, &line);
	world_run(line.world);
	line_expect(&line, 10, 0);
	ck_assert_int_eq(evwork_pipeline_stop(line.pipeline), -EALREADY);
	ck_assert_int_eq(evwork_pipeline_cancel(line.pipeline), -EALREADY);
	ck_assert_int_eq(evwork_pipeline_free(line.pipeline), 0);
	line_close(&line);
}
END_TEST

/* Failing. */

/* One start under failure; false when nothing was left to fail. */
static bool start_once(struct world *world, enum sys_call kind, int k, bool onwards)
{
	struct evwork_pipeline *pipeline = NULL;
	struct line line;
	int rc, calls;

	batch_line(&line, world, 20, 3, 1);
	line.options.stage_count = 2;
	line.stages[1] = line.stages[0];
	line.stages[1].run_batch = NULL;
	line.stages[1].batch = 0;
	line.stages[1].batch_wait_ms = 0;
	line.stages[1].run = burst;
	line.stages[1].width = 2;
	fault_start(kind, k, onwards);
	rc = evwork_pipeline_start(world->loop, &line.options, &pipeline);
	calls = fault_stop();
	if (rc == 0) {
		line.pipeline = pipeline;
		line_run(&line);
		ck_assert_int_eq(line.free_rc, 0);
		/* A worker may have met the failure, too, in emit. */
		ck_assert(line.status == 0 || line.status == -ENOMEM);
		ck_assert(line.status || line.item_count == 2000);
	} else {
		ck_assert_int_eq(rc, -ENOMEM);
		ck_assert_ptr_null(pipeline);
		world_turns(world, 1);
		ck_assert_int_eq(line.dones + line.item_count, 0);
	}
	line_fini(&line);
	return calls >= k;
}

/* With the n-th call of any kind failing, for each n, a start either works or leaves nothing
 * behind (S-CRASH-8). */
START_TEST(starting_when_the_system_fails)
{
	struct world world;
	int kind, k, onwards, most = 0;

	world_open(&world, 2);
	for (kind = 0; kind <= SYS_CALLS; kind++) {
		for (onwards = 0; onwards < 2; onwards++) {
			for (k = 1; start_once(&world, (enum sys_call)kind, k, onwards); k++)
				;
			if (k > most)
				most = k;
		}
	}
	ck_assert_int_ge(most, 10);
	world_close(&world);
}
END_TEST

static atomic_int no_memory;

static int hungry_stage(struct evwork_emitter *out, void *item, void *arg)
{
	int i, rc = 0;

	(void)arg;
	for (i = 0; i < 300 && rc == 0; i++)
		rc = evwork_emit(out, item);
	if (rc == -ENOMEM)
		atomic_fetch_add(&no_memory, 1);
	return rc;
}

/* Without memory emit fails and the item stays the caller's; with policy SKIP all else goes
 * on (S-CRASH-8). */
START_TEST(emit_without_memory)
{
	struct line line;

	line_open(&line, 2, 5, 1);
	line.stages[0].run = hungry_stage;
	line.options.policy = EVWORK_PIPELINE_SKIP;
	line_start(&line);
	fault_start(SYS_MEMORY, 1, true);
	line_run(&line);
	fault_stop();
	ck_assert_int_eq(line.status, 0);
	ck_assert_uint_eq(line.stats.failed, (unsigned)atomic_load(&no_memory));
	ck_assert_uint_eq(line.stats.inside, 0);
	line_close(&line);
}
END_TEST

static Suite *suite(void)
{
	Suite *pipeline = suite_create("pipeline");
	TCase *tcase = support_case(pipeline, "through");

	tcase_add_loop_test(tcase, goes_through, 0, 5);
	tcase_add_loop_test(tcase, one_thread, 1, LINE_STAGES + 1);
	tcase_add_test(tcase, empty);
	tcase_add_test(tcase, silent_sink);
	tcase_add_loop_test(tcase, bursts, 0, 2);
	tcase_add_loop_test(tcase, width_is_reached, 0, 3);
	tcase_add_test(tcase, unordered);
	tcase_add_test(tcase, ordered);
	tcase_add_test(tcase, asking);
	tcase_add_test(tcase, defers);
	tcase_add_test(tcase, no_item);

	tcase = support_case(pipeline, "demand");
	tcase_add_test(tcase, demand);
	tcase_add_loop_test(tcase, demand_from_item, 0, 2);
	tcase_add_loop_test(tcase, end_without_demand, 0, 2);

	tcase = support_case(pipeline, "push");
	tcase_add_loop_test(tcase, pushing, 0, 4);
	tcase_add_test(tcase, pushing_refused);

	tcase = support_case(pipeline, "batch");
	tcase_add_test(tcase, batch_by_size);
	tcase_add_test(tcase, batch_by_time);
	tcase_add_loop_test(tcase, batch_of_full_queue, 0, 2);
	tcase_add_test(tcase, batch_behind_promises);

	tcase = support_case(pipeline, "loop");
	tcase_add_test(tcase, shares_the_turn);
	tcase_add_test(tcase, gives_way);
	tcase_add_test(tcase, gives_way_when_slow);

	tcase = support_case(pipeline, "refused");
	tcase_add_test(tcase, refusals);
	tcase_add_test(tcase, refused_by_state);

	tcase = support_case(pipeline, "failing");
	tcase_add_test(tcase, starting_when_the_system_fails);
	tcase_add_test(tcase, emit_without_memory);
	return pipeline;
}

int main(void)
{
	return support_run(suite());
}
