/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * pthread_cancel that meets a worker where user code runs that is not work: it is put off,
 * or what is half done around that code would stay so. It takes effect in the next work
 * that comes to a cancellation point.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* User code in which its thread is cancelled; only the code's end is a cancellation point. */
static struct {
	pthread_t thread;
	atomic_bool arrived, open;
	atomic_int passed;
} point;

static void point_reset(void)
{
	atomic_store(&point.arrived, false);
	atomic_store(&point.open, false);
	atomic_store(&point.passed, 0);
}

static void point_pass(void)
{
	point.thread = pthread_self();
	atomic_store(&point.arrived, true);
	while (!atomic_load(&point.open))
		sys_yield();
	pthread_testcancel();
	atomic_fetch_add(&point.passed, 1);
}

static void cancel_at_point(void)
{
	while (!atomic_load(&point.arrived))
		sys_yield();
	ck_assert_int_eq(pthread_cancel(point.thread), 0);
	atomic_store(&point.open, true);
}

static void end_if_cancelled(struct probe *probe)
{
	(void)probe;
	pthread_testcancel();
}

/* The cancel has not been lost: it ends this job, and the worker is replaced. */
static void expect_still_cancelled(struct world *world)
{
	struct evwork_pool_stats stats;
	struct probe probe;

	probe_init(&probe, 0);
	probe.on_run = end_if_cancelled;
	ck_assert_int_eq(evwork_submit(world->loop, &probe.job), 0);
	world_run_until(world, &probe.dones, 1);
	ck_assert_int_eq(probe.status, -EOWNERDEAD);
	ck_assert_int_eq(evwork_pool_stats(world->pool, &stats), 0);
	ck_assert_int_eq(stats.threads, 1);
	probe_init(&probe, 3);
	ck_assert_int_eq(evwork_submit(world->loop, &probe.job), 0);
	world_run_until(world, &probe.dones, 1);
	expect_probe_once(&probe, 3);
}

/* A guard that counts, and passes the point in one of its functions. */
static struct {
	struct evwork_guard guard;
	bool in_acquire, in_release;
	atomic_int acquired, released;
} counted;

static int acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)guard;
	(void)job;
	(void)permit;
	if (counted.in_acquire)
		point_pass();
	atomic_fetch_add(&counted.acquired, 1);
	return 0;
}

static void release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)guard;
	(void)permit;
	(void)end;
	if (counted.in_release)
		point_pass();
	atomic_fetch_add(&counted.released, 1);
}

static struct evwork_lane *guarded_lane(struct world *world)
{
	static struct evwork_guard *guards[1];
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct evwork_lane *lane;

	memset(&counted, 0, sizeof(counted));
	counted.guard.acquire = acquire;
	counted.guard.release = release;
	guards[0] = &counted.guard;
	ck_assert_int_eq(evwork_lane_new(world->pool, &options, &lane), 0);
	return lane;
}

static void expect_permits(int n)
{
	ck_assert_int_eq(atomic_load(&counted.acquired), n);
	ck_assert_int_eq(atomic_load(&counted.released), n);
}

static struct evwork_loop *loop_of_other;

/* Submits another from work, where a cancel takes effect, and comes to a cancellation
 * point after that. */
static void submit_other(struct probe *probe)
{
	struct probe *other = probe->arg;

	other->result = evwork_submit(loop_of_other, &other->job);
	pthread_testcancel();
}

/* In acquire, which work comes to by a submit: that is accepted, the permit taken once and
 * released once, and the job that submitted ends after it (S-CRASH-2, S-LANE-3). */
START_TEST(cancel_in_acquire)
{
	struct probe submitter, other;
	struct evwork_lane *lane;
	struct world world;

	point_reset();
	world_open(&world, 1);
	lane = guarded_lane(&world);
	loop_of_other = world.loop;
	counted.in_acquire = true;
	probe_init(&submitter, 0);
	probe_init(&other, 1);
	submitter.on_run = submit_other;
	submitter.arg = &other;
	other.job.lane = lane;
	ck_assert_int_eq(evwork_submit(world.loop, &submitter.job), 0);
	cancel_at_point();
	world_run_until(&world, &submitter.dones, 1);
	ck_assert_int_eq(submitter.status, -EOWNERDEAD);
	ck_assert_int_eq(atomic_load(&point.passed), 1);
	world_run_until(&world, &other.dones, 1);
	expect_probe_once(&other, 0);
	expect_permits(1);
	ck_assert_uint_eq(stats_of(lane).accepted, 1);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

/* In release, after work has returned: the permit is given back, and the job ends as work
 * said (S-CRASH-2, S-LANE-3). */
START_TEST(cancel_in_release)
{
	struct evwork_lane *lane;
	struct probe probe;
	struct world world;

	point_reset();
	world_open(&world, 1);
	lane = guarded_lane(&world);
	counted.in_release = true;
	probe_init(&probe, 7);
	probe.job.lane = lane;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	cancel_at_point();
	world_run_until(&world, &probe.dones, 1);
	ck_assert_int_eq(atomic_load(&point.passed), 1);
	expect_probe_once(&probe, 7);
	expect_permits(1);
	expect_still_cancelled(&world);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

static const char *describe(struct evwork_job *job)
{
	(void)job;
	point_pass();
	return "described";
}

/* In describe, before work: that is begun all the same, and ends its thread itself if it
 * comes to a cancellation point (S-CRASH-2). */
START_TEST(cancel_in_describe)
{
	struct evwork_lane_options options = { .describe = describe };
	struct evwork_lane *lane;
	struct probe probe;
	struct world world;

	point_reset();
	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	probe_init(&probe, 7);
	probe.job.lane = lane;
	if (_i)
		probe.on_run = end_if_cancelled;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	cancel_at_point();
	world_run_until(&world, &probe.dones, 1);
	ck_assert_int_eq(atomic_load(&point.passed), 1);
	ck_assert_int_eq(atomic_load(&probe.runs), 1);
	ck_assert_int_eq(probe.ran, 1);
	ck_assert_int_eq(probe.status, _i ? -EOWNERDEAD : 7);
	if (!_i)
		expect_still_cancelled(&world);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

static void drop(struct evwork_job *job)
{
	(void)job;
	point_pass();
}

/* In drop, which the worker calls when the loop was freed by force: the job is counted, and
 * the loop's memory goes with it (S-CRASH-2, S-SHUT-11). */
START_TEST(cancel_in_drop)
{
	struct evwork_lane_stats stats;
	struct gate_job job;
	struct world world;
	struct gate gate;

	point_reset();
	world_open(&world, 1);
	gate_init(&gate);
	gate_job_init(&job, &gate);
	job.job.drop = drop;
	ck_assert_int_eq(evwork_submit(world.loop, &job.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_loop_free_force(world.loop), 1);
	gate_open(&gate);
	cancel_at_point();
	ck_assert_int_eq(evwork_loop_new(world.base, world.pool, NULL, &world.loop), 0);
	do
		stats = stats_of(evwork_pool_lane(world.pool));
	while (stats.delivered == 0);
	ck_assert_int_eq(atomic_load(&point.passed), 1);
	ck_assert_uint_eq(stats.dropped, 1);
	expect_still_cancelled(&world);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("crash_cancel");
	TCase *tcase = support_case(suite, "cancel");

	tcase_add_test(tcase, cancel_in_acquire);
	tcase_add_test(tcase, cancel_in_release);
	tcase_add_loop_test(tcase, cancel_in_describe, 0, 2);
	tcase_add_test(tcase, cancel_in_drop);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
