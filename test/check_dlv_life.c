/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What keeps a base running, and what foreign threads bring meanwhile. Over an eventfd and
 * over a pipe.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* Whether dispatch would go on: libevent returns 1 when nothing is left to wait for. */
static bool alive(struct world *world)
{
	int rc = event_base_loop(world->base, EVLOOP_NONBLOCK);

	ck_assert_int_ge(rc, 0);
	return rc == 0;
}

/* Liveness. */

/* A loop with nothing to do does not keep the base running, though its notification event
 * exists; dispatch returns at once, S-DLV-7. */
START_TEST(idle_loop_keeps_nothing_running)
{
	struct world world;

	if (!world_open_notify(&world, _i, 1))
		return;
	ck_assert_int_eq(event_base_dispatch(world.base), 1);
	ck_assert(!alive(&world));
	world_close(&world);
}
END_TEST

/* A job keeps the base running from its submit on the loop's thread to its done, even when
 * it is cancelled: S-DLV-7. */
START_TEST(jobs_keep_the_base_running)
{
	struct gate_job blocker;
	struct probe queued;
	struct world world;
	struct gate gate;

	if (!world_open_notify(&world, _i, 1))
		return;
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	probe_init(&queued, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &queued.job), 0);
	gate_await(&gate, 1);
	ck_assert(alive(&world));
	ck_assert_int_eq(evwork_cancel(&queued.job), 0);
	ck_assert(alive(&world));
	ck_assert_int_eq(queued.dones, 1);
	ck_assert_int_eq(blocker.status, 1);
	gate_open(&gate);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(blocker.status, 0);
	ck_assert(!alive(&world));
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* A post, and a job without a done, keep the base running until they are through: S-DLV-7. */
START_TEST(posts_keep_the_base_running)
{
	struct support_post post;
	struct probe probe;
	struct world world;

	if (!world_open_notify(&world, _i, 1))
		return;
	support_post_init(&post);
	ck_assert_int_eq(evwork_post(world.loop, support_post_fn, &post), 0);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(post.calls, 1);
	ck_assert(!alive(&world));
	probe_init(&probe, 0);
	probe.job.done = NULL;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(atomic_load(&probe.runs), 1);
	ck_assert(!alive(&world));
	world_close(&world);
}
END_TEST

/* A timer keeps the base running until it fired or was stopped: S-DLV-7. */
START_TEST(timers_keep_the_base_running)
{
	struct support_timer fires, stopped;
	struct world world;

	if (!world_open_notify(&world, _i, 1))
		return;
	support_timer_init(&fires, NULL);
	support_timer_init(&stopped, NULL);
	ck_assert_int_eq(evwork_timer_start(world.loop, &fires.timer, 2), 0);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(fires.calls, 1);
	ck_assert(!alive(&world));
	ck_assert_int_eq(evwork_timer_start(world.loop, &stopped.timer, 3600000), 0);
	ck_assert(alive(&world));
	ck_assert_int_eq(evwork_timer_stop(&stopped.timer), 0);
	ck_assert(!alive(&world));
	world_close(&world);
}
END_TEST

/* A deadline keeps the base running until it has passed, or its context is dead: S-DLV-7. */
START_TEST(deadlines_keep_the_base_running)
{
	struct support_watch watch;
	struct evwork_ctx *expires, *cancelled;
	struct world world;

	if (!world_open_notify(&world, _i, 1))
		return;
	support_watch_init(&watch);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 2, 0, &expires), 0);
	ck_assert_int_eq(evwork_ctx_after(expires, world.loop, &watch.watch), 0);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(evwork_ctx_err(expires), -ETIMEDOUT);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 3600000, 0, &cancelled), 0);
	ck_assert(alive(&world));
	ck_assert_int_eq(evwork_ctx_cancel(cancelled, 0), 0);
	one_pass(world.base);
	ck_assert_int_eq(watch.calls, 1);
	ck_assert(!alive(&world));
	evwork_ctx_unref(expires);
	evwork_ctx_unref(cancelled);
	world_close(&world);
}
END_TEST

/* Each hold keeps the base running until it is released; releasing more often is refused:
 * S-DLV-7. */
START_TEST(holds_keep_the_base_running)
{
	struct world world;
	int i;

	if (!world_open_notify(&world, _i, 1))
		return;
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	for (i = 0; i < 3; i++) {
		ck_assert(alive(&world));
		ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	}
	ck_assert(!alive(&world));
	ck_assert_int_eq(evwork_loop_release(world.loop), -EINVAL);
	ck_assert(!alive(&world));
	world_close(&world);
}
END_TEST

static void count_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	(*(int *)arg)++;
}

static void count_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(*(int *)arg)++;
}

/* The closed callbacks of a pool and of a loop keep the base running until they have
 * been called: S-DLV-7. */
START_TEST(closing_keeps_the_base_running)
{
	struct evwork_pool_options options = { .threads = 2 };
	struct evwork_pool *pool;
	struct world world;
	int pools = 0, loops = 0;

	if (!world_open_notify(&world, _i, 1))
		return;
	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	ck_assert_int_eq(evwork_pool_close(pool, EVWORK_DRAIN, world.loop, count_pool_closed,
		&pools), 0);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(pools, 1);
	ck_assert(!alive(&world));
	ck_assert_int_eq(evwork_loop_close(world.loop, count_closed, &loops), 0);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(loops, 1);
	ck_assert(!alive(&world));
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	world_close(&world);
}
END_TEST

static void release_hold(struct support_post *post)
{
	evwork_loop_release(post->arg);
}

struct foreign {
	struct world world;
	struct probe probe;
	struct support_post post;
	int rc;
};

static void bring(void *arg)
{
	struct foreign *foreign = arg;

	foreign->rc = evwork_submit(foreign->world.loop, &foreign->probe.job);
	foreign->rc |= evwork_post(foreign->world.loop, support_post_fn, &foreign->post);
}

static void *bring_thread(void *arg)
{
	bring(arg);
	return NULL;
}

/* With a hold, dispatch waits for what a foreign thread brings, and ends when that lets
 * go of the hold: S-DLV-7. */
START_TEST(hold_waits_for_foreign_threads)
{
	struct foreign foreign;
	pthread_t thread;

	memset(&foreign, 0, sizeof(foreign));
	if (!world_open_notify(&foreign.world, _i, 1))
		return;
	probe_init(&foreign.probe, 0);
	support_post_init(&foreign.post);
	foreign.post.on = release_hold;
	foreign.post.arg = foreign.world.loop;
	ck_assert_int_eq(evwork_loop_hold(foreign.world.loop), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, bring_thread, &foreign), 0);
	ck_assert_int_ge(event_base_dispatch(foreign.world.base), 0);
	ck_assert_int_eq(foreign.post.calls, 1);
	pthread_join(thread, NULL);
	world_run_until(&foreign.world, &foreign.probe.dones, 1);
	world_close(&foreign.world);
}
END_TEST

/* What foreign threads bring while nothing holds the loop waits, and is delivered on the
 * loop's thread when the base runs again: S-DLV-8. */
START_TEST(foreign_outcomes_wait_for_the_base)
{
	struct evwork_loop_stats stats;
	struct evwork_lane_stats lane;
	struct foreign foreign;

	memset(&foreign, 0, sizeof(foreign));
	if (!world_open_notify(&foreign.world, _i, 1))
		return;
	probe_init(&foreign.probe, 6);
	support_post_init(&foreign.post);
	ck_assert_int_eq(event_base_dispatch(foreign.world.base), 1);
	support_elsewhere(bring, &foreign);
	ck_assert_int_eq(foreign.rc, 0);
	do {
		sys_yield();
		ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(foreign.world.pool), &lane), 0);
	} while (lane.posted == 0);
	ck_assert_int_eq(foreign.probe.dones, 0);
	ck_assert_int_eq(foreign.post.calls, 0);
	ck_assert_int_eq(evwork_loop_stats(foreign.world.loop, &stats), 0);
	ck_assert_uint_eq(stats.outstanding, 2);
	world_run_until(&foreign.world, &foreign.probe.dones, 1);
	world_run_until(&foreign.world, &foreign.post.calls, 1);
	ck_assert_int_eq(foreign.probe.status, 6);
	ck_assert(pthread_equal(foreign.probe.done_thread, pthread_self()));
	ck_assert(pthread_equal(foreign.post.thread, pthread_self()));
	world_close(&foreign.world);
}
END_TEST

enum { NEST_JOBS = 5 };

/* A base that the last done of another base runs, and what that done submitted before. */
struct nest {
	struct world world;
	struct event_base *inner;
	struct evwork_loop *inner_loop;
	struct probe jobs[NEST_JOBS], next;
	struct support_post post;
	int rc[3];
};

static void run_inner(struct probe *probe)
{
	struct nest *nest = probe->arg;

	nest->rc[0] = evwork_submit(nest->world.loop, &nest->next.job);
	nest->rc[1] = evwork_post(nest->inner_loop, support_post_fn, &nest->post);
	nest->rc[2] = event_base_dispatch(nest->inner);
}

/* A callback that runs another base, with a loop of its own, loses nothing that it submitted
 * before: S-DLV-10. */
START_TEST(inner_base_loses_nothing)
{
	struct evwork_loop_options options = { .notify = notify_kinds[_i] };
	struct evwork_lane_stats lane;
	struct nest nest;
	int i;

	if (!world_open_notify(&nest.world, _i, 1))
		return;
	nest.inner = event_base_new();
	ck_assert_ptr_nonnull(nest.inner);
	ck_assert_int_eq(evwork_loop_new(nest.inner, nest.world.pool, &options,
		&nest.inner_loop), 0);
	support_post_init(&nest.post);
	probe_init(&nest.next, 0);
	for (i = 0; i < NEST_JOBS; i++) {
		probe_init(&nest.jobs[i], 0);
		ck_assert_int_eq(evwork_submit(nest.world.loop, &nest.jobs[i].job), 0);
	}
	nest.jobs[NEST_JOBS - 1].on_done = run_inner;
	nest.jobs[NEST_JOBS - 1].arg = &nest;
	/* So that all of them come in one turn. */
	do {
		sys_yield();
		ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(nest.world.pool), &lane), 0);
	} while (lane.posted < NEST_JOBS);
	world_run(&nest.world);
	ck_assert_int_eq(nest.rc[0], 0);
	ck_assert_int_eq(nest.rc[1], 0);
	ck_assert_int_ge(nest.rc[2], 0);
	ck_assert_int_eq(nest.post.calls, 1);
	ck_assert_int_eq(nest.next.dones, 1);
	ck_assert_int_eq(nest.next.status, 0);
	ck_assert_int_eq(evwork_loop_free(nest.inner_loop), 0);
	event_base_free(nest.inner);
	world_close(&nest.world);
}
END_TEST

/* Dispatch does not return before the watch of a context has been called, whether the
 * deadline has passed or the context was cancelled before: S-DLV-7. */
START_TEST(watches_of_deadlines_keep_the_base_running)
{
	struct support_watch watch;
	struct evwork_ctx *ctx;
	struct world world;
	int cancelled = _i / NOTIFY_KINDS;

	if (!world_open_notify(&world, _i % NOTIFY_KINDS, 1))
		return;
	support_watch_init(&watch);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &watch.watch), 0);
	if (cancelled)
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(watch.calls, 1);
	ck_assert_int_eq(watch.status, cancelled ? -ECANCELED : -ETIMEDOUT);
	ck_assert_int_eq(evwork_ctx_err(ctx), watch.status);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

static void add_life(Suite *suite)
{
	TCase *tcase = support_case(suite, "life");

	tcase_add_loop_test(tcase, idle_loop_keeps_nothing_running, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, jobs_keep_the_base_running, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, posts_keep_the_base_running, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, timers_keep_the_base_running, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, deadlines_keep_the_base_running, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, holds_keep_the_base_running, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, closing_keeps_the_base_running, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, hold_waits_for_foreign_threads, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, foreign_outcomes_wait_for_the_base, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, inner_base_loses_nothing, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, watches_of_deadlines_keep_the_base_running, 0, NOTIFY_KINDS * 2);
}

static Suite *suite(void)
{
	Suite *life = suite_create("dlv_life");

	add_life(life);
	return life;
}

int main(void)
{
	return support_run(suite());
}
