/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The counters of lanes: exact in scripted scenes, and never at odds with each other
 * or with what callers and callbacks saw in random ones.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* The accounting law. */
static void expect_law(const struct evwork_lane_stats *stats)
{
	ck_assert_uint_eq(stats->submitted, stats->refused + stats->accepted);
	ck_assert_uint_eq(stats->refused, stats->refused_full + stats->refused_closed +
		stats->refused_ctx + stats->refused_guard + stats->refused_memory);
	ck_assert_uint_eq(stats->accepted, stats->delivered + stats->posted + stats->running +
		stats->queued);
	ck_assert_uint_eq(stats->delivered, stats->ok + stats->failed + stats->cancelled +
		stats->expired + stats->crashed);
}

/* A guard that can be told to refuse. */
struct switchable {
	struct evwork_guard guard;
	bool refuse;
	atomic_int out;      /* permits */
};

static int switchable_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	struct switchable *switchable = EVWORK_CONTAINER(guard, struct switchable, guard);

	(void)job;
	(void)permit;
	if (switchable->refuse)
		return -EBUSY;
	atomic_fetch_add(&switchable->out, 1);
	return 0;
}

static void switchable_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)permit;
	(void)end;
	atomic_fetch_sub(&EVWORK_CONTAINER(guard, struct switchable, guard)->out, 1);
}

static void switchable_init(struct switchable *switchable)
{
	memset(switchable, 0, sizeof(*switchable));
	switchable->guard.acquire = switchable_acquire;
	switchable->guard.release = switchable_release;
}

/* Scripted. */

/* A world on a manual clock whose only worker is held by a job of the lane. */
struct scene {
	struct world world;
	struct switchable switchable;
	struct evwork_lane *lane;
	struct gate gate;
	struct gate_job holder;
};

static void scene_open(struct scene *scene)
{
	struct evwork_guard *const guards[] = { &scene->switchable.guard };
	struct evwork_lane_options options = {
		.queue_limit = 5, .timeout_ms = 10, .guards = guards, .guard_count = 1
	};

	switchable_init(&scene->switchable);
	world_open_manual(&scene->world, 1, SYS_NS_PER_MS);
	ck_assert_int_eq(evwork_lane_new(scene->world.pool, &options, &scene->lane), 0);
	gate_init(&scene->gate);
	gate_job_init(&scene->holder, &scene->gate);
	scene->holder.job.lane = scene->lane;
	ck_assert_int_eq(evwork_submit(scene->world.loop, &scene->holder.job), 0);
	gate_await(&scene->gate, 1);
}

static int scene_submit(struct scene *scene, struct probe *probe, int result,
	struct evwork_ctx *ctx)
{
	probe_init(probe, result);
	probe->job.lane = scene->lane;
	probe->job.ctx = ctx;
	return evwork_submit(scene->world.loop, &probe->job);
}

/* A new lane has counted nothing (S-LANE-8). */
START_TEST(stats_new)
{
	struct evwork_lane_options options = { .name = "new" };
	struct evwork_lane_stats stats, zero;
	struct evwork_lane *lane;
	struct world world;

	memset(&zero, 0, sizeof(zero));
	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	stats = stats_of(lane);
	ck_assert_mem_eq(&stats, &zero, sizeof(stats));
	world_close(&world);
}
END_TEST

/* Each refusal is counted once, under its cause; calls that are malformed or name
 * a job that is on its way are no submits (S-LANE-8, S-OBS-4, S-OBS-5). */
START_TEST(stats_refusals)
{
	struct evwork_lane_stats stats;
	struct probe queued[5], refused;
	struct evwork_ctx *dead;
	struct scene scene;
	evwork_run_fn run;
	int i;

	scene_open(&scene);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(scene_submit(&scene, &queued[i], 0, NULL), 0);
	ck_assert_int_eq(scene_submit(&scene, &refused, 0, NULL), -EAGAIN);
	ck_assert_int_eq(scene_submit(&scene, &refused, 0, NULL), -EAGAIN);
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(dead, 0), 0);
	ck_assert_int_eq(scene_submit(&scene, &refused, 0, dead), -ECANCELED);
	scene.switchable.refuse = true;
	ck_assert_int_eq(evwork_cancel(&queued[4].job), 0);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(scene_submit(&scene, &refused, 0, NULL), -EBUSY);
	ck_assert_int_eq(evwork_submit(scene.world.loop, &queued[0].job), -EBUSY);
	run = refused.job.run;
	refused.job.run = NULL;
	ck_assert_int_eq(evwork_submit(scene.world.loop, &refused.job), -EINVAL);
	refused.job.run = run;
	stats = stats_of(scene.lane);
	expect_law(&stats);
	ck_assert_uint_eq(stats.submitted, 12);
	ck_assert_uint_eq(stats.accepted, 6);
	ck_assert_uint_eq(stats.refused, 6);
	ck_assert_uint_eq(stats.refused_full, 2);
	ck_assert_uint_eq(stats.refused_ctx, 1);
	ck_assert_uint_eq(stats.refused_guard, 3);
	evwork_ctx_unref(dead);
	gate_open(&scene.gate);
	world_run(&scene.world);
	world_close(&scene.world);
	gate_fini(&scene.gate);
}
END_TEST

/* Each job moves from queued to running to posted to delivered, and is counted in
 * exactly one place at each quiet instant (S-LANE-8, S-OBS-4). */
START_TEST(stats_gauges)
{
	struct evwork_lane_stats stats;
	struct probe probes[3];
	struct gate_job end;
	struct gate end_gate;
	struct scene scene;
	int i;

	scene_open(&scene);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(scene_submit(&scene, &probes[i], 0, NULL), 0);
	stats = stats_of(scene.lane);
	expect_law(&stats);
	ck_assert_uint_eq(stats.accepted, 4);
	ck_assert_uint_eq(stats.queued, 3);
	ck_assert_uint_eq(stats.running, 1);
	ck_assert_uint_eq(stats.posted, 0);
	ck_assert_uint_eq(stats.queue_peak, 3);
	gate_init(&end_gate);
	gate_job_init(&end, &end_gate);
	ck_assert_int_eq(evwork_submit(scene.world.loop, &end.job), 0);
	ck_assert_int_eq(evwork_cancel(&probes[2].job), 0);
	gate_open(&scene.gate);
	gate_await(&end_gate, 1);
	stats = stats_of(scene.lane);
	expect_law(&stats);
	ck_assert_uint_eq(stats.queued, 0);
	ck_assert_uint_eq(stats.running, 0);
	ck_assert_uint_eq(stats.posted, 4);
	ck_assert_uint_eq(stats.delivered, 0);
	gate_open(&end_gate);
	world_run(&scene.world);
	stats = stats_of(scene.lane);
	expect_law(&stats);
	ck_assert_uint_eq(stats.posted, 0);
	ck_assert_uint_eq(stats.delivered, 4);
	ck_assert_uint_eq(stats.ok, 3);
	ck_assert_uint_eq(stats.cancelled, 1);
	ck_assert_uint_eq(stats.queue_peak, 3);
	world_close(&scene.world);
	gate_fini(&scene.gate);
	gate_fini(&end_gate);
}
END_TEST

/* Outcomes are counted by what done got, whether work ran or not (S-LANE-8,
 * S-OBS-4). */
START_TEST(stats_outcomes)
{
	static const int results[] = { 0, 7, -EIO, -ECANCELED, -ETIMEDOUT, -EOWNERDEAD };
	struct evwork_lane_stats stats;
	struct probe probes[6], expired, cancelled;
	struct scene scene;
	int i;

	scene_open(&scene);
	gate_open(&scene.gate);
	for (i = 0; i < 6; i++) {
		ck_assert_int_eq(scene_submit(&scene, &probes[i], results[i], NULL), 0);
		world_run(&scene.world);
	}
	scene.gate.open = false;
	ck_assert_int_eq(evwork_submit(scene.world.loop, &scene.holder.job), 0);
	gate_await(&scene.gate, 2);
	ck_assert_int_eq(scene_submit(&scene, &expired, 0, NULL), 0);
	ck_assert_int_eq(scene_submit(&scene, &cancelled, 0, NULL), 0);
	ck_assert_int_eq(evwork_cancel(&cancelled.job), 0);
	ck_assert_int_eq(evwork_clock_jump(scene.world.clock, 10 * SYS_NS_PER_MS), 0);
	gate_open(&scene.gate);
	world_run(&scene.world);
	stats = stats_of(scene.lane);
	expect_law(&stats);
	ck_assert_uint_eq(stats.delivered, 10);
	ck_assert_uint_eq(stats.ok, 3);
	ck_assert_uint_eq(stats.failed, 2);
	ck_assert_uint_eq(stats.cancelled, 2);
	ck_assert_uint_eq(stats.expired, 2);
	ck_assert_uint_eq(stats.crashed, 1);
	world_close(&scene.world);
	gate_fini(&scene.gate);
}
END_TEST

struct observer {
	struct probe probe;
	struct evwork_lane *lane;
	struct evwork_lane_stats stats;
	int rc;
};

static void observe(struct probe *probe)
{
	struct observer *observer = EVWORK_CONTAINER(probe, struct observer, probe);

	observer->rc = evwork_lane_stats(observer->lane, &observer->stats);
}

/* A delivery is counted when its done has returned: inside it the job is still
 * outstanding (S-LANE-8, S-OBS-4). */
START_TEST(stats_inside_done)
{
	struct observer observer = { .rc = 1 };
	struct world world;

	world_open(&world, 1);
	observer.lane = evwork_pool_lane(world.pool);
	probe_init(&observer.probe, 0);
	observer.probe.on_done = observe;
	ck_assert_int_eq(evwork_submit(world.loop, &observer.probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(observer.rc, 0);
	ck_assert_uint_eq(observer.stats.delivered, 0);
	ck_assert_uint_eq(observer.stats.accepted, 1);
	ck_assert_uint_eq(stats_of(observer.lane).delivered, 1);
	world_close(&world);
}
END_TEST

/* Random. */

enum { LANES = 4, CTXS = 4, JOBS = 300, ROUNDS = 40 };

/* What the test itself saw of a lane. */
struct tally {
	uint64_t accepted, full, guard, ctx;
	uint64_t ok, failed, cancelled, expired;
};

struct chance {
	struct world world;
	struct switchable switchables[LANES];
	struct evwork_lane *lanes[LANES];
	struct tally tallies[LANES];
	struct evwork_ctx *ctxs[CTXS];
	struct probe probes[JOBS];
	bool accepted[JOBS];
	uint64_t random;
};

static uint32_t draw(struct chance *chance, uint32_t below)
{
	chance->random = chance->random * UINT64_C(6364136223846793005) +
		UINT64_C(1442695040888963407);
	return (uint32_t)(chance->random >> 33) % below;
}

static void chance_open(struct chance *chance, uint64_t seed)
{
	static const int caps[LANES] = { 0, 1, 2, EVWORK_HALF };
	int i;

	memset(chance, 0, sizeof(*chance));
	chance->random = seed;
	world_open_manual(&chance->world, 3, SYS_NS_PER_MS);
	for (i = 0; i < LANES; i++) {
		struct evwork_guard *const guards[] = { &chance->switchables[i].guard };
		struct evwork_lane_options options = {
			.priority = i % 3, .queue_limit = 10u * (unsigned)(i + 1),
			.max_running = caps[i], .timeout_ms = i % 2 ? 5 : 0,
			.guards = guards, .guard_count = 1
		};

		switchable_init(&chance->switchables[i]);
		ck_assert_int_eq(evwork_lane_new(chance->world.pool, &options,
			&chance->lanes[i]), 0);
	}
}

static void chance_submit(struct chance *chance, int i)
{
	static const int results[] = { 0, 0, 0, -EIO, 3, -ECANCELED };
	struct probe *probe = &chance->probes[i];
	int rc, lane = (int)draw(chance, LANES);
	struct tally *tally = &chance->tallies[lane];

	probe_init(probe, results[draw(chance, 6)]);
	probe->job.lane = chance->lanes[lane];
	if (draw(chance, 2))
		probe->job.ctx = chance->ctxs[draw(chance, CTXS)];
	chance->switchables[lane].refuse = draw(chance, 8) == 0;
	rc = evwork_submit(chance->world.loop, &probe->job);
	chance->accepted[i] = rc == 0;
	tally->accepted += rc == 0;
	tally->full += rc == -EAGAIN;
	tally->guard += rc == -EBUSY;
	tally->ctx += rc == -ECANCELED || rc == -ETIMEDOUT;
}

/* Something happens to the jobs that are on their way. */
static void chance_disturb(struct chance *chance, int i)
{
	switch (draw(chance, 10)) {
	case 0:
		evwork_cancel(&chance->probes[draw(chance, (uint32_t)i + 1)].job);
		break;
	case 1:
		evwork_ctx_cancel(chance->ctxs[draw(chance, CTXS)], 0);
		break;
	case 2:
		ck_assert_int_eq(evwork_clock_jump(chance->world.clock, SYS_NS_PER_MS), 0);
		break;
	case 3:
		world_turns(&chance->world, 1);
		break;
	default:
		break;
	}
}

static void chance_count(struct chance *chance, int i)
{
	const struct probe *probe = &chance->probes[i];
	struct tally *tally;
	int lane;

	for (lane = 0; chance->lanes[lane] != probe->job.lane; lane++)
		;
	ck_assert_int_eq(probe->dones, chance->accepted[i]);
	if (!chance->accepted[i])
		return;
	ck_assert_int_eq(atomic_load(&probe->runs), probe->ran);
	tally = &chance->tallies[lane];
	if (probe->status == 0)
		tally->ok++;
	else if (probe->status == -ECANCELED)
		tally->cancelled++;
	else if (probe->status == -ETIMEDOUT)
		tally->expired++;
	else
		tally->failed++;
}

static void chance_check(struct chance *chance)
{
	int i;

	for (i = 0; i < LANES; i++) {
		struct evwork_lane_stats stats = stats_of(chance->lanes[i]);
		const struct tally *tally = &chance->tallies[i];

		expect_law(&stats);
		ck_assert_uint_eq(stats.accepted, tally->accepted);
		ck_assert_uint_eq(stats.delivered, tally->accepted);
		ck_assert_uint_eq(stats.refused_full, tally->full);
		ck_assert_uint_eq(stats.refused_guard, tally->guard);
		ck_assert_uint_eq(stats.refused_ctx, tally->ctx);
		ck_assert_uint_eq(stats.ok, tally->ok);
		ck_assert_uint_eq(stats.failed, tally->failed);
		ck_assert_uint_eq(stats.cancelled, tally->cancelled);
		ck_assert_uint_eq(stats.expired, tally->expired);
		ck_assert_uint_le(stats.queue_peak, 10u * (unsigned)(i + 1));
		ck_assert_int_eq(atomic_load(&chance->switchables[i].out), 0);
	}
}

static void chance_round(struct chance *chance)
{
	int i;

	for (i = 0; i < CTXS; i++)
		ck_assert_int_eq(i % 2 ? evwork_ctx_new(NULL, &chance->ctxs[i]) :
			evwork_ctx_with_timeout(NULL, chance->world.loop, 3 + i, 0,
				&chance->ctxs[i]), 0);
	for (i = 0; i < JOBS; i++) {
		chance_submit(chance, i);
		chance_disturb(chance, i);
	}
	for (i = 0; i < CTXS; i++) {
		evwork_ctx_cancel(chance->ctxs[i], 0);
		evwork_ctx_unref(chance->ctxs[i]);
	}
	world_run(&chance->world);
	for (i = 0; i < JOBS; i++)
		chance_count(chance, i);
	chance_check(chance);
}

/* After random traffic with refusals of all kinds, cancels, dying contexts and passing
 * timeouts the counters obey the law, are what callers and callbacks saw, and no
 * permit is out (S-LANE-8, S-LANE-3, S-OBS-4). */
START_TEST(stats_random)
{
	static struct chance chance;
	uint64_t seed = sys_random();
	int round;

	support_note("seed %llu", (unsigned long long)seed);
	chance_open(&chance, seed);
	for (round = 0; round < ROUNDS; round++)
		chance_round(&chance);
	for (round = 0; round < LANES; round++)
		ck_assert_int_eq(evwork_lane_free(chance.lanes[round]), 0);
	world_close(&chance.world);
}
END_TEST

/* Several submitters at once. */

enum { STRANGERS = 3, EACH = 1500 };

struct stranger {
	struct world *world;
	struct evwork_lane *lane;
	struct probe probes[EACH];
	pthread_t thread;
	uint64_t accepted, full, other;
};

static void *stranger_live(void *arg)
{
	struct stranger *stranger = arg;
	int i;

	for (i = 0; i < EACH; i++) {
		int rc = evwork_submit(stranger->world->loop, &stranger->probes[i].job);

		stranger->accepted += rc == 0;
		stranger->full += rc == -EAGAIN;
		stranger->other += rc != 0 && rc != -EAGAIN;
		if (i % 7 == 0)
			evwork_cancel(&stranger->probes[i].job);
	}
	return NULL;
}

static int delivered;

static void count_done(struct probe *probe)
{
	(void)probe;
	delivered++;
}

/* Snapshots taken while others submit never show less than before, and afterwards the
 * sum is exact (S-LANE-8, S-OBS-3, S-OBS-4). */
START_TEST(stats_concurrent)
{
	static struct stranger strangers[STRANGERS];
	struct evwork_lane_options options = { .queue_limit = 20 };
	struct evwork_lane_stats last, stats;
	uint64_t accepted = 0, full = 0;
	struct evwork_lane *lane;
	struct world world;
	int i, k;

	delivered = 0;
	memset(&last, 0, sizeof(last));
	world_open(&world, 2);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	for (k = 0; k < STRANGERS; k++) {
		memset(&strangers[k], 0, sizeof(strangers[k]));
		strangers[k].world = &world;
		for (i = 0; i < EACH; i++) {
			probe_init(&strangers[k].probes[i], 0);
			strangers[k].probes[i].job.lane = lane;
			strangers[k].probes[i].on_done = count_done;
		}
		ck_assert_int_eq(pthread_create(&strangers[k].thread, NULL, stranger_live,
			&strangers[k]), 0);
	}
	for (i = 0; i < 200; i++) {
		stats = stats_of(lane);
		ck_assert_uint_ge(stats.submitted, last.submitted);
		ck_assert_uint_ge(stats.accepted, last.accepted);
		ck_assert_uint_ge(stats.refused, last.refused);
		ck_assert_uint_ge(stats.delivered, last.delivered);
		ck_assert_uint_le(stats.queued, 20);
		last = stats;
		world_turns(&world, 1);
	}
	for (k = 0; k < STRANGERS; k++) {
		pthread_join(strangers[k].thread, NULL);
		ck_assert_uint_eq(strangers[k].other, 0);
		accepted += strangers[k].accepted;
		full += strangers[k].full;
	}
	world_run_until(&world, &delivered, (int)accepted);
	stats = stats_of(lane);
	expect_law(&stats);
	ck_assert_uint_eq(stats.accepted, accepted);
	ck_assert_uint_eq(stats.delivered, accepted);
	ck_assert_uint_eq(stats.refused_full, full);
	ck_assert_int_eq(delivered, (int)accepted);
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("lane_stats");
	TCase *tcase = support_case(suite, "scripted");

	tcase_add_test(tcase, stats_new);
	tcase_add_test(tcase, stats_refusals);
	tcase_add_test(tcase, stats_gauges);
	tcase_add_test(tcase, stats_outcomes);
	tcase_add_test(tcase, stats_inside_done);
	tcase = support_case(suite, "random");
	tcase_add_test(tcase, stats_random);
	tcase_add_test(tcase, stats_concurrent);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
