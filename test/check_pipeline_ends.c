/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * How pipelines end: errors, stops, contexts, crashes, and what becomes of them where pool,
 * lane, loop or process go away or refuse.
 */

#include "pipeline_scene.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "flow/pipeline.h"

/* Errors. */

/* Fails at every tenth number from 50 on, after it has emitted that. */
static int fail_late(struct evwork_emitter *out, void *item, void *arg)
{
	int number = *(int *)item, rc = evwork_emit(out, item);

	(void)arg;
	return rc == 0 && number >= 50 && number % 10 == 0 ? -number : rc;
}

/* With STOP the sink gets what came before the first error, and what the failing call had
 * emitted, and nothing after it; the status is that error, whatever others there were
 * (S-PIPE-8). */
START_TEST(stops_at_an_error)
{
	struct line line;

	line_open(&line, 3, 1000, 3);
	line.stages[1].run = fail_late;
	line.stages[1].width = _i + 1;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 51, -50);
	ck_assert_uint_ge(line.stats.failed, 1);
	ck_assert_int_lt(line.made, 1000);
	line_close(&line);
}
END_TEST

static int fail_at_60(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;

	if (*(int *)item < 60)
		return evwork_emit(out, item);
	gate_open(&line->gate);
	return -60;
}

static int fail_at_30(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;

	/* Not before the other has failed. */
	if (*(int *)item < 30)
		return evwork_emit(out, item);
	gate_pass(&line->gate);
	return -30;
}

/* An error of a later stage at an earlier item wins over one that came before it in time
 * (S-PIPE-8). */
START_TEST(first_error_in_order)
{
	struct line line;

	line_open(&line, 2, 1000, 3);
	line.stages[0].run = fail_at_60;
	line.stages[2].run = fail_at_30;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 30, -30);
	line_close(&line);
}
END_TEST

static int skip_odd(struct evwork_emitter *out, void *item, void *arg)
{
	int number = *(int *)item, half = number / 2;

	(void)arg;
	return number % 2 ? -number : evwork_emit(out, &half);
}

/* With SKIP failed items are left out and counted, and all else is as it was (S-PIPE-9). */
START_TEST(skips_errors)
{
	struct line line;

	line_open(&line, 3, 1000, 2);
	line.options.policy = EVWORK_PIPELINE_SKIP;
	line.stages[1].run = skip_odd;
	line.stages[1].width = _i + 1;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 500, 0);
	ck_assert_uint_eq(line.stats.failed, 500);
	line_close(&line);
}
END_TEST

static int fail_in_source(struct evwork_emitter *out, void *arg)
{
	struct line *line = arg;

	return line->made < 70 ? line_source(out, arg) : -EPROTO;
}

/* An error of the source ends it under either policy, after what it had emitted
 * (S-PIPE-8). */
START_TEST(source_fails)
{
	struct line line;

	line_open(&line, 1, 1000, 1);
	line.options.source = fail_in_source;
	line.options.policy = _i ? EVWORK_PIPELINE_SKIP : EVWORK_PIPELINE_STOP;
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 70, -EPROTO);
	line_close(&line);
}
END_TEST

/* Stops. */

static void stop_at_ten(struct line *line, int number)
{
	if (number == 9) {
		ck_assert_int_eq(evwork_pipeline_stop(line->pipeline), 0);
		ck_assert_int_eq(line->dones, 0);
		ck_assert_int_eq(evwork_pipeline_stop(line->pipeline), -EALREADY);
		ck_assert_int_eq(evwork_pipeline_cancel(line->pipeline), -EALREADY);
		if (line->options.demand)
			ck_assert_int_eq(evwork_pipeline_request(line->pipeline, 1), -EALREADY);
	}
}

/* After a stop in item none follows, what is inside is dropped, and done says so, once
 * (S-PIPE-10, -15). */
START_TEST(stop_in_item)
{
	struct line line;

	line_open(&line, 2, 100000, _i);
	line.on_item = stop_at_ten;
	line.options.demand = _i & 1;
	line_start(&line);
	if (line.options.demand)
		ck_assert_int_eq(evwork_pipeline_request(line.pipeline, INT64_MAX), 0);
	world_run(line.world);
	line_expect(&line, 10, -ECANCELED);
	ck_assert_int_gt(atomic_load(&line.dropped), 0);
	/* An item that a call had when its output was refused has ended there. */
	ck_assert_uint_eq(line.stats.emitted,
		10 + line.stats.dropped + (unsigned)atomic_load(&line.refused));
	line_close(&line);
}
END_TEST

struct blocked {
	struct line line;
	atomic_int emitted, told;
};

static int block(struct evwork_emitter *out, void *item, void *arg)
{
	struct blocked *blocked = arg;

	gate_pass(&blocked->line.gate);
	atomic_store(&blocked->emitted, evwork_emit(out, item));
	atomic_store(&blocked->told, evwork_job_err(evwork_emitter_job(out)));
	return 0;
}

enum stopper { BY_STOP, BY_CANCEL, BY_CTX, BY_LOOP, BY_POOL_QUEUED, BY_POOL_ALL, STOPPERS };

static void stop_by(struct blocked *blocked, enum stopper stopper, struct evwork_ctx *ctx)
{
	struct world *world = blocked->line.world;

	switch (stopper) {
	case BY_STOP:
		ck_assert_int_eq(evwork_pipeline_stop(blocked->line.pipeline), 0);
		break;
	case BY_CANCEL:
		ck_assert_int_eq(evwork_pipeline_cancel(blocked->line.pipeline), 0);
		break;
	case BY_CTX:
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		break;
	case BY_LOOP:
		ck_assert_int_eq(evwork_loop_close(world->loop, NULL, NULL), 0);
		break;
	case BY_POOL_QUEUED:
		ck_assert_int_eq(evwork_pool_close(world->pool, EVWORK_CANCEL_QUEUED, NULL, NULL,
			NULL), 0);
		break;
	default:
		ck_assert_int_eq(evwork_pool_close(world->pool, EVWORK_CANCEL_ALL, NULL, NULL,
			NULL), 0);
		break;
	}
}

/* Whatever stops it, done waits for the call that runs, to which emit and evwork_job_err tell
 * of it, and nothing else is called (S-PIPE-7, -10, -11). */
START_TEST(stop_waits_for_calls)
{
	struct evwork_ctx *ctx;
	struct world world;
	struct blocked blocked = { .emitted = 1 };

	world_open(&world, 2);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	line_init(&blocked.line, &world, 1000, 2);
	blocked.line.stages[0].run = block;
	blocked.line.stages[0].arg = &blocked;
	blocked.line.stages[0].drop = NULL;
	blocked.line.options.ctx = ctx;
	line_start(&blocked.line);
	gate_await(&blocked.line.gate, 1);
	stop_by(&blocked, (enum stopper)_i, ctx);
	world_turns(&world, 5);
	ck_assert_int_eq(blocked.line.dones, 0);
	gate_open(&blocked.line.gate);
	line_run(&blocked.line);
	ck_assert_int_eq(blocked.line.status, -ECANCELED);
	ck_assert_int_eq(blocked.line.free_rc, 0);
	ck_assert_int_eq(blocked.line.item_count, 0);
	ck_assert_int_eq(atomic_load(&blocked.emitted), -EPIPE);
	ck_assert_int_eq(atomic_load(&blocked.told), -ECANCELED);
	ck_assert_int_eq(blocked.line.gate.arrived, 1);
	ck_assert_uint_eq(blocked.line.stats.inside, 0);
	line_fini(&blocked.line);
	evwork_ctx_unref(ctx);
	world_run(&world);
	world_close(&world);
}
END_TEST

/* The same for one that has nothing to do: it waits for pushes, or for demand
 * (S-PIPE-10, -11). */
START_TEST(stop_of_idle)
{
	struct evwork_ctx *ctx;
	struct world world;
	struct blocked blocked = { .emitted = 1 };
	struct line *line = &blocked.line;
	int number = 0;

	world_open(&world, 2);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	line_init(line, &world, 1000, 1);
	line->options.ctx = ctx;
	line->options.demand = 1;
	if (_i >= STOPPERS)
		line->options.source = NULL;
	line_start(line);
	if (_i >= STOPPERS)
		ck_assert_int_eq(evwork_pipeline_push(line->pipeline, &number), 0);
	world_turns(&world, 20);
	stop_by(&blocked, (enum stopper)(_i % STOPPERS), ctx);
	line_run(line);
	ck_assert_int_eq(line->status, -ECANCELED);
	ck_assert_int_eq(line->item_count, 0);
	ck_assert_uint_eq(line->stats.emitted,
		line->stats.dropped + (unsigned)atomic_load(&line->refused));
	ck_assert_int_eq(atomic_load(&line->dropped), (int)line->stats.dropped);
	line_fini(line);
	evwork_ctx_unref(ctx);
	world_run(&world);
	world_close(&world);
}
END_TEST

/* A deadline that passes gives its own error, also when the loop learns of it only by
 * asking (S-PIPE-11, S-CTX-10). */
START_TEST(deadline)
{
	struct evwork_ctx *ctx;
	struct world world;
	struct line line;

	world_open_manual(&world, 1, 1000);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 5, 0, &ctx), 0);
	line_init(&line, &world, 10, 1);
	line.options.demand = 1;
	line.options.ctx = ctx;
	line_start(&line);
	world_turns(&world, 3);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 5 * SYS_NS_PER_MS), 0);
	line_run(&line);
	line_expect(&line, 0, -ETIMEDOUT);
	line_fini(&line);
	evwork_ctx_unref(ctx);
	world_run(&world);
	world_close(&world);
}
END_TEST

/* Crashes. */

static int crash(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;

	if (*(int *)item < 20)
		return evwork_emit(out, item);
	evwork_emit(out, item);
	if (line->arg)
		pthread_exit(NULL);
	evwork_panic(evwork_emitter_job(out), "number %d", *(int *)item);
}

static int crash_batch(struct evwork_emitter *out, void *items, size_t count, void *arg)
{
	int *number = items;
	size_t i;

	for (i = 0; i < count; i++)
		crash(out, &number[i], arg);
	return 0;
}

static int crash_in_source(struct evwork_emitter *out, void *arg)
{
	struct line *line = arg;

	if (line->made < 20)
		return line_source(out, arg);
	evwork_emit(out, &line->made);
	if (line->arg)
		pthread_exit(NULL);
	evwork_panic(evwork_emitter_job(out), "the source");
}

/* A call that panics or ends its thread is like an error under either policy: what it had
 * emitted arrives, and nothing after it (S-CRASH-4, -2). */
START_TEST(crashes)
{
	struct evwork_pool_stats stats;
	struct line line;

	line_open(&line, 2, 10000, 3);
	line.arg = _i & 1 ? &line : NULL;
	line.options.policy = _i & 2 ? EVWORK_PIPELINE_SKIP : EVWORK_PIPELINE_STOP;
	if (_i >> 2 == 0)
		line.options.source = crash_in_source;
	else if (_i >> 2 < 3)
		line.stages[1].run = crash;
	line.stages[1].width = _i >> 2 == 2 ? 2 : 1;
	if (_i >> 2 == 3) {
		line.stages[1].run = NULL;
		line.stages[1].run_batch = crash_batch;
		line.stages[1].batch = 1;
	}
	line_start(&line);
	world_run(line.world);
	line_expect(&line, 21, -EOWNERDEAD);
	ck_assert_uint_ge(line.stats.failed, 1);
	ck_assert_int_eq(evwork_pool_stats(line.world->pool, &stats), 0);
	ck_assert_int_eq(stats.threads, 2);
	line_close(&line);
}
END_TEST

/* Pool and lane. */

static void on_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct line *line = arg;

	(void)pool;
	ck_assert_int_eq(status, 0);
	/* After done (S-DLV-15). */
	line->rooms = line->dones ? 1000 : -1000;
}

/* A pool that drains has the source called no more; what it has emitted still comes, and the
 * pool is closed after that (S-SHUT-2, S-DLV-15). */
START_TEST(pool_drains_source)
{
	struct line line;

	line_open(&line, 2, 3000, 2);
	line.options.demand = 1;
	line_start(&line);
	world_turns(line.world, _i);
	ck_assert_int_eq(evwork_pool_close(line.world->pool, EVWORK_DRAIN, line.world->loop,
		on_pool_closed, &line), 0);
	ck_assert_int_eq(evwork_pipeline_request(line.pipeline, INT64_MAX), 0);
	world_run(line.world);
	ck_assert_uint_eq(line.stats.delivered, line.stats.emitted);
	ck_assert_uint_lt(line.stats.emitted, 3000);
	line_expect(&line, (int)line.stats.emitted, -ESHUTDOWN);
	ck_assert_int_eq(line.rooms, 1000);
	line_close(&line);
}
END_TEST

/* One that is pushed to goes on to the end that it is given (S-SHUT-2, S-DLV-15). */
START_TEST(pool_drains)
{
	struct line line;
	int number;

	line_open(&line, 2, 3000, 2);
	line.options.source = NULL;
	line_start(&line);
	ck_assert_int_eq(evwork_pool_close(line.world->pool, EVWORK_DRAIN, line.world->loop,
		on_pool_closed, &line), 0);
	world_turns(line.world, 3);
	for (number = 0; number < 50; number++)
		ck_assert_int_eq(evwork_pipeline_push(line.pipeline, &number), 0);
	ck_assert_int_eq(evwork_pipeline_end(line.pipeline), 0);
	world_run(line.world);
	line_expect(&line, 50, 0);
	ck_assert_int_eq(line.rooms, 1000);
	line_close(&line);
}
END_TEST

/* A lane that is full when it starts, and one that is full when there is something to do
 * again, are waited for. */
START_TEST(full_lane)
{
	struct evwork_lane_options options = { .queue_limit = 1 };
	struct gate_job first, second;
	struct evwork_lane *lane;
	struct world world;
	struct gate gate;
	struct line line;
	int number = 0;

	world_open(&world, 1);
	gate_init(&gate);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	gate_job_init(&first, &gate);
	gate_job_init(&second, &gate);
	first.job.lane = second.job.lane = lane;
	line_init(&line, &world, 10, 1);
	line.options.lane = lane;
	line.options.source = _i ? NULL : line_source;
	if (_i)
		line_start(&line);
	ck_assert_int_eq(evwork_submit(world.loop, &first.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_submit(world.loop, &second.job), 0);
	if (!_i)
		line_start(&line);
	for (; _i && number < 10; number++)
		ck_assert_int_eq(evwork_pipeline_push(line.pipeline, &number), 0);
	if (_i)
		ck_assert_int_eq(evwork_pipeline_end(line.pipeline), 0);
	world_turns(&world, 5);
	ck_assert_int_eq(line.item_count, 0);
	gate_open(&gate);
	world_run(&world);
	line_expect(&line, 10, 0);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	line_fini(&line);
	gate_fini(&gate);
	world_close(&world);
}
END_TEST

/* What a guard of the lane says when no job of it is on its way ends it, after the start,
 * which was accepted. */
START_TEST(guard_refuses)
{
	struct support_guard refuser = SUPPORT_GUARD(_i ? -EAGAIN : -EHOSTDOWN);
	struct evwork_guard *guards[] = { &refuser.guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct evwork_lane *lane;
	struct world world;
	struct line line;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	line_init(&line, &world, 10, 1);
	line.options.lane = lane;
	line_start(&line);
	ck_assert_int_eq(line.dones, 0);
	world_run(&world);
	line_expect(&line, 0, refuser.answer);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	line_fini(&line);
	world_close(&world);
}
END_TEST

static void free_lane(struct line *line)
{
	ck_assert_int_eq(evwork_lane_free(line->arg), 0);
}

/* In done the lane, and in it the pipeline, may be freed (S-GEN-5). */
START_TEST(lane_freed_in_done)
{
	struct evwork_lane_options options = { 0 };
	struct evwork_lane *lane;
	struct world world;
	struct line line;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	line_init(&line, &world, 100, 1);
	line.options.lane = lane;
	line.arg = lane;
	line.on_done = free_lane;
	line_start(&line);
	ck_assert_int_eq(evwork_lane_free(lane), -EBUSY);
	world_run(&world);
	line_expect(&line, 100, 0);
	line_fini(&line);
	world_close(&world);
}
END_TEST

/* A pipeline keeps its loop from being freed, and event_base_dispatch() from returning
 * (S-DLV-7, S-DLV-14). */
START_TEST(keeps_its_loop)
{
	struct line line;

	line_open(&line, 1, 100, 1);
	line.options.demand = 1;
	line_start(&line);
	world_turns(line.world, 20);
	ck_assert_int_eq(evwork_loop_free(line.world->loop), -EBUSY);
	ck_assert_int_eq(evwork_pipeline_request(line.pipeline, 100), 0);
	world_run(line.world);
	line_expect(&line, 100, 0);
	line_close(&line);
}
END_TEST

/* Races. */

#define ROUNDS 1000

struct race {
	struct line line;
	_Atomic(struct evwork_ctx *) ctx;   /* to be cancelled; NULL when that was done */
	int accepted, refused, wrong;
	atomic_bool over;
};

static int one_item(struct evwork_emitter *out, void *arg)
{
	int number = 0;

	(void)arg;
	evwork_emit(out, &number);
	return EVWORK_SOURCE_END;
}

static void *start_many(void *arg)
{
	struct race *race = arg;
	struct evwork_pipeline *pipeline;
	int i, rc, rounds = support_slow() > 1 ? ROUNDS / 10 : ROUNDS;

	for (i = 0; i < rounds; i++) {
		struct evwork_ctx *ctx;

		if (evwork_ctx_new(NULL, &ctx) != 0)
			abort();
		race->line.options.ctx = ctx;
		atomic_store(&race->ctx, ctx);
		rc = evwork_pipeline_start(race->line.world->loop, &race->line.options, &pipeline);
		race->accepted += rc == 0;
		race->refused += rc == -ECANCELED;
		race->wrong += rc != 0 && rc != -ECANCELED;
		while (atomic_load(&race->ctx))
			sched_yield();
		evwork_ctx_unref(ctx);
	}
	atomic_store(&race->over, true);
	return NULL;
}

static void *cancel_many(void *arg)
{
	struct race *race = arg;
	struct evwork_ctx *ctx;
	unsigned i, pause = 0;

	while (!atomic_load(&race->over)) {
		ctx = atomic_load(&race->ctx);
		if (!ctx) {
			sched_yield();
			continue;
		}
		pause = (pause * 75 + 74) % 65537;
		for (i = pause % 5000; i > 0; i--)
			sys_relax();
		evwork_ctx_cancel(ctx, 0);
		atomic_store(&race->ctx, NULL);
	}
	return NULL;
}

/* The context dies while another thread starts the pipeline: either it is refused, or it has
 * one end, which may free it before the start returns (S-PIPE-11, S-GEN-2). */
START_TEST(starts_race_with_deaths)
{
	static struct race race;
	pthread_t starter, canceller;
	struct world world;

	world_open(&world, 2);
	line_init(&race.line, &world, 0, 1);
	race.line.options.source = one_item;
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	ck_assert_int_eq(pthread_create(&starter, NULL, start_many, &race), 0);
	ck_assert_int_eq(pthread_create(&canceller, NULL, cancel_many, &race), 0);
	while (!atomic_load(&race.over)) {
		world_turns(&world, 1);
		sched_yield();
	}
	pthread_join(starter, NULL);
	pthread_join(canceller, NULL);
	world_run_until(&world, &race.line.dones, race.accepted);
	world_turns(&world, 3);
	ck_assert_int_eq(race.line.dones, race.accepted);
	ck_assert_int_eq(race.wrong, 0);
	ck_assert_int_gt(race.accepted, 0);
	ck_assert_int_le(race.line.item_count, race.accepted);
	support_note("%d accepted, %d refused, %d delivered", race.accepted, race.refused,
		race.line.item_count);
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	line_fini(&race.line);
	world_close(&world);
}
END_TEST

/* Loops freed by force, and forks. */

/* What stays of a pipeline whose loop was freed by force: not lost to leak detectors. */
static struct line left_over;

static void force(struct line *line, int number)
{
	if (number == 3)
		ck_assert_int_ge(evwork_loop_free_force(line->world->loop), 1);
}

static int block_at_ten(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;

	if (*(int *)item == 10)
		gate_pass(&line->gate);
	return evwork_emit(out, item);
}

/* The pool can be closed, no callback came, and what was inside was dropped once. */
static void expect_lost(struct line *line, int items)
{
	struct world *world = line->world;

	ck_assert_int_eq(evwork_pool_close_wait(world->pool, EVWORK_DRAIN), 0);
	ck_assert_int_eq(evwork_pipeline_free(line->pipeline), -EBUSY);
	ck_assert_int_eq(evwork_pipeline_stats(line->pipeline, &line->stats), 0);
	ck_assert_int_eq(line->dones, 0);
	ck_assert_int_eq(line->item_count, items);
	ck_assert_uint_eq(line->stats.inside, 0);
	ck_assert_uint_eq(line->stats.delivered, (unsigned)line->item_count);
	ck_assert_int_eq(atomic_load(&line->dropped), (int)line->stats.dropped);
	ck_assert_int_eq(evwork_pool_free(world->pool), 0);
	event_base_free(world->base);
}

/* The loop is freed by force, in item or outside of it: no callback comes any more,
 * everything inside is dropped once, and the pool can be closed (S-SHUT-11). */
START_TEST(forced)
{
	struct line *line = &left_over;

	line_open(line, 2, 100000, 2);
	line->stages[0].run = block_at_ten;
	if (_i)
		line->on_item = force;
	line_start(line);
	gate_await(&line->gate, 1);
	if (_i)
		ck_assert_int_ge(event_base_dispatch(line->world->base), 0);
	else
		ck_assert_int_ge(evwork_loop_free_force(line->world->loop), 1);
	gate_open(&line->gate);
	expect_lost(line, _i ? 4 : 0);
}
END_TEST

/* The same while it closes, when the pipeline has heard of it and waits for a call. */
START_TEST(forced_while_closing)
{
	struct line *line = &left_over;

	line_open(line, 2, 100000, 2);
	line->stages[0].run = block_at_ten;
	line_start(line);
	gate_await(&line->gate, 1);
	ck_assert_int_eq(evwork_loop_close(line->world->loop, NULL, NULL), 0);
	world_turns(line->world, 5);
	ck_assert_int_eq(evwork_pipeline_stop(line->pipeline), -EALREADY);
	ck_assert_int_ge(evwork_loop_free_force(line->world->loop), 1);
	gate_open(&line->gate);
	expect_lost(line, line->item_count);
}
END_TEST

static int crash_behind_gate(struct evwork_emitter *out, void *item, void *arg)
{
	struct line *line = arg;
	int rc = evwork_emit(out, item);

	if (*(int *)item != 10)
		return rc;
	gate_pass(&line->gate);
	if (line->arg)
		pthread_exit(NULL);
	evwork_panic(evwork_emitter_job(out), "number 10");
}

static int crash_batch_behind_gate(struct evwork_emitter *out, void *items, size_t count,
	void *arg)
{
	int *number = items, rc = 0;
	size_t i;

	for (i = 0; i < count; i++)
		rc = crash_behind_gate(out, &number[i], arg);
	return rc;
}

/* A call crashes, and the loop is freed by force before it has heard of it, or before it
 * happens: what the call had is dropped, too, and once (S-SHUT-11, S-CRASH-2). */
START_TEST(forced_after_crash)
{
	struct line *line = &left_over;

	line_open(line, 2, 100000, 2);
	line->arg = _i & 1 ? line : NULL;
	line->stages[0].run = crash_behind_gate;
	if (_i & 2) {
		line->stages[0].run = NULL;
		line->stages[0].run_batch = crash_batch_behind_gate;
		line->stages[0].batch = 20;
	}
	line_start(line);
	gate_await(&line->gate, 1);
	if (_i & 4) {
		ck_assert_int_ge(evwork_loop_free_force(line->world->loop), 1);
		gate_open(&line->gate);
	} else {
		gate_open(&line->gate);
		await_quiet(line->world);
		ck_assert_int_ge(evwork_loop_free_force(line->world->loop), 1);
	}
	expect_lost(line, 0);
}
END_TEST

/* 0, or the number of the first thing that was not as it should be. */
static int child_of(struct line *line)
{
	struct evwork_pipeline_stats stats;
	int number = 0;

	if (evwork_pipeline_push(line->pipeline, &number) != -ESHUTDOWN)
		return 1;
	if (evwork_pipeline_end(line->pipeline) != -ESHUTDOWN)
		return 2;
	if (evwork_pipeline_request(line->pipeline, 1) != -ESHUTDOWN)
		return 3;
	if (evwork_pipeline_stop(line->pipeline) != -ESHUTDOWN)
		return 4;
	if (evwork_pipeline_cancel(line->pipeline) != -ESHUTDOWN)
		return 5;
	if (evwork_pipeline_stats(line->pipeline, &stats) != -ESHUTDOWN)
		return 6;
	return evwork_pipeline_free(line->pipeline) == 0 ? 0 : 7;
}

/* In the child of a fork a pipeline is refused and can be freed (S-SHUT-12). */
START_TEST(child_is_refused)
{
	struct line line;
	pid_t child;

	if (!support_forks()) {
		support_note("no forks here");
		return;
	}
	line_open(&line, 1, 100, 1);
	line.stages[0].run = block_at_ten;
	line_start(&line);
	gate_await(&line.gate, 1);
	child = fork();
	if (child == 0)
		_exit(child_of(&line));
	support_await_child(child);
	gate_open(&line.gate);
	world_run(line.world);
	line_expect(&line, 100, 0);
	line_close(&line);
}
END_TEST

/* Another thread that holds the lock of the pipeline while this one forks. */
struct holder {
	struct evwork_pipeline *pipeline;
	struct gate gate;
};

static void *hold(void *arg)
{
	struct holder *holder = arg;

	sys_lock(&holder->pipeline->mutex);
	gate_pass(&holder->gate);
	sys_unlock(&holder->pipeline->mutex);
	return NULL;
}

static pid_t fork_while_held(struct evwork_pipeline *pipeline)
{
	struct holder holder = { .pipeline = pipeline };
	pthread_t thread;
	pid_t child;

	gate_init(&holder.gate);
	ck_assert_int_eq(pthread_create(&thread, NULL, hold, &holder), 0);
	gate_await(&holder.gate, 1);
	child = fork();
	if (child == 0)
		return child;
	gate_open(&holder.gate);
	pthread_join(thread, NULL);
	gate_fini(&holder.gate);
	ck_assert_int_gt(child, 0);
	return child;
}

enum { WAITING, SPILLED, CRASHED, DROPS };

/* Forks once, on the loop's thread, in the drop of an item, or of the one of this number. */
static struct {
	struct line *line;
	int number;                     /* -1: of any */
	bool frees;                     /* the child does in drop */
	bool forked, is_child;
	int drops_of_child;
	pid_t child;
} forking;

static int free_in_child(void)
{
	const struct line *line = forking.line;

	if (evwork_pipeline_free(line->pipeline) != 0)
		return 2;
	if (evwork_loop_free(line->world->loop) != 0)
		return 3;
	return evwork_pool_free(line->world->pool) == 0 ? 0 : 4;
}

static void drop_and_fork(void *item, void *arg)
{
	atomic_fetch_add(&forking.line->dropped, 1);
	(void)arg;
	forking.drops_of_child += forking.is_child;
	if (forking.forked || (forking.number >= 0 && *(int *)item != forking.number))
		return;
	forking.forked = true;
	forking.child = fork_while_held(forking.line->pipeline);
	forking.is_child = forking.child == 0;
	if (forking.is_child && forking.frees && free_in_child() != 0)
		_exit(1);
}

static int spill(struct evwork_emitter *out, void *item, void *arg)
{
	int i, rc = 0;

	(void)arg;
	for (i = 0; i < 200 && rc == 0; i++)
		rc = evwork_emit(out, item);
	return rc;
}

/* Has the pipeline filled and stopped, so that all that is dropped is dropped by the loop. */
static void fill_and_stop(struct line *line, int what)
{
	line->stages[0].run = what == CRASHED ? crash_behind_gate : what == SPILLED ? spill :
		line_pass;
	line->stages[0].drop = drop_and_fork;
	line->options.drop = drop_and_fork;
	line_start(line);
	if (what == CRASHED)
		gate_await(&line->gate, 1);
	else
		await_quiet(line->world);
	ck_assert_int_eq(evwork_pipeline_stop(line->pipeline), 0);
	gate_open(&line->gate);
	await_quiet(line->world);
}

/* A child that is made in a drop and returns from it does not wait for a lock that another
 * thread had, and drops and calls nothing more, whether it has freed the pipeline or not; the
 * parent goes on (S-SHUT-12). */
START_TEST(child_made_in_drop)
{
	struct line line;

	if (!support_forks())
		return;
	line_open(&line, 1, 100, 1);
	memset(&forking, 0, sizeof(forking));
	forking.line = &line;
	forking.number = _i / 2 == CRASHED ? 10 : -1;
	forking.frees = _i % 2;
	fill_and_stop(&line, _i / 2);
	while (line.dones == 0 && !forking.is_child)
		world_turns(line.world, 1);
	if (forking.is_child)
		_exit(line.dones || forking.drops_of_child ? 5 :
			forking.frees ? 0 : free_in_child());
	ck_assert(forking.forked);
	support_await_child(forking.child);
	line_expect(&line, 0, _i / 2 == CRASHED ? -EOWNERDEAD : -ECANCELED);
	ck_assert_int_gt(atomic_load(&line.dropped), 1);
	world_run(line.world);
	line_close(&line);
}
END_TEST

static Suite *suite(void)
{
	Suite *ends = suite_create("pipeline_ends");
	TCase *forced_case = tcase_create("force"), *tcase = support_case(ends, "errors");

	tcase_add_loop_test(tcase, stops_at_an_error, 0, 3);
	tcase_add_test(tcase, first_error_in_order);
	tcase_add_loop_test(tcase, skips_errors, 0, 3);
	tcase_add_loop_test(tcase, source_fails, 0, 2);

	tcase = support_case(ends, "stops");
	tcase_add_loop_test(tcase, stop_in_item, 0, 4);
	tcase_add_loop_test(tcase, stop_waits_for_calls, 0, STOPPERS);
	tcase_add_loop_test(tcase, stop_of_idle, 0, 2 * STOPPERS);
	tcase_add_test(tcase, deadline);

	tcase = support_case(ends, "crashes");
	tcase_add_loop_test(tcase, crashes, 0, 16);

	tcase = support_case(ends, "places");
	tcase_add_test(tcase, pool_drains);
	tcase_add_loop_test(tcase, pool_drains_source, 0, 4);
	tcase_add_loop_test(tcase, full_lane, 0, 2);
	tcase_add_loop_test(tcase, guard_refuses, 0, 2);
	tcase_add_test(tcase, lane_freed_in_done);
	tcase_add_test(tcase, keeps_its_loop);
	tcase_add_test(tcase, child_is_refused);
	tcase_add_loop_test(tcase, child_made_in_drop, 0, 2 * DROPS);

	tcase = support_case(ends, "races");
	tcase_add_test(tcase, starts_race_with_deaths);

	/* What a pipeline on such a loop is made of stays, so leaks are not looked for. */
	tcase_set_timeout(forced_case, 60.0 * support_slow());
	tcase_add_loop_test(forced_case, forced, 0, 2);
	tcase_add_test(forced_case, forced_while_closing);
	tcase_add_loop_test(forced_case, forced_after_crash, 0, 8);
	suite_add_tcase(ends, forced_case);
	return ends;
}

int main(void)
{
	return support_run(suite());
}
