/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Limiters as guards of lanes: refusing, holding, what jobs cost, and what is given back
 * by jobs that never run.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "limiter_scene.h"

#include <pthread.h>

#define START SECOND

/* A lane whose guard is a limiter, on a manual clock. */
struct tollway {
	struct world world;
	struct evwork_limiter *limiter;
	struct evwork_limiter_guard guard;
	struct evwork_lane *lane;
	struct probe probes[8];
};

static int64_t start_of[8];

static void note_start(struct probe *probe)
{
	struct tollway *way = probe->arg;

	start_of[probe - way->probes] = evwork_loop_now(way->world.loop);
}

static void lane_with(struct tollway *way, struct evwork_guard *const *guards, size_t count,
	size_t queue_limit)
{
	struct evwork_lane_options options = { .queue_limit = queue_limit };

	options.guards = guards;
	options.guard_count = count;
	ck_assert_int_eq(evwork_lane_new(way->world.pool, &options, &way->lane), 0);
}

static void open_with(struct tollway *way, double rate, int64_t burst,
	const struct evwork_limiter_guard_options *options)
{
	int i;

	memset(way, 0, sizeof(*way));
	world_open_manual(&way->world, 1, START);
	way->limiter = limiter_with(rate, burst, (struct evwork_limiter_options){
		.name = "toll", .clock = way->world.clock });
	ck_assert_int_eq(evwork_limiter_guard_init(&way->guard, way->limiter, options), 0);
	for (i = 0; i < 8; i++) {
		probe_init(&way->probes[i], 0);
		way->probes[i].on_run = note_start;
		way->probes[i].arg = way;
	}
}

static void open_mode(struct tollway *way, enum evwork_limiter_mode mode, double rate,
	int64_t burst)
{
	struct evwork_limiter_guard_options options = { .mode = mode };
	struct evwork_guard *const guards[] = { &way->guard.guard };

	open_with(way, rate, burst, &options);
	lane_with(way, guards, 1, 0);
}

static void tollway_close(struct tollway *way)
{
	ck_assert_int_eq(evwork_lane_free(way->lane), 0);
	ck_assert_int_eq(evwork_limiter_free(way->limiter), 0);
	world_close(&way->world);
}

static int submit(struct tollway *way, int k)
{
	way->probes[k].job.lane = way->lane;
	return evwork_submit(way->world.loop, &way->probes[k].job);
}

/* Runs what may run now, but not for ever what may not. */
static void settle(struct tollway *way, int dones, int k)
{
	world_run_until(&way->world, &way->probes[k].dones, dones);
	world_turns(&way->world, 4);
}

/* In the mode that refuses, what is too much is refused at submit, and what ran is paid:
 * S-LIM-2, S-LANE-2. */
START_TEST(refuses)
{
	struct tollway way;

	open_mode(&way, EVWORK_LIMITER_REFUSE, 10, 2);
	ck_assert_int_eq(submit(&way, 0), 0);
	ck_assert_int_eq(submit(&way, 1), 0);
	ck_assert_int_eq(submit(&way, 2), -EAGAIN);
	world_run(&way.world);
	ck_assert_int_eq(way.probes[0].status + way.probes[1].status, 0);
	expect_probe_untouched(&way.probes[2]);
	ck_assert_int_eq(limiter_tokens(way.limiter), 0);
	ck_assert_uint_eq(stats_of(way.lane).refused_guard, 1);
	ck_assert_uint_eq(limiter_stats(way.limiter).allowed, 2);
	ck_assert_uint_eq(limiter_stats(way.limiter).refused, 1);
	ck_assert_uint_eq(limiter_stats(way.limiter).returned, 0);
	ck_assert_int_eq(evwork_clock_advance(way.world.clock, 100 * MS), 0);
	ck_assert_int_eq(submit(&way, 2), 0);
	world_run(&way.world);
	expect_probe_once(&way.probes[2], 0);
	tollway_close(&way);
}
END_TEST

/* In the mode that holds, each job starts when it may, in order: S-LANE-6, S-LIM-3. */
START_TEST(holds)
{
	struct tollway way;
	int i;

	open_mode(&way, EVWORK_LIMITER_WAIT, 10, 1);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(submit(&way, i), 0);
	settle(&way, 1, 0);
	ck_assert_int_eq(atomic_load(&way.probes[1].runs), 0);
	ck_assert_uint_eq(stats_of(way.lane).queued, 3);
	for (i = 1; i < 4; i++) {
		ck_assert_int_eq(evwork_clock_advance(way.world.clock, 100 * MS - 1), 0);
		world_turns(&way.world, 4);
		ck_assert_int_eq(atomic_load(&way.probes[i].runs), 0);
		ck_assert_int_eq(evwork_clock_advance(way.world.clock, 1), 0);
		world_run_until(&way.world, &way.probes[i].dones, 1);
		ck_assert_int_eq(start_of[i], START + i * 100 * MS);
	}
	ck_assert_uint_eq(limiter_stats(way.limiter).reserved, 4);
	ck_assert_int_eq(limiter_tokens(way.limiter), 0);
	tollway_close(&way);
}
END_TEST

/* A held job that is cancelled gives back what nobody has reserved after it, once:
 * S-LANE-6, S-LANE-3, S-LIM-4. */
START_TEST(held_and_cancelled)
{
	struct tollway way;

	open_mode(&way, EVWORK_LIMITER_WAIT, 10, 2);
	ck_assert_int_eq(evwork_limiter_allow(way.limiter, 2), 0);
	ck_assert_int_eq(submit(&way, 0), 0);
	ck_assert_int_eq(submit(&way, 1), 0);
	ck_assert_int_eq(limiter_tokens(way.limiter), -2);
	ck_assert_int_eq(evwork_cancel(&way.probes[_i].job), 0);
	world_turns(&way.world, 4);
	ck_assert_int_eq(way.probes[_i].status, -ECANCELED);
	ck_assert_int_eq(way.probes[_i].ran, 0);
	/* The token of the first is what the second has reserved after it. */
	ck_assert_int_eq(limiter_tokens(way.limiter), _i == 0 ? -2 : -1);
	ck_assert_uint_eq(limiter_stats(way.limiter).returned, 1);
	ck_assert_int_eq(evwork_clock_advance(way.world.clock, (_i == 0 ? 200 : 100) * MS), 0);
	world_run_until(&way.world, &way.probes[!_i].dones, 1);
	ck_assert_int_eq(way.probes[!_i].status, 0);
	ck_assert_int_eq(start_of[!_i], START + (_i == 0 ? 200 : 100) * MS);
	ck_assert_uint_eq(limiter_stats(way.limiter).returned, 1);
	tollway_close(&way);
}
END_TEST

/* After its time a job that never ran gives nothing back: S-LIM-4. */
START_TEST(cancelled_too_late)
{
	struct gate_job blocker;
	struct tollway way;
	struct gate gate;

	open_mode(&way, EVWORK_LIMITER_WAIT, 10, 2);
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	ck_assert_int_eq(evwork_submit(way.world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_limiter_allow(way.limiter, 2), 0);
	ck_assert_int_eq(submit(&way, 0), 0);
	ck_assert_int_eq(evwork_clock_jump(way.world.clock, 100 * MS + 1), 0);
	ck_assert_int_eq(limiter_tokens(way.limiter), 0);
	ck_assert_int_eq(evwork_cancel(&way.probes[0].job), 0);
	ck_assert_int_eq(limiter_tokens(way.limiter), 0);
	gate_open(&gate);
	world_run(&way.world);
	ck_assert_int_eq(way.probes[0].status, -ECANCELED);
	gate_fini(&gate);
	tollway_close(&way);
}
END_TEST

/* A job that ran has used what it took, even if it took no time and stopped with
 * ECANCELED: S-LANE-3. */
START_TEST(ran_is_paid)
{
	struct tollway way;

	open_mode(&way, _i ? EVWORK_LIMITER_WAIT : EVWORK_LIMITER_REFUSE, 10, 2);
	way.probes[0].result = -ECANCELED;
	ck_assert_int_eq(submit(&way, 0), 0);
	world_run(&way.world);
	ck_assert_int_eq(way.probes[0].status, -ECANCELED);
	ck_assert_int_eq(limiter_tokens(way.limiter), 1);
	tollway_close(&way);
}
END_TEST

/* What was taken before another guard refused, or the lane was full, is given back:
 * S-LANE-2. */
START_TEST(refused_after_it)
{
	struct evwork_limiter_guard_options options = {
		.mode = _i % 2 ? EVWORK_LIMITER_WAIT : EVWORK_LIMITER_REFUSE
	};
	struct support_guard no = SUPPORT_GUARD(-EHOSTDOWN);
	struct gate_job blocker;
	struct tollway way;
	struct gate gate;
	struct evwork_guard *const guards[] = { &way.guard.guard, &no.guard };

	open_with(&way, 10, 5, &options);
	if (_i < 2) {
		lane_with(&way, guards, 2, 0);
		ck_assert_int_eq(submit(&way, 0), -EHOSTDOWN);
		ck_assert_int_eq(limiter_tokens(way.limiter), 5);
	} else {
		lane_with(&way, guards, 1, 1);
		gate_init(&gate);
		gate_job_init(&blocker, &gate);
		ck_assert_int_eq(evwork_submit(way.world.loop, &blocker.job), 0);
		gate_await(&gate, 1);
		ck_assert_int_eq(submit(&way, 0), 0);
		ck_assert_int_eq(submit(&way, 1), -EAGAIN);
		ck_assert_int_eq(limiter_tokens(way.limiter), 4);
		gate_open(&gate);
		world_run(&way.world);
		gate_fini(&gate);
	}
	tollway_close(&way);
}
END_TEST

/* Both in one lane: the limiter's permit is released once, whatever the order: S-LANE-3. */
START_TEST(two_limiters)
{
	struct evwork_limiter_guard_options hold = { .mode = EVWORK_LIMITER_WAIT };
	struct evwork_limiter_options on_clock = { .name = "second" };
	struct evwork_limiter_guard second;
	struct evwork_limiter *other;
	struct tollway way;
	struct evwork_guard *const guards[] = { &way.guard.guard, &second.guard };

	open_with(&way, 10, 4, &hold);
	on_clock.clock = way.world.clock;
	ck_assert_int_eq(evwork_limiter_new(5, 1, &on_clock, &other), 0);
	ck_assert_int_eq(evwork_limiter_guard_init(&second, other, &hold), 0);
	lane_with(&way, guards, 2, 0);
	ck_assert_int_eq(submit(&way, 0), 0);
	ck_assert_int_eq(submit(&way, 1), 0);
	settle(&way, 1, 0);
	ck_assert_int_eq(limiter_tokens(way.limiter), 2);
	ck_assert_int_eq(evwork_clock_advance(way.world.clock, 200 * MS), 0);
	world_run(&way.world);
	/* The later of the two times. */
	ck_assert_int_eq(start_of[1], START + 200 * MS);
	ck_assert_int_eq(limiter_tokens(way.limiter), 4);
	ck_assert_int_eq(evwork_lane_free(way.lane), 0);
	ck_assert_int_eq(evwork_limiter_free(other), 0);
	ck_assert_int_eq(evwork_limiter_free(way.limiter), 0);
	world_close(&way.world);
}
END_TEST

/* What a job costs: an option, or asked of a function for each; and the longest wait. */

static int64_t cost_by_result(const struct evwork_job *job)
{
	return EVWORK_CONTAINER(job, struct probe, job)->result;
}

static int take_cost(struct tollway *way, int k, int64_t cost)
{
	way->probes[k].result = (int)cost;
	return submit(way, k);
}

START_TEST(costs)
{
	struct evwork_limiter_guard_options fixed = { .cost = 3 };
	struct evwork_limiter_guard_options asked = { .mode = EVWORK_LIMITER_WAIT,
		.cost_of = cost_by_result, .max_wait_ms = 300 };
	struct tollway way;
	struct evwork_guard *const guards[] = { &way.guard.guard };

	open_with(&way, 10, 5, &fixed);
	lane_with(&way, guards, 1, 0);
	ck_assert_int_eq(submit(&way, 0), 0);
	ck_assert_int_eq(submit(&way, 1), -EAGAIN);
	world_run(&way.world);
	tollway_close(&way);

	open_with(&way, 10, 5, &asked);
	lane_with(&way, guards, 1, 0);
	ck_assert_int_eq(take_cost(&way, 0, 5), 0);
	ck_assert_int_eq(take_cost(&way, 1, 4), -ETIMEDOUT);
	ck_assert_int_eq(take_cost(&way, 1, 3), 0);
	ck_assert_int_eq(take_cost(&way, 2, 6), -ERANGE);
	ck_assert_int_eq(take_cost(&way, 2, -1), -EINVAL);
	ck_assert_int_eq(limiter_tokens(way.limiter), -3);
	ck_assert_int_eq(evwork_cancel(&way.probes[1].job), 0);
	world_run(&way.world);
	ck_assert_int_eq(limiter_tokens(way.limiter), 0);
	tollway_close(&way);
}
END_TEST

/* Malformed guards, and one on another clock than its pool: S-GEN-8, S-GEN-13. */
START_TEST(misused)
{
	struct evwork_limiter_guard_options bad[] = {
		{ .mode = (enum evwork_limiter_mode)2 }, { .cost = -1 }, { .max_wait_ms = -1 }
	};
	struct evwork_limiter *limiter;
	struct tollway way;
	struct evwork_guard *const guards[] = { &way.guard.guard };
	int i;

	open_with(&way, 10, 5, NULL);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_limiter_guard_init(&way.guard, way.limiter, &bad[i]), -EINVAL);
	ck_assert_int_eq(evwork_limiter_guard_init(NULL, way.limiter, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_guard_init(&way.guard, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_new(10, 5, NULL, &limiter), 0);
	ck_assert_int_eq(evwork_limiter_guard_init(&way.guard, limiter, NULL), 0);
	lane_with(&way, guards, 1, 0);
	ck_assert_int_eq(submit(&way, 0), -EINVAL);
	expect_probe_untouched(&way.probes[0]);
	tollway_close(&way);
	ck_assert_int_eq(evwork_limiter_free(limiter), 0);
}
END_TEST

/* Threads that submit and cancel, by the system's clock: what ran, less what the burst
 * allows, took its time: S-LIM-13, S-LANE-4. */

enum { RUSHERS = 3, RUSH = 400 };

struct rush {
	struct world *world;
	struct evwork_lane *lane;
	struct probe *probes;
	pthread_t thread;
	int count;
};

static void *rush_main(void *arg)
{
	struct rush *rush = arg;
	int i;

	for (i = 0; i < rush->count; i++) {
		probe_init(&rush->probes[i], 0);
		rush->probes[i].job.lane = rush->lane;
		while (evwork_submit(rush->world->loop, &rush->probes[i].job) != 0)
			sched_yield();
		if (i % 3 == 0)
			evwork_cancel(&rush->probes[i].job);
	}
	return NULL;
}

START_TEST(rush)
{
	struct evwork_limiter_guard_options hold = { .mode = EVWORK_LIMITER_WAIT };
	int count = RUSH / support_slow(), i, k, ran = 0, delivered = 0;
	struct probe *probes = calloc((size_t)(RUSHERS * RUSH), sizeof(*probes));
	struct evwork_limiter_guard guard;
	struct evwork_guard *const guards[] = { &guard.guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct rush rushes[RUSHERS];
	struct evwork_limiter *limiter;
	struct evwork_lane *lane;
	struct world world;
	int64_t before, after;

	ck_assert_ptr_nonnull(probes);
	world_open(&world, 2);
	before = sys_now();
	ck_assert_int_eq(evwork_limiter_new(2000, 10, NULL, &limiter), 0);
	ck_assert_int_eq(evwork_limiter_guard_init(&guard, limiter, &hold), 0);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	for (i = 0; i < RUSHERS; i++) {
		rushes[i] = (struct rush){ .world = &world, .lane = lane,
			.probes = probes + i * RUSH, .count = count };
		ck_assert_int_eq(pthread_create(&rushes[i].thread, NULL, rush_main, &rushes[i]), 0);
	}
	for (i = 0; i < RUSHERS; i++)
		ck_assert_int_eq(pthread_join(rushes[i].thread, NULL), 0);
	/* What other threads submit does not keep the base running. */
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	while (delivered < RUSHERS * count) {
		ck_assert_int_ge(event_base_loop(world.base, EVLOOP_ONCE), 0);
		for (i = 0, delivered = 0; i < RUSHERS; i++)
			for (k = 0; k < count; k++)
				delivered += probes[i * RUSH + k].dones;
	}
	after = sys_now();
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	for (i = 0; i < RUSHERS; i++)
		for (k = 0; k < count; k++)
			ran += atomic_load(&probes[i * RUSH + k].runs);
	ck_assert_int_ge(ran, RUSHERS * (count - count / 3 - 1));
	ck_assert_int_le(ran, 10 + (after - before) / 500000 + 1);
	world_turns(&world, 2);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	ck_assert_int_eq(evwork_limiter_free(limiter), 0);
	world_close(&world);
	free(probes);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("limiter_guard");
	TCase *tcase = support_case(suite, "guard");

	tcase_add_test(tcase, refuses);
	tcase_add_test(tcase, holds);
	tcase_add_loop_test(tcase, held_and_cancelled, 0, 2);
	tcase_add_test(tcase, cancelled_too_late);
	tcase_add_loop_test(tcase, ran_is_paid, 0, 2);
	tcase_add_loop_test(tcase, refused_after_it, 0, 4);
	tcase_add_test(tcase, two_limiters);
	tcase_add_test(tcase, costs);
	tcase_add_test(tcase, misused);
	tcase = support_case(suite, "rush");
	tcase_add_test(tcase, rush);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
