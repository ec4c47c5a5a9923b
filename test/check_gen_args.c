/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * General rules about arguments, options and what calls return.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <limits.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int key;

static int nothing_run(struct evwork_job *job)
{
	(void)job;
	return 0;
}

static void nothing_timer(struct evwork_timer *timer, int status)
{
	(void)timer;
	(void)status;
}

static void nothing_watch(struct evwork_watch *watch, int status)
{
	(void)watch;
	(void)status;
}

static void nothing_post(void *arg)
{
	(void)arg;
}

static void nothing_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
}

/* Bad calls. Each is made with the given errno, which must not matter. */

#define EXPECT_EINVAL(call) \
	do { \
		errno = before; \
		ck_assert_int_eq((call), -EINVAL); \
	} while (0)

static void misuse_clocks(int before)
{
	struct evwork_clock *none = NULL, *clock = NULL;

	EXPECT_EINVAL(evwork_clock_new(5, NULL));
	EXPECT_EINVAL(evwork_clock_new(-1, &none));
	EXPECT_EINVAL(evwork_clock_new(EVWORK_NEVER, &none));
	ck_assert_ptr_null(none);
	EXPECT_EINVAL(evwork_clock_advance(NULL, 1));
	EXPECT_EINVAL(evwork_clock_jump(NULL, 1));
	ck_assert_int_eq(evwork_clock_new(5, &clock), 0);
	EXPECT_EINVAL(evwork_clock_advance(clock, -1));
	EXPECT_EINVAL(evwork_clock_jump(clock, INT64_MIN));
	ck_assert_int_eq(evwork_clock_now(clock), 5);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}

static void misuse_contexts(struct world *world, int before)
{
	struct evwork_ctx *none = NULL;
	struct evwork_watch watch, functionless;
	void *value = &key;

	EXPECT_EINVAL(evwork_ctx_new(NULL, NULL));
	EXPECT_EINVAL(evwork_ctx_with_timeout(NULL, world->loop, 1, 0, NULL));
	EXPECT_EINVAL(evwork_ctx_with_timeout(NULL, NULL, 100000, 0, &none));
	EXPECT_EINVAL(evwork_ctx_with_deadline(NULL, world->loop, 1, 0, NULL));
	EXPECT_EINVAL(evwork_ctx_with_deadline(NULL, NULL, EVWORK_NEVER - 1, 0, &none));
	EXPECT_EINVAL(evwork_ctx_with_value(NULL, NULL, &key, NULL, &none));
	EXPECT_EINVAL(evwork_ctx_with_value(NULL, &key, &key, NULL, NULL));
	EXPECT_EINVAL(evwork_ctx_detached(NULL, NULL));
	ck_assert_ptr_null(none);
	EXPECT_EINVAL(evwork_ctx_cancel(NULL, 0));
	EXPECT_EINVAL(evwork_ctx_cancel(evwork_ctx_background(), -EPIPE));
	EXPECT_EINVAL(evwork_ctx_value(NULL, NULL, &value));
	EXPECT_EINVAL(evwork_ctx_value(NULL, &key, NULL));
	ck_assert_ptr_eq(value, &key);
	evwork_watch_init(&watch, nothing_watch);
	evwork_watch_init(&functionless, NULL);
	EXPECT_EINVAL(evwork_ctx_after(NULL, NULL, &watch));
	EXPECT_EINVAL(evwork_ctx_after(NULL, world->loop, NULL));
	EXPECT_EINVAL(evwork_ctx_after(NULL, world->loop, &functionless));
	EXPECT_EINVAL(evwork_ctx_stop(NULL));
}

static void misuse_jobs(struct world *world, int before)
{
	struct evwork_loop *bare = NULL;
	struct evwork_job job, runless;

	evwork_job_init(&job, nothing_run, NULL);
	evwork_job_init(&runless, NULL, NULL);
	EXPECT_EINVAL(evwork_submit(NULL, &job));
	EXPECT_EINVAL(evwork_submit(world->loop, NULL));
	EXPECT_EINVAL(evwork_submit(world->loop, &runless));
	EXPECT_EINVAL(evwork_submit_wait(NULL, &job));
	EXPECT_EINVAL(evwork_submit_wait(world->loop, NULL));
	EXPECT_EINVAL(evwork_submit_wait(world->loop, &runless));
	EXPECT_EINVAL(evwork_cancel(NULL));
	EXPECT_EINVAL(evwork_job_set_detach(NULL, 1));
	EXPECT_EINVAL(evwork_job_set_detach(NULL, 0));
	EXPECT_EINVAL(evwork_job_set_detach(&job, 1));
	/* No lane: the loop has no pool. */
	ck_assert_int_eq(evwork_loop_new(world->base, NULL, NULL, &bare), 0);
	EXPECT_EINVAL(evwork_submit(bare, &job));
	EXPECT_EINVAL(evwork_submit_wait(bare, &job));
	ck_assert_int_eq(evwork_loop_free(bare), 0);
}

static void misuse_lanes(struct world *world, int before)
{
	static const struct evwork_lane_options options;
	struct evwork_lane_stats stats;
	struct evwork_lane *none = NULL;

	EXPECT_EINVAL(evwork_lane_new(NULL, &options, &none));
	EXPECT_EINVAL(evwork_lane_new(world->pool, NULL, &none));
	EXPECT_EINVAL(evwork_lane_new(world->pool, &options, NULL));
	ck_assert_ptr_null(none);
	EXPECT_EINVAL(evwork_lane_free(evwork_pool_lane(world->pool)));
	EXPECT_EINVAL(evwork_lane_stats(NULL, &stats));
	EXPECT_EINVAL(evwork_lane_stats(evwork_pool_lane(world->pool), NULL));
}

static void misuse_loops(struct world *world, int before)
{
	struct evwork_loop *none = NULL;
	struct evwork_loop_stats stats;

	EXPECT_EINVAL(evwork_loop_new(NULL, world->pool, NULL, &none));
	EXPECT_EINVAL(evwork_loop_new(world->base, world->pool, NULL, NULL));
	ck_assert_ptr_null(none);
	EXPECT_EINVAL(evwork_loop_close(NULL, NULL, NULL));
	EXPECT_EINVAL(evwork_loop_hold(NULL));
	EXPECT_EINVAL(evwork_loop_release(NULL));
	EXPECT_EINVAL(evwork_loop_release(world->loop));
	EXPECT_EINVAL(evwork_post(NULL, nothing_post, NULL));
	EXPECT_EINVAL(evwork_post(world->loop, NULL, NULL));
	EXPECT_EINVAL(evwork_loop_stats(NULL, &stats));
	EXPECT_EINVAL(evwork_loop_stats(world->loop, NULL));
}

static void misuse_pools(struct world *world, int before)
{
	struct evwork_pool_stats stats;
	enum evwork_close_mode unknown = (enum evwork_close_mode)(EVWORK_CANCEL_ALL + 1);
	enum evwork_close_mode none = (enum evwork_close_mode)0;

	EXPECT_EINVAL(evwork_pool_new(NULL, NULL));
	EXPECT_EINVAL(evwork_pool_close(NULL, EVWORK_DRAIN, NULL, NULL, NULL));
	EXPECT_EINVAL(evwork_pool_close(world->pool, none, NULL, NULL, NULL));
	EXPECT_EINVAL(evwork_pool_close(world->pool, unknown, NULL, NULL, NULL));
	EXPECT_EINVAL(evwork_pool_close(world->pool, EVWORK_DRAIN, NULL, nothing_closed, NULL));
	EXPECT_EINVAL(evwork_pool_close_wait(NULL, EVWORK_DRAIN));
	EXPECT_EINVAL(evwork_pool_close_wait(world->pool, none));
	EXPECT_EINVAL(evwork_pool_close_wait(world->pool, unknown));
	EXPECT_EINVAL(evwork_pool_stats(NULL, &stats));
	EXPECT_EINVAL(evwork_pool_stats(world->pool, NULL));
}

static void *half_allocate(size_t size, void *arg)
{
	(void)arg;
	return malloc(size);
}

static void misuse_others(struct world *world, int before)
{
	struct evwork_allocator half = { half_allocate, NULL, NULL };
	struct evwork_log_filter filter = { .interval_ms = -1 };
	struct evwork_timer timer, functionless;

	EXPECT_EINVAL(evwork_job_err(NULL));
	EXPECT_EINVAL(evwork_set_allocator(&half));
	EXPECT_EINVAL(evwork_log_filter_pass(NULL, 0, NULL));
	EXPECT_EINVAL(evwork_log_filter_pass(&filter, 0, NULL));
	evwork_timer_init(&timer, nothing_timer);
	evwork_timer_init(&functionless, NULL);
	EXPECT_EINVAL(evwork_timer_start(NULL, &timer, 1));
	EXPECT_EINVAL(evwork_timer_start(world->loop, NULL, 1));
	EXPECT_EINVAL(evwork_timer_start(world->loop, &functionless, 1));
	EXPECT_EINVAL(evwork_timer_start_at(NULL, &timer, 1));
	EXPECT_EINVAL(evwork_timer_start_at(world->loop, NULL, 1));
	EXPECT_EINVAL(evwork_timer_start_at(world->loop, &functionless, 1));
	EXPECT_EINVAL(evwork_timer_stop(NULL));
}

static void misuse_all(struct world *world, int before)
{
	misuse_clocks(before);
	misuse_contexts(world, before);
	misuse_jobs(world, before);
	misuse_lanes(world, before);
	misuse_loops(world, before);
	misuse_pools(world, before);
	misuse_others(world, before);
}

/* Whether the world still works and nothing of the bad calls is left in it. */
static void expect_sound(struct world *world)
{
	struct evwork_loop_stats loop;
	struct evwork_lane_stats lane;
	struct probe probe;

	ck_assert_int_eq(evwork_loop_stats(world->loop, &loop), 0);
	ck_assert_uint_eq(loop.outstanding, 0);
	ck_assert_uint_eq(loop.delivered, 0);
	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(world->pool), &lane), 0);
	ck_assert_uint_eq(lane.accepted, 0);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world->loop, &probe.job), 0);
	world_run(world);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.status, 0);
}

static const int errnos[] = { 0, EINTR, EAGAIN, ENOMEM, 9999 };

/* A missing object or a malformed argument gives the negated EINVAL whatever errno
 * says, nothing is stored or begun, and everything works afterwards: S-GEN-1,
 * S-GEN-8. */
START_TEST(malformed_arguments_are_einval)
{
	struct world world;

	world_open(&world, 1);
	misuse_all(&world, errnos[_i]);
	expect_sound(&world);
	world_close(&world);
}
END_TEST

/* Bad calls write nothing to the standard descriptors and do not end the process:
 * S-GEN-16. */
START_TEST(misuse_is_silent)
{
	struct support_capture capture;
	struct world world;
	int bytes;

	world_open(&world, 1);
	support_capture_begin(&capture);
	misuse_all(&world, 0);
	ck_assert_int_ge(dprintf(1, "+"), 0);
	bytes = support_capture_end(&capture);
	/* The one byte of the test shows that the capture works. */
	ck_assert_int_eq(bytes, 1);
	expect_sound(&world);
	world_close(&world);
}
END_TEST

/* Returned statuses. */

static int errno_to_leave;

static void leave_errno(struct probe *probe)
{
	(void)probe;
	errno = errno_to_leave;
}

/* What user code leaves in errno, on the worker or on the loop, changes nothing:
 * S-GEN-1. */
START_TEST(errno_is_not_read)
{
	struct probe probe[3];
	struct world world;
	int i;

	errno_to_leave = errnos[_i];
	world_open(&world, 1);
	for (i = 0; i < 3; i++) {
		probe_init(&probe[i], i);
		probe[i].on_run = leave_errno;
		probe[i].on_done = leave_errno;
		errno = errno_to_leave;
		ck_assert_int_eq(evwork_submit(world.loop, &probe[i].job), 0);
	}
	world_run(&world);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(probe[i].dones, 1);
		ck_assert_int_eq(probe[i].status, i);
	}
	world_close(&world);
}
END_TEST

static const int returned[] = { 0, 1, 77, INT_MAX, INT_MIN, -1, -EAGAIN, -99999 };

/* done gets what work returned, untouched, whatever its value: S-GEN-1. */
START_TEST(status_passes_untouched)
{
	struct probe probe;
	struct world world;

	world_open(&world, 1);
	probe_init(&probe, returned[_i]);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.ran, 1);
	ck_assert_int_eq(probe.status, returned[_i]);
	world_close(&world);
}
END_TEST

/* Callbacks that did not come to their end get negated codes of the table: job,
 * timer and watch, S-GEN-1. */
START_TEST(callbacks_get_negated_codes)
{
	struct support_timer timer;
	struct support_watch watch;
	struct gate_job blocker;
	struct probe probe;
	struct world world;
	struct gate gate;

	world_open(&world, 1);
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	probe_init(&probe, 0);
	support_timer_init(&timer, world.loop);
	support_watch_init(&watch);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_cancel(&probe.job), 0);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 1000000), 0);
	ck_assert_int_eq(evwork_ctx_after(NULL, world.loop, &watch.watch), 0);
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	gate_open(&gate);
	world_run(&world);
	ck_assert_int_eq(probe.status, -ECANCELED);
	ck_assert_int_eq(timer.status, -ECANCELED);
	ck_assert_int_eq(watch.status, -ECANCELED);
	ck_assert_int_eq(blocker.status, 0);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* Where NULL is allowed. */

/* free and unref of NULL do nothing and succeed: S-GEN-8. */
START_TEST(freeing_null_is_fine)
{
	ck_assert_int_eq(evwork_clock_free(NULL), 0);
	ck_assert_int_eq(evwork_lane_free(NULL), 0);
	ck_assert_int_eq(evwork_loop_free(NULL), 0);
	ck_assert_int_eq(evwork_pool_free(NULL), 0);
	evwork_ctx_unref(NULL);
	ck_assert_ptr_null(evwork_ctx_ref(NULL));
}
END_TEST

/* A NULL context is the background: alive, without deadline and values, and a
 * parent like any other; work under it runs, S-GEN-8. */
START_TEST(null_context_is_background)
{
	struct evwork_ctx *child = NULL;
	struct probe probe;
	struct world world;
	void *value;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_ctx_err(NULL), 0);
	ck_assert_int_eq(evwork_ctx_cause(NULL), 0);
	ck_assert(evwork_ctx_deadline(NULL) == EVWORK_NEVER);
	ck_assert_int_eq(evwork_ctx_value(NULL, &key, &value), 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &child), 0);
	ck_assert_int_eq(evwork_ctx_err(child), 0);
	probe_init(&probe, 5);
	probe.job.ctx = NULL;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(probe.status, 5);
	evwork_ctx_unref(child);
	world_close(&world);
}
END_TEST

/* Without a done function work still runs, once, and its lane counts it: S-GEN-8. */
START_TEST(null_done_still_runs)
{
	struct evwork_lane_stats stats;
	struct probe probe;
	struct world world;

	world_open(&world, 1);
	probe_init(&probe, 0);
	probe.job.done = NULL;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(atomic_load(&probe.runs), 1);
	ck_assert_int_eq(probe.dones, 0);
	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(world.pool), &stats), 0);
	ck_assert_uint_eq(stats.ok, 1);
	ck_assert_int_eq(evwork_cancel(&probe.job), -ESRCH);
	world_close(&world);
}
END_TEST

/* Options. */

static const struct evwork_loop_options bad_loops[] = {
	{ .batch = -1 }, { .batch = INT_MIN },
	{ .budget_us = -1 }, { .budget_us = INT64_MIN },
	{ .event_priority = -1 }, { .event_priority = INT_MIN },
	{ .event_priority = EVWORK_EVENT_PRIORITY(1) }, { .event_priority = INT_MAX },
	{ .notify = (enum evwork_notify)(EVWORK_NOTIFY_PIPE + 1) },
	{ .spin_us = -1 },
	/* All is looked at, not only the first. */
	{ .batch = 4, .budget_us = 100, .notify = EVWORK_NOTIFY_PIPE, .spin_us = -5 }
};

/* A loop with one option out of range, a negative duration among them, is refused
 * and leaves nothing behind: S-GEN-15, S-GEN-10. */
START_TEST(loop_options_out_of_range)
{
	struct event_base *base = event_base_new();
	struct evwork_loop *loop = NULL;

	ck_assert_ptr_nonnull(base);
	ck_assert_int_eq(evwork_loop_new(base, NULL, &bad_loops[_i], &loop), -EINVAL);
	ck_assert_ptr_null(loop);
	event_base_free(base);
}
END_TEST

static int start_well(int worker, void *arg)
{
	(void)worker;
	(*(int *)arg)++;
	return 0;
}

static const struct evwork_pool_options bad_pools[] = {
	{ .threads = -1 }, { .threads = INT_MIN },
	{ .threads = EVWORK_THREADS_MAX + 1 }, { .threads = INT_MAX },
	{ .stack_size = 1 },
	{ .ageing = -1 },
	{ .spin_us = -1 }, { .spin_us = INT64_MIN },
	{ .hold_us = EVWORK_HOLD_OFF - 1 }, { .hold_us = INT64_MIN },
	{ .lane = { .timeout_ms = -1 } },
	{ .lane = { .priority = EVWORK_PRIORITY_MAX + 1 } },
	{ .lane = { .max_running = EVWORK_HALF - 1 } },
	{ .lane = { .guard_count = 1 } },
	{ .threads = 2, .ageing = 3, .lane = { .queue_limit = 5, .timeout_ms = -5 } }
};

/* A pool with one option out of range, its lane's among them, is refused; no
 * worker was started for it and nothing is left: S-GEN-15, S-GEN-10. */
START_TEST(pool_options_out_of_range)
{
	struct evwork_pool_options options = bad_pools[_i];
	struct evwork_pool *pool = NULL;
	int starts = 0;

	options.on_start = start_well;
	options.hook_arg = &starts;
	ck_assert_int_eq(evwork_pool_new(&options, &pool), -EINVAL);
	ck_assert_ptr_null(pool);
	ck_assert_int_eq(starts, 0);
}
END_TEST

static struct support_guard granting = SUPPORT_GUARD(0);
static struct support_guard refusing = SUPPORT_GUARD(-EHOSTDOWN);
static struct evwork_guard without_acquire = { NULL, support_guard_release };
static struct evwork_guard without_release = { support_guard_acquire, NULL };
static struct evwork_guard *const none_guards[] = { NULL };
static struct evwork_guard *const half_guards[] = { &granting.guard, &without_acquire };
static struct evwork_guard *const other_guards[] = { &without_release };

static const struct evwork_lane_options bad_lanes[] = {
	{ .priority = EVWORK_PRIORITY_MAX + 1 }, { .priority = -EVWORK_PRIORITY_MAX - 1 },
	{ .priority = INT_MAX }, { .priority = INT_MIN },
	{ .max_running = EVWORK_HALF - 1 }, { .max_running = EVWORK_THREADS_MAX + 1 },
	{ .timeout_ms = -1 }, { .timeout_ms = INT64_MIN },
	{ .guard_count = 1 },
	{ .guards = none_guards, .guard_count = 1 },
	{ .guards = half_guards, .guard_count = 2 },
	{ .guards = other_guards, .guard_count = 1 }
};

/* A lane with one option out of range is refused: S-GEN-15, S-GEN-10. */
START_TEST(lane_options_out_of_range)
{
	struct evwork_lane *lane = NULL;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(world.pool, &bad_lanes[_i], &lane), -EINVAL);
	ck_assert_ptr_null(lane);
	expect_sound(&world);
	world_close(&world);
}
END_TEST

static const struct evwork_lane_options edge_lanes[] = {
	{ .priority = EVWORK_PRIORITY_MAX }, { .priority = -EVWORK_PRIORITY_MAX },
	{ .max_running = EVWORK_HALF }, { .max_running = EVWORK_THREADS_MAX },
	{ .queue_limit = EVWORK_UNBOUNDED }, { .queue_limit = 1 },
	{ .timeout_ms = INT64_MAX }
};

/* The ends of each range are inside it: S-GEN-15. */
START_TEST(lane_options_at_the_ends)
{
	struct evwork_lane *lane = NULL;
	struct probe probe;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(world.pool, &edge_lanes[_i], &lane), 0);
	probe_init(&probe, 3);
	probe.job.lane = lane;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(probe.status, 3);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

/* How many jobs a lane queues while its only worker is blocked. */
static int count_room(struct world *world, struct evwork_lane *lane, struct probe *probes,
	int max)
{
	int n;

	for (n = 0; n < max; n++) {
		probe_init(&probes[n], 0);
		probes[n].job.lane = lane;
		if (evwork_submit(world->loop, &probes[n].job) != 0)
			break;
	}
	return n;
}

#define MANY (EVWORK_QUEUE_LIMIT_DEFAULT + 10)

/* All-zero options and no options are the documented defaults: one worker per CPU,
 * 4096 jobs in the queue, no timeout, the names of the header: S-GEN-15. */
START_TEST(zero_is_the_default)
{
	struct evwork_pool_options zero = { 0 };
	struct evwork_pool_stats stats;
	struct probe *probes = calloc(MANY, sizeof(*probes));
	struct gate_job *blockers;
	struct world world;
	struct gate gate;
	int i, threads = sys_cpu_count();

	world_open_with(&world, _i ? &zero : NULL, NULL);
	ck_assert_int_eq(evwork_pool_stats(world.pool, &stats), 0);
	ck_assert_int_eq(stats.threads, threads);
	ck_assert_str_eq(evwork_lane_name(evwork_pool_lane(world.pool)), "default");
	gate_init(&gate);
	blockers = calloc((size_t)threads, sizeof(*blockers));
	for (i = 0; i < threads; i++) {
		gate_job_init(&blockers[i], &gate);
		ck_assert_int_eq(evwork_submit(world.loop, &blockers[i].job), 0);
	}
	gate_await(&gate, threads);
	ck_assert_int_eq(count_room(&world, NULL, probes, MANY), EVWORK_QUEUE_LIMIT_DEFAULT);
	gate_open(&gate);
	world_run(&world);
	ck_assert_int_eq(probes[EVWORK_QUEUE_LIMIT_DEFAULT - 1].status, 0);
	world_close(&world);
	gate_fini(&gate);
	free(blockers);
	free(probes);
}
END_TEST

/* Options are copied at creation, names and guard lists with them: what the caller
 * does to them afterwards changes nothing, S-GEN-15. */
START_TEST(options_are_copied)
{
	char name[] = "first";
	struct evwork_guard *guards[] = { &granting.guard };
	struct evwork_lane_options options = {
		.name = name, .queue_limit = 3, .guards = guards, .guard_count = 1
	};
	struct probe probes[10];
	struct gate_job blocker;
	struct evwork_lane *lane;
	struct world world;
	struct gate gate;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	memcpy(name, "other", sizeof(name));
	guards[0] = &refusing.guard;
	memset(&options, 0x55, sizeof(options));
	ck_assert_str_eq(evwork_lane_name(lane), "first");
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(count_room(&world, lane, probes, 10), 3);
	gate_open(&gate);
	world_run(&world);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* The allocator may not change while memory of it is in use: S-GEN-15. */
START_TEST(setting_in_use_is_busy)
{
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_set_allocator(NULL), -EBUSY);
	expect_sound(&world);
	world_close(&world);
	ck_assert_int_eq(evwork_set_allocator(NULL), 0);
}
END_TEST

static void add_calls(Suite *suite)
{
	TCase *tcase = support_case(suite, "calls");

	tcase_add_loop_test(tcase, malformed_arguments_are_einval, 0, COUNT(errnos));
	tcase_add_test(tcase, misuse_is_silent);
	tcase_add_loop_test(tcase, errno_is_not_read, 0, COUNT(errnos));
	tcase_add_loop_test(tcase, status_passes_untouched, 0, COUNT(returned));
	tcase_add_test(tcase, callbacks_get_negated_codes);
	tcase_add_test(tcase, freeing_null_is_fine);
	tcase_add_test(tcase, null_context_is_background);
	tcase_add_test(tcase, null_done_still_runs);
}

static void add_options(Suite *suite)
{
	TCase *tcase = support_case(suite, "options");

	tcase_add_loop_test(tcase, loop_options_out_of_range, 0, COUNT(bad_loops));
	tcase_add_loop_test(tcase, pool_options_out_of_range, 0, COUNT(bad_pools));
	tcase_add_loop_test(tcase, lane_options_out_of_range, 0, COUNT(bad_lanes));
	tcase_add_loop_test(tcase, lane_options_at_the_ends, 0, COUNT(edge_lanes));
	tcase_add_loop_test(tcase, zero_is_the_default, 0, 2);
	tcase_add_test(tcase, options_are_copied);
	tcase_add_test(tcase, setting_in_use_is_busy);
}

static Suite *suite(void)
{
	Suite *args = suite_create("gen_args");

	add_calls(args);
	add_options(args);
	return args;
}

int main(void)
{
	return support_run(suite());
}
