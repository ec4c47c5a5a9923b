/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * General rules about freeing from callbacks, and about memory: what ends something
 * needs none.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

static struct {
	struct world world;
	struct evwork_lane *lane;
	struct evwork_ctx *ctx;
	int calls, rc;
} freed;

static void freed_open(void)
{
	memset(&freed, 0, sizeof(freed));
	freed.rc = 1;
	world_open(&freed.world, 1);
}

static void free_the_loop(void)
{
	freed.rc = evwork_loop_free(freed.world.loop);
	if (freed.rc == 0)
		freed.world.loop = NULL;
	freed.calls++;
}

/* Structs of the caller, freed in their callbacks. */

static void free_probe(struct probe *probe)
{
	memset(probe, 0xa5, sizeof(*probe));
	free(probe);
	freed.calls++;
}

static void free_timer(struct support_timer *timer)
{
	memset(timer, 0xa5, sizeof(*timer));
	free(timer);
	freed.calls++;
}

static void free_watch(struct support_watch *watch)
{
	evwork_ctx_unref(freed.ctx);
	memset(watch, 0xa5, sizeof(*watch));
	free(watch);
	freed.calls++;
}

static void free_post(struct support_post *post)
{
	memset(post, 0xa5, sizeof(*post));
	free(post);
	freed.calls++;
}

/* The memory of a job, a timer, a watch with its context and a post's argument may go
 * inside their callbacks: S-GEN-5. */
START_TEST(structs_are_freed_in_callbacks)
{
	struct probe *probe = malloc(sizeof(*probe));
	struct support_timer *timer = malloc(sizeof(*timer));
	struct support_watch *watch = malloc(sizeof(*watch));
	struct support_post *post = malloc(sizeof(*post));

	freed_open();
	probe_init(probe, 0);
	probe->on_done = free_probe;
	support_timer_init(timer, freed.world.loop);
	timer->on = free_timer;
	support_watch_init(watch);
	watch->on = free_watch;
	support_post_init(post);
	post->on = free_post;
	ck_assert_int_eq(evwork_ctx_new(NULL, &freed.ctx), 0);
	ck_assert_int_eq(evwork_ctx_after(freed.ctx, freed.world.loop, &watch->watch), 0);
	ck_assert_int_eq(evwork_submit(freed.world.loop, &probe->job), 0);
	ck_assert_int_eq(evwork_timer_start(freed.world.loop, &timer->timer, 0), 0);
	ck_assert_int_eq(evwork_post(freed.world.loop, support_post_fn, post), 0);
	ck_assert_int_eq(evwork_ctx_cancel(freed.ctx, 0), 0);
	world_run_until(&freed.world, &freed.calls, 4);
	world_run(&freed.world);
	world_close(&freed.world);
}
END_TEST

static void free_lane_in_done(struct probe *probe)
{
	(void)probe;
	freed.rc = evwork_lane_free(freed.lane);
	freed.calls++;
}

/* The done of its last job may free a lane: S-GEN-5. */
START_TEST(lane_is_freed_in_done)
{
	struct evwork_lane_options options = { .max_running = 1 };
	struct probe probes[2];

	freed_open();
	ck_assert_int_eq(evwork_lane_new(freed.world.pool, &options, &freed.lane), 0);
	probe_init(&probes[0], 0);
	probe_init(&probes[1], 0);
	probes[0].job.lane = probes[1].job.lane = freed.lane;
	probes[1].on_done = free_lane_in_done;
	ck_assert_int_eq(evwork_submit(freed.world.loop, &probes[0].job), 0);
	ck_assert_int_eq(evwork_submit(freed.world.loop, &probes[1].job), 0);
	world_run(&freed.world);
	ck_assert_int_eq(freed.calls, 1);
	ck_assert_int_eq(freed.rc, 0);
	world_close(&freed.world);
}
END_TEST

/* The loop, freed in its callbacks. */

static void free_loop_in_done(struct probe *probe)
{
	(void)probe;
	free_the_loop();
}

static void free_loop_in_timer(struct support_timer *timer)
{
	(void)timer;
	free_the_loop();
}

static void free_loop_in_watch(struct support_watch *watch)
{
	(void)watch;
	free_the_loop();
}

static void free_loop_in_post(void *arg)
{
	(void)arg;
	free_the_loop();
}

static void free_loop_in_closed(struct evwork_loop *loop, void *arg)
{
	(void)arg;
	ck_assert_ptr_eq(loop, freed.world.loop);
	free_the_loop();
}

static void free_loop_in_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
	free_the_loop();
}

enum freer { BY_DONE, BY_TIMER, BY_WATCH, BY_POST, BY_CLOSED, BY_POOL_CLOSED, FREERS };

static void start_freer(enum freer freer, struct probe *probe, struct support_timer *timer,
	struct support_watch *watch)
{
	struct evwork_loop *loop = freed.world.loop;

	switch (freer) {
	case BY_DONE:
		probe->on_done = free_loop_in_done;
		ck_assert_int_eq(evwork_submit(loop, &probe->job), 0);
		break;
	case BY_TIMER:
		timer->on = free_loop_in_timer;
		ck_assert_int_eq(evwork_timer_start(loop, &timer->timer, 0), 0);
		break;
	case BY_WATCH:
		watch->on = free_loop_in_watch;
		ck_assert_int_eq(evwork_ctx_after(freed.ctx, loop, &watch->watch), 0);
		break;
	case BY_POST:
		ck_assert_int_eq(evwork_post(loop, free_loop_in_post, NULL), 0);
		break;
	case BY_CLOSED:
		ck_assert_int_eq(evwork_loop_close(loop, free_loop_in_closed, NULL), 0);
		break;
	default:
		ck_assert_int_eq(evwork_pool_close(freed.world.pool, EVWORK_DRAIN, loop,
			free_loop_in_pool_closed, NULL), 0);
		break;
	}
}

/* The last callback of a loop may free the loop, of whatever kind it is; the base goes
 * on without it: S-GEN-5, S-DLV-10. */
START_TEST(loop_is_freed_in_callbacks)
{
	struct support_timer timer;
	struct support_watch watch;
	struct probe probe;

	freed_open();
	ck_assert_int_eq(evwork_ctx_new(NULL, &freed.ctx), 0);
	ck_assert_int_eq(evwork_ctx_cancel(freed.ctx, 0), 0);
	probe_init(&probe, 0);
	support_timer_init(&timer, NULL);
	support_watch_init(&watch);
	start_freer((enum freer)_i, &probe, &timer, &watch);
	world_run_until(&freed.world, &freed.calls, 1);
	ck_assert_int_eq(freed.rc, 0);
	ck_assert_int_eq(event_base_dispatch(freed.world.base), 1);
	ck_assert_int_eq(freed.calls, 1);
	evwork_ctx_unref(freed.ctx);
	world_close(&freed.world);
}
END_TEST

static void free_pool_too(struct evwork_pool *pool, int status, void *arg)
{
	(void)status;
	freed.rc = evwork_pool_free(pool);
	if (freed.rc == 0)
		freed.world.pool = NULL;
	if (arg) {
		free_the_loop();
		return;
	}
	freed.calls++;
}

/* The closed callback of a pool may free the pool, and then the loop on which it came:
 * S-GEN-5. */
START_TEST(pool_is_freed_in_its_closed_callback)
{
	struct probe probe;

	freed_open();
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(freed.world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_pool_close(freed.world.pool, EVWORK_DRAIN, freed.world.loop,
		free_pool_too, _i ? &freed : NULL), 0);
	world_run_until(&freed.world, &freed.calls, 1);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(freed.rc, 0);
	ck_assert_ptr_null(freed.world.pool);
	world_close(&freed.world);
}
END_TEST

/* Memory. */

/* Everything that ends things, without memory. */
struct endings {
	struct world world;
	struct evwork_lane *lane;
	struct evwork_ctx *ctx, *family[10];
	struct gate gate;
	struct gate_job blocker;
	struct probe cancelled, dies, runs;
	struct support_timer stopped, fires, ends;
	struct support_watch told, ended, withdrawn;
	int posts, pool_closed, loop_closed;
};

static void count_post(void *arg)
{
	(*(int *)arg)++;
}

static void count_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(*(int *)arg)++;
}

static void count_loop_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	(*(int *)arg)++;
}

static void endings_begin(struct endings *e)
{
	static const struct evwork_lane_options options;
	struct evwork_loop *loop;
	int i;

	memset(e, 0, sizeof(*e));
	world_open(&e->world, 1);
	loop = e->world.loop;
	ck_assert_int_eq(evwork_lane_new(e->world.pool, &options, &e->lane), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, loop, 3600000, 0, &e->ctx), 0);
	for (i = 0; i < 10; i++)
		ck_assert_int_eq(evwork_ctx_new(i ? e->family[i - 1] : e->ctx, &e->family[i]), 0);
	gate_init(&e->gate);
	gate_job_init(&e->blocker, &e->gate);
	probe_init(&e->cancelled, 0);
	probe_init(&e->dies, 0);
	probe_init(&e->runs, 0);
	e->dies.job.ctx = e->family[9];
	e->dies.job.lane = e->lane;
	support_timer_init(&e->stopped, loop);
	support_timer_init(&e->fires, loop);
	support_timer_init(&e->ends, loop);
	support_watch_init(&e->told);
	support_watch_init(&e->ended);
	support_watch_init(&e->withdrawn);
	ck_assert_int_eq(evwork_submit(loop, &e->blocker.job), 0);
	gate_await(&e->gate, 1);
	ck_assert_int_eq(evwork_submit(loop, &e->cancelled.job), 0);
	ck_assert_int_eq(evwork_submit(loop, &e->dies.job), 0);
	ck_assert_int_eq(evwork_submit(loop, &e->runs.job), 0);
	ck_assert_int_eq(evwork_timer_start(loop, &e->stopped.timer, 3600000), 0);
	ck_assert_int_eq(evwork_timer_start(loop, &e->fires.timer, 0), 0);
	ck_assert_int_eq(evwork_timer_start(loop, &e->ends.timer, 3600000), 0);
	ck_assert_int_eq(evwork_ctx_after(e->family[5], loop, &e->told.watch), 0);
	ck_assert_int_eq(evwork_ctx_after(NULL, loop, &e->ended.watch), 0);
	ck_assert_int_eq(evwork_ctx_after(e->ctx, loop, &e->withdrawn.watch), 0);
	ck_assert_int_eq(evwork_post(loop, count_post, &e->posts), 0);
}

/* The part for which the library must not ask for anything. */
static void endings_end(struct endings *e)
{
	int i;

	ck_assert_int_eq(evwork_cancel(&e->cancelled.job), 0);
	ck_assert_int_eq(evwork_timer_stop(&e->stopped.timer), 0);
	ck_assert_int_eq(evwork_ctx_stop(&e->withdrawn.watch), 1);
	ck_assert_int_eq(evwork_ctx_cancel(e->ctx, -EPIPE), 0);
	for (i = 0; i < 10; i++)
		evwork_ctx_unref(e->family[i]);
	evwork_ctx_unref(e->ctx);
	gate_open(&e->gate);
	ck_assert_int_ge(event_base_loop(e->world.base, EVLOOP_NONBLOCK), 0);
	ck_assert_int_eq(evwork_pool_close(e->world.pool, EVWORK_DRAIN, e->world.loop,
		count_pool_closed, &e->pool_closed), 0);
	while (!e->pool_closed)
		ck_assert_int_ge(event_base_loop(e->world.base, EVLOOP_NONBLOCK), 0);
	ck_assert_int_eq(evwork_lane_free(e->lane), 0);
	ck_assert_int_eq(evwork_loop_close(e->world.loop, count_loop_closed, &e->loop_closed), 0);
	while (!e->loop_closed)
		ck_assert_int_ge(event_base_loop(e->world.base, EVLOOP_NONBLOCK), 0);
	ck_assert_int_eq(evwork_loop_free(e->world.loop), 0);
	ck_assert_int_eq(evwork_pool_free(e->world.pool), 0);
}

/* Cancelling, stopping, running, delivering, closing and freeing ask for no memory and
 * for nothing else that can fail: S-GEN-14. */
START_TEST(endings_ask_for_nothing)
{
	struct endings e;
	int asked;

	endings_begin(&e);
	fault_start(SYS_CALLS, _i, true);
	endings_end(&e);
	asked = fault_stop();
	ck_assert_int_eq(asked, 0);
	ck_assert_int_eq(e.cancelled.status, -ECANCELED);
	ck_assert_int_eq(e.dies.status, -ECANCELED);
	ck_assert_int_eq(e.runs.status, 0);
	ck_assert_int_eq(e.stopped.calls, 0);
	ck_assert_int_eq(e.fires.status, 0);
	ck_assert_int_eq(e.ends.status, -ECANCELED);
	ck_assert_int_eq(e.told.status, -ECANCELED);
	ck_assert_int_eq(e.ended.status, -ECANCELED);
	ck_assert_int_eq(e.withdrawn.calls, 0);
	ck_assert_int_eq(e.posts, 1);
	event_base_free(e.world.base);
	gate_fini(&e.gate);
}
END_TEST

/* Submitting to a bounded lane and setting timers and watches ask for no memory
 * either; creating calls that find none say so and change nothing, S-GEN-14. */
START_TEST(only_creating_asks_for_memory)
{
	static const struct evwork_lane_options options;
	struct evwork_lane *lane = NULL;
	struct evwork_ctx *ctx = NULL;
	struct support_timer timer;
	struct support_watch watch;
	struct probe probe;
	struct world world;
	int posts = 0;

	world_open(&world, 1);
	probe_init(&probe, 0);
	support_timer_init(&timer, world.loop);
	support_watch_init(&watch);
	fault_start(SYS_MEMORY, 1, true);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 0), 0);
	ck_assert_int_eq(evwork_ctx_after(NULL, world.loop, &watch.watch), 0);
	world_run(&world);
	ck_assert_int_eq(evwork_ctx_stop(&watch.watch), 1);
	ck_assert_int_eq(fault_stop(), 0);
	fault_start(SYS_MEMORY, 1, true);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), -ENOMEM);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), -ENOMEM);
	ck_assert_int_eq(evwork_post(world.loop, count_post, &posts), -ENOMEM);
	fault_stop();
	ck_assert_ptr_null(lane);
	ck_assert_ptr_null(ctx);
	world_run(&world);
	ck_assert_int_eq(posts, 0);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(timer.calls, 1);
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *free_suite = suite_create("gen_free");
	TCase *tcase = support_case(free_suite, "freeing");

	tcase_add_test(tcase, structs_are_freed_in_callbacks);
	tcase_add_test(tcase, lane_is_freed_in_done);
	tcase_add_loop_test(tcase, loop_is_freed_in_callbacks, 0, FREERS);
	tcase_add_loop_test(tcase, pool_is_freed_in_its_closed_callback, 0, 2);
	tcase = support_case(free_suite, "memory");
	/* Nothing fails at first, to count; then all does. */
	tcase_add_loop_test(tcase, endings_ask_for_nothing, 0, 2);
	tcase_add_test(tcase, only_creating_asks_for_memory);
	return free_suite;
}

int main(void)
{
	return support_run(suite());
}
