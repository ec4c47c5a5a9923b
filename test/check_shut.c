/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Closing a pool: the three modes, who may still submit, and escalation. When the
 * closed callback comes is in check_shut_closed.c, waiting and freeing in
 * check_shut_free.c, loops in check_shut_loop.c.
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
	/* What the closed callback saw. */
	int closed, status;
	int dones;                     /* before it */
};

static void dock_open(struct dock *dock, int workers)
{
	struct evwork_pool_options options = { .threads = workers };

	memset(dock, 0, sizeof(*dock));
	dock->workers = workers;
	dock->status = 1;
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

	(void)pool;
	dock->closed++;
	dock->status = status;
	dock->dones = atomic_load(&probe_done_counter);
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

static void expect_untouched(const struct probe *probe)
{
	ck_assert_int_eq(probe->dones, 0);
	ck_assert_int_eq(atomic_load(&probe->runs), 0);
}

static const enum evwork_close_mode modes[] = {
	EVWORK_DRAIN, EVWORK_CANCEL_QUEUED, EVWORK_CANCEL_ALL
};
#define MODES 3

/* The modes. */

/* A running job that looks at itself after the gate. */
struct runner {
	struct probe probe;
	struct gate gate;
	int err;
};

static void look_after_gate(struct probe *probe)
{
	struct runner *runner = EVWORK_CONTAINER(probe, struct runner, probe);

	gate_pass(&runner->gate);
	runner->err = evwork_job_err(&probe->job);
}

static void runner_start(struct runner *runner, struct dock *dock)
{
	gate_init(&runner->gate);
	probe_init(&runner->probe, 7);
	runner->probe.job.lane = dock->lane;
	runner->probe.on_run = look_after_gate;
	runner->err = 1;
	ck_assert_int_eq(evwork_submit(dock->world.loop, &runner->probe.job), 0);
	gate_await(&runner->gate, 1);
}

/* DRAIN runs what is queued; the cancel modes end it in the next turn, not run, and
 * only CANCEL_ALL also tells the running job, whose own result is delivered in each
 * mode (S-SHUT-1). */
START_TEST(close_modes)
{
	static const int errors[MODES] = { 0, 0, -ECANCELED };
	struct probe queued[20];
	struct runner runner;
	struct dock dock;
	int i;

	dock_open(&dock, 1);
	runner_start(&runner, &dock);
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(submit(&dock, &queued[i]), 0);
	ck_assert_int_eq(dock_shut(&dock, modes[_i]), 0);
	ck_assert_int_eq(atomic_load(&probe_done_counter), 0);
	world_turns(&dock.world, 1);
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(queued[i].dones, modes[_i] == EVWORK_DRAIN ? 0 : 1);
	ck_assert_int_eq(runner.probe.dones, 0);
	ck_assert_int_eq(dock.closed, 0);
	gate_open(&runner.gate);
	dock_finish(&dock);
	ck_assert_int_eq(runner.err, errors[_i]);
	expect_end(&runner.probe, 7, 1);
	for (i = 0; i < 20; i++)
		expect_end(&queued[i], modes[_i] == EVWORK_DRAIN ? 0 : -ECANCELED,
			modes[_i] == EVWORK_DRAIN);
	dock_close(&dock);
	gate_fini(&runner.gate);
}
END_TEST

/* DRAIN runs hundreds of queued jobs of several lanes on several workers before the
 * pool is closed (S-SHUT-1, S-SHUT-5). */
START_TEST(close_drains_many)
{
	static struct probe probes[900];
	struct evwork_lane_options options = { .max_running = 1, .priority = 1 };
	struct evwork_lane *lanes[3];
	struct dock dock;
	int i;

	dock_open(&dock, 3);
	lanes[0] = dock.lane;
	for (i = 1; i < 3; i++)
		ck_assert_int_eq(evwork_lane_new(dock.pool, &options, &lanes[i]), 0);
	dock_block(&dock);
	for (i = 0; i < 900; i++) {
		probe_init(&probes[i], 0);
		probes[i].job.lane = lanes[i % 3];
		ck_assert_int_eq(evwork_submit(dock.world.loop, &probes[i].job), 0);
	}
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN), 0);
	dock_finish(&dock);
	for (i = 0; i < 900; i++)
		expect_end(&probes[i], 0, 1);
	ck_assert_int_eq(dock.dones, 900);
	dock_close(&dock);
}
END_TEST

/* Who may still submit. */

struct outsider {
	struct dock *dock;
	struct probe probe;
	int rc, wait_rc;
};

static void *submit_outside(void *arg)
{
	struct outsider *outsider = arg;

	outsider->rc = submit(outsider->dock, &outsider->probe);
	outsider->wait_rc = evwork_submit_wait(outsider->dock->world.loop, &outsider->probe.job);
	return NULL;
}

static void expect_refused_outside(struct dock *dock)
{
	struct outsider outsider = { .dock = dock };
	struct evwork_lane_options options = { .priority = 0 };
	struct evwork_lane *lane = NULL;
	struct probe probe;
	pthread_t thread;

	ck_assert_int_eq(submit(dock, &probe), -ESHUTDOWN);
	ck_assert_int_eq(evwork_lane_new(dock->pool, &options, &lane), -ESHUTDOWN);
	ck_assert_ptr_null(lane);
	ck_assert_int_eq(pthread_create(&thread, NULL, submit_outside, &outsider), 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(outsider.rc, -ESHUTDOWN);
	ck_assert_int_eq(outsider.wait_rc, -ESHUTDOWN);
	world_turns(&dock->world, 2);
	expect_untouched(&probe);
	expect_untouched(&outsider.probe);
}

/* From the first close on submit, submit_wait and new lanes from outside give
 * ESHUTDOWN, in each mode, while the pool closes and after it has (S-SHUT-2). */
START_TEST(close_refuses)
{
	struct evwork_lane_stats stats;
	struct dock dock;

	dock_open(&dock, 1);
	dock_block(&dock);
	ck_assert_int_eq(dock_shut(&dock, modes[_i]), 0);
	expect_refused_outside(&dock);
	dock_finish(&dock);
	expect_refused_outside(&dock);
	ck_assert_int_eq(evwork_lane_stats(dock.lane, &stats), 0);
	ck_assert_uint_eq(stats.refused_closed, 6);
	ck_assert_int_eq(dock.blockers[0].status, 0);
	dock_close(&dock);
}
END_TEST

/* Work that submits the next job of a chain. */
struct chained {
	struct probe probe;
	struct dock *dock;
	struct chained *next;
	int rc;
};

static void submit_next(struct probe *probe)
{
	struct chained *chained = EVWORK_CONTAINER(probe, struct chained, probe);

	if (chained->next)
		chained->rc = evwork_submit(chained->dock->world.loop,
			&chained->next->probe.job);
}

static void chain_init(struct chained *chain, int n, struct dock *dock)
{
	int i;

	for (i = 0; i < n; i++) {
		probe_init(&chain[i].probe, 0);
		chain[i].probe.job.lane = dock->lane;
		chain[i].probe.on_run = submit_next;
		chain[i].dock = dock;
		chain[i].next = i + 1 < n ? &chain[i + 1] : NULL;
		chain[i].rc = 1;
	}
}

/* While a pool drains, its own workers may still submit, and what they submit may do
 * the same; all of it runs before the pool has closed (S-SHUT-2). */
START_TEST(close_drain_own_workers)
{
	struct chained chain[30];
	struct dock dock;
	int i;

	dock_open(&dock, 2);
	dock_block(&dock);
	chain_init(chain, 30, &dock);
	ck_assert_int_eq(evwork_submit(dock.world.loop, &chain[0].probe.job), 0);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN), 0);
	dock_finish(&dock);
	for (i = 0; i < 30; i++) {
		expect_end(&chain[i].probe, 0, 1);
		ck_assert_int_eq(chain[i].rc, i < 29 ? 0 : 1);
	}
	ck_assert_int_eq(dock.dones, 30);
	dock_close(&dock);
}
END_TEST

/* While a pool drains, the worker of another pool is outside, and so is a done
 * (S-SHUT-2). */
START_TEST(close_drain_others)
{
	struct chained chain[2], from_done[2];
	struct dock dock;

	dock_open(&dock, 1);
	dock_block(&dock);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN), 0);
	chain_init(chain, 2, &dock);
	chain[0].probe.job.lane = NULL;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &chain[0].probe.job), 0);
	chain_init(from_done, 2, &dock);
	from_done[0].probe.job.lane = NULL;
	from_done[0].probe.on_run = NULL;
	from_done[0].probe.on_done = submit_next;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &from_done[0].probe.job), 0);
	world_run_until(&dock.world, &from_done[0].probe.dones, 1);
	world_run_until(&dock.world, &chain[0].probe.dones, 1);
	ck_assert_int_eq(chain[0].rc, -ESHUTDOWN);
	ck_assert_int_eq(from_done[0].rc, -ESHUTDOWN);
	expect_untouched(&chain[1].probe);
	expect_untouched(&from_done[1].probe);
	dock_finish(&dock);
	dock_close(&dock);
}
END_TEST

/* A job that waits in a gate of its own and then submits. */
struct held {
	struct chained chained;
	struct gate gate;
};

static void hold_then_submit(struct probe *probe)
{
	struct held *held = EVWORK_CONTAINER(probe, struct held, chained.probe);

	gate_pass(&held->gate);
	submit_next(probe);
}

/* In the cancel modes nothing new is accepted from anywhere, the pool's own workers
 * included (S-SHUT-2). */
START_TEST(close_cancel_own_workers)
{
	struct chained next;
	struct held held;
	struct dock dock;

	dock_open(&dock, 1);
	chain_init(&next, 1, &dock);
	chain_init(&held.chained, 1, &dock);
	gate_init(&held.gate);
	held.chained.next = &next;
	held.chained.probe.on_run = hold_then_submit;
	ck_assert_int_eq(evwork_submit(dock.world.loop, &held.chained.probe.job), 0);
	gate_await(&held.gate, 1);
	ck_assert_int_eq(dock_shut(&dock, modes[_i]), 0);
	gate_open(&held.gate);
	dock_finish(&dock);
	ck_assert_int_eq(held.chained.rc, -ESHUTDOWN);
	expect_end(&held.chained.probe, 0, 1);
	expect_untouched(&next.probe);
	dock_close(&dock);
	gate_fini(&held.gate);
}
END_TEST

/* Closing again. */

static int second_closed;

static void on_second_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
	second_closed++;
}

static int shut_again(struct dock *dock, enum evwork_close_mode mode)
{
	return evwork_pool_close(dock->pool, mode, dock->world.loop, on_second_closed, dock);
}

/* A stronger mode escalates and takes effect at once, the same or a weaker one is
 * EALREADY and changes nothing; only the first callback is called, once
 * (S-SHUT-4). */
START_TEST(close_escalates)
{
	struct runner runner;
	struct probe queued;
	struct dock dock;

	second_closed = 0;
	dock_open(&dock, 1);
	runner_start(&runner, &dock);
	ck_assert_int_eq(submit(&dock, &queued), 0);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN), 0);
	ck_assert_int_eq(shut_again(&dock, EVWORK_DRAIN), -EALREADY);
	world_turns(&dock.world, 2);
	ck_assert_int_eq(queued.dones, 0);
	ck_assert_int_eq(shut_again(&dock, EVWORK_CANCEL_QUEUED), 0);
	ck_assert_int_eq(shut_again(&dock, EVWORK_CANCEL_QUEUED), -EALREADY);
	ck_assert_int_eq(shut_again(&dock, EVWORK_DRAIN), -EALREADY);
	world_turns(&dock.world, 1);
	expect_end(&queued, -ECANCELED, 0);
	ck_assert_int_eq(evwork_pool_close(dock.pool, EVWORK_CANCEL_ALL, NULL, NULL, NULL), 0);
	ck_assert_int_eq(shut_again(&dock, EVWORK_CANCEL_ALL), -EALREADY);
	ck_assert_int_eq(shut_again(&dock, EVWORK_CANCEL_QUEUED), -EALREADY);
	ck_assert_int_eq(shut_again(&dock, EVWORK_DRAIN), -EALREADY);
	gate_open(&runner.gate);
	dock_finish(&dock);
	ck_assert_int_eq(runner.err, -ECANCELED);
	expect_end(&runner.probe, 7, 1);
	ck_assert_int_eq(shut_again(&dock, EVWORK_CANCEL_ALL), -EALREADY);
	dock_close(&dock);
	ck_assert_int_eq(second_closed, 0);
	gate_fini(&runner.gate);
}
END_TEST

/* A drain escalates to CANCEL_ALL in one step: queued jobs end and the running one is
 * told (S-SHUT-4). */
START_TEST(close_escalates_at_once)
{
	struct runner runner;
	struct probe queued;
	struct dock dock;

	second_closed = 0;
	dock_open(&dock, 1);
	runner_start(&runner, &dock);
	ck_assert_int_eq(submit(&dock, &queued), 0);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN), 0);
	ck_assert_int_eq(shut_again(&dock, EVWORK_CANCEL_ALL), 0);
	world_turns(&dock.world, 1);
	expect_end(&queued, -ECANCELED, 0);
	gate_open(&runner.gate);
	dock_finish(&dock);
	ck_assert_int_eq(runner.err, -ECANCELED);
	dock_close(&dock);
	ck_assert_int_eq(second_closed, 0);
	gate_fini(&runner.gate);
}
END_TEST

/* A stronger close of a pool that has come to its end, but has not said so yet, is
 * accepted and changes nothing: the callback comes once (S-SHUT-4, S-SHUT-5). */
START_TEST(close_escalates_after_the_end)
{
	struct evwork_pool_stats stats;
	struct dock dock;

	second_closed = 0;
	dock_open(&dock, 2);
	ck_assert_int_eq(dock_shut(&dock, EVWORK_DRAIN), 0);
	do {
		sys_yield();
		ck_assert_int_eq(evwork_pool_stats(dock.pool, &stats), 0);
	} while (stats.threads > 0);
	ck_assert_int_eq(shut_again(&dock, EVWORK_CANCEL_QUEUED), 0);
	ck_assert_int_eq(shut_again(&dock, EVWORK_CANCEL_ALL), 0);
	dock_finish(&dock);
	world_turns(&dock.world, 3);
	ck_assert_int_eq(dock.closed, 1);
	dock_close(&dock);
	ck_assert_int_eq(second_closed, 0);
}
END_TEST

/* No pool, no mode and a callback without a loop are EINVAL; a callback on a loop that
 * closes is ESHUTDOWN; after each of them the pool is open as before (S-SHUT-1,
 * S-GEN-8). */
START_TEST(close_malformed)
{
	struct evwork_loop *loop;
	struct event_base *base;
	struct probe probe;
	struct dock dock;

	dock_open(&dock, 1);
	base = event_base_new();
	ck_assert_int_eq(evwork_loop_new(base, NULL, NULL, &loop), 0);
	ck_assert_int_eq(evwork_loop_close(loop, NULL, NULL), 0);
	ck_assert_int_eq(evwork_pool_close(NULL, EVWORK_DRAIN, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(dock_shut(&dock, (enum evwork_close_mode)0), -EINVAL);
	ck_assert_int_eq(dock_shut(&dock, (enum evwork_close_mode)4), -EINVAL);
	ck_assert_int_eq(evwork_pool_close(dock.pool, EVWORK_DRAIN, NULL, on_closed, &dock),
		-EINVAL);
	ck_assert_int_eq(evwork_pool_close(dock.pool, EVWORK_DRAIN, loop, on_closed, &dock),
		-ESHUTDOWN);
	ck_assert_int_eq(submit(&dock, &probe), 0);
	world_run(&dock.world);
	expect_end(&probe, 0, 1);
	ck_assert_int_eq(dock.closed, 0);
	ck_assert_int_ge(event_base_loop(base, EVLOOP_NONBLOCK), 0);
	ck_assert_int_eq(evwork_loop_free(loop), 0);
	event_base_free(base);
	dock_close(&dock);
}
END_TEST

/* What a worker that stops submits. */
struct last_words {
	struct world world;
	struct evwork_pool *pool;
	struct probe probe;
	atomic_int rc;
	int closed;
};

static void submit_on_stop(int worker, void *arg)
{
	struct last_words *last = arg;

	(void)worker;
	atomic_store(&last->rc, evwork_submit(last->world.loop, &last->probe.job));
}

static void count_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct last_words *last = arg;

	(void)pool;
	(void)status;
	last->closed++;
}

/* A submit from on_stop is refused with ESHUTDOWN, in every mode, although workers may
 * submit while their pool drains: S-SHUT-2. */
START_TEST(close_refuses_on_stop)
{
	struct last_words last;
	struct evwork_pool_options options = {
		.threads = 1, .on_stop = submit_on_stop, .hook_arg = &last
	};

	memset(&last, 0, sizeof(last));
	world_open(&last.world, 1);
	ck_assert_int_eq(evwork_pool_new(&options, &last.pool), 0);
	probe_init(&last.probe, 0);
	last.probe.job.lane = evwork_pool_lane(last.pool);
	ck_assert_int_eq(evwork_pool_close(last.pool, modes[_i], last.world.loop, count_closed,
		&last), 0);
	world_run_until(&last.world, &last.closed, 1);
	ck_assert_int_eq(evwork_pool_free(last.pool), 0);
	ck_assert_int_eq(atomic_load(&last.rc), -ESHUTDOWN);
	world_run(&last.world);
	expect_untouched(&last.probe);
	ck_assert_int_eq(last.closed, 1);
	world_close(&last.world);
}
END_TEST

static void add_modes(Suite *suite)
{
	TCase *tcase = support_case(suite, "modes");

	tcase_add_loop_test(tcase, close_modes, 0, MODES);
	tcase_add_test(tcase, close_drains_many);
	tcase_add_loop_test(tcase, close_refuses, 0, MODES);
	tcase_add_loop_test(tcase, close_refuses_on_stop, 0, MODES);
	tcase_add_test(tcase, close_drain_own_workers);
	tcase_add_test(tcase, close_drain_others);
	tcase_add_loop_test(tcase, close_cancel_own_workers, 1, MODES);
	tcase_add_test(tcase, close_escalates);
	tcase_add_test(tcase, close_escalates_at_once);
	tcase_add_test(tcase, close_escalates_after_the_end);
	tcase_add_test(tcase, close_malformed);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("shut");

	add_modes(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
