/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What happens in one turn of the base and what only in a later one. Over an eventfd and
 * over a pipe.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <event2/event_struct.h>
#include <pthread.h>

/* So long that only the number of callbacks ends a turn. */
#define NO_BUDGET_US INT64_C(3600000000)

static bool kind_open_spinning(struct world *world, int kind, int batch, int64_t budget_us,
	int64_t spin_us)
{
	struct evwork_pool_options pool = { .threads = 1, .spin_us = spin_us };
	struct evwork_loop_options loop = {
		.notify = notify_kinds[kind], .batch = batch, .budget_us = budget_us, .spin_us = spin_us
	};

	if (notify_is_missing(kind))
		return false;
	world_open_with(world, &pool, &loop);
	return true;
}

static bool kind_open(struct world *world, int kind, int batch, int64_t budget_us)
{
	return kind_open_spinning(world, kind, batch, budget_us, 0);
}

/* The number of the present pass of the base. */
static int pass;

/* One pass of the base, counted. */
static void counted_pass(struct event_base *base)
{
	pass++;
	one_pass(base);
}

/* How much comes in one turn. */

static int came;

static void count_post(void *arg)
{
	*(int *)arg = ++came;
}

#define POSTS 600

/* Passes until all n have come; none brings more than batch, and once it has begun none is
 * empty. */
static void expect_batches(struct world *world, int n, int batch)
{
	struct evwork_loop_stats stats;
	int before;

	while (came < n) {
		before = came;
		counted_pass(world->base);
		ck_assert_int_le(came - before, batch);
		/* The first wake-up of a worker may be on its way still. */
		if (before > 0)
			ck_assert_int_gt(came, before);
	}
	counted_pass(world->base);
	ck_assert_int_eq(came, n);
	ck_assert_int_eq(evwork_loop_stats(world->loop, &stats), 0);
	ck_assert_uint_eq(stats.delivered, (unsigned)n);
	ck_assert_uint_ge(stats.turns, (unsigned)((n + batch - 1) / batch));
}

static const int batches[] = { 0, 1, 7, 500 };
#define BATCHES 4

/* One turn calls at most `batch` posts back, 128 by default, and the rest follow in the next
 * turns without waiting, in order: S-DLV-5. */
START_TEST(batch_bounds_posts)
{
	int order[POSTS] = { 0 };
	int option = batches[_i / NOTIFY_KINDS], batch = option ? option : EVWORK_BATCH_DEFAULT;
	struct world world;
	int i;

	if (!kind_open(&world, _i % NOTIFY_KINDS, option, NO_BUDGET_US))
		return;
	came = 0;
	for (i = 0; i < POSTS; i++)
		ck_assert_int_eq(evwork_post(world.loop, count_post, &order[i]), 0);
	expect_batches(&world, POSTS, batch);
	for (i = 0; i < POSTS; i++)
		ck_assert_int_eq(order[i], i + 1);
	world_close(&world);
}
END_TEST

static void count_done(struct probe *probe)
{
	(void)probe;
	came++;
}

/* One turn delivers at most `batch` outcomes of jobs that have all ended: S-DLV-5. */
START_TEST(batch_bounds_outcomes)
{
	struct probe *probes = calloc(POSTS, sizeof(*probes));
	int option = batches[_i / NOTIFY_KINDS], batch = option ? option : EVWORK_BATCH_DEFAULT;
	struct evwork_lane_stats stats;
	struct world world;
	int i;

	if (!kind_open(&world, _i % NOTIFY_KINDS, option, NO_BUDGET_US)) {
		free(probes);
		return;
	}
	came = 0;
	for (i = 0; i < POSTS; i++) {
		probe_init(&probes[i], 0);
		probes[i].on_done = count_done;
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	do {
		sys_yield();
		ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(world.pool), &stats), 0);
	} while (stats.queued || stats.running);
	expect_batches(&world, POSTS, batch);
	world_close(&world);
	free(probes);
}
END_TEST

static void count_timer(struct support_timer *timer)
{
	(void)timer;
	came++;
}

static void count_watch(struct support_watch *watch)
{
	(void)watch;
	came++;
}

#define EACH 6

/* Posts, watches and timers that are all due share the one bound of a turn: S-DLV-5. */
START_TEST(batch_bounds_all_kinds_together)
{
	struct support_timer timers[EACH];
	struct support_watch watches[EACH];
	struct evwork_ctx *dead;
	int order[EACH], i;
	struct world world;

	if (!kind_open(&world, _i, 2, NO_BUDGET_US))
		return;
	came = 0;
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(dead, 0), 0);
	for (i = 0; i < EACH; i++) {
		support_timer_init(&timers[i], world.loop);
		timers[i].on = count_timer;
		support_watch_init(&watches[i]);
		watches[i].on = count_watch;
		ck_assert_int_eq(evwork_post(world.loop, count_post, &order[i]), 0);
		ck_assert_int_eq(evwork_timer_start(world.loop, &timers[i].timer, 0), 0);
		ck_assert_int_eq(evwork_ctx_after(dead, world.loop, &watches[i].watch), 0);
	}
	expect_batches(&world, 3 * EACH, 2);
	evwork_ctx_unref(dead);
	world_close(&world);
}
END_TEST

static void keep_busy(void *arg)
{
	int64_t end = sys_now() + 2 * SYS_NS_PER_MS;

	(void)arg;
	while (sys_now() < end)
		sys_relax();
	came++;
}

/* A turn also ends when its time is used up: many callbacks of 2 ms, within the bound of
 * their number, do not all come in one turn of 100 us, S-DLV-5. */
START_TEST(budget_ends_a_turn)
{
	struct world world;
	int i;

	if (!kind_open(&world, _i, 1000, 100))
		return;
	came = 0;
	for (i = 0; i < 40; i++)
		ck_assert_int_eq(evwork_post(world.loop, keep_busy, NULL), 0);
	counted_pass(world.base);
	ck_assert_int_ge(came, 1);
	ck_assert_int_lt(came, 40);
	world_run(&world);
	ck_assert_int_eq(came, 40);
	world_close(&world);
}
END_TEST

/* What goes on in between. */

/* Callbacks that bring themselves back for ever, until the test has seen enough. */
static struct {
	struct world world;
	struct probe probe;
	struct support_timer timer;
	struct support_watch watch;
	struct evwork_ctx *dead;
	int ticks, reads, rounds;
} forever;

static bool enough(void)
{
	forever.rounds++;
	return forever.ticks >= 3 && forever.reads >= 3;
}

static void post_forever(void *arg)
{
	if (!enough() && evwork_post(forever.world.loop, post_forever, arg) != 0)
		abort();
}

static void submit_forever(struct probe *probe)
{
	if (!enough() && evwork_submit(forever.world.loop, &probe->job) != 0)
		abort();
}

static void set_forever(struct support_timer *timer)
{
	if (!enough() && evwork_timer_start(forever.world.loop, &timer->timer, 0) != 0)
		abort();
}

static void watch_forever(struct support_watch *watch)
{
	if (!enough() && evwork_ctx_after(forever.dead, forever.world.loop, &watch->watch) != 0)
		abort();
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval ms = { 0, 1000 };

	(void)fd;
	(void)what;
	if (++forever.ticks < 3)
		evtimer_add(*(struct event **)arg, &ms);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	if (++forever.reads == 3)
		event_del(*(struct event **)arg);
}

enum returner { RETURN_POST, RETURN_JOB, RETURN_TIMER, RETURN_WATCH, RETURN_ALL, RETURNERS };

static void start_forever(enum returner returner)
{
	struct evwork_loop *loop = forever.world.loop;
	bool all = returner == RETURN_ALL;

	probe_init(&forever.probe, 0);
	forever.probe.on_done = submit_forever;
	support_timer_init(&forever.timer, loop);
	forever.timer.on = set_forever;
	support_watch_init(&forever.watch);
	forever.watch.on = watch_forever;
	ck_assert_int_eq(evwork_ctx_new(NULL, &forever.dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(forever.dead, 0), 0);
	if (all || returner == RETURN_POST)
		ck_assert_int_eq(evwork_post(loop, post_forever, NULL), 0);
	if (all || returner == RETURN_JOB)
		ck_assert_int_eq(evwork_submit(loop, &forever.probe.job), 0);
	if (all || returner == RETURN_TIMER)
		ck_assert_int_eq(evwork_timer_start(loop, &forever.timer.timer, 0), 0);
	if (all || returner == RETURN_WATCH)
		ck_assert_int_eq(evwork_ctx_after(forever.dead, loop, &forever.watch.watch), 0);
}

/* A callback of whatever kind that brings itself back for ever stops neither a timer of
 * 1 ms nor a readable descriptor, be there a bound for the time of a turn or only for
 * its callbacks, which a loop that spins takes in several turns: S-DLV-5, S-DLV-6. */
START_TEST(callbacks_for_ever_stop_nothing)
{
	static const struct timeval ms = { 0, 1000 };
	struct event *ticker, *reader;
	int fds[2], i;

	int which = _i / NOTIFY_KINDS;
	bool spinning = which >= RETURNERS;

	memset(&forever, 0, sizeof(forever));
	if (!kind_open_spinning(&forever.world, _i % NOTIFY_KINDS, 0, spinning ? NO_BUDGET_US : 0,
			spinning ? 100 : 0))
		return;
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	ticker = evtimer_new(forever.world.base, on_tick, &ticker);
	reader = event_new(forever.world.base, fds[0], EV_READ | EV_PERSIST, on_readable, &reader);
	ck_assert_int_eq(evtimer_add(ticker, &ms), 0);
	ck_assert_int_eq(event_add(reader, NULL), 0);
	start_forever((enum returner)(which % RETURNERS));
	world_run_until(&forever.world, &forever.ticks, 3);
	world_run_until(&forever.world, &forever.reads, 3);
	/* A watch alone does not keep the base running. */
	for (i = 0; i < 5; i++)
		counted_pass(forever.world.base);
	world_run(&forever.world);
	ck_assert_int_ge(forever.rounds, 1);
	event_free(ticker);
	event_free(reader);
	close(fds[0]);
	close(fds[1]);
	evwork_ctx_unref(forever.dead);
	world_close(&forever.world);
}
END_TEST

static int since_io, most_since_io;

static void count_since_io(void *arg)
{
	(void)arg;
	came++;
	if (++since_io > most_since_io)
		most_since_io = since_io;
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	since_io = 0;
	if (came == POSTS)
		event_del(*(struct event **)arg);
}

/* A ready descriptor gets its turn between the batches: never more than two batches come
 * from one of its calls to the next, S-DLV-5. */
START_TEST(descriptors_between_batches)
{
	struct world world;
	struct event *reader;
	int fds[2], i;

	if (!kind_open(&world, _i, 5, NO_BUDGET_US))
		return;
	came = since_io = most_since_io = 0;
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	reader = event_new(world.base, fds[0], EV_READ | EV_PERSIST, on_io, &reader);
	ck_assert_int_eq(event_add(reader, NULL), 0);
	for (i = 0; i < POSTS; i++)
		ck_assert_int_eq(evwork_post(world.loop, count_since_io, NULL), 0);
	world_run(&world);
	ck_assert_int_eq(came, POSTS);
	ck_assert_int_le(most_since_io, 10);
	event_free(reader);
	close(fds[0]);
	close(fds[1]);
	world_close(&world);
}
END_TEST

struct flood {
	struct world *world;
	struct support_timer timer;
	int calls;
};

static void flood_on(void *arg)
{
	struct flood *flood = arg;

	/* An end, so that a loop that starves it fails instead of hanging. */
	if (++flood->calls < 10000 && !flood->timer.calls)
		ck_assert_int_eq(evwork_post(flood->world->loop, flood_on, flood), 0);
}

/* Mail that fills every turn to the last callback leaves the timers of the loop the next
 * one (S-DLV-5). */
START_TEST(timers_between_floods)
{
	struct flood flood = { .calls = 0 };
	struct world world;
	int i;

	if (!kind_open(&world, _i, 4, NO_BUDGET_US))
		return;
	flood.world = &world;
	support_timer_init(&flood.timer, world.loop);
	for (i = 0; i < 12; i++)
		ck_assert_int_eq(evwork_post(world.loop, flood_on, &flood), 0);
	ck_assert_int_eq(evwork_timer_start(world.loop, &flood.timer.timer, 0), 0);
	world_run(&world);
	ck_assert_int_eq(flood.timer.calls, 1);
	ck_assert_int_lt(flood.calls, 100);
	world_close(&world);
}
END_TEST

static void open_gate(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	gate_open(arg);
}

/* A loop that polls while a job is in flight, instead of sleeping, still serves a timer of
 * the base, without which the job would not end: S-DLV-5. */
START_TEST(spinning_stops_nothing)
{
	static const struct timeval ms = { 0, 1000 };
	struct evwork_loop_options options = { .notify = notify_kinds[_i], .spin_us = NO_BUDGET_US };
	struct gate_job blocker;
	struct probe probe;
	struct world world;
	struct gate gate;

	if (notify_is_missing(_i))
		return;
	world_open_with(&world, NULL, &options);
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	probe_init(&probe, 0);
	/* A first delivery, after which the loop polls. */
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	world_run_until(&world, &probe.dones, 1);
	ck_assert_int_eq(event_base_once(world.base, -1, EV_TIMEOUT, open_gate, &gate, &ms), 0);
	world_run(&world);
	ck_assert_int_eq(blocker.status, 0);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* What callbacks bring. */

/* A first callback that starts something, and what that is. */
static struct {
	struct world world;
	struct evwork_ctx *dead;
	struct probe probe, unrelated;
	struct support_timer first_timer, timer, due;
	struct support_watch first_watch, watch;
	int first_pass, second_pass, what;
	bool started;
} chain;

enum started { START_POST, START_TIMER, START_WATCH, START_CANCELLED, STARTS };

static void second(void)
{
	chain.second_pass = pass;
}

static void second_post(void *arg)
{
	(void)arg;
	second();
}

static void second_timer(struct support_timer *timer)
{
	(void)timer;
	second();
}

static void second_watch(struct support_watch *watch)
{
	(void)watch;
	second();
}

static void second_done(struct probe *probe)
{
	(void)probe;
	second();
}

static void first(void)
{
	struct evwork_loop *loop = chain.world.loop;
	int rc;

	chain.first_pass = pass;
	if (chain.what == START_POST)
		rc = evwork_post(loop, second_post, NULL);
	else if (chain.what == START_TIMER)
		rc = evwork_timer_start(loop, &chain.timer.timer, 0);
	else if (chain.what == START_WATCH)
		rc = evwork_ctx_after(chain.dead, loop, &chain.watch.watch);
	else
		rc = evwork_cancel(&chain.probe.job);
	chain.started = rc == 0;
}

static void first_post(void *arg)
{
	(void)arg;
	first();
}

static void first_timer(struct support_timer *timer)
{
	(void)timer;
	first();
}

static void first_watch(struct support_watch *watch)
{
	(void)watch;
	first();
}

static void chain_prepare(void)
{
	struct evwork_loop *loop = chain.world.loop;

	ck_assert_int_eq(evwork_ctx_new(NULL, &chain.dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(chain.dead, 0), 0);
	probe_init(&chain.probe, 0);
	chain.probe.on_done = second_done;
	support_timer_init(&chain.first_timer, loop);
	chain.first_timer.on = first_timer;
	support_timer_init(&chain.timer, loop);
	chain.timer.on = second_timer;
	support_timer_init(&chain.due, loop);
	support_watch_init(&chain.first_watch);
	chain.first_watch.on = first_watch;
	support_watch_init(&chain.watch);
	chain.watch.on = second_watch;
}

enum firsts { FIRST_POST, FIRST_TIMER, FIRST_WATCH, FIRSTS };

static void chain_begin(enum firsts from, bool with_due_timer)
{
	struct evwork_loop *loop = chain.world.loop;

	if (from == FIRST_POST)
		ck_assert_int_eq(evwork_post(loop, first_post, NULL), 0);
	else if (from == FIRST_TIMER)
		ck_assert_int_eq(evwork_timer_start(loop, &chain.first_timer.timer, 0), 0);
	else
		ck_assert_int_eq(evwork_ctx_after(chain.dead, loop, &chain.first_watch.watch), 0);
	/* One more reason for the base to call the loop in the same pass. */
	if (with_due_timer)
		ck_assert_int_eq(evwork_timer_start(loop, &chain.due.timer, 0), 0);
}

/* What a post, a timer or a watch starts, posts or cancels comes in a later turn of the
 * base, also when the base has several reasons to call the loop in one: S-DLV-6. */
START_TEST(what_callbacks_start_comes_later)
{
	enum firsts from = (enum firsts)(_i / 2 % FIRSTS);
	struct gate_job blocker;
	struct gate gate;
	int n;

	memset(&chain, 0, sizeof(chain));
	if (!kind_open(&chain.world, _i % NOTIFY_KINDS, 0, NO_BUDGET_US))
		return;
	chain.what = _i / (2 * FIRSTS) % STARTS;
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	chain_prepare();
	ck_assert_int_eq(evwork_submit(chain.world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_submit(chain.world.loop, &chain.probe.job), 0);
	pass = 0;
	chain_begin(from, _i / (2 * FIRSTS * STARTS));
	for (n = 0; n < 20 && !chain.second_pass; n++)
		counted_pass(chain.world.base);
	ck_assert(chain.started);
	ck_assert_int_gt(chain.first_pass, 0);
	ck_assert_int_gt(chain.second_pass, chain.first_pass);
	gate_open(&gate);
	world_run(&chain.world);
	evwork_ctx_unref(chain.dead);
	world_close(&chain.world);
	gate_fini(&gate);
}
END_TEST
#define CHAINS (2 * FIRSTS * STARTS * 2)

/* Breaks. */

static struct event_base *broken_base;
static int break_at;
static bool break_by_exit;

static void count_and_break(void *arg)
{
	*(int *)arg = ++came;
	if (came != break_at)
		return;
	if (break_by_exit)
		event_base_loopexit(broken_base, NULL);
	else
		event_base_loopbreak(broken_base);
}

#define BROKEN 50

/* A base that is broken or left between post and delivery loses nothing: the next run
 * delivers the rest, each once and in order, S-DLV-9, S-DLV-10. */
START_TEST(breaking_the_base_loses_nothing)
{
	int order[BROKEN] = { 0 }, i;
	struct probe probe;
	struct world world;

	if (!kind_open(&world, _i % NOTIFY_KINDS, 4, 0))
		return;
	came = 0;
	break_at = 10;
	break_by_exit = _i / NOTIFY_KINDS;
	broken_base = world.base;
	for (i = 0; i < BROKEN; i++)
		ck_assert_int_eq(evwork_post(world.loop, count_and_break, &order[i]), 0);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(event_base_dispatch(world.base), 0);
	ck_assert_int_ge(came, break_at);
	ck_assert_int_lt(came, BROKEN);
	world_run(&world);
	ck_assert_int_eq(came, BROKEN);
	ck_assert_int_eq(probe.dones, 1);
	for (i = 0; i < BROKEN; i++)
		ck_assert_int_eq(order[i], i + 1);
	world_close(&world);
}
END_TEST

/* What a done callback may do. */

static struct {
	struct world world;
	struct probe first, next, queued;
	struct support_timer timer;
	int rc[7], closed;
} busy_done;

static void count_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
	busy_done.closed++;
}

static void do_everything(struct probe *probe)
{
	struct evwork_loop *loop = busy_done.world.loop;

	busy_done.rc[0] = evwork_submit(loop, &busy_done.next.job);
	busy_done.rc[1] = evwork_submit(loop, &probe->job);
	busy_done.rc[2] = evwork_cancel(&busy_done.queued.job);
	busy_done.rc[3] = evwork_timer_start(loop, &busy_done.timer.timer, 0);
	busy_done.rc[4] = evwork_pool_close(busy_done.world.pool, EVWORK_DRAIN, loop,
		count_closed, NULL);
	busy_done.rc[5] = event_base_loop(busy_done.world.base, EVLOOP_NONBLOCK);
	busy_done.rc[6] = event_base_loopbreak(busy_done.world.base);
	probe->on_done = NULL;
}

static void ignore_log(int severity, const char *text)
{
	(void)severity;
	(void)text;
}

/* A done callback may submit, also its own job, cancel, set a timer, close the pool and
 * break the loop, and all of it takes effect; only running the base inside itself is
 * refused, by libevent: S-DLV-10. */
START_TEST(done_may_do_everything)
{
	struct gate_job blocker;
	struct gate gate;

	memset(&busy_done, 0, sizeof(busy_done));
	if (!kind_open(&busy_done.world, _i, 0, 0))
		return;
	event_set_log_callback(ignore_log);
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	probe_init(&busy_done.first, 0);
	busy_done.first.on_done = do_everything;
	probe_init(&busy_done.next, 0);
	probe_init(&busy_done.queued, 0);
	support_timer_init(&busy_done.timer, busy_done.world.loop);
	ck_assert_int_eq(evwork_submit(busy_done.world.loop, &busy_done.first.job), 0);
	ck_assert_int_eq(evwork_submit(busy_done.world.loop, &blocker.job), 0);
	ck_assert_int_eq(evwork_submit(busy_done.world.loop, &busy_done.queued.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(event_base_dispatch(busy_done.world.base), 0);
	event_set_log_callback(NULL);
	ck_assert_int_eq(busy_done.first.dones, 1);
	gate_open(&gate);
	world_run_until(&busy_done.world, &busy_done.closed, 1);
	ck_assert_int_eq(busy_done.rc[0], 0);
	ck_assert_int_eq(busy_done.rc[1], 0);
	ck_assert_int_eq(busy_done.rc[2], 0);
	ck_assert_int_eq(busy_done.rc[3], 0);
	ck_assert_int_eq(busy_done.rc[4], 0);
	ck_assert_int_eq(busy_done.rc[5], -1);
	ck_assert_int_eq(busy_done.rc[6], 0);
	ck_assert_int_eq(busy_done.first.dones, 2);
	ck_assert_int_eq(busy_done.next.dones, 1);
	ck_assert_int_eq(busy_done.queued.status, -ECANCELED);
	ck_assert_int_eq(busy_done.timer.calls, 1);
	world_close(&busy_done.world);
	gate_fini(&gate);
}
END_TEST

/* A base that runs with EVLOOP_ONCE returns after a delivery although a hold would keep it
 * running: S-DLV-5. */
START_TEST(once_returns_after_a_delivery)
{
	struct support_post post;
	struct probe probe;
	struct world world;

	if (!kind_open(&world, _i, 0, 0))
		return;
	support_post_init(&post);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	ck_assert_int_eq(evwork_post(world.loop, support_post_fn, &post), 0);
	ck_assert_int_eq(event_base_loop(world.base, EVLOOP_ONCE), 0);
	ck_assert_int_eq(post.calls, 1);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	while (probe.dones == 0)
		ck_assert_int_eq(event_base_loop(world.base, EVLOOP_ONCE), 0);
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *turns = suite_create("dlv_turns");
	TCase *tcase = support_case(turns, "batches");

	tcase_add_loop_test(tcase, batch_bounds_posts, 0, NOTIFY_KINDS * BATCHES);
	tcase_add_loop_test(tcase, batch_bounds_outcomes, 0, NOTIFY_KINDS * BATCHES);
	tcase_add_loop_test(tcase, batch_bounds_all_kinds_together, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, budget_ends_a_turn, 0, NOTIFY_KINDS);
	tcase = support_case(turns, "between");
	tcase_add_loop_test(tcase, callbacks_for_ever_stop_nothing, 0, 2 * NOTIFY_KINDS * RETURNERS);
	tcase_add_loop_test(tcase, descriptors_between_batches, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, timers_between_floods, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, spinning_stops_nothing, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, once_returns_after_a_delivery, 0, NOTIFY_KINDS);
	tcase = support_case(turns, "later");
	tcase_add_loop_test(tcase, what_callbacks_start_comes_later, 0, CHAINS);
	tcase_add_loop_test(tcase, breaking_the_base_loses_nothing, 0, NOTIFY_KINDS * 2);
	tcase_add_loop_test(tcase, done_may_do_everything, 0, NOTIFY_KINDS);
	return turns;
}

int main(void)
{
	return support_run(suite());
}
