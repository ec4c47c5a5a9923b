/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * General rules about what is accepted and refused, about structs of the caller and
 * about blocking calls. What callbacks may do is in check_gen_calls.c, races are in
 * check_gen_race.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

/* A world whose only worker waits in a gate. */
struct jam {
	struct world world;
	struct gate gate;
	struct gate_job blocker;
};

static void jam_open(struct jam *jam, size_t queue_limit)
{
	struct evwork_pool_options options = { .threads = 1 };

	options.lane.queue_limit = queue_limit;
	world_open_with(&jam->world, &options, NULL);
	gate_init(&jam->gate);
	gate_job_init(&jam->blocker, &jam->gate);
	ck_assert_int_eq(evwork_submit(jam->world.loop, &jam->blocker.job), 0);
	gate_await(&jam->gate, 1);
}

static void jam_close(struct jam *jam)
{
	gate_open(&jam->gate);
	world_run(&jam->world);
	ck_assert_int_eq(jam->blocker.status, 0);
	world_close(&jam->world);
	gate_fini(&jam->gate);
}

/* Refused or accepted. */

static int destroyed;
static int value_key;

static void count_destroy(void *value)
{
	(void)value;
	destroyed++;
}

static struct probe *loose_probe(void)
{
	struct probe *probe = malloc(sizeof(*probe));

	ck_assert_ptr_nonnull(probe);
	probe_init(probe, 0);
	return probe;
}

/* A job that was refused, for want of room or for its context, is the caller's at
 * once: its memory may go, no reference to its context is kept, and nothing is
 * called, S-GEN-2. */
START_TEST(refused_job_leaves_nothing)
{
	struct evwork_ctx *ctx;
	struct probe *probe, filler;
	struct jam jam;
	int refusal = _i ? -ECANCELED : -EAGAIN;

	destroyed = 0;
	jam_open(&jam, 1);
	probe_init(&filler, 0);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &filler.job), 0);
	ck_assert_int_eq(evwork_ctx_with_value(NULL, &value_key, &jam, count_destroy, &ctx), 0);
	if (_i)
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	probe = loose_probe();
	probe->job.ctx = ctx;
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe->job), refusal);
	ck_assert_int_eq(evwork_cancel(&probe->job), -ESRCH);
	free(probe);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(destroyed, 1);
	jam_close(&jam);
	ck_assert_int_eq(atomic_load(&probe_run_counter), 1);
	ck_assert_int_eq(atomic_load(&probe_done_counter), 1);
}
END_TEST

/* A job that was refused may be submitted again, and then has its one done: S-GEN-2,
 * S-GEN-7. */
START_TEST(refused_job_comes_again)
{
	struct probe filler, probe;
	struct jam jam;

	jam_open(&jam, 1);
	probe_init(&filler, 0);
	probe_init(&probe, 7);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &filler.job), 0);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe.job), -EAGAIN);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe.job), -EAGAIN);
	gate_open(&jam.gate);
	world_run(&jam.world);
	ck_assert_int_eq(probe.dones, 0);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe.job), 0);
	world_run(&jam.world);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.status, 7);
	jam_close(&jam);
}
END_TEST

/* Structs of the caller. */

/* Asking for the end of what is idle gives ESRCH, or 0 for a watch, and changes
 * nothing, however often it was used: S-GEN-7. */
START_TEST(idle_structs_are_known)
{
	struct support_timer timer;
	struct support_watch watch;
	struct evwork_ctx *dead;
	struct probe probe;
	struct world world;
	int round;

	world_open(&world, 1);
	probe_init(&probe, 0);
	support_timer_init(&timer, world.loop);
	support_watch_init(&watch);
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(dead, 0), 0);
	for (round = 0; round < 100; round++) {
		ck_assert_int_eq(evwork_cancel(&probe.job), -ESRCH);
		ck_assert_int_eq(evwork_timer_stop(&timer.timer), -ESRCH);
		ck_assert_int_eq(evwork_ctx_stop(&watch.watch), 0);
		ck_assert_int_eq(probe.dones, round);
		ck_assert_int_eq(timer.calls, round);
		ck_assert_int_eq(watch.calls, round);
		ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
		ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 0), 0);
		ck_assert_int_eq(evwork_ctx_after(dead, world.loop, &watch.watch), 0);
		world_run_until(&world, &watch.calls, round + 1);
		world_run(&world);
	}
	ck_assert_int_eq(probe.status, 0);
	evwork_ctx_unref(dead);
	world_close(&world);
}
END_TEST

/* What is pending refuses to be started again, and goes its way: S-GEN-7. */
START_TEST(pending_structs_are_busy)
{
	struct support_timer timer;
	struct support_watch watch;
	struct probe probe;
	struct jam jam;

	jam_open(&jam, 0);
	probe_init(&probe, 0);
	support_timer_init(&timer, jam.world.loop);
	support_watch_init(&watch);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_timer_start(jam.world.loop, &timer.timer, 0), 0);
	ck_assert_int_eq(evwork_ctx_after(NULL, jam.world.loop, &watch.watch), 0);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe.job), -EBUSY);
	ck_assert_int_eq(evwork_timer_start(jam.world.loop, &timer.timer, 1000000), -EBUSY);
	ck_assert_int_eq(evwork_ctx_after(NULL, jam.world.loop, &watch.watch), -EBUSY);
	gate_open(&jam.gate);
	world_run(&jam.world);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(timer.calls, 1);
	ck_assert_int_eq(watch.calls, 0);
	ck_assert_int_eq(evwork_ctx_stop(&watch.watch), 1);
	jam_close(&jam);
}
END_TEST

struct again {
	struct world world;
	struct probe probe;
	struct support_timer timer;
	struct support_watch watch;
	struct evwork_ctx *dead;
	int dones, timers, watches;
};

static struct again again;

#define AGAIN 5

/* Each wipes its struct first, to show that nothing looks at it any more. */

static void submit_again(struct probe *probe)
{
	if (++again.dones == AGAIN)
		return;
	memset(probe, 0xa5, sizeof(*probe));
	probe_init(probe, 0);
	probe->on_done = submit_again;
	if (evwork_submit(again.world.loop, &probe->job) != 0)
		abort();
}

static void set_again(struct support_timer *timer)
{
	if (++again.timers == AGAIN)
		return;
	memset(timer, 0xa5, sizeof(*timer));
	support_timer_init(timer, again.world.loop);
	timer->on = set_again;
	if (evwork_timer_start(again.world.loop, &timer->timer, 0) != 0)
		abort();
}

static void watch_again(struct support_watch *watch)
{
	if (++again.watches == AGAIN)
		return;
	memset(watch, 0xa5, sizeof(*watch));
	support_watch_init(watch);
	watch->on = watch_again;
	if (evwork_ctx_after(again.dead, again.world.loop, &watch->watch) != 0)
		abort();
}

/* A job, a timer and a watch are the caller's again when their callback starts: it may
 * wipe the struct and use it anew, S-GEN-7. */
START_TEST(structs_are_free_in_callbacks)
{
	memset(&again, 0, sizeof(again));
	world_open(&again.world, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &again.dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(again.dead, 0), 0);
	probe_init(&again.probe, 0);
	again.probe.on_done = submit_again;
	support_timer_init(&again.timer, again.world.loop);
	again.timer.on = set_again;
	support_watch_init(&again.watch);
	again.watch.on = watch_again;
	ck_assert_int_eq(evwork_submit(again.world.loop, &again.probe.job), 0);
	ck_assert_int_eq(evwork_timer_start(again.world.loop, &again.timer.timer, 0), 0);
	ck_assert_int_eq(evwork_ctx_after(again.dead, again.world.loop, &again.watch.watch), 0);
	world_run_until(&again.world, &again.watches, AGAIN);
	world_run(&again.world);
	ck_assert_int_eq(again.dones, AGAIN);
	ck_assert_int_eq(again.timers, AGAIN);
	ck_assert_int_eq(again.watches, AGAIN);
	evwork_ctx_unref(again.dead);
	world_close(&again.world);
}
END_TEST

/* Blocking calls. */

/* On a loop's thread blocking calls are refused at once, with room in the queue and
 * without, for this loop's pool and for another's: S-GEN-6. */
START_TEST(blocking_is_refused_on_loops)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct evwork_pool *other;
	struct probe probe;
	struct jam jam;

	jam_open(&jam, 1);
	ck_assert_int_eq(evwork_pool_new(&options, &other), 0);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit_wait(jam.world.loop, &probe.job), -EDEADLK);
	probe.job.lane = evwork_pool_lane(other);
	ck_assert_int_eq(evwork_submit_wait(jam.world.loop, &probe.job), -EDEADLK);
	ck_assert_int_eq(evwork_pool_close_wait(jam.world.pool, EVWORK_DRAIN), -EDEADLK);
	ck_assert_int_eq(evwork_pool_close_wait(other, EVWORK_CANCEL_ALL), -EDEADLK);
	/* Nothing was begun: both pools take work. */
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe.job), 0);
	gate_open(&jam.gate);
	world_run(&jam.world);
	probe.job.lane = NULL;
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe.job), 0);
	world_run(&jam.world);
	ck_assert_int_eq(probe.dones, 2);
	ck_assert_int_eq(evwork_pool_free(other), 0);
	jam_close(&jam);
}
END_TEST

struct blocking {
	struct world world;
	struct evwork_pool *other;
	struct probe own, others;
	int rc[6];
};

static void block_in_work(struct probe *probe)
{
	struct blocking *blocking = probe->arg;

	blocking->rc[0] = evwork_submit_wait(blocking->world.loop, &blocking->own.job);
	blocking->rc[1] = evwork_pool_close_wait(blocking->world.pool, EVWORK_DRAIN);
	blocking->rc[2] = evwork_pool_free(blocking->world.pool);
	blocking->rc[3] = evwork_submit_wait(blocking->world.loop, &blocking->others.job);
}

/* On a worker, waiting for the own pool is refused and waiting for another one is
 * not: S-GEN-6. */
START_TEST(blocking_on_workers)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct blocking blocking;
	struct probe probe;

	memset(&blocking, 0, sizeof(blocking));
	world_open(&blocking.world, 1);
	ck_assert_int_eq(evwork_pool_new(&options, &blocking.other), 0);
	probe_init(&blocking.own, 0);
	probe_init(&blocking.others, 3);
	blocking.others.job.lane = evwork_pool_lane(blocking.other);
	probe_init(&probe, 0);
	probe.on_run = block_in_work;
	probe.arg = &blocking;
	ck_assert_int_eq(evwork_submit(blocking.world.loop, &probe.job), 0);
	world_run_until(&blocking.world, &probe.dones, 1);
	world_run_until(&blocking.world, &blocking.others.dones, 1);
	ck_assert_int_eq(blocking.rc[0], -EDEADLK);
	ck_assert_int_eq(blocking.rc[1], -EDEADLK);
	ck_assert_int_eq(blocking.rc[2], -EDEADLK);
	ck_assert_int_eq(blocking.rc[3], 0);
	ck_assert_int_eq(blocking.others.status, 3);
	ck_assert_int_eq(blocking.own.dones, 0);
	/* The refused close closed nothing. */
	ck_assert_int_eq(evwork_submit(blocking.world.loop, &blocking.own.job), 0);
	world_run(&blocking.world);
	ck_assert_int_eq(blocking.own.dones, 1);
	ck_assert_int_eq(evwork_pool_free(blocking.other), 0);
	world_close(&blocking.world);
}
END_TEST

static void submit_wait_from(void *arg)
{
	struct blocking *blocking = arg;

	blocking->rc[0] = evwork_submit_wait(blocking->world.loop, &blocking->own.job);
}

/* A foreign thread may block: S-GEN-6. */
START_TEST(blocking_is_legal_elsewhere)
{
	struct blocking blocking;

	memset(&blocking, 0, sizeof(blocking));
	world_open(&blocking.world, 1);
	probe_init(&blocking.own, 4);
	support_elsewhere(submit_wait_from, &blocking);
	ck_assert_int_eq(blocking.rc[0], 0);
	world_run_until(&blocking.world, &blocking.own.dones, 1);
	ck_assert_int_eq(blocking.own.status, 4);
	world_close(&blocking.world);
}
END_TEST

/* Values. What jobs hand over is in check_gen_race.c. */

/* A value in a context is destroyed once, when the last holder lets go, were it a job on
 * its way: S-GEN-18. */
START_TEST(context_value_is_destroyed_once)
{
	struct evwork_ctx *ctx, *child;
	struct probe probe;
	struct jam jam;

	destroyed = 0;
	jam_open(&jam, 0);
	ck_assert_int_eq(evwork_ctx_with_value(NULL, &value_key, &jam, count_destroy, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_new(ctx, &child), 0);
	probe_init(&probe, 0);
	probe.job.ctx = child;
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe.job), 0);
	evwork_ctx_unref(ctx);
	evwork_ctx_unref(child);
	ck_assert_int_eq(destroyed, 0);
	gate_open(&jam.gate);
	world_run(&jam.world);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(destroyed, 1);
	jam_close(&jam);
}
END_TEST

static void add_acceptance(Suite *suite)
{
	TCase *tcase = support_case(suite, "acceptance");

	tcase_add_loop_test(tcase, refused_job_leaves_nothing, 0, 2);
	tcase_add_test(tcase, refused_job_comes_again);
}

static void add_structs(Suite *suite)
{
	TCase *tcase = support_case(suite, "structs");

	tcase_add_test(tcase, idle_structs_are_known);
	tcase_add_test(tcase, pending_structs_are_busy);
	tcase_add_test(tcase, structs_are_free_in_callbacks);
}

static void add_blocking(Suite *suite)
{
	TCase *tcase = support_case(suite, "blocking");

	tcase_add_test(tcase, blocking_is_refused_on_loops);
	tcase_add_test(tcase, blocking_on_workers);
	tcase_add_test(tcase, blocking_is_legal_elsewhere);
}

static void add_values(Suite *suite)
{
	TCase *tcase = support_case(suite, "values");

	tcase_add_test(tcase, context_value_is_destroyed_once);
}

static Suite *suite(void)
{
	Suite *gen = suite_create("gen");

	add_acceptance(gen);
	add_structs(gen);
	add_blocking(gen);
	add_values(gen);
	return gen;
}

int main(void)
{
	return support_run(suite());
}
