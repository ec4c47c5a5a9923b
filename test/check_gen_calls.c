/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * General rules about callbacks: none runs inside a call, and from each everything that
 * does not block may be called.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

#define MS SYS_NS_PER_MS

/* No callback inside a call. */

static int called;

static void on_job(struct probe *probe)
{
	(void)probe;
	called++;
}

static void on_timer(struct support_timer *timer)
{
	(void)timer;
	called++;
}

static void on_watch(struct support_watch *watch)
{
	(void)watch;
	called++;
}

static void on_post(void *arg)
{
	(void)arg;
	called++;
}

static void on_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
	called++;
}

static void on_loop_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	(void)arg;
	called++;
}

/* Everything whose outcome is known when it is asked for. */
struct known {
	struct world world;              /* on a manual clock, its worker blocked */
	struct evwork_pool *idle;
	struct evwork_loop *second;
	struct evwork_ctx *dead, *dies, *expires;
	struct gate gate;
	struct gate_job blocker;
	struct probe queued;
	struct support_timer timers[5];
	struct support_watch watches[5];
	int seen, inside, refused, expected;
};

static struct known known;

/* Looks at what a call that has just returned did. */
static void look(int rc)
{
	known.refused += rc != 0;
	known.inside += called != known.seen;
	known.seen = called;
	known.expected++;
}

static void start_timers_and_watches(void)
{
	look(evwork_timer_start(known.world.loop, &known.timers[0].timer, 0));
	look(evwork_timer_start(known.world.loop, &known.timers[1].timer, -5));
	look(evwork_timer_start_at(known.world.loop, &known.timers[2].timer, 0));
	look(evwork_ctx_after(known.dead, known.world.loop, &known.watches[0].watch));
	look(evwork_ctx_after(known.dies, known.world.loop, &known.watches[1].watch));
	look(evwork_ctx_cancel(known.dies, 0));
	known.expected--;
	look(evwork_ctx_with_timeout(NULL, known.world.loop, 0, 0, &known.expires));
	known.expected--;
	look(evwork_ctx_after(known.expires, known.world.loop, &known.watches[2].watch));
	look(evwork_timer_start(known.world.loop, &known.timers[3].timer, 10));
	look(evwork_clock_jump(known.world.clock, 20 * MS));
	known.expected--;
}

static void start_endings(void)
{
	look(evwork_cancel(&known.queued.job));
	look(evwork_pool_close(known.idle, EVWORK_DRAIN, known.world.loop, on_pool_closed, NULL));
	look(evwork_timer_start(known.second, &known.timers[4].timer, 100000));
	look(evwork_ctx_after(NULL, known.second, &known.watches[3].watch));
	look(evwork_loop_close(known.second, on_loop_closed, NULL));
	/* Nothing to wait for, and still the callback comes later. */
	look(evwork_post(known.world.loop, on_post, NULL));
}

static void start_all(void *arg)
{
	called += arg != NULL;
	known.seen = called;
	start_timers_and_watches();
	start_endings();
}

static void known_open(void)
{
	struct evwork_pool_options options = { .threads = 1 };
	int i;

	called = 0;
	memset(&known, 0, sizeof(known));
	world_open_manual(&known.world, 1, 0);
	ck_assert_int_eq(evwork_pool_new(&options, &known.idle), 0);
	ck_assert_int_eq(evwork_loop_new(known.world.base, NULL, NULL, &known.second), 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &known.dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(known.dead, 0), 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &known.dies), 0);
	gate_init(&known.gate);
	gate_job_init(&known.blocker, &known.gate);
	ck_assert_int_eq(evwork_submit(known.world.loop, &known.blocker.job), 0);
	gate_await(&known.gate, 1);
	probe_init(&known.queued, 0);
	known.queued.on_done = on_job;
	ck_assert_int_eq(evwork_submit(known.world.loop, &known.queued.job), 0);
	for (i = 0; i < 5; i++) {
		support_timer_init(&known.timers[i], known.world.loop);
		known.timers[i].on = on_timer;
		support_watch_init(&known.watches[i]);
		known.watches[i].on = on_watch;
	}
}

static void known_close(void)
{
	gate_open(&known.gate);
	world_run(&known.world);
	ck_assert_int_eq(called, known.expected);
	evwork_ctx_unref(known.dead);
	evwork_ctx_unref(known.dies);
	evwork_ctx_unref(known.expires);
	ck_assert_int_eq(evwork_loop_free(known.second), 0);
	ck_assert_int_eq(evwork_pool_free(known.idle), 0);
	world_close(&known.world);
	gate_fini(&known.gate);
}

/* No callback runs inside the call that registers, cancels, closes or moves the clock,
 * even when the outcome is known; all come later, once each: S-GEN-3. */
START_TEST(no_callback_inside_a_call)
{
	known_open();
	start_all(NULL);
	ck_assert_int_eq(known.inside, 0);
	ck_assert_int_eq(known.refused, 0);
	world_run_until(&known.world, &called, known.expected);
	known_close();
}
END_TEST

/* The same holds when the calls are made from a callback: S-GEN-3. */
START_TEST(no_callback_inside_a_call_of_a_callback)
{
	known_open();
	ck_assert_int_eq(evwork_post(known.world.loop, start_all, &known), 0);
	known.expected = 1;
	world_run_until(&known.world, &called, 1);
	ck_assert_int_eq(known.inside, 0);
	ck_assert_int_eq(known.refused, 0);
	world_run_until(&known.world, &called, known.expected);
	known_close();
}
END_TEST

/* Work never runs inside submit, though a worker is idle: it runs on another thread,
 * S-GEN-3. */
START_TEST(work_does_not_run_inside_submit)
{
	struct probe probe;
	struct world world;

	world_open(&world, 1);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(probe.dones, 0);
	world_run(&world);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert(!pthread_equal(probe.run_thread, pthread_self()));
	ck_assert(pthread_equal(probe.done_thread, pthread_self()));
	world_close(&world);
}
END_TEST

/* Everything may be called from everywhere. */

enum place {
	IN_WORK, IN_DONE, IN_DROP, IN_TIMER, IN_WATCH, IN_POST, IN_ACQUIRE, IN_RELEASE,
	IN_START_HOOK, IN_STOP_HOOK, IN_DESTROY, IN_POOL_CLOSED, IN_LOOP_CLOSED, PLACES
};

#define METS 4

static struct {
	struct world world;
	atomic_int met;                  /* batteries run */
	atomic_int bad;                  /* results that should not be */
	struct probe jobs[METS][2];
	atomic_int posts_due;
	int posts, jobs_done, ends;
	struct gate gate;
} meeting;

static pthread_t loop_thread;

static void expect(bool right)
{
	if (!right)
		atomic_fetch_add(&meeting.bad, 1);
}

static void meeting_post(void *arg)
{
	(void)arg;
	meeting.posts++;
}

static void meeting_done(struct probe *probe)
{
	(void)probe;
	meeting.jobs_done++;
}

static void call_with_jobs(struct probe jobs[2])
{
	struct evwork_loop *loop = meeting.world.loop;
	int i, rc;

	for (i = 0; i < 2; i++) {
		probe_init(&jobs[i], 0);
		jobs[i].on_done = meeting_done;
		expect(evwork_submit(loop, &jobs[i].job) == 0);
	}
	rc = evwork_cancel(&jobs[0].job);
	expect(rc == 0 || rc == -EBUSY || rc == -ESRCH);
	expect(evwork_post(loop, meeting_post, NULL) == 0);
	atomic_fetch_add(&meeting.posts_due, 1);
}

static void call_with_contexts(void)
{
	struct evwork_ctx *ctx = NULL, *child = NULL;
	struct support_watch watch;

	support_watch_init(&watch);
	expect(evwork_ctx_with_timeout(NULL, meeting.world.loop, 3600000, 0, &ctx) == 0);
	expect(evwork_ctx_new(ctx, &child) == 0);
	expect(evwork_ctx_after(child, meeting.world.loop, &watch.watch) == 0);
	expect(evwork_ctx_stop(&watch.watch) == 1);
	expect(evwork_ctx_cancel(ctx, 0) == 0);
	expect(evwork_ctx_err(child) == -ECANCELED);
	evwork_ctx_unref(child);
	evwork_ctx_unref(ctx);
}

static void call_with_objects(void)
{
	struct evwork_lane_options options = { 0 };
	struct evwork_loop_stats loop_stats;
	struct evwork_lane_stats lane_stats;
	struct evwork_pool_stats pool_stats;
	struct evwork_clock *clock = NULL;
	struct evwork_lane *lane = NULL;

	expect(evwork_lane_new(meeting.world.pool, &options, &lane) == 0);
	expect(evwork_lane_free(lane) == 0);
	expect(evwork_lane_stats(evwork_pool_lane(meeting.world.pool), &lane_stats) == 0);
	expect(evwork_pool_stats(meeting.world.pool, &pool_stats) == 0);
	expect(evwork_loop_stats(meeting.world.loop, &loop_stats) == 0);
	expect(evwork_loop_now(meeting.world.loop) > 0);
	expect(evwork_clock_new(1, &clock) == 0);
	expect(evwork_clock_advance(clock, 1) == 0);
	expect(evwork_clock_free(clock) == 0);
	expect(evwork_loop_free(meeting.world.loop) < 0);
	expect(evwork_pool_free(meeting.world.pool) < 0);
}

static void call_on_the_loop(void)
{
	struct support_timer timer;

	support_timer_init(&timer, meeting.world.loop);
	expect(evwork_loop_hold(meeting.world.loop) == 0);
	expect(evwork_timer_start(meeting.world.loop, &timer.timer, 3600000) == 0);
	expect(evwork_timer_stop(&timer.timer) == 0);
	expect(evwork_loop_release(meeting.world.loop) == 0);
}

/* Everything that does not block. */
static void battery(void *arg)
{
	int turn = atomic_fetch_add(&meeting.met, 1);

	(void)arg;
	if (turn >= METS)
		return;
	call_with_jobs(meeting.jobs[turn]);
	call_with_contexts();
	call_with_objects();
	if (pthread_equal(pthread_self(), loop_thread))
		call_on_the_loop();
}

/* Called from a callback: all of it on this thread, and on another one while this
 * waits, which would never end if the library held a lock around the callback. */
static void meet(void)
{
	battery(NULL);
	support_elsewhere(battery, NULL);
	if (pthread_equal(pthread_self(), loop_thread))
		meeting.ends++;
}

static int meet_run(struct evwork_job *job)
{
	(void)job;
	meet();
	return 0;
}

static void meet_done(struct evwork_job *job, int status)
{
	(void)job;
	(void)status;
	meet();
}

static int quiet_run(struct evwork_job *job)
{
	(void)job;
	return 0;
}

static int gated_run(struct evwork_job *job)
{
	(void)job;
	gate_pass(&meeting.gate);
	return 0;
}

static void open_gate(struct evwork_job *job, int status)
{
	(void)job;
	(void)status;
	gate_open(&meeting.gate);
}

static void count_done(struct evwork_job *job, int status)
{
	(void)job;
	(void)status;
	meeting.ends++;
}

static void meet_drop(struct evwork_job *job)
{
	(void)job;
	meet();
}

static void meet_timer(struct support_timer *timer)
{
	(void)timer;
	meet();
}

static void meet_watch(struct support_watch *watch)
{
	(void)watch;
	meet();
}

static void meet_post(void *arg)
{
	(void)arg;
	meet();
}

static int meet_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)guard;
	(void)job;
	(void)permit;
	meet();
	return 0;
}

static int quiet_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)guard;
	(void)job;
	(void)permit;
	return 0;
}

static void meet_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)guard;
	(void)permit;
	(void)end;
	meet();
}

static void quiet_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)guard;
	(void)permit;
	(void)end;
}

static int meet_start(int worker, void *arg)
{
	(void)worker;
	(void)arg;
	meet();
	return 0;
}

static void meet_stop(int worker, void *arg)
{
	(void)worker;
	(void)arg;
	meet();
}

static void meet_destroy(void *value)
{
	(void)value;
	meet();
}

static void meet_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
	meet();
}

static void meet_loop_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	(void)arg;
	meet();
}

static void meeting_open(void)
{
	memset(&meeting, 0, sizeof(meeting));
	loop_thread = pthread_self();
	world_open(&meeting.world, 2);
	gate_init(&meeting.gate);
}

static void meeting_close(void)
{
	int expected;

	expected = 2 * (atomic_load(&meeting.met) < METS ? atomic_load(&meeting.met) : METS);
	ck_assert_int_ge(expected, 4);
	world_run_until(&meeting.world, &meeting.jobs_done, expected);
	world_run_until(&meeting.world, &meeting.posts, atomic_load(&meeting.posts_due));
	world_run(&meeting.world);
	ck_assert_int_eq(atomic_load(&meeting.bad), 0);
	world_close(&meeting.world);
	gate_fini(&meeting.gate);
}

/* The job that carries the places in and around jobs. */
static void meet_in_job(enum place place)
{
	struct evwork_guard guard = {
		place == IN_ACQUIRE ? meet_acquire : quiet_acquire,
		place == IN_RELEASE ? meet_release : quiet_release
	};
	struct evwork_guard *guards[] = { &guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct evwork_lane *lane;
	struct evwork_job job;

	ck_assert_int_eq(evwork_lane_new(meeting.world.pool, &options, &lane), 0);
	evwork_job_init(&job, place == IN_WORK ? meet_run : quiet_run,
		place == IN_DONE ? meet_done : count_done);
	job.lane = lane;
	if (place == IN_DROP) {
		job.run = gated_run;
		job.done = open_gate;
		job.drop = meet_drop;
		ck_assert_int_eq(evwork_job_set_detach(&job, 1), 0);
	}
	ck_assert_int_eq(evwork_submit(meeting.world.loop, &job), 0);
	if (place == IN_DROP) {
		gate_await(&meeting.gate, 1);
		ck_assert_int_eq(evwork_cancel(&job), -EBUSY);
	}
	world_run_until(&meeting.world, &meeting.ends, 1 + (place == IN_ACQUIRE));
	ck_assert_int_eq(evwork_lane_free(lane), 0);
}

static void meet_on_loop(enum place place)
{
	struct support_timer timer;
	struct support_watch watch;
	struct evwork_ctx *ctx;

	support_timer_init(&timer, meeting.world.loop);
	timer.on = meet_timer;
	support_watch_init(&watch);
	watch.on = meet_watch;
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	if (place == IN_TIMER) {
		ck_assert_int_eq(evwork_timer_start(meeting.world.loop, &timer.timer, 0), 0);
	} else if (place == IN_WATCH) {
		ck_assert_int_eq(evwork_ctx_after(ctx, meeting.world.loop, &watch.watch), 0);
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	} else {
		ck_assert_int_eq(evwork_post(meeting.world.loop, meet_post, NULL), 0);
	}
	world_run_until(&meeting.world, &meeting.ends, 1);
	evwork_ctx_unref(ctx);
}

static void meet_in_another(enum place place)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct evwork_loop *loop;
	struct evwork_pool *pool;
	struct evwork_ctx *ctx;
	static int key;

	options.on_start = place == IN_START_HOOK ? meet_start : NULL;
	options.on_stop = place == IN_STOP_HOOK ? meet_stop : NULL;
	if (place == IN_DESTROY) {
		ck_assert_int_eq(evwork_ctx_with_value(NULL, &key, &key, meet_destroy, &ctx), 0);
		evwork_ctx_unref(ctx);
	} else if (place == IN_LOOP_CLOSED) {
		ck_assert_int_eq(evwork_loop_new(meeting.world.base, NULL, NULL, &loop), 0);
		ck_assert_int_eq(evwork_loop_close(loop, meet_loop_closed, NULL), 0);
		world_run_until(&meeting.world, &meeting.ends, 1);
		ck_assert_int_eq(evwork_loop_free(loop), 0);
	} else {
		ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
		if (place == IN_POOL_CLOSED) {
			ck_assert_int_eq(evwork_pool_close(pool, EVWORK_DRAIN, meeting.world.loop,
				meet_pool_closed, NULL), 0);
			world_run_until(&meeting.world, &meeting.ends, 1);
		}
		ck_assert_int_eq(evwork_pool_free(pool), 0);
	}
}

/* No lock is held around any function of the user: from each of them every call that
 * does not block works, on its own thread and, while it runs, on another: S-GEN-5. */
START_TEST(callbacks_may_call_everything)
{
	enum place place = (enum place)_i;

	meeting_open();
	switch (place) {
	case IN_WORK: case IN_DONE: case IN_DROP: case IN_ACQUIRE: case IN_RELEASE:
		meet_in_job(place);
		break;
	case IN_TIMER: case IN_WATCH: case IN_POST:
		meet_on_loop(place);
		break;
	default:
		meet_in_another(place);
		break;
	}
	meeting_close();
}
END_TEST

static void add_inline(Suite *suite)
{
	TCase *tcase = support_case(suite, "inline");

	tcase_add_test(tcase, no_callback_inside_a_call);
	tcase_add_test(tcase, no_callback_inside_a_call_of_a_callback);
	tcase_add_test(tcase, work_does_not_run_inside_submit);
}

static void add_callbacks(Suite *suite)
{
	TCase *tcase = support_case(suite, "callbacks");

	tcase_add_loop_test(tcase, callbacks_may_call_everything, 0, PLACES);
}

static Suite *suite(void)
{
	Suite *calls = suite_create("gen_calls");

	add_inline(calls);
	add_callbacks(calls);
	return calls;
}

int main(void)
{
	return support_run(suite());
}
