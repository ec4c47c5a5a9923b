/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Forking: what a child may do with what it inherits, and that the parent does not
 * notice. The child cannot assert: it counts what is wrong and exits with 1 and the number
 * of the first line that was, modulo 250.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>
#include <sys/wait.h>

/* Exit statuses have 8 bits. */
#define WRONG(what) do { if (what) _exit(1 + __LINE__ % 250); } while (0)
#define EXPECT(rc, value) WRONG((rc) != (value))

/* All sorts of objects, with workers that are busy. */
struct harbor {
	struct world world;
	struct evwork_lane *lane, *guarded;
	struct evwork_ctx *ctx, *child_ctx;
	struct gate gate;
	struct gate_job blockers[2];
	struct probe queued[3], idle, turned;
	struct support_post post;
	struct support_timer timer, other_timer;
	struct support_watch watch, other_watch;
	size_t blocks;                 /* before all of it */
	int fds;
	int forks;
};

static void put(struct harbor *harbor, struct probe *probe, struct evwork_lane *lane)
{
	probe_init(probe, 0);
	probe->job.lane = lane;
	probe->job.ctx = harbor->child_ctx;
	ck_assert_int_eq(evwork_submit(harbor->world.loop, &probe->job), 0);
}

static void harbor_open(struct harbor *harbor, bool manual, enum evwork_notify notify)
{
	struct evwork_lane_options plain = { .priority = 1 };
	struct evwork_lane_options guarded = { .timeout_ms = 1000000, .queue_limit = 8 };
	struct evwork_pool_options pool = { .threads = 2 };
	struct evwork_loop_options loop = { .notify = notify };
	struct evwork_clock *clock = NULL;
	int i;

	memset(harbor, 0, sizeof(*harbor));
	harbor->blocks = sys_blocks();
	if (manual)
		ck_assert_int_eq(evwork_clock_new(0, &clock), 0);
	pool.clock = loop.clock = clock;
	world_open_with(&harbor->world, &pool, &loop);
	harbor->world.clock = clock;
	harbor->fds = support_fd_count();
	ck_assert_int_eq(evwork_lane_new(harbor->world.pool, &plain, &harbor->lane), 0);
	ck_assert_int_eq(evwork_lane_new(harbor->world.pool, &guarded, &harbor->guarded), 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &harbor->ctx), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(harbor->ctx, harbor->world.loop, 900000, 0,
		&harbor->child_ctx), 0);
	gate_init(&harbor->gate);
	for (i = 0; i < 2; i++) {
		gate_job_init(&harbor->blockers[i], &harbor->gate);
		ck_assert_int_eq(evwork_submit(harbor->world.loop, &harbor->blockers[i].job), 0);
	}
	gate_await(&harbor->gate, 2);
	put(harbor, &harbor->queued[0], NULL);
	put(harbor, &harbor->queued[1], harbor->lane);
	put(harbor, &harbor->queued[2], harbor->guarded);
	probe_init(&harbor->idle, 0);
	support_post_init(&harbor->post);
	ck_assert_int_eq(evwork_post(harbor->world.loop, support_post_fn, &harbor->post), 0);
	support_timer_init(&harbor->timer, harbor->world.loop);
	support_timer_init(&harbor->other_timer, harbor->world.loop);
	ck_assert_int_eq(evwork_timer_start(harbor->world.loop, &harbor->timer.timer, 800000), 0);
	support_watch_init(&harbor->watch);
	support_watch_init(&harbor->other_watch);
	ck_assert_int_eq(evwork_ctx_after(harbor->child_ctx, harbor->world.loop,
		&harbor->watch.watch), 0);
}

/* The parent ends everything as if nothing had happened. */
static void harbor_close(struct harbor *harbor)
{
	int i;

	gate_open(&harbor->gate);
	for (i = 0; i < 3; i++)
		while (harbor->queued[i].dones == 0)
			ck_assert_int_ge(event_base_loop(harbor->world.base, EVLOOP_ONCE), 0);
	ck_assert_int_eq(harbor->post.calls, 1);
	ck_assert_int_eq(evwork_timer_stop(&harbor->timer.timer), 0);
	ck_assert_int_eq(evwork_ctx_cancel(harbor->ctx, 0), 0);
	world_run(&harbor->world);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(harbor->queued[i].dones, 1);
		ck_assert_int_eq(harbor->queued[i].status, 0);
	}
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(harbor->blockers[i].status, 0);
	ck_assert_int_eq(harbor->watch.calls, 1);
	ck_assert_int_eq(harbor->timer.calls, 0);
	evwork_ctx_unref(harbor->child_ctx);
	evwork_ctx_unref(harbor->ctx);
	ck_assert_int_eq(evwork_lane_free(harbor->lane), 0);
	world_close(&harbor->world);
	gate_fini(&harbor->gate);
}

static void ignore_post(void *arg)
{
	(void)arg;
}

static void ignore_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
}

/* Pool, lanes and jobs in the child. */
static void child_use_pool(struct harbor *harbor)
{
	struct evwork_pool *pool = harbor->world.pool;
	struct evwork_loop *loop = harbor->world.loop;
	struct evwork_close_options close = { .mode = EVWORK_CANCEL_ALL, .loop = loop };
	struct evwork_lane_options options = { .priority = 0 };
	struct evwork_lane_stats lane_stats;
	struct evwork_pool_stats stats;
	struct evwork_running running;
	struct evwork_left left;
	struct evwork_lane *lane;

	EXPECT(evwork_submit(loop, &harbor->idle.job), -ESHUTDOWN);
	EXPECT(evwork_submit(loop, &harbor->queued[0].job), -ESHUTDOWN);
	EXPECT(evwork_submit_wait(loop, &harbor->idle.job), -ESHUTDOWN);
	EXPECT(evwork_cancel(&harbor->queued[1].job), -ESHUTDOWN);
	EXPECT(evwork_cancel(&harbor->blockers[0].job), -ESHUTDOWN);
	EXPECT(evwork_cancel(&harbor->idle.job), -ESRCH);
	EXPECT(evwork_lane_new(pool, &options, &lane), -ESHUTDOWN);
	EXPECT(evwork_lane_stats(harbor->lane, &lane_stats), -ESHUTDOWN);
	EXPECT(evwork_pool_stats(pool, &stats), -ESHUTDOWN);
	EXPECT(evwork_pool_left(pool, &left, 1), -ESHUTDOWN);
	EXPECT(evwork_pool_running(pool, &running, 1), -ESHUTDOWN);
	EXPECT(evwork_pool_close(pool, EVWORK_DRAIN, loop, ignore_closed, NULL), -ESHUTDOWN);
	EXPECT(evwork_pool_close_by(pool, &close), -ESHUTDOWN);
	EXPECT(evwork_pool_close_wait(pool, EVWORK_DRAIN), -ESHUTDOWN);
}

/* Loop, timers and contexts in the child. */
static void child_use_loop(struct harbor *harbor)
{
	struct evwork_loop *loop = harbor->world.loop;
	struct evwork_ctx *ctx;
	int key;

	EXPECT(evwork_post(loop, ignore_post, NULL), -ESHUTDOWN);
	EXPECT(evwork_loop_close(loop, NULL, NULL), -ESHUTDOWN);
	EXPECT(evwork_loop_hold(loop), -ESHUTDOWN);
	EXPECT(evwork_loop_release(loop), -ESHUTDOWN);
	EXPECT(evwork_timer_start(loop, &harbor->other_timer.timer, 1), -ESHUTDOWN);
	EXPECT(evwork_timer_stop(&harbor->timer.timer), -ESHUTDOWN);
	EXPECT(evwork_ctx_after(NULL, loop, &harbor->other_watch.watch), -ESHUTDOWN);
	EXPECT(evwork_ctx_stop(&harbor->watch.watch), -ESHUTDOWN);
	EXPECT(evwork_ctx_new(harbor->ctx, &ctx), -ESHUTDOWN);
	EXPECT(evwork_ctx_detached(harbor->ctx, &ctx), -ESHUTDOWN);
	EXPECT(evwork_ctx_with_value(harbor->ctx, &key, NULL, NULL, &ctx), -ESHUTDOWN);
	EXPECT(evwork_ctx_with_timeout(harbor->ctx, loop, 1, 0, &ctx), -ESHUTDOWN);
	EXPECT(evwork_ctx_with_timeout(NULL, loop, 1, 0, &ctx), -ESHUTDOWN);
	EXPECT(evwork_ctx_cancel(harbor->child_ctx, 0), -ESHUTDOWN);
	EXPECT(evwork_ctx_err(harbor->child_ctx), 0);
	if (harbor->world.clock) {
		EXPECT(evwork_clock_advance(harbor->world.clock, 1), -ESHUTDOWN);
		EXPECT(evwork_clock_jump(harbor->world.clock, 1), -ESHUTDOWN);
	}
}

/* Frees everything, in one of several orders: what is left is what was there before. */
static void child_free(struct harbor *harbor, int order)
{
	int fds = support_fd_count();

	if (order % 2) {
		EXPECT(evwork_lane_free(harbor->lane), 0);
		EXPECT(evwork_pool_free(harbor->world.pool), 0);
		EXPECT(evwork_clock_free(harbor->world.clock), 0);
		EXPECT(evwork_loop_free(harbor->world.loop), 0);
	} else {
		EXPECT(evwork_loop_free(harbor->world.loop), 0);
		EXPECT(evwork_pool_free(harbor->world.pool), 0);
		EXPECT(evwork_clock_free(harbor->world.clock), 0);
	}
	evwork_ctx_unref(harbor->ctx);
	evwork_ctx_unref(harbor->child_ctx);
	/* At least what notifies the loop. */
	WRONG(support_fd_count() >= fds);
}

/* What the jobs hold of contexts is not given back, as nobody looks at the jobs: each
 * had a reference to one, which keeps its ancestors. */
static void expect_freed(const struct harbor *harbor)
{
	WRONG(sys_blocks() > harbor->blocks + 3);
}

/* In the child of a parent with busy workers every call on what it inherited is refused,
 * and free gives back memory and descriptors; the parent goes on undisturbed
 * (S-SHUT-12). */
START_TEST(child_is_refused)
{
	struct harbor harbor;
	pid_t child;

	harbor_open(&harbor, _i % 2, _i % 4 < 2 ? EVWORK_NOTIFY_DEFAULT : EVWORK_NOTIFY_PIPE);
	child = fork();
	if (child == 0) {
		child_use_pool(&harbor);
		child_use_loop(&harbor);
		child_free(&harbor, _i / 4);
		expect_freed(&harbor);
		event_base_free(harbor.world.base);
		_exit(0);
	}
	support_await_child(child);
	harbor_close(&harbor);
}
END_TEST

/* A child that frees nothing, or everything without a look, leaves the parent what is
 * written to its descriptor, and what its base polls with: the parent sleeps, and is woken
 * by its worker (S-SHUT-12). */
START_TEST(parent_keeps_wakeups)
{
	struct probe later;
	struct harbor harbor;
	pid_t child;

	harbor_open(&harbor, false, _i % 2 ? EVWORK_NOTIFY_PIPE : EVWORK_NOTIFY_DEFAULT);
	world_turns(&harbor.world, 4);
	/* Asleep with an outcome on the way to it. */
	gate_open(&harbor.gate);
	while (evwork_pool_running(harbor.world.pool, NULL, 0) > 0)
		sys_yield();
	child = fork();
	if (child == 0) {
		if (_i / 2 == 1)
			child_free(&harbor, 0);
		if (_i / 2 == 2) {
			/* The base of the child may run, too: it takes nothing away. */
			EXPECT(event_reinit(harbor.world.base), 0);
			WRONG(event_base_loop(harbor.world.base, EVLOOP_NONBLOCK) < 0);
			WRONG(event_base_loop(harbor.world.base, EVLOOP_NONBLOCK) < 0);
			WRONG(atomic_load(&probe_done_counter) != 1);
			child_free(&harbor, 1);
			event_base_free(harbor.world.base);
		}
		_exit(0);
	}
	support_await_child(child);
	while (harbor.queued[0].dones == 0)
		ck_assert_int_ge(event_base_loop(harbor.world.base, EVLOOP_ONCE), 0);
	put(&harbor, &later, NULL);
	while (later.dones == 0)
		ck_assert_int_ge(event_base_loop(harbor.world.base, EVLOOP_ONCE), 0);
	harbor_close(&harbor);
}
END_TEST

/* Forking inside callbacks. */

static void fork_in_done(struct probe *probe)
{
	struct harbor *harbor = probe->arg;
	pid_t child = fork();

	if (child != 0) {
		support_await_child(child);
		return;
	}
	harbor->forks++;
	if (probe->result)
		child_free(harbor, harbor->forks);
}

/* A child that was made in a done, and returns from it, runs no more callbacks of the
 * parent's loop, whether it has freed loop and pool there or not (S-SHUT-12). */
START_TEST(fork_in_callback)
{
	struct probe first, second;
	struct harbor harbor;

	harbor_open(&harbor, false, EVWORK_NOTIFY_DEFAULT);
	gate_open(&harbor.gate);
	probe_init(&first, _i);
	first.on_done = fork_in_done;
	first.arg = &harbor;
	ck_assert_int_eq(evwork_submit(harbor.world.loop, &first.job), 0);
	probe_init(&second, 0);
	ck_assert_int_eq(evwork_submit(harbor.world.loop, &second.job), 0);
	/* Both have ended and are delivered in one turn. */
	while (evwork_pool_running(harbor.world.pool, NULL, 0) > 0)
		sys_yield();
	while (first.dones == 0)
		ck_assert_int_ge(event_base_loop(harbor.world.base, EVLOOP_ONCE), 0);
	if (harbor.forks > 0) {
		int dones = atomic_load(&probe_done_counter);

		if (!_i) {
			EXPECT(event_reinit(harbor.world.base), 0);
			WRONG(event_base_loop(harbor.world.base, EVLOOP_NONBLOCK) < 0);
			child_free(&harbor, 1);
		}
		WRONG(atomic_load(&probe_done_counter) != dones);
		event_base_free(harbor.world.base);
		_exit(0);
	}
	while (second.dones == 0)
		ck_assert_int_ge(event_base_loop(harbor.world.base, EVLOOP_ONCE), 0);
	ck_assert_int_eq(first.status, _i);
	ck_assert_int_eq(second.dones, 1);
	harbor_close(&harbor);
}
END_TEST

static int fork_in_work(struct evwork_job *job)
{
	struct probe *probe = EVWORK_CONTAINER(job, struct probe, job);
	struct harbor *harbor = probe->arg;
	int status = -1;
	pid_t child = fork();

	if (child == 0) {
		EXPECT(evwork_submit(harbor->world.loop, &harbor->idle.job), -ESHUTDOWN);
		EXPECT(evwork_job_err(job), -ECANCELED);
		EXPECT(evwork_pool_close_wait(harbor->world.pool, EVWORK_DRAIN), -ESHUTDOWN);
		child_free(harbor, 0);
		_exit(0);
	}
	return waitpid(child, &status, 0) == child ? status : -1;
}

/* Work may fork, and the child, although on a worker of its pool, may free it
 * (S-SHUT-12). */
START_TEST(fork_on_worker)
{
	struct harbor harbor;
	struct probe probe;

	harbor_open(&harbor, false, EVWORK_NOTIFY_DEFAULT);
	gate_open(&harbor.gate);
	probe_init(&probe, 0);
	probe.job.run = fork_in_work;
	probe.arg = &harbor;
	ck_assert_int_eq(evwork_submit(harbor.world.loop, &probe.job), 0);
	while (probe.dones == 0)
		ck_assert_int_ge(event_base_loop(harbor.world.base, EVLOOP_ONCE), 0);
	ck_assert_int_eq(probe.status, 0);
	harbor_close(&harbor);
}
END_TEST

/* A thread without a loop. */
static void fork_elsewhere(void *arg)
{
	struct harbor *harbor = arg;
	int status = -1;
	pid_t child = fork();

	if (child == 0) {
		child_use_pool(harbor);
		child_use_loop(harbor);
		child_free(harbor, 1);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status != 0)
		harbor->forks = -1;
}

/* The child of another thread than the loop's may use and free it just the same
 * (S-SHUT-12). */
START_TEST(fork_on_other_thread)
{
	struct harbor harbor;

	harbor_open(&harbor, false, EVWORK_NOTIFY_DEFAULT);
	support_elsewhere(fork_elsewhere, &harbor);
	ck_assert_int_eq(harbor.forks, 0);
	harbor_close(&harbor);
}
END_TEST

/* ThreadSanitizer neither keeps its allocator's locks free for a child nor lets it have
 * threads. */
#if !defined(__SANITIZE_THREAD__)

/* The locks. */

enum { NOISY = 3, FORKS = 40 };

/* Posts that were not delivered yet. Their number is bounded, or the base would never be
 * through with them. */
static atomic_int posts;
enum { POSTS_MAX = 200 };

static void count_post(void *arg)
{
	(void)arg;
	atomic_fetch_sub(&posts, 1);
}

/* A thread that keeps the locks of the library busy. */
struct noise {
	struct world *world;
	struct evwork_ctx *ctx;
	pthread_t thread;
	atomic_bool *stop;
};

static void *make_noise(void *arg)
{
	struct noise *noise = arg;

	while (!atomic_load(noise->stop)) {
		struct evwork_lane_options options = { .timeout_ms = 1000000 };
		struct evwork_pool_stats stats;
		struct evwork_lane *lane;
		struct evwork_ctx *ctx;

		if (evwork_ctx_new(noise->ctx, &ctx) == 0) {
			evwork_ctx_cancel(ctx, 0);
			evwork_ctx_unref(ctx);
		}
		if (evwork_lane_new(noise->world->pool, &options, &lane) == 0)
			evwork_lane_free(lane);
		if (atomic_fetch_add(&posts, 1) >= POSTS_MAX ||
		    evwork_post(noise->world->loop, count_post, NULL) != 0)
			atomic_fetch_sub(&posts, 1);
		evwork_pool_stats(noise->world->pool, &stats);
	}
	return NULL;
}

/* Whatever lock another thread holds at that moment, the child does not wait for it
 * (S-SHUT-12). */
START_TEST(locks_are_not_waited_for)
{
	struct noise noises[NOISY];
	atomic_bool stop = false;
	struct harbor harbor;
	int i;

	atomic_store(&posts, 0);
	harbor_open(&harbor, false, EVWORK_NOTIFY_DEFAULT);
	for (i = 0; i < NOISY; i++) {
		noises[i].world = &harbor.world;
		noises[i].ctx = harbor.ctx;
		noises[i].stop = &stop;
		ck_assert_int_eq(pthread_create(&noises[i].thread, NULL, make_noise, &noises[i]), 0);
	}
	for (i = 0; i < FORKS; i++) {
		pid_t child = fork();

		if (child == 0) {
			child_use_pool(&harbor);
			child_use_loop(&harbor);
			child_free(&harbor, i);
			_exit(0);
		}
		support_await_child(child);
		world_turns(&harbor.world, 1);
	}
	atomic_store(&stop, true);
	for (i = 0; i < NOISY; i++)
		pthread_join(noises[i].thread, NULL);
	harbor_close(&harbor);
}
END_TEST

/* What the child makes itself works, beside what it has inherited, which stays refused
 * (S-SHUT-12). */
START_TEST(child_starts_anew)
{
	struct harbor harbor;
	pid_t child;

	harbor_open(&harbor, true, EVWORK_NOTIFY_DEFAULT);
	child = fork();
	if (child == 0) {
		struct evwork_pool_options options = { .clock = harbor.world.clock };
		struct event_base *base = event_base_new();
		struct evwork_pool *pool;
		struct evwork_loop *loop;
		struct probe probe;

		EXPECT(evwork_pool_new(&options, &pool), -ESHUTDOWN);
		EXPECT(evwork_loop_new(base, harbor.world.pool, NULL, &loop), -ESHUTDOWN);
		EXPECT(evwork_pool_new(NULL, &pool), 0);
		EXPECT(evwork_loop_new(base, pool, NULL, &loop), 0);
		probe_init(&probe, 5);
		probe.job.ctx = harbor.ctx;
		EXPECT(evwork_submit(loop, &probe.job), -ESHUTDOWN);
		probe.job.ctx = NULL;
		probe.job.lane = harbor.lane;
		EXPECT(evwork_submit(loop, &probe.job), -ESHUTDOWN);
		probe.job.lane = NULL;
		EXPECT(evwork_submit(harbor.world.loop, &probe.job), -ESHUTDOWN);
		EXPECT(evwork_submit(loop, &probe.job), 0);
		WRONG(event_base_dispatch(base) < 0);
		EXPECT(probe.status, 5);
		EXPECT(evwork_loop_free(loop), 0);
		EXPECT(evwork_pool_free(pool), 0);
		child_free(&harbor, 0);
		_exit(0);
	}
	support_await_child(child);
	harbor_close(&harbor);
}
END_TEST

/* Made before all pools and loops. */
struct early {
	struct evwork_clock *clock;
	struct evwork_ctx *ctx;
	struct evwork_chan *chan;
	struct evwork_broadcast *broadcast;
	struct evwork_latch *latch;
	struct evwork_limiter *limiter;
	struct evwork_breaker *breaker;
	struct evwork_adaptive *adaptive;
	struct evwork_retry_policy *policy;
	struct evwork_budget *budget;
};

enum { EARLY = 10 };

static int make_early(struct early *early, int which)
{
	static const struct evwork_breaker_options breaker;
	static const struct evwork_adaptive_options adaptive = { .limit = 1 };
	static const struct evwork_retry_options policy;

	switch (which) {
	case 0: return evwork_clock_new(1, &early->clock);
	case 1: return evwork_ctx_new(NULL, &early->ctx);
	case 2: return evwork_chan_new(sizeof(int), 1, NULL, &early->chan);
	case 3: return evwork_broadcast_new(sizeof(int), NULL, NULL, &early->broadcast);
	case 4: return evwork_latch_new(&early->latch);
	case 5: return evwork_limiter_new(1, 1, NULL, &early->limiter);
	case 6: return evwork_breaker_new(&breaker, &early->breaker);
	case 7: return evwork_adaptive_new(&adaptive, &early->adaptive);
	case 8: return evwork_retry_policy_new(&policy, &early->policy);
	default: return evwork_budget_new_concurrent(1, 1, &early->budget);
	}
}

static int use_early(struct early *early, int which)
{
	struct evwork_retry_stats stats;
	struct evwork_breaker_permit permit = { 0 };
	struct evwork_adaptive_token token = { 0 };
	int value = 1;

	switch (which) {
	case 0: return evwork_clock_advance(early->clock, 1);
	case 1: return evwork_ctx_cancel(early->ctx, 0);
	case 2: return evwork_chan_try_send(early->chan, &value);
	case 3: return evwork_broadcast_close(early->broadcast);
	case 4: return evwork_latch_add(early->latch, 1);
	case 5: return evwork_limiter_allow(early->limiter, 1);
	case 6: return evwork_breaker_acquire(early->breaker, &permit);
	case 7: return evwork_adaptive_acquire(early->adaptive, &token);
	case 8: return evwork_retry_policy_stats(early->policy, &stats);
	default: return evwork_budget_enter(early->budget);
	}
}

static int free_early(struct early *early, int which)
{
	switch (which) {
	case 0: return evwork_clock_free(early->clock);
	case 1: evwork_ctx_unref(early->ctx); return 0;
	case 2: return evwork_chan_free(early->chan);
	case 3: return evwork_broadcast_free(early->broadcast);
	case 4: return evwork_latch_free(early->latch);
	case 5: return evwork_limiter_free(early->limiter);
	case 6: return evwork_breaker_free(early->breaker);
	case 7: return evwork_adaptive_free(early->adaptive);
	case 8: return evwork_retry_policy_free(early->policy);
	default: return evwork_budget_free(early->budget);
	}
}

/* In a process that has never had a pool or a loop what is made by itself is the parent's,
 * too: another thread may have had its lock (S-SHUT-12). A fork that cannot be noticed is
 * want of memory (S-CRASH-8). */
START_TEST(no_pool_is_needed)
{
	struct early early;
	int k, rc;
	pid_t child;

	for (k = 1; ; k++) {
		fault_start(SYS_CALLS, k, false);
		rc = make_early(&early, _i);
		if (fault_stop() < k)
			break;
		ck_assert_int_eq(rc, -ENOMEM);
		ck_assert_uint_eq(sys_blocks(), 0);
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_gt(k, 2);
	child = fork();
	if (child == 0) {
		EXPECT(use_early(&early, _i), -ESHUTDOWN);
		EXPECT(free_early(&early, _i), 0);
		WRONG(sys_blocks() != 0);
		_exit(0);
	}
	support_await_child(child);
	ck_assert_int_eq(free_early(&early, _i), 0);
	ck_assert_uint_eq(sys_blocks(), 0);
}
END_TEST

#endif

static Suite *suite(void)
{
	Suite *suite = suite_create("shut_fork");
	TCase *tcase = support_case(suite, "fork");

	tcase_add_loop_test(tcase, child_is_refused, 0, 8);
	tcase_add_loop_test(tcase, parent_keeps_wakeups, 0, 6);
	tcase_add_loop_test(tcase, fork_in_callback, 0, 2);
	tcase_add_test(tcase, fork_on_worker);
	tcase_add_test(tcase, fork_on_other_thread);
#if !defined(__SANITIZE_THREAD__)
	tcase_add_test(tcase, locks_are_not_waited_for);
	tcase_add_test(tcase, child_starts_anew);
	if (support_forks())
		tcase_add_loop_test(tcase, no_pool_is_needed, 0, EARLY);
#endif
	return suite;
}

int main(void)
{
	return support_run(suite());
}
