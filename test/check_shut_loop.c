/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Closing and freeing a loop: what it refuses, what it ends in which order, what it
 * waits for, and from where it may be freed.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* What was called back, in order. */
enum { SCRIPT_MAX = 64 };

static struct {
	int names[SCRIPT_MAX], statuses[SCRIPT_MAX];
	int length;
} script;

static void note(int name, int status)
{
	if (script.length < SCRIPT_MAX) {
		script.names[script.length] = name;
		script.statuses[script.length] = status;
	}
	script.length++;
}

static void expect_note(int i, int name, int status)
{
	ck_assert_int_lt(i, script.length);
	ck_assert_int_eq(script.names[i], name);
	ck_assert_int_eq(script.statuses[i], status);
}

struct named_watch {
	struct evwork_watch watch;
	int name;
};

static void on_watch(struct evwork_watch *watch, int status)
{
	note(EVWORK_CONTAINER(watch, struct named_watch, watch)->name, status);
}

struct named_timer {
	struct evwork_timer timer;
	int name;
};

static void on_timer(struct evwork_timer *timer, int status)
{
	note(EVWORK_CONTAINER(timer, struct named_timer, timer)->name, status);
}

static void on_post(void *arg)
{
	note(*(int *)arg, 0);
}

enum { CLOSED = 1000, DONE = 2000 };

static void on_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	note(CLOSED, 0);
	(*(int *)arg)++;
}

static void on_done(struct probe *probe)
{
	note(DONE, probe->status);
}

static void put(struct world *world, struct probe *probe)
{
	probe_init(probe, 0);
	probe->on_done = on_done;
	ck_assert_int_eq(evwork_submit(world->loop, &probe->job), 0);
}

/* Runs the base until the closed callback has come. */
static void finish(struct world *world, int *closed)
{
	world_run_until(world, closed, 1);
	ck_assert_int_eq(*closed, 1);
	ck_assert_int_eq(script.names[script.length - 1], CLOSED);
	world_run(world);
	ck_assert_int_eq(*closed, 1);
}

/* Closing. */

/* Closing ends watches and timers with ECANCELED, none inside the call, in the order
 * in which they were set whatever they are and whenever they were due, and then comes
 * the closed callback, once (S-SHUT-7, S-SHUT-8, S-GEN-3). */
START_TEST(loop_close_order)
{
	struct named_watch watches[6];
	struct named_timer timers[6];
	struct evwork_ctx *ctxs[3];
	struct world world;
	int i, closed = 0;

	script.length = 0;
	world_open(&world, 1);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_ctx_new(NULL, &ctxs[i]), 0);
	for (i = 0; i < 6; i++) {
		evwork_watch_init(&watches[i].watch, on_watch);
		watches[i].name = 2 * i;
		ck_assert_int_eq(evwork_ctx_after(ctxs[(i * 5) % 3], world.loop,
			&watches[i].watch), 0);
		evwork_timer_init(&timers[i].timer, on_timer);
		timers[i].name = 2 * i + 1;
		ck_assert_int_eq(evwork_timer_start(world.loop, &timers[i].timer,
			3600 * (int64_t)(1000 - 100 * i)), 0);
	}
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	ck_assert_int_eq(script.length, 0);
	finish(&world, &closed);
	ck_assert_int_eq(script.length, 13);
	for (i = 0; i < 12; i++)
		expect_note(i, i, -ECANCELED);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(evwork_ctx_err(ctxs[i]), 0);
		evwork_ctx_unref(ctxs[i]);
	}
	world_close(&world);
}
END_TEST

/* Only what is pending is ended: stopped watches and timers are not called, and those
 * that were called before are not called again (S-SHUT-7, S-GEN-2). */
START_TEST(loop_close_pending_only)
{
	struct named_watch stopped_watch, fired_watch;
	struct named_timer stopped_timer, fired_timer;
	struct evwork_ctx *ctx;
	struct world world;
	int closed = 0;

	script.length = 0;
	world_open(&world, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	evwork_watch_init(&stopped_watch.watch, on_watch);
	evwork_watch_init(&fired_watch.watch, on_watch);
	evwork_timer_init(&stopped_timer.timer, on_timer);
	evwork_timer_init(&fired_timer.timer, on_timer);
	fired_watch.name = 1;
	fired_timer.name = 2;
	ck_assert_int_eq(evwork_ctx_after(NULL, world.loop, &stopped_watch.watch), 0);
	ck_assert_int_eq(evwork_ctx_stop(&stopped_watch.watch), 1);
	ck_assert_int_eq(evwork_timer_start(world.loop, &stopped_timer.timer, 100000), 0);
	ck_assert_int_eq(evwork_timer_stop(&stopped_timer.timer), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &fired_watch.watch), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(evwork_timer_start(world.loop, &fired_timer.timer, 0), 0);
	world_run_until(&world, &script.length, 2);
	ck_assert_int_eq(script.length, 2);
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	finish(&world, &closed);
	ck_assert_int_eq(script.length, 3);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* A closing loop waits for its jobs, queued, running and undelivered: each has its own
 * outcome, and the closed callback comes after the last of them (S-SHUT-8). */
START_TEST(loop_close_waits_for_jobs)
{
	struct probe finished, queued, cancelled;
	struct gate_job blocker;
	struct world world;
	struct gate gate;
	int closed = 0;

	script.length = 0;
	gate_init(&gate);
	world_open(&world, 1);
	put(&world, &finished);
	gate_job_init(&blocker, &gate);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	put(&world, &queued);
	put(&world, &cancelled);
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	ck_assert_int_eq(evwork_cancel(&cancelled.job), 0);
	world_run_until(&world, &cancelled.dones, 1);
	world_turns(&world, 5);
	ck_assert_int_eq(closed, 0);
	ck_assert_int_eq(blocker.status, 1);
	gate_open(&gate);
	finish(&world, &closed);
	ck_assert_int_eq(script.length, 4);
	ck_assert_int_eq(finished.status, 0);
	ck_assert_int_eq(blocker.status, 0);
	ck_assert_int_eq(queued.status, 0);
	ck_assert_int_eq(cancelled.status, -ECANCELED);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* The order of a close is waiters, then what still runs, then the callback
 * (S-SHUT-8, S-SHUT-7). */
START_TEST(loop_close_waiters_first)
{
	struct named_watch watch;
	struct named_timer timer;
	struct gate_job blocker;
	struct probe last;
	struct world world;
	struct gate gate;
	int closed = 0;

	script.length = 0;
	gate_init(&gate);
	world_open(&world, 1);
	gate_job_init(&blocker, &gate);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	put(&world, &last);
	evwork_watch_init(&watch.watch, on_watch);
	watch.name = 1;
	ck_assert_int_eq(evwork_ctx_after(NULL, world.loop, &watch.watch), 0);
	evwork_timer_init(&timer.timer, on_timer);
	timer.name = 2;
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 3600000), 0);
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	world_run_until(&world, &script.length, 2);
	expect_note(0, 1, -ECANCELED);
	expect_note(1, 2, -ECANCELED);
	ck_assert_int_eq(closed, 0);
	gate_open(&gate);
	finish(&world, &closed);
	ck_assert_int_eq(script.length, 4);
	expect_note(2, DONE, 0);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* What was posted before the close is delivered before the closed callback
 * (S-SHUT-8). */
START_TEST(loop_close_delivers_posts)
{
	static int names[3] = { 0, 1, 2 };
	struct world world;
	int i, closed = 0;

	script.length = 0;
	world_open(&world, 1);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_post(world.loop, on_post, &names[i]), 0);
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	finish(&world, &closed);
	ck_assert_int_eq(script.length, 4);
	for (i = 0; i < 3; i++)
		expect_note(i, i, 0);
	world_close(&world);
}
END_TEST

/* All that asks a closing loop for something new, asserting that it refuses. */
static void expect_refused(struct world *world)
{
	static int name = 77;
	struct named_watch watch;
	struct named_timer timer;
	struct evwork_ctx *ctx = NULL;
	struct probe probe;
	int closed = 0;

	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world->loop, &probe.job), -ESHUTDOWN);
	ck_assert_int_eq(evwork_post(world->loop, on_post, &name), -ESHUTDOWN);
	evwork_watch_init(&watch.watch, on_watch);
	ck_assert_int_eq(evwork_ctx_after(NULL, world->loop, &watch.watch), -ESHUTDOWN);
	evwork_timer_init(&timer.timer, on_timer);
	ck_assert_int_eq(evwork_timer_start(world->loop, &timer.timer, 0), -ESHUTDOWN);
	ck_assert_int_eq(evwork_timer_start_at(world->loop, &timer.timer, EVWORK_NEVER - 1),
		-ESHUTDOWN);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world->loop, 1000, 0, &ctx), -ESHUTDOWN);
	ck_assert_ptr_null(ctx);
	ck_assert_int_eq(evwork_loop_close(world->loop, on_closed, &closed), -EALREADY);
	world_turns(world, 2);
	ck_assert_int_eq(closed, 0);
	ck_assert_int_eq(probe.dones, 0);
	ck_assert_int_eq(evwork_ctx_stop(&watch.watch), 0);
}

/* From its close on a loop takes nothing new, while it closes and after: job, post,
 * watch, timer, deadline and second close are refused without a trace (S-SHUT-8,
 * S-SHUT-7, S-GEN-2). */
START_TEST(loop_close_refuses)
{
	struct gate_job blocker;
	struct world world;
	struct gate gate;
	int closed = 0;

	script.length = 0;
	gate_init(&gate);
	world_open(&world, 1);
	gate_job_init(&blocker, &gate);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_loop_close(NULL, on_closed, &closed), -EINVAL);
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	expect_refused(&world);
	gate_open(&gate);
	finish(&world, &closed);
	ck_assert_int_eq(script.length, 1);
	expect_refused(&world);
	ck_assert_int_eq(script.length, 1);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* A context whose timer was on the loop outlives it: it is alive, can be cancelled,
 * and still dies of its deadline when it is asked (S-SHUT-7, S-CTX-10, S-CTX-18). */
START_TEST(loop_close_leaves_ctx)
{
	struct evwork_ctx *cancelled, *expired;
	struct world world;
	int closed = 0;

	script.length = 0;
	world_open_manual(&world, 1, SYS_NS_PER_MS);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &cancelled), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &expired), 0);
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	finish(&world, &closed);
	ck_assert_int_eq(evwork_ctx_err(cancelled), 0);
	ck_assert_int_eq(evwork_ctx_err(expired), 0);
	ck_assert_int_eq(evwork_ctx_cancel(cancelled, 0), 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	ck_assert_int_eq(evwork_ctx_err(expired), -ETIMEDOUT);
	evwork_ctx_unref(cancelled);
	evwork_ctx_unref(expired);
	world_close(&world);
}
END_TEST

/* Closing one loop leaves the pool and its other loops alone (S-SHUT-8, S-DLV-12). */
START_TEST(loop_close_one_of_two)
{
	struct evwork_loop *other;
	struct event_base *base;
	struct world world;
	struct probe probe;
	int closed = 0;

	script.length = 0;
	world_open(&world, 1);
	base = event_base_new();
	ck_assert_int_eq(evwork_loop_new(base, world.pool, NULL, &other), 0);
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(other, &probe.job), 0);
	ck_assert_int_ge(event_base_dispatch(base), 0);
	ck_assert_int_eq(probe.status, 0);
	finish(&world, &closed);
	ck_assert_int_eq(evwork_loop_free(other), 0);
	event_base_free(base);
	world_close(&world);
}
END_TEST

/* A job or thread that closes the loop. */
struct closer {
	struct probe probe;
	struct evwork_loop *loop;
	int *closed;
	int rc;
};

static void close_loop(struct probe *probe)
{
	struct closer *closer = EVWORK_CONTAINER(probe, struct closer, probe);

	closer->rc = evwork_loop_close(closer->loop, on_closed, closer->closed);
}

static void *close_on_thread(void *arg)
{
	struct closer *closer = arg;

	close_loop(&closer->probe);
	return NULL;
}

enum origin { FROM_WORK, FROM_DONE, FROM_STRANGER, ORIGINS };

/* A loop may be closed from work, from a done and from a foreign thread; the callback
 * comes on the loop's thread after that job's own done (S-SHUT-9, S-SHUT-8). */
START_TEST(loop_close_from)
{
	struct closer closer = { .rc = 1 };
	struct named_watch watch;
	struct world world;
	pthread_t thread;
	int closed = 0;

	script.length = 0;
	world_open(&world, 1);
	evwork_watch_init(&watch.watch, on_watch);
	watch.name = 5;
	ck_assert_int_eq(evwork_ctx_after(NULL, world.loop, &watch.watch), 0);
	closer.loop = world.loop;
	closer.closed = &closed;
	probe_init(&closer.probe, 0);
	if (_i == FROM_WORK)
		closer.probe.on_run = close_loop;
	else
		closer.probe.on_done = close_loop;
	if (_i == FROM_STRANGER) {
		ck_assert_int_eq(pthread_create(&thread, NULL, close_on_thread, &closer), 0);
		pthread_join(thread, NULL);
	} else {
		ck_assert_int_eq(evwork_submit(world.loop, &closer.probe.job), 0);
	}
	finish(&world, &closed);
	ck_assert_int_eq(closer.rc, 0);
	ck_assert_int_eq(closer.probe.dones, _i == FROM_STRANGER ? 0 : 1);
	expect_note(0, 5, -ECANCELED);
	ck_assert_int_eq(script.length, 2);
	world_close(&world);
}
END_TEST

/* Races. */

enum { EACH = 2000 };

struct stranger {
	struct world *world;
	struct probe probes[EACH];
	atomic_int tried;
	int accepted, posts, wrong;
};

static atomic_int posted;

static void count_post(void *arg)
{
	(void)arg;
	atomic_fetch_add(&posted, 1);
}

static void *stranger_live(void *arg)
{
	struct stranger *stranger = arg;
	int i, rc;

	for (i = 0; i < EACH; i++) {
		rc = evwork_submit(stranger->world->loop, &stranger->probes[i].job);
		stranger->accepted += rc == 0;
		stranger->wrong += rc != 0 && rc != -ESHUTDOWN && rc != -EAGAIN;
		rc = evwork_post(stranger->world->loop, count_post, NULL);
		stranger->posts += rc == 0;
		stranger->wrong += rc != 0 && rc != -ESHUTDOWN;
		atomic_fetch_add(&stranger->tried, 1);
	}
	return NULL;
}

/* Against a concurrent close of the loop each submit and each post is accepted and
 * delivered once before the closed callback, or refused (S-SHUT-3, S-SHUT-8). */
START_TEST(loop_close_race)
{
	static struct stranger stranger;
	struct world world;
	pthread_t thread;
	int i, dones = 0, closed = 0;

	script.length = 0;
	memset(&stranger, 0, sizeof(stranger));
	atomic_store(&posted, 0);
	world_open(&world, 2);
	stranger.world = &world;
	for (i = 0; i < EACH; i++)
		probe_init(&stranger.probes[i], 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, stranger_live, &stranger), 0);
	while (atomic_load(&stranger.tried) < EACH / 4)
		world_turns(&world, 1);
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	world_run_until(&world, &closed, 1);
	for (i = 0; i < EACH; i++)
		dones += stranger.probes[i].dones;
	i = atomic_load(&posted);
	pthread_join(thread, NULL);
	ck_assert_int_eq(stranger.wrong, 0);
	ck_assert_int_eq(stranger.accepted, dones);
	ck_assert_int_eq(stranger.posts, i);
	world_close(&world);
}
END_TEST

/* Freeing. */

static void expect_free_busy(struct world *world)
{
	ck_assert_int_eq(evwork_loop_free(world->loop), -EBUSY);
}

/* Freeing a loop is EBUSY while a job is on its way to it, in whatever state, and
 * changes nothing (S-DLV-14, S-SHUT-8). */
START_TEST(loop_free_jobs)
{
	struct probe finished, queued;
	struct gate_job blocker;
	struct world world;
	struct gate gate;

	gate_init(&gate);
	world_open(&world, 1);
	put(&world, &finished);
	gate_job_init(&blocker, &gate);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	expect_free_busy(&world);
	world_run_until(&world, &finished.dones, 1);
	expect_free_busy(&world);
	put(&world, &queued);
	gate_open(&gate);
	expect_free_busy(&world);
	world_run(&world);
	ck_assert_int_eq(finished.status, 0);
	ck_assert_int_eq(blocker.status, 0);
	ck_assert_int_eq(queued.status, 0);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* Freeing a loop is EBUSY while a post, a timer, a watch or a hold is outstanding, and
 * each of them is unharmed by the try (S-DLV-14). */
START_TEST(loop_free_others)
{
	static int name = 3;
	struct named_watch watch;
	struct named_timer timer;
	struct evwork_ctx *ctx;
	struct world world;

	script.length = 0;
	world_open(&world, 1);
	ck_assert_int_eq(evwork_post(world.loop, on_post, &name), 0);
	expect_free_busy(&world);
	world_run_until(&world, &script.length, 1);
	evwork_timer_init(&timer.timer, on_timer);
	timer.name = 4;
	ck_assert_int_eq(evwork_timer_start(world.loop, &timer.timer, 1), 0);
	expect_free_busy(&world);
	world_run_until(&world, &script.length, 2);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	evwork_watch_init(&watch.watch, on_watch);
	watch.name = 5;
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &watch.watch), 0);
	expect_free_busy(&world);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	expect_free_busy(&world);
	world_run_until(&world, &script.length, 3);
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	expect_free_busy(&world);
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	expect_note(0, 3, 0);
	expect_note(1, 4, 0);
	expect_note(2, 5, -ECANCELED);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* Freeing a closing loop is EBUSY until its closed callback has started
 * (S-DLV-14, S-SHUT-8). */
START_TEST(loop_free_closing)
{
	struct world world;
	int closed = 0;

	script.length = 0;
	world_open(&world, 1);
	ck_assert_int_eq(evwork_loop_close(world.loop, on_closed, &closed), 0);
	expect_free_busy(&world);
	finish(&world, &closed);
	world_close(&world);
}
END_TEST

static void *free_on_thread(void *arg)
{
	static int rc;

	rc = evwork_loop_free(arg);
	return &rc;
}

/* On another thread freeing a loop is EPERM and changes nothing; freeing none is fine
 * (S-DLV-14, S-GEN-8). */
START_TEST(loop_free_elsewhere)
{
	struct world world;
	struct probe probe;
	pthread_t thread;
	void *rc;

	world_open(&world, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, free_on_thread, world.loop), 0);
	pthread_join(thread, &rc);
	ck_assert_int_eq(*(int *)rc, -EPERM);
	ck_assert_int_eq(evwork_loop_free(NULL), 0);
	put(&world, &probe);
	world_run(&world);
	ck_assert_int_eq(probe.status, 0);
	world_close(&world);
}
END_TEST

/* The loop that a callback frees, and how often that went well. */
static struct evwork_loop *to_free;
static int freed;

static void free_it(void)
{
	if (evwork_loop_free(to_free) == 0)
		freed++;
}

static void free_in_done(struct probe *probe)
{
	(void)probe;
	free_it();
}

static void free_in_timer(struct evwork_timer *timer, int status)
{
	(void)timer;
	(void)status;
	free_it();
}

static void free_in_watch(struct evwork_watch *watch, int status)
{
	(void)watch;
	(void)status;
	free_it();
}

static void free_in_post(void *arg)
{
	(void)arg;
	free_it();
}

static void free_in_closed(struct evwork_loop *loop, void *arg)
{
	(void)arg;
	ck_assert_ptr_eq(loop, to_free);
	free_it();
}

enum callback { IN_DONE, IN_TIMER, IN_WATCH, IN_POST, IN_CLOSED, CALLBACKS };

/* A loop may be freed from each of its callbacks if that is the last thing it had to
 * call, and its base after it (S-GEN-5, S-DLV-14). */
START_TEST(loop_free_in_callback)
{
	struct evwork_timer timer;
	struct evwork_watch watch;
	struct evwork_ctx *ctx;
	struct world world;
	struct probe probe;

	freed = 0;
	world_open(&world, 1);
	to_free = world.loop;
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	probe_init(&probe, 0);
	probe.on_done = free_in_done;
	evwork_timer_init(&timer, free_in_timer);
	evwork_watch_init(&watch, free_in_watch);
	switch ((enum callback)_i) {
	case IN_DONE:
		ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
		break;
	case IN_TIMER:
		ck_assert_int_eq(evwork_timer_start(world.loop, &timer, 1), 0);
		break;
	case IN_WATCH:
		ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &watch), 0);
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		break;
	case IN_POST:
		ck_assert_int_eq(evwork_post(world.loop, free_in_post, NULL), 0);
		break;
	default:
		ck_assert_int_eq(evwork_loop_close(world.loop, free_in_closed, NULL), 0);
		break;
	}
	world_run_until(&world, &freed, 1);
	ck_assert_int_eq(freed, 1);
	world.loop = NULL;
	evwork_ctx_unref(ctx);
	world_run(&world);
	world_close(&world);
}
END_TEST

/* A callback that tries to free its loop while more is to come gets EBUSY, and the
 * rest comes (S-GEN-5, S-DLV-14). */
START_TEST(loop_free_in_callback_busy)
{
	struct probe first, second;
	struct world world;

	freed = 0;
	world_open(&world, 1);
	to_free = world.loop;
	probe_init(&first, 0);
	first.on_done = free_in_done;
	probe_init(&second, 0);
	second.on_done = free_in_done;
	ck_assert_int_eq(evwork_submit(world.loop, &first.job), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &second.job), 0);
	world_run_until(&world, &freed, 1);
	ck_assert_int_eq(first.dones, 1);
	ck_assert_int_eq(second.dones, 1);
	ck_assert_int_eq(freed, 1);
	world.loop = NULL;
	world_close(&world);
}
END_TEST

static void add_closing(Suite *suite)
{
	TCase *tcase = support_case(suite, "closing");

	tcase_add_test(tcase, loop_close_order);
	tcase_add_test(tcase, loop_close_pending_only);
	tcase_add_test(tcase, loop_close_waits_for_jobs);
	tcase_add_test(tcase, loop_close_waiters_first);
	tcase_add_test(tcase, loop_close_delivers_posts);
	tcase_add_test(tcase, loop_close_refuses);
	tcase_add_test(tcase, loop_close_leaves_ctx);
	tcase_add_test(tcase, loop_close_one_of_two);
	tcase_add_loop_test(tcase, loop_close_from, 0, ORIGINS);
	tcase_add_loop_test(tcase, loop_close_race, 0, 5);
}

static void add_freeing(Suite *suite)
{
	TCase *tcase = support_case(suite, "freeing");

	tcase_add_test(tcase, loop_free_jobs);
	tcase_add_test(tcase, loop_free_others);
	tcase_add_test(tcase, loop_free_closing);
	tcase_add_test(tcase, loop_free_elsewhere);
	tcase_add_loop_test(tcase, loop_free_in_callback, 0, CALLBACKS);
	tcase_add_test(tcase, loop_free_in_callback_busy);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("shut_loop");

	add_closing(suite);
	add_freeing(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
