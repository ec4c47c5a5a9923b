/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

/*
 * What the test programs share: running suites as TAP, forcing orders instead
 * of sleeping, a world of base, pool and loop, and checks for leaks.
 *
 * Never ck_assert on a worker: record into a struct, assert in the test.
 */

#include <check.h>
#include <event2/event.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "evwork.h"

/*
 * Runs the suite and prints TAP on stdout; returns main's exit status. Each test
 * case gets a time limit that only a hang reaches; EVWORK_TEST_SLOW=n
 * multiplies it (valgrind, sanitizers).
 */
int support_run(Suite *suite);

/* EVWORK_TEST_SLOW, or 1: how many times slower than usual this run is. */
int support_slow(void);

/* Prints one line as a TAP comment, such as why something was not tested. */
void support_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A test case of the suite with the usual limit and leak check: after each test
 * the number of library blocks, descriptors and threads is what it was before. */
TCase *support_case(Suite *suite, const char *name);

/*
 * A gate: work waits in it until the test opens it, so that a worker is surely
 * busy. Work side: gate_pass blocks until open. Test side: gate_await blocks
 * until n passers have arrived (ever), gate_open lets all pass now and later.
 */
struct gate {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	int arrived;
	bool open;
};
void gate_init(struct gate *gate);
void gate_fini(struct gate *gate);
void gate_pass(struct gate *gate);
void gate_await(struct gate *gate, int n);
void gate_open(struct gate *gate);

/* A job that holds its worker in a gate. */
struct gate_job {
	struct evwork_job job;
	struct gate *gate;
	int status;        /* as done got it; 1 before that */
};
void gate_job_init(struct gate_job *gj, struct gate *gate);

/* A job that records what happens to it. */
struct probe {
	struct evwork_job job;
	int result;              /* what run returns */
	atomic_int runs;         /* how often run was called */
	int dones;               /* how often done was called */
	int status, ran, abandoned;
	int run_order, done_order;   /* from the counters below; 0: not yet */
	pthread_t run_thread, done_thread;
	void (*on_run)(struct probe *probe);    /* called in run, may be NULL */
	void (*on_done)(struct probe *probe);   /* called in done, may be NULL */
	void *arg;
};
extern atomic_int probe_run_counter, probe_done_counter;
void probe_init(struct probe *probe, int result);

/* Base, pool of n workers and loop with default or given options. Any options
 * pointer may be NULL. threads > 0 overrides pool options' threads. */
struct world {
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct evwork_clock *clock;   /* manual, only from world_open_manual */
};
void world_open(struct world *world, int threads);
void world_open_with(struct world *world, const struct evwork_pool_options *pool,
	const struct evwork_loop_options *loop);
/* Pool and loop on one manual clock that starts at start_ns. */
void world_open_manual(struct world *world, int threads, int64_t start_ns);
/* Frees all; asserts that nothing was busy. */
void world_close(struct world *world);
/* Runs the base until *count reaches n (set by callbacks on this thread). */
void world_run_until(struct world *world, int *count, int n);
/* Runs the base until dispatch returns by itself. */
void world_run(struct world *world);
/* Runs single non-blocking turns of the base, n of them. */
void world_turns(struct world *world, int n);

/* Holds every worker of the world in the gate; one job a worker. */
void block_workers(struct world *world, struct gate *gate, struct gate_job *jobs, int workers);
/* Lets the workers go on and runs the base until nothing is left. */
void unblock_workers(struct world *world, struct gate *gate);

/* Nothing has happened to a probe, or its work and its done, once. */
void expect_probe_untouched(const struct probe *probe);
void expect_probe_once(const struct probe *probe, int status);
struct evwork_lane_stats stats_of(struct evwork_lane *lane);

/* The kinds of notification; a test that runs over all of them is told of one that the
 * system has not, with a note, or by the false of world_open_notify. */
extern const enum evwork_notify notify_kinds[];
#define NOTIFY_KINDS 2
bool notify_is_missing(int kind);
bool world_open_notify(struct world *world, int kind, int threads);

/* One pass of the base, which an event of the test's own ends, whether or not anything
 * keeps the base running. */
void one_pass(struct event_base *base);

/* Failure injection: the k-th call (from 1) of this kind fails, and with
 * `onwards` all after it too. fault_stop returns how many calls of the kind
 * were counted. SYS_CALLS as the kind counts and fails calls of every kind. With
 * k = 0 none fails, they are only counted. */
void fault_start(enum sys_call kind, int k, bool onwards);
int fault_stop(void);

int support_fd_count(void);
int support_thread_count(void);

/* False if CK_FORK=no: then a test must not end the process or change it for
 * good. */
bool support_forks(void);

/* What fork returned to the parent: waits for the child, which must end with status 0. */
void support_await_child(pid_t child);

/* Runs fn(arg) on another thread and waits until it has ended. */
void support_elsewhere(void (*fn)(void *arg), void *arg);

/* A guard of a lane that answers each job alike, 0 or an error, and keeps nothing. */
struct support_guard {
	struct evwork_guard guard;
	int answer;
};
int support_guard_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit);
void support_guard_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end);
#define SUPPORT_GUARD(answer) { { support_guard_acquire, support_guard_release }, (answer) }

/* Sends stdout and stderr away from begin to end, which returns how many bytes
 * were written; no more than a pipe takes. */
struct support_capture {
	int saved[2], pipe[2];
};
void support_capture_begin(struct support_capture *capture);
int support_capture_end(struct support_capture *capture);

/* A timer, a watch and a post that record what happens to them. `on` is called
 * last in the callback and may be NULL; orders come from probe_done_counter. */
struct support_timer {
	struct evwork_timer timer;
	int calls, status, order;
	int64_t at_ns;               /* when it fired, on the loop's clock */
	struct evwork_loop *loop;    /* whose clock that is; NULL: the system's */
	void (*on)(struct support_timer *timer);
	void *arg;
};
void support_timer_init(struct support_timer *timer, struct evwork_loop *loop);

struct support_watch {
	struct evwork_watch watch;
	int calls, status, order;
	pthread_t thread;
	void (*on)(struct support_watch *watch);
	void *arg;
};
void support_watch_init(struct support_watch *watch);

struct support_post {
	int calls, order;
	pthread_t thread;
	void (*on)(struct support_post *post);
	void *arg;
};
void support_post_init(struct support_post *post);
/* For evwork_post, with the struct as arg. */
void support_post_fn(void *arg);

/* A member of a group that records what happens to it; orders come from
 * probe_done_counter. */
struct support_member {
	struct evwork_member member;
	int result;              /* what run returns */
	void *value;             /* what it leaves as its result */
	struct gate *gate;       /* in which it waits, may be NULL */
	bool obeys;              /* it returns the error of its context, if there is one */
	atomic_int runs;         /* how often run was called */
	int dones;               /* how often done was called */
	int status, ran, order;
	size_t index;
	int seen;                /* evwork_job_err at the end of run */
	pthread_t done_thread;
	void (*on_run)(struct support_member *member);   /* after the gate, may be NULL */
	void (*on_done)(struct support_member *member);  /* called last, may be NULL */
	void *arg;
};
void support_member_init(struct support_member *member, int result);

/* The join of a group, recorded. */
struct support_join {
	int calls, status, order;
	int cause;               /* of the group's context, in the callback */
	pthread_t thread;
	bool frees;              /* the group, in the callback */
	int free_rc;
	void (*on)(struct support_join *join, struct evwork_group *group);
	void *arg;
};
/* For evwork_group_join, with the struct as arg. */
void support_join_fn(struct evwork_group *group, int status, void *arg);

#endif
