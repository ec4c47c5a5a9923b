/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The end of a closing pool: when the closed callback comes and what has ended by
 * then, from where a pool may be closed, and closes that race with submits.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

enum { WORKERS_MAX = 4 };

/* A pool under test beside the world's own, which has no part in it; so the pool can
 * be closed and freed while the loop lives. */
struct dock {
	struct world world;
	struct evwork_pool *pool;
	struct evwork_lane *lane;
	int workers;
	struct gate gate;
	struct gate_job blockers[WORKERS_MAX];
	atomic_int stops;              /* workers that have run their stop hook */
	/* What the closed callback saw. */
	int closed, status;
	int dones, stopped;            /* dones and stops before it */
	pthread_t thread;
	int free_rc;                   /* of freeing the pool in it */
	bool frees;
};

static void dock_stop(int worker, void *arg)
{
	struct dock *dock = arg;

	(void)worker;
	atomic_fetch_add(&dock->stops, 1);
}

static void dock_open(struct dock *dock, int workers)
{
	struct evwork_pool_options options = {
		.threads = workers, .on_stop = dock_stop, .hook_arg = dock
	};

	memset(dock, 0, sizeof(*dock));
	dock->workers = workers;
	dock->status = dock->free_rc = 1;
	world_open(&dock->world, 1);
	ck_assert_int_eq(evwork_pool_new(&options, &dock->pool), 0);
	dock->lane = evwork_pool_lane(dock->pool);
	gate_init(&dock->gate);
}

/* Holds all workers in the gate. */
static void dock_block(struct dock *dock)
{
	int i;

	for (i = 0; i < dock->workers; i++) {
		gate_job_init(&dock->blockers[i], &dock->gate);
		dock->blockers[i].job.lane = dock->lane;
		ck_assert_int_eq(evwork_submit(dock->world.loop, &dock->blockers[i].job), 0);
	}
	gate_await(&dock->gate, dock->workers);
}

static int submit(struct dock *dock, struct probe *probe)
{
	probe_init(probe, 0);
	probe->job.lane = dock->lane;
	return evwork_submit(dock->world.loop, &probe->job);
}

static void on_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct dock *dock = arg;

	dock->closed++;
	dock->status = status;
	dock->dones = atomic_load(&probe_done_counter);
	dock->stopped = atomic_load(&dock->stops);
	dock->thread = pthread_self();
	if (dock->frees) {
		dock->free_rc = evwork_pool_free(pool);
		dock->pool = NULL;
	}
}

static int dock_shut(struct dock *dock, enum evwork_close_mode mode)
{
	return evwork_pool_close(dock->pool, mode, dock->world.loop, on_closed, dock);
}

/* Lets all go on and runs the base until the pool has closed. */
static void dock_finish(struct dock *dock)
{
	gate_open(&dock->gate);
	world_run_until(&dock->world, &dock->closed, 1);
	ck_assert_int_eq(dock->closed, 1);
	ck_assert_int_eq(dock->status, 0);
}

static void dock_close(struct dock *dock)
{
	ck_assert_int_eq(evwork_pool_free(dock->pool), 0);
	world_run(&dock->world);
	ck_assert_int_le(dock->closed, 1);
	world_close(&dock->world);
	gate_fini(&dock->gate);
}

static void expect_end(const struct probe *probe, int status, int runs)
{
	ck_assert_int_eq(probe->dones, 1);
	ck_assert_int_eq(probe->status, status);
	ck_assert_int_eq(probe->ran, runs);
	ck_assert_int_eq(atomic_load(&probe->runs), runs);
}

static const enum evwork_close_mode modes[] = {
	EVWORK_DRAIN, EVWORK_CANCEL_QUEUED, EVWORK_CANCEL_ALL
};
#define MODES 3

/* The closed callback. */

/* The callback comes on its loop's thread in a later turn, also if the pool was idle,
 * and after every worker has run its stop hook (S-SHUT-5, S-GEN-3). */
START_TEST(closed_after_workers)
{
	struct dock dock;

	dock_open(&dock, 4);
	ck_assert_int_eq(dock_shut(&dock, modes[_i]), 0);
	ck_assert_int_eq(dock.closed, 0);
	dock_finish(&dock);
	ck_assert(pthread_equal(dock.thread, pthread_self()));
	ck_assert_int_eq(dock.stopped, 4);
	dock_close(&dock);
}
END_TEST

static int threads_before;

static void await_threads(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	/* A joined thread is gone for the program before it is for the kernel. */
	while (support_thread_count() > threads_before)
		sys_yield();
	(*(int *)arg)++;
}

/* When the callback comes, the threads of the pool are gone, not only idle
 * (S-SHUT-5). */
START_TEST(closed_threads_gone)
{
	struct evwork_pool_options options = { .threads = 4 };
	struct evwork_pool *pool;
	struct world world;
	int closed = 0;

	world_open(&world, 1);
	threads_before = support_thread_count();
	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	ck_assert_int_eq(evwork_pool_close(pool, EVWORK_DRAIN, world.loop, await_threads,
		&closed), 0);
	world_run_until(&world, &closed, 1);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	world_close(&world);
}
END_TEST

/* The callback comes after the last done on every loop served: it waits for outcomes
 * that another loop has not delivered yet (S-SHUT-5, S-DLV-15). */
START_TEST(closed_after_all_loops)
{
	struct evwork_loop *loop;
	struct event_base *base;
	struct probe here, there, cancelled;
	struct dock dock;

	dock_open(&dock, 1);
	base = event_base_new();
	ck_assert_int_eq(evwork_loop_new(base, NULL, NULL, &loop), 0);
	probe_init(&there, 0);
	there.job.lane = dock.lane;
	ck_assert_int_eq(evwork_submit(loop, &there.job), 0);
	ck_assert_int_eq(submit(&dock, &here), 0);
	dock_block(&dock);
	probe_init(&cancelled, 0);
	cancelled.job.lane = dock.lane;
	ck_assert_int_eq(evwork_submit(loop, &cancelled.job), 0);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_CANCEL_QUEUED), 0);
	gate_open(&dock.gate);
	world_run_until(&dock.world, &here.dones, 1);
	world_turns(&dock.world, 50);
	ck_assert_int_eq(dock.closed, 0);
	ck_assert_int_eq(there.dones, 0);
	ck_assert_int_ge(event_base_dispatch(base), 0);
	expect_end(&there, 0, 1);
	expect_end(&cancelled, -ECANCELED, 0);
	ck_assert_int_eq(dock.closed, 0);
	dock_finish(&dock);
	ck_assert_int_eq(dock.dones, 3);
	ck_assert_int_eq(evwork_loop_free(loop), 0);
	event_base_free(base);
	dock_close(&dock);
}
END_TEST

/* The pool may be freed in its closed callback (S-SHUT-5, S-GEN-5). */
START_TEST(closed_frees_pool)
{
	struct probe probe;
	struct dock dock;

	dock_open(&dock, 2);
	dock.frees = true;
	ck_assert_int_eq(submit(&dock, &probe), 0);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN), 0);
	dock_finish(&dock);
	ck_assert_int_eq(dock.free_rc, 0);
	expect_end(&probe, 0, 1);
	dock_close(&dock);
}
END_TEST

/* Where a close may come from. */

struct closer {
	struct probe probe;
	struct dock *dock;
	int rc, again, wait_rc;
};

static void close_here(struct probe *probe)
{
	struct closer *closer = EVWORK_CONTAINER(probe, struct closer, probe);

	closer->wait_rc = evwork_pool_close_wait(closer->dock->pool, EVWORK_DRAIN);
	closer->rc = dock_shut(closer->dock, EVWORK_CANCEL_QUEUED);
	closer->again = dock_shut(closer->dock, EVWORK_CANCEL_QUEUED);
}

static void closer_init(struct closer *closer, struct dock *dock)
{
	probe_init(&closer->probe, 3);
	closer->probe.job.lane = dock->lane;
	closer->dock = dock;
	closer->rc = closer->again = closer->wait_rc = 1;
}

/* A pool may be closed from its own work, whose outcome is delivered as usual, and
 * close_wait there is EDEADLK (S-SHUT-9). */
START_TEST(close_from_work)
{
	struct closer closer;
	struct dock dock;

	dock_open(&dock, 1);
	closer_init(&closer, &dock);
	closer.probe.on_run = close_here;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &closer.probe.job), 0);
	dock_finish(&dock);
	ck_assert_int_eq(closer.wait_rc, -EDEADLK);
	ck_assert_int_eq(closer.rc, 0);
	ck_assert_int_eq(closer.again, -EALREADY);
	expect_end(&closer.probe, 3, 1);
	ck_assert_int_eq(dock.dones, 1);
	dock_close(&dock);
}
END_TEST

/* A pool may be closed from the done of its job, and close_wait there is EDEADLK
 * (S-SHUT-9). */
START_TEST(close_from_done)
{
	struct closer closer;
	struct dock dock;

	dock_open(&dock, 1);
	closer_init(&closer, &dock);
	closer.probe.on_done = close_here;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &closer.probe.job), 0);
	dock_finish(&dock);
	ck_assert_int_eq(closer.wait_rc, -EDEADLK);
	ck_assert_int_eq(closer.rc, 0);
	ck_assert_int_eq(closer.again, -EALREADY);
	expect_end(&closer.probe, 3, 1);
	dock_close(&dock);
}
END_TEST

/* Races. */

enum { STRANGERS = 3, EACH = 3000 };

struct stranger {
	struct dock *dock;
	struct probe probes[EACH];
	pthread_t thread;
	atomic_int *reached;      /* submits tried so far, by all */
	int accepted, wrong;
};

static void *stranger_live(void *arg)
{
	struct stranger *stranger = arg;
	int i;

	for (i = 0; i < EACH; i++) {
		int rc = evwork_submit(stranger->dock->world.loop, &stranger->probes[i].job);

		stranger->accepted += rc == 0;
		stranger->wrong += rc != 0 && rc != -ESHUTDOWN && rc != -EAGAIN;
		atomic_fetch_add(stranger->reached, 1);
	}
	return NULL;
}

/* Against a concurrent close each submit is accepted and has one done before the
 * closed callback, or is refused and has none (S-SHUT-3, S-SHUT-5). */
START_TEST(close_race)
{
	static struct stranger strangers[STRANGERS];
	atomic_int reached = 0;
	struct dock dock;
	int i, k, accepted = 0, dones = 0;

	dock_open(&dock, 2);
	for (k = 0; k < STRANGERS; k++) {
		memset(&strangers[k], 0, sizeof(strangers[k]));
		strangers[k].dock = &dock;
		strangers[k].reached = &reached;
		for (i = 0; i < EACH; i++) {
			probe_init(&strangers[k].probes[i], 0);
			strangers[k].probes[i].job.lane = dock.lane;
		}
	}
	for (k = 0; k < STRANGERS; k++)
		ck_assert_int_eq(pthread_create(&strangers[k].thread, NULL, stranger_live,
			&strangers[k]), 0);
	while (atomic_load(&reached) < EACH)
		world_turns(&dock.world, 1);
	ck_assert_int_eq(dock_shut(&dock, modes[_i % MODES]), 0);
	dock_finish(&dock);
	for (k = 0; k < STRANGERS; k++) {
		pthread_join(strangers[k].thread, NULL);
		ck_assert_int_eq(strangers[k].wrong, 0);
		accepted += strangers[k].accepted;
		for (i = 0; i < EACH; i++) {
			const struct probe *probe = &strangers[k].probes[i];

			ck_assert_int_le(probe->dones, 1);
			ck_assert_int_eq(atomic_load(&probe->runs), probe->dones && probe->ran);
			dones += probe->dones;
		}
	}
	ck_assert_int_eq(accepted, dones);
	ck_assert_int_eq(dock.dones, dones);
	dock_close(&dock);
}
END_TEST

static void add_closed(Suite *suite)
{
	TCase *tcase = support_case(suite, "closed");

	tcase_add_loop_test(tcase, closed_after_workers, 0, MODES);
	tcase_add_test(tcase, closed_threads_gone);
	tcase_add_test(tcase, closed_after_all_loops);
	tcase_add_test(tcase, closed_frees_pool);
	tcase_add_test(tcase, close_from_work);
	tcase_add_test(tcase, close_from_done);
	tcase_add_loop_test(tcase, close_race, 0, 4 * MODES);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("shut_closed");

	add_closed(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
