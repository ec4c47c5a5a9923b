/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Breakers as guards of lanes: what jobs report by how they end, and that none of their
 * permits is lost.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "breaker_scene.h"


struct scene {
	struct world world;
	struct evwork_breaker *breaker;
	struct evwork_lane *lane;
};

static void open_scene(struct scene *scene, struct evwork_breaker_options options,
	struct evwork_lane_options lane)
{
	struct evwork_guard *guards[1];

	memset(scene, 0, sizeof(*scene));
	world_open_manual(&scene->world, 1, START_NS);
	options.clock = scene->world.clock;
	ck_assert_int_eq(evwork_breaker_new(&options, &scene->breaker), 0);
	guards[0] = evwork_breaker_guard(scene->breaker);
	lane.guards = guards;
	lane.guard_count = 1;
	ck_assert_int_eq(evwork_lane_new(scene->world.pool, &lane, &scene->lane), 0);
}

static void close_scene(struct scene *scene)
{
	ck_assert_int_eq(evwork_lane_free(scene->lane), 0);
	ck_assert_int_eq(evwork_breaker_free(scene->breaker), 0);
	world_close(&scene->world);
}

static int submit(struct scene *scene, struct probe *probe, int result)
{
	probe_init(probe, result);
	probe->job.lane = scene->lane;
	return evwork_submit(scene->world.loop, &probe->job);
}

static int run_one(struct scene *scene, int result)
{
	struct probe probe;
	int rc = submit(scene, &probe, result);

	world_run(&scene->world);
	return rc;
}

static void panics(struct probe *probe)
{
	evwork_panic(&probe->job, "as asked");
}

/* S-BRK-18, S-LANE-3: each end is told once, as what it means. */
START_TEST(ends_are_told)
{
	static const struct { int status; enum evwork_outcome outcome; } rows[] = {
		{ 0, EVWORK_SUCCESS }, { -EIO, EVWORK_FAILURE }, { 5, EVWORK_FAILURE },
		{ -ETIMEDOUT, EVWORK_FAILURE }, { -ECANCELED, EVWORK_IGNORE },
		{ -EHOSTDOWN, EVWORK_IGNORE },
	};
	uint64_t wanted[3] = { 0 };
	struct scene scene;
	size_t i;

	open_scene(&scene, (struct evwork_breaker_options) { 0 }, (struct evwork_lane_options) { 0 });
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ck_assert_int_eq(run_one(&scene, rows[i].status), 0);
		wanted[rows[i].outcome]++;
		ck_assert_uint_eq(breaker_metrics(scene.breaker).success, wanted[EVWORK_SUCCESS]);
		ck_assert_uint_eq(breaker_metrics(scene.breaker).failure, wanted[EVWORK_FAILURE]);
		ck_assert_uint_eq(breaker_metrics(scene.breaker).ignored, wanted[EVWORK_IGNORE]);
	}
	close_scene(&scene);
}
END_TEST

/* S-CRASH-4, S-CRASH-11: a panic is a failure. */
START_TEST(panics_are_failures)
{
	struct scene scene;
	struct probe probe;

	open_scene(&scene, (struct evwork_breaker_options) { .rule = EVWORK_BREAKER_CONSECUTIVE,
		.in_a_row = 1 }, (struct evwork_lane_options) { 0 });
	probe_init(&probe, 0);
	probe.on_run = panics;
	probe.job.lane = scene.lane;
	ck_assert_int_eq(evwork_submit(scene.world.loop, &probe.job), 0);
	world_run(&scene.world);
	ck_assert_int_eq(probe.status, -EOWNERDEAD);
	expect_breaker(scene.breaker, EVWORK_BREAKER_OPEN);
	close_scene(&scene);
}
END_TEST

/* S-BRK-2, S-BRK-12, S-BRK-13: the road of a job through an opening. */
START_TEST(opens_and_closes)
{
	struct scene scene;
	struct gate gate;
	struct gate_job held;
	struct probe probe;

	open_scene(&scene, (struct evwork_breaker_options) { .window = 4, .open_ms = 10,
		.trials = 1 }, (struct evwork_lane_options) { 0 });
	ck_assert_int_eq(run_one(&scene, -EIO), 0);
	ck_assert_int_eq(run_one(&scene, 0), 0);
	ck_assert_int_eq(run_one(&scene, -EIO), 0);
	ck_assert_int_eq(run_one(&scene, 0), 0);
	ck_assert_int_eq(submit(&scene, &probe, 0), -EHOSTDOWN);
	expect_probe_untouched(&probe);
	ck_assert_int_eq(evwork_clock_jump(scene.world.clock, 10 * MS), 0);
	gate_init(&gate);
	gate_job_init(&held, &gate);
	held.job.lane = scene.lane;
	ck_assert_int_eq(evwork_submit(scene.world.loop, &held.job), 0);
	ck_assert_int_eq(submit(&scene, &probe, 0), -EBUSY);
	gate_open(&gate);
	world_run(&scene.world);
	expect_breaker(scene.breaker, EVWORK_BREAKER_CLOSED);
	ck_assert_uint_eq(stats_of(scene.lane).refused_guard, 2);
	ck_assert_uint_eq(breaker_metrics(scene.breaker).not_permitted, 2);
	gate_fini(&gate);
	close_scene(&scene);
}
END_TEST

/* S-BRK-3, S-LANE-2: what ends without running is ignored, so trials are not used up by
 * jobs that are refused, cancelled or expire in the queue. */
START_TEST(not_run_is_ignored)
{
	struct scene scene;
	struct gate gate;
	struct gate_job held;
	struct probe cancelled, expired, refused;

	open_scene(&scene, (struct evwork_breaker_options) { .trials = 3,
		.initial = EVWORK_BREAKER_HALF_OPEN },
		(struct evwork_lane_options) { .queue_limit = 2, .timeout_ms = 5 });
	gate_init(&gate);
	block_workers(&scene.world, &gate, &held, 1);
	ck_assert_int_eq(submit(&scene, &cancelled, 0), 0);
	ck_assert_int_eq(submit(&scene, &expired, 0), 0);
	ck_assert_int_eq(breaker_metrics(scene.breaker).trials_out, 2);
	ck_assert_int_eq(submit(&scene, &refused, 0), -EAGAIN);
	ck_assert_int_eq(evwork_cancel(&cancelled.job), 0);
	ck_assert_int_eq(evwork_clock_jump(scene.world.clock, 5 * MS), 0);
	unblock_workers(&scene.world, &gate);
	ck_assert_int_eq(cancelled.status, -ECANCELED);
	ck_assert_int_eq(expired.status, -ETIMEDOUT);
	ck_assert_uint_eq(breaker_metrics(scene.breaker).ignored, 3);
	ck_assert_uint_eq(breaker_metrics(scene.breaker).failure, 0);
	ck_assert_int_eq(breaker_metrics(scene.breaker).trials_out, 0);
	expect_breaker(scene.breaker, EVWORK_BREAKER_HALF_OPEN);
	gate_fini(&gate);
	close_scene(&scene);
}
END_TEST

static void takes_time(struct probe *probe)
{
	struct scene *scene = probe->arg;

	evwork_clock_jump(scene->world.clock, probe->result * MS);
}

/* S-BRK-8: how long work ran is the duration. */
START_TEST(run_time_counts)
{
	struct scene scene;
	struct probe probe;
	int ms;

	open_scene(&scene, (struct evwork_breaker_options) { .slow_ms = 10 },
		(struct evwork_lane_options) { 0 });
	for (ms = 10; ms <= 11; ms++) {
		probe_init(&probe, ms);
		probe.on_run = takes_time;
		probe.arg = &scene;
		probe.job.lane = scene.lane;
		ck_assert_int_eq(evwork_submit(scene.world.loop, &probe.job), 0);
		world_run(&scene.world);
		ck_assert_uint_eq(breaker_metrics(scene.breaker).slow, ms == 11);
	}
	close_scene(&scene);
}
END_TEST

static enum evwork_outcome classify(int status, void *arg)
{
	(void)arg;
	return status == 1 ? EVWORK_SUCCESS : (enum evwork_outcome)9;
}

/* S-BRK-18: by the user's word; nonsense is ignored, and wedges nothing. */
START_TEST(user_classifies)
{
	struct scene scene;

	open_scene(&scene, (struct evwork_breaker_options) { .classify = classify, .trials = 1,
		.initial = EVWORK_BREAKER_HALF_OPEN }, (struct evwork_lane_options) { 0 });
	ck_assert_int_eq(run_one(&scene, 2), 0);
	ck_assert_uint_eq(breaker_metrics(scene.breaker).ignored, 1);
	ck_assert_int_eq(run_one(&scene, 1), 0);
	expect_breaker(scene.breaker, EVWORK_BREAKER_CLOSED);
	close_scene(&scene);
}
END_TEST

/* S-SHUT-12: the child of a fork is refused, and may free. */
START_TEST(forked)
{
	struct evwork_breaker_permit permit = { 0 }, held = { 0 };
	struct evwork_breaker_metrics metrics;
	struct scene scene;
	int bad = 0;
	pid_t child;

	if (!support_forks())
		return;
	open_scene(&scene, (struct evwork_breaker_options) { 0 }, (struct evwork_lane_options) { 0 });
	ck_assert_int_eq(evwork_breaker_acquire(scene.breaker, &held), 0);
	child = fork();
	if (child == 0) {
		bad += evwork_breaker_acquire(scene.breaker, &permit) != -ESHUTDOWN;
		bad += evwork_breaker_report(&held, EVWORK_SUCCESS, 0) != -ESHUTDOWN;
		bad += evwork_breaker_state(scene.breaker) != -ESHUTDOWN;
		bad += evwork_breaker_set(scene.breaker, EVWORK_BREAKER_OPEN) != -ESHUTDOWN;
		bad += evwork_breaker_reset(scene.breaker) != -ESHUTDOWN;
		bad += evwork_breaker_metrics(scene.breaker, &metrics) != -ESHUTDOWN;
		bad += evwork_breaker_free(scene.breaker) != 0;
		_exit(bad);
	}
	support_await_child(child);
	evwork_breaker_drop(&held);
	close_scene(&scene);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("breaker_guard");
	TCase *guard = support_case(suite, "guard");

	tcase_add_test(guard, ends_are_told);
	tcase_add_test(guard, panics_are_failures);
	tcase_add_test(guard, opens_and_closes);
	tcase_add_test(guard, not_run_is_ignored);
	tcase_add_test(guard, run_time_counts);
	tcase_add_test(guard, user_classifies);
	tcase_add_test(guard, forked);
	return support_run(suite);
}
