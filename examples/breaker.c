/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * breaker: a client whose backend is killed and started again, then frozen and let go on,
 * while it is called all the time:
 *
 *	$ breaker
 *	   0.020 s  the backend listens
 *	   0.061 s  the backend is killed
 *	   0.074 s  closed -> open
 *	   0.176 s  open -> half open
 *	   0.177 s  half open -> open
 *	   0.190 s  the backend listens
 *	   0.279 s  open -> half open
 *	   0.285 s  half open -> closed
 *	…
 *	377 calls: 86 succeeded, 4 failed, 6 timed out, 281 refused
 *	breaker: 83 successes, 7 failures, 6 stale, 0 ignored, 281 not permitted, 10 changes
 *	the account adds up
 *
 * Calls block, so they are jobs; their lane has the breaker as its guard, and that is all
 * that there is to it: no call asks it for a permit or reports to it. While it is open
 * evwork_submit() says -EHOSTDOWN at once, and no worker waits for a backend that is away.
 * What is killed refuses connections; what is frozen takes them and never answers, so that
 * each call costs a worker all of its time limit.
 *
 * No step of the plan waits for a time. The backend is killed, or frozen, when enough
 * calls have succeeded, and comes back when a trial has failed and enough calls were
 * refused. So the order of the changes is known, however slow the machine:
 *
 *	closed -> open, open -> half open, half open -> open,   as it is away,
 *	open -> half open, half open -> closed                  as it is back.
 *
 *	breaker.c            options, the plan, the account
 *	breaker_callers.c    the calls
 *	breaker_backend.c    the process of the backend
 *	line_server.c        what runs in it
 *
 * Exit status: 0 if the plan came to its end and the account adds up, also after Ctrl-C; 1
 * if not; 2 for a mistake in the arguments.
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include <evwork.h>

#include "breaker_backend.h"
#include "breaker_callers.h"
#include "command_line.h"

#define FAILURES_IN_A_ROW 3
#define TRIALS 2
#define SUCCESSES_DEFAULT 20
#define REFUSALS_DEFAULT 10
#define OPEN_MS_DEFAULT 100
#define TIMEOUT_MS_DEFAULT 200
#define MS_MAX 3600000
#define COUNT_MAX 1000000

struct arguments {
	bool backend;                        /* be that, and nothing else */
	uint64_t successes, refusals;        /* how many each step takes */
	uint64_t open_ms, timeout_ms;
};

enum step { STARTING, BEFORE_KILL, KILLED, BEFORE_FREEZE, FROZEN, THAWED, END };

struct program {
	struct arguments arguments;
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct evwork_breaker *breaker;
	struct evwork_lane *lane;
	struct evwork_shutdown shutdown;
	struct backend backend;
	struct callers callers;
	int64_t start_ns;
	/* The plan. */
	enum step step;
	enum evwork_breaker_state state;     /* as it was announced last */
	bool trial_failed;                   /* in this step */
	struct tally before;                 /* this step */
	/* The end. */
	uint64_t changes;
	struct evwork_breaker_metrics metrics;
	int error;
};

static void say(const struct program *program, const char *what)
{
	printf("%8.3f s  %s\n", (double)(evwork_loop_now(program->loop) - program->start_ns) / 1e9,
		what);
}

static void expect(struct program *program, const char *what, int rc)
{
	if (rc == 0)
		return;
	(void)fprintf(stderr, "breaker: %s: %s\n", what, strerror(-rc));
	program->error = rc;
	callers_stop(&program->callers);
}

/* ---- the plan ---- */

static void step_begin(struct program *program, enum step step)
{
	program->step = step;
	program->before = program->callers.tally;
	program->trial_failed = false;
}

static bool is_well(const struct program *program)
{
	return program->state == EVWORK_BREAKER_CLOSED
		&& program->callers.tally.succeeded - program->before.succeeded
			>= program->arguments.successes;
}

static bool is_given_up(const struct program *program)
{
	return program->trial_failed && program->callers.tally.refused - program->before.refused
		>= program->arguments.refusals;
}

static void away(struct program *program, enum step step, int signal, const char *what)
{
	step_begin(program, step);
	say(program, what);
	expect(program, what, backend_signal(&program->backend, signal));
}

/* Whenever something has happened that a step may wait for. */
static void plan(void *arg)
{
	struct program *program = arg;

	if (program->callers.stopped)
		return;
	if (program->step == BEFORE_KILL && is_well(program)) {
		away(program, KILLED, SIGKILL, "the backend is killed");
	} else if (program->step == KILLED && is_given_up(program) && program->backend.pid == 0) {
		step_begin(program, STARTING);
		expect(program, "starting the backend", backend_start(&program->backend));
	} else if (program->step == BEFORE_FREEZE && is_well(program)) {
		away(program, FROZEN, SIGSTOP, "the backend is frozen");
	} else if (program->step == FROZEN && is_given_up(program)) {
		away(program, THAWED, SIGCONT, "the backend goes on");
	} else if (program->step == THAWED && is_well(program)) {
		step_begin(program, END);
		callers_stop(&program->callers);
	}
}

static void backend_listens(uint16_t port, void *arg)
{
	struct program *program = arg;
	bool first = program->callers.port == 0;

	if (program->callers.stopped)
		return;
	say(program, "the backend listens");
	program->callers.port = port;
	step_begin(program, first ? BEFORE_KILL : BEFORE_FREEZE);
	if (first)
		callers_start(&program->callers);
}

static void backend_died(int status, void *arg)
{
	struct program *program = arg;

	if (program->callers.stopped) {
		if (status != 0 && program->step != KILLED)
			expect(program, "the end of the backend", -EIO);
		backend_fini(&program->backend);
	} else if (program->step == KILLED) {
		plan(program);
	} else {
		expect(program, "the backend has died", -ECHILD);
	}
}

static void on_transition(struct evwork_breaker *breaker, enum evwork_breaker_state from,
	enum evwork_breaker_state to, void *arg)
{
	static const char *const names[] = { "closed", "open", "half open" };
	struct program *program = arg;
	char text[64];

	(void)breaker;
	(void)snprintf(text, sizeof(text), "%s -> %s", names[from], names[to]);
	say(program, text);
	program->changes++;
	program->state = to;
	if (from == EVWORK_BREAKER_HALF_OPEN && to == EVWORK_BREAKER_OPEN)
		program->trial_failed = true;
	plan(program);
}

/* ---- the end ---- */

static void on_interrupt(struct evwork_shutdown *shutdown, int signal)
{
	struct program *program = shutdown->arg;

	(void)signal;
	(void)fprintf(stderr, "interrupted\n");
	callers_stop(&program->callers);
}

/* All callers have ended. When the backend has, too, nothing keeps event_base_dispatch(). */
static void callers_ended(void *arg)
{
	struct program *program = arg;

	if (program->callers.error)
		expect(program, "calling", program->callers.error);
	(void)evwork_shutdown_undo(&program->shutdown); /* -EBUSY: it goes its own way */
	if (program->breaker)
		(void)evwork_breaker_metrics(program->breaker, &program->metrics);
	if (program->backend.pid)
		backend_end(&program->backend);
	else
		backend_fini(&program->backend);
}

static bool account_close(const struct program *program)
{
	const struct evwork_breaker_metrics *breaker = &program->metrics;
	const struct tally *tally = &program->callers.tally;
	uint64_t ran = tally->succeeded + tally->failed + tally->timed_out;
	struct evwork_lane_stats lane;
	bool sound = evwork_lane_stats(program->lane, &lane) == 0
		&& tally->calls == ran + tally->refused
		&& breaker->not_permitted == tally->refused
		&& breaker->success + breaker->failure + breaker->stale + breaker->ignored == ran
		&& breaker->transitions == program->changes
		&& lane.submitted == tally->calls && lane.refused_guard == tally->refused
		&& lane.ok == tally->succeeded && lane.expired == tally->timed_out
		&& lane.failed + lane.cancelled == tally->failed;

	printf("%" PRIu64 " calls: %" PRIu64 " succeeded, %" PRIu64 " failed, %" PRIu64
		" timed out, %" PRIu64 " refused\n", tally->calls, tally->succeeded,
		tally->failed, tally->timed_out, tally->refused);
	printf("breaker: %" PRIu64 " successes, %" PRIu64 " failures, %" PRIu64 " stale, %" PRIu64
		" ignored, %" PRIu64 " not permitted, %" PRIu64 " changes\n", breaker->success,
		breaker->failure, breaker->stale, breaker->ignored, breaker->not_permitted,
		breaker->transitions);
	printf("the account %s\n", sound ? "adds up" : "does not add up");
	return sound;
}

/* ---- set-up ---- */

static int protect(struct program *program)
{
	struct evwork_breaker_options breaker = {
		.rule = EVWORK_BREAKER_CONSECUTIVE, .in_a_row = FAILURES_IN_A_ROW,
		.open_ms = (int64_t)program->arguments.open_ms,
		.trials = TRIALS, .trial_rule = EVWORK_BREAKER_CONSECUTIVE,
		.on_transition = on_transition, .arg = program, .loop = program->loop,
	};
	struct evwork_guard *guards[1];
	struct evwork_lane_options lane = { .name = "backend", .guards = guards, .guard_count = 1 };
	int rc = evwork_breaker_new(&breaker, &program->breaker);

	if (rc)
		return rc;
	guards[0] = evwork_breaker_guard(program->breaker);
	return evwork_lane_new(program->pool, &lane, &program->lane);
}

static int program_init(struct program *program)
{
	struct evwork_pool_options pool = { .name = "breaker", .threads = CALLERS };
	struct evwork_shutdown_options shutdown = { .begun = on_interrupt };
	int rc;

	program->base = event_base_new();
	if (!program->base)
		return -ENOMEM;
	rc = evwork_pool_new(&pool, &program->pool);
	if (rc == 0)
		rc = evwork_loop_new(program->base, program->pool, NULL, &program->loop);
	if (rc == 0)
		rc = protect(program);
	program->shutdown.arg = program;
	if (rc == 0)
		rc = evwork_shutdown_on_signal(&program->shutdown, program->loop, program->pool,
			&shutdown);
	if (rc)
		return rc;
	program->start_ns = evwork_loop_now(program->loop);
	program->callers.loop = program->loop;
	program->callers.lane = program->lane;
	program->callers.timeout_ms = (int64_t)program->arguments.timeout_ms;
	program->callers.progress = plan;
	program->callers.ended = callers_ended;
	program->callers.arg = program;
	program->backend.listening = backend_listens;
	program->backend.died = backend_died;
	program->backend.arg = program;
	rc = backend_init(&program->backend, program->base);
	return rc ? rc : backend_start(&program->backend);
}

/* Frees it in any state in which nothing is under way. */
static int program_fini(struct program *program)
{
	int rc, loop_rc, pool_rc;

	(void)evwork_shutdown_undo(&program->shutdown); /* -ESRCH: it is over */
	backend_fini(&program->backend);
	rc = evwork_lane_free(program->lane);
	(void)evwork_breaker_free(program->breaker); /* [loop], which this is */
	loop_rc = evwork_loop_free(program->loop);
	pool_rc = evwork_pool_free(program->pool);
	if (program->base)
		event_base_free(program->base);
	if (rc == 0)
		rc = loop_rc;
	return rc ? rc : pool_rc;
}

/* ---- arguments ---- */

static const char usage[] =
	"usage: breaker [-n SUCCESSES] [-r REFUSALS] [-o MS] [-t MS]\n"
	"Calls a backend through a circuit breaker while it kills it, starts it again, freezes\n"
	"it and lets it go on, and prints what the breaker does.\n"
	"  -n SUCCESSES  before the backend is killed or frozen; 20 if not given\n"
	"  -r REFUSALS   before it comes back; 10 if not given\n"
	"  -o MS         how long the breaker stays open; 100 if not given\n"
	"  -t MS         how long a call may take; 200 if not given\n"
	"  -B            is the backend; it is not meant to be called by hand\n"
	"Ctrl-C ends it when the calls that have begun are over.\n";

static int argument_set(void *arg, int option, const char *text)
{
	struct arguments *arguments = arg;

	switch (option) {
	case 'B':
		arguments->backend = true;
		return 0;
	case 'n':
		return number_parse(text, 1, COUNT_MAX, &arguments->successes);
	case 'o':
		return number_parse(text, 1, MS_MAX, &arguments->open_ms);
	case 'r':
		return number_parse(text, 1, COUNT_MAX, &arguments->refusals);
	case 't':
		return number_parse(text, 1, MS_MAX, &arguments->timeout_ms);
	default:
		return -EINVAL;
	}
}

int main(int argc, char **argv)
{
	static const struct command_line line = {
		.name = "breaker", .usage = usage, .options = "Bhn:o:r:t:", .set = argument_set
	};
	struct program program = { .arguments = {
		.successes = SUCCESSES_DEFAULT, .refusals = REFUSALS_DEFAULT,
		.open_ms = OPEN_MS_DEFAULT, .timeout_ms = TIMEOUT_MS_DEFAULT } };
	int status = command_line_parse(&line, argc, argv, &program.arguments), rc, end_rc;
	bool sound = true;

	if (status >= 0)
		return status;
	/* The backend may leave while we write; and who reads what we say reads it at once. */
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || setvbuf(stdout, NULL, _IOLBF, 0))
		return EXIT_FAILURE;
	if (program.arguments.backend)
		return backend_serve();
	program.backend.program = argv[0];
	rc = program_init(&program);
	if (rc == 0 && event_base_dispatch(program.base) < 0)
		rc = -EIO;
	if (rc == 0)
		sound = account_close(&program) && program.error == 0;
	end_rc = program_fini(&program);
	if (rc == 0)
		rc = end_rc;
	if (rc)
		(void)fprintf(stderr, "breaker: %s\n", strerror(-rc));
	return rc || !sound || fflush(stdout) || ferror(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
