/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Gates: what shuts and opens them, who is switched, in which order, and what the end of
 * everything else means to them. S-LIM-18: how they differ from libevent's own limits.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <math.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define MS SYS_NS_PER_MS
#define START INT64_C(1000000000)
#define INLETS 12
#define JOBS 64

/* A world whose one worker is held, and a gate at its lane. */
struct scene {
	struct world world;
	struct evwork_lane *lane;
	struct evwork_limiter *limiter;
	struct evwork_gate *gate;
	struct gate hold;
	struct gate_job holders[1];
	struct probe probes[JOBS];
	int submitted;
};

/* An inlet that notes how it is switched. */
struct valve {
	struct evwork_inlet inlet;
	struct scene *scene;
	int ons, offs, order;
	void (*on)(struct valve *valve, int on);
};

static int switch_counter;

static void valve_fn(struct evwork_inlet *inlet, int on)
{
	struct valve *valve = EVWORK_CONTAINER(inlet, struct valve, inlet);

	valve->ons += on == 1;
	valve->offs += on == 0;
	valve->order = ++switch_counter;
	if (valve->on)
		valve->on(valve, on);
}

static void valve_init(struct valve *valve, struct scene *scene)
{
	memset(valve, 0, sizeof(*valve));
	evwork_inlet_init(&valve->inlet, valve_fn);
	valve->scene = scene;
}

static void valves_add(struct valve *valves, int count, struct scene *scene)
{
	int i;

	for (i = 0; i < count; i++) {
		valve_init(&valves[i], scene);
		ck_assert_int_eq(evwork_gate_add(scene->gate, &valves[i].inlet), 0);
	}
}

static void valves_remove(struct valve *valves, int count)
{
	int i;

	for (i = 0; i < count; i++)
		ck_assert_int_eq(evwork_gate_remove(&valves[i].inlet), 0);
}

static struct evwork_gate_stats gate_stats(struct scene *scene)
{
	struct evwork_gate_stats stats;

	ck_assert_int_eq(evwork_gate_stats(scene->gate, &stats), 0);
	return stats;
}

/* The lane is one of its own, so that each job is in its queue at once. */
static void scene_open(struct scene *scene, const struct evwork_gate_options *options)
{
	struct evwork_lane_options lane = { .name = "narrow", .queue_limit = JOBS };
	struct evwork_gate_options with = *options;

	memset(scene, 0, sizeof(*scene));
	switch_counter = 0;
	world_open_manual(&scene->world, 1, START);
	ck_assert_int_eq(evwork_lane_new(scene->world.pool, &lane, &scene->lane), 0);
	gate_init(&scene->hold);
	block_workers(&scene->world, &scene->hold, scene->holders, 1);
	with.lane = scene->lane;
	ck_assert_int_eq(evwork_gate_new(scene->world.loop, &with, &scene->gate), 0);
}

static void scene_close(struct scene *scene)
{
	unblock_workers(&scene->world, &scene->hold);
	ck_assert_int_eq(evwork_gate_free(scene->gate), 0);
	ck_assert_int_eq(evwork_limiter_free(scene->limiter), 0);
	ck_assert_int_eq(evwork_lane_free(scene->lane), 0);
	gate_fini(&scene->hold);
	world_close(&scene->world);
}

static struct probe *submit(struct scene *scene)
{
	struct probe *probe = &scene->probes[scene->submitted++];

	ck_assert_int_le(scene->submitted, JOBS);
	probe_init(probe, 0);
	probe->job.lane = scene->lane;
	ck_assert_int_eq(evwork_submit(scene->world.loop, &probe->job), 0);
	return probe;
}

/* Passes, and submits, until the answer is no; how often it was yes. */
static int fill(struct scene *scene, struct evwork_inlet *inlet)
{
	int count = 0, rc;

	while ((rc = evwork_inlet_pass(inlet)) == 0) {
		submit(scene);
		count++;
	}
	ck_assert_int_eq(rc, -EAGAIN);
	return count;
}

/* The latest `count` jobs do not wait any more. */
static void cancel_last(struct scene *scene, int count)
{
	while (count-- > 0) {
		scene->submitted--;
		ck_assert_int_eq(evwork_cancel(&scene->probes[scene->submitted].job), 0);
	}
	world_turns(&scene->world, 4);
}

/* The queue. */

START_TEST(shuts_at_the_high_mark_and_opens_at_the_low_one)
{
	struct evwork_gate_options options = { .queue_high = 8, .queue_low = 3 };
	struct evwork_gate_stats stats;
	struct scene scene;
	struct valve valve;

	scene_open(&scene, &options);
	valves_add(&valve, 1, &scene);
	ck_assert_int_eq(fill(&scene, &valve.inlet), 8);
	ck_assert_int_eq(stats_of(scene.lane).queued, 8);
	stats = gate_stats(&scene);
	ck_assert_int_eq(stats.shut, 1);
	ck_assert_uint_eq(stats.shut_queue, 1);
	ck_assert_uint_eq(stats.inlets, 1);
	ck_assert_uint_eq(stats.paused, 1);
	ck_assert_uint_eq(stats.passed, 8);
	ck_assert_uint_eq(stats.held, 1);

	/* Above the low mark it stays as it is. */
	cancel_last(&scene, 4);
	ck_assert_int_eq(stats_of(scene.lane).queued, 4);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -EAGAIN);
	ck_assert_int_eq(valve.ons, 0);
	cancel_last(&scene, 1);
	ck_assert_int_eq(valve.ons, 1);
	/* It asked itself. */
	ck_assert_int_eq(valve.offs, 0);
	stats = gate_stats(&scene);
	ck_assert_int_eq(stats.shut, 0);
	ck_assert_uint_eq(stats.paused, 0);
	ck_assert_uint_eq(stats.resumed, 1);
	/* And again. */
	ck_assert_int_eq(fill(&scene, &valve.inlet), 5);
	ck_assert_uint_eq(gate_stats(&scene).shut_queue, 2);
	valves_remove(&valve, 1);
	scene_close(&scene);
}
END_TEST

/* The worker takes them, one after the other, and nobody else tells the gate. */
START_TEST(workers_open_it)
{
	size_t low;

	for (low = 0; low < 3; low++) {
		struct evwork_gate_options options = { .queue_high = 4, .queue_low = low };
		struct scene scene;
		struct valve valve;

		/* 0 would be the default. */
		if (low == 0)
			options.queue_high = 1;
		scene_open(&scene, &options);
		valves_add(&valve, 1, &scene);
		fill(&scene, &valve.inlet);
		gate_open(&scene.hold);
		world_run_until(&scene.world, &valve.ons, 1);
		valves_remove(&valve, 1);
		scene_close(&scene);
	}
}
END_TEST

/* The last job runs, for ever as far as anybody knows, and nothing waits behind it. */
START_TEST(a_job_that_runs_does_not_wait)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct gate second;
	struct gate_job long_one;
	struct scene scene;
	struct valve valve;

	scene_open(&scene, &options);
	valves_add(&valve, 1, &scene);
	gate_init(&second);
	gate_job_init(&long_one, &second);
	long_one.job.lane = scene.lane;
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), 0);
	ck_assert_int_eq(evwork_submit(scene.world.loop, &long_one.job), 0);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -EAGAIN);
	gate_open(&scene.hold);
	gate_await(&second, 1);
	world_run_until(&scene.world, &valve.ons, 1);
	ck_assert_int_eq(long_one.status, 1);
	gate_open(&second);
	valves_remove(&valve, 1);
	scene_close(&scene);
	gate_fini(&second);
}
END_TEST

/* Of the default lane, whose jobs are staged in the turns of the loop. */
static void fill_in_a_callback(void *arg)
{
	struct valve *valve = arg;
	int i;

	for (i = 0; evwork_inlet_pass(&valve->inlet) == 0; i++) {
		ck_assert_int_lt(i, JOBS);
		probe_init(&valve->scene->probes[i], 0);
		ck_assert_int_eq(evwork_submit(valve->scene->world.loop,
			&valve->scene->probes[i].job), 0);
	}
	valve->scene->submitted = i;
}

START_TEST(staged_jobs_count)
{
	struct evwork_pool_options pool = { .lane = { .queue_limit = 8192 } };
	struct evwork_gate_options options = { .queue_high = 10 };
	struct scene scene = { .submitted = 0 };
	struct valve valve;

	world_open_with(&scene.world, &pool, NULL);
	world_close(&scene.world);
	pool.threads = 1;
	world_open_with(&scene.world, &pool, NULL);
	gate_init(&scene.hold);
	block_workers(&scene.world, &scene.hold, scene.holders, 1);
	ck_assert_int_eq(evwork_gate_new(scene.world.loop, &options, &scene.gate), 0);
	valves_add(&valve, 1, &scene);
	ck_assert_int_eq(evwork_post(scene.world.loop, fill_in_a_callback, &valve), 0);
	world_turns(&scene.world, 3);
	ck_assert_int_eq(scene.submitted, 10);
	valves_remove(&valve, 1);
	unblock_workers(&scene.world, &scene.hold);
	ck_assert_int_eq(evwork_gate_free(scene.gate), 0);
	gate_fini(&scene.hold);
	world_close(&scene.world);
}
END_TEST

/* A loop of another thread, which stays in the turn in which it has let some in. */
struct other {
	struct evwork_pool *pool;
	struct gate leave;
	struct gate_job *jobs;
	int count, rc;
	struct evwork_loop *loop;
	struct evwork_gate *inlets;
	struct valve valve;
};

static void let_some_in(void *arg)
{
	struct other *other = arg;
	int i;

	for (i = 0; i < other->count && !other->rc; i++) {
		other->rc = evwork_inlet_pass(&other->valve.inlet);
		if (!other->rc)
			other->rc = evwork_submit(other->loop, &other->jobs[i].job);
	}
	gate_pass(&other->leave);
}

static void *run_other(void *arg)
{
	struct evwork_gate_options options = { .queue_high = 60 };
	struct other *other = arg;
	struct event_base *base = event_base_new();

	other->rc = evwork_loop_new(base, other->pool, NULL, &other->loop);
	if (!other->rc)
		other->rc = evwork_gate_new(other->loop, &options, &other->inlets);
	valve_init(&other->valve, NULL);
	if (!other->rc)
		other->rc = evwork_gate_add(other->inlets, &other->valve.inlet);
	if (!other->rc)
		other->rc = evwork_post(other->loop, let_some_in, other);
	if (event_base_dispatch(base) < 0)
		other->rc = -EIO;
	(void)evwork_gate_remove(&other->valve.inlet);
	(void)evwork_gate_free(other->inlets);
	(void)evwork_loop_free(other->loop);
	event_base_free(base);
	return NULL;
}

/* What other loops have staged in their turns is bounded, too. */
START_TEST(staged_jobs_of_others_are_few)
{
	struct evwork_pool_options pool = { .threads = 2, .lane = { .queue_limit = 8192 } };
	struct gate_job jobs[2][JOBS];
	struct gate hold;
	struct world world;
	struct other others[2];
	pthread_t threads[2];
	int i, j;

	world_open_with(&world, &pool, NULL);
	gate_init(&hold);
	/* Both let in nearly as many as wait in a full lane, and neither has ended its turn. */
	for (i = 0; i < 2; i++) {
		others[i] = (struct other){ .pool = world.pool, .jobs = jobs[i], .count = 59 };
		gate_init(&others[i].leave);
		for (j = 0; j < others[i].count; j++)
			gate_job_init(&jobs[i][j], &hold);
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run_other, &others[i]), 0);
		gate_await(&others[i].leave, 1);
	}
	for (i = 0; i < 2; i++)
		gate_open(&others[i].leave);
	/* The workers hold one each, so all others wait when the turns have ended. */
	gate_await(&hold, 2);
	ck_assert_int_eq(others[0].rc, 0);
	gate_open(&hold);
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		gate_fini(&others[i].leave);
	}
	/* Those that are let in do not see the last 32 of the other loop. */
	ck_assert_int_eq(others[1].rc, -EAGAIN);
	gate_fini(&hold);
	world_close(&world);
}
END_TEST

START_TEST(by_default_at_half_the_queue)
{
	struct evwork_gate_options options = { 0 };
	struct scene scene;
	struct valve valve;

	scene_open(&scene, &options);
	valves_add(&valve, 1, &scene);
	ck_assert_str_eq(evwork_gate_name(scene.gate), "gate");
	ck_assert_int_eq(fill(&scene, &valve.inlet), JOBS / 2);
	cancel_last(&scene, JOBS / 4 - 1);
	ck_assert_int_eq(valve.ons, 0);
	cancel_last(&scene, 1);
	ck_assert_int_eq(valve.ons, 1);
	valves_remove(&valve, 1);
	scene_close(&scene);
}
END_TEST

/* Age. */

START_TEST(shuts_when_the_oldest_is_too_old)
{
	struct evwork_gate_options options = { .age_high_ms = 80, .age_low_ms = 40 };
	struct scene scene;
	struct valve valve;
	int i;

	scene_open(&scene, &options);
	valves_add(&valve, 1, &scene);
	/* A request each 10 ms, of which none is served: no length of the queue matters. */
	for (i = 0; evwork_inlet_pass(&valve.inlet) == 0; i++) {
		ck_assert_int_lt(i, 20);
		submit(&scene);
		ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 10 * MS), 0);
		world_turns(&scene.world, 2);
	}
	/* The first was submitted at 0; what is known of that is up to 10 ms late. */
	ck_assert_int_ge(i, 8);
	ck_assert_int_le(i, 9);
	ck_assert_uint_eq(gate_stats(&scene).shut_age, 1);
	ck_assert_uint_eq(gate_stats(&scene).shut_queue, 0);
	/* The older ones go: what is left is younger than 40 ms. */
	while (evwork_cancel(&scene.probes[i - 5].job) == 0 && i > 5)
		i--;
	for (i = 0; i < 20 && valve.ons == 0; i++) {
		ck_assert_int_eq(evwork_clock_advance(scene.world.clock, MS), 0);
		world_turns(&scene.world, 2);
	}
	ck_assert_int_eq(valve.ons, 1);
	valves_remove(&valve, 1);
	scene_close(&scene);
}
END_TEST

START_TEST(an_empty_queue_is_not_old)
{
	struct evwork_gate_options options = { .age_high_ms = 10 };
	struct scene scene;
	struct valve valve;
	int i;

	scene_open(&scene, &options);
	valves_add(&valve, 1, &scene);
	for (i = 0; i < 50; i++) {
		ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), 0);
		ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 10 * MS), 0);
	}
	valves_remove(&valve, 1);
	scene_close(&scene);
}
END_TEST

/* Whatever the gate has seen meanwhile: nobody asked for long, or the loop was stuck. */
START_TEST(what_was_old_stays_old)
{
	struct evwork_gate_options options = { .age_high_ms = 80, .age_low_ms = 40 };
	struct scene scene;
	struct valve valve;
	int i;

	scene_open(&scene, &options);
	valves_add(&valve, 1, &scene);
	submit(&scene);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), 0);
	ck_assert_int_eq(evwork_clock_jump(scene.world.clock, 1000 * MS), 0);
	for (i = 0; i < 32; i++)
		(void)evwork_inlet_pass(&valve.inlet);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -EAGAIN);
	for (i = 0; i < 100; i++) {
		ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 10 * MS), 0);
		world_turns(&scene.world, 2);
	}
	ck_assert_int_eq(evwork_clock_jump(scene.world.clock, 1000 * MS), 0);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 40 * MS), 0);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(valve.ons, 0);
	cancel_last(&scene, 1);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 40 * MS), 0);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(valve.ons, 1);
	valves_remove(&valve, 1);
	scene_close(&scene);
}
END_TEST

/* S-GEN-9 */
START_TEST(an_age_may_be_never)
{
	struct evwork_gate_options options = { .age_high_ms = INT64_MAX };
	struct scene scene;
	struct valve valve;
	int i;

	scene_open(&scene, &options);
	valves_add(&valve, 1, &scene);
	submit(&scene);
	for (i = 0; i < 100; i++) {
		ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 1000 * MS), 0);
		ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), 0);
	}
	valves_remove(&valve, 1);
	scene_close(&scene);
}
END_TEST

/* Limiters. */

static void limited_open(struct scene *scene, double rate, int64_t burst,
	struct evwork_gate_options *options)
{
	struct evwork_limiter_options limiter = { 0 };

	memset(scene, 0, sizeof(*scene));
	switch_counter = 0;
	world_open_manual(&scene->world, 1, START);
	limiter.clock = scene->world.clock;
	ck_assert_int_eq(evwork_limiter_new(rate, burst, &limiter, &scene->limiter), 0);
	options->limiter = scene->limiter;
	ck_assert_int_eq(evwork_gate_new(scene->world.loop, options, &scene->gate), 0);
}

static void limited_close(struct scene *scene)
{
	ck_assert_int_eq(evwork_gate_free(scene->gate), 0);
	ck_assert_int_eq(evwork_limiter_free(scene->limiter), 0);
	world_close(&scene->world);
}

/* S-LIM-18: tokens of requests, none of them taken by the gate itself. */
START_TEST(shuts_while_a_limiter_is_empty)
{
	struct evwork_gate_options options = { .tokens_open = 3 };
	struct scene scene;
	struct valve valve;
	int i;

	limited_open(&scene, 10, 5, &options);
	valves_add(&valve, 1, &scene);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), 0);
	for (i = 0; evwork_inlet_pass(&valve.inlet) == 0; i++)
		ck_assert_int_eq(evwork_limiter_allow(scene.limiter, 1), 0);
	ck_assert_int_eq(i, 5);
	ck_assert_uint_eq(gate_stats(&scene).shut_limiter, 1);
	/* Three tokens, and not a nanosecond earlier. */
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 300 * MS - 1), 0);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(valve.ons, 0);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 1), 0);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(valve.ons, 1);
	valves_remove(&valve, 1);
	limited_close(&scene);
}
END_TEST

START_TEST(a_new_rate_is_seen)
{
	struct evwork_gate_options options = { 0 };
	struct scene scene;
	struct valve valve;

	limited_open(&scene, 0, 1, &options);
	valves_add(&valve, 1, &scene);
	ck_assert_int_eq(evwork_limiter_allow(scene.limiter, 1), 0);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -EAGAIN);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 5000 * MS), 0);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(valve.ons, 0);
	ck_assert_int_eq(evwork_limiter_set_rate(scene.limiter, INFINITY), 0);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 100 * MS), 0);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(valve.ons, 1);
	/* A burst that was made too small does not shut it for ever. */
	ck_assert_int_eq(evwork_limiter_set_rate(scene.limiter, 1), 0);
	ck_assert_int_eq(evwork_limiter_set_burst(scene.limiter, 0), 0);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), 0);
	valves_remove(&valve, 1);
	limited_close(&scene);
}
END_TEST

/* The line. */

START_TEST(those_who_did_not_ask_are_told)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct valve valves[INLETS];
	struct scene scene;
	int i;

	scene_open(&scene, &options);
	valves_add(valves, INLETS, &scene);
	ck_assert_int_eq(fill(&scene, &valves[3].inlet), 1);
	for (i = 0; i < INLETS; i++)
		ck_assert_int_eq(valves[i].offs, 0);
	world_turns(&scene.world, 3);
	for (i = 0; i < INLETS; i++)
		ck_assert_int_eq(valves[i].offs, i != 3);
	ck_assert_uint_eq(gate_stats(&scene).paused, INLETS);
	valves_remove(valves, INLETS);
	scene_close(&scene);
}
END_TEST

/* A batch each turn, those first that have stood in line longest. */
START_TEST(a_few_go_on_each_turn)
{
	struct evwork_gate_options options = { .queue_high = 1, .batch = 3 };
	struct valve valves[INLETS];
	struct scene scene;
	int turn, i, on, most = 0, before = 0;

	scene_open(&scene, &options);
	valves_add(valves, INLETS, &scene);
	ck_assert_int_eq(fill(&scene, &valves[3].inlet), 1);
	world_turns(&scene.world, 3);
	ck_assert_uint_eq(gate_stats(&scene).paused, INLETS);
	switch_counter = 0;
	ck_assert_int_eq(evwork_cancel(&scene.probes[0].job), 0);
	for (turn = 0; turn < 20; turn++) {
		one_pass(scene.world.base);
		for (on = i = 0; i < INLETS; i++)
			on += valves[i].ons;
		most = on - before > most ? on - before : most;
		before = on;
	}
	ck_assert_int_eq(before, INLETS);
	ck_assert_int_eq(most, 3);
	ck_assert_int_eq(valves[3].order, 1);
	for (i = 0; i < INLETS - 1; i++)
		ck_assert_int_eq(valves[i < 3 ? i : i + 1].order, i + 2);
	valves_remove(valves, INLETS);
	scene_close(&scene);
}
END_TEST

/* It is open, but the others' turn has not come. */
START_TEST(nobody_takes_more_than_its_share)
{
	struct evwork_gate_options options = { .queue_high = 2, .batch = 1, .share = 5 };
	struct valve valves[3];
	struct scene scene;
	int i;

	scene_open(&scene, &options);
	valves_add(valves, 3, &scene);
	ck_assert_int_eq(fill(&scene, &valves[0].inlet), 2);
	world_turns(&scene.world, 3);
	cancel_last(&scene, 1);
	/* Three turns and more have gone by: all are on. So shut and open once more, and stop
	 * when the first is. */
	ck_assert_int_eq(valves[2].ons, 1);
	ck_assert_int_eq(fill(&scene, &valves[0].inlet), 1);
	world_turns(&scene.world, 3);
	scene.submitted--;
	ck_assert_int_eq(evwork_cancel(&scene.probes[scene.submitted].job), 0);
	while (valves[0].ons == 1)
		one_pass(scene.world.base);
	ck_assert_int_eq(valves[1].ons, 1);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(evwork_inlet_pass(&valves[0].inlet), 0);
	ck_assert_int_eq(evwork_inlet_pass(&valves[0].inlet), -EAGAIN);
	ck_assert_uint_eq(gate_stats(&scene).yielded, 1);
	world_turns(&scene.world, 6);
	ck_assert_int_eq(valves[0].ons, 3);
	ck_assert_int_gt(valves[0].order, valves[2].order);
	/* Nobody is in line any more, and so there is no share. */
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(evwork_inlet_pass(&valves[0].inlet), 0);
	valves_remove(valves, 3);
	scene_close(&scene);
}
END_TEST

START_TEST(an_owner_may_not_want_it)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct scene scene;
	struct valve valve;

	scene_open(&scene, &options);
	valves_add(&valve, 1, &scene);
	ck_assert_int_eq(evwork_inlet_want(&valve.inlet, 1), -EALREADY);
	ck_assert_int_eq(evwork_inlet_want(&valve.inlet, 0), 0);
	ck_assert_int_eq(evwork_inlet_want(&valve.inlet, 0), -EALREADY);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -EAGAIN);
	ck_assert_int_eq(evwork_inlet_want(&valve.inlet, 1), 0);
	ck_assert_int_eq(fill(&scene, &valve.inlet), 1);
	/* Out of the line: the base has nothing to wait for on its account. */
	ck_assert_int_eq(evwork_inlet_want(&valve.inlet, 0), 0);
	ck_assert_uint_eq(gate_stats(&scene).paused, 0);
	cancel_last(&scene, 1);
	ck_assert_int_eq(valve.ons, 0);
	valves_remove(&valve, 1);
	scene_close(&scene);
}
END_TEST

/* Bufferevents and listeners. */

struct connection {
	struct evwork_inlet inlet;
	struct bufferevent *bev;
	struct scene *scene;
	int peer;
	int lines, reads, ends;
};

static void on_read(struct bufferevent *bev, void *arg)
{
	struct connection *connection = arg;
	char *line;

	connection->reads++;
	while (evwork_inlet_pass(&connection->inlet) == 0 &&
	       (line = evbuffer_readln(bufferevent_get_input(bev), NULL, EVBUFFER_EOL_LF))) {
		connection->lines++;
		submit(connection->scene);
		free(line);
	}
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct connection *connection = arg;

	(void)bev;
	connection->ends += (what & BEV_EVENT_EOF) != 0;
}

static void connection_open(struct connection *connection, struct scene *scene)
{
	evutil_socket_t fds[2];

	memset(connection, 0, sizeof(*connection));
	ck_assert_int_eq(evutil_socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ck_assert_int_eq(evutil_make_socket_nonblocking(fds[0]), 0);
	connection->bev = bufferevent_socket_new(scene->world.base, fds[0],
		BEV_OPT_CLOSE_ON_FREE);
	ck_assert_ptr_nonnull(connection->bev);
	connection->peer = fds[1];
	connection->scene = scene;
	bufferevent_setcb(connection->bev, on_read, NULL, on_event, connection);
	evwork_inlet_init_bufferevent(&connection->inlet, connection->bev);
	ck_assert_int_eq(evwork_gate_add(scene->gate, &connection->inlet), 0);
}

static void connection_close(struct connection *connection)
{
	ck_assert_int_eq(evwork_gate_remove(&connection->inlet), 0);
	bufferevent_free(connection->bev);
	close(connection->peer);
	world_turns(&connection->scene->world, 2);
}

static bool reads(const struct connection *connection)
{
	return (bufferevent_get_enabled(connection->bev) & EV_READ) != 0;
}

static void say(const struct connection *connection, const char *text)
{
	ck_assert_int_eq(write(connection->peer, text, strlen(text)), strlen(text));
}

START_TEST(what_was_read_is_not_forgotten)
{
	struct evwork_gate_options options = { .queue_high = 2, .queue_low = 1 };
	struct connection connection;
	struct scene scene;

	scene_open(&scene, &options);
	connection_open(&connection, &scene);
	ck_assert(reads(&connection));
	/* All in one read, and the end after it. */
	say(&connection, "1\n2\n3\n4\n5\n");
	ck_assert_int_eq(shutdown(connection.peer, SHUT_WR), 0);
	world_turns(&scene.world, 3);
	ck_assert_int_eq(connection.lines, 2);
	ck_assert(!reads(&connection));
	cancel_last(&scene, 1);
	ck_assert_int_eq(connection.lines, 3);
	ck_assert(!reads(&connection));
	ck_assert_int_eq(connection.ends, 0);
	cancel_last(&scene, 1);
	cancel_last(&scene, 1);
	world_turns(&scene.world, 2);
	ck_assert_int_eq(connection.lines, 5);
	cancel_last(&scene, 1);
	world_turns(&scene.world, 2);
	ck_assert_int_eq(connection.ends, 1);
	connection_close(&connection);
	scene_close(&scene);
}
END_TEST

START_TEST(nothing_is_read_meanwhile)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct connection asks, waits, late;
	struct scene scene;
	int before;

	scene_open(&scene, &options);
	connection_open(&asks, &scene);
	connection_open(&waits, &scene);
	say(&asks, "1\n2\n");
	world_turns(&scene.world, 4);
	ck_assert(!reads(&asks) && !reads(&waits));
	connection_open(&late, &scene);
	ck_assert(!reads(&late));
	say(&waits, "1\n");
	say(&late, "1\n");
	before = waits.reads;
	world_turns(&scene.world, 4);
	ck_assert_int_eq(waits.reads, before);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(waits.bev)), 0);
	/* One after the other: each fills the queue. */
	cancel_last(&scene, 1);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(asks.lines + waits.lines + late.lines, 2);
	ck_assert_int_eq(asks.lines, 2);
	cancel_last(&scene, 1);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(waits.lines, 1);
	ck_assert_int_eq(late.lines, 0);
	cancel_last(&scene, 1);
	world_turns(&scene.world, 4);
	ck_assert_int_eq(late.lines, 1);
	connection_close(&asks);
	connection_close(&waits);
	connection_close(&late);
	scene_close(&scene);
}
END_TEST

/* More than is ever served. */
static void say_much(const struct connection *connection)
{
	char much[2000];
	int i;

	for (i = 0; i < 1000; i++)
		memcpy(much + 2 * i, "1\n", 2);
	ck_assert_int_eq(write(connection->peer, much, sizeof(much)), sizeof(much));
}

/* Who asks first takes all the room; the others, whose turn it was, too, do not go to the
 * end of the line for that. */
START_TEST(nobody_loses_its_turn)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct connection connections[4];
	struct scene scene;
	int i, round;

	scene_open(&scene, &options);
	for (i = 0; i < 4; i++) {
		connection_open(&connections[i], &scene);
		say_much(&connections[i]);
	}
	world_turns(&scene.world, 4);
	for (round = 1; round < 12; round++)
		cancel_last(&scene, 1);
	for (i = 0; i < 4; i++)
		ck_assert_int_ge(connections[i].lines, 2);
	for (i = 0; i < 4; i++)
		connection_close(&connections[i]);
	scene_close(&scene);
}
END_TEST

/* Two clients have left much in their inputs; what two others send is in their sockets when
 * it is their turn: libevent reads that last, and the others are enough to shut the gate. */
START_TEST(who_reads_later_is_served_too)
{
	struct evwork_gate_options options = { .queue_high = 2, .queue_low = 1, .share = 1 };
	struct connection connections[4];
	struct scene scene;
	int i, round;

	scene_open(&scene, &options);
	for (i = 0; i < 4; i++)
		connection_open(&connections[i], &scene);
	for (i = 0; i < 2; i++)
		say_much(&connections[i]);
	world_turns(&scene.world, 4);
	for (i = 2; i < 4; i++)
		say(&connections[i], "1\n");
	for (round = 0; round < 12; round++) {
		cancel_last(&scene, 1);
		world_turns(&scene.world, 2);
	}
	ck_assert_int_eq(connections[2].lines, 1);
	ck_assert_int_eq(connections[3].lines, 1);
	for (i = 0; i < 4; i++)
		connection_close(&connections[i]);
	scene_close(&scene);
}
END_TEST

struct port {
	struct evwork_inlet inlet;
	struct evconnlistener *listener;
	struct scene *scene;
	int accepted;
};

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
	struct sockaddr *address, int length, void *arg)
{
	struct port *port = arg;

	(void)listener;
	(void)address;
	(void)length;
	close(fd);
	port->accepted++;
	submit(port->scene);
	(void)evwork_inlet_pass(&port->inlet);
}

static int connect_to(struct port *port)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(getsockname(evconnlistener_get_fd(port->listener),
		(struct sockaddr *)&address, &length), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
	return fd;
}

START_TEST(listeners_accept_nobody_meanwhile)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct evwork_gate_options options = { .queue_high = 1 };
	struct port port = { .accepted = 0 };
	struct scene scene;
	int fds[2];

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	scene_open(&scene, &options);
	port.scene = &scene;
	port.listener = evconnlistener_new_bind(scene.world.base, on_accept, &port,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED, 8, (struct sockaddr *)&address,
		(int)sizeof(address));
	ck_assert_ptr_nonnull(port.listener);
	evwork_inlet_init_listener(&port.inlet, port.listener);
	ck_assert_int_eq(evwork_gate_add(scene.gate, &port.inlet), 0);
	fds[0] = connect_to(&port);
	while (port.accepted < 1)
		world_turns(&scene.world, 1);
	fds[1] = connect_to(&port);
	world_turns(&scene.world, 5);
	ck_assert_int_eq(port.accepted, 1);
	cancel_last(&scene, 1);
	while (port.accepted < 2)
		world_turns(&scene.world, 1);
	ck_assert_int_eq(evwork_gate_remove(&port.inlet), 0);
	evconnlistener_free(port.listener);
	close(fds[0]);
	close(fds[1]);
	scene_close(&scene);
}
END_TEST

/* Nothing else keeps the base running: the lane is full of what another loop has in it. */
static void note_turn(evutil_socket_t fd, short what, void *arg)
{
	struct scene *scene = arg;

	(void)fd;
	(void)what;
	gate_open(&scene->hold);
}

START_TEST(somebody_in_line_keeps_the_base_running)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct evwork_lane_options shared = { .name = "shared" };
	struct timeval soon = { 0, 1000 };
	struct event_base *other_base = event_base_new();
	struct evwork_loop *other;
	struct evwork_lane *lane;
	struct scene scene = { .submitted = 0 };
	struct valve valve;
	struct probe theirs;
	struct event *poke;

	world_open(&scene.world, 1);
	ck_assert_int_eq(evwork_loop_new(other_base, scene.world.pool, NULL, &other), 0);
	ck_assert_int_eq(evwork_lane_new(scene.world.pool, &shared, &lane), 0);
	gate_init(&scene.hold);
	gate_job_init(&scene.holders[0], &scene.hold);
	ck_assert_int_eq(evwork_submit(other, &scene.holders[0].job), 0);
	gate_await(&scene.hold, 1);
	probe_init(&theirs, 0);
	theirs.job.lane = lane;
	ck_assert_int_eq(evwork_submit(other, &theirs.job), 0);
	options.lane = lane;
	ck_assert_int_eq(evwork_gate_new(scene.world.loop, &options, &scene.gate), 0);
	valves_add(&valve, 1, &scene);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -EAGAIN);
	poke = evtimer_new(scene.world.base, note_turn, &scene);
	ck_assert_int_eq(evtimer_add(poke, &soon), 0);
	/* Returns by itself, but not before the valve was switched on. */
	world_run(&scene.world);
	ck_assert_int_eq(valve.ons, 1);
	event_free(poke);
	ck_assert_int_ge(event_base_dispatch(other_base), 0);
	ck_assert_int_eq(theirs.dones, 1);
	valves_remove(&valve, 1);
	ck_assert_int_eq(evwork_gate_free(scene.gate), 0);
	ck_assert_int_eq(evwork_loop_free(other), 0);
	event_base_free(other_base);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	gate_fini(&scene.hold);
	world_close(&scene.world);
}
END_TEST

/* Nothing but the worker's job, which is no matter to this base, keeps the gate shut. */
START_TEST(nobody_in_line_keeps_nothing_running)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct evwork_lane_options shared = { .name = "shared" };
	struct event_base *base = event_base_new();
	struct evwork_lane *lane;
	struct evwork_loop *loop;
	struct evwork_gate *gate;
	struct scene scene = { .submitted = 0 };
	struct valve valve;
	struct probe theirs;

	world_open(&scene.world, 1);
	ck_assert_int_eq(evwork_loop_new(base, scene.world.pool, NULL, &loop), 0);
	ck_assert_int_eq(evwork_lane_new(scene.world.pool, &shared, &lane), 0);
	gate_init(&scene.hold);
	block_workers(&scene.world, &scene.hold, scene.holders, 1);
	probe_init(&theirs, 0);
	theirs.job.lane = lane;
	ck_assert_int_eq(evwork_submit(scene.world.loop, &theirs.job), 0);
	options.lane = lane;
	ck_assert_int_eq(evwork_gate_new(loop, &options, &gate), 0);
	valve_init(&valve, &scene);
	ck_assert_int_eq(evwork_gate_add(gate, &valve.inlet), 0);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -EAGAIN);
	ck_assert_int_eq(evwork_inlet_want(&valve.inlet, 0), 0);
	ck_assert_int_ge(event_base_dispatch(base), 0);
	ck_assert_int_eq(valve.ons, 0);
	/* It is still shut, and to whom it matters it opens again. */
	ck_assert_int_eq(evwork_inlet_want(&valve.inlet, 1), 0);
	world_turns(&scene.world, 1);
	ck_assert_int_eq(event_base_loop(base, EVLOOP_NONBLOCK), 0);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -EAGAIN);
	unblock_workers(&scene.world, &scene.hold);
	ck_assert_int_ge(event_base_dispatch(base), 0);
	ck_assert_int_eq(valve.ons, 1);
	ck_assert_int_eq(evwork_gate_remove(&valve.inlet), 0);
	ck_assert_int_eq(evwork_gate_free(gate), 0);
	ck_assert_int_eq(evwork_loop_free(loop), 0);
	event_base_free(base);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	gate_fini(&scene.hold);
	world_close(&scene.world);
}
END_TEST

/* The end. */

static void free_all(struct valve *valve, int on)
{
	(void)on;
	ck_assert_int_eq(evwork_gate_remove(&valve->inlet), 0);
	ck_assert_int_eq(evwork_gate_free(valve->scene->gate), 0);
	valve->scene->gate = NULL;
}

/* S-GEN-5 */
START_TEST(freed_in_its_callback)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct scene scene;
	struct valve valves[2];

	scene_open(&scene, &options);
	valves_add(valves, 2, &scene);
	fill(&scene, &valves[0].inlet);
	ck_assert_int_eq(evwork_gate_free(scene.gate), -EBUSY);
	world_turns(&scene.world, 3);
	ck_assert_int_eq(evwork_gate_remove(&valves[1].inlet), 0);
	valves[0].on = free_all;
	cancel_last(&scene, 1);
	ck_assert_ptr_null(scene.gate);
	scene_close(&scene);
}
END_TEST

static void free_all_inside(struct evbuffer *input, const struct evbuffer_cb_info *info, void *arg)
{
	struct connection *connection = arg;

	(void)input;
	if (info->n_added == 0 || !connection->scene->gate)
		return;
	ck_assert_int_eq(evwork_gate_remove(&connection->inlet), 0);
	ck_assert_int_eq(evwork_gate_free(connection->scene->gate), 0);
	connection->scene->gate = NULL;
}

/* S-GEN-5: some bufferevents, pairs for example, bring what was left behind, and so call
 * back, as soon as they are enabled. */
START_TEST(freed_while_it_is_switched_on)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct connection connection;
	struct bufferevent *pair[2];
	struct scene scene;
	int way;

	/* By want, by add, and by the gate. */
	for (way = 0; way < 3; way++) {
		scene_open(&scene, &options);
		memset(&connection, 0, sizeof(connection));
		connection.scene = &scene;
		ck_assert_int_eq(bufferevent_pair_new(scene.world.base, 0, pair), 0);
		ck_assert_int_eq(bufferevent_enable(pair[1], EV_WRITE), 0);
		evwork_inlet_init_bufferevent(&connection.inlet, pair[0]);
		if (way != 1)
			ck_assert_int_eq(evwork_gate_add(scene.gate, &connection.inlet), 0);
		if (way == 0)
			ck_assert_int_eq(evwork_inlet_want(&connection.inlet, 0), 0);
		if (way == 1)
			ck_assert_int_eq(bufferevent_disable(pair[0], EV_READ), 0);
		if (way == 2)
			ck_assert_int_eq(fill(&scene, &connection.inlet), 1);
		ck_assert_int_eq(bufferevent_write(pair[1], "1\n", 2), 0);
		ck_assert_ptr_nonnull(evbuffer_add_cb(bufferevent_get_input(pair[0]),
			free_all_inside, &connection));
		if (way == 0)
			ck_assert_int_eq(evwork_inlet_want(&connection.inlet, 1), 0);
		if (way == 1)
			ck_assert_int_eq(evwork_gate_add(scene.gate, &connection.inlet), 0);
		if (way == 2)
			cancel_last(&scene, 1);
		ck_assert_ptr_null(scene.gate);
		bufferevent_free(pair[0]);
		bufferevent_free(pair[1]);
		world_turns(&scene.world, 2);
		scene_close(&scene);
	}
}
END_TEST

/* The worker has told it, and the loop has not heard of it yet. */
START_TEST(freed_while_the_news_is_on_its_way)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct scene scene;
	struct valve valve;

	scene_open(&scene, &options);
	valves_add(&valve, 1, &scene);
	fill(&scene, &valve.inlet);
	valves_remove(&valve, 1);
	scene.submitted = 0;
	ck_assert_int_eq(evwork_cancel(&scene.probes[0].job), 0);
	ck_assert_int_eq(evwork_gate_free(scene.gate), 0);
	scene.gate = NULL;
	scene_close(&scene);
}
END_TEST

static void note_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	++*(int *)arg;
}

START_TEST(a_loop_that_closes)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct scene scene;
	struct valve valves[2];
	int closed = 0, told;

	/* With and without the news being on its way. */
	for (told = 0; told < 2; told++) {
		scene_open(&scene, &options);
		valves_add(valves, 2, &scene);
		fill(&scene, &valves[0].inlet);
		if (told)
			ck_assert_int_eq(evwork_cancel(&scene.probes[0].job), 0);
		ck_assert_int_eq(evwork_loop_close(scene.world.loop, note_closed, &closed), 0);
		ck_assert_int_eq(evwork_gate_add(scene.gate, &valves[1].inlet), -EBUSY);
		/* Nobody is held by what will not serve anybody any more. */
		ck_assert_int_eq(evwork_inlet_pass(&valves[0].inlet), 0);
		ck_assert_int_eq(evwork_inlet_want(&valves[0].inlet, 0), 0);
		ck_assert_int_eq(evwork_inlet_want(&valves[0].inlet, 1), -ESHUTDOWN);
		gate_open(&scene.hold);
		world_run_until(&scene.world, &closed, told + 1);
		ck_assert_int_eq(evwork_inlet_pass(&valves[0].inlet), 0);
		valves_remove(valves, 2);
		ck_assert_int_eq(evwork_gate_add(scene.gate, &valves[1].inlet), -ESHUTDOWN);
		scene_close(&scene);
	}
}
END_TEST

START_TEST(a_loop_that_is_freed_by_force)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct scene scene;
	struct valve valves[2];
	int told;

	for (told = 0; told < 2; told++) {
		scene_open(&scene, &options);
		valves_add(valves, 2, &scene);
		fill(&scene, &valves[0].inlet);
		if (told)
			ck_assert_int_eq(evwork_cancel(&scene.probes[0].job), 0);
		ck_assert_int_gt(evwork_loop_free_force(scene.world.loop), 0);
		scene.world.loop = NULL;
		ck_assert_int_eq(evwork_inlet_pass(&valves[0].inlet), 0);
		valves_remove(valves, 2);
		ck_assert_int_eq(evwork_gate_free(scene.gate), 0);
		gate_open(&scene.hold);
		ck_assert_int_eq(evwork_pool_close_wait(scene.world.pool, EVWORK_DRAIN), 0);
		gate_fini(&scene.hold);
		ck_assert_int_eq(evwork_pool_free(scene.world.pool), 0);
		event_base_free(scene.world.base);
		ck_assert_int_eq(evwork_clock_free(scene.world.clock), 0);
	}
}
END_TEST

START_TEST(a_pool_that_closes_opens_it)
{
	static const enum evwork_close_mode modes[] = { EVWORK_DRAIN, EVWORK_CANCEL_ALL };
	struct evwork_gate_options options = { .queue_high = 1, .age_high_ms = 1000 };
	struct scene scene;
	struct valve valve;
	int i;

	for (i = 0; i < 2; i++) {
		scene_open(&scene, &options);
		valves_add(&valve, 1, &scene);
		fill(&scene, &valve.inlet);
		ck_assert_int_eq(evwork_pool_close(scene.world.pool, modes[i], NULL, NULL, NULL), 0);
		/* The worker is still held: it is the close that tells. */
		world_run_until(&scene.world, &valve.ons, 1);
		ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), 0);
		valves_remove(&valve, 1);
		scene_close(&scene);
	}
}
END_TEST

/* Refusals. */

static void pass_elsewhere(void *arg)
{
	struct valve *valve = arg;
	struct evwork_gate *gate;

	valve->order = evwork_inlet_pass(&valve->inlet) == -EPERM &&
		evwork_inlet_want(&valve->inlet, 0) == -EPERM &&
		evwork_gate_remove(&valve->inlet) == -EPERM &&
		evwork_gate_add(valve->scene->gate, &valve->inlet) == -EPERM &&
		evwork_gate_free(valve->scene->gate) == -EPERM &&
		evwork_gate_new(valve->scene->world.loop, NULL, &gate) == -EPERM;
}

/* S-GEN-1, S-GEN-4, S-GEN-8 */
START_TEST(refusals)
{
	static const struct evwork_gate_options bad[] = {
		{ .queue_high = 2, .queue_low = 2 }, { .queue_low = 1 },
		{ .age_high_ms = -1 }, { .age_high_ms = 5, .age_low_ms = 5 }, { .age_low_ms = 1 },
		{ .tokens = -1 }, { .tokens = 2, .tokens_open = 1 }, { .batch = -1 }, { .share = -1 },
	};
	struct evwork_gate_options options = { .queue_high = 1 };
	struct evwork_gate_stats stats;
	struct evwork_gate *gate = NULL;
	struct evwork_limiter *limiter;
	struct evwork_inlet nothing;
	struct event_base *base;
	struct evwork_loop *bare;
	struct scene scene;
	struct valve valve;
	size_t i;

	scene_open(&scene, &options);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(evwork_gate_new(scene.world.loop, &bad[i], &gate), -EINVAL);
	options.lane = scene.lane;
	options.queue_high = JOBS + 1;
	ck_assert_int_eq(evwork_gate_new(scene.world.loop, &options, &gate), -ERANGE);
	options.lane = NULL;
	options.queue_high = 1;
	ck_assert_int_eq(evwork_gate_new(NULL, NULL, &gate), -EINVAL);
	ck_assert_int_eq(evwork_gate_new(scene.world.loop, NULL, NULL), -EINVAL);
	/* Of another clock. */
	ck_assert_int_eq(evwork_limiter_new(1, 1, NULL, &limiter), 0);
	options.limiter = limiter;
	ck_assert_int_eq(evwork_gate_new(scene.world.loop, &options, &gate), -EINVAL);
	base = event_base_new();
	ck_assert_int_eq(evwork_loop_new(base, NULL, NULL, &bare), 0);
	options.tokens = 2;
	ck_assert_int_eq(evwork_gate_new(bare, &options, &gate), -EINVAL);   /* no lane */
	options.queue_high = 0;
	ck_assert_int_eq(evwork_gate_new(bare, &options, &gate), -ERANGE);
	options.tokens = 1;
	ck_assert_int_eq(evwork_gate_new(bare, &options, &gate), 0);
	ck_assert_int_eq(evwork_gate_free(gate), 0);
	ck_assert_int_eq(evwork_loop_free(bare), 0);
	event_base_free(base);
	ck_assert_int_eq(evwork_limiter_free(limiter), 0);

	ck_assert_int_eq(evwork_gate_free(NULL), 0);
	ck_assert_ptr_null(evwork_gate_name(NULL));
	ck_assert_int_eq(evwork_gate_stats(NULL, &stats), -EINVAL);
	ck_assert_int_eq(evwork_gate_stats(scene.gate, NULL), -EINVAL);
	valve_init(&valve, &scene);
	evwork_inlet_init(&nothing, NULL);
	ck_assert_int_eq(evwork_gate_add(scene.gate, &nothing), -EINVAL);
	ck_assert_int_eq(evwork_gate_add(NULL, &valve.inlet), -EINVAL);
	ck_assert_int_eq(evwork_gate_add(scene.gate, NULL), -EINVAL);
	ck_assert_int_eq(evwork_gate_remove(NULL), -EINVAL);
	ck_assert_int_eq(evwork_inlet_pass(NULL), -EINVAL);
	ck_assert_int_eq(evwork_inlet_want(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_gate_remove(&valve.inlet), -ESRCH);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -ESRCH);
	ck_assert_int_eq(evwork_inlet_want(&valve.inlet, 1), -ESRCH);
	valves_add(&valve, 1, &scene);
	ck_assert_int_eq(evwork_gate_add(scene.gate, &valve.inlet), -EBUSY);
	support_elsewhere(pass_elsewhere, &valve);
	ck_assert_int_eq(valve.order, 1);
	valves_remove(&valve, 1);
	scene_close(&scene);
}
END_TEST

static pid_t made_in_call;

static void fork_and_free(struct valve *valve, int on)
{
	(void)on;
	made_in_call = fork();
	if (made_in_call == 0 && evwork_gate_free(valve->scene->gate) != 0)
		_exit(1);
}

/* It may have freed the gate, and return; nothing more is called in it (S-SHUT-12). */
START_TEST(child_made_in_a_call)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct valve valves[2];
	struct scene scene;

	if (!support_forks())
		return;
	scene_open(&scene, &options);
	valves_add(valves, 2, &scene);
	fill(&scene, &valves[0].inlet);
	world_turns(&scene.world, 3);
	valves[0].on = fork_and_free;
	made_in_call = -1;
	cancel_last(&scene, 1);
	if (made_in_call == 0)
		_exit(valves[1].ons);
	support_await_child(made_in_call);
	ck_assert_int_eq(valves[1].ons, 1);
	valves_remove(valves, 2);
	scene_close(&scene);
}
END_TEST

/* S-SHUT-12 */
START_TEST(children_of_a_fork_are_refused)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct evwork_loop_options with = { 0 };
	struct evwork_limiter *limiter;
	struct event_base *base;
	struct evwork_loop *loop;
	struct evwork_gate *gate;
	struct scene scene;
	struct valve valves[2];
	int bad = 0;
	pid_t child;

	if (!support_forks())
		return;
	scene_open(&scene, &options);
	ck_assert_int_eq(evwork_limiter_new(1, 1, NULL, &limiter), 0);
	valves_add(valves, 1, &scene);
	valve_init(&valves[1], &scene);
	fill(&scene, &valves[0].inlet);
	child = fork();
	if (child == 0) {
		bad += evwork_inlet_pass(&valves[0].inlet) != -ESHUTDOWN;
		bad += evwork_inlet_want(&valves[0].inlet, 0) != -ESHUTDOWN;
		bad += evwork_gate_remove(&valves[0].inlet) != -ESHUTDOWN;
		bad += evwork_gate_add(scene.gate, &valves[1].inlet) != -ESHUTDOWN;
		bad += evwork_gate_new(scene.world.loop, NULL, &gate) != -ESHUTDOWN;
		bad += evwork_gate_free(scene.gate) != 0;
		/* A loop of its own, but what is watched is not. */
		base = event_base_new();
		bad += evwork_loop_new(base, NULL, &with, &loop) != 0;
		options.lane = scene.lane;
		bad += evwork_gate_new(loop, &options, &gate) != -ESHUTDOWN;
		options.queue_high = 0;
		options.limiter = limiter;
		bad += evwork_gate_new(loop, &options, &gate) != -ESHUTDOWN;
		_exit(bad);
	}
	support_await_child(child);
	ck_assert_int_eq(evwork_limiter_free(limiter), 0);
	valves_remove(valves, 1);
	scene_close(&scene);
}
END_TEST

/* S-GEN-14: everything but new fails for nothing, and new leaves nothing behind. */
START_TEST(calls_that_fail)
{
	struct evwork_gate_options options = { .queue_high = 1 };
	struct evwork_gate *gate;
	struct scene scene;
	struct valve valve;
	int k, rc, failed = 0;

	scene_open(&scene, &options);
	options.lane = scene.lane;
	for (k = 1; k < 100; k++) {
		fault_start(SYS_CALLS, k, true);
		rc = evwork_gate_new(scene.world.loop, &options, &gate);
		fault_stop();
		if (rc == 0)
			break;
		failed++;
		ck_assert_int_eq(rc, -ENOMEM);
	}
	ck_assert_int_gt(failed, 0);
	ck_assert_int_eq(evwork_gate_free(gate), 0);
	fault_start(SYS_CALLS, 1, true);
	valve_init(&valve, &scene);
	ck_assert_int_eq(evwork_gate_add(scene.gate, &valve.inlet), 0);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), 0);
	fault_stop();
	submit(&scene);
	fault_start(SYS_CALLS, 1, true);
	ck_assert_int_eq(evwork_inlet_pass(&valve.inlet), -EAGAIN);
	scene.submitted--;
	ck_assert_int_eq(evwork_cancel(&scene.probes[0].job), 0);
	while (valve.ons == 0)
		world_turns(&scene.world, 1);
	fault_stop();
	valves_remove(&valve, 1);
	scene_close(&scene);
}
END_TEST

/* Several loops with a gate each at one lane. */

#define LOOPS 2
#define HIGH 40
#define TAPS 8

struct tap {
	struct evwork_inlet inlet;
	struct server *server;
	bool on;
};

struct request {
	struct evwork_job job;
	struct server *server;
};

struct server {
	struct evwork_pool *pool;
	struct evwork_lane *lane;
	size_t high;
	struct tap taps[TAPS];
	struct request *requests;
	int count, sent, answered, refused, turn;
	struct event_base *base;
	struct evwork_loop *loop;
	struct evwork_gate *gate;
	int rc;
};

static int request_run(struct evwork_job *job)
{
	(void)job;
	sys_relax();
	return 0;
}

static void draw(struct server *server);

static void request_done(struct evwork_job *job, int status)
{
	struct server *server = EVWORK_CONTAINER(job, struct request, job)->server;

	server->answered += status == 0;
	/* Now and then more comes while others are served. */
	if (server->answered % 7 == 0)
		draw(server);
}

/* Each of the taps that are on gives as much as it may. */
static void draw(struct server *server)
{
	int i, quiet = 0;

	for (i = server->turn++ % TAPS; server->sent < server->count && quiet < TAPS;
	     i = (i + 1) % TAPS) {
		struct tap *tap = &server->taps[i];

		quiet++;
		tap->on = tap->on && evwork_inlet_pass(&tap->inlet) == 0;
		if (!tap->on)
			continue;
		quiet = 0;
		if (evwork_submit(server->loop, &server->requests[server->sent].job) == 0)
			server->sent++;
		else
			server->refused++;
	}
}

static void tap_fn(struct evwork_inlet *inlet, int on)
{
	struct tap *tap = EVWORK_CONTAINER(inlet, struct tap, inlet);

	tap->on = on == 1;
	if (on)
		draw(tap->server);
}

static void draw_first(void *arg)
{
	draw(arg);
}

static void *serve(void *arg)
{
	struct server *server = arg;
	struct evwork_gate_options options = { .queue_high = server->high, .share = 3,
		.lane = server->lane };
	int i;

	server->base = event_base_new();
	server->rc = evwork_loop_new(server->base, server->pool, NULL, &server->loop);
	if (!server->rc)
		server->rc = evwork_gate_new(server->loop, &options, &server->gate);
	for (i = 0; i < TAPS && !server->rc; i++) {
		evwork_inlet_init(&server->taps[i].inlet, tap_fn);
		server->taps[i].server = server;
		server->taps[i].on = true;
		server->rc = evwork_gate_add(server->gate, &server->taps[i].inlet);
	}
	if (!server->rc)
		server->rc = evwork_post(server->loop, draw_first, server);
	/* Until nothing keeps it: all that was to be sent is answered, and nobody in line. */
	while (!server->rc && server->answered < server->count)
		server->rc = event_base_dispatch(server->base) < 0;
	for (i = 0; i < TAPS && !server->rc; i++)
		server->rc = evwork_gate_remove(&server->taps[i].inlet);
	if (!server->rc)
		server->rc = evwork_gate_free(server->gate);
	if (!server->rc)
		server->rc = evwork_loop_free(server->loop);
	event_base_free(server->base);
	return NULL;
}

/* So many loops with a gate each; the most that were in the queue. */
static size_t serve_all(int loops, size_t high)
{
	struct evwork_pool_options pool_options = { .threads = 2 };
	struct evwork_lane_options lane_options = { .name = "shared" };
	struct server servers[LOOPS];
	pthread_t threads[LOOPS];
	struct evwork_pool *pool;
	struct evwork_lane *lane;
	size_t peak;
	int i, j, count = 40000 / support_slow() + 1000;

	ck_assert_int_eq(evwork_pool_new(&pool_options, &pool), 0);
	ck_assert_int_eq(evwork_lane_new(pool, &lane_options, &lane), 0);
	for (i = 0; i < loops; i++) {
		servers[i] = (struct server){ .pool = pool, .lane = lane, .count = count,
			.high = high };
		servers[i].requests = calloc((size_t)count, sizeof(*servers[i].requests));
		for (j = 0; j < count; j++) {
			evwork_job_init(&servers[i].requests[j].job, request_run, request_done);
			servers[i].requests[j].job.lane = lane;
			servers[i].requests[j].server = &servers[i];
		}
		ck_assert_int_eq(pthread_create(&threads[i], NULL, serve, &servers[i]), 0);
	}
	for (i = 0; i < loops; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		ck_assert_int_eq(servers[i].rc, 0);
		ck_assert_int_eq(servers[i].answered, count);
		ck_assert_int_eq(servers[i].refused, 0);
		free(servers[i].requests);
	}
	peak = (size_t)stats_of(lane).queue_peak;
	support_note("at most %zu jobs were in the queue", peak);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	return peak;
}

/* What the header says of the length of the queue, by how much it is overrun by others. */
START_TEST(gates_of_several_loops)
{
	ck_assert_uint_le(serve_all(LOOPS, HIGH), HIGH + 32 * (LOOPS - 1));
}
END_TEST

/* Workers are as quick as the loop, so that the queue is short again while it is looked at. */
START_TEST(a_narrow_gate_is_not_overrun)
{
	size_t high;

	for (high = 1; high <= 3; high++)
		ck_assert_uint_le(serve_all(1, high), high);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("gate");
	TCase *tcase = support_case(s, "watched");

	tcase_add_test(tcase, shuts_at_the_high_mark_and_opens_at_the_low_one);
	tcase_add_test(tcase, workers_open_it);
	tcase_add_test(tcase, a_job_that_runs_does_not_wait);
	tcase_add_test(tcase, staged_jobs_count);
	tcase_add_test(tcase, staged_jobs_of_others_are_few);
	tcase_add_test(tcase, by_default_at_half_the_queue);
	tcase_add_test(tcase, shuts_when_the_oldest_is_too_old);
	tcase_add_test(tcase, an_empty_queue_is_not_old);
	tcase_add_test(tcase, what_was_old_stays_old);
	tcase_add_test(tcase, an_age_may_be_never);
	tcase_add_test(tcase, shuts_while_a_limiter_is_empty);
	tcase_add_test(tcase, a_new_rate_is_seen);
	tcase = support_case(s, "line");
	tcase_add_test(tcase, those_who_did_not_ask_are_told);
	tcase_add_test(tcase, a_few_go_on_each_turn);
	tcase_add_test(tcase, nobody_takes_more_than_its_share);
	tcase_add_test(tcase, nobody_loses_its_turn);
	tcase_add_test(tcase, who_reads_later_is_served_too);
	tcase_add_test(tcase, an_owner_may_not_want_it);
	tcase_add_test(tcase, what_was_read_is_not_forgotten);
	tcase_add_test(tcase, nothing_is_read_meanwhile);
	tcase_add_test(tcase, listeners_accept_nobody_meanwhile);
	tcase_add_test(tcase, somebody_in_line_keeps_the_base_running);
	tcase_add_test(tcase, nobody_in_line_keeps_nothing_running);
	tcase = support_case(s, "end");
	tcase_add_test(tcase, freed_while_it_is_switched_on);
	tcase_add_test(tcase, freed_in_its_callback);
	tcase_add_test(tcase, freed_while_the_news_is_on_its_way);
	tcase_add_test(tcase, a_loop_that_closes);
	tcase_add_test(tcase, a_loop_that_is_freed_by_force);
	tcase_add_test(tcase, a_pool_that_closes_opens_it);
	tcase_add_test(tcase, refusals);
	tcase_add_test(tcase, child_made_in_a_call);
	tcase_add_test(tcase, children_of_a_fork_are_refused);
	tcase_add_test(tcase, calls_that_fail);
	tcase = support_case(s, "threads");
	tcase_add_test(tcase, gates_of_several_loops);
	tcase_add_test(tcase, a_narrow_gate_is_not_overrun);
	return s;
}

int main(void)
{
	return support_run(suite());
}
