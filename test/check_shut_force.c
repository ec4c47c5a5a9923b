/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Freeing a loop by force: what becomes of everything that was on its way to it.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* A job that may be dropped. */
struct cargo {
	struct probe probe;
	struct gate *gate;             /* work passes it, if there is one */
	atomic_int drops;
	pthread_t drop_thread;
	int drop_ran;
};

static void on_drop(struct evwork_job *job)
{
	struct cargo *cargo = EVWORK_CONTAINER(job, struct cargo, probe.job);

	cargo->drop_thread = pthread_self();
	cargo->drop_ran = evwork_job_ran(job);
	atomic_fetch_add(&cargo->drops, 1);
}

static void pass_gate(struct probe *probe)
{
	struct cargo *cargo = EVWORK_CONTAINER(probe, struct cargo, probe);

	if (cargo->gate)
		gate_pass(cargo->gate);
}

static void load(struct cargo *cargo, struct world *world, struct gate *gate)
{
	probe_init(&cargo->probe, 0);
	cargo->probe.job.drop = on_drop;
	cargo->probe.on_run = pass_gate;
	cargo->gate = gate;
	atomic_store(&cargo->drops, 0);
	ck_assert_int_eq(evwork_submit(world->loop, &cargo->probe.job), 0);
}

static void expect_dropped(struct cargo *cargo)
{
	ck_assert_int_eq(atomic_load(&cargo->drops), 1);
	ck_assert_int_eq(cargo->probe.dones, 0);
}

/* Frees the loop by force, and the base after it. */
static int sink(struct world *world)
{
	int lost = evwork_loop_free_force(world->loop);

	world->loop = NULL;
	event_base_free(world->base);
	world->base = NULL;
	return lost;
}

static void expect_account(struct world *world, uint64_t accepted, uint64_t dropped)
{
	struct evwork_lane_stats stats;

	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(world->pool), &stats), 0);
	ck_assert_uint_eq(stats.accepted, accepted);
	ck_assert_uint_eq(stats.delivered, accepted);
	ck_assert_uint_eq(stats.dropped, dropped);
	ck_assert_uint_eq(stats.ok + stats.failed + stats.cancelled + stats.expired +
		stats.crashed, accepted);
	ck_assert_uint_eq(stats.queued + stats.running + stats.posted, 0);
}

static void never_called(void *arg)
{
	(void)arg;
	abort();
}

static void never_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	never_called(arg);
}

/* Whatever is outstanding, the loop and then the base are freed at once. What has ended is
 * dropped in the call, what runs or is queued when it has ended, on its worker; jobs
 * without a drop end silently; all are counted (S-SHUT-11). */
START_TEST(force_drops)
{
	struct cargo ended, running, queued;
	struct support_timer timer;
	struct support_watch watch;
	struct probe plain;
	struct evwork_ctx *ctx;
	struct world world;
	struct gate gate;

	world_open(&world, 1);
	gate_init(&gate);
	load(&ended, &world, NULL);
	load(&running, &world, &gate);
	gate_await(&gate, 1);
	load(&queued, &world, NULL);
	probe_init(&plain, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &plain.job), 0);
	ck_assert_int_eq(evwork_post(world.loop, never_called, NULL), 0);
	support_timer_init(&timer, world.loop);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 0), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 3600000, 0, &ctx), 0);
	support_watch_init(&watch);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &watch.watch), 0);
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	ck_assert_int_eq(evwork_loop_free(world.loop), -EBUSY);

	ck_assert_int_eq(sink(&world), 7);
	expect_dropped(&ended);
	ck_assert_int_eq(ended.drop_ran, 1);
	ck_assert(pthread_equal(ended.drop_thread, pthread_self()));
	ck_assert_int_eq(atomic_load(&running.drops) + atomic_load(&queued.drops), 0);
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), -ESRCH);
	ck_assert_int_eq(evwork_ctx_stop(&watch.watch), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(evwork_pool_free(world.pool), -EBUSY);
	gate_open(&gate);
	ck_assert_int_eq(evwork_pool_close_wait(world.pool, EVWORK_DRAIN), 0);
	expect_dropped(&running);
	expect_dropped(&queued);
	ck_assert(!pthread_equal(running.drop_thread, pthread_self()));
	ck_assert_int_eq(plain.dones, 0);
	ck_assert_int_eq(atomic_load(&plain.runs), 1);
	ck_assert_int_eq(timer.calls + watch.calls, 0);
	expect_account(&world, 4, 4);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* A job that is cancelled after its loop is gone is dropped by who cancels it, whether by a
 * call, its context or the pool; so nothing waits for the loop (S-SHUT-11). */
START_TEST(force_then_cancel)
{
	struct cargo running, queued;
	struct evwork_ctx *ctx;
	struct world world;
	struct gate gate;

	world_open(&world, 1);
	gate_init(&gate);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	load(&running, &world, &gate);
	gate_await(&gate, 1);
	probe_init(&queued.probe, 0);
	queued.probe.job.drop = on_drop;
	queued.probe.job.ctx = ctx;
	atomic_store(&queued.drops, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &queued.probe.job), 0);
	ck_assert_int_eq(sink(&world), 2);
	if (_i == 0)
		ck_assert_int_eq(evwork_cancel(&queued.probe.job), 0);
	else if (_i == 1)
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	else
		ck_assert_int_eq(evwork_pool_close(world.pool, EVWORK_CANCEL_QUEUED, NULL, NULL,
			NULL), 0);
	expect_dropped(&queued);
	ck_assert_int_eq(queued.drop_ran, 0);
	evwork_ctx_unref(ctx);
	gate_open(&gate);
	ck_assert_int_eq(evwork_pool_close_wait(world.pool, EVWORK_CANCEL_ALL), 0);
	expect_dropped(&running);
	expect_account(&world, 2, 2);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* An abandoned job is dropped once, after its work has returned: before its done was
 * delivered, after that, and if both mails lay in the box (S-SHUT-11, S-POOL-14). */
START_TEST(force_abandoned)
{
	struct cargo running;
	struct world world;
	struct gate gate;

	world_open(&world, 1);
	gate_init(&gate);
	probe_init(&running.probe, 0);
	running.probe.job.drop = on_drop;
	running.probe.on_run = pass_gate;
	running.gate = &gate;
	atomic_store(&running.drops, 0);
	ck_assert_int_eq(evwork_job_set_detach(&running.probe.job, 1), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &running.probe.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_cancel(&running.probe.job), -EBUSY);
	if (_i == 1)
		world_run_until(&world, &running.probe.dones, 1);
	if (_i == 2) {
		gate_open(&gate);
		while (evwork_pool_running(world.pool, NULL, 0) > 0)
			sys_yield();
	}
	sink(&world);
	ck_assert_int_eq(atomic_load(&running.drops), _i == 2 ? 1 : 0);
	gate_open(&gate);
	ck_assert_int_eq(evwork_pool_close_wait(world.pool, EVWORK_DRAIN), 0);
	ck_assert_int_eq(atomic_load(&running.drops), 1);
	ck_assert_int_eq(running.probe.dones, _i == 1 ? 1 : 0);
	expect_account(&world, 1, _i == 1 ? 0 : 1);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* From inside callbacks. */

struct wreck {
	struct probe probe;
	struct support_timer timer;
	struct support_watch watch;
	struct support_post post;
	struct world *world;
	int rc, again;
};

static void wreck_it(struct wreck *wreck)
{
	wreck->rc = evwork_loop_free_force(wreck->world->loop);
	wreck->again = evwork_loop_free_force(wreck->world->loop);
}

static void wreck_in_done(struct probe *probe)
{
	wreck_it(EVWORK_CONTAINER(probe, struct wreck, probe));
}

static void wreck_in_timer(struct support_timer *timer)
{
	wreck_it(EVWORK_CONTAINER(timer, struct wreck, timer));
}

static void wreck_in_watch(struct support_watch *watch)
{
	wreck_it(EVWORK_CONTAINER(watch, struct wreck, watch));
}

static void wreck_in_post(struct support_post *post)
{
	wreck_it(EVWORK_CONTAINER(post, struct wreck, post));
}

/* A callback of the loop may free it by force: it is the last one, and the base runs out
 * (S-SHUT-11, S-GEN-5). */
START_TEST(force_in_callback)
{
	struct cargo running, later;
	struct wreck wreck;
	struct world world;
	struct gate gate;

	memset(&wreck, 0, sizeof(wreck));
	world_open(&world, 2);
	gate_init(&gate);
	load(&running, &world, &gate);
	gate_await(&gate, 1);
	wreck.world = &world;
	probe_init(&wreck.probe, 0);
	wreck.probe.job.drop = on_drop;
	support_timer_init(&wreck.timer, world.loop);
	support_watch_init(&wreck.watch);
	support_post_init(&wreck.post);
	if (_i == 0) {
		wreck.probe.on_done = wreck_in_done;
		wreck.probe.job.drop = NULL;
		ck_assert_int_eq(evwork_submit(world.loop, &wreck.probe.job), 0);
	} else if (_i == 1) {
		wreck.timer.on = wreck_in_timer;
		ck_assert_int_eq(evwork_timer_start(world.loop, &wreck.timer.timer, 0), 0);
	} else if (_i == 2) {
		wreck.watch.on = wreck_in_watch;
		ck_assert_int_eq(evwork_ctx_after(NULL, world.loop, &wreck.watch.watch), 0);
		ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	} else {
		wreck.post.on = wreck_in_post;
		ck_assert_int_eq(evwork_post(world.loop, support_post_fn, &wreck.post), 0);
	}
	if (_i == 3)
		ck_assert_int_eq(evwork_post(world.loop, never_called, NULL), 0);
	if (_i != 2)
		load(&later, &world, &gate);
	world_run(&world);
	ck_assert_int_ge(wreck.rc, 1);
	ck_assert_int_eq(wreck.again, -EBUSY);
	event_base_free(world.base);
	world.base = NULL;
	world.loop = NULL;
	gate_open(&gate);
	ck_assert_int_eq(evwork_pool_close_wait(world.pool, EVWORK_DRAIN), 0);
	expect_dropped(&running);
	if (_i != 2)
		expect_dropped(&later);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

static void force_in_done_of_abandoned(struct probe *probe)
{
	struct world *world = probe->arg;

	ck_assert_int_eq(evwork_loop_free_force(world->loop), 1);
	world->loop = NULL;
}

/* The done of an abandoned job may free the loop by force; the drop comes once
 * (S-SHUT-11, S-POOL-14). */
START_TEST(force_in_abandoned_done)
{
	struct cargo running;
	struct world world;
	struct gate gate;

	world_open(&world, 1);
	gate_init(&gate);
	probe_init(&running.probe, 0);
	running.probe.job.drop = on_drop;
	running.probe.on_run = pass_gate;
	running.probe.on_done = force_in_done_of_abandoned;
	running.probe.arg = &world;
	running.gate = &gate;
	atomic_store(&running.drops, 0);
	ck_assert_int_eq(evwork_job_set_detach(&running.probe.job, 1), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &running.probe.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_cancel(&running.probe.job), -EBUSY);
	if (_i) {
		gate_open(&gate);
		while (evwork_pool_running(world.pool, NULL, 0) > 0)
			sys_yield();
	}
	world_run(&world);
	event_base_free(world.base);
	world.base = NULL;
	ck_assert_int_eq(running.probe.dones, 1);
	gate_open(&gate);
	ck_assert_int_eq(evwork_pool_close_wait(world.pool, EVWORK_DRAIN), 0);
	ck_assert_int_eq(atomic_load(&running.drops), 1);
	expect_account(&world, 1, 0);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* Pools. */

/* A pool whose closed callback the loop was to call closes without it, posted already or
 * not, within bounds or not, and can be freed (S-SHUT-11, S-SHUT-6). */
START_TEST(force_closing_pool)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct evwork_close_options close = { .mode = EVWORK_DRAIN, .deadline_ms = 3600000,
		.fn = never_closed };
	struct gate_job blocker;
	struct evwork_pool *pool;
	struct world world, other;
	struct gate gate;
	bool posted = _i % 2;

	world_open(&world, 1);
	world_open(&other, 1);
	gate_init(&gate);
	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	gate_job_init(&blocker, &gate);
	blocker.job.lane = evwork_pool_lane(pool);
	if (!posted) {
		ck_assert_int_eq(evwork_submit(other.loop, &blocker.job), 0);
		gate_await(&gate, 1);
	}
	close.loop = world.loop;
	if (_i / 2)
		ck_assert_int_eq(evwork_pool_close_by(pool, &close), 0);
	else
		ck_assert_int_eq(evwork_pool_close(pool, EVWORK_DRAIN, world.loop, never_closed, NULL),
			0);
	while (posted && evwork_pool_left(pool, NULL, 0) == 0) {
		struct evwork_pool_stats stats;

		ck_assert_int_eq(evwork_pool_stats(pool, &stats), 0);
		if (stats.threads == 0)
			break;
		sys_yield();
	}
	ck_assert_int_eq(sink(&world), 1);
	if (!posted) {
		ck_assert_int_eq(evwork_pool_free(pool), -EBUSY);
		ck_assert_int_eq(evwork_pool_close(pool, EVWORK_CANCEL_ALL, NULL, NULL, NULL), 0);
		gate_open(&gate);
		world_run(&other);
		ck_assert_int_eq(blocker.status, 0);
		while (evwork_pool_free(pool) == -EBUSY)
			sys_yield();
	} else {
		while (evwork_pool_close(pool, EVWORK_CANCEL_ALL, NULL, NULL, NULL) == -EALREADY)
			;
		while (evwork_pool_free(pool) == -EBUSY)
			sys_yield();
	}
	world_close(&world);
	world_close(&other);
	gate_fini(&gate);
}
END_TEST

/* Others. */

struct waiter {
	struct world *world;
	struct probe probe;
	struct gate *gate;
	int rc;
};

static void *wait_for_room(void *arg)
{
	struct waiter *waiter = arg;

	waiter->rc = evwork_submit_wait(waiter->world->loop, &waiter->probe.job);
	return NULL;
}

/* A thread that waits for room on behalf of the loop is sent away (S-SHUT-11). */
START_TEST(force_sends_waiters_away)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };
	struct cargo running, queued;
	struct evwork_loop_stats stats;
	struct waiter waiter;
	struct world world;
	struct gate gate;
	pthread_t thread;

	world_open_with(&world, &options, NULL);
	gate_init(&gate);
	load(&running, &world, &gate);
	gate_await(&gate, 1);
	load(&queued, &world, NULL);
	waiter.world = &world;
	waiter.rc = 1;
	probe_init(&waiter.probe, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_room, &waiter), 0);
	do
		ck_assert_int_eq(evwork_loop_stats(world.loop, &stats), 0);
	while (stats.outstanding < 3);
	sink(&world);
	pthread_join(thread, NULL);
	ck_assert_int_eq(waiter.rc, -ESHUTDOWN);
	ck_assert_int_eq(waiter.probe.dones, 0);
	gate_open(&gate);
	ck_assert_int_eq(evwork_pool_close_wait(world.pool, EVWORK_DRAIN), 0);
	expect_dropped(&running);
	expect_dropped(&queued);
	expect_account(&world, 2, 2);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

static void force_elsewhere(void *arg)
{
	struct waiter *waiter = arg;

	waiter->rc = evwork_loop_free_force(waiter->world->loop);
}

/* Without anything outstanding it is free; elsewhere it is EPERM (S-SHUT-11, S-GEN-4). */
START_TEST(force_idle)
{
	struct waiter waiter = { .rc = 1 };
	struct probe probe;
	struct world world;

	ck_assert_int_eq(evwork_loop_free_force(NULL), 0);
	if (_i)
		world_open_manual(&world, 1, 0);
	else
		world_open(&world, 1);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	waiter.world = &world;
	support_elsewhere(force_elsewhere, &waiter);
	ck_assert_int_eq(waiter.rc, -EPERM);
	ck_assert_int_eq(sink(&world), 0);
	expect_account(&world, 1, 0);
	world_close(&world);
}
END_TEST

enum { FLOOD = 600 };

/* Against workers that finish at that moment each job has either its done or its drop,
 * once, and the account is right (S-SHUT-11). */
START_TEST(force_race)
{
	static struct cargo cargo[FLOOD];
	struct evwork_ctx *ctx;
	struct world world;
	int i, dones = 0, dropped = 0;

	world_open(&world, 2);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 3600000, 0, &ctx), 0);
	for (i = 0; i < FLOOD; i++) {
		probe_init(&cargo[i].probe, 0);
		cargo[i].probe.job.drop = i % 3 ? on_drop : NULL;
		cargo[i].probe.job.ctx = i % 2 ? ctx : NULL;
		atomic_store(&cargo[i].drops, 0);
		ck_assert_int_eq(evwork_submit(world.loop, &cargo[i].probe.job), 0);
		if (i > FLOOD / 2 && i % 40 == 0)
			world_turns(&world, 1);
	}
	if (_i % 2)
		world_turns(&world, 1);
	sink(&world);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(evwork_pool_close_wait(world.pool, EVWORK_DRAIN), 0);
	for (i = 0; i < FLOOD; i++) {
		int drops = atomic_load(&cargo[i].drops);

		ck_assert_int_le(cargo[i].probe.dones + drops, 1);
		if (i % 3)
			ck_assert_int_eq(cargo[i].probe.dones + drops, 1);
		dones += cargo[i].probe.dones;
		dropped += !cargo[i].probe.dones;
	}
	ck_assert_int_eq(dones + dropped, FLOOD);
	expect_account(&world, FLOOD, (uint64_t)dropped);
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("shut_force");
	TCase *tcase = support_case(suite, "force");

	tcase_add_test(tcase, force_drops);
	tcase_add_loop_test(tcase, force_then_cancel, 0, 3);
	tcase_add_loop_test(tcase, force_abandoned, 0, 3);
	tcase_add_loop_test(tcase, force_in_callback, 0, 4);
	tcase_add_loop_test(tcase, force_in_abandoned_done, 0, 2);
	tcase_add_loop_test(tcase, force_closing_pool, 0, 4);
	tcase_add_test(tcase, force_sends_waiters_away);
	tcase_add_loop_test(tcase, force_idle, 0, 2);
	tcase_add_loop_test(tcase, force_race, 0, 20);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
