/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

/*
 * Contexts. Time stands still in most of these tests: a manual clock moves only
 * when the test says so, and a loop on which no turn is run is a stalled one.
 */

#include "support.h"

#include <limits.h>
#include <pthread.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 10
#else
#define SLOWER 1
#endif

#define START_NS INT64_C(1000000000)
#define HOUR_MS INT64_C(3600000)

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* For places that are passed so often that Check's own record of each assertion
 * would take longer than the test. */
#define must(call) do { \
	int must_rc_ = (call); \
	if (must_rc_ != 0) \
		ck_abort_msg(#call " returned %d", must_rc_); \
} while (0)

/* Makers that must succeed. */

static struct evwork_ctx *ctx_new(struct evwork_ctx *parent)
{
	struct evwork_ctx *ctx = NULL;

	must(evwork_ctx_new(parent, &ctx));
	return ctx;
}

static struct evwork_ctx *ctx_timeout(struct evwork_ctx *parent, struct evwork_loop *loop,
	int64_t timeout_ms, int cause)
{
	struct evwork_ctx *ctx = NULL;

	must(evwork_ctx_with_timeout(parent, loop, timeout_ms, cause, &ctx));
	return ctx;
}

static struct evwork_ctx *ctx_deadline(struct evwork_ctx *parent, struct evwork_loop *loop,
	int64_t deadline_ns, int cause)
{
	struct evwork_ctx *ctx = NULL;

	must(evwork_ctx_with_deadline(parent, loop, deadline_ns, cause, &ctx));
	return ctx;
}

static struct evwork_ctx *ctx_value(struct evwork_ctx *parent, const void *key, void *value,
	void (*destroy)(void *value))
{
	struct evwork_ctx *ctx = NULL;

	must(evwork_ctx_with_value(parent, key, value, destroy, &ctx));
	return ctx;
}

static struct evwork_ctx *ctx_detached(struct evwork_ctx *parent)
{
	struct evwork_ctx *ctx = NULL;

	must(evwork_ctx_detached(parent, &ctx));
	return ctx;
}

/* A macro, so that a failure names the line of the test. */
#define expect_ctx(ctx, wanted_err, wanted_cause) do { \
	ck_assert_int_eq(evwork_ctx_err(ctx), wanted_err); \
	ck_assert_int_eq(evwork_ctx_cause(ctx), wanted_cause); \
} while (0)

static int events_of(struct world *world)
{
	return event_base_get_num_events(world->base, EVENT_BASE_COUNT_ADDED |
		EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_VIRTUAL);
}

static void on_thread(void *(*entry)(void *arg), void *arg)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, entry, arg), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* Makes and unmakes a context on a thread of its own. */
struct remote {
	struct evwork_ctx *ctx;
	struct evwork_loop *loop;
	struct evwork_watch *watch;
	int64_t timeout_ms;
	int cause;
	int rc, err, seen_cause;
};

static void *remote_read(void *arg)
{
	struct remote *remote = arg;

	remote->err = evwork_ctx_err(remote->ctx);
	remote->seen_cause = evwork_ctx_cause(remote->ctx);
	return NULL;
}

static void *remote_cause_only(void *arg)
{
	struct remote *remote = arg;

	remote->seen_cause = evwork_ctx_cause(remote->ctx);
	return NULL;
}

static void *remote_cancel(void *arg)
{
	struct remote *remote = arg;

	remote->rc = evwork_ctx_cancel(remote->ctx, remote->cause);
	return NULL;
}

static void *remote_create(void *arg)
{
	struct remote *remote = arg;

	remote->rc = evwork_ctx_with_timeout(NULL, remote->loop, remote->timeout_ms,
		remote->cause, &remote->ctx);
	return NULL;
}

static void *remote_unref(void *arg)
{
	struct remote *remote = arg;

	evwork_ctx_unref(remote->ctx);
	return NULL;
}

static void *remote_stop(void *arg)
{
	struct remote *remote = arg;

	remote->rc = evwork_ctx_stop(remote->watch);
	return NULL;
}

/* What another thread sees. */
#define expect_ctx_elsewhere(which, wanted_err, wanted_cause) do { \
	struct remote remote_ = { 0 }; \
	remote_.ctx = (which); \
	on_thread(remote_read, &remote_); \
	ck_assert_int_eq(remote_.err, wanted_err); \
	ck_assert_int_eq(remote_.seen_cause, wanted_cause); \
} while (0)

/* A watch that records its calls. */
struct witness {
	struct evwork_watch watch;
	int calls, status;
	int order;                                /* from 1, in order of the calls */
	pthread_t thread;
	void (*on_call)(struct witness *witness);  /* may be NULL */
	void *arg;
};

/* Both on the loop's thread only, which is the one of the test. */
static int witness_calls;

static void witness_fn(struct evwork_watch *watch, int status)
{
	struct witness *witness = EVWORK_CONTAINER(watch, struct witness, watch);

	witness->calls++;
	witness->status = status;
	witness->order = ++witness_calls;
	witness->thread = pthread_self();
	/* Last, since it may free the witness. */
	if (witness->on_call)
		witness->on_call(witness);
}

static void witness_init(struct witness *witness)
{
	memset(witness, 0, sizeof(*witness));
	witness->status = 1;
	evwork_watch_init(&witness->watch, witness_fn);
}

static void witness_start(struct witness *witness, struct evwork_ctx *ctx,
	struct evwork_loop *loop)
{
	witness_init(witness);
	must(evwork_ctx_after(ctx, loop, &witness->watch));
}

/* Some turns, in which everything that is due happens and nothing else. */
static void settle(struct world *world)
{
	ck_assert_int_eq(evwork_loop_hold(world->loop), 0);
	world_turns(world, 5);
	ck_assert_int_eq(evwork_loop_release(world->loop), 0);
}

static void on_nothing(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

/* Exactly one turn of the base. Without an event of the program's own that is
 * active, libevent would take more turns as long as each found something. */
static void one_turn(struct world *world)
{
	ck_assert_int_eq(event_base_once(world->base, -1, EV_TIMEOUT, on_nothing, NULL, NULL), 0);
	ck_assert_int_ge(event_base_loop(world->base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
}

static void run_until(struct world *world, int *count, int n)
{
	ck_assert_int_eq(evwork_loop_hold(world->loop), 0);
	world_run_until(world, count, n);
	ck_assert_int_eq(evwork_loop_release(world->loop), 0);
}

static void world_setup(struct world *world)
{
	witness_calls = 0;
	world_open_manual(world, 1, START_NS);
}

/* Background. */

/* S-CTX-1: the background, by name and as NULL, is never dead and has no
 * deadline, no cause and no values. */
START_TEST(background_is_alive_and_empty)
{
	struct evwork_ctx *names[] = { NULL, evwork_ctx_background() };
	static const char key;
	void *value = &names;
	size_t i;

	for (i = 0; i < LENGTH(names); i++) {
		expect_ctx(names[i], 0, 0);
		ck_assert_int_eq(evwork_ctx_deadline(names[i]), EVWORK_NEVER);
		ck_assert_int_eq(evwork_ctx_value(names[i], &key, &value), 0);
		ck_assert_ptr_eq(value, &names);
	}
}
END_TEST

/* S-CTX-1: cancelling the background is refused with EINVAL and kills nothing. */
START_TEST(background_cannot_be_cancelled)
{
	struct evwork_ctx *child = ctx_new(NULL);
	struct evwork_ctx *other = ctx_new(evwork_ctx_background());

	ck_assert_int_eq(evwork_ctx_cancel(NULL, 0), -EINVAL);
	ck_assert_int_eq(evwork_ctx_cancel(evwork_ctx_background(), 4711), -EINVAL);
	expect_ctx(evwork_ctx_background(), 0, 0);
	expect_ctx(child, 0, 0);
	expect_ctx(other, 0, 0);
	evwork_ctx_unref(child);
	evwork_ctx_unref(other);
}
END_TEST

/* S-CTX-1, S-GEN-8: ref and unref ignore NULL and the background, however often
 * they are called. */
START_TEST(background_is_not_counted)
{
	struct evwork_ctx *background = evwork_ctx_background();
	int i;

	for (i = 0; i < 3; i++) {
		evwork_ctx_unref(background);
		evwork_ctx_unref(NULL);
	}
	ck_assert_ptr_null(evwork_ctx_ref(NULL));
	ck_assert_ptr_eq(evwork_ctx_ref(background), background);
	ck_assert_ptr_eq(evwork_ctx_background(), background);
	expect_ctx(background, 0, 0);
}
END_TEST

/* S-CTX-1: children of NULL and of the background can be made by every maker and
 * die alone. */
START_TEST(background_can_be_a_parent)
{
	struct evwork_ctx *parents[] = { NULL, evwork_ctx_background() };
	struct evwork_ctx *child[4];
	static const char key;
	struct world world;
	size_t i, k;

	world_setup(&world);
	for (i = 0; i < LENGTH(parents); i++) {
		child[0] = ctx_new(parents[i]);
		child[1] = ctx_value(parents[i], &key, NULL, NULL);
		child[2] = ctx_detached(parents[i]);
		child[3] = ctx_timeout(parents[i], world.loop, 10, 0);
		for (k = 0; k < LENGTH(child); k++) {
			expect_ctx(child[k], 0, 0);
			ck_assert_int_eq(evwork_ctx_cancel(child[k], 0), 0);
			expect_ctx(child[k], -ECANCELED, -ECANCELED);
			evwork_ctx_unref(child[k]);
		}
	}
	expect_ctx(evwork_ctx_background(), 0, 0);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-1, S-CTX-14: a watch on the background waits until it is stopped. */
START_TEST(background_watch_waits_for_stop)
{
	struct witness by_null, by_name;
	struct world world;

	world_setup(&world);
	witness_start(&by_null, NULL, world.loop);
	witness_start(&by_name, evwork_ctx_background(), world.loop);
	settle(&world);
	ck_assert_int_eq(evwork_ctx_stop(&by_null.watch), 1);
	ck_assert_int_eq(evwork_ctx_stop(&by_name.watch), 1);
	settle(&world);
	ck_assert_int_eq(witness_calls, 0);
	world_close(&world);
}
END_TEST

/* The latch. */

/* S-CTX-2: a cancelled context says ECANCELED for ever, also after its deadline
 * has passed on a running loop. */
START_TEST(cancelled_stays_cancelled)
{
	struct evwork_ctx *ctx;
	struct world world;
	int i;

	world_setup(&world);
	ctx = ctx_timeout(NULL, world.loop, 10, 4711);
	expect_ctx(ctx, 0, 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	for (i = 0; i < 3; i++) {
		expect_ctx(ctx, -ECANCELED, -ECANCELED);
		ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
		settle(&world);
	}
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-2: an expired context says ETIMEDOUT for ever, whatever cancels follow. */
START_TEST(expired_stays_expired)
{
	struct evwork_ctx *ctx;
	struct world world;
	int i;

	world_setup(&world);
	ctx = ctx_timeout(NULL, world.loop, 10, 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	for (i = 0; i < 3; i++) {
		expect_ctx(ctx, -ETIMEDOUT, -ETIMEDOUT);
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 4711 + i), -EALREADY);
		settle(&world);
	}
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-3: the first cancel fixes error and cause; later ones say EALREADY and
 * change neither. */
START_TEST(first_cancel_fixes_error_and_cause)
{
	struct evwork_ctx *ctx = ctx_new(NULL);

	ck_assert_int_eq(evwork_ctx_cancel(ctx, 4711), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 4712), -EALREADY);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), -EALREADY);
	expect_ctx(ctx, -ECANCELED, 4711);
	evwork_ctx_unref(ctx);
}
END_TEST

/* S-CTX-3, S-CTX-11: a cancel with cause 0 makes the error the cause, and every
 * other number is a cause as it stands. */
START_TEST(cause_is_any_number)
{
	static const int causes[] = { 0, 1, -1, INT_MAX, INT_MIN, -ETIMEDOUT, -EPIPE };
	struct evwork_ctx *ctx;
	size_t i;

	for (i = 0; i < LENGTH(causes); i++) {
		ctx = ctx_new(NULL);
		ck_assert_int_eq(evwork_ctx_cancel(ctx, causes[i]), 0);
		expect_ctx(ctx, -ECANCELED, causes[i] ? causes[i] : -ECANCELED);
		evwork_ctx_unref(ctx);
	}
}
END_TEST

/* Deadlines. */

/* S-CTX-4: the deadline of a context is the earlier of its own and its parent's,
 * and every other maker hands the parent's on. */
START_TEST(earlier_deadline_wins)
{
	const int64_t due = START_NS + 100 * SYS_NS_PER_MS;
	struct evwork_ctx *parent, *child[6];
	static const char key;
	struct world world;
	size_t i;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, 100, 0);
	child[0] = ctx_new(parent);
	child[1] = ctx_value(parent, &key, NULL, NULL);
	child[2] = ctx_timeout(parent, world.loop, 200, 0);
	child[3] = ctx_deadline(parent, world.loop, EVWORK_NEVER, 0);
	child[4] = ctx_timeout(parent, world.loop, 100, 0);
	child[5] = ctx_timeout(parent, world.loop, 50, 0);
	ck_assert_int_eq(evwork_ctx_deadline(parent), due);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(evwork_ctx_deadline(child[i]), due);
	ck_assert_int_eq(evwork_ctx_deadline(child[5]), START_NS + 50 * SYS_NS_PER_MS);
	for (i = 0; i < LENGTH(child); i++)
		evwork_ctx_unref(child[i]);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-4: a deadline that is not earlier than the parent's needs no loop. */
START_TEST(later_deadline_needs_no_loop)
{
	struct evwork_ctx *parent, *later, *same;
	struct world world;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, 100, 0);
	later = ctx_deadline(parent, NULL, evwork_ctx_deadline(parent) + 1, 0);
	same = ctx_deadline(parent, NULL, evwork_ctx_deadline(parent), 0);
	ck_assert_int_eq(evwork_ctx_deadline(later), evwork_ctx_deadline(parent));
	ck_assert_int_eq(evwork_ctx_deadline(same), evwork_ctx_deadline(parent));
	expect_ctx(later, 0, 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 100 * SYS_NS_PER_MS), 0);
	expect_ctx(later, -ETIMEDOUT, -ETIMEDOUT);
	expect_ctx(same, -ETIMEDOUT, -ETIMEDOUT);
	evwork_ctx_unref(later);
	evwork_ctx_unref(same);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-4: a deadline that is not earlier than the parent's adds no timer to the
 * loop it names, which may therefore go at once. */
START_TEST(later_deadline_adds_no_timer)
{
	struct evwork_ctx *parent, *child[2];
	struct world world, other;
	int before;

	world_setup(&world);
	world_open(&other, 1);
	before = events_of(&other);
	parent = ctx_timeout(NULL, world.loop, 100, 0);
	child[0] = ctx_deadline(parent, other.loop, evwork_ctx_deadline(parent), 0);
	child[1] = ctx_deadline(NULL, other.loop, EVWORK_NEVER, 0);
	ck_assert_int_eq(evwork_ctx_deadline(child[1]), EVWORK_NEVER);
	ck_assert_int_eq(events_of(&other), before);
	/* Dispatch returns, since nothing keeps the other loop alive. */
	world_run(&other);
	world_close(&other);
	expect_ctx(child[0], 0, 0);
	evwork_ctx_unref(child[0]);
	evwork_ctx_unref(child[1]);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-4, S-CTX-9: the earlier deadline of a child kills the child and leaves
 * its parent and its sibling alone. */
START_TEST(own_deadline_kills_only_the_child)
{
	struct evwork_ctx *parent, *child, *sibling;
	struct world world;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, 100, 1);
	child = ctx_timeout(parent, world.loop, 50, 2);
	sibling = ctx_new(parent);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 50 * SYS_NS_PER_MS), 0);
	expect_ctx(child, -ETIMEDOUT, 2);
	expect_ctx(parent, 0, 0);
	expect_ctx(sibling, 0, 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 50 * SYS_NS_PER_MS), 0);
	expect_ctx(sibling, -ETIMEDOUT, 1);
	expect_ctx(parent, -ETIMEDOUT, 1);
	expect_ctx(child, -ETIMEDOUT, 2);
	evwork_ctx_unref(child);
	evwork_ctx_unref(sibling);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-5: a timeout that is zero or negative makes a context that is born dead
 * of ETIMEDOUT, and a cancel changes nothing. */
START_TEST(no_time_left_is_born_dead)
{
	static const int64_t timeouts[] = { 0, -1, -1000, INT64_MIN };
	struct evwork_ctx *ctx;
	struct world world;
	size_t i;
	int before;

	world_setup(&world);
	before = events_of(&world);
	for (i = 0; i < LENGTH(timeouts); i++) {
		ctx = ctx_timeout(NULL, world.loop, timeouts[i], 0);
		expect_ctx(ctx, -ETIMEDOUT, -ETIMEDOUT);
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 4711), -EALREADY);
		expect_ctx(ctx, -ETIMEDOUT, -ETIMEDOUT);
		ck_assert_int_eq(events_of(&world), before);
		evwork_ctx_unref(ctx);
	}
	world_run(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-5, S-CTX-11: a deadline that has passed makes a context that is born dead
 * with the deadline's own cause; one nanosecond later it would live. */
START_TEST(past_deadline_is_born_dead)
{
	static const int64_t distances[] = { 0, -1, -START_NS, INT64_MIN + START_NS };
	struct evwork_ctx *ctx;
	struct world world;
	size_t i;

	world_setup(&world);
	for (i = 0; i < LENGTH(distances); i++) {
		ctx = ctx_deadline(NULL, world.loop, START_NS + distances[i], 4711);
		expect_ctx(ctx, -ETIMEDOUT, 4711);
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 1), -EALREADY);
		expect_ctx(ctx, -ETIMEDOUT, 4711);
		ck_assert_int_le(evwork_ctx_deadline(ctx), START_NS);
		evwork_ctx_unref(ctx);
	}
	ctx = ctx_deadline(NULL, world.loop, START_NS + 1, 4711);
	expect_ctx(ctx, 0, 0);
	evwork_ctx_unref(ctx);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-5, S-CTX-18: what is born dead needs no loop. */
START_TEST(born_dead_needs_no_loop)
{
	struct evwork_ctx *ctx = ctx_timeout(NULL, NULL, 0, 7);

	expect_ctx(ctx, -ETIMEDOUT, 7);
	evwork_ctx_unref(ctx);
	ctx = ctx_timeout(NULL, NULL, -5, 0);
	expect_ctx(ctx, -ETIMEDOUT, -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	ctx = ctx_deadline(NULL, NULL, INT64_MIN, 7);
	expect_ctx(ctx, -ETIMEDOUT, 7);
	evwork_ctx_unref(ctx);
}
END_TEST

/* S-GEN-9, S-CTX-4: a timeout beyond the end of time is never reached. */
START_TEST(endless_timeout_saturates)
{
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_timeout(NULL, world.loop, INT64_MAX, 0);
	ck_assert_int_eq(evwork_ctx_deadline(ctx), EVWORK_NEVER);
	ck_assert_int_eq(evwork_clock_jump(world.clock, INT64_MAX / 2), 0);
	expect_ctx(ctx, 0, 0);
	evwork_ctx_unref(ctx);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-6: every kind of child of a dead parent is born dead with the parent's
 * error and cause, which its own deadline's cause does not replace. */
START_TEST(child_of_the_dead_is_born_dead)
{
	struct evwork_ctx *parent, *child[5];
	static const char key;
	struct world world;
	size_t i;
	int before;

	world_setup(&world);
	before = events_of(&world);
	parent = ctx_new(NULL);
	ck_assert_int_eq(evwork_ctx_cancel(parent, 4711), 0);
	child[0] = ctx_new(parent);
	child[1] = ctx_value(parent, &key, NULL, NULL);
	child[2] = ctx_timeout(parent, world.loop, 10, 1);
	child[3] = ctx_timeout(parent, world.loop, -10, 2);
	child[4] = ctx_new(child[0]);
	ck_assert_int_eq(events_of(&world), before);
	for (i = 0; i < LENGTH(child); i++) {
		expect_ctx(child[i], -ECANCELED, 4711);
		ck_assert_int_eq(evwork_ctx_cancel(child[i], 3), -EALREADY);
		expect_ctx(child[i], -ECANCELED, 4711);
	}
	for (i = 0; i < LENGTH(child); i++)
		evwork_ctx_unref(child[i]);
	evwork_ctx_unref(parent);
	world_close(&world);
}
END_TEST

/* S-CTX-6, S-CTX-10: a parent whose deadline has passed unnoticed is dead, and so
 * are the children that are made of it from then on. */
START_TEST(child_of_the_lazily_dead_is_born_dead)
{
	struct evwork_ctx *parent, *child[2];
	struct world world;
	size_t i;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, 10, 4711);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	child[0] = ctx_new(parent);
	child[1] = ctx_timeout(parent, world.loop, 10, 1);
	for (i = 0; i < LENGTH(child); i++) {
		expect_ctx(child[i], -ETIMEDOUT, 4711);
		evwork_ctx_unref(child[i]);
	}
	expect_ctx(parent, -ETIMEDOUT, 4711);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* Propagation. */

#define TREE_FAN 3
#define TREE_NODES 364    /* 1 + 3 + 9 + 27 + 81 + 243 */

/* The node i > 0 is a child of (i - 1) / TREE_FAN. */
static void tree_new(struct evwork_ctx **node, struct evwork_loop *loop)
{
	static const char key;
	int i;

	node[0] = ctx_new(NULL);
	for (i = 1; i < TREE_NODES; i++) {
		struct evwork_ctx *parent = node[(i - 1) / TREE_FAN];

		if (i % 3 == 0)
			node[i] = ctx_timeout(parent, loop, HOUR_MS + i, 1);
		else if (i % 3 == 1)
			node[i] = ctx_new(parent);
		else
			node[i] = ctx_value(parent, &key, node, NULL);
	}
}

static void tree_unref(struct evwork_ctx **node)
{
	int i;

	for (i = 0; i < TREE_NODES; i++)
		evwork_ctx_unref(node[i]);
}

static bool is_below(int i, int top)
{
	while (i > top)
		i = (i - 1) / TREE_FAN;
	return i == top;
}

/* A thread that looks at a whole tree as soon as it is told that the cancel of
 * one of its nodes has returned. */
struct looker {
	struct evwork_ctx *node[TREE_NODES];
	int top, cause;
	atomic_int cancelled;     /* the cancel has returned */
	atomic_int waiting;
	int wrong;                /* nodes that were not as they had to be */
};

static void *looker_run(void *arg)
{
	struct looker *looker = arg;
	int i;

	atomic_fetch_add(&looker->waiting, 1);
	while (!atomic_load(&looker->cancelled))
		sys_relax();
	for (i = 0; i < TREE_NODES; i++) {
		bool dead = is_below(i, looker->top);

		if (evwork_ctx_err(looker->node[i]) != (dead ? -ECANCELED : 0) ||
		    evwork_ctx_cause(looker->node[i]) != (dead ? looker->cause : 0))
			looker->wrong++;
	}
	return NULL;
}

/* S-CTX-7, S-CTX-9: when cancel returns, every descendant has the error and the
 * cause on every thread, and nothing beside or above it has. */
START_TEST(cancel_reaches_all_descendants_before_it_returns)
{
	static const int tops[] = { 0, 1, 3, 4, 20, 121, 363 };
	struct looker looker;
	struct world world;
	pthread_t thread;
	size_t round;

	world_setup(&world);
	for (round = 0; round < 20 * LENGTH(tops); round++) {
		memset(&looker, 0, sizeof(looker));
		tree_new(looker.node, world.loop);
		looker.top = tops[round % LENGTH(tops)];
		looker.cause = 4711;
		ck_assert_int_eq(pthread_create(&thread, NULL, looker_run, &looker), 0);
		while (!atomic_load(&looker.waiting))
			sys_yield();
		ck_assert_int_eq(evwork_ctx_cancel(looker.node[looker.top], 4711), 0);
		atomic_store(&looker.cancelled, 1);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
		ck_assert_int_eq(looker.wrong, 0);
		tree_unref(looker.node);
	}
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-7, S-CTX-10: who first sees that a deadline has passed kills everything
 * below it, also what nobody ever asked for its error. */
START_TEST(expiry_reaches_all_descendants)
{
	struct evwork_ctx *root, *child, *grandchild, *cancelled;
	struct world world;

	world_setup(&world);
	root = ctx_timeout(NULL, world.loop, 10, 4711);
	child = ctx_new(root);
	grandchild = ctx_timeout(child, world.loop, 20, 1);
	cancelled = ctx_new(child);
	ck_assert_int_eq(evwork_ctx_cancel(cancelled, 2), 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	/* The lowest is asked first. */
	expect_ctx_elsewhere(grandchild, -ETIMEDOUT, 4711);
	expect_ctx(child, -ETIMEDOUT, 4711);
	expect_ctx(root, -ETIMEDOUT, 4711);
	expect_ctx(cancelled, -ECANCELED, 2);
	evwork_ctx_unref(cancelled);
	evwork_ctx_unref(grandchild);
	evwork_ctx_unref(child);
	evwork_ctx_unref(root);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-7: a descendant that was dead before keeps its own error and cause. */
START_TEST(the_dead_do_not_die_again)
{
	struct evwork_ctx *root = ctx_new(NULL), *child = ctx_new(root);
	struct evwork_ctx *grandchild = ctx_new(child);

	ck_assert_int_eq(evwork_ctx_cancel(child, 1), 0);
	ck_assert_int_eq(evwork_ctx_cancel(root, 2), 0);
	expect_ctx(root, -ECANCELED, 2);
	expect_ctx(child, -ECANCELED, 1);
	expect_ctx(grandchild, -ECANCELED, 1);
	evwork_ctx_unref(root);
	evwork_ctx_unref(child);
	evwork_ctx_unref(grandchild);
}
END_TEST

/*
 * Threads that look at a context and then at one above it, again and again, while
 * the test kills the root. They meet the test in rounds.
 */
#define CHAIN 24
#define READERS_MAX 4

struct hammer {
	struct evwork_ctx *chain[CHAIN];
	int err, cause;
	atomic_int round;         /* the round that is on; -1 ends the readers */
	atomic_int ready, finished;
	atomic_int inverted;      /* a context was dead and one above it alive */
	atomic_int wrong;         /* another error or cause than expected */
};

/* Looks at a context, then at one above it; true once both are dead. */
static bool hammer_look(struct hammer *hammer, int below, int above)
{
	int first = evwork_ctx_err(hammer->chain[below]);
	int second = evwork_ctx_err(hammer->chain[above]);

	if (first && !second)
		atomic_fetch_add(&hammer->inverted, 1);
	if (first && (first != hammer->err ||
	    evwork_ctx_cause(hammer->chain[below]) != hammer->cause))
		atomic_fetch_add(&hammer->wrong, 1);
	return first && second;
}

/* The lowest and the highest, and a child and its parent. */
static bool hammer_look_around(struct hammer *hammer, int *child)
{
	bool dead = hammer_look(hammer, CHAIN - 1, 0);

	*child = *child % (CHAIN - 1) + 1;
	return hammer_look(hammer, *child, *child - 1) && dead;
}

static void *hammer_run(void *arg)
{
	struct hammer *hammer = arg;
	int round, now, child = 0;

	for (round = 1;; round++) {
		while ((now = atomic_load(&hammer->round)) != round) {
			if (now < 0)
				return NULL;
			sys_yield();
		}
		atomic_fetch_add(&hammer->ready, 1);
		while (!hammer_look_around(hammer, &child))
			;
		atomic_fetch_add(&hammer->finished, 1);
	}
}

static void hammer_await(atomic_int *count, int n)
{
	while (atomic_load(count) < n)
		sys_yield();
}

static void hammer_rounds(struct hammer *hammer, int rounds,
	void (*prepare)(struct hammer *hammer, void *arg),
	void (*kill)(struct hammer *hammer, void *arg), void *arg)
{
	pthread_t thread[READERS_MAX];
	int i, round, readers = sys_cpu_count() - 1;

	/* One for each other CPU: what spins must not keep the test from its own. */
	readers = readers < 1 ? 1 : readers > READERS_MAX ? READERS_MAX : readers;
	for (i = 0; i < readers; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, hammer_run, hammer), 0);
	for (round = 1; round <= rounds; round++) {
		prepare(hammer, arg);
		atomic_store(&hammer->round, round);
		hammer_await(&hammer->ready, round * readers);
		for (i = (int)(sys_random() % 64); i > 0; i--)
			sys_relax();
		kill(hammer, arg);
		hammer_await(&hammer->finished, round * readers);
		for (i = 0; i < CHAIN; i++)
			evwork_ctx_unref(hammer->chain[i]);
	}
	atomic_store(&hammer->round, -1);
	for (i = 0; i < readers; i++)
		ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
}

static void chain_plain(struct hammer *hammer, void *arg)
{
	struct world *world = arg;
	int i;

	hammer->chain[0] = ctx_new(NULL);
	for (i = 1; i < CHAIN; i++)
		hammer->chain[i] = i % 2 ? ctx_new(hammer->chain[i - 1]) :
			ctx_timeout(hammer->chain[i - 1], world->loop, HOUR_MS, 1);
}

static void chain_cancel(struct hammer *hammer, void *arg)
{
	(void)arg;
	must(evwork_ctx_cancel(hammer->chain[0], hammer->cause));
}

/* S-CTX-8: while a tree is cancelled from above, no thread ever sees a child dead
 * and after that its parent alive. */
START_TEST(no_child_dies_before_its_parent)
{
	struct hammer hammer = { 0 };
	struct world world;

	world_setup(&world);
	hammer.err = -ECANCELED;
	hammer.cause = 4711;
	hammer_rounds(&hammer, 4000 / SLOWER, chain_plain, chain_cancel, &world);
	ck_assert_int_eq(atomic_load(&hammer.inverted), 0);
	ck_assert_int_eq(atomic_load(&hammer.wrong), 0);
	settle(&world);
	world_close(&world);
}
END_TEST

static void chain_timed(struct hammer *hammer, void *arg)
{
	struct world *world = arg;
	int i;

	hammer->chain[0] = ctx_timeout(NULL, world->loop, 10, hammer->cause);
	for (i = 1; i < CHAIN; i++)
		hammer->chain[i] = i % 2 ? ctx_new(hammer->chain[i - 1]) :
			ctx_timeout(hammer->chain[i - 1], world->loop, 20, 1);
}

static void chain_expire(struct hammer *hammer, void *arg)
{
	struct world *world = arg;

	(void)hammer;
	must(evwork_clock_jump(world->clock, 10 * SYS_NS_PER_MS));
}

/* S-CTX-8, S-CTX-10: the same holds when the deadline of the root passes and the
 * readers are the first to see it. */
START_TEST(no_child_expires_before_its_parent)
{
	struct hammer hammer = { 0 };
	struct world world;

	world_setup(&world);
	hammer.err = -ETIMEDOUT;
	hammer.cause = 4711;
	hammer_rounds(&hammer, 4000 / SLOWER, chain_timed, chain_expire, &world);
	ck_assert_int_eq(atomic_load(&hammer.inverted), 0);
	ck_assert_int_eq(atomic_load(&hammer.wrong), 0);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-9: cancelling a child touches neither its parent nor its siblings. */
START_TEST(cancel_goes_down_only)
{
	struct evwork_ctx *parent = ctx_new(NULL);
	struct evwork_ctx *first = ctx_new(parent), *middle = ctx_new(parent);
	struct evwork_ctx *last = ctx_new(parent), *below = ctx_new(first);

	ck_assert_int_eq(evwork_ctx_cancel(middle, 1), 0);
	expect_ctx(parent, 0, 0);
	expect_ctx(first, 0, 0);
	expect_ctx(last, 0, 0);
	expect_ctx(below, 0, 0);
	/* What was unlinked did not take its neighbours along. */
	ck_assert_int_eq(evwork_ctx_cancel(parent, 2), 0);
	expect_ctx(first, -ECANCELED, 2);
	expect_ctx(last, -ECANCELED, 2);
	expect_ctx(below, -ECANCELED, 2);
	expect_ctx(middle, -ECANCELED, 1);
	evwork_ctx_unref(below);
	evwork_ctx_unref(last);
	evwork_ctx_unref(middle);
	evwork_ctx_unref(first);
	evwork_ctx_unref(parent);
}
END_TEST

/* S-CTX-9: a million short-lived children, cancelled or not, leave the memory of
 * a long-lived parent flat. */
START_TEST(short_lived_children_leave_nothing)
{
	struct evwork_ctx *parent = ctx_new(NULL), *child;
	size_t before = sys_blocks();
	int i;

	for (i = 0; i < 1000000; i++) {
		child = ctx_new(parent);
		if (i % 2)
			must(evwork_ctx_cancel(child, i));
		evwork_ctx_unref(child);
		if (i % 100000 == 0)
			ck_assert_uint_eq(sys_blocks(), before);
	}
	ck_assert_uint_eq(sys_blocks(), before);
	expect_ctx(parent, 0, 0);
	evwork_ctx_unref(parent);
}
END_TEST

/* S-CTX-9, S-CTX-18: neither do short-lived children with deadlines and watches,
 * and the loop's events are as many as before. */
START_TEST(short_lived_timeouts_leave_nothing)
{
	struct witness witness;
	struct evwork_ctx *parent, *child;
	struct world world;
	size_t before;
	int i, events;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, HOUR_MS, 0);
	before = sys_blocks();
	events = events_of(&world);
	for (i = 0; i < 100000 / SLOWER; i++) {
		child = ctx_timeout(parent, world.loop, 1 + i % 1000, i);
		witness_start(&witness, child, world.loop);
		if (i % 2)
			must(evwork_ctx_cancel(child, 0));
		if (evwork_ctx_stop(&witness.watch) != 1)
			ck_abort_msg("the watch of child %d was not stopped", i);
		evwork_ctx_unref(child);
	}
	settle(&world);
	ck_assert_uint_eq(sys_blocks(), before);
	ck_assert_int_eq(events_of(&world), events);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* Lazy deadlines. */

/* S-CTX-10, S-GEN-11: on a stalled loop another thread sees the deadline pass at
 * its very nanosecond and not before. */
START_TEST(deadline_passes_on_a_stalled_loop)
{
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_timeout(NULL, world.loop, 10, 4711);
	expect_ctx_elsewhere(ctx, 0, 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS - 1), 0);
	expect_ctx_elsewhere(ctx, 0, 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 1), 0);
	expect_ctx_elsewhere(ctx, -ETIMEDOUT, 4711);
	expect_ctx(ctx, -ETIMEDOUT, 4711);
	evwork_ctx_unref(ctx);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-10, S-CTX-11: the cause alone shows the passing of the deadline too. */
START_TEST(cause_is_lazy_too)
{
	struct remote remote = { 0 };
	struct world world;

	world_setup(&world);
	remote.ctx = ctx_timeout(NULL, world.loop, 10, 4711);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	on_thread(remote_cause_only, &remote);
	ck_assert_int_eq(remote.seen_cause, 4711);
	evwork_ctx_unref(remote.ctx);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-10: a cancel that comes when the deadline has passed changes nothing: the
 * context dies of ETIMEDOUT with the deadline's cause, and cancel says EALREADY. */
START_TEST(deadline_beats_a_late_cancel)
{
	struct evwork_ctx *parent, *child;
	struct world world;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, 10, 4711);
	child = ctx_new(parent);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	/* Nobody has asked for an error so far. */
	ck_assert_int_eq(evwork_ctx_cancel(child, 1), -EALREADY);
	expect_ctx(child, -ETIMEDOUT, 4711);
	ck_assert_int_eq(evwork_ctx_cancel(parent, 2), -EALREADY);
	expect_ctx(parent, -ETIMEDOUT, 4711);
	evwork_ctx_unref(child);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-7, S-CTX-10: cancelling a parent kills a child whose earlier deadline has
 * passed unnoticed with ETIMEDOUT, not with ECANCELED. */
START_TEST(deadline_of_a_child_beats_a_late_cancel_of_the_parent)
{
	struct evwork_ctx *parent, *child, *below;
	struct world world;

	world_setup(&world);
	parent = ctx_new(NULL);
	child = ctx_timeout(parent, world.loop, 10, 4711);
	below = ctx_new(child);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	ck_assert_int_eq(evwork_ctx_cancel(parent, 1), 0);
	expect_ctx(parent, -ECANCELED, 1);
	expect_ctx(child, -ETIMEDOUT, 4711);
	expect_ctx(below, -ETIMEDOUT, 4711);
	evwork_ctx_unref(below);
	evwork_ctx_unref(child);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* Sees a deadline pass on the system's clock. */
struct sentry {
	struct evwork_ctx *ctx;
	int err;
	int64_t seen_ns;
};

static void *sentry_run(void *arg)
{
	struct sentry *sentry = arg;

	while (!(sentry->err = evwork_ctx_err(sentry->ctx)))
		sys_yield();
	sentry->seen_ns = evwork_clock_now(NULL);
	return NULL;
}

/* S-CTX-10, S-GEN-11: with the system's clock, too, a worker sees the deadline
 * although the loop does not turn, and never too early. */
START_TEST(deadline_passes_without_a_turn)
{
	struct sentry sentry = { 0 };
	int64_t before;
	struct world world;

	world_open(&world, 1);
	before = evwork_clock_now(NULL);
	sentry.ctx = ctx_timeout(NULL, world.loop, 3, 0);
	ck_assert_int_ge(evwork_ctx_deadline(sentry.ctx), before + 3 * SYS_NS_PER_MS);
	on_thread(sentry_run, &sentry);
	ck_assert_int_eq(sentry.err, -ETIMEDOUT);
	ck_assert_int_ge(sentry.seen_ns, evwork_ctx_deadline(sentry.ctx));
	evwork_ctx_unref(sentry.ctx);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-10, S-CTX-13: a watch is called although the death was seen first by
 * another thread while the loop was stalled. */
START_TEST(lazy_death_calls_the_watches)
{
	struct witness on_parent, on_child;
	struct evwork_ctx *parent, *child;
	struct world world;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, 10, 0);
	child = ctx_new(parent);
	witness_start(&on_parent, parent, world.loop);
	witness_start(&on_child, child, world.loop);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	expect_ctx_elsewhere(child, -ETIMEDOUT, -ETIMEDOUT);
	ck_assert_int_eq(witness_calls, 0);
	run_until(&world, &witness_calls, 2);
	settle(&world);
	ck_assert_int_eq(on_parent.calls, 1);
	ck_assert_int_eq(on_child.calls, 1);
	ck_assert_int_eq(on_parent.status, -ETIMEDOUT);
	ck_assert_int_eq(on_child.status, -ETIMEDOUT);
	evwork_ctx_unref(child);
	evwork_ctx_unref(parent);
	world_close(&world);
}
END_TEST

/* Causes. */

/* S-CTX-11: a deadline without a cause of its own has ETIMEDOUT for cause, one
 * with a cause that cause, and so have the children. */
START_TEST(cause_of_a_deadline)
{
	struct evwork_ctx *plain, *named, *child;
	struct world world;

	world_setup(&world);
	plain = ctx_timeout(NULL, world.loop, 10, 0);
	named = ctx_timeout(NULL, world.loop, 10, 4711);
	child = ctx_new(named);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	expect_ctx(plain, -ETIMEDOUT, -ETIMEDOUT);
	expect_ctx(child, -ETIMEDOUT, 4711);
	expect_ctx(named, -ETIMEDOUT, 4711);
	evwork_ctx_unref(child);
	evwork_ctx_unref(named);
	evwork_ctx_unref(plain);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-11: a cancel before the deadline, were it by a nanosecond, never yields
 * the cause of the deadline. */
START_TEST(cause_of_a_cancel_is_not_the_deadlines)
{
	struct evwork_ctx *plain, *named;
	struct world world;

	world_setup(&world);
	plain = ctx_timeout(NULL, world.loop, 10, 4711);
	named = ctx_timeout(NULL, world.loop, 10, 4711);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS - 1), 0);
	ck_assert_int_eq(evwork_ctx_cancel(plain, 0), 0);
	ck_assert_int_eq(evwork_ctx_cancel(named, 1), 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, SYS_NS_PER_MS), 0);
	settle(&world);
	expect_ctx(plain, -ECANCELED, -ECANCELED);
	expect_ctx(named, -ECANCELED, 1);
	evwork_ctx_unref(plain);
	evwork_ctx_unref(named);
	world_close(&world);
}
END_TEST

/* S-CTX-11, S-CTX-4: a deadline that was not the earlier one never gives its
 * cause; the parent's deadline is what killed the child. */
START_TEST(cause_is_that_of_the_deadline_that_hit)
{
	struct evwork_ctx *parent, *later, *same, *earlier;
	struct world world;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, 20, 4711);
	later = ctx_timeout(parent, world.loop, 30, 1);
	same = ctx_deadline(parent, world.loop, evwork_ctx_deadline(parent), 2);
	earlier = ctx_timeout(parent, world.loop, 10, 3);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 40 * SYS_NS_PER_MS), 0);
	expect_ctx(later, -ETIMEDOUT, 4711);
	expect_ctx(same, -ETIMEDOUT, 4711);
	ck_assert_int_eq(evwork_ctx_err(earlier), -ETIMEDOUT);
	evwork_ctx_unref(earlier);
	evwork_ctx_unref(same);
	evwork_ctx_unref(later);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* Detached contexts. */

/* S-CTX-12: a detached context has the values of its parent and is alive without
 * a deadline, whether its parent is alive, dies or is dead. */
START_TEST(detached_inherits_values_only)
{
	static const char key;
	struct evwork_ctx *parent, *timed, *before, *after;
	struct world world;
	void *value = NULL;

	world_setup(&world);
	parent = ctx_value(NULL, &key, &world, NULL);
	timed = ctx_timeout(parent, world.loop, 10, 1);
	before = ctx_detached(timed);
	ck_assert_int_eq(evwork_ctx_deadline(before), EVWORK_NEVER);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	expect_ctx(timed, -ETIMEDOUT, 1);
	after = ctx_detached(timed);
	expect_ctx(before, 0, 0);
	expect_ctx(after, 0, 0);
	ck_assert_int_eq(evwork_ctx_deadline(after), EVWORK_NEVER);
	evwork_ctx_unref(timed);
	evwork_ctx_unref(parent);
	ck_assert_int_eq(evwork_ctx_value(before, &key, &value), 1);
	ck_assert_ptr_eq(value, &world);
	ck_assert_int_eq(evwork_ctx_value(after, &key, &value), 1);
	evwork_ctx_unref(before);
	evwork_ctx_unref(after);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-12: the children of a detached context follow it and not the old parent,
 * and it can be cancelled without touching that parent. */
START_TEST(detached_is_a_root_of_its_own)
{
	struct evwork_ctx *parent = ctx_new(NULL), *shield = ctx_detached(parent);
	struct evwork_ctx *child = ctx_new(shield), *other = ctx_detached(parent);

	ck_assert_int_eq(evwork_ctx_cancel(other, 3), 0);
	expect_ctx(parent, 0, 0);
	ck_assert_int_eq(evwork_ctx_cancel(parent, 1), 0);
	expect_ctx(shield, 0, 0);
	expect_ctx(child, 0, 0);
	ck_assert_int_eq(evwork_ctx_cancel(shield, 2), 0);
	expect_ctx(child, -ECANCELED, 2);
	evwork_ctx_unref(other);
	evwork_ctx_unref(child);
	evwork_ctx_unref(shield);
	evwork_ctx_unref(parent);
}
END_TEST

/* S-CTX-12: with a timeout of its own a detached context shields the clean-up of
 * a dead request for as long as that allows. */
START_TEST(detached_with_a_timeout_is_a_shield)
{
	struct evwork_ctx *parent = ctx_new(NULL), *shield, *clean_up;
	struct world world;

	world_setup(&world);
	ck_assert_int_eq(evwork_ctx_cancel(parent, 1), 0);
	shield = ctx_detached(parent);
	clean_up = ctx_timeout(shield, world.loop, 10, 2);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS - 1), 0);
	expect_ctx(clean_up, 0, 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 1), 0);
	expect_ctx(clean_up, -ETIMEDOUT, 2);
	expect_ctx(shield, 0, 0);
	evwork_ctx_unref(clean_up);
	evwork_ctx_unref(shield);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* Watches. */

/* S-CTX-13, S-GEN-3: a watch is called once, on the loop's thread, with the error
 * of the context, never inside cancel. */
START_TEST(watch_is_called_after_the_death)
{
	struct remote remote = { 0 };
	struct witness witness;
	struct world world;

	world_setup(&world);
	remote.ctx = ctx_new(NULL);
	witness_start(&witness, remote.ctx, world.loop);
	settle(&world);
	ck_assert_int_eq(witness.calls, 0);
	on_thread(remote_cancel, &remote);
	ck_assert_int_eq(remote.rc, 0);
	ck_assert_int_eq(witness.calls, 0);
	run_until(&world, &witness_calls, 1);
	settle(&world);
	ck_assert_int_eq(witness.calls, 1);
	ck_assert_int_eq(witness.status, -ECANCELED);
	ck_assert(pthread_equal(witness.thread, pthread_self()));
	evwork_ctx_unref(remote.ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-13, S-GEN-3: a cancel on the loop's own thread runs no callback inside. */
START_TEST(watch_is_not_called_inside_cancel)
{
	struct witness witness;
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_new(NULL);
	witness_start(&witness, ctx, world.loop);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(witness.calls, 0);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(witness.calls, 0);
	run_until(&world, &witness_calls, 1);
	world_close(&world);
}
END_TEST

/* S-CTX-13: a watch of a context that is dead already is called in the next turn,
 * not inside the call. */
START_TEST(watch_of_the_dead_comes_in_the_next_turn)
{
	struct witness witness;
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_new(NULL);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	witness_start(&witness, ctx, world.loop);
	ck_assert_int_eq(witness.calls, 0);
	one_turn(&world);
	ck_assert_int_eq(witness.calls, 1);
	ck_assert_int_eq(witness.status, -ECANCELED);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* Sets the watch `arg` on the same dead context. */
struct next {
	struct witness first, second;
	struct evwork_ctx *ctx;
	struct evwork_loop *loop;
};

static void next_start(struct witness *witness)
{
	struct next *next = witness->arg;

	witness_start(&next->second, next->ctx, next->loop);
}

/* S-CTX-13, S-DLV-6: a watch that a watch sets on a dead context is called in a
 * later turn, and that is the next one. */
START_TEST(watch_set_by_a_watch_comes_in_the_next_turn)
{
	struct next next;
	struct world world;

	world_setup(&world);
	next.ctx = ctx_new(NULL);
	next.loop = world.loop;
	witness_init(&next.second);
	ck_assert_int_eq(evwork_ctx_cancel(next.ctx, 0), 0);
	witness_start(&next.first, next.ctx, world.loop);
	next.first.on_call = next_start;
	next.first.arg = &next;
	one_turn(&world);
	ck_assert_int_eq(next.first.calls, 1);
	ck_assert_int_eq(next.second.calls, 0);
	one_turn(&world);
	ck_assert_int_eq(next.second.calls, 1);
	evwork_ctx_unref(next.ctx);
	world_close(&world);
}
END_TEST

static void cancel_in_a_turn(void *arg)
{
	ck_assert_int_eq(evwork_ctx_cancel(arg, 0), 0);
}

/* S-GEN-3, S-CTX-13: the watches of a context that a callback cancels are called in
 * a later turn than that callback, and that is the next one. */
START_TEST(watch_is_called_in_a_later_turn_than_the_cancel)
{
	struct witness witness;
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_new(NULL);
	witness_start(&witness, ctx, world.loop);
	ck_assert_int_eq(evwork_post(world.loop, cancel_in_a_turn, ctx), 0);
	one_turn(&world);
	expect_ctx(ctx, -ECANCELED, -ECANCELED);
	ck_assert_int_eq(witness.calls, 0);
	one_turn(&world);
	ck_assert_int_eq(witness.calls, 1);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-13: the watches of one context are called in the order in which they were
 * registered, however many there are and whatever was stopped between. */
START_TEST(watches_run_in_order_of_registration)
{
	enum { N = 1000 };
	static struct witness witness[N];
	struct evwork_ctx *ctx;
	struct world world;
	int i, order = 0;

	world_setup(&world);
	ctx = ctx_new(NULL);
	for (i = 0; i < N; i++)
		witness_start(&witness[i], ctx, world.loop);
	for (i = 0; i < N; i += 3)
		ck_assert_int_eq(evwork_ctx_stop(&witness[i].watch), 1);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	run_until(&world, &witness_calls, N - (N + 2) / 3);
	settle(&world);
	for (i = 0; i < N; i++) {
		ck_assert_int_eq(witness[i].calls, i % 3 ? 1 : 0);
		ck_assert_int_eq(witness[i].order, i % 3 ? ++order : 0);
	}
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-13: watches of one context on several loops each run on their own. */
START_TEST(watch_runs_on_its_own_loop)
{
	struct witness here, there;
	struct evwork_ctx *ctx;
	struct world world, other;

	world_setup(&world);
	world_open(&other, 1);
	ctx = ctx_timeout(NULL, world.loop, 10, 0);
	witness_start(&there, ctx, other.loop);
	witness_start(&here, ctx, world.loop);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	run_until(&world, &here.calls, 1);
	settle(&world);
	ck_assert_int_eq(there.calls, 0);
	run_until(&other, &there.calls, 1);
	ck_assert_int_eq(here.calls, 1);
	evwork_ctx_unref(ctx);
	world_close(&other);
	world_close(&world);
}
END_TEST

/* S-CTX-13: a watch has one call, whatever else happens to its context after
 * the death: the deadline, a parent's death, more cancels. */
START_TEST(watch_has_one_call)
{
	struct witness witness;
	struct evwork_ctx *parent, *ctx;
	struct world world;

	world_setup(&world);
	parent = ctx_new(NULL);
	ctx = ctx_timeout(parent, world.loop, 10, 0);
	witness_start(&witness, ctx, world.loop);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(evwork_ctx_cancel(parent, 0), 0);
	run_until(&world, &witness_calls, 1);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), -EALREADY);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	evwork_ctx_unref(ctx);
	evwork_ctx_unref(parent);
	settle(&world);
	ck_assert_int_eq(witness.calls, 1);
	world_close(&world);
}
END_TEST

static void witness_again(struct witness *witness)
{
	struct next *next = witness->arg;

	witness->on_call = NULL;
	ck_assert_int_eq(evwork_ctx_after(next->ctx, next->loop, &witness->watch), 0);
}

/* S-GEN-7, S-CTX-13: the watch is the caller's again when its callback starts, and
 * may be set anew in it. */
START_TEST(watch_can_be_set_again_in_its_callback)
{
	struct evwork_ctx *dead;
	struct next next;
	struct world world;

	world_setup(&world);
	dead = ctx_new(NULL);
	next.ctx = ctx_new(NULL);
	next.loop = world.loop;
	ck_assert_int_eq(evwork_ctx_cancel(dead, 0), 0);
	witness_start(&next.first, dead, world.loop);
	next.first.on_call = witness_again;
	next.first.arg = &next;
	run_until(&world, &witness_calls, 1);
	settle(&world);
	ck_assert_int_eq(next.first.calls, 1);
	ck_assert_int_eq(evwork_ctx_cancel(next.ctx, 0), 0);
	run_until(&world, &witness_calls, 2);
	ck_assert_int_eq(next.first.calls, 2);
	evwork_ctx_unref(dead);
	evwork_ctx_unref(next.ctx);
	world_close(&world);
}
END_TEST

static void witness_free(struct witness *witness)
{
	memset(witness, 0xa5, sizeof(*witness));
	free(witness);
}

/* S-GEN-5, S-GEN-7: a callback may free its watch and drop the last reference to
 * the context it was set on. */
START_TEST(watch_can_be_freed_in_its_callback)
{
	struct witness *witness = malloc(sizeof(*witness));
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_new(NULL);
	witness_start(witness, ctx, world.loop);
	witness->on_call = witness_free;
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	evwork_ctx_unref(ctx);
	run_until(&world, &witness_calls, 1);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-SHUT-7, S-CTX-13: closing a loop ends its watches with ECANCELED in the order
 * of registration, those on the background too; the contexts stay alive. */
START_TEST(loop_close_ends_watches)
{
	struct witness witness[3];
	struct evwork_ctx *ctx;
	struct world world;
	int i;

	world_setup(&world);
	ctx = ctx_timeout(NULL, world.loop, 10, 0);
	witness_start(&witness[0], ctx, world.loop);
	witness_start(&witness[1], NULL, world.loop);
	witness_start(&witness[2], ctx, world.loop);
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	ck_assert_int_eq(witness_calls, 0);
	world_run_until(&world, &witness_calls, 3);
	world_turns(&world, 5);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(witness[i].calls, 1);
		ck_assert_int_eq(witness[i].order, i + 1);
		ck_assert_int_eq(witness[i].status, -ECANCELED);
		ck_assert_int_eq(evwork_ctx_stop(&witness[i].watch), 0);
	}
	expect_ctx(ctx, 0, 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-10, S-CTX-18: a context outlives the loop that had its timer, and its
 * deadline goes on being lazy. */
START_TEST(context_outlives_its_loop)
{
	struct sentry sentry = { 0 };
	struct evwork_ctx *ctx, *child;
	struct world world;

	world_open(&world, 1);
	ctx = ctx_timeout(NULL, world.loop, HOUR_MS, 1);
	sentry.ctx = ctx_timeout(NULL, world.loop, 30, 2);
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	world_turns(&world, 5);
	world_close(&world);
	child = ctx_new(ctx);
	expect_ctx(ctx, 0, 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 4711), 0);
	expect_ctx(child, -ECANCELED, 4711);
	on_thread(sentry_run, &sentry);
	expect_ctx(sentry.ctx, -ETIMEDOUT, 2);
	evwork_ctx_unref(child);
	evwork_ctx_unref(ctx);
	evwork_ctx_unref(sentry.ctx);
}
END_TEST

/* Stopping. */

/* S-CTX-14: stop of a watch that was never set, that is pending, and a second
 * stop return 0, 1 and 0, and a stopped watch is not called. */
START_TEST(stop_of_a_pending_watch)
{
	struct witness witness;
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_new(NULL);
	witness_init(&witness);
	ck_assert_int_eq(evwork_ctx_stop(&witness.watch), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &witness.watch), 0);
	ck_assert_int_eq(evwork_ctx_stop(&witness.watch), 1);
	ck_assert_int_eq(evwork_ctx_stop(&witness.watch), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	settle(&world);
	ck_assert_int_eq(witness.calls, 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-14: a watch whose context is dead but whose callback has not started can
 * still be stopped, here and from another thread. */
START_TEST(stop_of_a_queued_watch)
{
	struct witness here, there, other;
	struct remote remote = { 0 };
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_new(NULL);
	witness_start(&here, ctx, world.loop);
	witness_start(&there, ctx, world.loop);
	witness_start(&other, ctx, world.loop);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(evwork_ctx_stop(&here.watch), 1);
	ck_assert_int_eq(evwork_ctx_stop(&here.watch), 0);
	remote.watch = &there.watch;
	on_thread(remote_stop, &remote);
	ck_assert_int_eq(remote.rc, 1);
	run_until(&world, &other.calls, 1);
	settle(&world);
	ck_assert_int_eq(here.calls, 0);
	ck_assert_int_eq(there.calls, 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-14: a watch on a dead context that was never called can be stopped too. */
START_TEST(stop_of_a_watch_of_the_dead)
{
	struct witness witness;
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_timeout(NULL, world.loop, -1, 0);
	witness_start(&witness, ctx, world.loop);
	ck_assert_int_eq(evwork_ctx_stop(&witness.watch), 1);
	settle(&world);
	ck_assert_int_eq(witness.calls, 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

static void witness_stops_itself(struct witness *witness)
{
	*(int *)witness->arg = evwork_ctx_stop(&witness->watch);
}

/* S-CTX-14, S-CTX-15: stop inside the own callback and after it returns 0, and
 * does not wait for itself. */
START_TEST(stop_in_the_own_callback)
{
	struct witness witness;
	struct evwork_ctx *ctx;
	struct world world;
	int rc = -1;

	world_setup(&world);
	ctx = ctx_new(NULL);
	witness_start(&witness, ctx, world.loop);
	witness.on_call = witness_stops_itself;
	witness.arg = &rc;
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	run_until(&world, &witness_calls, 1);
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(evwork_ctx_stop(&witness.watch), 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

struct stopper {
	struct witness first, second, third;
	int rc;
};

static void stopper_stops_second(struct witness *witness)
{
	struct stopper *stopper = witness->arg;

	stopper->rc = evwork_ctx_stop(&stopper->second.watch);
}

/* S-CTX-14: a callback stops a later watch of the same context, which then is not
 * called, and those behind it are. */
START_TEST(stop_of_a_later_watch_in_a_callback)
{
	struct stopper stopper;
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	stopper.rc = -1;
	ctx = ctx_new(NULL);
	witness_start(&stopper.first, ctx, world.loop);
	witness_start(&stopper.second, ctx, world.loop);
	witness_start(&stopper.third, ctx, world.loop);
	stopper.first.on_call = stopper_stops_second;
	stopper.first.arg = &stopper;
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	run_until(&world, &stopper.third.calls, 1);
	settle(&world);
	ck_assert_int_eq(stopper.rc, 1);
	ck_assert_int_eq(stopper.first.calls, 1);
	ck_assert_int_eq(stopper.second.calls, 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

static void witness_trap(struct evwork_watch *watch, int status)
{
	(void)watch;
	(void)status;
	abort();
}

/* A watch in memory of its own, which is destroyed as soon as it is stopped. */
static void stop_and_free(struct evwork_watch *watch)
{
	ck_assert_int_eq(evwork_ctx_stop(watch), 1);
	memset(watch, 0xa5, sizeof(*watch));
	free(watch);
}

static struct evwork_watch *trap_new(struct evwork_ctx *ctx, struct evwork_loop *loop)
{
	struct evwork_watch *watch = malloc(sizeof(*watch));

	ck_assert_ptr_nonnull(watch);
	evwork_watch_init(watch, witness_trap);
	ck_assert_int_eq(evwork_ctx_after(ctx, loop, watch), 0);
	return watch;
}

/* S-CTX-14, S-GEN-7: once stop returned 1 the memory of the watch may go, in
 * whatever state it was. */
START_TEST(stopped_watch_may_be_freed)
{
	struct evwork_watch *pending, *queued;
	struct evwork_ctx *ctx, *other;
	struct witness last;
	struct world world;

	world_setup(&world);
	ctx = ctx_new(NULL);
	other = ctx_timeout(NULL, world.loop, 10, 0);
	pending = trap_new(ctx, world.loop);
	queued = trap_new(ctx, world.loop);
	stop_and_free(pending);
	witness_start(&last, ctx, world.loop);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	stop_and_free(queued);
	pending = trap_new(other, world.loop);
	queued = trap_new(ctx, world.loop);
	stop_and_free(queued);
	stop_and_free(pending);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	run_until(&world, &last.calls, 1);
	settle(&world);
	expect_ctx(other, -ETIMEDOUT, -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	evwork_ctx_unref(other);
	world_close(&world);
}
END_TEST

/* S-CTX-14, S-GEN-7: a stopped watch can be set anew, on another context. */
START_TEST(stopped_watch_can_be_set_again)
{
	struct evwork_ctx *first, *second;
	struct witness witness;
	struct world world;

	world_setup(&world);
	first = ctx_new(NULL);
	second = ctx_new(NULL);
	witness_start(&witness, first, world.loop);
	ck_assert_int_eq(evwork_ctx_cancel(first, 0), 0);
	ck_assert_int_eq(evwork_ctx_stop(&witness.watch), 1);
	ck_assert_int_eq(evwork_ctx_after(second, world.loop, &witness.watch), 0);
	settle(&world);
	ck_assert_int_eq(witness.calls, 0);
	ck_assert_int_eq(evwork_ctx_cancel(second, 0), 0);
	run_until(&world, &witness_calls, 1);
	ck_assert_int_eq(witness.calls, 1);
	evwork_ctx_unref(first);
	evwork_ctx_unref(second);
	world_close(&world);
}
END_TEST

struct busy_stop {
	struct gate running, stopped;
	struct witness witness;
	int rc;
};

static void busy_stop_call(struct witness *witness)
{
	struct busy_stop *busy = witness->arg;

	gate_open(&busy->running);
	gate_pass(&busy->stopped);
}

static void *busy_stop_run(void *arg)
{
	struct busy_stop *busy = arg;

	gate_pass(&busy->running);
	busy->rc = evwork_ctx_stop(&busy->witness.watch);
	gate_open(&busy->stopped);
	return NULL;
}

/* S-CTX-15, S-CTX-14: stop does not wait for a callback that runs: the callback
 * here ends only after stop has returned 0. */
START_TEST(stop_does_not_wait_for_the_callback)
{
	struct busy_stop busy;
	struct evwork_ctx *ctx;
	struct world world;
	pthread_t thread;

	world_setup(&world);
	gate_init(&busy.running);
	gate_init(&busy.stopped);
	busy.rc = -1;
	ctx = ctx_new(NULL);
	witness_start(&busy.witness, ctx, world.loop);
	busy.witness.on_call = busy_stop_call;
	busy.witness.arg = &busy;
	ck_assert_int_eq(pthread_create(&thread, NULL, busy_stop_run, &busy), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	run_until(&world, &witness_calls, 1);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(busy.rc, 0);
	gate_fini(&busy.stopped);
	gate_fini(&busy.running);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* Values. */

/* S-CTX-16: keys compare by address, the nearest ancestor wins, and every kind of
 * child sees the values above it. */
START_TEST(nearest_value_wins)
{
	static const char one = 'x', two = 'x';
	int first = 1, second = 2, other = 3;
	struct evwork_ctx *a, *b, *c, *d;
	void *value = NULL;

	a = ctx_value(NULL, &one, &first, NULL);
	b = ctx_value(a, &two, &other, NULL);
	c = ctx_value(b, &one, &second, NULL);
	d = ctx_new(c);
	ck_assert_int_eq(evwork_ctx_value(d, &one, &value), 1);
	ck_assert_ptr_eq(value, &second);
	ck_assert_int_eq(evwork_ctx_value(d, &two, &value), 1);
	ck_assert_ptr_eq(value, &other);
	ck_assert_int_eq(evwork_ctx_value(b, &one, &value), 1);
	ck_assert_ptr_eq(value, &first);
	ck_assert_int_eq(evwork_ctx_value(a, &two, &value), 0);
	ck_assert_ptr_eq(value, &first);
	evwork_ctx_unref(a);
	evwork_ctx_unref(b);
	evwork_ctx_unref(c);
	evwork_ctx_unref(d);
}
END_TEST

/* S-CTX-16: a stored NULL is found and hides what is above it. */
START_TEST(stored_null_shadows)
{
	static const char key;
	int first = 1;
	struct evwork_ctx *a, *b;
	void *value = &value;

	a = ctx_value(NULL, &key, &first, NULL);
	b = ctx_value(a, &key, NULL, NULL);
	ck_assert_int_eq(evwork_ctx_value(b, &key, &value), 1);
	ck_assert_ptr_null(value);
	evwork_ctx_unref(b);
	evwork_ctx_unref(a);
}
END_TEST

/* S-CTX-16: values are there after the death of the context as before. */
START_TEST(values_survive_death)
{
	static const char key;
	int first = 1;
	struct evwork_ctx *a, *b;
	void *value = NULL;

	a = ctx_value(NULL, &key, &first, NULL);
	ck_assert_int_eq(evwork_ctx_cancel(a, 0), 0);
	b = ctx_new(a);
	ck_assert_int_eq(evwork_ctx_value(b, &key, &value), 1);
	ck_assert_ptr_eq(value, &first);
	evwork_ctx_unref(b);
	evwork_ctx_unref(a);
}
END_TEST

/* Counts its destructions. */
struct treasure {
	int destroyed;
	pthread_t thread;
	struct evwork_ctx *other;   /* used in the destructor, may be NULL */
	int rc;
};

static void treasure_destroy(void *value)
{
	struct treasure *treasure = value;
	struct evwork_ctx *child;

	treasure->destroyed++;
	treasure->thread = pthread_self();
	if (!treasure->other)
		return;
	treasure->rc = evwork_ctx_new(treasure->other, &child);
	if (treasure->rc)
		return;
	treasure->rc = evwork_ctx_cancel(treasure->other, 4711);
	if (evwork_ctx_err(child) != -ECANCELED)
		treasure->rc = 1;
	evwork_ctx_unref(child);
}

static const char treasure_key;

/* S-CTX-16, S-CTX-17: the destructor of a value runs once, with the last unref,
 * and a living child keeps the value. */
START_TEST(destructor_runs_once_with_the_last_unref)
{
	struct treasure treasure = { 0 };
	struct evwork_ctx *ctx = ctx_value(NULL, &treasure_key, &treasure, treasure_destroy);
	struct evwork_ctx *child = ctx_new(ctx), *shield = ctx_detached(child);
	void *value;

	ck_assert_ptr_eq(evwork_ctx_ref(ctx), ctx);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(treasure.destroyed, 0);
	evwork_ctx_unref(child);
	ck_assert_int_eq(treasure.destroyed, 0);
	ck_assert_int_eq(evwork_ctx_value(shield, &treasure_key, &value), 1);
	ck_assert_ptr_eq(value, &treasure);
	evwork_ctx_unref(shield);
	ck_assert_int_eq(treasure.destroyed, 1);
}
END_TEST

/* S-CTX-16: the destructor runs on the thread of the last unref. */
START_TEST(destructor_runs_on_the_thread_of_the_last_unref)
{
	struct treasure treasure = { 0 };
	struct remote remote = { 0 };

	remote.ctx = ctx_value(NULL, &treasure_key, &treasure, treasure_destroy);
	on_thread(remote_unref, &remote);
	ck_assert_int_eq(treasure.destroyed, 1);
	ck_assert(!pthread_equal(treasure.thread, pthread_self()));
	remote.ctx = ctx_value(NULL, &treasure_key, &treasure, treasure_destroy);
	evwork_ctx_unref(remote.ctx);
	ck_assert_int_eq(treasure.destroyed, 2);
	ck_assert(pthread_equal(treasure.thread, pthread_self()));
}
END_TEST

/* S-CTX-16, S-GEN-5: no lock is held in the destructor: it makes a child of a
 * context of the same tree and cancels that tree. */
START_TEST(destructor_may_use_the_tree)
{
	struct treasure treasure = { 0 };
	struct evwork_ctx *root = ctx_new(NULL), *ctx;

	treasure.other = root;
	treasure.rc = 1;
	ctx = ctx_value(root, &treasure_key, &treasure, treasure_destroy);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(treasure.destroyed, 1);
	ck_assert_int_eq(treasure.rc, 0);
	expect_ctx(root, -ECANCELED, 4711);
	evwork_ctx_unref(root);
}
END_TEST

/* S-CTX-16: when value cannot be stored the destructor is not called. */
START_TEST(destructor_is_not_called_on_failure)
{
	struct treasure treasure = { 0 };
	struct evwork_ctx *ctx = NULL;

	ck_assert_int_eq(evwork_ctx_with_value(NULL, NULL, &treasure, treasure_destroy, &ctx),
		-EINVAL);
	ck_assert_int_eq(evwork_ctx_with_value(NULL, &treasure_key, &treasure,
		treasure_destroy, NULL), -EINVAL);
	fault_start(SYS_MEMORY, 1, true);
	ck_assert_int_eq(evwork_ctx_with_value(NULL, &treasure_key, &treasure,
		treasure_destroy, &ctx), -ENOMEM);
	ck_assert_int_ge(fault_stop(), 1);
	ck_assert_int_eq(treasure.destroyed, 0);
	ck_assert_ptr_null(ctx);
}
END_TEST

/* References. */

/* S-CTX-17: the last unref by the caller cancels nothing: the parent lives on for
 * its child, and its deadline still ends it. */
START_TEST(unref_cancels_nothing)
{
	struct evwork_ctx *parent, *child, *grandchild;
	struct world world;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, 10, 4711);
	child = ctx_new(parent);
	grandchild = ctx_new(child);
	evwork_ctx_unref(parent);
	evwork_ctx_unref(child);
	settle(&world);
	expect_ctx(grandchild, 0, 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	expect_ctx(grandchild, -ETIMEDOUT, 4711);
	evwork_ctx_unref(grandchild);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-17: the last unref gives the memory back at once and unlinks the context
 * from its parent, whether dead or alive. */
START_TEST(last_unref_frees)
{
	size_t before = sys_blocks(), with_parent;
	struct evwork_ctx *parent = ctx_new(NULL), *alive, *dead;

	with_parent = sys_blocks();
	alive = ctx_new(parent);
	dead = ctx_new(parent);
	ck_assert_int_eq(evwork_ctx_cancel(dead, 0), 0);
	evwork_ctx_unref(alive);
	evwork_ctx_unref(dead);
	ck_assert_uint_eq(sys_blocks(), with_parent);
	ck_assert_int_eq(evwork_ctx_cancel(parent, 0), 0);
	evwork_ctx_unref(parent);
	ck_assert_uint_eq(sys_blocks(), before);
}
END_TEST

/* S-CTX-17: a watch keeps its context until it is stopped or called. */
START_TEST(watch_keeps_its_context)
{
	struct treasure treasure[2] = { { 0 }, { 0 } };
	struct witness witness[2];
	struct evwork_ctx *ctx;
	struct world world;
	int i;

	world_setup(&world);
	for (i = 0; i < 2; i++) {
		ctx = ctx_value(NULL, &treasure_key, &treasure[i], treasure_destroy);
		witness_start(&witness[i], ctx, world.loop);
		if (i)
			ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		evwork_ctx_unref(ctx);
		ck_assert_int_eq(treasure[i].destroyed, i ? treasure[i].destroyed : 0);
	}
	ck_assert_int_eq(evwork_ctx_stop(&witness[0].watch), 1);
	ck_assert_int_eq(treasure[0].destroyed, 1);
	run_until(&world, &witness[1].calls, 1);
	settle(&world);
	ck_assert_int_eq(treasure[1].destroyed, 1);
	world_close(&world);
}
END_TEST

struct keeper {
	struct probe probe;
	struct treasure treasure;
	struct evwork_ctx *ctx;
	struct gate *gate;
	int found, destroyed;    /* seen by the work */
};

static void keeper_run(struct probe *probe)
{
	struct keeper *keeper = probe->arg;
	void *value;

	gate_pass(keeper->gate);
	keeper->found = evwork_ctx_value(keeper->ctx, &treasure_key, &value);
	keeper->destroyed = keeper->treasure.destroyed;
}

/* S-CTX-17: a job keeps its context until it is done, though the caller lets go of
 * it right after submit. */
START_TEST(job_keeps_its_context)
{
	struct keeper keeper;
	struct gate gate;
	struct world world;

	world_setup(&world);
	gate_init(&gate);
	memset(&keeper, 0, sizeof(keeper));
	probe_init(&keeper.probe, 0);
	keeper.probe.on_run = keeper_run;
	keeper.probe.arg = &keeper;
	keeper.gate = &gate;
	keeper.ctx = ctx_value(NULL, &treasure_key, &keeper.treasure, treasure_destroy);
	keeper.probe.job.ctx = keeper.ctx;
	ck_assert_int_eq(evwork_submit(world.loop, &keeper.probe.job), 0);
	evwork_ctx_unref(keeper.ctx);
	gate_open(&gate);
	world_run_until(&world, &keeper.probe.dones, 1);
	settle(&world);
	ck_assert_int_eq(keeper.found, 1);
	ck_assert_int_eq(keeper.destroyed, 0);
	ck_assert_int_eq(keeper.treasure.destroyed, 1);
	gate_fini(&gate);
	world_close(&world);
}
END_TEST

/* Timers. */

/* S-CTX-18: a context holds at most one event of the loop, and none once it is
 * dead, of a cancel here or elsewhere, of its parent or of its deadline. */
START_TEST(timer_is_gone_with_the_death)
{
	struct remote remote = { 0 };
	struct evwork_ctx *parent, *ctx;
	struct world world;
	int before, way;

	world_setup(&world);
	before = events_of(&world);
	for (way = 0; way < 4; way++) {
		parent = ctx_new(NULL);
		ctx = ctx_timeout(parent, world.loop, 10, 0);
		remote.ctx = ctx;
		ck_assert_int_le(events_of(&world), before + 1);
		if (way == 0)
			ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		else if (way == 1)
			on_thread(remote_cancel, &remote);
		else if (way == 2)
			ck_assert_int_eq(evwork_ctx_cancel(parent, 0), 0);
		else
			ck_assert_int_eq(evwork_clock_jump(world.clock,
				10 * SYS_NS_PER_MS), 0);
		/* Dispatch returns, since nothing keeps the loop alive. */
		world_run(&world);
		ck_assert_int_eq(events_of(&world), before);
		ck_assert_int_ne(evwork_ctx_err(ctx), 0);
		evwork_ctx_unref(ctx);
		evwork_ctx_unref(parent);
	}
	world_close(&world);
}
END_TEST

/* S-CTX-17, S-CTX-18: the last unref of a living context takes its timer along, on
 * the loop's thread and elsewhere. */
START_TEST(timer_is_gone_with_the_last_unref)
{
	struct remote remote = { 0 };
	struct world world;
	int before;

	world_setup(&world);
	before = events_of(&world);
	evwork_ctx_unref(ctx_timeout(NULL, world.loop, 10, 0));
	world_run(&world);
	ck_assert_int_eq(events_of(&world), before);
	remote.ctx = ctx_timeout(NULL, world.loop, 10, 0);
	on_thread(remote_unref, &remote);
	world_run(&world);
	ck_assert_int_eq(events_of(&world), before);
	world_close(&world);
}
END_TEST

/* S-CTX-18, S-DLV-7: on the system's clock a deadline keeps dispatch from returning
 * until it has passed, and no longer. */
START_TEST(deadline_keeps_the_loop_alive)
{
	struct evwork_ctx *ctx;
	struct world world;

	world_open(&world, 1);
	ctx = ctx_timeout(NULL, world.loop, 3, 0);
	world_run(&world);
	ck_assert_int_ge(evwork_clock_now(NULL), evwork_ctx_deadline(ctx));
	expect_ctx(ctx, -ETIMEDOUT, -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

struct sleeper {
	struct evwork_ctx *ctx;
	struct gate inside;       /* opened on the loop's thread, inside dispatch */
	void *(*act)(void *arg);
	int rc;
};

static void sleeper_inside(void *arg)
{
	struct sleeper *sleeper = arg;

	gate_open(&sleeper->inside);
}

static void *sleeper_cancel(void *arg)
{
	struct sleeper *sleeper = arg;

	gate_pass(&sleeper->inside);
	sleeper->rc = evwork_ctx_cancel(sleeper->ctx, 4711);
	return NULL;
}

static void *sleeper_unref(void *arg)
{
	struct sleeper *sleeper = arg;

	gate_pass(&sleeper->inside);
	evwork_ctx_unref(sleeper->ctx);
	return NULL;
}

/* Dispatch sleeps for an hour, and another thread takes away the reason. */
static void sleeper_wakes(void *(*act)(void *arg))
{
	struct sleeper sleeper = { 0 };
	struct world world;
	pthread_t thread;

	world_open(&world, 1);
	gate_init(&sleeper.inside);
	sleeper.ctx = ctx_timeout(NULL, world.loop, HOUR_MS, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, act, &sleeper), 0);
	ck_assert_int_eq(evwork_post(world.loop, sleeper_inside, &sleeper), 0);
	world_run(&world);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(sleeper.rc, 0);
	if (act == sleeper_cancel) {
		expect_ctx(sleeper.ctx, -ECANCELED, 4711);
		evwork_ctx_unref(sleeper.ctx);
	}
	gate_fini(&sleeper.inside);
	world_close(&world);
}

/* S-CTX-18: a cancel on another thread makes a sleeping loop drop the timer, so
 * that dispatch returns. */
START_TEST(foreign_cancel_lets_dispatch_return)
{
	sleeper_wakes(sleeper_cancel);
}
END_TEST

/* S-CTX-17, S-CTX-18: and so does the last unref on another thread. */
START_TEST(foreign_unref_lets_dispatch_return)
{
	sleeper_wakes(sleeper_unref);
}
END_TEST

/* S-CTX-18, S-CTX-20: a context can be made on any thread; the loop then arms its
 * timer, and the watches are called when the deadline passes. */
START_TEST(foreign_creation_arms_the_timer)
{
	struct remote remote = { 0 };
	struct witness witness;
	struct world world;

	world_setup(&world);
	remote.loop = world.loop;
	remote.timeout_ms = 10;
	remote.cause = 4711;
	on_thread(remote_create, &remote);
	ck_assert_int_eq(remote.rc, 0);
	witness_start(&witness, remote.ctx, world.loop);
	settle(&world);
	expect_ctx(remote.ctx, 0, 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 10 * SYS_NS_PER_MS), 0);
	run_until(&world, &witness_calls, 1);
	ck_assert_int_eq(witness.status, -ETIMEDOUT);
	ck_assert_int_eq(evwork_ctx_cause(remote.ctx), 4711);
	evwork_ctx_unref(remote.ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-18: on the system's clock a loop that sleeps already takes the deadline
 * that another thread brings. */
START_TEST(foreign_creation_on_a_sleeping_loop)
{
	struct remote remote = { 0 };
	struct witness witness;
	struct world world;

	world_open(&world, 1);
	witness_calls = 0;
	remote.loop = world.loop;
	remote.timeout_ms = 3;
	on_thread(remote_create, &remote);
	ck_assert_int_eq(remote.rc, 0);
	witness_start(&witness, remote.ctx, world.loop);
	run_until(&world, &witness_calls, 1);
	ck_assert_int_eq(witness.status, -ETIMEDOUT);
	ck_assert_int_ge(evwork_clock_now(NULL), evwork_ctx_deadline(remote.ctx));
	evwork_ctx_unref(remote.ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-18, S-CTX-17: a context made elsewhere may be dead or gone before the
 * loop has armed its timer. */
START_TEST(foreign_creation_may_be_too_late)
{
	struct remote remote = { 0 };
	struct world world;
	int i;

	world_setup(&world);
	remote.loop = world.loop;
	remote.timeout_ms = 10;
	for (i = 0; i < 3; i++) {
		on_thread(remote_create, &remote);
		ck_assert_int_eq(remote.rc, 0);
		if (i == 1)
			ck_assert_int_eq(evwork_ctx_cancel(remote.ctx, 0), 0);
		evwork_ctx_unref(remote.ctx);
	}
	settle(&world);
	world_run(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-13, S-CTX-18: a deadline that passes on a running loop kills the context
 * and calls its watches in order though nobody asks for its error. */
START_TEST(deadline_calls_the_watches)
{
	struct witness late, early, second;
	struct evwork_ctx *slow, *quick;
	struct world world;

	world_setup(&world);
	slow = ctx_timeout(NULL, world.loop, 20, 0);
	quick = ctx_timeout(NULL, world.loop, 10, 0);
	witness_start(&late, slow, world.loop);
	witness_start(&early, quick, world.loop);
	witness_start(&second, quick, world.loop);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 30 * SYS_NS_PER_MS), 0);
	run_until(&world, &witness_calls, 3);
	ck_assert_int_eq(early.order, 1);
	ck_assert_int_eq(second.order, 2);
	ck_assert_int_eq(late.order, 3);
	ck_assert_int_eq(late.status, -ETIMEDOUT);
	evwork_ctx_unref(slow);
	evwork_ctx_unref(quick);
	settle(&world);
	world_close(&world);
}
END_TEST

/* Large trees. */

#define DEEP 5000

/* A stack that a recursion over DEEP contexts would overflow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DEEP_STACK (256 * 1024)
#else
#define DEEP_STACK (64 * 1024)
#endif

struct deep {
	struct world *world;
	struct evwork_ctx *ctx[DEEP];
	bool expire;
	int failed, found, wrong;
};

static void deep_build(struct deep *deep)
{
	int i;

	deep->failed = evwork_ctx_with_value(NULL, &treasure_key, deep, NULL, &deep->ctx[0]);
	for (i = 1; !deep->failed && i < DEEP; i++)
		deep->failed = i == 1 ?
			evwork_ctx_with_timeout(deep->ctx[0], deep->world->loop, 10, 4711,
				&deep->ctx[1]) :
			evwork_ctx_new(deep->ctx[i - 1], &deep->ctx[i]);
}

static void *deep_run(void *arg)
{
	struct deep *deep = arg;
	int err = deep->expire ? -ETIMEDOUT : -ECANCELED;
	void *value;
	int i;

	deep_build(deep);
	if (deep->failed)
		return NULL;
	deep->found = evwork_ctx_value(deep->ctx[DEEP - 1], &treasure_key, &value);
	deep->failed = deep->expire ?
		evwork_clock_jump(deep->world->clock, 10 * SYS_NS_PER_MS) :
		evwork_ctx_cancel(deep->ctx[0], 4711);
	for (i = DEEP - 1; i > 0; i--)
		if (evwork_ctx_err(deep->ctx[i]) != err ||
		    evwork_ctx_cause(deep->ctx[i]) != 4711)
			deep->wrong++;
	/* From the top, so that the last unref takes the whole chain along. */
	for (i = 0; i < DEEP; i++)
		evwork_ctx_unref(deep->ctx[i]);
	return NULL;
}

/* S-CTX-19: making, asking, killing and freeing a chain of 5,000 contexts does not
 * recurse: it works on a small stack. */
START_TEST(deep_chain_needs_no_stack)
{
	static struct deep deep;
	struct world world;
	pthread_attr_t attr;
	pthread_t thread;

	world_setup(&world);
	memset(&deep, 0, sizeof(deep));
	deep.world = &world;
	deep.expire = _i == 1;
	pthread_attr_init(&attr);
	ck_assert_int_eq(pthread_attr_setstacksize(&attr, DEEP_STACK), 0);
	ck_assert_int_eq(pthread_create(&thread, &attr, deep_run, &deep), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
	ck_assert_int_eq(deep.failed, 0);
	ck_assert_int_eq(deep.found, 1);
	ck_assert_int_eq(deep.wrong, 0);
	settle(&world);
	world_close(&world);
}
END_TEST

#define WIDE 100000

/* A fixed shuffle of n numbers. */
static void shuffle(int *order, int n, uint64_t seed)
{
	int i, k, swap;

	for (i = 0; i < n; i++)
		order[i] = i;
	for (i = n - 1; i > 0; i--) {
		seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		k = (int)((seed >> 33) % (uint64_t)(i + 1));
		swap = order[i];
		order[i] = order[k];
		order[k] = swap;
	}
}

/* S-CTX-19: a hundred thousand children die with their parent, each with its
 * watch called in order, and are freed in any order; were any step of that to look
 * at all the others, it would take minutes. */
START_TEST(wide_tree_dies_whole)
{
	static struct evwork_ctx *child[WIDE];
	static struct witness witness[WIDE];
	static int order[WIDE];
	struct evwork_ctx *parent;
	struct world world;
	int i;

	world_setup(&world);
	parent = ctx_new(NULL);
	shuffle(order, WIDE, 1);
	for (i = 0; i < WIDE; i++) {
		child[i] = ctx_new(parent);
		witness_start(&witness[i], child[i], world.loop);
	}
	/* Some leave alive and some dead before the rest dies. */
	for (i = 0; i < WIDE / 4; i++) {
		if (i % 2)
			evwork_ctx_cancel(child[order[i]], 1);
		evwork_ctx_stop(&witness[order[i]].watch);
		evwork_ctx_unref(child[order[i]]);
	}
	ck_assert_int_eq(evwork_ctx_cancel(parent, 4711), 0);
	for (i = WIDE / 4; i < WIDE; i++)
		if (evwork_ctx_err(child[order[i]]) != -ECANCELED ||
		    evwork_ctx_cause(child[order[i]]) != 4711)
			ck_abort_msg("child %d is not dead", order[i]);
	run_until(&world, &witness_calls, WIDE - WIDE / 4);
	for (i = WIDE / 4; i < WIDE; i++) {
		if (witness[order[i]].calls != 1)
			ck_abort_msg("watch %d was called %d times", order[i],
				witness[order[i]].calls);
		evwork_ctx_unref(child[order[i]]);
	}
	settle(&world);
	ck_assert_int_eq(witness_calls, WIDE - WIDE / 4);
	evwork_ctx_unref(parent);
	world_close(&world);
}
END_TEST

/* All at once. */

#define BRAWLERS 3
#define BRAWL_ROUNDS (30 / SLOWER + 2)

/* Everybody cancels everything, and writes down what the dead died of. */
struct brawl {
	struct evwork_ctx *node[TREE_NODES];
	struct witness witness[TREE_NODES];
	atomic_int cause[TREE_NODES];     /* the first one seen; 0: none yet */
	atomic_int winners[TREE_NODES];   /* cancels that said 0 */
	atomic_int wrong;
	struct gate start;
};

struct brawler {
	struct brawl *brawl;
	int cause;
	int order[TREE_NODES];
};

static void brawl_cancel(struct brawl *brawl, int i, int cause)
{
	int rc = evwork_ctx_cancel(brawl->node[i], cause);
	int below = i, first = 0, seen = evwork_ctx_cause(brawl->node[i]);

	if (rc != 0 && rc != -EALREADY)
		atomic_fetch_add(&brawl->wrong, 1);
	if (evwork_ctx_err(brawl->node[i]) != -ECANCELED || seen == 0)
		atomic_fetch_add(&brawl->wrong, 1);
	if (!atomic_compare_exchange_strong(&brawl->cause[i], &first, seen) && first != seen)
		atomic_fetch_add(&brawl->wrong, 1);
	if (rc != 0)
		return;
	if (seen != cause || atomic_fetch_add(&brawl->winners[i], 1) != 0)
		atomic_fetch_add(&brawl->wrong, 1);
	while ((below = below * TREE_FAN + 2) < TREE_NODES)
		if (evwork_ctx_err(brawl->node[below]) != -ECANCELED)
			atomic_fetch_add(&brawl->wrong, 1);
}

static void *brawler_run(void *arg)
{
	struct brawler *brawler = arg;
	int i;

	gate_pass(&brawler->brawl->start);
	for (i = 0; i < TREE_NODES; i++)
		brawl_cancel(brawler->brawl, brawler->order[i], brawler->cause);
	return NULL;
}

/* From the callback of one node a cancel of another. */
static void brawl_on_call(struct witness *witness)
{
	struct brawl *brawl = witness->arg;
	int i = (int)(witness - brawl->witness);

	brawl_cancel(brawl, (i * 7 + 1) % TREE_NODES, 2000 + i);
}

static void brawl_round(struct world *world, struct brawl *brawl)
{
	struct brawler brawler[BRAWLERS];
	pthread_t thread[BRAWLERS];
	int i;

	memset(brawl, 0, sizeof(*brawl));
	gate_init(&brawl->start);
	tree_new(brawl->node, world->loop);
	witness_calls = 0;
	for (i = 0; i < TREE_NODES; i++) {
		witness_start(&brawl->witness[i], brawl->node[i], world->loop);
		brawl->witness[i].on_call = brawl_on_call;
		brawl->witness[i].arg = brawl;
	}
	for (i = 0; i < BRAWLERS; i++) {
		brawler[i].brawl = brawl;
		brawler[i].cause = 1000 + i;
		shuffle(brawler[i].order, TREE_NODES, sys_random());
		ck_assert_int_eq(pthread_create(&thread[i], NULL, brawler_run, &brawler[i]), 0);
	}
	gate_await(&brawl->start, BRAWLERS);
	gate_open(&brawl->start);
	run_until(world, &witness_calls, TREE_NODES);
	for (i = 0; i < BRAWLERS; i++)
		ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
	settle(world);
}

static void brawl_check(struct brawl *brawl)
{
	int i;

	ck_assert_int_eq(atomic_load(&brawl->wrong), 0);
	for (i = 0; i < TREE_NODES; i++) {
		expect_ctx(brawl->node[i], -ECANCELED, atomic_load(&brawl->cause[i]));
		ck_assert_int_eq(brawl->witness[i].calls, 1);
		ck_assert_int_eq(brawl->witness[i].status, -ECANCELED);
	}
	tree_unref(brawl->node);
	gate_fini(&brawl->start);
}

/* S-CTX-20, S-CTX-3: cancels of all nodes of a tree at once, by several threads in
 * any order and by callbacks, all end, and each node has one error and cause. */
START_TEST(everybody_cancels_everything)
{
	static struct brawl brawl;
	struct world world;
	int round;

	world_setup(&world);
	for (round = 0; round < BRAWL_ROUNDS; round++) {
		brawl_round(&world, &brawl);
		brawl_check(&brawl);
	}
	world_close(&world);
}
END_TEST

/* A thread that makes, kills and drops children of a tree others work on. */
struct farmer {
	struct evwork_ctx *root;
	struct evwork_loop *loop;
	uint64_t seed;
	int rounds, wrong;
};

static void farmer_grow(struct farmer *farmer, struct evwork_ctx *parent)
{
	static const char key;
	struct evwork_ctx *child = NULL;
	int rc;

	farmer->seed = farmer->seed * UINT64_C(6364136223846793005) + 1;
	switch ((farmer->seed >> 40) % 4) {
	case 0:
		rc = evwork_ctx_with_timeout(parent, farmer->loop, HOUR_MS, 1, &child);
		break;
	case 1:
		rc = evwork_ctx_with_value(parent, &key, farmer, NULL, &child);
		break;
	default:
		rc = evwork_ctx_new(parent, &child);
	}
	if (rc) {
		farmer->wrong++;
		return;
	}
	if ((farmer->seed >> 44) % 2) {
		/* Only this thread can have killed what is between root and child. */
		if (evwork_ctx_cancel(child, 7) != (evwork_ctx_err(parent) ? -EALREADY : 0))
			farmer->wrong++;
	}
	if ((evwork_ctx_err(child) != 0) != (evwork_ctx_cause(child) != 0))
		farmer->wrong++;
	if ((farmer->seed >> 48) % 2)
		farmer_grow(farmer, child);
	evwork_ctx_unref(child);
}

static void *farmer_run(void *arg)
{
	struct farmer *farmer = arg;
	int i;

	for (i = 0; i < farmer->rounds; i++)
		farmer_grow(farmer, farmer->root);
	return NULL;
}

/* S-CTX-20, S-CTX-9: several threads make, cancel and drop children of one parent
 * at once, with deadlines on one loop, and nothing is left. */
START_TEST(everybody_makes_children)
{
	struct farmer farmer[3];
	pthread_t thread[3];
	struct evwork_ctx *root;
	struct world world;
	size_t before;
	int i;

	world_setup(&world);
	root = ctx_new(NULL);
	before = sys_blocks();
	for (i = 0; i < 3; i++) {
		farmer[i] = (struct farmer){ root, world.loop, (uint64_t)i + 1,
			30000 / SLOWER, 0 };
		ck_assert_int_eq(pthread_create(&thread[i], NULL, farmer_run, &farmer[i]), 0);
	}
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
		ck_assert_int_eq(farmer[i].wrong, 0);
	}
	settle(&world);
	expect_ctx(root, 0, 0);
	ck_assert_uint_eq(sys_blocks(), before);
	evwork_ctx_unref(root);
	world_close(&world);
}
END_TEST

/* Refusals. */

/* S-GEN-1, S-GEN-8: makers without a place for the result say EINVAL, and so does
 * a look-up without key or place. */
START_TEST(makers_need_a_place)
{
	struct evwork_ctx *ctx = ctx_new(NULL);
	struct world world;
	void *value = &world;

	world_setup(&world);
	ck_assert_int_eq(evwork_ctx_new(ctx, NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_with_timeout(ctx, world.loop, 10, 0, NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_with_timeout(ctx, world.loop, -1, 0, NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_with_deadline(ctx, world.loop, EVWORK_NEVER, 0, NULL),
		-EINVAL);
	ck_assert_int_eq(evwork_ctx_with_value(ctx, &world, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_detached(ctx, NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_value(ctx, NULL, &value), -EINVAL);
	ck_assert_int_eq(evwork_ctx_value(ctx, &world, NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_value(NULL, NULL, &value), -EINVAL);
	ck_assert_ptr_eq(value, &world);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-18: a deadline that is still to come and earlier than the parent's needs a
 * loop; without one the maker says EINVAL and leaves the result untouched. */
START_TEST(earlier_deadline_needs_a_loop)
{
	struct evwork_ctx *parent, *ctx = NULL;
	struct world world;

	world_setup(&world);
	parent = ctx_timeout(NULL, world.loop, 10, 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, NULL, 10, 0, &ctx), -EINVAL);
	ck_assert_int_eq(evwork_ctx_with_deadline(parent, NULL, evwork_ctx_deadline(parent) - 1,
		0, &ctx), -EINVAL);
	ck_assert_ptr_null(ctx);
	evwork_ctx_unref(parent);
	settle(&world);
	world_close(&world);
}
END_TEST

/* S-CTX-18, S-CTX-13, S-SHUT-7: a closing loop takes neither deadlines nor watches
 * and says ESHUTDOWN; malformed calls still come first. */
START_TEST(closing_loop_takes_nothing)
{
	struct witness witness;
	struct evwork_ctx *ctx, *child = NULL;
	struct world world;

	world_setup(&world);
	ctx = ctx_new(NULL);
	witness_init(&witness);
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(ctx, world.loop, 10, 0, &child), -ESHUTDOWN);
	ck_assert_int_eq(evwork_ctx_with_deadline(ctx, world.loop, START_NS + 1, 0, &child),
		-ESHUTDOWN);
	ck_assert_ptr_null(child);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &witness.watch), -ESHUTDOWN);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &witness.watch), -ESHUTDOWN);
	ck_assert_int_eq(evwork_ctx_stop(&witness.watch), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_with_timeout(ctx, world.loop, 10, 0, NULL), -EINVAL);
	world_turns(&world, 5);
	ck_assert_int_eq(witness.calls, 0);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* S-CTX-13, S-GEN-7: a watch needs a struct, a function and a loop (EINVAL), and
 * must not be pending already, nor queued (EBUSY). */
START_TEST(watch_refusals)
{
	struct evwork_watch bare;
	struct witness witness;
	struct evwork_ctx *ctx;
	struct world world;

	world_setup(&world);
	ctx = ctx_new(NULL);
	evwork_watch_init(&bare, NULL);
	witness_init(&witness);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &bare), -EINVAL);
	ck_assert_int_eq(evwork_ctx_after(ctx, NULL, &witness.watch), -EINVAL);
	ck_assert_int_eq(evwork_ctx_stop(NULL), -EINVAL);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &witness.watch), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &witness.watch), -EBUSY);
	ck_assert_int_eq(evwork_ctx_after(NULL, world.loop, &witness.watch), -EBUSY);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world.loop, &witness.watch), -EBUSY);
	run_until(&world, &witness_calls, 1);
	settle(&world);
	ck_assert_int_eq(witness.calls, 1);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

enum { MAKERS = 4 };

static int make(int maker, struct evwork_ctx *parent, struct evwork_loop *loop,
	struct evwork_ctx **ret_ctx)
{
	switch (maker) {
	case 0:
		return evwork_ctx_new(parent, ret_ctx);
	case 1:
		return evwork_ctx_with_timeout(parent, loop, 10, 0, ret_ctx);
	case 2:
		return evwork_ctx_with_value(parent, &treasure_key, loop, NULL, ret_ctx);
	default:
		return evwork_ctx_detached(parent, ret_ctx);
	}
}

/* Makes a context with the k-th call of this kind and all after it failing;
 * returns whether one did. */
static bool make_failing(int maker, enum sys_call kind, int k, struct evwork_ctx *parent,
	struct world *world)
{
	struct evwork_ctx *ctx = NULL;
	size_t before = sys_blocks();
	bool failing;
	int rc;

	fault_start(kind, k, true);
	rc = make(maker, parent, world->loop, &ctx);
	failing = fault_stop() >= k;
	ck_assert_int_eq(rc, failing ? -ENOMEM : 0);
	ck_assert_int_eq(ctx == NULL, failing);
	evwork_ctx_unref(ctx);
	settle(world);
	ck_assert_uint_eq(sys_blocks(), before);
	return failing;
}

/* S-GEN-14: every maker says ENOMEM for each allocation that fails in it, leaves
 * the result and the parent untouched, and keeps nothing. */
START_TEST(makers_without_memory)
{
	struct evwork_ctx *parents[2] = { NULL, ctx_new(NULL) };
	struct world world;
	int maker, k, i;

	world_setup(&world);
	for (i = 0; i < 2 * MAKERS; i++) {
		maker = i / 2;
		k = 1;
		while (make_failing(maker, SYS_MEMORY, k, parents[i % 2], &world))
			k++;
		ck_assert_int_ge(k, 2);
		k = 1;
		while (make_failing(maker, SYS_LOCK, k, parents[i % 2], &world))
			k++;
	}
	expect_ctx(parents[1], 0, 0);
	evwork_ctx_unref(parents[1]);
	world_close(&world);
}
END_TEST

/* S-GEN-14: watching, stopping, cancelling, expiring and freeing allocate nothing. */
START_TEST(ends_need_no_memory)
{
	struct witness called, stopped;
	struct evwork_ctx *timed, *ctx, *child;
	struct world world;

	world_setup(&world);
	timed = ctx_timeout(NULL, world.loop, 10, 0);
	ctx = ctx_new(NULL);
	child = ctx_timeout(ctx, world.loop, 20, 0);
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	fault_start(SYS_CALLS, 1, true);
	witness_start(&called, child, world.loop);
	witness_start(&stopped, timed, world.loop);
	ck_assert_int_eq(evwork_ctx_stop(&stopped.watch), 1);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	expect_ctx(timed, -ETIMEDOUT, -ETIMEDOUT);
	world_run_until(&world, &witness_calls, 1);
	evwork_ctx_unref(child);
	evwork_ctx_unref(ctx);
	evwork_ctx_unref(timed);
	ck_assert_int_eq(fault_stop(), 0);
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	ck_assert_int_eq(called.status, -ECANCELED);
	world_close(&world);
}
END_TEST

static void add_death_tests(Suite *suite)
{
	TCase *tcase = support_case(suite, "background");

	tcase_add_test(tcase, background_is_alive_and_empty);
	tcase_add_test(tcase, background_cannot_be_cancelled);
	tcase_add_test(tcase, background_is_not_counted);
	tcase_add_test(tcase, background_can_be_a_parent);
	tcase_add_test(tcase, background_watch_waits_for_stop);

	tcase = support_case(suite, "death");
	tcase_add_test(tcase, cancelled_stays_cancelled);
	tcase_add_test(tcase, expired_stays_expired);
	tcase_add_test(tcase, first_cancel_fixes_error_and_cause);
	tcase_add_test(tcase, cause_is_any_number);
	tcase_add_test(tcase, earlier_deadline_wins);
	tcase_add_test(tcase, later_deadline_needs_no_loop);
	tcase_add_test(tcase, later_deadline_adds_no_timer);
	tcase_add_test(tcase, own_deadline_kills_only_the_child);
	tcase_add_test(tcase, no_time_left_is_born_dead);
	tcase_add_test(tcase, past_deadline_is_born_dead);
	tcase_add_test(tcase, born_dead_needs_no_loop);
	tcase_add_test(tcase, endless_timeout_saturates);
	tcase_add_test(tcase, child_of_the_dead_is_born_dead);
	tcase_add_test(tcase, child_of_the_lazily_dead_is_born_dead);
}

static void add_propagation_tests(Suite *suite)
{
	TCase *tcase = support_case(suite, "propagation");

	tcase_add_test(tcase, cancel_reaches_all_descendants_before_it_returns);
	tcase_add_test(tcase, expiry_reaches_all_descendants);
	tcase_add_test(tcase, the_dead_do_not_die_again);
	tcase_add_test(tcase, no_child_dies_before_its_parent);
	tcase_add_test(tcase, no_child_expires_before_its_parent);
	tcase_add_test(tcase, cancel_goes_down_only);
	tcase_add_test(tcase, short_lived_children_leave_nothing);
	tcase_add_test(tcase, short_lived_timeouts_leave_nothing);

	tcase = support_case(suite, "lazy");
	tcase_add_test(tcase, deadline_passes_on_a_stalled_loop);
	tcase_add_test(tcase, cause_is_lazy_too);
	tcase_add_test(tcase, deadline_beats_a_late_cancel);
	tcase_add_test(tcase, deadline_of_a_child_beats_a_late_cancel_of_the_parent);
	tcase_add_test(tcase, deadline_passes_without_a_turn);
	tcase_add_test(tcase, lazy_death_calls_the_watches);
	tcase_add_test(tcase, cause_of_a_deadline);
	tcase_add_test(tcase, cause_of_a_cancel_is_not_the_deadlines);
	tcase_add_test(tcase, cause_is_that_of_the_deadline_that_hit);

	tcase = support_case(suite, "detached");
	tcase_add_test(tcase, detached_inherits_values_only);
	tcase_add_test(tcase, detached_is_a_root_of_its_own);
	tcase_add_test(tcase, detached_with_a_timeout_is_a_shield);
}

static void add_watch_tests(Suite *suite)
{
	TCase *tcase = support_case(suite, "watch");

	tcase_add_test(tcase, watch_is_called_after_the_death);
	tcase_add_test(tcase, watch_is_not_called_inside_cancel);
	tcase_add_test(tcase, watch_of_the_dead_comes_in_the_next_turn);
	tcase_add_test(tcase, watch_set_by_a_watch_comes_in_the_next_turn);
	tcase_add_test(tcase, watch_is_called_in_a_later_turn_than_the_cancel);
	tcase_add_test(tcase, watches_run_in_order_of_registration);
	tcase_add_test(tcase, watch_runs_on_its_own_loop);
	tcase_add_test(tcase, watch_has_one_call);
	tcase_add_test(tcase, watch_can_be_set_again_in_its_callback);
	tcase_add_test(tcase, watch_can_be_freed_in_its_callback);
	tcase_add_test(tcase, loop_close_ends_watches);
	tcase_add_test(tcase, context_outlives_its_loop);

	tcase = support_case(suite, "stop");
	tcase_add_test(tcase, stop_of_a_pending_watch);
	tcase_add_test(tcase, stop_of_a_queued_watch);
	tcase_add_test(tcase, stop_of_a_watch_of_the_dead);
	tcase_add_test(tcase, stop_in_the_own_callback);
	tcase_add_test(tcase, stop_of_a_later_watch_in_a_callback);
	tcase_add_test(tcase, stopped_watch_may_be_freed);
	tcase_add_test(tcase, stopped_watch_can_be_set_again);
	tcase_add_test(tcase, stop_does_not_wait_for_the_callback);
}

static void add_life_tests(Suite *suite)
{
	TCase *tcase = support_case(suite, "values");

	tcase_add_test(tcase, nearest_value_wins);
	tcase_add_test(tcase, stored_null_shadows);
	tcase_add_test(tcase, values_survive_death);
	tcase_add_test(tcase, destructor_runs_once_with_the_last_unref);
	tcase_add_test(tcase, destructor_runs_on_the_thread_of_the_last_unref);
	tcase_add_test(tcase, destructor_may_use_the_tree);
	tcase_add_test(tcase, destructor_is_not_called_on_failure);

	tcase = support_case(suite, "references");
	tcase_add_test(tcase, unref_cancels_nothing);
	tcase_add_test(tcase, last_unref_frees);
	tcase_add_test(tcase, watch_keeps_its_context);
	tcase_add_test(tcase, job_keeps_its_context);

	tcase = support_case(suite, "timer");
	tcase_add_test(tcase, timer_is_gone_with_the_death);
	tcase_add_test(tcase, timer_is_gone_with_the_last_unref);
	tcase_add_test(tcase, deadline_keeps_the_loop_alive);
	tcase_add_test(tcase, foreign_cancel_lets_dispatch_return);
	tcase_add_test(tcase, foreign_unref_lets_dispatch_return);
	tcase_add_test(tcase, foreign_creation_arms_the_timer);
	tcase_add_test(tcase, foreign_creation_on_a_sleeping_loop);
	tcase_add_test(tcase, foreign_creation_may_be_too_late);
	tcase_add_test(tcase, deadline_calls_the_watches);
}

static void add_crowd_tests(Suite *suite)
{
	TCase *tcase = support_case(suite, "crowd");

	tcase_add_loop_test(tcase, deep_chain_needs_no_stack, 0, 2);
	tcase_add_test(tcase, wide_tree_dies_whole);
	tcase_add_test(tcase, everybody_cancels_everything);
	tcase_add_test(tcase, everybody_makes_children);

	tcase = support_case(suite, "refusals");
	tcase_add_test(tcase, makers_need_a_place);
	tcase_add_test(tcase, earlier_deadline_needs_a_loop);
	tcase_add_test(tcase, closing_loop_takes_nothing);
	tcase_add_test(tcase, watch_refusals);
	tcase_add_test(tcase, makers_without_memory);
	tcase_add_test(tcase, ends_need_no_memory);
}

static Suite *ctx_suite(void)
{
	Suite *suite = suite_create("ctx");

	add_death_tests(suite);
	add_propagation_tests(suite);
	add_watch_tests(suite);
	add_life_tests(suite);
	add_crowd_tests(suite);
	return suite;
}

int main(void)
{
	return support_run(ctx_suite());
}
