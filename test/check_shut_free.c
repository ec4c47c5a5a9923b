/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The end of a pool for those who wait for it, free it, do so a thousand times, or
 * leave without a word.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>
#include <sched.h>

/* A pool under test beside the world's own, which has no part in it. */
struct dock {
	struct world world;
	struct evwork_pool *pool;
	struct evwork_lane *lane;
	struct gate gate;
	struct gate_job blocker;
	int closed;
};

static void dock_open(struct dock *dock, int workers)
{
	struct evwork_pool_options options = { .threads = workers };

	memset(dock, 0, sizeof(*dock));
	world_open(&dock->world, 1);
	ck_assert_int_eq(evwork_pool_new(&options, &dock->pool), 0);
	dock->lane = evwork_pool_lane(dock->pool);
	gate_init(&dock->gate);
}

/* Holds one worker in the gate. */
static void dock_block(struct dock *dock)
{
	gate_job_init(&dock->blocker, &dock->gate);
	dock->blocker.job.lane = dock->lane;
	ck_assert_int_eq(evwork_submit(dock->world.loop, &dock->blocker.job), 0);
	gate_await(&dock->gate, 1);
}

static void dock_put(struct dock *dock, struct probe *probe)
{
	probe_init(probe, 0);
	probe->job.lane = dock->lane;
	ck_assert_int_eq(evwork_submit(dock->world.loop, &probe->job), 0);
}

static void on_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(*(int *)arg)++;
}

static int dock_shut(struct dock *dock, enum evwork_close_mode mode)
{
	return evwork_pool_close(dock->pool, mode, dock->world.loop, on_closed, &dock->closed);
}

static void dock_close(struct dock *dock)
{
	ck_assert_int_eq(evwork_pool_free(dock->pool), 0);
	world_run(&dock->world);
	world_close(&dock->world);
	gate_fini(&dock->gate);
}

static const enum evwork_close_mode modes[] = {
	EVWORK_DRAIN, EVWORK_CANCEL_QUEUED, EVWORK_CANCEL_ALL
};
#define MODES 3

/* Waiting. */

/* A thread that waits for the end of a pool. */
struct waiter {
	struct evwork_pool *pool;
	enum evwork_close_mode mode;
	pthread_t thread;
	atomic_bool returned;
	int rc;
};

static void *waiter_wait(void *arg)
{
	struct waiter *waiter = arg;

	waiter->rc = evwork_pool_close_wait(waiter->pool, waiter->mode);
	atomic_store(&waiter->returned, true);
	return NULL;
}

static void waiter_init(struct waiter *waiter, struct evwork_pool *pool,
	enum evwork_close_mode mode)
{
	waiter->pool = pool;
	waiter->mode = mode;
	atomic_store(&waiter->returned, false);
	waiter->rc = 1;
}

static void waiter_start(struct waiter *waiter, struct evwork_pool *pool,
	enum evwork_close_mode mode)
{
	waiter_init(waiter, pool, mode);
	ck_assert_int_eq(pthread_create(&waiter->thread, NULL, waiter_wait, waiter), 0);
}

/* Runs the base until the waiter has returned. */
static void waiter_join(struct waiter *waiter, struct world *world)
{
	while (!atomic_load(&waiter->returned))
		world_turns(world, 1);
	pthread_join(waiter->thread, NULL);
}

/* Turns the base until the pool refuses: so the waiter has closed it. */
static void await_closing(struct dock *dock)
{
	struct evwork_lane_options options = { .priority = 0 };
	struct evwork_lane *lane;
	int rc;

	do {
		rc = evwork_lane_new(dock->pool, &options, &lane);
		ck_assert_int_eq(rc == 0 ? evwork_lane_free(lane) : 0, 0);
		sched_yield();
	} while (rc == 0);
	ck_assert_int_eq(rc, -ESHUTDOWN);
}

/* close_wait closes in its mode and returns after the last done, when the pool can be
 * freed (S-SHUT-9, S-SHUT-5, S-SHUT-1). */
START_TEST(wait_closes)
{
	bool drains = modes[_i] == EVWORK_DRAIN;
	struct waiter waiter;
	struct probe probe;
	struct dock dock;

	dock_open(&dock, 1);
	dock_block(&dock);
	dock_put(&dock, &probe);
	waiter_start(&waiter, dock.pool, modes[_i]);
	await_closing(&dock);
	ck_assert(!atomic_load(&waiter.returned));
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	gate_open(&dock.gate);
	waiter_join(&waiter, &dock.world);
	ck_assert_int_eq(waiter.rc, 0);
	ck_assert_int_eq(dock.blocker.status, 0);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.status, drains ? 0 : -ECANCELED);
	dock_close(&dock);
}
END_TEST

/* close_wait returns only after all outcomes were delivered, not when the workers are
 * through (S-SHUT-5, S-SHUT-9). */
START_TEST(wait_for_delivery)
{
	struct waiter waiter;
	struct probe probe;
	struct dock dock;
	int i;

	dock_open(&dock, 1);
	dock_put(&dock, &probe);
	dock_block(&dock);
	gate_open(&dock.gate);
	waiter_start(&waiter, dock.pool, EVWORK_DRAIN);
	await_closing(&dock);
	for (i = 0; i < 1000; i++)
		sched_yield();
	ck_assert(!atomic_load(&waiter.returned));
	ck_assert_int_eq(probe.dones, 0);
	waiter_join(&waiter, &dock.world);
	ck_assert_int_eq(waiter.rc, 0);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(dock.blocker.status, 0);
	dock_close(&dock);
}
END_TEST

/* Any number of threads may wait, with whatever modes, beside a close with a callback;
 * the strongest mode counts, and a pool that has closed keeps nobody (S-SHUT-9,
 * S-SHUT-4). */
START_TEST(wait_many)
{
	struct waiter waiters[6], late;
	struct probe probe;
	struct dock dock;
	int i;

	dock_open(&dock, 1);
	dock_block(&dock);
	dock_put(&dock, &probe);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN), 0);
	for (i = 0; i < 6; i++)
		waiter_start(&waiters[i], dock.pool, modes[i % 2]);
	world_run_until(&dock.world, &probe.dones, 1);
	ck_assert_int_eq(probe.status, -ECANCELED);
	for (i = 0; i < 6; i++)
		ck_assert(!atomic_load(&waiters[i].returned));
	gate_open(&dock.gate);
	for (i = 0; i < 6; i++) {
		waiter_join(&waiters[i], &dock.world);
		ck_assert_int_eq(waiters[i].rc, 0);
	}
	world_run_until(&dock.world, &dock.closed, 1);
	waiter_start(&late, dock.pool, EVWORK_CANCEL_ALL);
	pthread_join(late.thread, NULL);
	ck_assert_int_eq(late.rc, 0);
	ck_assert_int_eq(dock.closed, 1);
	dock_close(&dock);
}
END_TEST

/* A pool without any job needs no loop to turn for close_wait (S-SHUT-9). */
START_TEST(wait_idle)
{
	struct waiter waiter;
	struct dock dock;

	dock_open(&dock, 2);
	waiter_start(&waiter, dock.pool, modes[_i]);
	pthread_join(waiter.thread, NULL);
	ck_assert_int_eq(waiter.rc, 0);
	dock_close(&dock);
}
END_TEST

static void wait_in_run(struct probe *probe)
{
	waiter_wait(probe->arg);
}

/* close_wait is EINVAL if malformed, then EDEADLK on a loop's thread and on a worker of
 * the pool, and the pool stays open (S-SHUT-9, S-GEN-6, S-GEN-4). */
START_TEST(wait_refused)
{
	struct waiter waiter;
	struct probe probe;
	struct dock dock;

	dock_open(&dock, 2);
	ck_assert_int_eq(evwork_pool_close_wait(NULL, EVWORK_DRAIN), -EINVAL);
	ck_assert_int_eq(evwork_pool_close_wait(dock.pool, (enum evwork_close_mode)0), -EINVAL);
	ck_assert_int_eq(evwork_pool_close_wait(dock.pool, (enum evwork_close_mode)4), -EINVAL);
	ck_assert_int_eq(evwork_pool_close_wait(dock.pool, EVWORK_CANCEL_ALL), -EDEADLK);
	waiter_init(&waiter, dock.pool, EVWORK_CANCEL_ALL);
	probe_init(&probe, 0);
	probe.job.lane = dock.lane;
	probe.on_run = wait_in_run;
	probe.arg = &waiter;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &probe.job), 0);
	world_run(&dock.world);
	ck_assert_int_eq(waiter.rc, -EDEADLK);
	dock_put(&dock, &probe);
	world_run(&dock.world);
	ck_assert_int_eq(probe.status, 0);
	dock_close(&dock);
}
END_TEST

/* A worker of another pool may wait for this one's end (S-SHUT-9, S-GEN-6). */
START_TEST(wait_on_other_worker)
{
	struct waiter waiter;
	struct probe probe, queued;
	struct dock dock;

	dock_open(&dock, 1);
	dock_block(&dock);
	dock_put(&dock, &queued);
	waiter_init(&waiter, dock.pool, EVWORK_DRAIN);
	probe_init(&probe, 0);
	probe.on_run = wait_in_run;
	probe.arg = &waiter;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &probe.job), 0);
	await_closing(&dock);
	gate_open(&dock.gate);
	world_run_until(&dock.world, &probe.dones, 1);
	ck_assert_int_eq(waiter.rc, 0);
	ck_assert_int_eq(queued.status, 0);
	dock_close(&dock);
}
END_TEST

/* Freeing. */

/* Freeing a pool is EBUSY while a job is running, queued, or undelivered, cancelled
 * or not; each time it changes nothing, and it is possible at last (S-SHUT-6,
 * S-SHUT-8). */
START_TEST(free_busy)
{
	struct probe queued, cancelled;
	struct dock dock;

	dock_open(&dock, 1);
	dock_block(&dock);
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	dock_put(&dock, &queued);
	dock_put(&dock, &cancelled);
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	ck_assert_int_eq(evwork_cancel(&cancelled.job), 0);
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	gate_open(&dock.gate);
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	world_run(&dock.world);
	ck_assert_int_eq(dock.blocker.status, 0);
	ck_assert_int_eq(queued.status, 0);
	ck_assert_int_eq(cancelled.status, -ECANCELED);
	dock_close(&dock);
}
END_TEST

/* Freeing a pool is EBUSY while an outcome waits for its loop although all work has
 * ended (S-SHUT-8). */
START_TEST(free_undelivered)
{
	struct probe probe;
	struct dock dock;

	dock_open(&dock, 1);
	dock_put(&dock, &probe);
	dock_block(&dock);
	gate_open(&dock.gate);
	while (atomic_load(&probe.runs) == 0)
		sched_yield();
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	world_run_until(&dock.world, &probe.dones, 1);
	world_run(&dock.world);
	ck_assert_int_eq(probe.status, 0);
	dock_close(&dock);
}
END_TEST

/* Freeing a pool is EBUSY until its closed callback has started (S-SHUT-5,
 * S-SHUT-8). */
START_TEST(free_before_closed)
{
	struct dock dock;

	dock_open(&dock, 1);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN), 0);
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	world_run_until(&dock.world, &dock.closed, 1);
	dock_close(&dock);
}
END_TEST

/* A pool that was closed without a callback and has nothing to do is not busy: the
 * only reasons for that are jobs and a callback to come (S-SHUT-1, S-SHUT-6). */
START_TEST(free_closed_without_callback)
{
	struct dock dock;

	dock_open(&dock, 4);
	ck_assert_int_eq(evwork_pool_close(dock.pool, modes[_i], NULL, NULL, NULL), 0);
	ck_assert_int_eq(evwork_pool_free(dock.pool), 0);
	dock.pool = NULL;
	dock_close(&dock);
}
END_TEST

static int dropped;

static void on_drop(struct evwork_job *job)
{
	(void)job;
	dropped++;
}

static void pass_gate(struct probe *probe)
{
	gate_pass(probe->arg);
}

/* Freeing a pool is EBUSY while abandoned work of it runs, and its close waits for that
 * work and its drop (S-SHUT-6, S-POOL-14). */
START_TEST(free_abandoned)
{
	struct probe probe;
	struct dock dock;

	dropped = 0;
	dock_open(&dock, 1);
	probe_init(&probe, 0);
	probe.job.lane = dock.lane;
	probe.job.drop = on_drop;
	probe.on_run = pass_gate;
	probe.arg = &dock.gate;
	ck_assert_int_eq(evwork_job_set_detach(&probe.job, 1), 0);
	ck_assert_int_eq(evwork_submit(dock.world.loop, &probe.job), 0);
	gate_await(&dock.gate, 1);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_CANCEL_ALL), 0);
	world_turns(&dock.world, 1);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.abandoned, 1);
	ck_assert_int_eq(evwork_pool_free(dock.pool), -EBUSY);
	world_turns(&dock.world, 5);
	ck_assert_int_eq(dock.closed, 0);
	gate_open(&dock.gate);
	world_run_until(&dock.world, &dock.closed, 1);
	ck_assert_int_eq(dropped, 1);
	dock_close(&dock);
}
END_TEST

struct freer {
	struct probe probe;
	struct evwork_pool *pool;
	int rc;
};

static void free_in_run(struct probe *probe)
{
	struct freer *freer = EVWORK_CONTAINER(probe, struct freer, probe);

	freer->rc = evwork_pool_free(freer->pool);
}

/* On a worker of the pool freeing it is EDEADLK and changes nothing; a worker of
 * another pool may free it (S-GEN-6, S-SHUT-6). */
START_TEST(free_on_worker)
{
	struct freer own, other;
	struct dock dock;

	dock_open(&dock, 2);
	probe_init(&own.probe, 0);
	own.probe.job.lane = dock.lane;
	own.probe.on_run = free_in_run;
	own.pool = dock.pool;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &own.probe.job), 0);
	world_run(&dock.world);
	ck_assert_int_eq(own.rc, -EDEADLK);
	probe_init(&other.probe, 0);
	other.probe.on_run = free_in_run;
	other.pool = dock.pool;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &other.probe.job), 0);
	world_run(&dock.world);
	ck_assert_int_eq(other.rc, 0);
	dock.pool = NULL;
	dock_close(&dock);
}
END_TEST

/* Rounds. */

static void on_loop_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	(*(int *)arg)++;
}

/* Makes all there is, uses it, closes it in turn by each mode, and frees it. */
static void live_once(int round)
{
	struct probe probes[8];
	struct world world;
	int i, pool_closed = 0, loop_closed = 0;

	world_open(&world, 2);
	for (i = 0; i < 8; i++) {
		probe_init(&probes[i], i);
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	if (round % 4 < MODES)
		ck_assert_int_eq(evwork_pool_close(world.pool, modes[round % 4], world.loop,
			on_closed, &pool_closed), 0);
	if (round % 4 < MODES)
		world_run_until(&world, &pool_closed, 1);
	if (round % 2) {
		ck_assert_int_eq(evwork_loop_close(world.loop, on_loop_closed, &loop_closed), 0);
		world_run_until(&world, &loop_closed, 1);
	}
	world_run(&world);
	for (i = 0; i < 8; i++) {
		ck_assert_int_eq(probes[i].dones, 1);
		ck_assert_int_eq(probes[i].status, probes[i].ran ? i : -ECANCELED);
	}
	world_close(&world);
}

/* A thousand rounds of creating, using, closing and freeing leave threads, descriptors
 * and memory as they were (S-SHUT-10). */
START_TEST(rounds_leave_nothing)
{
	int round, fds = support_fd_count(), threads = support_thread_count();
	size_t blocks = sys_blocks();

	for (round = 0; round < 1000; round++)
		live_once(round);
	while (support_thread_count() > threads)
		sched_yield();
	ck_assert_int_eq(support_fd_count(), fds);
	ck_assert_uint_eq(sys_blocks(), blocks);
}
END_TEST

/* Leaving. */

enum leaving { LEAVE_IDLE, LEAVE_RUNNING, LEAVE_UNDELIVERED, LEAVE_CLOSING, LEAVE_HELD, LEAVINGS };

/* Static, so that nothing of it goes with main's stack while workers still run. */
static struct dock left;
static struct probe left_probes[50];

static _Noreturn void leave_main(enum leaving leaving)
{
	int i;

	/* A hang ends here, and shows as a signal. */
	alarm(60u * (unsigned)support_slow());
	dock_open(&left, 2);
	if (leaving != LEAVE_IDLE)
		dock_block(&left);
	if (leaving != LEAVE_IDLE)
		for (i = 0; i < 50; i++)
			dock_put(&left, &left_probes[i]);
	if (leaving == LEAVE_UNDELIVERED)
		while (atomic_load(&left_probes[49].runs) == 0)
			sched_yield();
	if (leaving == LEAVE_CLOSING)
		dock_shut(&left, EVWORK_DRAIN);
	if (leaving == LEAVE_HELD)
		evwork_loop_hold(left.world.loop);
	exit(0);
}

/* Leaving main without closing anything neither hangs nor crashes, whether workers
 * sleep, run, have outcomes undelivered, or are closing (S-SHUT-13, S-GEN-16). */
START_TEST(leave_without_close)
{
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0)
		leave_main((enum leaving)_i);
	support_await_child(child);
}
END_TEST

static void add_waiting(Suite *suite)
{
	TCase *tcase = support_case(suite, "waiting");

	tcase_add_loop_test(tcase, wait_closes, 0, MODES);
	tcase_add_test(tcase, wait_for_delivery);
	tcase_add_test(tcase, wait_many);
	tcase_add_loop_test(tcase, wait_idle, 0, MODES);
	tcase_add_test(tcase, wait_refused);
	tcase_add_test(tcase, wait_on_other_worker);
}

static void add_freeing(Suite *suite)
{
	TCase *tcase = support_case(suite, "freeing");

	tcase_add_test(tcase, free_busy);
	tcase_add_test(tcase, free_undelivered);
	tcase_add_test(tcase, free_before_closed);
	tcase_add_loop_test(tcase, free_closed_without_callback, 0, MODES);
	tcase_add_test(tcase, free_abandoned);
	tcase_add_test(tcase, free_on_worker);
}

static void add_leaving(Suite *suite)
{
	TCase *tcase = support_case(suite, "leaving");

	tcase_add_test(tcase, rounds_leave_nothing);
	tcase_add_loop_test(tcase, leave_without_close, 0, LEAVINGS);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("shut_free");

	add_waiting(suite);
	add_freeing(suite);
	add_leaving(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
