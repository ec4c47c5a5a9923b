/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The submit that waits for room: until when it waits, and where it must not.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>
#include <sched.h>

#ifdef __linux__
#include <sys/syscall.h>
#endif

/* A call of evwork_submit_wait on a thread that may wait. */
struct waiter {
	struct evwork_loop *loop;
	struct evwork_job *job;
	pthread_t thread;
	atomic_long id;           /* of the thread, for the system; 0: not yet there */
	atomic_bool returned;
	int rc;
};

static void waiter_init(struct waiter *waiter, struct world *world, struct probe *probe)
{
	memset(waiter, 0, sizeof(*waiter));
	waiter->loop = world->loop;
	waiter->job = &probe->job;
	waiter->rc = 1;
}

static void *waiter_wait(void *arg)
{
	struct waiter *waiter = arg;

#ifdef __linux__
	atomic_store(&waiter->id, syscall(SYS_gettid));
#else
	atomic_store(&waiter->id, 1);
#endif
	waiter->rc = evwork_submit_wait(waiter->loop, waiter->job);
	atomic_store(&waiter->returned, true);
	return NULL;
}

static void waiter_start(struct waiter *waiter)
{
	ck_assert_int_eq(pthread_create(&waiter->thread, NULL, waiter_wait, waiter), 0);
}

#ifdef __linux__

static bool sleeps(long id)
{
	char path[64], text[256], *end;
	size_t length;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", id);
	file = fopen(path, "r");
	if (!file)
		return true;
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = '\0';
	end = strrchr(text, ')');
	return end && end[1] == ' ' && end[2] == 'S';
}

#else

static bool sleeps(long id)
{
	int i;

	(void)id;
	for (i = 0; i < 1000; i++)
		sched_yield();
	return true;
}

#endif

/* Returns when the waiter sleeps in its call, or has returned from it. */
static void waiter_settle(struct waiter *waiter)
{
	while (atomic_load(&waiter->id) == 0)
		sched_yield();
	while (!atomic_load(&waiter->returned) && !sleeps(atomic_load(&waiter->id)))
		sched_yield();
}

/* A world of one worker that is blocked, and whose queue of one is full. */
struct jam {
	struct world world;
	struct gate gate;
	struct gate_job blocker;
	struct probe queued, probe;
	struct waiter waiter;       /* wants to submit `probe` */
};

static void jam_fill(struct jam *jam)
{
	block_workers(&jam->world, &jam->gate, &jam->blocker, 1);
	probe_init(&jam->queued, 0);
	ck_assert_int_eq(evwork_submit(jam->world.loop, &jam->queued.job), 0);
	probe_init(&jam->probe, 0);
	ck_assert_int_eq(evwork_submit(jam->world.loop, &jam->probe.job), -EAGAIN);
	waiter_init(&jam->waiter, &jam->world, &jam->probe);
}

static void jam_open(struct jam *jam)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };

	world_open_with(&jam->world, &options, NULL);
	jam_fill(jam);
}

static void jam_close(struct jam *jam)
{
	unblock_workers(&jam->world, &jam->gate);
	ck_assert_int_eq(jam->blocker.status, 0);
	world_close(&jam->world);
}

/* Turns the base until the waiter has returned, and ends its thread. */
static void jam_join(struct jam *jam)
{
	while (!atomic_load(&jam->waiter.returned))
		world_turns(&jam->world, 1);
	pthread_join(jam->waiter.thread, NULL);
}

/* Where there is room submit_wait accepts at once, like submit (S-POOL-6). */
START_TEST(wait_with_room)
{
	struct world world;
	struct probe probe;
	struct waiter waiter;

	world_open(&world, 1);
	probe_init(&probe, 7);
	waiter_init(&waiter, &world, &probe);
	waiter_start(&waiter);
	pthread_join(waiter.thread, NULL);
	ck_assert_int_eq(waiter.rc, 0);
	world_run_until(&world, &probe.dones, 1);
	expect_probe_once(&probe, 7);
	world_close(&world);
}
END_TEST

/* In front of a full queue submit_wait waits, and accepts the job once a start
 * has made room (S-POOL-6). */
START_TEST(wait_for_room)
{
	struct jam jam;

	jam_open(&jam);
	waiter_start(&jam.waiter);
	waiter_settle(&jam.waiter);
	ck_assert(!atomic_load(&jam.waiter.returned));
	ck_assert_uint_eq(stats_of(evwork_pool_lane(jam.world.pool)).queued, 1);
	gate_open(&jam.gate);
	world_run_until(&jam.world, &jam.probe.dones, 1);
	jam_join(&jam);
	ck_assert_int_eq(jam.waiter.rc, 0);
	expect_probe_once(&jam.queued, 0);
	expect_probe_once(&jam.probe, 0);
	ck_assert_int_gt(jam.probe.run_order, jam.queued.run_order);
	jam_close(&jam);
}
END_TEST

/* A cancel that takes a job out of the full queue makes room for a waiter even
 * while every worker is blocked (S-POOL-6, S-POOL-8). */
START_TEST(wait_for_cancelled)
{
	struct jam jam;

	jam_open(&jam);
	waiter_start(&jam.waiter);
	waiter_settle(&jam.waiter);
	ck_assert_int_eq(evwork_cancel(&jam.queued.job), 0);
	jam_join(&jam);
	ck_assert_int_eq(jam.waiter.rc, 0);
	ck_assert_int_eq(atomic_load(&jam.probe.runs), 0);
	gate_open(&jam.gate);
	world_run_until(&jam.world, &jam.probe.dones, 1);
	expect_probe_once(&jam.probe, 0);
	ck_assert_int_eq(jam.queued.status, -ECANCELED);
	jam_close(&jam);
}
END_TEST

/* Under a dead context submit_wait refuses with its error and does not wait
 * (S-POOL-6, S-POOL-11). */
START_TEST(wait_dead_ctx)
{
	struct evwork_ctx *ctx;
	struct jam jam;

	jam_open(&jam);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	jam.probe.job.ctx = ctx;
	waiter_start(&jam.waiter);
	pthread_join(jam.waiter.thread, NULL);
	ck_assert_int_eq(jam.waiter.rc, -ECANCELED);
	jam_close(&jam);
	expect_probe_untouched(&jam.probe);
	evwork_ctx_unref(ctx);
}
END_TEST

/* A context that is cancelled while its job waits for room ends the waiting with
 * ECANCELED; the job is the caller's and the queue as it was (S-POOL-6). */
START_TEST(wait_ctx_cancelled)
{
	struct evwork_ctx *ctx;
	struct jam jam;

	jam_open(&jam);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	jam.probe.job.ctx = ctx;
	waiter_start(&jam.waiter);
	waiter_settle(&jam.waiter);
	ck_assert(!atomic_load(&jam.waiter.returned));
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	pthread_join(jam.waiter.thread, NULL);
	ck_assert_int_eq(jam.waiter.rc, -ECANCELED);
	ck_assert_uint_eq(stats_of(evwork_pool_lane(jam.world.pool)).queued, 1);
	ck_assert_int_eq(evwork_cancel(&jam.probe.job), -ESRCH);
	evwork_ctx_unref(ctx);
	jam_close(&jam);
	expect_probe_once(&jam.queued, 0);
	expect_probe_untouched(&jam.probe);
}
END_TEST

/* A deadline that passes while a job waits for room ends the waiting with
 * ETIMEDOUT (S-POOL-6). */
START_TEST(wait_ctx_expires)
{
	struct evwork_pool_options pool = { .threads = 1, .lane = { .queue_limit = 1 } };
	struct evwork_loop_options loop = { .clock = NULL };
	struct evwork_ctx *ctx;
	struct jam jam;

	ck_assert_int_eq(evwork_clock_new(0, &pool.clock), 0);
	loop.clock = pool.clock;
	world_open_with(&jam.world, &pool, &loop);
	jam.world.clock = pool.clock;
	jam_fill(&jam);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, jam.world.loop, 10, 0, &ctx), 0);
	jam.probe.job.ctx = ctx;
	waiter_start(&jam.waiter);
	waiter_settle(&jam.waiter);
	ck_assert(!atomic_load(&jam.waiter.returned));
	ck_assert_int_eq(evwork_clock_advance(jam.world.clock, 10 * SYS_NS_PER_MS), 0);
	jam_join(&jam);
	ck_assert_int_eq(jam.waiter.rc, -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	jam_close(&jam);
	expect_probe_untouched(&jam.probe);
}
END_TEST

/* A deadline ends the waiting for room even if the loop that has the timer never
 * turns meanwhile (S-POOL-6, S-CTX-10). */
START_TEST(wait_ctx_expires_stalled)
{
	struct evwork_ctx *ctx;
	struct jam jam;

	jam_open(&jam);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, jam.world.loop, 20, 0, &ctx), 0);
	jam.probe.job.ctx = ctx;
	waiter_start(&jam.waiter);
	pthread_join(jam.waiter.thread, NULL);
	ck_assert_int_eq(jam.waiter.rc, -ETIMEDOUT);
	ck_assert_int_eq(evwork_ctx_err(ctx), -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	jam_close(&jam);
	expect_probe_untouched(&jam.probe);
}
END_TEST

static int pool_closed;

static void on_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
	pool_closed++;
}

static const enum evwork_close_mode close_modes[] = {
	EVWORK_DRAIN, EVWORK_CANCEL_QUEUED, EVWORK_CANCEL_ALL
};

/* A pool that closes, in whichever mode, ends the waiting for room with ESHUTDOWN,
 * and the job is the caller's (S-POOL-6, S-SHUT-2). */
START_TEST(wait_pool_closes)
{
	struct jam jam;

	pool_closed = 0;
	jam_open(&jam);
	waiter_start(&jam.waiter);
	waiter_settle(&jam.waiter);
	ck_assert(!atomic_load(&jam.waiter.returned));
	ck_assert_int_eq(evwork_pool_close(jam.world.pool, close_modes[_i], jam.world.loop,
		on_pool_closed, NULL), 0);
	pthread_join(jam.waiter.thread, NULL);
	ck_assert_int_eq(jam.waiter.rc, -ESHUTDOWN);
	gate_open(&jam.gate);
	world_run_until(&jam.world, &pool_closed, 1);
	jam_close(&jam);
	expect_probe_untouched(&jam.probe);
	ck_assert_int_eq(jam.queued.dones, 1);
}
END_TEST

static int loop_closed;

static void on_loop_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	(void)arg;
	loop_closed++;
}

/* A job that waits for room is refused with ESHUTDOWN as soon as its loop closes, room
 * or not, and the closed callback comes after that (S-SHUT-7, S-SHUT-8). */
START_TEST(wait_loop_closes)
{
	struct jam jam;

	loop_closed = 0;
	jam_open(&jam);
	waiter_start(&jam.waiter);
	waiter_settle(&jam.waiter);
	ck_assert_int_eq(evwork_loop_close(jam.world.loop, on_loop_closed, NULL), 0);
	jam_join(&jam);
	ck_assert_int_eq(jam.waiter.rc, -ESHUTDOWN);
	ck_assert_int_eq(loop_closed, 0);
	gate_open(&jam.gate);
	world_run_until(&jam.world, &loop_closed, 1);
	expect_probe_once(&jam.queued, 0);
	expect_probe_untouched(&jam.probe);
	jam_close(&jam);
}
END_TEST

/* A guard that says no once there is room. */
struct refuser {
	struct evwork_guard guard;
	atomic_int asked, released;
	atomic_int refuse;         /* with this code; 0: grant */
};

static int refuser_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	struct refuser *refuser = EVWORK_CONTAINER(guard, struct refuser, guard);

	(void)job;
	(void)permit;
	atomic_fetch_add(&refuser->asked, 1);
	return atomic_load(&refuser->refuse);
}

static void refuser_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	struct refuser *refuser = EVWORK_CONTAINER(guard, struct refuser, guard);

	(void)permit;
	(void)end;
	atomic_fetch_add(&refuser->released, 1);
}

static const int guard_codes[] = { -EHOSTDOWN, -EBUSY, -EAGAIN };

/* Guards are asked once there is room, and their refusal ends the waiting as it is,
 * EAGAIN included (S-POOL-6, S-LANE-2). */
START_TEST(wait_guard_refuses)
{
	struct refuser refuser = { .guard = { refuser_acquire, refuser_release } };
	struct evwork_guard *const guards[] = { &refuser.guard };
	struct evwork_pool_options options = {
		.threads = 1, .lane = { .queue_limit = 1, .guards = guards, .guard_count = 1 }
	};
	int asked, released;
	struct jam jam;

	world_open_with(&jam.world, &options, NULL);
	jam_fill(&jam);
	atomic_store(&refuser.refuse, guard_codes[_i]);
	waiter_start(&jam.waiter);
	waiter_settle(&jam.waiter);
	/* Waiting takes no permits. */
	asked = atomic_load(&refuser.asked);
	released = atomic_load(&refuser.released);
	gate_open(&jam.gate);
	jam_join(&jam);
	ck_assert_int_eq(jam.waiter.rc, guard_codes[_i]);
	jam_close(&jam);
	expect_probe_untouched(&jam.probe);
	ck_assert_int_eq(asked - released, 2);
	ck_assert_int_eq(atomic_load(&refuser.asked), asked + 1);
	ck_assert_int_eq(atomic_load(&refuser.released), asked);
}
END_TEST

/* Where waiting is refused. */

/* On the thread of a loop submit_wait gives EDEADLK at once, even if there is
 * room, but a malformed call is told so first (S-POOL-17, S-GEN-6, S-GEN-4). */
START_TEST(wait_on_loop_thread)
{
	struct world world;
	struct probe probe;

	world_open(&world, 1);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit_wait(world.loop, &probe.job), -EDEADLK);
	ck_assert_int_eq(evwork_submit_wait(NULL, &probe.job), -EINVAL);
	ck_assert_int_eq(evwork_submit_wait(world.loop, NULL), -EINVAL);
	world_turns(&world, 3);
	expect_probe_untouched(&probe);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	expect_probe_once(&probe, 0);
	world_close(&world);
}
END_TEST

/* A thread that has a loop of its own while `waiter` waits, and another time after
 * it has freed that. */
struct owner {
	struct waiter waiter;
	int rc_with_loop;
	int errors;
};

static void *owner_live(void *arg)
{
	struct owner *owner = arg;
	struct event_base *base = event_base_new();
	struct evwork_loop *loop;

	if (!base || evwork_loop_new(base, NULL, NULL, &loop) != 0) {
		owner->errors++;
		return NULL;
	}
	owner->rc_with_loop = evwork_submit_wait(owner->waiter.loop, owner->waiter.job);
	owner->errors += evwork_loop_free(loop) != 0;
	event_base_free(base);
	return waiter_wait(&owner->waiter);
}

/* The thread of any other loop must not wait either; once it has freed its loop
 * it may (S-GEN-6, S-POOL-17). */
START_TEST(wait_on_other_loop_thread)
{
	struct owner owner = { .rc_with_loop = 1 };
	struct world world;
	struct probe probe;

	world_open(&world, 1);
	probe_init(&probe, 0);
	waiter_init(&owner.waiter, &world, &probe);
	ck_assert_int_eq(pthread_create(&owner.waiter.thread, NULL, owner_live, &owner), 0);
	pthread_join(owner.waiter.thread, NULL);
	ck_assert_int_eq(owner.errors, 0);
	ck_assert_int_eq(owner.rc_with_loop, -EDEADLK);
	ck_assert_int_eq(owner.waiter.rc, 0);
	world_run_until(&world, &probe.dones, 1);
	expect_probe_once(&probe, 0);
	world_close(&world);
}
END_TEST

static void wait_in_work(struct probe *probe)
{
	waiter_wait(probe->arg);
}

/* On a worker of the same pool submit_wait gives EDEADLK, whether there is room or
 * not (S-POOL-17, S-GEN-6). */
START_TEST(wait_on_own_worker)
{
	struct world world;
	struct probe outer, inner;
	struct waiter waiter;

	world_open(&world, 2);
	probe_init(&inner, 0);
	probe_init(&outer, 0);
	waiter_init(&waiter, &world, &inner);
	outer.on_run = wait_in_work;
	outer.arg = &waiter;
	ck_assert_int_eq(evwork_submit(world.loop, &outer.job), 0);
	world_run(&world);
	expect_probe_once(&outer, 0);
	ck_assert_int_eq(waiter.rc, -EDEADLK);
	expect_probe_untouched(&inner);
	world_close(&world);
}
END_TEST

/* A worker of another pool may wait for room in this one (S-POOL-17, S-GEN-6). */
START_TEST(wait_on_other_worker)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct evwork_pool *other;
	struct probe outer;
	struct jam jam;

	jam_open(&jam);
	ck_assert_int_eq(evwork_pool_new(&options, &other), 0);
	probe_init(&outer, 0);
	outer.on_run = wait_in_work;
	outer.arg = &jam.waiter;
	outer.job.lane = evwork_pool_lane(other);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &outer.job), 0);
	waiter_settle(&jam.waiter);
	ck_assert(!atomic_load(&jam.waiter.returned));
	gate_open(&jam.gate);
	world_run_until(&jam.world, &jam.probe.dones, 1);
	/* The job may be done before the call that handed it over has returned. */
	world_run_until(&jam.world, &outer.dones, 1);
	ck_assert_int_eq(jam.waiter.rc, 0);
	expect_probe_once(&jam.probe, 0);
	jam_close(&jam);
	ck_assert_int_eq(evwork_pool_free(other), 0);
}
END_TEST

/* A job that is on its way already is refused with EBUSY, without waiting
 * (S-POOL-6, S-GEN-7). */
START_TEST(wait_busy_job)
{
	struct jam jam;

	jam_open(&jam);
	jam.waiter.job = &jam.queued.job;
	waiter_start(&jam.waiter);
	pthread_join(jam.waiter.thread, NULL);
	ck_assert_int_eq(jam.waiter.rc, -EBUSY);
	jam_close(&jam);
	expect_probe_once(&jam.queued, 0);
}
END_TEST

/* Many at once. */

#define CROWD 4
#define EACH 300

struct crowd {
	struct evwork_loop *loop;
	struct probe probes[EACH];
	pthread_t thread;
	int refusals;
};

static int crowd_dones;

static void crowd_done(struct probe *probe)
{
	(void)probe;
	crowd_dones++;
}

static void *crowd_submit(void *arg)
{
	struct crowd *crowd = arg;
	int i;

	for (i = 0; i < EACH; i++)
		crowd->refusals += evwork_submit_wait(crowd->loop, &crowd->probes[i].job) != 0;
	return NULL;
}

/* Many threads that wait for room in a short queue all get it, none is forgotten
 * and no job is lost, without and with a guard (S-POOL-6, S-POOL-2). */
START_TEST(wait_crowd)
{
	static struct crowd crowds[CROWD];
	struct refuser granter = { .guard = { refuser_acquire, refuser_release } };
	struct evwork_guard *const guards[] = { &granter.guard };
	struct evwork_pool_options options = {
		.threads = 2,
		.lane = { .queue_limit = 2, .guards = guards, .guard_count = (size_t)_i }
	};
	struct world world;
	int i, k;

	crowd_dones = 0;
	world_open_with(&world, &options, NULL);
	for (k = 0; k < CROWD; k++) {
		crowds[k].loop = world.loop;
		crowds[k].refusals = 0;
		for (i = 0; i < EACH; i++) {
			probe_init(&crowds[k].probes[i], i);
			crowds[k].probes[i].on_done = crowd_done;
		}
		ck_assert_int_eq(pthread_create(&crowds[k].thread, NULL, crowd_submit,
			&crowds[k]), 0);
	}
	world_run_until(&world, &crowd_dones, CROWD * EACH);
	for (k = 0; k < CROWD; k++) {
		pthread_join(crowds[k].thread, NULL);
		ck_assert_int_eq(crowds[k].refusals, 0);
		for (i = 0; i < EACH; i++)
			expect_probe_once(&crowds[k].probes[i], i);
	}
	ck_assert_uint_le(stats_of(evwork_pool_lane(world.pool)).queue_peak, 2);
	ck_assert_int_eq(atomic_load(&granter.asked), atomic_load(&granter.released));
	world_close(&world);
}
END_TEST

static void add_waiting(Suite *suite)
{
	TCase *tcase = support_case(suite, "waiting");

	tcase_add_test(tcase, wait_with_room);
	tcase_add_test(tcase, wait_for_room);
	tcase_add_test(tcase, wait_for_cancelled);
	tcase_add_test(tcase, wait_dead_ctx);
	tcase_add_test(tcase, wait_ctx_cancelled);
	tcase_add_test(tcase, wait_ctx_expires);
	tcase_add_test(tcase, wait_ctx_expires_stalled);
	tcase_add_loop_test(tcase, wait_pool_closes, 0,
		sizeof(close_modes) / sizeof(close_modes[0]));
	tcase_add_test(tcase, wait_loop_closes);
	tcase_add_loop_test(tcase, wait_guard_refuses, 0,
		sizeof(guard_codes) / sizeof(guard_codes[0]));
	tcase_add_loop_test(tcase, wait_crowd, 0, 2);
}

static void add_refusals(Suite *suite)
{
	TCase *tcase = support_case(suite, "refusals");

	tcase_add_test(tcase, wait_on_loop_thread);
	tcase_add_test(tcase, wait_on_other_loop_thread);
	tcase_add_test(tcase, wait_on_own_worker);
	tcase_add_test(tcase, wait_on_other_worker);
	tcase_add_test(tcase, wait_busy_job);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("pool_wait");

	add_waiting(suite);
	add_refusals(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
