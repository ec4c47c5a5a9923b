/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

/*
 * Broken invariants: what happens when they are found, in both kinds of build. Which kind
 * the library is can be set, so each case is broken twice, in processes of their own: what
 * is left of it could not be freed.
 */

#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/broken.h"
#include "guard/breaker.h"
#include "run/loop.h"
#include "run/pool.h"

/* What was logged, for both processes. */
static struct {
	int count;
	enum evwork_log_level level;
	char text[256];
	bool locked;                   /* the lock below was held */
} *told;

/* A lock that must be free when something is logged, if there is one. */
static sys_mutex *must_be_free;

static void tell(enum evwork_log_level level, const char *text, void *arg)
{
	(void)arg;
	if (must_be_free && pthread_mutex_trylock(must_be_free) != 0)
		told->locked = true;
	else if (must_be_free)
		pthread_mutex_unlock(must_be_free);
	told->count++;
	told->level = level;
	snprintf(told->text, sizeof(told->text), "%s", text);
}

#define WRONG(what) do { if (what) _exit(1 + __LINE__ % 250); } while (0)

/* The cases. Each breaks something, comes to where that is found, and sees to it that the
 * operation has failed and done nothing else. They run in the child. */

static void turn(struct world *world)
{
	WRONG(event_base_loop(world->base, EVLOOP_NONBLOCK) < 0);
}

/* The other order than that of the contract, S-DLV-14. */
static void free_base_first(struct world *world)
{
	event_base_free(world->base);
	evwork_loop_free(world->loop);
}

static atomic_int runs;

static int count_run(struct evwork_job *job)
{
	(void)job;
	atomic_fetch_add(&runs, 1);
	return 0;
}

static int count_of_dones;

static void count_done(struct evwork_job *job, int status)
{
	(void)job;
	(void)status;
	count_of_dones++;
}

static struct gate gate;

static int wait_in_gate(struct evwork_job *job)
{
	(void)job;
	gate_pass(&gate);
	return 0;
}

static struct evwork_job blocker, changed, good;

/* The worker is held by one job, and three wait behind it. */
static void queue_jobs(struct world *world)
{
	gate_init(&gate);
	evwork_job_init(&blocker, wait_in_gate, NULL);
	WRONG(evwork_submit(world->loop, &blocker) != 0);
	gate_await(&gate, 1);
	evwork_job_init(&changed, count_run, count_done);
	evwork_job_init(&good, count_run, count_done);
	WRONG(evwork_submit(world->loop, &changed) != 0);
	WRONG(evwork_submit(world->loop, &good) != 0);
}

/* A job is made anew while it is queued. It does not run, and those behind it do. */
static void change_queued(struct world *world)
{
	queue_jobs(world);
	evwork_job_init(&changed, count_run, count_done);
	gate_open(&gate);
	while (count_of_dones == 0)
		turn(world);
	WRONG(atomic_load(&runs) != 1 || count_of_dones != 1);
	WRONG(evwork_job_ran(&changed) || !evwork_job_ran(&good));
	WRONG(evwork_pool_free(world->pool) != -EBUSY);
}

/* A job is made anew when its work has ended and its done is to come: that does not. */
static void change_ended(struct world *world)
{
	queue_jobs(world);
	gate_open(&gate);
	/* There is one worker, so all but the last have been posted when that runs. */
	while (atomic_load(&runs) < 2)
		sys_yield();
	evwork_job_init(&changed, count_run, count_done);
	while (count_of_dones == 0)
		turn(world);
	WRONG(count_of_dones != 1 || !evwork_job_ran(&good));
	WRONG(evwork_loop_free(world->loop) != -EBUSY);
}

/* The pool has lost count of what it accepted: what is delivered does not make it less. */
static void lose_count_of_pool(struct world *world)
{
	evwork_job_init(&good, count_run, count_done);
	WRONG(evwork_submit(world->loop, &good) != 0);
	atomic_store(&world->pool->pending, 0);
	while (count_of_dones == 0)
		turn(world);
	WRONG(atomic_load(&world->pool->pending) != 0);
}

/* The loop has. */
static void lose_count_of_loop(struct world *world)
{
	evwork_job_init(&good, count_run, count_done);
	WRONG(evwork_submit(world->loop, &good) != 0);
	atomic_store(&world->loop->own, 0);
	while (count_of_dones == 0)
		turn(world);
	WRONG(atomic_load(&world->loop->own) != 0);
}

/* The lane has, and is not freed. */
static void lose_count_of_lane(struct world *world)
{
	struct evwork_lane_options options = { 0 };
	struct evwork_lane *lane;

	WRONG(evwork_lane_new(world->pool, &options, &lane) != 0);
	atomic_store(&lane->outcomes[OUTCOME_OK], 1);
	WRONG(evwork_lane_free(lane) != -EBUSY);
	atomic_store(&lane->outcomes[OUTCOME_OK], 0);
	WRONG(evwork_lane_free(lane) != 0);
}

static void ignore_transition(struct evwork_breaker *breaker, enum evwork_breaker_state from,
	enum evwork_breaker_state to, void *arg)
{
	(void)breaker;
	(void)from;
	(void)to;
	(void)arg;
}

static struct evwork_breaker *new_breaker(struct world *world)
{
	struct evwork_breaker_options options = { .loop = world->loop,
		.rule = EVWORK_BREAKER_CONSECUTIVE, .in_a_row = 1,
		.on_transition = ignore_transition };
	struct evwork_breaker *breaker;

	WRONG(evwork_breaker_new(&options, &breaker) != 0);
	must_be_free = &breaker->mutex;
	return breaker;
}

/* Time moves a breaker that it cannot move. It stays where it is, and works when that is
 * mended. The log is called without its lock, S-GEN-5. */
static void move_forced_breaker(struct world *world)
{
	struct evwork_breaker *breaker = new_breaker(world);

	WRONG(evwork_breaker_set(breaker, EVWORK_BREAKER_FORCED_OPEN) != 0);
	breaker->until_ns = 0;
	WRONG(evwork_breaker_state(breaker) != EVWORK_BREAKER_FORCED_OPEN);
	breaker->until_ns = EVWORK_NEVER;
	WRONG(evwork_breaker_set(breaker, EVWORK_BREAKER_CLOSED) != 0);
	WRONG(evwork_breaker_state(breaker) != EVWORK_BREAKER_CLOSED);
	WRONG(evwork_breaker_free(breaker) != 0);
}

/* A breaker opens and has no room to announce it: it opens, and announces nothing more.
 * The log is called without its lock, S-GEN-5. */
static void fill_notices_of_breaker(struct world *world)
{
	struct evwork_breaker *breaker = new_breaker(world);
	struct evwork_breaker_permit permit = { 0 };

	WRONG(evwork_breaker_acquire(breaker, &permit) != 0);
	breaker->notice_count = EVWORK_BREAKER_NOTICES_MAX;
	WRONG(evwork_breaker_report(&permit, EVWORK_FAILURE, 0) != 0);
	WRONG(breaker->notice_count != EVWORK_BREAKER_NOTICES_MAX);
	WRONG(evwork_breaker_state(breaker) != EVWORK_BREAKER_OPEN);
	WRONG(evwork_breaker_free(breaker) != 0);
}

static const struct {
	void (*run)(struct world *world);
	const char *text;
} cases[] = {
	{ free_base_first, "base was freed before its loop" },
	{ change_queued, "whose turn has come is not queued" },
	{ change_ended, "none that has ended" },
	{ lose_count_of_pool, "a pool has delivered more" },
	{ lose_count_of_loop, "a loop has delivered more" },
	{ lose_count_of_lane, "a lane has delivered more" },
	{ move_forced_breaker, "a move that there is not" },
	{ fill_notices_of_breaker, "no room for what must be announced" }
};

#define CASES (int)(sizeof(cases) / sizeof(cases[0]))

static void run_case(int i, bool aborts)
{
	static const struct rlimit no_core = { 0, 0 };
	struct world world;

	setrlimit(RLIMIT_CORE, &no_core);
	/* Sanitizers have handlers of their own. */
	signal(SIGABRT, SIG_DFL);
	atomic_store(&base_broken_aborts, aborts);
	evwork_set_log(tell, NULL);
	world_open(&world, 1);
	cases[i].run(&world);
	_exit(0);
}

/* How the process of a case ended. */
static int status_of_case(int i, bool aborts)
{
	int status;
	pid_t child;

	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		-1, 0);
	ck_assert_ptr_ne(told, MAP_FAILED);
	child = fork();
	if (child == 0)
		run_case(i, aborts);
	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return status;
}

static void expect_told(int i)
{
	ck_assert_int_eq(told->count, 1);
	ck_assert_int_eq(told->level, EVWORK_LOG_ERROR);
	ck_assert_msg(!told->locked, "a lock was held when it was logged");
	ck_assert_msg(strstr(told->text, cases[i].text) != NULL, "%s", told->text);
	munmap(told, sizeof(*told));
}

/* A build with assertions says what is broken and aborts, S-CRASH-9. */
START_TEST(broken_aborts_in_debug_builds)
{
	int status;

	if (!support_forks())
		return;
	status = status_of_case(_i, true);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x", status);
	expect_told(_i);
}
END_TEST

/* One without says it and goes on; the operation has failed, and nothing else
 * (S-CRASH-9). */
START_TEST(broken_fails_in_release_builds)
{
	int status;

	if (!support_forks())
		return;
	status = status_of_case(_i, false);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
	expect_told(_i);
}
END_TEST

/* Which of both the library is, is for configure to say, S-CRASH-9. */
START_TEST(configure_decides)
{
#ifdef NDEBUG
	ck_assert(!atomic_load(&base_broken_aborts));
#else
	ck_assert(atomic_load(&base_broken_aborts));
#endif
	ck_assert(base_holds(true, "nothing"));
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("broken");
	TCase *tcase = support_case(suite, "invariants");

	tcase_add_test(tcase, configure_decides);
	tcase_add_loop_test(tcase, broken_aborts_in_debug_builds, 0, CASES);
	tcase_add_loop_test(tcase, broken_fails_in_release_builds, 0, CASES);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
