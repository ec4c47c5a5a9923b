/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Submits from a callback of the loop. The library may hand over what one turn
 * submits together; whoever looks, in the callback itself or from another thread
 * meanwhile, must not be able to tell. Most tests run twice: with the only lane of
 * a pool, where that is tempting, and with a second one.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

enum { PROBES = 8 };

/* A world of one worker that is held in a gate, a lane for the probes, and what a
 * callback and the thread that it starts do. */
struct scene {
	struct world world;
	struct evwork_lane *lane;
	struct gate gate;
	struct gate_job blocker;
	struct probe probes[PROBES];
	void (*act)(struct scene *scene);       /* in the callback */
	void (*aside)(struct scene *scene);     /* on a foreign thread */
	int acted;
	int rc[PROBES];                         /* what the calls under test gave */
	struct evwork_lane_stats stats;
	struct evwork_ctx *ctx;
	int closed;
};

static void scene_open(struct scene *scene, size_t queue_limit, bool two_lanes)
{
	struct evwork_pool_options options = { .threads = 1 };
	int i;

	memset(scene, 0, sizeof(*scene));
	options.lane.queue_limit = queue_limit;
	world_open_with(&scene->world, &options, NULL);
	if (two_lanes)
		ck_assert_int_eq(evwork_lane_new(scene->world.pool, &options.lane,
			&scene->lane), 0);
	else
		scene->lane = evwork_pool_lane(scene->world.pool);
	ck_assert_int_eq(evwork_ctx_new(NULL, &scene->ctx), 0);
	gate_init(&scene->gate);
	gate_job_init(&scene->blocker, &scene->gate);
	ck_assert_int_eq(evwork_submit(scene->world.loop, &scene->blocker.job), 0);
	gate_await(&scene->gate, 1);
	for (i = 0; i < PROBES; i++) {
		probe_init(&scene->probes[i], 0);
		scene->probes[i].job.lane = scene->lane;
		scene->rc[i] = 1;
	}
}

static void act_in_callback(void *arg)
{
	struct scene *scene = arg;

	scene->act(scene);
	scene->acted++;
}

/* Has the loop call act, and returns when that turn is over. */
static void scene_act(struct scene *scene, void (*act)(struct scene *scene))
{
	scene->act = act;
	ck_assert_int_eq(evwork_post(scene->world.loop, act_in_callback, scene), 0);
	world_run_until(&scene->world, &scene->acted, 1);
	ck_assert_int_eq(scene->acted, 1);
}

static void *aside_on_thread(void *arg)
{
	struct scene *scene = arg;

	scene->aside(scene);
	return NULL;
}

/* Has a foreign thread call aside, from start to end. */
static void scene_aside(struct scene *scene, void (*aside)(struct scene *scene))
{
	pthread_t thread;

	scene->aside = aside;
	if (pthread_create(&thread, NULL, aside_on_thread, scene) == 0)
		pthread_join(thread, NULL);
}

static void scene_close(struct scene *scene)
{
	gate_open(&scene->gate);
	world_run(&scene->world);
	ck_assert_int_eq(scene->blocker.status, 0);
	evwork_ctx_unref(scene->ctx);
	world_close(&scene->world);
	gate_fini(&scene->gate);
}

static int submit(struct scene *scene, int i)
{
	return evwork_submit(scene->world.loop, &scene->probes[i].job);
}

static void expect_end(const struct probe *probe, int status, int runs)
{
	ck_assert_int_eq(probe->dones, 1);
	ck_assert_int_eq(probe->status, status);
	ck_assert_int_eq(probe->ran, runs);
	ck_assert_int_eq(atomic_load(&probe->runs), runs);
}

static void expect_untouched(const struct probe *probe)
{
	ck_assert_int_eq(probe->dones, 0);
	ck_assert_int_eq(atomic_load(&probe->runs), 0);
}

/* Room. */

static void submit_four(struct scene *scene)
{
	int i;

	for (i = 0; i < 4; i++)
		scene->rc[i] = submit(scene, i);
	evwork_lane_stats(scene->lane, &scene->stats);
}

/* The queue's limit holds inside one callback, and the counters show what it has
 * submitted (S-POOL-6, S-POOL-16, S-LANE-8). */
START_TEST(turn_limit)
{
	struct scene scene;
	int i;

	scene_open(&scene, 3, _i == 1);
	scene_act(&scene, submit_four);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(scene.rc[i], 0);
	ck_assert_int_eq(scene.rc[3], -EAGAIN);
	ck_assert_uint_eq(scene.stats.accepted, (_i == 1 ? 3 : 4));
	ck_assert_uint_eq(scene.stats.queued, 3);
	ck_assert_uint_eq(scene.stats.refused_full, 1);
	scene_close(&scene);
	for (i = 0; i < 3; i++)
		expect_end(&scene.probes[i], 0, 1);
	expect_untouched(&scene.probes[3]);
}
END_TEST

static void submit_second(struct scene *scene)
{
	scene->rc[1] = submit(scene, 1);
}

static void submit_then_aside(struct scene *scene)
{
	scene->rc[0] = submit(scene, 0);
	scene_aside(scene, submit_second);
	scene->rc[2] = submit(scene, 2);
}

/* The last place in a queue that a callback has taken is taken for other threads too,
 * before the callback returns (S-POOL-6, S-GEN-2). */
START_TEST(turn_limit_seen_aside)
{
	struct scene scene;

	scene_open(&scene, 1, _i == 1);
	scene_act(&scene, submit_then_aside);
	ck_assert_int_eq(scene.rc[0], 0);
	ck_assert_int_eq(scene.rc[1], -EAGAIN);
	ck_assert_int_eq(scene.rc[2], -EAGAIN);
	scene_close(&scene);
	expect_end(&scene.probes[0], 0, 1);
	expect_untouched(&scene.probes[1]);
	expect_untouched(&scene.probes[2]);
}
END_TEST

enum { LIMIT = EVWORK_QUEUE_LIMIT_DEFAULT };

static struct probe crowd[LIMIT];

static void submit_until_full(struct scene *scene)
{
	int i, rc = 0;

	for (i = 0; i < LIMIT && rc == 0; i++) {
		probe_init(&crowd[i], 0);
		crowd[i].job.lane = scene->lane;
		rc = evwork_submit(scene->world.loop, &crowd[i].job);
	}
	scene->rc[1] = rc == 0 ? i : i - 1;
	scene->rc[2] = rc;
}

static void submit_then_fill_aside(struct scene *scene)
{
	scene->rc[0] = submit(scene, 0);
	scene_aside(scene, submit_until_full);
}

/* All other places are free for other threads: together they are exactly as many as
 * the limit says (S-POOL-6). */
START_TEST(turn_room_seen_aside)
{
	struct scene scene;
	int i;

	scene_open(&scene, LIMIT, _i == 1);
	scene_act(&scene, submit_then_fill_aside);
	ck_assert_int_eq(scene.rc[0], 0);
	/* What the loop may still hand over counts, up to 128 jobs. */
	ck_assert_int_le(scene.rc[1], LIMIT - 1);
	ck_assert_int_ge(scene.rc[1], _i == 1 ? LIMIT - 1 : LIMIT - 128);
	ck_assert_int_eq(scene.rc[2], -EAGAIN);
	gate_open(&scene.gate);
	for (i = 0; i < scene.rc[1]; i++)
		world_run_until(&scene.world, &crowd[i].dones, 1);
	scene_close(&scene);
	expect_end(&scene.probes[0], 0, 1);
}
END_TEST

/* Order. */

/* What a callback submits keeps its order. What another thread submits before the
 * turn ends has its place after what was handed over before; where nothing is
 * collected, the order is that of all submits (S-POOL-4, S-LANE-5). */
START_TEST(turn_order_with_others)
{
	struct scene scene;
	int i;

	scene_open(&scene, 0, _i == 1);
	scene_act(&scene, submit_then_aside);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(scene.rc[i], 0);
	gate_open(&scene.gate);
	world_run_until(&scene.world, &scene.probes[2].dones, 1);
	world_run_until(&scene.world, &scene.probes[1].dones, 1);
	for (i = 0; i < 3; i++) {
		if (_i == 1)
			ck_assert_int_eq(scene.probes[i].run_order, i + 1);
		expect_end(&scene.probes[i], 0, 1);
	}
	ck_assert_int_lt(scene.probes[0].run_order, scene.probes[2].run_order);
	scene_close(&scene);
}
END_TEST

static void submit_by_rising_priority(struct scene *scene)
{
	int i;

	for (i = 0; i < PROBES; i++)
		scene->rc[i] = submit(scene, i);
}

/* Jobs that one callback submits start by priority, and in the order of their submits
 * within one (S-POOL-4, S-POOL-16). */
START_TEST(turn_order_of_priorities)
{
	struct evwork_lane_options options = { .priority = 1 };
	struct evwork_lane *high;
	struct scene scene;
	int i;

	scene_open(&scene, 0, false);
	ck_assert_int_eq(evwork_lane_new(scene.world.pool, &options, &high), 0);
	for (i = 1; i < PROBES; i += 2)
		scene.probes[i].job.lane = high;
	scene_act(&scene, submit_by_rising_priority);
	scene_close(&scene);
	for (i = 0; i < PROBES; i++) {
		ck_assert_int_eq(scene.rc[i], 0);
		ck_assert_int_eq(scene.probes[i].run_order, i % 2 ? 1 + i / 2 :
			PROBES / 2 + 1 + i / 2);
	}
}
END_TEST

static void submit_and_break(struct scene *scene)
{
	scene->rc[0] = submit(scene, 0);
	event_base_loopbreak(scene->world.base);
}

/* What a callback submits runs although it breaks the loop, which then does not turn
 * (S-POOL-2, S-DLV-9). */
START_TEST(turn_break)
{
	struct scene scene;

	scene_open(&scene, 0, _i == 1);
	scene_act(&scene, submit_and_break);
	ck_assert_int_eq(scene.rc[0], 0);
	gate_open(&scene.gate);
	while (atomic_load(&scene.probes[0].runs) == 0)
		sys_yield();
	ck_assert_int_eq(scene.probes[0].dones, 0);
	scene_close(&scene);
	expect_end(&scene.probes[0], 0, 1);
}
END_TEST

/* Ending it in the same callback. */

static void submit_and_cancel(struct scene *scene)
{
	scene->rc[0] = submit(scene, 0);
	scene->rc[1] = submit(scene, 1);
	scene->rc[2] = submit(scene, 0);
	scene->rc[3] = evwork_cancel(&scene->probes[0].job);
	scene->rc[4] = evwork_cancel(&scene->probes[0].job);
	scene->rc[5] = submit(scene, 0);
	scene->rc[6] = scene->probes[0].dones;
}

/* A job that the same callback has submitted is on its way: submitting it again is
 * EBUSY, cancelling it succeeds, again is EALREADY, and its done comes later, not
 * run (S-POOL-8, S-POOL-10, S-GEN-3). */
START_TEST(turn_cancel)
{
	struct scene scene;

	scene_open(&scene, 0, _i == 1);
	scene_act(&scene, submit_and_cancel);
	ck_assert_int_eq(scene.rc[0], 0);
	ck_assert_int_eq(scene.rc[1], 0);
	ck_assert_int_eq(scene.rc[2], -EBUSY);
	ck_assert_int_eq(scene.rc[3], 0);
	ck_assert_int_eq(scene.rc[4], -EALREADY);
	ck_assert_int_eq(scene.rc[5], -EBUSY);
	ck_assert_int_eq(scene.rc[6], 0);
	world_run_until(&scene.world, &scene.probes[0].dones, 1);
	expect_end(&scene.probes[0], -ECANCELED, 0);
	ck_assert_int_eq(evwork_cancel(&scene.probes[0].job), -ESRCH);
	scene_close(&scene);
	expect_end(&scene.probes[0], -ECANCELED, 0);
	expect_end(&scene.probes[1], 0, 1);
}
END_TEST

static void cancel_first(struct scene *scene)
{
	scene->rc[1] = evwork_cancel(&scene->probes[0].job);
	scene->rc[2] = evwork_cancel(&scene->probes[0].job);
}

static void submit_and_cancel_aside(struct scene *scene)
{
	scene->rc[0] = submit(scene, 0);
	scene_aside(scene, cancel_first);
}

/* Another thread can cancel it just as well before the callback returns (S-POOL-8,
 * S-POOL-10). */
START_TEST(turn_cancel_aside)
{
	struct scene scene;

	scene_open(&scene, 0, _i == 1);
	scene_act(&scene, submit_and_cancel_aside);
	ck_assert_int_eq(scene.rc[0], 0);
	ck_assert_int_eq(scene.rc[1], 0);
	ck_assert_int_eq(scene.rc[2], -EALREADY);
	world_run_until(&scene.world, &scene.probes[0].dones, 1);
	expect_end(&scene.probes[0], -ECANCELED, 0);
	scene_close(&scene);
	expect_end(&scene.probes[0], -ECANCELED, 0);
}
END_TEST

static void submit_and_kill(struct scene *scene)
{
	scene->rc[0] = submit(scene, 0);
	scene->rc[1] = evwork_ctx_cancel(scene->ctx, 0);
	scene->rc[2] = submit(scene, 1);
	evwork_lane_stats(scene->lane, &scene->stats);
}

/* A context that the same callback cancels ends the job it has just submitted under
 * it, and its room is free at once (S-POOL-12, S-POOL-11). */
START_TEST(turn_ctx)
{
	struct scene scene;

	scene_open(&scene, 1, _i == 1);
	scene.probes[0].job.ctx = scene.ctx;
	scene_act(&scene, submit_and_kill);
	ck_assert_int_eq(scene.rc[0], 0);
	ck_assert_int_eq(scene.rc[1], 0);
	ck_assert_int_eq(scene.rc[2], 0);
	ck_assert_uint_eq(scene.stats.queued, 1);
	world_run_until(&scene.world, &scene.probes[0].dones, 1);
	expect_end(&scene.probes[0], -ECANCELED, 0);
	scene_close(&scene);
	expect_end(&scene.probes[1], 0, 1);
}
END_TEST

static const enum evwork_close_mode modes[] = {
	EVWORK_DRAIN, EVWORK_CANCEL_QUEUED, EVWORK_CANCEL_ALL
};
static enum evwork_close_mode mode;

static void on_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	((struct scene *)arg)->closed++;
}

static void submit_and_close(struct scene *scene)
{
	scene->rc[0] = submit(scene, 0);
	scene->rc[1] = evwork_pool_free(scene->world.pool);
	scene->rc[2] = evwork_lane_free(scene->lane);
	scene->rc[3] = evwork_loop_free(scene->world.loop);
	scene->rc[4] = evwork_pool_close(scene->world.pool, mode, scene->world.loop,
		on_pool_closed, scene);
	scene->rc[5] = submit(scene, 1);
}

/* What the same callback has submitted makes pool, lane and loop busy, and a close
 * treats it as queued (S-SHUT-1, S-SHUT-2, S-LANE-8, S-DLV-14). */
START_TEST(turn_close)
{
	struct scene scene;
	bool drains;

	scene_open(&scene, 0, _i >= 3);
	mode = modes[_i % 3];
	drains = mode == EVWORK_DRAIN;
	scene_act(&scene, submit_and_close);
	ck_assert_int_eq(scene.rc[0], 0);
	ck_assert_int_eq(scene.rc[1], -EBUSY);
	ck_assert_int_eq(scene.rc[2], _i >= 3 ? -EBUSY : -EINVAL);
	ck_assert_int_eq(scene.rc[3], -EBUSY);
	ck_assert_int_eq(scene.rc[4], 0);
	ck_assert_int_eq(scene.rc[5], -ESHUTDOWN);
	gate_open(&scene.gate);
	world_run_until(&scene.world, &scene.closed, 1);
	expect_end(&scene.probes[0], drains ? 0 : -ECANCELED, drains);
	expect_untouched(&scene.probes[1]);
	scene_close(&scene);
}
END_TEST

static void close_cancelling(struct scene *scene)
{
	evwork_lane_stats(scene->lane, &scene->stats);
	scene->rc[0] = evwork_pool_close(scene->world.pool, EVWORK_CANCEL_QUEUED, NULL, NULL, NULL);
}

static void submit_all_and_close_aside(struct scene *scene)
{
	int i;

	for (i = 0; i < PROBES; i++)
		scene->rc[i] = submit(scene, i);
	scene_aside(scene, close_cancelling);
}

/* What a callback has submitted when another thread closes the pool ends in the order of
 * the submits, be it still collected by the turn or in the queue (S-SHUT-1, S-DLV-2). */
START_TEST(turn_close_aside)
{
	struct scene scene;
	int i;

	scene_open(&scene, 0, _i == 1);
	scene_act(&scene, submit_all_and_close_aside);
	/* Or this tests something else: the other thread did not see them yet. */
	if (_i == 0)
		ck_assert_uint_eq(scene.stats.accepted, 1);
	for (i = 0; i < PROBES; i++)
		ck_assert_int_eq(scene.rc[i], 0);
	for (i = 0; i < PROBES; i++)
		world_run_until(&scene.world, &scene.probes[i].dones, 1);
	for (i = 0; i < PROBES; i++) {
		expect_end(&scene.probes[i], -ECANCELED, 0);
		ck_assert_int_eq(scene.probes[i].done_order,
			scene.probes[0].done_order + i);
	}
	scene_close(&scene);
}
END_TEST

static void on_loop_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	((struct scene *)arg)->closed++;
}

static void submit_and_close_loop(struct scene *scene)
{
	scene->rc[0] = submit(scene, 0);
	scene->rc[1] = evwork_loop_close(scene->world.loop, on_loop_closed, scene);
	scene->rc[2] = submit(scene, 1);
}

/* A loop that is closed in the same callback delivers that job before it has closed
 * (S-SHUT-8). */
START_TEST(turn_close_loop)
{
	struct scene scene;

	scene_open(&scene, 0, _i == 1);
	scene_act(&scene, submit_and_close_loop);
	ck_assert_int_eq(scene.rc[0], 0);
	ck_assert_int_eq(scene.rc[1], 0);
	ck_assert_int_eq(scene.rc[2], -ESHUTDOWN);
	ck_assert_int_eq(scene.closed, 0);
	gate_open(&scene.gate);
	world_run_until(&scene.world, &scene.closed, 1);
	expect_end(&scene.probes[0], 0, 1);
	scene_close(&scene);
}
END_TEST

/* Counting. */

static void look_at_stats(struct scene *scene)
{
	evwork_lane_stats(scene->lane, &scene->stats);
}

static void look_aside(struct scene *scene)
{
	scene_aside(scene, look_at_stats);
}

/* A delivery is counted when its done has returned, also for other threads that ask
 * while the same turn goes on (S-LANE-8, S-OBS-4). */
START_TEST(turn_delivered_seen_aside)
{
	struct scene scene;
	struct gate end;
	struct gate_job last;

	scene_open(&scene, 0, _i == 1);
	ck_assert_int_eq(submit(&scene, 0), 0);
	gate_init(&end);
	gate_job_init(&last, &end);
	ck_assert_int_eq(evwork_submit(scene.world.loop, &last.job), 0);
	gate_open(&scene.gate);
	gate_await(&end, 1);
	/* The probe is posted, and so comes before what is posted now. */
	scene_act(&scene, look_aside);
	expect_end(&scene.probes[0], 0, 1);
	/* Another thread sees it when the turn ends, which it has by now. */
	ck_assert_uint_le(scene.stats.delivered, (_i == 1 ? 1 : 2));
	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(scene.world.pool), &scene.stats), 0);
	ck_assert_uint_eq(scene.stats.delivered, (_i == 1 ? 1 : 2));
	ck_assert_uint_eq(scene.stats.posted, 0);
	gate_open(&end);
	scene_close(&scene);
	gate_fini(&end);
}
END_TEST

/* Several workers. */

struct meeting {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	int present, wanted;
};

static struct meeting meeting = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };

static void meet(struct probe *probe)
{
	(void)probe;
	pthread_mutex_lock(&meeting.mutex);
	meeting.present++;
	pthread_cond_broadcast(&meeting.cond);
	while (meeting.present < meeting.wanted)
		pthread_cond_wait(&meeting.cond, &meeting.mutex);
	pthread_mutex_unlock(&meeting.mutex);
}

struct storm {
	struct world world;
	struct probe probes[400];
	int dones;
	int refusals;
};

static void storm_done(struct probe *probe)
{
	((struct storm *)probe->arg)->dones++;
}

static void storm_submit(void *arg)
{
	struct storm *storm = arg;
	int i;

	for (i = 0; i < 400; i++)
		storm->refusals += evwork_submit(storm->world.loop, &storm->probes[i].job) != 0;
}

/* Jobs that one callback submits, short ones and ones that wait for each other, find
 * as many workers as there are (S-POOL-19, S-POOL-16). */
START_TEST(turn_meeting)
{
	static struct storm storm;
	int i, round, workers = _i;

	memset(&storm, 0, sizeof(storm));
	world_open(&storm.world, workers);
	for (round = 0; round < 30; round++) {
		storm.dones = 0;
		meeting.present = 0;
		meeting.wanted = workers;
		for (i = 0; i < 400; i++) {
			probe_init(&storm.probes[i], 0);
			storm.probes[i].arg = &storm;
			storm.probes[i].on_done = storm_done;
			if (i % (400 / workers) == 0 && i / (400 / workers) < workers)
				storm.probes[i].on_run = meet;
		}
		ck_assert_int_eq(evwork_post(storm.world.loop, storm_submit, &storm), 0);
		world_run_until(&storm.world, &storm.dones, 400);
		ck_assert_int_eq(meeting.present, workers);
	}
	ck_assert_int_eq(storm.refusals, 0);
	world_close(&storm.world);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("pool_turn");
	TCase *tcase = support_case(suite, "turn");

	tcase_add_loop_test(tcase, turn_limit, 0, 2);
	tcase_add_loop_test(tcase, turn_limit_seen_aside, 0, 2);
	tcase_add_loop_test(tcase, turn_room_seen_aside, 0, 2);
	tcase_add_loop_test(tcase, turn_order_with_others, 0, 2);
	tcase_add_test(tcase, turn_order_of_priorities);
	tcase_add_loop_test(tcase, turn_break, 0, 2);
	tcase_add_loop_test(tcase, turn_cancel, 0, 2);
	tcase_add_loop_test(tcase, turn_cancel_aside, 0, 2);
	tcase_add_loop_test(tcase, turn_ctx, 0, 2);
	tcase_add_loop_test(tcase, turn_close, 0, 6);
	tcase_add_loop_test(tcase, turn_close_aside, 0, 2);
	tcase_add_loop_test(tcase, turn_delivered_seen_aside, 0, 2);
	tcase_add_loop_test(tcase, turn_close_loop, 0, 2);
	tcase_add_loop_test(tcase, turn_meeting, 1, 6);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
