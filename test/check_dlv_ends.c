/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The ends of loops, and what comes before the end of a pool. Over an eventfd and over a
 * pipe.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>
#include <signal.h>

static void ignore(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

struct foreign {
	struct world world;
	struct probe probe;
	struct support_post post;
	int rc;
};

static void count_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	(*(int *)arg)++;
}

static void expect_busy(struct world *world)
{
	ck_assert_int_eq(evwork_loop_free(world->loop), -EBUSY);
}

static void busy_with_job(struct world *world)
{
	struct gate_job blocker;
	struct gate gate;

	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	ck_assert_int_eq(evwork_submit(world->loop, &blocker.job), 0);
	gate_await(&gate, 1);
	expect_busy(world);
	gate_open(&gate);
	world_run(world);
	ck_assert_int_eq(blocker.status, 0);
	gate_fini(&gate);
}

static void busy_with_post(struct world *world)
{
	struct support_post post;

	support_post_init(&post);
	ck_assert_int_eq(evwork_post(world->loop, support_post_fn, &post), 0);
	expect_busy(world);
	world_run(world);
	ck_assert_int_eq(post.calls, 1);
}

static void busy_with_timer(struct world *world)
{
	struct support_timer timer;

	support_timer_init(&timer, NULL);
	ck_assert_int_eq(evwork_timer_start(world->loop, &timer.timer, 3600000), 0);
	expect_busy(world);
	ck_assert_int_eq(evwork_timer_stop(&timer.timer), 0);
}

static void busy_with_deadline_and_watch(struct world *world)
{
	struct support_watch watch;
	struct evwork_ctx *ctx;

	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world->loop, 3600000, 0, &ctx), 0);
	expect_busy(world);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	one_pass(world->base);
	support_watch_init(&watch);
	/* One that is to be called, and one that waits. */
	ck_assert_int_eq(evwork_ctx_after(ctx, world->loop, &watch.watch), 0);
	expect_busy(world);
	one_pass(world->base);
	ck_assert_int_eq(watch.calls, 1);
	ck_assert_int_eq(evwork_ctx_after(NULL, world->loop, &watch.watch), 0);
	expect_busy(world);
	ck_assert_int_eq(evwork_ctx_stop(&watch.watch), 1);
	evwork_ctx_unref(ctx);
}

static void busy_with_hold(struct world *world)
{
	ck_assert_int_eq(evwork_loop_hold(world->loop), 0);
	expect_busy(world);
	ck_assert_int_eq(evwork_loop_release(world->loop), 0);
}

static void busy_with_close(struct world *world)
{
	int closed = 0;

	ck_assert_int_eq(evwork_loop_close(world->loop, count_closed, &closed), 0);
	expect_busy(world);
	world_run(world);
	ck_assert_int_eq(closed, 1);
}

/* A loop with a job, a post, a timer, a deadline, a watch, a hold or its closed callback
 * outstanding is not freed and goes on; without, it is: S-DLV-14. */
START_TEST(free_with_something_outstanding_is_busy)
{
	struct world world;

	if (!world_open_notify(&world, _i, 1))
		return;
	busy_with_job(&world);
	busy_with_post(&world);
	busy_with_timer(&world);
	busy_with_deadline_and_watch(&world);
	busy_with_hold(&world);
	busy_with_close(&world);
	world_close(&world);
}
END_TEST

static void bring_post(void *arg)
{
	struct foreign *foreign = arg;

	foreign->rc = evwork_post(foreign->world.loop, support_post_fn, &foreign->post);
}

/* What a foreign thread brought counts as outstanding, too: S-DLV-14. */
START_TEST(free_with_foreign_posts_is_busy)
{
	struct foreign foreign;

	memset(&foreign, 0, sizeof(foreign));
	if (!world_open_notify(&foreign.world, _i, 1))
		return;
	support_post_init(&foreign.post);
	support_elsewhere(bring_post, &foreign);
	ck_assert_int_eq(foreign.rc, 0);
	ck_assert_int_eq(evwork_loop_free(foreign.world.loop), -EBUSY);
	one_pass(foreign.world.base);
	ck_assert_int_eq(foreign.post.calls, 1);
	world_close(&foreign.world);
}
END_TEST

static void free_elsewhere(void *arg)
{
	struct foreign *foreign = arg;

	foreign->rc = evwork_loop_free(foreign->world.loop);
}

struct foreign_job {
	struct world world;
	struct gate_job blocker;
	int rc, closed, status_at_close;
};

static void submit_blocker(void *arg)
{
	struct foreign_job *foreign = arg;

	foreign->rc = evwork_submit(foreign->world.loop, &foreign->blocker.job);
}

static void note_loop_closed(struct evwork_loop *loop, void *arg)
{
	struct foreign_job *foreign = arg;

	(void)loop;
	foreign->status_at_close = foreign->blocker.status;
	foreign->closed++;
}

/* A loop that closes waits for the job of a foreign thread that still runs, and is not
 * freed before: S-DLV-14, S-SHUT-8. */
START_TEST(close_waits_for_foreign_jobs)
{
	struct foreign_job foreign;
	struct gate gate;
	int i;

	memset(&foreign, 0, sizeof(foreign));
	if (!world_open_notify(&foreign.world, _i, 1))
		return;
	gate_init(&gate);
	gate_job_init(&foreign.blocker, &gate);
	support_elsewhere(submit_blocker, &foreign);
	ck_assert_int_eq(foreign.rc, 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_loop_close(foreign.world.loop, note_loop_closed, &foreign), 0);
	for (i = 0; i < 10; i++)
		one_pass(foreign.world.base);
	ck_assert_int_eq(foreign.closed, 0);
	ck_assert_int_eq(evwork_loop_free(foreign.world.loop), -EBUSY);
	gate_open(&gate);
	world_run_until(&foreign.world, &foreign.closed, 1);
	ck_assert_int_eq(foreign.status_at_close, 0);
	world_close(&foreign.world);
	gate_fini(&gate);
}
END_TEST

/* Only the loop's own thread may free it: S-DLV-14. */
START_TEST(free_elsewhere_is_refused)
{
	struct foreign foreign;

	memset(&foreign, 0, sizeof(foreign));
	if (!world_open_notify(&foreign.world, _i, 1))
		return;
	support_elsewhere(free_elsewhere, &foreign);
	ck_assert_int_eq(foreign.rc, -EPERM);
	probe_init(&foreign.probe, 0);
	ck_assert_int_eq(evwork_submit(foreign.world.loop, &foreign.probe.job), 0);
	world_run(&foreign.world);
	ck_assert_int_eq(foreign.probe.dones, 1);
	world_close(&foreign.world);
}
END_TEST

static int count_event(const struct event_base *base, const struct event *event, void *arg)
{
	(void)base;
	(void)event;
	(*(int *)arg)++;
	return 0;
}

static int count_events(struct event_base *base)
{
	int count = 0;

	ck_assert_int_eq(event_base_foreach_event(base, count_event, &count), 0);
	return count;
}

/* Freeing a loop takes all of its events out of the base, after work, timers and deadlines,
 * and closes its descriptors; the base works on and may be freed: S-DLV-14. */
START_TEST(free_leaves_nothing_in_the_base)
{
	static const struct timeval soon = { 0, 1000 };
	struct event_base *base;
	struct support_timer timer;
	struct evwork_ctx *ctx;
	struct probe probe;
	struct world world;
	int before, fds;

	if (notify_is_missing(_i))
		return;
	base = event_base_new();
	before = count_events(base);
	event_base_free(base);
	ck_assert(world_open_notify(&world, _i, 1));
	base = world.base;
	support_timer_init(&timer, NULL);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 1), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 1, 0, &ctx), 0);
	world_run(&world);
	ck_assert_int_gt(count_events(base), before);
	fds = support_fd_count();
	ck_assert_int_eq(evwork_loop_free(world.loop), 0);
	world.loop = NULL;
	ck_assert_int_eq(count_events(base), before);
	ck_assert_int_lt(support_fd_count(), fds);
	/* The base has a life of its own. */
	ck_assert_int_eq(event_base_dispatch(base), 1);
	ck_assert_int_eq(event_base_once(base, -1, EV_TIMEOUT, ignore, NULL, &soon), 0);
	ck_assert_int_ge(event_base_dispatch(base), 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* Loops come and go on one base: S-DLV-14. */
START_TEST(loops_come_and_go)
{
	struct evwork_loop_options options = { .notify = notify_kinds[_i] };
	struct world world;
	int round;

	if (!world_open_notify(&world, _i, 1))
		return;
	for (round = 0; round < 20; round++) {
		struct evwork_loop *loop;
		struct probe probe;

		ck_assert_int_eq(evwork_loop_new(world.base, world.pool, &options, &loop), 0);
		ck_assert_ptr_eq(evwork_loop_base(loop), world.base);
		ck_assert_ptr_eq(evwork_loop_pool(loop), world.pool);
		probe_init(&probe, round);
		ck_assert_int_eq(evwork_submit(loop, &probe.job), 0);
		world_run(&world);
		ck_assert_int_eq(probe.status, round);
		ck_assert_int_eq(evwork_loop_free(loop), 0);
	}
	world_close(&world);
}
END_TEST

static bool has_asserts(void)
{
#ifdef NDEBUG
	support_note("this build has no assertions");
	return false;
#else
	if (!support_forks()) {
		support_note("not without processes of its own");
		return false;
	}
	return true;
#endif
}

/* A base that is freed before its loop is the caller's error, which builds with assertions
 * report by aborting when the loop is freed: S-DLV-14. */
START_TEST(base_freed_first_is_reported)
{
	struct world world;

	/* The runner expects the signal also where there is nothing to test. */
	if (!world_open_notify(&world, _i, 1))
		raise(SIGABRT);
	event_base_free(world.base);
	evwork_loop_free(world.loop);
}
END_TEST

/* Order of ends. */

#define MEMBERS 40

static struct {
	struct world world;
	struct probe probes[MEMBERS];
	int closed, dones_at_close, dones, runs_at_close;
} closing;

static void count_member(struct probe *probe)
{
	(void)probe;
	closing.dones++;
}

static void note_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
	closing.closed++;
	closing.dones_at_close = closing.dones;
	closing.runs_at_close = atomic_load(&probe_run_counter);
}

/* The closed callback of a pool comes after the done of every job, whether they ran or
 * were cancelled by the close, on the loop of both: S-DLV-15. */
START_TEST(pool_closed_comes_after_all_dones)
{
	enum evwork_close_mode mode = _i / NOTIFY_KINDS ? EVWORK_CANCEL_QUEUED : EVWORK_DRAIN;
	int rounds = 30 / support_slow() + 2, i;

	while (rounds-- > 0) {
		memset(&closing, 0, sizeof(closing));
		atomic_store(&probe_run_counter, 0);
		if (!world_open_notify(&closing.world, _i % NOTIFY_KINDS, 3))
			return;
		for (i = 0; i < MEMBERS; i++) {
			probe_init(&closing.probes[i], 0);
			closing.probes[i].on_done = count_member;
			ck_assert_int_eq(evwork_submit(closing.world.loop, &closing.probes[i].job),
				0);
		}
		ck_assert_int_eq(evwork_pool_close(closing.world.pool, mode, closing.world.loop,
			note_closed, NULL), 0);
		world_run_until(&closing.world, &closing.closed, 1);
		ck_assert_int_eq(closing.dones_at_close, MEMBERS);
		ck_assert_int_eq(closing.runs_at_close, atomic_load(&probe_run_counter));
		if (mode == EVWORK_DRAIN)
			ck_assert_int_eq(closing.runs_at_close, MEMBERS);
		for (i = 0; i < MEMBERS; i++)
			ck_assert_int_eq(closing.probes[i].dones, 1);
		world_run(&closing.world);
		ck_assert_int_eq(closing.closed, 1);
		world_close(&closing.world);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *ends = suite_create("dlv_ends");
	TCase *tcase = support_case(ends, "ends");

	tcase_add_loop_test(tcase, free_with_something_outstanding_is_busy, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, free_with_foreign_posts_is_busy, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, close_waits_for_foreign_jobs, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, free_elsewhere_is_refused, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, free_leaves_nothing_in_the_base, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, loops_come_and_go, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, pool_closed_comes_after_all_dones, 0, 2 * NOTIFY_KINDS);
	if (has_asserts())
		tcase_add_loop_test_raise_signal(tcase, base_freed_first_is_reported, SIGABRT, 0,
			NOTIFY_KINDS);
	return ends;
}

int main(void)
{
	return support_run(suite());
}
