/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Limits on what is in flight: tokens, how the limit moves, who waits, announcements,
 * lanes, loops that close, and many threads.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "stress.h"

#include <math.h>

#include "guard/adaptive.h"

#define START_NS INT64_C(1000000000)
#define MS INT64_C(1000000)

enum { GUESTS = 8 };

/* A waiter that records what happens to it. */
struct guest {
	struct evwork_adaptive_waiter waiter;
	int calls, status, order;
	struct scene *scene;
	void (*on)(struct guest *guest);   /* in the callback, may be NULL */
};

struct scene {
	struct world world;
	struct evwork_adaptive *adaptive;
	struct guest guests[GUESTS];
	int told, from, to;
	bool broken;
	int rc;
};

static void guest_called(struct evwork_adaptive_waiter *waiter, int status)
{
	struct guest *guest = EVWORK_CONTAINER(waiter, struct guest, waiter);

	guest->calls++;
	guest->status = status;
	guest->order = atomic_fetch_add(&probe_done_counter, 1) + 1;
	if (guest->on)
		guest->on(guest);
}

static void open_scene(struct scene *scene, struct evwork_adaptive_options options)
{
	int i;

	memset(scene, 0, sizeof(*scene));
	world_open_manual(&scene->world, 1, START_NS);
	if (options.on_limit) {
		options.loop = scene->world.loop;
		options.arg = scene;
	}
	ck_assert_int_eq(evwork_adaptive_new(&options, &scene->adaptive), 0);
	for (i = 0; i < GUESTS; i++) {
		evwork_adaptive_waiter_init(&scene->guests[i].waiter, guest_called);
		scene->guests[i].status = 1;
		scene->guests[i].scene = scene;
	}
}

static void close_scene(struct scene *scene)
{
	ck_assert(!scene->broken);
	ck_assert_int_eq(evwork_adaptive_free(scene->adaptive), 0);
	world_close(&scene->world);
}

static struct evwork_adaptive_metrics metrics_of(struct scene *scene)
{
	struct evwork_adaptive_metrics metrics;

	ck_assert_int_eq(evwork_adaptive_metrics(scene->adaptive, &metrics), 0);
	return metrics;
}

static void acquire(struct scene *scene, struct evwork_adaptive_token *tokens, int n)
{
	int i;

	for (i = 0; i < n; i++)
		ck_assert_int_eq(evwork_adaptive_acquire(scene->adaptive, &tokens[i]), 0);
}

static int try_acquire(struct scene *scene)
{
	struct evwork_adaptive_token token = { 0 };
	int rc = evwork_adaptive_acquire(scene->adaptive, &token);

	evwork_adaptive_drop(&token);
	return rc;
}

static void end(struct evwork_adaptive_token *token)
{
	ck_assert_int_eq(evwork_adaptive_end(token, EVWORK_ADAPTIVE_SUCCESS, 1), 0);
}

static int await(struct scene *scene, int i, struct evwork_ctx *ctx)
{
	return evwork_adaptive_wait(scene->adaptive, ctx, scene->world.loop,
		&scene->guests[i].waiter);
}

static const struct evwork_adaptive_options bulkhead = {
	.algorithm = EVWORK_ADAPTIVE_FIXED, .limit = 2
};

/* S-ADP-1, -6, -8: tokens are ended once; dropped ones are ignored. */
START_TEST(tokens)
{
	struct evwork_adaptive_token held[3] = { { 0 } };
	struct scene scene;

	open_scene(&scene, bulkhead);
	ck_assert_int_eq(evwork_adaptive_end(&held[0], EVWORK_ADAPTIVE_SUCCESS, 1), -EINVAL);
	acquire(&scene, held, 2);
	ck_assert_int_eq(evwork_adaptive_acquire(scene.adaptive, &held[2]), -EAGAIN);
	ck_assert_int_eq(evwork_adaptive_acquire(scene.adaptive, &held[0]), -EBUSY);
	ck_assert_int_eq(metrics_of(&scene).in_flight, 2);
	ck_assert_int_eq(evwork_adaptive_end(&held[0], (enum evwork_adaptive_outcome)3, 1), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_end(&held[0], EVWORK_ADAPTIVE_SUCCESS, -1), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_end(NULL, EVWORK_ADAPTIVE_SUCCESS, 1), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_free(scene.adaptive), -EBUSY);
	end(&held[0]);
	ck_assert_int_eq(evwork_adaptive_end(&held[0], EVWORK_ADAPTIVE_SUCCESS, 1), -EALREADY);
	ck_assert_int_eq(metrics_of(&scene).in_flight, 1);
	evwork_adaptive_drop(&held[1]);
	evwork_adaptive_drop(&held[1]);
	evwork_adaptive_drop(&held[2]);
	evwork_adaptive_drop(NULL);
	ck_assert_int_eq(metrics_of(&scene).in_flight, 0);
	ck_assert_uint_eq(metrics_of(&scene).ignored, 1);
	ck_assert_uint_eq(metrics_of(&scene).success, 1);
	ck_assert_uint_eq(metrics_of(&scene).allowed, 2);
	ck_assert_uint_eq(metrics_of(&scene).refused, 1);
	close_scene(&scene);
}
END_TEST

/* S-ADP-2: down by the ratio, rounded down, up by one, between min and max. */
START_TEST(aimd)
{
	struct evwork_adaptive_token held[16] = { { 0 } };
	struct scene scene;
	int i;

	open_scene(&scene, (struct evwork_adaptive_options) { .limit = 10, .min = 4, .max = 12,
		.timeout_ms = 10 });
	acquire(&scene, held, 10);
	ck_assert_int_eq(evwork_adaptive_end(&held[0], EVWORK_ADAPTIVE_DROP, 1), 0);
	ck_assert_int_eq(metrics_of(&scene).limit, 9);
	ck_assert_int_eq(evwork_adaptive_end(&held[1], EVWORK_ADAPTIVE_SUCCESS, 10 * MS), 0);
	ck_assert_int_eq(metrics_of(&scene).limit, 10);
	ck_assert_int_eq(evwork_adaptive_end(&held[2], EVWORK_ADAPTIVE_SUCCESS, 10 * MS + 1), 0);
	ck_assert_int_eq(metrics_of(&scene).limit, 9);
	ck_assert_int_eq(evwork_adaptive_end(&held[3], EVWORK_ADAPTIVE_IGNORE, 100 * MS), 0);
	ck_assert_int_eq(metrics_of(&scene).limit, 9);
	ck_assert_int_eq(evwork_adaptive_end(&held[4], EVWORK_ADAPTIVE_DROP, 0), 0);
	ck_assert_int_eq(metrics_of(&scene).limit, 8);
	for (i = 5; i < 10; i++)
		ck_assert_int_eq(evwork_adaptive_end(&held[i], EVWORK_ADAPTIVE_DROP, 0), 0);
	/* 8, 7, 6, 5, 4, and no less. */
	ck_assert_int_eq(metrics_of(&scene).limit, 4);
	ck_assert_int_eq(evwork_adaptive_set(scene.adaptive, 12), 0);
	acquire(&scene, held, 12);
	end(&held[0]);
	ck_assert_int_eq(metrics_of(&scene).limit, 12);
	for (i = 1; i < 12; i++)
		evwork_adaptive_drop(&held[i]);
	close_scene(&scene);
}
END_TEST

/* S-ADP-3: who uses less than half of it does not raise it. */
START_TEST(idle_is_not_raised)
{
	struct evwork_adaptive_token held[5] = { { 0 } };
	struct scene scene;

	open_scene(&scene, (struct evwork_adaptive_options) { .limit = 9 });
	acquire(&scene, held, 5);
	end(&held[0]);
	ck_assert_int_eq(metrics_of(&scene).limit, 10);
	end(&held[1]);
	ck_assert_int_eq(metrics_of(&scene).limit, 10);
	end(&held[2]);
	end(&held[3]);
	end(&held[4]);
	ck_assert_int_eq(metrics_of(&scene).limit, 10);
	close_scene(&scene);
}
END_TEST

static int next_of_delay(const struct limit_config *config, const struct limit_sample *sample)
{
	(void)config;
	return (int)sample->rtt_ns;
}

/* S-ADP-7: an algorithm that goes by delays is told none of 0. */
START_TEST(delays_are_needed)
{
	static const struct limit_algorithm by_delay = { true, next_of_delay };
	struct evwork_adaptive_token held[2] = { { 0 } };
	struct scene scene;

	open_scene(&scene, bulkhead);
	scene.adaptive->config.algorithm = &by_delay;
	acquire(&scene, held, 2);
	ck_assert_int_eq(evwork_adaptive_end(&held[0], EVWORK_ADAPTIVE_SUCCESS, 0), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_end(&held[0], EVWORK_ADAPTIVE_SUCCESS, 7), 0);
	ck_assert_int_eq(metrics_of(&scene).limit, 7);
	evwork_adaptive_drop(&held[1]);
	close_scene(&scene);
}
END_TEST

/* S-ADP-4: lowered, it revokes nothing; raised, it serves at once; S-ADP-6: also from 0. */
START_TEST(set_by_hand)
{
	struct evwork_adaptive_token held[2] = { { 0 } };
	struct scene scene;

	open_scene(&scene, bulkhead);
	acquire(&scene, held, 2);
	ck_assert_int_eq(evwork_adaptive_set(scene.adaptive, 0), 0);
	ck_assert_int_eq(metrics_of(&scene).in_flight, 2);
	end(&held[0]);
	end(&held[1]);
	ck_assert_int_eq(try_acquire(&scene), -EAGAIN);
	ck_assert_int_eq(await(&scene, 0, NULL), 0);
	ck_assert_int_eq(await(&scene, 1, NULL), 0);
	ck_assert_int_eq(evwork_adaptive_set(scene.adaptive, 1), 0);
	/* Taken in the call, told after it. */
	ck_assert_int_eq(metrics_of(&scene).in_flight, 1);
	ck_assert_int_eq(scene.guests[0].calls, 0);
	world_run(&scene.world);
	ck_assert_int_eq(scene.guests[0].status, 0);
	ck_assert_int_eq(scene.guests[1].calls, 0);
	end(&scene.guests[0].waiter.token);
	world_run(&scene.world);
	ck_assert_int_eq(scene.guests[1].status, 0);
	end(&scene.guests[1].waiter.token);
	ck_assert_int_eq(evwork_adaptive_set(scene.adaptive, -1), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_set(scene.adaptive, EVWORK_ADAPTIVE_LIMIT_MAX + 1), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_set(NULL, 1), -EINVAL);
	close_scene(&scene);
}
END_TEST

/* S-ADP-5: first come, first served; nobody overtakes; full is -EAGAIN. */
START_TEST(waiters_in_order)
{
	struct evwork_adaptive_options options = bulkhead;
	struct evwork_adaptive_token held[2] = { { 0 } };
	struct scene scene;
	int i;

	options.queue_limit = 3;
	open_scene(&scene, options);
	acquire(&scene, held, 2);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(await(&scene, i, NULL), 0);
	ck_assert_int_eq(await(&scene, 0, NULL), -EBUSY);
	ck_assert_int_eq(await(&scene, 3, NULL), -EAGAIN);
	ck_assert_uint_eq(metrics_of(&scene).waiting, 3);
	end(&held[0]);
	ck_assert_int_eq(try_acquire(&scene), -EAGAIN);
	end(&held[1]);
	world_run(&scene.world);
	ck_assert_int_eq(scene.guests[0].calls + scene.guests[1].calls, 2);
	ck_assert_int_lt(scene.guests[0].order, scene.guests[1].order);
	ck_assert_int_eq(scene.guests[2].calls, 0);
	ck_assert_int_eq(await(&scene, 0, NULL), -EBUSY);
	end(&scene.guests[0].waiter.token);
	end(&scene.guests[1].waiter.token);
	world_run(&scene.world);
	ck_assert_int_eq(scene.guests[2].calls, 1);
	/* One that can be had at once comes in a later turn, too. */
	ck_assert_int_eq(await(&scene, 4, NULL), 0);
	ck_assert_int_eq(scene.guests[4].calls, 0);
	world_run(&scene.world);
	ck_assert_int_eq(scene.guests[4].status, 0);
	end(&scene.guests[2].waiter.token);
	end(&scene.guests[4].waiter.token);
	ck_assert_uint_eq(metrics_of(&scene).granted, 4);
	close_scene(&scene);
}
END_TEST

/* S-ADP-5: under a context. A waiter that has died is passed over, even by who comes before
 * it was told. */
START_TEST(waiters_die)
{
	struct evwork_adaptive_token held[2] = { { 0 } };
	struct evwork_ctx *ctx, *timed;
	struct scene scene;

	open_scene(&scene, bulkhead);
	acquire(&scene, held, 2);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, scene.world.loop, 5, 0, &timed), 0);
	ck_assert_int_eq(await(&scene, 0, ctx), 0);
	ck_assert_int_eq(await(&scene, 1, timed), 0);
	ck_assert_int_eq(await(&scene, 2, NULL), 0);
	evwork_ctx_cancel(ctx, 0);
	ck_assert_int_eq(evwork_clock_jump(scene.world.clock, 5 * MS), 0);
	end(&held[0]);
	world_run_until(&scene.world, &scene.guests[1].calls, 1);
	ck_assert_int_eq(scene.guests[0].status, -ECANCELED);
	ck_assert_int_eq(scene.guests[1].status, -ETIMEDOUT);
	ck_assert_int_eq(scene.guests[2].status, 0);
	ck_assert_int_eq(await(&scene, 0, ctx), -ECANCELED);
	ck_assert_int_eq(await(&scene, 1, timed), -ETIMEDOUT);
	ck_assert_uint_eq(metrics_of(&scene).cancelled, 2);
	end(&held[1]);
	end(&scene.guests[2].waiter.token);
	evwork_ctx_unref(ctx);
	evwork_ctx_unref(timed);
	close_scene(&scene);
}
END_TEST

/* S-ADP-5: a grant and the death of the context meet, in both orders: one has it. */
START_TEST(grant_meets_death)
{
	int grant_first;

	for (grant_first = 0; grant_first < 2; grant_first++) {
		struct evwork_adaptive_token held[2] = { { 0 } };
		struct evwork_ctx *ctx;
		struct scene scene;

		open_scene(&scene, bulkhead);
		acquire(&scene, held, 2);
		ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
		ck_assert_int_eq(await(&scene, 0, ctx), 0);
		if (grant_first)
			end(&held[0]);
		evwork_ctx_cancel(ctx, 0);
		if (!grant_first)
			end(&held[0]);
		world_run(&scene.world);
		ck_assert_int_eq(scene.guests[0].calls, 1);
		ck_assert_int_eq(scene.guests[0].status, grant_first ? 0 : -ECANCELED);
		ck_assert_int_eq(metrics_of(&scene).in_flight, 1 + grant_first);
		evwork_adaptive_drop(&scene.guests[0].waiter.token);
		end(&held[1]);
		evwork_ctx_unref(ctx);
		close_scene(&scene);
	}
}
END_TEST

static void stop_elsewhere(void *arg)
{
	struct scene *scene = arg;

	scene->rc = evwork_adaptive_stop(&scene->guests[0].waiter);
}

/* S-GEN-7: stopping, in each state of a waiter. */
START_TEST(stopped)
{
	struct evwork_adaptive_token held[2] = { { 0 } };
	struct scene scene;

	open_scene(&scene, bulkhead);
	acquire(&scene, held, 2);
	ck_assert_int_eq(evwork_adaptive_stop(NULL), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_stop(&scene.guests[0].waiter), -ESRCH);
	ck_assert_int_eq(await(&scene, 0, NULL), 0);
	ck_assert_int_eq(await(&scene, 1, NULL), 0);
	support_elsewhere(stop_elsewhere, &scene);
	ck_assert_int_eq(scene.rc, -EPERM);
	ck_assert_int_eq(evwork_adaptive_free(scene.adaptive), -EBUSY);
	ck_assert_int_eq(evwork_adaptive_stop(&scene.guests[0].waiter), 0);
	ck_assert_int_eq(evwork_adaptive_stop(&scene.guests[0].waiter), -ESRCH);
	end(&held[0]);
	ck_assert_int_eq(evwork_adaptive_stop(&scene.guests[1].waiter), -EALREADY);
	world_run(&scene.world);
	ck_assert_int_eq(scene.guests[0].calls, 0);
	ck_assert_int_eq(scene.guests[1].calls, 1);
	end(&held[1]);
	end(&scene.guests[1].waiter.token);
	close_scene(&scene);
}
END_TEST

/* S-SHUT-7: the loop closes: waiters end in order, but for who was served. */
START_TEST(loop_closes)
{
	struct evwork_adaptive_token held[2] = { { 0 } };
	struct scene scene;
	int i;

	open_scene(&scene, bulkhead);
	acquire(&scene, held, 2);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(await(&scene, i, NULL), 0);
	end(&held[0]);
	ck_assert_int_eq(evwork_loop_close(scene.world.loop, NULL, NULL), 0);
	ck_assert_int_eq(await(&scene, 4, NULL), -ESHUTDOWN);
	world_run(&scene.world);
	ck_assert_int_eq(scene.guests[0].status, 0);
	ck_assert_int_eq(scene.guests[1].status, -ECANCELED);
	ck_assert_int_eq(scene.guests[2].status, -ECANCELED);
	ck_assert_int_lt(scene.guests[1].order, scene.guests[2].order);
	end(&held[1]);
	end(&scene.guests[0].waiter.token);
	close_scene(&scene);
}
END_TEST

/* S-SHUT-11: freed by force; what was granted and not told goes back. */
START_TEST(loop_is_forced)
{
	struct evwork_adaptive_token held[2] = { { 0 } };
	struct scene scene;

	open_scene(&scene, bulkhead);
	acquire(&scene, held, 2);
	ck_assert_int_eq(await(&scene, 0, NULL), 0);
	ck_assert_int_eq(await(&scene, 1, NULL), 0);
	end(&held[0]);
	ck_assert_int_eq(evwork_loop_free_force(scene.world.loop), 2);
	scene.world.loop = NULL;
	ck_assert_int_eq(scene.guests[0].calls + scene.guests[1].calls, 0);
	ck_assert_int_eq(metrics_of(&scene).in_flight, 1);
	ck_assert_uint_eq(metrics_of(&scene).waiting, 0);
	end(&held[1]);
	close_scene(&scene);
}
END_TEST

static void on_limit(struct evwork_adaptive *adaptive, int from, int to, void *arg)
{
	struct scene *scene = arg;

	scene->broken |= adaptive != scene->adaptive || from == to ||
		(scene->told && from != scene->to);
	if (scene->told++ == 0)
		scene->from = from;
	scene->to = to;
	if (scene->rc == 99)
		scene->rc = evwork_adaptive_free(adaptive);
}

/* S-ADP-8: told in order, on the loop. */
START_TEST(limit_is_told)
{
	struct evwork_adaptive_options options = bulkhead;
	struct scene scene;

	options.on_limit = on_limit;
	open_scene(&scene, options);
	evwork_adaptive_set(scene.adaptive, 3);
	ck_assert_int_eq(scene.told, 0);
	evwork_adaptive_set(scene.adaptive, 5);
	world_run(&scene.world);
	ck_assert_int_eq(scene.told, 1);
	ck_assert_int_eq(scene.from, 2);
	ck_assert_int_eq(scene.to, 5);
	evwork_adaptive_set(scene.adaptive, 1);
	world_run(&scene.world);
	ck_assert_int_eq(scene.told, 2);
	ck_assert_int_eq(scene.to, 1);
	/* There and back is no change, and neither is the same. */
	evwork_adaptive_set(scene.adaptive, 7);
	evwork_adaptive_set(scene.adaptive, 1);
	evwork_adaptive_set(scene.adaptive, 1);
	world_run(&scene.world);
	ck_assert_int_eq(scene.told, 2);
	/* S-GEN-5: freed in its own callback. */
	scene.rc = 99;
	evwork_adaptive_set(scene.adaptive, 7);
	world_run(&scene.world);
	ck_assert_int_eq(scene.rc, 0);
	world_close(&scene.world);
}
END_TEST

static enum evwork_adaptive_outcome classify(int status, void *arg)
{
	(void)arg;
	return status == 1 ? EVWORK_ADAPTIVE_DROP : (enum evwork_adaptive_outcome)7;
}

/* S-ADP-1, S-LANE-3: as the guard of a lane. */
START_TEST(guards_a_lane)
{
	static const struct { int result; bool own; uint64_t success, dropped, ignored; } rows[] = {
		{ 0, false, 1, 0, 0 }, { -ETIMEDOUT, false, 0, 1, 0 }, { -EAGAIN, false, 0, 1, 0 },
		{ -EIO, false, 0, 0, 1 }, { -ECANCELED, false, 0, 0, 1 }, { 1, true, 0, 1, 0 },
		{ 2, true, 0, 0, 1 },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct evwork_lane_options lane_options = { .guard_count = 1 };
		struct evwork_adaptive_options options = bulkhead;
		struct evwork_guard *guards[1];
		struct evwork_lane *lane;
		struct probe probes[3];
		struct gate_job held;
		struct scene scene;
		struct gate gate;
		int k;

		options.classify = rows[i].own ? classify : NULL;
		open_scene(&scene, options);
		guards[0] = evwork_adaptive_guard(scene.adaptive);
		lane_options.guards = guards;
		ck_assert_int_eq(evwork_lane_new(scene.world.pool, &lane_options, &lane), 0);
		gate_init(&gate);
		block_workers(&scene.world, &gate, &held, 1);
		for (k = 0; k < 3; k++) {
			probe_init(&probes[k], rows[i].result);
			probes[k].job.lane = lane;
			ck_assert_int_eq(evwork_submit(scene.world.loop, &probes[k].job),
				k == 2 ? -EAGAIN : 0);
		}
		/* What does not run is ignored. */
		ck_assert_int_eq(evwork_cancel(&probes[1].job), 0);
		unblock_workers(&scene.world, &gate);
		ck_assert_uint_eq(metrics_of(&scene).success, rows[i].success);
		ck_assert_uint_eq(metrics_of(&scene).dropped, rows[i].dropped);
		ck_assert_uint_eq(metrics_of(&scene).ignored, rows[i].ignored + 1);
		ck_assert_int_eq(metrics_of(&scene).in_flight, 0);
		gate_fini(&gate);
		ck_assert_int_eq(evwork_lane_free(lane), 0);
		close_scene(&scene);
	}
	ck_assert_ptr_null(evwork_adaptive_guard(NULL));
}
END_TEST

/* S-GEN-10: what is refused at creation; S-CRASH-8: and what fails there. */
START_TEST(creation)
{
	static const struct evwork_adaptive_options bad[] = {
		{ .algorithm = (enum evwork_adaptive_algorithm)2 }, { .limit = -1 }, { .min = -1 },
		{ .max = -1 }, { .min = 5, .max = 4 }, { .limit = 3, .min = 4 },
		{ .limit = 30, .max = 29 }, { .ratio = 0.49 }, { .ratio = 1 }, { .ratio = NAN },
		{ .ratio = -1 }, { .timeout_ms = -1 }, { .on_limit = on_limit },
		{ .algorithm = EVWORK_ADAPTIVE_FIXED, .min = 1 },
		{ .algorithm = EVWORK_ADAPTIVE_FIXED, .max = 1 },
	};
	struct evwork_adaptive_options options = { .on_limit = on_limit };
	struct evwork_adaptive_metrics metrics;
	struct evwork_adaptive *adaptive = NULL;
	struct world world;
	size_t i;
	int k, rc;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(evwork_adaptive_new(&bad[i], &adaptive) == -EINVAL, "row %zu", i);
	ck_assert_int_eq(evwork_adaptive_new(NULL, &adaptive), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_new(&bulkhead, NULL), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_free(NULL), 0);
	ck_assert_int_eq(evwork_adaptive_metrics(NULL, &metrics), -EINVAL);
	world_open(&world, 1);
	options.loop = world.loop;
	for (k = 1; ; k++) {
		fault_start(SYS_CALLS, k, false);
		rc = evwork_adaptive_new(&options, &adaptive);
		if (fault_stop() < k)
			break;
		ck_assert_int_eq(rc, -ENOMEM);
	}
	ck_assert_int_gt(k, 2);
	ck_assert_int_eq(evwork_adaptive_metrics(adaptive, &metrics), 0);
	ck_assert_int_eq(metrics.limit, EVWORK_ADAPTIVE_LIMIT_DEFAULT);
	ck_assert_int_eq(evwork_adaptive_metrics(adaptive, NULL), -EINVAL);
	ck_assert_int_eq(evwork_adaptive_free(adaptive), 0);
	world_close(&world);
}
END_TEST

/* S-SHUT-12: the child of a fork is refused, and may free. */
START_TEST(forked)
{
	struct evwork_adaptive_token held = { 0 }, token = { 0 };
	struct evwork_adaptive_metrics metrics;
	struct scene scene;
	int bad = 0;
	pid_t child;

	if (!support_forks())
		return;
	open_scene(&scene, bulkhead);
	acquire(&scene, &held, 1);
	child = fork();
	if (child == 0) {
		bad += evwork_adaptive_acquire(scene.adaptive, &token) != -ESHUTDOWN;
		bad += evwork_adaptive_end(&held, EVWORK_ADAPTIVE_SUCCESS, 0) != -ESHUTDOWN;
		bad += await(&scene, 0, NULL) != -ESHUTDOWN;
		bad += evwork_adaptive_set(scene.adaptive, 1) != -ESHUTDOWN;
		bad += evwork_adaptive_metrics(scene.adaptive, &metrics) != -ESHUTDOWN;
		bad += evwork_adaptive_free(scene.adaptive) != 0;
		_exit(bad);
	}
	support_await_child(child);
	evwork_adaptive_drop(&held);
	close_scene(&scene);
}
END_TEST

/* Threads that take and end, while waiters on a loop come and go. */

enum { THREADS = 3, BOUND = 4 };

struct crowd {
	struct scene scene;
	atomic_int inside, most, rounds;
	int served, wanted;
};

static void enter(struct crowd *crowd)
{
	int inside = atomic_fetch_add(&crowd->inside, 1) + 1, most = atomic_load(&crowd->most);

	while (inside > most && !atomic_compare_exchange_weak(&crowd->most, &most, inside))
		;
}

static void *use(void *arg)
{
	struct crowd *crowd = arg;

	while (atomic_fetch_sub(&crowd->rounds, 1) > 0) {
		struct evwork_adaptive_token token = { 0 };

		if (evwork_adaptive_acquire(crowd->scene.adaptive, &token) != 0)
			continue;
		enter(crowd);
		atomic_fetch_sub(&crowd->inside, 1);
		evwork_adaptive_end(&token, EVWORK_ADAPTIVE_SUCCESS, 1);
	}
	return NULL;
}

static void served(struct guest *guest)
{
	struct crowd *crowd = (struct crowd *)(void *)guest->scene;

	if (guest->status != 0)
		crowd->scene.broken = true;
	enter(crowd);
	atomic_fetch_sub(&crowd->inside, 1);
	evwork_adaptive_drop(&guest->waiter.token);
	if (++crowd->served <= crowd->wanted - GUESTS &&
	    await(&crowd->scene, (int)(guest - crowd->scene.guests), NULL) != 0)
		crowd->scene.broken = true;
}

/* S-ADP-7: never more than the limit, and nobody is forgotten. */
START_TEST(crowds)
{
	static struct crowd crowd;
	pthread_t threads[THREADS];
	int i;

	memset(&crowd, 0, sizeof(crowd));
	open_scene(&crowd.scene, (struct evwork_adaptive_options) {
		.algorithm = EVWORK_ADAPTIVE_FIXED, .limit = BOUND });
	crowd.rounds = scaled(300000);
	crowd.wanted = scaled(3000);
	for (i = 0; i < GUESTS; i++) {
		crowd.scene.guests[i].on = served;
		ck_assert_int_eq(await(&crowd.scene, i, NULL), 0);
	}
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, use, &crowd), 0);
	world_run_until(&crowd.scene.world, &crowd.served, crowd.wanted);
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_le(atomic_load(&crowd.most), BOUND);
	ck_assert_int_eq(crowd.served, crowd.wanted);
	ck_assert_int_eq(metrics_of(&crowd.scene).in_flight, 0);
	ck_assert_uint_eq(metrics_of(&crowd.scene).waiting, 0);
	close_scene(&crowd.scene);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("adaptive");
	TCase *tokens_case = support_case(suite, "tokens");
	TCase *waiters = support_case(suite, "waiters");
	TCase *life = support_case(suite, "life");

	tcase_add_test(tokens_case, tokens);
	tcase_add_test(tokens_case, aimd);
	tcase_add_test(tokens_case, idle_is_not_raised);
	tcase_add_test(tokens_case, delays_are_needed);
	tcase_add_test(tokens_case, set_by_hand);
	tcase_add_test(tokens_case, guards_a_lane);
	tcase_add_test(waiters, waiters_in_order);
	tcase_add_test(waiters, waiters_die);
	tcase_add_test(waiters, grant_meets_death);
	tcase_add_test(waiters, stopped);
	tcase_add_test(waiters, loop_closes);
	tcase_add_test(waiters, loop_is_forced);
	tcase_add_test(life, limit_is_told);
	tcase_add_test(life, creation);
	tcase_add_test(life, forked);
	tcase_add_test(life, crowds);
	return support_run(suite);
}
