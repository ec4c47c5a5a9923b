/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Lanes: their options, caps, order and end. Timeouts and delays are in
 * check_lane_time.c, guards in check_lane_guard.c, counters in check_lane_stats.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <limits.h>
#include <pthread.h>

static struct evwork_lane *lane_new(struct evwork_pool *pool, struct evwork_lane_options options)
{
	struct evwork_lane *lane;

	ck_assert_int_eq(evwork_lane_new(pool, &options, &lane), 0);
	return lane;
}

/* Submits a job of the lane. */
static void put(struct world *world, struct probe *probe, struct evwork_lane *lane)
{
	probe_init(probe, 0);
	probe->job.lane = lane;
	ck_assert_int_eq(evwork_submit(world->loop, &probe->job), 0);
}

/* Submits a job of the lane that waits in the gate. */
static void put_gate(struct world *world, struct gate_job *job, struct gate *gate,
	struct evwork_lane *lane)
{
	gate_job_init(job, gate);
	job->job.lane = lane;
	ck_assert_int_eq(evwork_submit(world->loop, &job->job), 0);
}

/* Options. */

static int no_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)guard;
	(void)job;
	(void)permit;
	return 0;
}

static void no_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)guard;
	(void)permit;
	(void)end;
}

static struct evwork_guard good_guard = { no_acquire, no_release };
static struct evwork_guard half_guard = { no_acquire, NULL };
static struct evwork_guard other_half_guard = { NULL, no_release };

static struct evwork_guard *const null_list[] = { &good_guard, NULL };
static struct evwork_guard *const half_list[] = { &good_guard, &half_guard };
static struct evwork_guard *const other_half_list[] = { &other_half_guard };

static const struct evwork_lane_options bad_options[] = {
	{ .priority = EVWORK_PRIORITY_MAX + 1 },
	{ .priority = -EVWORK_PRIORITY_MAX - 1 },
	{ .priority = INT_MAX },
	{ .priority = INT_MIN },
	{ .max_running = EVWORK_HALF - 1 },
	{ .max_running = EVWORK_THREADS_MAX + 1 },
	{ .max_running = INT_MAX },
	{ .max_running = INT_MIN },
	{ .timeout_ms = -1 },
	{ .timeout_ms = INT64_MIN },
	{ .guards = NULL, .guard_count = 1 },
	{ .guards = null_list, .guard_count = 2 },
	{ .guards = half_list, .guard_count = 2 },
	{ .guards = other_half_list, .guard_count = 1 },
};

/* A lane with any option out of range is refused and leaves nothing behind
 * (S-LANE-1, S-GEN-10). */
START_TEST(lane_options_out_of_range)
{
	struct evwork_lane *lane = NULL;
	struct world world;
	size_t blocks;

	world_open(&world, 1);
	blocks = sys_blocks();
	ck_assert_int_eq(evwork_lane_new(world.pool, &bad_options[_i], &lane), -EINVAL);
	ck_assert_ptr_null(lane);
	ck_assert_uint_eq(sys_blocks(), blocks);
	world_close(&world);
}
END_TEST

static const struct evwork_lane_options extremes[] = {
	{ .priority = EVWORK_PRIORITY_MAX },
	{ .priority = -EVWORK_PRIORITY_MAX },
	{ .max_running = EVWORK_HALF },
	{ .max_running = EVWORK_THREADS_MAX },
	{ .queue_limit = 1 },
	{ .queue_limit = EVWORK_UNBOUNDED },
	{ .timeout_ms = INT64_MAX },
	{ .guards = null_list, .guard_count = 1 },
	{ .guards = null_list, .guard_count = 0 },
	{ .name = NULL },
};

/* A lane with options at the very ends of their ranges is made and works
 * (S-LANE-1, S-GEN-9). */
START_TEST(lane_options_extreme)
{
	struct world world;
	struct evwork_lane *lane;
	struct probe probe;

	world_open(&world, 2);
	lane = lane_new(world.pool, extremes[_i]);
	put(&world, &probe, lane);
	world_run(&world);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.status, 0);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

/* No pool, no options, or no place for the result is EINVAL, and so are statistics
 * without an argument; freeing no lane is fine, freeing the default lane is not
 * possible (S-LANE-1, S-GEN-8). */
START_TEST(lane_null_arguments)
{
	struct evwork_lane_options options = { .priority = 0 };
	struct evwork_lane_stats stats;
	struct evwork_lane *lane = NULL;
	struct world world;
	struct probe probe;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(NULL, &options, &lane), -EINVAL);
	ck_assert_int_eq(evwork_lane_new(world.pool, NULL, &lane), -EINVAL);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, NULL), -EINVAL);
	ck_assert_ptr_null(lane);
	lane = evwork_pool_lane(world.pool);
	ck_assert_int_eq(evwork_lane_stats(NULL, &stats), -EINVAL);
	ck_assert_int_eq(evwork_lane_stats(lane, NULL), -EINVAL);
	ck_assert_int_eq(evwork_lane_free(NULL), 0);
	ck_assert_int_eq(evwork_lane_free(lane), -EINVAL);
	put(&world, &probe, lane);
	world_run(&world);
	ck_assert_int_eq(probe.status, 0);
	world_close(&world);
}
END_TEST

/* What the program does to its options, name and list of guards after the creation
 * does not reach the lane (S-LANE-1). */
START_TEST(lane_options_copied)
{
	char name[] = "copied";
	struct evwork_guard *list[] = { &good_guard };
	struct evwork_lane_options options = {
		.name = name, .queue_limit = 2, .guards = list, .guard_count = 1
	};
	struct gate_job blocker;
	struct probe probes[3];
	struct evwork_lane *lane;
	struct world world;
	struct gate gate;

	gate_init(&gate);
	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	memset(name, 'x', sizeof(name) - 1);
	list[0] = NULL;
	memset(&options, 0xff, sizeof(options));
	ck_assert_str_eq(evwork_lane_name(lane), "copied");
	put_gate(&world, &blocker, &gate, NULL);
	gate_await(&gate, 1);
	put(&world, &probes[0], lane);
	put(&world, &probes[1], lane);
	probe_init(&probes[2], 0);
	probes[2].job.lane = lane;
	ck_assert_int_eq(evwork_submit(world.loop, &probes[2].job), -EAGAIN);
	gate_open(&gate);
	world_run(&world);
	ck_assert_int_eq(probes[0].status, 0);
	ck_assert_int_eq(probes[1].status, 0);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* A lane without a name is called "lane", and of a long name 63 bytes are kept
 * (S-LANE-1, S-OBS-8). */
START_TEST(lane_names)
{
	char name[101];
	struct evwork_lane_options options = { .name = NULL };
	struct evwork_lane *lane;
	struct world world;

	world_open(&world, 1);
	lane = lane_new(world.pool, options);
	ck_assert_str_eq(evwork_lane_name(lane), "lane");
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	options.name = name;
	lane = lane_new(world.pool, options);
	ck_assert_uint_eq(strlen(evwork_lane_name(lane)), 63);
	ck_assert_int_eq(strncmp(evwork_lane_name(lane), name, 63), 0);
	name[63] = '\0';
	lane = lane_new(world.pool, options);
	ck_assert_str_eq(evwork_lane_name(lane), name);
	world_close(&world);
}
END_TEST

static const enum sys_call failing_calls[] = { SYS_MEMORY, SYS_LOCK };

/* If any allocation or lock fails while a lane is made the answer is ENOMEM, nothing
 * is left behind, and the pool is as good as before (S-LANE-1, S-GEN-14). */
START_TEST(lane_new_without_memory)
{
	struct evwork_lane_options options = {
		.name = "poor", .guards = null_list, .guard_count = 1
	};
	struct world world;
	int k = 0, calls;

	world_open(&world, 1);
	do {
		struct evwork_lane *lane = NULL;
		size_t blocks = sys_blocks();
		struct probe probe;
		int rc;

		fault_start(failing_calls[_i], ++k, false);
		rc = evwork_lane_new(world.pool, &options, &lane);
		calls = fault_stop();
		ck_assert_int_eq(rc, calls >= k ? -ENOMEM : 0);
		ck_assert_int_eq(lane != NULL, rc == 0);
		put(&world, &probe, lane);
		world_run(&world);
		ck_assert_int_eq(probe.status, 0);
		ck_assert_int_eq(evwork_lane_free(lane), 0);
		ck_assert_uint_eq(sys_blocks(), blocks);
	} while (calls >= k);
	ck_assert_int_gt(k, 1);
	world_close(&world);
}
END_TEST

static int closed;

static void count_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
	closed++;
}

/* A pool that closes makes no more lanes (S-LANE-1, S-SHUT-2). */
START_TEST(lane_new_closing)
{
	struct evwork_lane_options options = { .priority = 0 };
	struct evwork_lane *lane = NULL;
	struct world world;

	closed = 0;
	world_open(&world, 1);
	ck_assert_int_eq(evwork_pool_close(world.pool, EVWORK_DRAIN, world.loop, count_closed,
		NULL), 0);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), -ESHUTDOWN);
	ck_assert_ptr_null(lane);
	world_run_until(&world, &closed, 1);
	world_close(&world);
}
END_TEST

/* Which lane. */

/* A job that names no lane is the default lane's, and one that names a lane is
 * that one's (S-LANE-1). */
START_TEST(lane_of_a_job)
{
	struct evwork_lane_options options = { .name = "named" };
	struct evwork_lane *lane;
	struct probe probes[3];
	struct world world;

	world_open(&world, 1);
	lane = lane_new(world.pool, options);
	put(&world, &probes[0], NULL);
	put(&world, &probes[1], lane);
	put(&world, &probes[2], lane);
	world_run(&world);
	ck_assert_uint_eq(stats_of(evwork_pool_lane(world.pool)).delivered, 1);
	ck_assert_uint_eq(stats_of(lane).delivered, 2);
	world_close(&world);
}
END_TEST

/* The lane decides about the pool: a loop may use lanes of several pools, and each
 * job runs on the workers of its lane's pool (S-LANE-1, S-POOL-20). */
START_TEST(lane_of_another_pool)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct evwork_pool *other;
	struct probe here[2], there[2];
	struct world world;
	int i;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_pool_new(&options, &other), 0);
	for (i = 0; i < 2; i++) {
		put(&world, &here[i], NULL);
		put(&world, &there[i], evwork_pool_lane(other));
	}
	world_run(&world);
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(here[i].status, 0);
		ck_assert_int_eq(there[i].status, 0);
	}
	ck_assert(pthread_equal(here[0].run_thread, here[1].run_thread));
	ck_assert(pthread_equal(there[0].run_thread, there[1].run_thread));
	ck_assert(!pthread_equal(here[0].run_thread, there[0].run_thread));
	ck_assert_int_eq(evwork_pool_free(other), 0);
	world_close(&world);
}
END_TEST

/* Caps. */

static int arrived_at(struct gate *gate)
{
	int arrived;

	pthread_mutex_lock(&gate->mutex);
	arrived = gate->arrived;
	pthread_mutex_unlock(&gate->mutex);
	return arrived;
}

static const int caps[] = { 1, 2, 3 };

/* A lane at its cap starts no more, holds up no other lane, and starts the next when
 * one of its jobs has ended (S-LANE-4). */
START_TEST(lane_cap)
{
	struct evwork_lane_options options = { .max_running = caps[_i], .priority = 9 };
	struct evwork_lane *lane;
	struct gate_job jobs[8];
	struct probe probes[40];
	struct gate first, second;
	struct world world;
	int i;

	gate_init(&first);
	gate_init(&second);
	world_open(&world, 4);
	lane = lane_new(world.pool, options);
	for (i = 0; i < 8; i++)
		put_gate(&world, &jobs[i], i < caps[_i] ? &first : &second, lane);
	gate_await(&first, caps[_i]);
	for (i = 0; i < 40; i++)
		put(&world, &probes[i], NULL);
	for (i = 0; i < 40; i++)
		world_run_until(&world, &probes[i].dones, 1);
	ck_assert_int_eq(arrived_at(&second), 0);
	ck_assert_uint_eq(stats_of(lane).running, caps[_i]);
	ck_assert_uint_eq(stats_of(lane).queued, 8 - caps[_i]);
	gate_open(&first);
	gate_await(&second, caps[_i]);
	gate_open(&second);
	world_run(&world);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(jobs[i].status, 0);
	world_close(&world);
	gate_fini(&first);
	gate_fini(&second);
}
END_TEST

enum { RUSH_LANES = 4, RUSH_JOBS = 2000 };

struct meter {
	atomic_int inside, peak;
};

static struct meter meters[RUSH_LANES];

static void measure(struct probe *probe)
{
	struct meter *meter = probe->arg;
	int now = atomic_fetch_add(&meter->inside, 1) + 1;
	int peak = atomic_load(&meter->peak);

	while (now > peak && !atomic_compare_exchange_weak(&meter->peak, &peak, now))
		;
	sys_yield();
	atomic_fetch_sub(&meter->inside, 1);
}

/* In a rush of jobs of several capped lanes no lane ever runs more than its cap, and
 * all of them end (S-LANE-4). */
START_TEST(lane_cap_never_exceeded)
{
	static struct probe probes[RUSH_JOBS];
	struct evwork_lane *lanes[RUSH_LANES];
	struct world world;
	int i;

	world_open(&world, 6);
	for (i = 0; i < RUSH_LANES; i++) {
		struct evwork_lane_options options = { .max_running = i + 1, .priority = i % 2 };

		lanes[i] = lane_new(world.pool, options);
		atomic_store(&meters[i].peak, 0);
	}
	for (i = 0; i < RUSH_JOBS; i++) {
		probe_init(&probes[i], 0);
		probes[i].job.lane = lanes[i % RUSH_LANES];
		probes[i].arg = &meters[i % RUSH_LANES];
		probes[i].on_run = measure;
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run(&world);
	for (i = 0; i < RUSH_JOBS; i++)
		ck_assert_int_eq(probes[i].dones, 1);
	for (i = 0; i < RUSH_LANES; i++) {
		ck_assert_int_ge(atomic_load(&meters[i].peak), 1);
		ck_assert_int_le(atomic_load(&meters[i].peak), i + 1);
	}
	world_close(&world);
}
END_TEST

enum { THEFT_FILLERS = 60, THEFT_CAPPED = 4, THEFT_ROUNDS = 30000 };

static struct world theft_world;
static int theft_rounds, theft_failed;

static void again(struct probe *probe)
{
	if (theft_rounds >= THEFT_ROUNDS)
		return;
	if (!probe->job.lane)
		theft_rounds++;
	if (evwork_submit(theft_world.loop, &probe->job) != 0)
		theft_failed++;
}

/* The cap of a lane holds although idle workers take over what busy ones have set aside
 * (S-LANE-4). */
START_TEST(lane_cap_under_theft)
{
	static struct probe fillers[THEFT_FILLERS], capped[THEFT_CAPPED];
	struct evwork_lane_options options = { .max_running = 1 };
	struct evwork_lane *lane;
	int i;

	theft_rounds = 0;
	theft_failed = 0;
	atomic_store(&meters[0].peak, 0);
	world_open(&theft_world, 6);
	lane = lane_new(theft_world.pool, options);
	for (i = 0; i < THEFT_FILLERS; i++) {
		probe_init(&fillers[i], 0);
		fillers[i].on_done = again;
		ck_assert_int_eq(evwork_submit(theft_world.loop, &fillers[i].job), 0);
	}
	for (i = 0; i < THEFT_CAPPED; i++) {
		probe_init(&capped[i], 0);
		capped[i].job.lane = lane;
		capped[i].on_run = measure;
		capped[i].on_done = again;
		capped[i].arg = &meters[0];
		ck_assert_int_eq(evwork_submit(theft_world.loop, &capped[i].job), 0);
	}
	world_run(&theft_world);
	ck_assert_int_eq(theft_failed, 0);
	ck_assert_int_eq(theft_rounds, THEFT_ROUNDS);
	ck_assert_int_eq(atomic_load(&meters[0].peak), 1);
	world_close(&theft_world);
}
END_TEST

/* With a cap of one, the jobs of a lane run one after the other in the order of the
 * submits, on however many workers (S-LANE-4, S-LANE-5). */
START_TEST(lane_cap_one_is_serial)
{
	static struct probe probes[500];
	struct evwork_lane_options options = { .max_running = 1 };
	struct evwork_lane *lane;
	struct world world;
	int i;

	world_open(&world, 4);
	lane = lane_new(world.pool, options);
	atomic_store(&meters[0].peak, 0);
	for (i = 0; i < 500; i++) {
		probe_init(&probes[i], 0);
		probes[i].job.lane = lane;
		probes[i].arg = &meters[0];
		probes[i].on_run = measure;
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run(&world);
	ck_assert_int_eq(atomic_load(&meters[0].peak), 1);
	for (i = 0; i < 500; i++)
		ck_assert_int_eq(probes[i].run_order, i + 1);
	world_close(&world);
}
END_TEST

/* Order. */

/* Lanes of equal priority share one order of arrival, and each of them is first in
 * first out (S-LANE-5). */
START_TEST(lane_order_of_arrival)
{
	static struct probe probes[300];
	struct evwork_lane_options options = { .priority = 0 };
	struct evwork_lane *lanes[3] = { NULL };
	struct gate_job blocker;
	struct world world;
	struct gate gate;
	int i;

	gate_init(&gate);
	world_open(&world, 1);
	lanes[1] = lane_new(world.pool, options);
	lanes[2] = lane_new(world.pool, options);
	put_gate(&world, &blocker, &gate, NULL);
	gate_await(&gate, 1);
	for (i = 0; i < 300; i++)
		put(&world, &probes[i], lanes[(i * 7 / 3) % 3]);
	gate_open(&gate);
	world_run(&world);
	for (i = 0; i < 300; i++)
		ck_assert_int_eq(probes[i].run_order, i + 1);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* The end of a lane. */

struct last {
	struct probe probe;
	struct evwork_lane *lane;
	int rc;
};

static void free_lane(struct probe *probe)
{
	struct last *last = EVWORK_CONTAINER(probe, struct last, probe);

	last->rc = evwork_lane_free(last->lane);
}

/* Freeing a lane is EBUSY while a job of it is queued, running or undelivered, which
 * changes nothing, and possible from the done of its last job (S-LANE-8, S-GEN-5). */
START_TEST(lane_free_busy)
{
	struct evwork_lane_options options = { .name = "busy" };
	struct gate_job blocker, end;
	struct gate gate, end_gate;
	struct last last = { .rc = 1 };
	struct world world;

	gate_init(&gate);
	gate_init(&end_gate);
	world_open(&world, 1);
	last.lane = lane_new(world.pool, options);
	probe_init(&last.probe, 0);
	last.probe.job.lane = last.lane;
	last.probe.on_done = free_lane;
	put_gate(&world, &blocker, &gate, last.lane);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_lane_free(last.lane), -EBUSY);
	ck_assert_int_eq(evwork_submit(world.loop, &last.probe.job), 0);
	ck_assert_int_eq(evwork_lane_free(last.lane), -EBUSY);
	put_gate(&world, &end, &end_gate, NULL);
	gate_open(&gate);
	gate_await(&end_gate, 1);
	/* Both jobs of the lane have ended. */
	ck_assert_int_eq(evwork_lane_free(last.lane), -EBUSY);
	world_run_until(&world, &last.probe.dones, 1);
	ck_assert_int_eq(blocker.status, 0);
	ck_assert_int_eq(last.probe.status, 0);
	ck_assert_int_eq(last.rc, 0);
	gate_open(&end_gate);
	world_run(&world);
	world_close(&world);
	gate_fini(&gate);
	gate_fini(&end_gate);
}
END_TEST

/* Freeing a lane is EBUSY while the done of a cancelled job of it is still to come
 * (S-LANE-8, S-POOL-8). */
START_TEST(lane_free_cancelled)
{
	struct evwork_lane_options options = { .name = "cancelled" };
	struct gate_job blocker;
	struct evwork_lane *lane;
	struct probe probe;
	struct world world;
	struct gate gate;

	gate_init(&gate);
	world_open(&world, 1);
	lane = lane_new(world.pool, options);
	put_gate(&world, &blocker, &gate, NULL);
	gate_await(&gate, 1);
	put(&world, &probe, lane);
	ck_assert_int_eq(evwork_cancel(&probe.job), 0);
	ck_assert_int_eq(evwork_lane_free(lane), -EBUSY);
	world_turns(&world, 1);
	ck_assert_int_eq(probe.status, -ECANCELED);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	gate_open(&gate);
	world_run(&world);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* Lanes come and go while others of the pool work, and their memory with them
 * (S-LANE-8). */
START_TEST(lane_come_and_go)
{
	struct evwork_lane_options options = { .priority = 1, .max_running = 1 };
	struct evwork_lane *lanes[5];
	struct world world;
	size_t blocks;
	int round, i;

	world_open(&world, 2);
	blocks = sys_blocks();
	for (round = 0; round < 100; round++) {
		struct probe probes[10];

		for (i = 0; i < 5; i++)
			lanes[i] = lane_new(world.pool, options);
		for (i = 0; i < 10; i++)
			put(&world, &probes[i], i % 2 ? lanes[i / 2] : NULL);
		world_run(&world);
		for (i = 0; i < 5; i++)
			ck_assert_int_eq(evwork_lane_free(lanes[(i + round) % 5]), 0);
		for (i = 0; i < 10; i++)
			ck_assert_int_eq(probes[i].status, 0);
		ck_assert_uint_eq(sys_blocks(), blocks);
	}
	world_close(&world);
}
END_TEST

static void add_options(Suite *suite)
{
	TCase *tcase = support_case(suite, "options");

	tcase_add_loop_test(tcase, lane_options_out_of_range, 0,
		sizeof(bad_options) / sizeof(bad_options[0]));
	tcase_add_loop_test(tcase, lane_options_extreme, 0,
		sizeof(extremes) / sizeof(extremes[0]));
	tcase_add_test(tcase, lane_null_arguments);
	tcase_add_test(tcase, lane_options_copied);
	tcase_add_test(tcase, lane_names);
	tcase_add_loop_test(tcase, lane_new_without_memory, 0, 2);
	tcase_add_test(tcase, lane_new_closing);
	tcase_add_test(tcase, lane_of_a_job);
	tcase_add_test(tcase, lane_of_another_pool);
}

static void add_running(Suite *suite)
{
	TCase *tcase = support_case(suite, "running");

	tcase_add_loop_test(tcase, lane_cap, 0, sizeof(caps) / sizeof(caps[0]));
	tcase_add_test(tcase, lane_cap_never_exceeded);
	tcase_add_test(tcase, lane_cap_under_theft);
	tcase_add_test(tcase, lane_cap_one_is_serial);
	tcase_add_test(tcase, lane_order_of_arrival);
}

static void add_end(Suite *suite)
{
	TCase *tcase = support_case(suite, "end");

	tcase_add_test(tcase, lane_free_busy);
	tcase_add_test(tcase, lane_free_cancelled);
	tcase_add_test(tcase, lane_come_and_go);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("lane");

	add_options(suite);
	add_running(suite);
	add_end(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
