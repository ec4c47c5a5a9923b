/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Work that panics, and what it has deferred: the outcome, the text, the order, and
 * that all a job holds is given back once.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { DEFERS = 4, DEPTH = 50 };

/* A job that defers some functions and then ends in one way or another. */
enum ending { RETURN, PANIC, PANIC_DEEP, PANIC_LONG };

struct crash {
	struct probe probe;
	enum ending ending;
	int defers;                        /* how many it registers */
	int panics_in;                     /* which of them panics, from 1 */
	struct deferred {
		struct evwork_defer defer;
		struct crash *crash;
		pthread_t thread;
		int order;                 /* the how manyth of all; 0: not called */
		int dones;                 /* of the job, at that time */
	} deferred[DEFERS];
	int called;
	int drops;
	char text[2 * EVWORK_PANIC_TEXT_MAX];   /* as done or drop got it */
};

static void deferred_call(void *arg)
{
	struct deferred *deferred = arg;
	struct crash *crash = deferred->crash;

	deferred->order = ++crash->called;
	deferred->thread = pthread_self();
	deferred->dones = crash->probe.dones;
	if (deferred - crash->deferred == crash->panics_in - 1)
		evwork_panic(&crash->probe.job, "deferred");
}

static int panic_at_bottom(struct crash *crash)
{
	if (crash->ending == PANIC_DEEP)
		evwork_panic(&crash->probe.job, "at the depth of %d", DEPTH);
	return 0;
}

static int deepen(struct crash *crash, int depth)
{
	char stack[64];

	memset(stack, depth, sizeof(stack));
	if (depth == 0)
		return panic_at_bottom(crash);
	return deepen(crash, depth - 1) + stack[depth % 64];
}

static void crash_run(struct probe *probe)
{
	struct crash *crash = EVWORK_CONTAINER(probe, struct crash, probe);
	int i;

	for (i = 0; i < crash->defers; i++) {
		crash->deferred[i].crash = crash;
		if (evwork_defer(&probe->job, &crash->deferred[i].defer, deferred_call,
				&crash->deferred[i]) != 0)
			abort();
	}
	switch (crash->ending) {
	case RETURN:
		break;
	case PANIC:
		evwork_panic(&probe->job, "code %d", 42);
	case PANIC_DEEP:
		deepen(crash, DEPTH);
		break;
	case PANIC_LONG:
		evwork_panic(&probe->job, "%0400d", 7);
	}
}

static void crash_done(struct probe *probe)
{
	struct crash *crash = EVWORK_CONTAINER(probe, struct crash, probe);

	strcpy(crash->text, evwork_job_panic_text(&probe->job));
}

static void crash_init(struct crash *crash, enum ending ending, int defers)
{
	memset(crash, 0, sizeof(*crash));
	probe_init(&crash->probe, 5);
	crash->probe.on_run = crash_run;
	crash->probe.on_done = crash_done;
	crash->ending = ending;
	crash->defers = defers;
}

static void submit_probe(struct world *world, struct probe *probe)
{
	ck_assert_int_eq(evwork_submit(world->loop, &probe->job), 0);
}

static void submit_crash(struct world *world, struct crash *crash)
{
	submit_probe(world, &crash->probe);
}

static void expect_status(const struct crash *crash, int status, const char *text)
{
	ck_assert_int_eq(crash->probe.dones, 1);
	ck_assert_int_eq(crash->probe.status, status);
	ck_assert_int_eq(crash->probe.ran, 1);
	ck_assert_int_eq(crash->probe.abandoned, 0);
	ck_assert_str_eq(crash->text, text);
}

/* All that were registered were called, once, in reverse order, on the worker and
 * before done. */
static void expect_deferred(const struct crash *crash)
{
	int i;

	ck_assert_int_eq(crash->called, crash->defers);
	for (i = 0; i < crash->defers; i++) {
		ck_assert_int_eq(crash->deferred[i].order, crash->defers - i);
		ck_assert(pthread_equal(crash->deferred[i].thread, crash->probe.run_thread));
		ck_assert_int_eq(crash->deferred[i].dones, 0);
	}
}

static void expect_runs(struct world *world, int count)
{
	struct probe probes[8];
	int i;

	ck_assert_int_le(count, 8);
	for (i = 0; i < count; i++) {
		probe_init(&probes[i], 3);
		submit_probe(world, &probes[i]);
	}
	world_run(world);
	for (i = 0; i < count; i++) {
		ck_assert_int_eq(probes[i].dones, 1);
		ck_assert_int_eq(probes[i].status, 3);
	}
}

/* Panics. */

/* A panic ends the work, done gets EOWNERDEAD with ran 1 and the text, and the same
 * thread runs the next job (S-CRASH-11). */
START_TEST(panic_ends_job)
{
	struct crash crash, after;
	struct world world;

	world_open(&world, 1);
	crash_init(&crash, PANIC, 0);
	crash_init(&after, RETURN, 0);
	submit_crash(&world, &crash);
	submit_crash(&world, &after);
	world_run(&world);
	expect_status(&crash, -EOWNERDEAD, "code 42");
	expect_status(&after, 5, "");
	ck_assert(pthread_equal(crash.probe.run_thread, after.probe.run_thread));
	world_close(&world);
}
END_TEST

/* A panic works from any depth of the calls of work (S-CRASH-11). */
START_TEST(panic_deep)
{
	struct crash crash;
	struct world world;

	world_open(&world, 1);
	crash_init(&crash, PANIC_DEEP, 1);
	submit_crash(&world, &crash);
	world_run(&world);
	expect_status(&crash, -EOWNERDEAD, "at the depth of 50");
	expect_deferred(&crash);
	expect_runs(&world, 2);
	world_close(&world);
}
END_TEST

/* At most 255 bytes of the text are kept (S-CRASH-11). */
START_TEST(panic_text_cut)
{
	char zeros[EVWORK_PANIC_TEXT_MAX + 1];
	struct crash crash;
	struct world world;

	memset(zeros, '0', sizeof(zeros) - 1);
	zeros[sizeof(zeros) - 1] = '\0';
	world_open(&world, 1);
	crash_init(&crash, PANIC_LONG, 0);
	submit_crash(&world, &crash);
	world_run(&world);
	expect_status(&crash, -EOWNERDEAD, zeros);
	world_close(&world);
}
END_TEST

/* A job that panicked may be submitted anew from its done; the text of the panic is not
 * that of the next run (S-CRASH-11, S-GEN-7). */
static void submit_again(struct probe *probe)
{
	struct crash *crash = EVWORK_CONTAINER(probe, struct crash, probe);
	struct world *world = probe->arg;

	crash_done(probe);
	if (probe->dones == 1) {
		crash->ending = RETURN;
		ck_assert_str_eq(crash->text, "code 42");
		submit_probe(world, probe);
	}
}

START_TEST(panic_then_submitted)
{
	struct crash crash;
	struct world world;

	world_open(&world, 1);
	crash_init(&crash, PANIC, 0);
	crash.probe.on_done = submit_again;
	crash.probe.arg = &world;
	submit_crash(&world, &crash);
	world_run(&world);
	ck_assert_int_eq(crash.probe.dones, 2);
	ck_assert_int_eq(crash.probe.status, 5);
	ck_assert_str_eq(crash.text, "");
	world_close(&world);
}
END_TEST

static void free_crash(struct probe *probe)
{
	int *freed = probe->arg;

	ck_assert_str_eq(evwork_job_panic_text(&probe->job), "code 42");
	(*freed)++;
	free(EVWORK_CONTAINER(probe, struct crash, probe));
}

/* The done of a job that panicked may free it (S-CRASH-11, S-GEN-7). */
START_TEST(panic_then_freed)
{
	struct world world;
	int i, freed = 0;

	world_open(&world, 2);
	for (i = 0; i < 10; i++) {
		struct crash *crash = malloc(sizeof(*crash));

		crash_init(crash, PANIC, 0);
		crash->probe.on_done = free_crash;
		crash->probe.arg = &freed;
		submit_crash(&world, crash);
	}
	world_run(&world);
	ck_assert_int_eq(freed, 10);
	world_close(&world);
}
END_TEST

/* Without memory for the text it says so; the panic itself needs none (S-CRASH-11,
 * S-CRASH-8). */
START_TEST(panic_without_memory)
{
	struct crash crashes[3];
	struct world world;
	int i;

	world_open(&world, 1);
	for (i = 0; i < 3; i++) {
		crash_init(&crashes[i], PANIC, 0);
		fault_start(SYS_MEMORY, i < 2 ? 1 : 0, true);
		submit_crash(&world, &crashes[i]);
		world_run_until(&world, &crashes[i].probe.dones, 1);
		fault_stop();
	}
	expect_status(&crashes[0], -EOWNERDEAD, "code 42");
	expect_status(&crashes[1], -EOWNERDEAD, "(no memory for the text)");
	expect_status(&crashes[2], -EOWNERDEAD, "(no memory for the text)");
	crash_init(&crashes[0], PANIC, 0);
	submit_crash(&world, &crashes[0]);
	world_run(&world);
	expect_status(&crashes[0], -EOWNERDEAD, "code 42");
	world_close(&world);
}
END_TEST

static void panic_empty(struct probe *probe)
{
	evwork_panic(&probe->job, "%s", "");
}

/* A panic without a text has an empty one (S-CRASH-11). */
START_TEST(panic_without_text)
{
	struct crash crash;
	struct world world;

	world_open(&world, 1);
	crash_init(&crash, PANIC, 0);
	crash.probe.on_run = panic_empty;
	submit_crash(&world, &crash);
	world_run(&world);
	expect_status(&crash, -EOWNERDEAD, "");
	world_close(&world);
}
END_TEST

/* Without a panic, and without a job, there is no text (S-CRASH-11). */
START_TEST(panic_text_none)
{
	struct probe probe;

	probe_init(&probe, 0);
	ck_assert_str_eq(evwork_job_panic_text(&probe.job), "");
	ck_assert_str_eq(evwork_job_panic_text(NULL), "");
}
END_TEST

/* What a job holds when it panics. */

static atomic_int guard_held, guard_releases, guard_failures;

static int count_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)guard;
	(void)job;
	(void)permit;
	atomic_fetch_add(&guard_held, 1);
	return 0;
}

static void count_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)guard;
	(void)permit;
	atomic_fetch_sub(&guard_held, 1);
	atomic_fetch_add(&guard_releases, 1);
	if (end->outcome == EVWORK_FAILURE && end->status == -EOWNERDEAD)
		atomic_fetch_add(&guard_failures, 1);
}

static struct evwork_guard count_guard = { count_acquire, count_release };

static struct evwork_lane *guarded_lane(struct world *world)
{
	struct evwork_guard *guards[] = { &count_guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct evwork_lane *lane;

	atomic_store(&guard_held, 0);
	atomic_store(&guard_releases, 0);
	atomic_store(&guard_failures, 0);
	ck_assert_int_eq(evwork_lane_new(world->pool, &options, &lane), 0);
	return lane;
}

/* The permit of a job that panics is released once, as a failure, and its lane counts
 * it as crashed (S-CRASH-4, S-CRASH-11, S-LANE-3). */
START_TEST(panic_releases_permits)
{
	struct evwork_lane_stats stats;
	struct evwork_lane *lane;
	struct crash crash;
	struct world world;

	world_open(&world, 2);
	lane = guarded_lane(&world);
	crash_init(&crash, PANIC, 2);
	crash.probe.job.lane = lane;
	submit_crash(&world, &crash);
	world_run(&world);
	expect_status(&crash, -EOWNERDEAD, "code 42");
	expect_deferred(&crash);
	ck_assert_int_eq(atomic_load(&guard_held), 0);
	ck_assert_int_eq(atomic_load(&guard_releases), 1);
	ck_assert_int_eq(atomic_load(&guard_failures), 1);
	ck_assert_int_eq(evwork_lane_stats(lane, &stats), 0);
	ck_assert_uint_eq(stats.crashed, 1);
	ck_assert_uint_eq(stats.delivered, 1);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

/* A job that panics gives its context and its place under a cap back (S-CRASH-11,
 * S-LANE-4). */
START_TEST(panic_with_ctx_and_cap)
{
	struct evwork_lane_options options = { .max_running = 1 };
	struct evwork_lane *lane;
	struct crash crashes[3];
	struct evwork_ctx *ctx;
	struct world world;
	int i;

	world_open(&world, 2);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	for (i = 0; i < 3; i++) {
		crash_init(&crashes[i], i < 2 ? PANIC : RETURN, 1);
		crashes[i].probe.job.ctx = ctx;
		crashes[i].probe.job.lane = lane;
		submit_crash(&world, &crashes[i]);
	}
	world_run(&world);
	expect_status(&crashes[0], -EOWNERDEAD, "code 42");
	expect_status(&crashes[1], -EOWNERDEAD, "code 42");
	expect_status(&crashes[2], 5, "");
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

/* Detached jobs. */

struct detached {
	struct crash crash;
	struct gate gate;
};

static void detached_run(struct probe *probe)
{
	gate_pass(&EVWORK_CONTAINER(probe, struct detached, crash.probe)->gate);
	crash_run(probe);
}

static void detached_drop(struct evwork_job *job)
{
	struct crash *crash = EVWORK_CONTAINER(job, struct crash, probe.job);

	crash->drops++;
	strcpy(crash->text, evwork_job_panic_text(job));
}

static void detached_init(struct detached *detached, enum ending ending, int defers)
{
	crash_init(&detached->crash, ending, defers);
	gate_init(&detached->gate);
	detached->crash.probe.on_run = detached_run;
	detached->crash.probe.job.drop = detached_drop;
	ck_assert_int_eq(evwork_job_set_detach(&detached->crash.probe.job, 1), 0);
}

/* Cancels it while it runs, lets it end, and checks that drop is called then. */
static void abandon(struct world *world, struct detached *detached)
{
	struct crash *crash = &detached->crash;

	submit_crash(world, crash);
	gate_await(&detached->gate, 1);
	ck_assert_int_eq(evwork_cancel(&crash->probe.job), -EBUSY);
	world_run_until(world, &crash->probe.dones, 1);
	ck_assert_int_eq(crash->probe.status, -ECANCELED);
	ck_assert_int_eq(crash->probe.abandoned, 1);
	ck_assert_int_eq(crash->drops, 0);
	ck_assert_str_eq(crash->text, "");
	gate_open(&detached->gate);
	world_run_until(world, &crash->drops, 1);
	world_run(world);
	ck_assert_int_eq(crash->probe.dones, 1);
	ck_assert_int_eq(crash->drops, 1);
}

/* An abandoned job that panics still gets its drop, with the text (S-CRASH-11,
 * S-POOL-14). */
START_TEST(panic_abandoned)
{
	struct detached detached;
	struct world world;

	world_open(&world, 1);
	detached_init(&detached, PANIC, 2);
	abandon(&world, &detached);
	ck_assert_str_eq(detached.crash.text, "code 42");
	ck_assert_int_eq(detached.crash.called, 2);
	expect_runs(&world, 2);
	gate_fini(&detached.gate);
	world_close(&world);
}
END_TEST

/* A detached job that panics before anyone gives it up has a done and no drop
 * (S-CRASH-11, S-POOL-14). */
START_TEST(panic_detached)
{
	struct detached detached;
	struct world world;

	world_open(&world, 1);
	detached_init(&detached, PANIC, 2);
	gate_open(&detached.gate);
	submit_crash(&world, &detached.crash);
	world_run(&world);
	expect_status(&detached.crash, -EOWNERDEAD, "code 42");
	expect_deferred(&detached.crash);
	ck_assert_int_eq(detached.crash.drops, 0);
	gate_fini(&detached.gate);
	world_close(&world);
}
END_TEST

/* Deferred functions. */

/* They are called when work returns, the last first, on the worker, before done
 * (S-CRASH-12). */
START_TEST(defer_on_return)
{
	struct crash crash;
	struct world world;

	world_open(&world, 1);
	crash_init(&crash, RETURN, DEFERS);
	submit_crash(&world, &crash);
	world_run(&world);
	expect_status(&crash, 5, "");
	expect_deferred(&crash);
	world_close(&world);
}
END_TEST

/* And likewise when it panics (S-CRASH-12, S-CRASH-11). */
START_TEST(defer_on_panic)
{
	struct crash crash;
	struct world world;

	world_open(&world, 1);
	crash_init(&crash, PANIC, DEFERS);
	submit_crash(&world, &crash);
	world_run(&world);
	expect_status(&crash, -EOWNERDEAD, "code 42");
	expect_deferred(&crash);
	world_close(&world);
}
END_TEST

/* A panic in a deferred function calls the remaining ones; the first text is kept
 * (S-CRASH-11). */
START_TEST(defer_panics)
{
	struct crash panicked, returned;
	struct world world;

	world_open(&world, 1);
	crash_init(&panicked, PANIC, DEFERS);
	panicked.panics_in = 3;
	submit_crash(&world, &panicked);
	crash_init(&returned, RETURN, DEFERS);
	returned.panics_in = 2;
	submit_crash(&world, &returned);
	world_run(&world);
	expect_status(&panicked, -EOWNERDEAD, "code 42");
	expect_deferred(&panicked);
	expect_status(&returned, -EOWNERDEAD, "deferred");
	expect_deferred(&returned);
	expect_runs(&world, 2);
	world_close(&world);
}
END_TEST

/* What a deferred function defers is called next (S-CRASH-12). */
struct nested {
	struct probe probe;
	struct evwork_defer outer, inner;
	int calls, err, rc;
};

static void nested_inner(void *arg)
{
	struct nested *nested = arg;

	nested->calls = nested->calls * 10 + 2;
}

static void nested_outer(void *arg)
{
	struct nested *nested = arg;

	nested->calls = nested->calls * 10 + 1;
	nested->err = evwork_job_err(&nested->probe.job);
	nested->rc = evwork_defer(&nested->probe.job, &nested->inner, nested_inner, nested);
}

static void nested_run(struct probe *probe)
{
	struct nested *nested = EVWORK_CONTAINER(probe, struct nested, probe);

	if (evwork_defer(&probe->job, &nested->outer, nested_outer, nested) != 0)
		abort();
	evwork_cancel(&probe->job);
}

START_TEST(defer_in_deferred)
{
	struct nested nested;
	struct world world;

	memset(&nested, 0, sizeof(nested));
	world_open(&world, 1);
	probe_init(&nested.probe, 0);
	nested.probe.on_run = nested_run;
	submit_probe(&world, &nested.probe);
	world_run(&world);
	ck_assert_int_eq(nested.calls, 12);
	ck_assert_int_eq(nested.err, -ECANCELED);
	ck_assert_int_eq(nested.rc, 0);
	world_close(&world);
}
END_TEST

static void never(void *arg)
{
	(void)arg;
	abort();
}

struct wrong {
	struct probe probe;
	struct evwork_job *other;
	struct evwork_defer defer;
	int rcs[4];
};

static void wrong_run(struct probe *probe)
{
	struct wrong *wrong = EVWORK_CONTAINER(probe, struct wrong, probe);

	wrong->rcs[0] = evwork_defer(wrong->other, &wrong->defer, never, NULL);
	wrong->rcs[1] = evwork_defer(NULL, &wrong->defer, never, NULL);
	wrong->rcs[2] = evwork_defer(&probe->job, NULL, never, NULL);
	wrong->rcs[3] = evwork_defer(&probe->job, &wrong->defer, NULL, NULL);
}

/* Deferring for a job that does not run on the calling thread is EPERM, and without
 * a job, a struct or a function EINVAL (S-CRASH-13, S-GEN-8). */
START_TEST(defer_refused)
{
	struct evwork_defer defer;
	struct gate_job running;
	struct wrong wrong;
	struct world world;
	struct gate gate;

	world_open(&world, 2);
	gate_init(&gate);
	gate_job_init(&running, &gate);
	ck_assert_int_eq(evwork_defer(&running.job, &defer, never, NULL), -EPERM);
	ck_assert_int_eq(evwork_submit(world.loop, &running.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_defer(&running.job, &defer, never, NULL), -EPERM);
	memset(&wrong, 0, sizeof(wrong));
	probe_init(&wrong.probe, 0);
	wrong.probe.on_run = wrong_run;
	wrong.other = &running.job;
	submit_probe(&world, &wrong.probe);
	world_run_until(&world, &wrong.probe.dones, 1);
	ck_assert_int_eq(wrong.rcs[0], -EPERM);
	ck_assert_int_eq(wrong.rcs[1], -EINVAL);
	ck_assert_int_eq(wrong.rcs[2], -EINVAL);
	ck_assert_int_eq(wrong.rcs[3], -EINVAL);
	gate_open(&gate);
	world_run(&world);
	ck_assert_int_eq(running.status, 0);
	gate_fini(&gate);
	world_close(&world);
}
END_TEST

/* Ends of the process. */

/* Runs fn(arg) in a process of its own; returns what waitpid says of it, or -1 if
 * tests must not have processes. */
static int in_child(void (*fn)(void *arg), void *arg)
{
	static const struct rlimit no_core = { 0, 0 };
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	int status;
	size_t i;
	pid_t child;

	if (!support_forks()) {
		support_note("not without processes of its own");
		return -1;
	}
	child = fork();
	if (child == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		/* Sanitizers have handlers of their own. */
		for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
			signal(signals[i], SIG_DFL);
		fn(arg);
		_exit(0);
	}
	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return status;
}

static void expect_killed(int status, int signal)
{
	if (status == -1)
		return;
	ck_assert_msg(WIFSIGNALED(status), "ended with %d, not by a signal", status);
	ck_assert_int_eq(WTERMSIG(status), signal);
}

/* Seen by both processes. */
static char *shared;

static void tell_shared(enum evwork_log_level level, const char *text, void *arg)
{
	(void)level;
	(void)arg;
	snprintf(shared, 256, "%s", text);
}

static void panic_outside(void *arg)
{
	struct probe *probe = arg;

	evwork_set_log(tell_shared, NULL);
	evwork_panic(probe ? &probe->job : NULL, "no");
}

/* A panic for a job that does not run on the calling thread aborts with a sentence
 * (S-CRASH-13). */
START_TEST(panic_elsewhere_aborts)
{
	struct probe probe;
	int status;

	shared = mmap(NULL, 256, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	probe_init(&probe, 0);
	status = in_child(panic_outside, &probe);
	expect_killed(status, SIGABRT);
	if (status != -1)
		ck_assert_ptr_nonnull(strstr(shared, "evwork_panic"));
	expect_killed(in_child(panic_outside, NULL), SIGABRT);
	munmap(shared, 256);
}
END_TEST

static void run_in_child(void *arg)
{
	struct probe probe;
	struct world world;

	world_open(&world, 1);
	probe_init(&probe, 0);
	probe.on_run = *(void (**)(struct probe *))arg;
	submit_probe(&world, &probe);
	world_run(&world);
}

static void fault(struct probe *probe)
{
	volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)probe;
	*page = 1;
}

static void raise_bus(struct probe *probe) { (void)probe; raise(SIGBUS); }
static void raise_fpe(struct probe *probe) { (void)probe; raise(SIGFPE); }
static void raise_ill(struct probe *probe) { (void)probe; raise(SIGILL); }
static void end_by_abort(struct probe *probe) { (void)probe; abort(); }

/* Signals of a fault are not caught: they end the process as they do anywhere else
 * (S-CRASH-1). */
START_TEST(fault_kills)
{
	static const struct {
		void (*run)(struct probe *probe);
		int signal;
	} faults[] = {
		{ fault, SIGSEGV }, { raise_bus, SIGBUS }, { raise_fpe, SIGFPE },
		{ raise_ill, SIGILL }, { end_by_abort, SIGABRT },
	};
	size_t i;

	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		void (*run)(struct probe *) = faults[i].run;

		expect_killed(in_child(run_in_child, &run), faults[i].signal);
	}
}
END_TEST

static volatile int bottomless = -1;

static int overflow(volatile char *above, int depth)
{
	volatile char frame[512];

	frame[0] = above[0];
	frame[depth % 512] = (char)depth;
	return depth == bottomless ? 0 : overflow(frame, depth + 1) + frame[1];
}

static void overflow_run(struct probe *probe)
{
	char first = 0;

	probe->result = overflow(&first, 0);
}

/* The overflow of a worker's stack meets the guard page (S-CRASH-10). */
START_TEST(overflow_kills)
{
	void (*run)(struct probe *) = overflow_run;

	expect_killed(in_child(run_in_child, &run), SIGSEGV);
}
END_TEST

/* What a crash handler may ask. */

struct asked {
	struct probe probe;
	struct evwork_crash_info info;
	char lane[64], pool[64];
	int rc, deferred_rc;
	struct evwork_defer defer;
	volatile sig_atomic_t done;
};

static struct asked *asked;

static void ask(int signal)
{
	(void)signal;
	asked->rc = evwork_crash_job(&asked->info);
	asked->done = 1;
}

static void ask_deferred(void *arg)
{
	struct evwork_crash_info info;

	(void)arg;
	asked->deferred_rc = evwork_crash_job(&info);
}

static void asked_run(struct probe *probe)
{
	if (evwork_defer(&probe->job, &asked->defer, ask_deferred, NULL) != 0)
		abort();
	/* One of the signals that workers do not block. */
	raise(SIGSYS);
	snprintf(asked->lane, sizeof(asked->lane), "%s", asked->info.lane);
	snprintf(asked->pool, sizeof(asked->pool), "%s", asked->info.pool);
}

/* A signal handler can ask which job the thread it interrupts is running; outside of
 * work there is none (S-CRASH-7). */
START_TEST(crash_job_in_handler)
{
	struct evwork_pool_options options = { .threads = 1, .name = "named",
		.lane = { .name = "thumbnails" } };
	struct sigaction action, before;
	struct evwork_crash_info info;
	struct asked record;
	struct world world;

	memset(&record, 0, sizeof(record));
	record.rc = record.deferred_rc = 1;
	asked = &record;
	memset(&action, 0, sizeof(action));
	action.sa_handler = ask;
	ck_assert_int_eq(sigaction(SIGSYS, &action, &before), 0);
	ck_assert_int_eq(evwork_crash_job(&info), -ESRCH);
	ck_assert_int_eq(evwork_crash_job(NULL), -EINVAL);
	world_open_with(&world, &options, NULL);
	probe_init(&record.probe, 0);
	record.probe.on_run = asked_run;
	submit_probe(&world, &record.probe);
	world_run(&world);
	ck_assert_int_eq(record.done, 1);
	ck_assert_int_eq(record.rc, 0);
	ck_assert_int_eq(record.deferred_rc, 0);
	ck_assert_ptr_eq(record.info.job, &record.probe.job);
	ck_assert_int_eq(record.info.worker, 0);
	ck_assert_str_eq(record.lane, "thumbnails");
	ck_assert_str_eq(record.pool, "named");
	ck_assert_int_eq(sigaction(SIGSYS, &before, NULL), 0);
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("crash");
	TCase *tcase = support_case(suite, "panic");

	tcase_add_test(tcase, panic_ends_job);
	tcase_add_test(tcase, panic_deep);
	tcase_add_test(tcase, panic_text_cut);
	tcase_add_test(tcase, panic_then_submitted);
	tcase_add_test(tcase, panic_then_freed);
	tcase_add_test(tcase, panic_without_memory);
	tcase_add_test(tcase, panic_without_text);
	tcase_add_test(tcase, panic_text_none);
	tcase_add_test(tcase, panic_releases_permits);
	tcase_add_test(tcase, panic_with_ctx_and_cap);
	tcase_add_test(tcase, panic_abandoned);
	tcase_add_test(tcase, panic_detached);
	tcase = support_case(suite, "defer");
	tcase_add_test(tcase, defer_on_return);
	tcase_add_test(tcase, defer_on_panic);
	tcase_add_test(tcase, defer_panics);
	tcase_add_test(tcase, defer_in_deferred);
	tcase_add_test(tcase, defer_refused);
	tcase = support_case(suite, "process");
	tcase_add_test(tcase, panic_elsewhere_aborts);
	tcase_add_test(tcase, fault_kills);
	tcase_add_test(tcase, overflow_kills);
	tcase_add_test(tcase, crash_job_in_handler);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
