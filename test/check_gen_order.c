/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The order in which refusals are checked, and the refusals for want of memory.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* Libevent's memory, which can be made to fail. */

static atomic_bool libevent_fails;

static void *libevent_malloc(size_t size)
{
	return atomic_load(&libevent_fails) ? NULL : malloc(size);
}

static void *libevent_realloc(void *memory, size_t size)
{
	return atomic_load(&libevent_fails) ? NULL : realloc(memory, size);
}

/* Timers that leave no room in libevent's heap. */
#define FILLERS 4096

struct full_heap {
	struct event *events[FILLERS];
	int count;
};

static void ignore(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static void heap_fill(struct full_heap *heap, struct event_base *base)
{
	static const struct timeval hours = { 36000, 0 };
	struct event *event;

	heap->count = 0;
	for (;;) {
		atomic_store(&libevent_fails, false);
		event = event_new(base, -1, 0, ignore, NULL);
		ck_assert_ptr_nonnull(event);
		atomic_store(&libevent_fails, true);
		if (event_add(event, &hours) != 0)
			break;
		ck_assert_int_lt(heap->count, FILLERS);
		heap->events[heap->count++] = event;
	}
	event_free(event);
}

static void heap_empty(struct full_heap *heap)
{
	atomic_store(&libevent_fails, false);
	while (heap->count > 0)
		event_free(heap->events[--heap->count]);
}

/* A world in which much is wrong: its worker is blocked, its queue of one is full,
 * there is a dead context, and a job of it and a timer are pending. */
struct wrong {
	struct world world;
	struct gate gate;
	struct gate_job blocker;
	struct probe queued, job;
	struct support_timer pending, idle;
	struct support_watch watch;
	struct evwork_ctx *dead;
	int rc[8];
};

static void ignore_post(void *arg)
{
	(void)arg;
}

static void ignore_drop(struct evwork_job *job)
{
	(void)job;
}

static void ignore_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
}

static void wrong_open(struct wrong *wrong)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };

	memset(wrong, 0, sizeof(*wrong));
	world_open_with(&wrong->world, &options, NULL);
	gate_init(&wrong->gate);
	gate_job_init(&wrong->blocker, &wrong->gate);
	probe_init(&wrong->queued, 0);
	probe_init(&wrong->job, 0);
	support_timer_init(&wrong->pending, wrong->world.loop);
	support_timer_init(&wrong->idle, wrong->world.loop);
	support_watch_init(&wrong->watch);
	ck_assert_int_eq(evwork_ctx_new(NULL, &wrong->dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(wrong->dead, 0), 0);
	ck_assert_int_eq(evwork_submit(wrong->world.loop, &wrong->blocker.job), 0);
	gate_await(&wrong->gate, 1);
	ck_assert_int_eq(evwork_submit(wrong->world.loop, &wrong->queued.job), 0);
	ck_assert_int_eq(evwork_timer_start(wrong->world.loop, &wrong->pending.timer, 3600000), 0);
}

static void close_pool(struct wrong *wrong)
{
	ck_assert_int_eq(evwork_pool_close(wrong->world.pool, EVWORK_DRAIN, NULL, NULL, NULL), 0);
}

static void close_loop(struct wrong *wrong)
{
	ck_assert_int_eq(evwork_loop_close(wrong->world.loop, NULL, NULL), 0);
}

/* Ends it; nothing that was refused may have left a trace. */
static void wrong_close(struct wrong *wrong)
{
	gate_open(&wrong->gate);
	evwork_timer_stop(&wrong->pending.timer);
	world_run(&wrong->world);
	ck_assert_int_eq(wrong->blocker.status, 0);
	ck_assert_int_eq(wrong->queued.dones, 1);
	ck_assert_int_eq(wrong->job.dones, 0);
	ck_assert_int_eq(atomic_load(&wrong->job.runs), 0);
	ck_assert_int_eq(wrong->pending.calls, 0);
	ck_assert_int_eq(wrong->idle.calls, 0);
	ck_assert_int_eq(wrong->watch.calls, 0);
	evwork_ctx_unref(wrong->dead);
	world_close(&wrong->world);
	gate_fini(&wrong->gate);
}

static void malformed_elsewhere(void *arg)
{
	struct wrong *wrong = arg;
	struct evwork_timer functionless;

	evwork_timer_init(&functionless, NULL);
	wrong->rc[0] = evwork_timer_start(wrong->world.loop, NULL, 1);
	wrong->rc[1] = evwork_timer_start(wrong->world.loop, &functionless, 1);
	wrong->rc[2] = evwork_timer_start(NULL, &wrong->pending.timer, 1);
	wrong->rc[3] = evwork_loop_hold(NULL);
	wrong->rc[4] = evwork_loop_release(NULL);
	wrong->rc[5] = evwork_timer_stop(NULL);
	wrong->rc[6] = evwork_job_set_detach(&wrong->queued.job, 1);
	wrong->rc[7] = evwork_pool_close_wait(wrong->world.pool, (enum evwork_close_mode)0);
}

/* EINVAL comes before EPERM: S-GEN-4. */
START_TEST(einval_before_eperm)
{
	struct wrong wrong;
	int i;

	wrong_open(&wrong);
	support_elsewhere(malformed_elsewhere, &wrong);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(wrong.rc[i], -EINVAL);
	wrong_close(&wrong);
}
END_TEST

/* EINVAL comes before EDEADLK: S-GEN-4. */
START_TEST(einval_before_edeadlk)
{
	struct wrong wrong;

	wrong_open(&wrong);
	wrong.job.job.run = NULL;
	ck_assert_int_eq(evwork_submit_wait(wrong.world.loop, &wrong.job.job), -EINVAL);
	ck_assert_int_eq(evwork_submit_wait(NULL, &wrong.queued.job), -EINVAL);
	ck_assert_int_eq(evwork_pool_close_wait(NULL, EVWORK_DRAIN), -EINVAL);
	ck_assert_int_eq(evwork_pool_close_wait(wrong.world.pool, (enum evwork_close_mode)9),
		-EINVAL);
	wrong_close(&wrong);
}
END_TEST

/* EINVAL comes before ESHUTDOWN and EALREADY, on a closing loop and on a closing
 * pool: S-GEN-4. */
START_TEST(einval_before_eshutdown)
{
	struct evwork_lane_options bad = { .timeout_ms = -1 };
	struct evwork_timer functionless;
	struct evwork_watch callless;
	struct evwork_lane *lane = NULL;
	struct wrong wrong;

	wrong_open(&wrong);
	close_pool(&wrong);
	ck_assert_int_eq(evwork_pool_close(wrong.world.pool, (enum evwork_close_mode)0, NULL,
		NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_pool_close(wrong.world.pool, EVWORK_DRAIN, NULL, ignore_closed,
		NULL), -EINVAL);
	ck_assert_int_eq(evwork_lane_new(wrong.world.pool, &bad, &lane), -EINVAL);
	ck_assert_ptr_null(lane);
	close_loop(&wrong);
	evwork_timer_init(&functionless, NULL);
	evwork_watch_init(&callless, NULL);
	wrong.job.job.run = NULL;
	ck_assert_int_eq(evwork_post(wrong.world.loop, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_timer_start(wrong.world.loop, &functionless, 1), -EINVAL);
	ck_assert_int_eq(evwork_ctx_after(NULL, wrong.world.loop, &callless), -EINVAL);
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.job.job), -EINVAL);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, wrong.world.loop, 1000, 0, NULL), -EINVAL);
	evwork_timer_stop(&wrong.pending.timer);
	wrong_close(&wrong);
}
END_TEST

/* EINVAL comes before ENOMEM: S-GEN-4. */
START_TEST(einval_before_enomem)
{
	struct evwork_lane_options bad_lane = { .max_running = -7 };
	struct evwork_pool_options bad_pool = { .threads = -1 };
	struct evwork_loop_options bad_loop = { .batch = -1 };
	struct evwork_pool *pool = NULL;
	struct evwork_loop *loop = NULL;
	struct evwork_lane *lane = NULL;
	struct evwork_clock *clock = NULL;
	struct evwork_ctx *ctx = NULL;
	struct wrong wrong;

	wrong_open(&wrong);
	fault_start(SYS_CALLS, 1, true);
	ck_assert_int_eq(evwork_lane_new(wrong.world.pool, &bad_lane, &lane), -EINVAL);
	ck_assert_int_eq(evwork_pool_new(&bad_pool, &pool), -EINVAL);
	ck_assert_int_eq(evwork_loop_new(wrong.world.base, NULL, &bad_loop, &loop), -EINVAL);
	ck_assert_int_eq(evwork_clock_new(-1, &clock), -EINVAL);
	ck_assert_int_eq(evwork_ctx_new(NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_with_value(NULL, NULL, NULL, NULL, &ctx), -EINVAL);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, NULL, 1000, 0, &ctx), -EINVAL);
	ck_assert_int_eq(evwork_ctx_detached(NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_post(wrong.world.loop, NULL, NULL), -EINVAL);
	fault_stop();
	wrong_close(&wrong);
}
END_TEST

static void call_loop_elsewhere(void *arg)
{
	struct wrong *wrong = arg;
	struct evwork_loop *loop = wrong->world.loop;

	wrong->rc[0] = evwork_timer_start(loop, &wrong->pending.timer, 1);
	wrong->rc[1] = evwork_timer_start_at(loop, &wrong->pending.timer, 1);
	wrong->rc[2] = evwork_timer_start(loop, &wrong->idle.timer, 1);
	wrong->rc[3] = evwork_timer_stop(&wrong->pending.timer);
	wrong->rc[4] = evwork_loop_free(loop);
	wrong->rc[5] = evwork_loop_hold(loop);
	wrong->rc[6] = evwork_job_set_detach(&wrong->queued.job, 0);
	wrong->rc[7] = evwork_loop_release(loop);
}

/* EPERM comes before EBUSY and ESHUTDOWN: a [loop] call from another thread, on a loop
 * that is open and on one that is closing, S-GEN-4. */
START_TEST(eperm_before_ebusy_and_eshutdown)
{
	struct wrong wrong;
	int i;

	wrong_open(&wrong);
	ck_assert_int_eq(evwork_loop_hold(wrong.world.loop), 0);
	if (_i)
		close_loop(&wrong);
	support_elsewhere(call_loop_elsewhere, &wrong);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(wrong.rc[i], -EPERM);
	ck_assert_int_eq(evwork_loop_release(wrong.world.loop), 0);
	if (_i)
		ck_assert_int_eq(evwork_timer_stop(&wrong.pending.timer), 0);
	wrong_close(&wrong);
}
END_TEST

static void detach_elsewhere(void *arg)
{
	struct wrong *wrong = arg;

	wrong->rc[0] = evwork_job_set_detach(&wrong->queued.job, 1);
}

/* EPERM comes before the error of a job that was cancelled: S-GEN-4. */
START_TEST(eperm_before_ecanceled)
{
	struct wrong wrong;

	wrong_open(&wrong);
	ck_assert_int_eq(evwork_cancel(&wrong.queued.job), 0);
	wrong.queued.job.drop = ignore_drop;
	support_elsewhere(detach_elsewhere, &wrong);
	ck_assert_int_eq(wrong.rc[0], -EPERM);
	wrong_close(&wrong);
}
END_TEST

/* EDEADLK comes before EBUSY, the context's error, ESHUTDOWN and EALREADY, and before
 * any look at whether there is room: S-GEN-4. */
START_TEST(edeadlk_before_the_rest)
{
	struct wrong wrong;
	struct evwork_loop *loop;

	wrong_open(&wrong);
	loop = wrong.world.loop;
	ck_assert_int_eq(evwork_submit_wait(loop, &wrong.queued.job), -EDEADLK);
	ck_assert_int_eq(evwork_submit_wait(loop, &wrong.job.job), -EDEADLK);
	wrong.job.job.ctx = wrong.dead;
	ck_assert_int_eq(evwork_submit_wait(loop, &wrong.job.job), -EDEADLK);
	close_pool(&wrong);
	ck_assert_int_eq(evwork_submit_wait(loop, &wrong.job.job), -EDEADLK);
	ck_assert_int_eq(evwork_pool_close_wait(wrong.world.pool, EVWORK_DRAIN), -EDEADLK);
	wrong_close(&wrong);
}
END_TEST

static void submit_wait_elsewhere(void *arg)
{
	struct wrong *wrong = arg;
	struct evwork_loop *loop = wrong->world.loop;

	wrong->rc[0] = evwork_submit_wait(loop, &wrong->queued.job);
	wrong->job.job.ctx = wrong->dead;
	wrong->rc[1] = evwork_submit_wait(loop, &wrong->job.job);
	wrong->job.job.ctx = NULL;
}

/* EBUSY comes before the error of the context, ESHUTDOWN and EAGAIN, for a job that is
 * on its way: S-GEN-4. */
START_TEST(ebusy_before_context_and_room)
{
	struct evwork_ctx *ctx;
	struct probe probe;
	struct wrong wrong;

	wrong_open(&wrong);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(evwork_cancel(&wrong.queued.job), 0);
	probe_init(&probe, 0);
	probe.job.ctx = ctx;
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	/* Both ended without running, and their outcomes are on the way. */
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &probe.job), -EBUSY);
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.queued.job), -EBUSY);
	support_elsewhere(submit_wait_elsewhere, &wrong);
	ck_assert_int_eq(wrong.rc[0], -EBUSY);
	ck_assert_int_eq(wrong.rc[1], -ECANCELED);
	close_pool(&wrong);
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &probe.job), -EBUSY);
	close_loop(&wrong);
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &probe.job), -EBUSY);
	ck_assert_int_eq(evwork_timer_stop(&wrong.pending.timer), 0);
	wrong_close(&wrong);
	ck_assert_int_eq(probe.dones, 1);
	evwork_ctx_unref(ctx);
}
END_TEST

/* submit, as the one exception, asks the context before it asks whether lane, pool
 * and loop are open: S-GEN-4, S-LANE-2. */
START_TEST(context_before_eshutdown_in_submit)
{
	struct wrong wrong;

	wrong_open(&wrong);
	if (_i)
		close_pool(&wrong);
	else
		close_loop(&wrong);
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.job.job), -ESHUTDOWN);
	wrong.job.job.ctx = wrong.dead;
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.job.job), -ECANCELED);
	if (!_i)
		ck_assert_int_eq(evwork_timer_stop(&wrong.pending.timer), 0);
	wrong_close(&wrong);
}
END_TEST

/* The error of the context and ESHUTDOWN come before EAGAIN: S-GEN-4, S-LANE-2. */
START_TEST(context_and_eshutdown_before_eagain)
{
	struct wrong wrong;

	wrong_open(&wrong);
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.job.job), -EAGAIN);
	wrong.job.job.ctx = wrong.dead;
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.job.job), -ECANCELED);
	support_elsewhere(submit_wait_elsewhere, &wrong);
	ck_assert_int_eq(wrong.rc[1], -ECANCELED);
	close_pool(&wrong);
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.job.job), -ESHUTDOWN);
	wrong_close(&wrong);
}
END_TEST

static struct support_guard refusing = SUPPORT_GUARD(-EHOSTDOWN);
static struct evwork_guard *const refusing_list[] = { &refusing.guard };

/* The error of the context comes before what a guard says: S-GEN-4, S-LANE-2. */
START_TEST(context_before_guards)
{
	struct evwork_lane_options options = { .guards = refusing_list, .guard_count = 1 };
	struct evwork_lane *lane;
	struct wrong wrong;

	wrong_open(&wrong);
	ck_assert_int_eq(evwork_lane_new(wrong.world.pool, &options, &lane), 0);
	wrong.job.job.lane = lane;
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.job.job), -EHOSTDOWN);
	wrong.job.job.ctx = wrong.dead;
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.job.job), -ECANCELED);
	wrong.job.job.ctx = NULL;
	close_pool(&wrong);
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.job.job), -ESHUTDOWN);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	wrong_close(&wrong);
}
END_TEST

/* ESHUTDOWN and EBUSY come before ENOMEM: S-GEN-4. */
START_TEST(eshutdown_and_ebusy_before_enomem)
{
	static const struct evwork_lane_options options;
	struct full_heap heap;
	struct evwork_lane *lane = NULL;
	struct wrong wrong;

	wrong_open(&wrong);
	close_pool(&wrong);
	heap_fill(&heap, wrong.world.base);
	fault_start(SYS_MEMORY, 1, true);
	ck_assert_int_eq(evwork_lane_new(wrong.world.pool, &options, &lane), -ESHUTDOWN);
	ck_assert_int_eq(evwork_submit(wrong.world.loop, &wrong.queued.job), -EBUSY);
	ck_assert_int_eq(evwork_timer_start(wrong.world.loop, &wrong.pending.timer, 1), -EBUSY);
	close_loop(&wrong);
	ck_assert_int_eq(evwork_post(wrong.world.loop, ignore_post, NULL), -ESHUTDOWN);
	ck_assert_int_eq(evwork_timer_start(wrong.world.loop, &wrong.idle.timer, 1), -ESHUTDOWN);
	ck_assert_int_eq(evwork_ctx_after(NULL, wrong.world.loop, &wrong.watch.watch), -ESHUTDOWN);
	fault_stop();
	ck_assert_ptr_null(lane);
	heap_empty(&heap);
	ck_assert_int_eq(evwork_timer_stop(&wrong.pending.timer), 0);
	wrong_close(&wrong);
}
END_TEST

/* ESHUTDOWN comes before ENOMEM for a context with a deadline on a closing loop, too:
 * S-GEN-4. */
START_TEST(context_eshutdown_before_enomem)
{
	struct evwork_ctx *ctx = NULL;
	struct wrong wrong;

	wrong_open(&wrong);
	close_loop(&wrong);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, wrong.world.loop, 1000, 0, &ctx),
		-ESHUTDOWN);
	fault_start(SYS_MEMORY, 1, true);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, wrong.world.loop, 1000, 0, &ctx),
		-ESHUTDOWN);
	fault_stop();
	ck_assert_ptr_null(ctx);
	ck_assert_int_eq(evwork_timer_stop(&wrong.pending.timer), 0);
	wrong_close(&wrong);
}
END_TEST

static void fill_elsewhere(void *arg)
{
	struct wrong *wrong = arg;

	wrong->rc[0] = evwork_submit(wrong->world.loop, &wrong->blocker.job);
	gate_await(&wrong->gate, 1);
	wrong->rc[1] = evwork_submit(wrong->world.loop, &wrong->queued.job);
}

/* Like wrong_open, but all was submitted elsewhere and nothing keeps the loop alive, so
 * that the next call of the loop's own thread needs memory of libevent. */
static void wrong_open_elsewhere(struct wrong *wrong)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };

	memset(wrong, 0, sizeof(*wrong));
	world_open_with(&wrong->world, &options, NULL);
	gate_init(&wrong->gate);
	gate_job_init(&wrong->blocker, &wrong->gate);
	probe_init(&wrong->queued, 0);
	probe_init(&wrong->job, 0);
	support_timer_init(&wrong->pending, wrong->world.loop);
	support_timer_init(&wrong->idle, wrong->world.loop);
	support_watch_init(&wrong->watch);
	ck_assert_int_eq(evwork_ctx_new(NULL, &wrong->dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(wrong->dead, 0), 0);
	support_elsewhere(fill_elsewhere, wrong);
	ck_assert_int_eq(wrong->rc[0], 0);
	ck_assert_int_eq(wrong->rc[1], 0);
}

/* The error of the context and EAGAIN come before ENOMEM: S-GEN-4. */
START_TEST(context_and_eagain_before_enomem)
{
	struct full_heap heap;
	struct wrong wrong;
	int with_ctx, full;

	wrong_open_elsewhere(&wrong);
	heap_fill(&heap, wrong.world.base);
	fault_start(SYS_MEMORY, 1, true);
	full = evwork_submit(wrong.world.loop, &wrong.job.job);
	wrong.job.job.ctx = wrong.dead;
	with_ctx = evwork_submit(wrong.world.loop, &wrong.job.job);
	fault_stop();
	heap_empty(&heap);
	gate_open(&wrong.gate);
	world_run_until(&wrong.world, &wrong.queued.dones, 1);
	ck_assert_int_eq(with_ctx, -ECANCELED);
	ck_assert_int_eq(full, -EAGAIN);
	wrong_close(&wrong);
}
END_TEST

/* Without room in libevent's heap the calls that would keep the loop alive say ENOMEM,
 * change nothing, and succeed when there is room again: S-GEN-14. */
START_TEST(libevent_without_memory)
{
	struct full_heap heap;
	struct evwork_lane_stats stats;
	struct support_timer timer;
	struct support_post post;
	struct probe probe;
	struct world world;
	int round;

	world_open(&world, 1);
	probe_init(&probe, 0);
	support_timer_init(&timer, world.loop);
	support_post_init(&post);
	heap_fill(&heap, world.base);
	for (round = 0; round < 2; round++) {
		int expected = round ? 0 : -ENOMEM;

		ck_assert_int_eq(evwork_submit(world.loop, &probe.job), expected);
		if (round)
			world_run(&world);
		ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 0), expected);
		if (round)
			world_run(&world);
		ck_assert_int_eq(evwork_post(world.loop, support_post_fn, &post), expected);
		if (round)
			world_run(&world);
		ck_assert_int_eq(evwork_loop_hold(world.loop), expected);
		if (!round) {
			ck_assert_int_eq(evwork_loop_release(world.loop), -EINVAL);
			ck_assert_int_eq(evwork_timer_stop(&timer.timer), -ESRCH);
			ck_assert_int_eq(evwork_cancel(&probe.job), -ESRCH);
			heap_empty(&heap);
		}
	}
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(timer.calls, 1);
	ck_assert_int_eq(post.calls, 1);
	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(world.pool), &stats), 0);
	ck_assert_uint_eq(stats.refused_memory, 1);
	ck_assert_uint_eq(stats.accepted, 1);
	world_close(&world);
}
END_TEST

/* A context with a deadline that finds no room in libevent's heap is not made: S-GEN-14. */
START_TEST(context_without_memory_of_libevent)
{
	struct full_heap heap;
	struct evwork_ctx *ctx = NULL;
	struct world world;

	world_open(&world, 1);
	heap_fill(&heap, world.base);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 1000, 0, &ctx), -ENOMEM);
	ck_assert_ptr_null(ctx);
	heap_empty(&heap);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 3600000, 0, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* A loop that libevent has no memory for is not made, and nothing is left: S-GEN-14. */
START_TEST(loop_without_memory_of_libevent)
{
	struct event_base *base = event_base_new();
	struct evwork_loop *loop = NULL;
	struct full_heap heap;

	ck_assert_ptr_nonnull(base);
	heap_fill(&heap, base);
	ck_assert_int_eq(evwork_loop_new(base, NULL, NULL, &loop), -ENOMEM);
	ck_assert_ptr_null(loop);
	heap_empty(&heap);
	ck_assert_int_eq(evwork_loop_new(base, NULL, NULL, &loop), 0);
	ck_assert_int_eq(evwork_loop_free(loop), 0);
	event_base_free(base);
}
END_TEST

/* The codes of a loop and of a pool for each kind of call to the system that fails:
 * memory and locks ENOMEM, descriptors and threads EAGAIN, S-GEN-1, S-POOL-7. */
START_TEST(codes_of_failed_calls)
{
	static const struct { enum sys_call kind; int loop, pool; } rows[] = {
		{ SYS_MEMORY, -ENOMEM, -ENOMEM }, { SYS_LOCK, -ENOMEM, -ENOMEM },
		{ SYS_DESCRIPTOR, -EAGAIN, 0 }, { SYS_THREAD, 0, -EAGAIN }
	};
	struct evwork_pool_options options = { .threads = 1 };
	struct event_base *base = event_base_new();
	struct evwork_loop *loop = NULL;
	struct evwork_pool *pool = NULL;

	fault_start(rows[_i].kind, 1, true);
	ck_assert_int_eq(evwork_loop_new(base, NULL, NULL, &loop), rows[_i].loop);
	ck_assert_int_eq(evwork_pool_new(&options, &pool), rows[_i].pool);
	fault_stop();
	ck_assert((loop != NULL) == (rows[_i].loop == 0));
	ck_assert((pool != NULL) == (rows[_i].pool == 0));
	ck_assert_int_eq(evwork_loop_free(loop), 0);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	event_base_free(base);
}
END_TEST

static void add_order(Suite *suite)
{
	TCase *tcase = support_case(suite, "order");

	tcase_add_test(tcase, einval_before_eperm);
	tcase_add_test(tcase, einval_before_edeadlk);
	tcase_add_test(tcase, einval_before_eshutdown);
	tcase_add_test(tcase, einval_before_enomem);
	tcase_add_loop_test(tcase, eperm_before_ebusy_and_eshutdown, 0, 2);
	tcase_add_test(tcase, eperm_before_ecanceled);
	tcase_add_test(tcase, edeadlk_before_the_rest);
	tcase_add_test(tcase, ebusy_before_context_and_room);
	tcase_add_loop_test(tcase, context_before_eshutdown_in_submit, 0, 2);
	tcase_add_test(tcase, context_and_eshutdown_before_eagain);
	tcase_add_test(tcase, context_before_guards);
	tcase_add_test(tcase, eshutdown_and_ebusy_before_enomem);
	tcase_add_test(tcase, context_eshutdown_before_enomem);
	tcase_add_test(tcase, context_and_eagain_before_enomem);
}

static void add_memory(Suite *suite)
{
	TCase *tcase = support_case(suite, "memory");

	tcase_add_test(tcase, libevent_without_memory);
	tcase_add_test(tcase, context_without_memory_of_libevent);
	tcase_add_test(tcase, loop_without_memory_of_libevent);
	tcase_add_loop_test(tcase, codes_of_failed_calls, 0, 4);
}

static Suite *suite(void)
{
	Suite *order = suite_create("gen_order");

	add_order(order);
	add_memory(order);
	return order;
}

int main(void)
{
	/* Before anything else of libevent. */
	event_set_mem_functions(libevent_malloc, libevent_realloc, free);
	return support_run(suite());
}
