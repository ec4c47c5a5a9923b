/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker_pool: the classic demonstration. A few workers, a short queue, more
 * jobs than fit, and everything that can happen to a job:
 *
 * - most count the primes below a number, which is real work of very different
 *   sizes, and succeed;
 * - some were given a number that makes no sense, and fail;
 * - some find, deep in their calls, that they cannot go on, and panic. That ends
 *   the job and nothing else; what it had opened is closed all the same;
 * - some would count for ever. Each job has a time limit in its context only if
 *   it is one of these, so that the seed alone decides what happens to which
 *   job, on fast machines and on slow ones;
 * - after Ctrl-C what is queued still runs and nothing new is taken; after a
 *   second one everything ends as soon as it can.
 *
 * The producer offers jobs until the queue is full, which submit answers with
 * -EAGAIN. It keeps that job and the rest back, and goes on whenever a job is
 * done. Nothing waits in a loop and nothing is dropped.
 *
 * At the end our own tally is compared with the counters of the lane. Exit
 * status: 0 if they add up, also after Ctrl-C; 1 if not; 2 for a mistake in
 * the arguments.
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <event2/event.h>

#include <evwork.h>

#include "worker_pool_account.h"
#include "worker_pool_arguments.h"

#define COST_MIN 20000u          /* about a millisecond of work */
#define COST_MAX 400000u         /* about fifty */
#define ENDLESS UINT32_MAX
#define UNLUCKY (UINT32_MAX - 1) /* panics on the way to it */
#define POLL_EVERY 256u          /* numbers between two looks at evwork_job_err() */

struct order {
	struct evwork_job job;
	struct evwork_defer defer;
	struct demo *demo;
	size_t number;
	uint32_t below;          /* count the primes below it; 0 makes no sense */
	uint32_t primes;         /* the answer */
	int worker;              /* who ran it */
	int64_t submitted_ns, started_ns, ended_ns;
};

struct demo {
	struct arguments arguments;
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct event *interrupt;
	struct order *orders;
	size_t next;             /* the first order that was not submitted */
	atomic_int open;         /* orders whose work has begun and was not closed */
	uint64_t on_their_way;
	int interrupts;
	bool full;               /* said that jobs are kept back */
	bool stopped;            /* nothing more is submitted */
	bool closing;
	bool adds_up;
	int error;               /* why submitting ended early, a status */
	struct tally tally;
	int64_t start_ns;
};

/* ---- on a worker ---- */

/* The pool tells a worker its number once, when it starts. */
static _Thread_local int worker_number;

static int worker_start(int worker, void *arg)
{
	(void)arg;
	worker_number = worker;
	return 0;
}

static bool is_prime(uint32_t number)
{
	if (number < 2)
		return false;
	for (uint32_t divisor = 2; divisor <= number / divisor; divisor++)
		if (number % divisor == 0)
			return false;
	return true;
}

/* Stands for a mistake that is found far from where it could be returned. */
static void number_check(struct evwork_job *job, uint32_t number, uint32_t below)
{
	if (below == UNLUCKY && number > COST_MIN)
		evwork_panic(job, "no abacus is wide enough for %" PRIu32, number);
}

static int primes_count(struct evwork_job *job, uint32_t below, uint32_t *ret_primes)
{
	uint32_t primes = 0;

	for (uint32_t number = 0; number < below; number++) {
		if (number % POLL_EVERY == 0) {
			int rc = evwork_job_err(job);

			if (rc)
				return rc;
		}
		number_check(job, number, below);
		primes += is_prime(number);
	}
	*ret_primes = primes;
	return 0;
}

/* However work ends. Here it only counts; it would close files, or give back locks. */
static void order_close(void *arg)
{
	struct order *order = arg;

	order->ended_ns = evwork_clock_now(NULL);
	atomic_fetch_sub(&order->demo->open, 1);
}

static int order_run(struct evwork_job *job)
{
	struct order *order = EVWORK_CONTAINER(job, struct order, job);
	int rc;

	order->worker = worker_number;
	order->started_ns = evwork_clock_now(NULL);
	atomic_fetch_add(&order->demo->open, 1);
	rc = evwork_defer(job, &order->defer, order_close, order);
	if (rc)
		return rc;
	if (order->below == 0)
		return -EDOM;
	return primes_count(job, order->below, &order->primes);
}

/* ---- on the loop ---- */

static double ms(int64_t duration_ns)
{
	return (double)duration_ns / 1e6;
}

__attribute__((format(printf, 2, 3)))
static void say(const struct demo *demo, const char *format, ...)
{
	va_list arguments;

	(void)printf("[%9.3f ms] ", ms(evwork_loop_now(demo->loop) - demo->start_ns));
	va_start(arguments, format);
	(void)vprintf(format, arguments);
	va_end(arguments);
	(void)putchar('\n'); /* that all this was written is checked at the end */
}

static void produce(struct demo *demo);
static void close_when_through(struct demo *demo);

static void order_tell(const struct order *order, int status)
{
	const struct demo *demo = order->demo;

	if (!evwork_job_ran(&order->job)) {
		say(demo, "job %zu: %s, never started", order->number, evwork_strerror(status));
		return;
	}
	if (status == -EOWNERDEAD)
		say(demo, "job %zu: panicked: %s, worker %d lives on", order->number,
			evwork_job_panic_text(&order->job), order->worker);
	else if (status)
		say(demo, "job %zu: %s, worker %d, waited %.1f ms, ran %.1f ms", order->number,
			status == -EDOM ? "failed: no such range" : evwork_strerror(status),
			order->worker, ms(order->started_ns - order->submitted_ns),
			ms(order->ended_ns - order->started_ns));
	else
		say(demo, "job %zu: %" PRIu32 " primes below %" PRIu32
			", worker %d, waited %.1f ms, ran %.1f ms", order->number,
			order->primes, order->below, order->worker,
			ms(order->started_ns - order->submitted_ns),
			ms(order->ended_ns - order->started_ns));
}

static void order_done(struct evwork_job *job, int status)
{
	struct order *order = EVWORK_CONTAINER(job, struct order, job);
	struct demo *demo = order->demo;

	demo->on_their_way--;
	tally_add(&demo->tally, status);
	order_tell(order, status);
	produce(demo);
	close_when_through(demo);
}

/* The job keeps the context alive for as long as it needs it. */
static int order_submit(struct order *order)
{
	struct demo *demo = order->demo;
	struct evwork_ctx *ctx = NULL;
	int rc;

	evwork_job_init(&order->job, order_run, order_done);
	order->submitted_ns = evwork_loop_now(demo->loop);
	if (order->below == ENDLESS) {
		rc = evwork_ctx_with_timeout(NULL, demo->loop,
			(int64_t)demo->arguments.timeout_ms, 0, &ctx);
		if (rc)
			return rc;
	}
	order->job.ctx = ctx;
	rc = evwork_submit(demo->loop, &order->job);
	evwork_ctx_unref(ctx);
	return rc;
}

/* Returns false when the queue is full or nothing more is taken. */
static bool produce_one(struct demo *demo)
{
	struct order *order = &demo->orders[demo->next];
	int rc = order_submit(order);

	switch (rc) {
	case 0:
		demo->next++;
		demo->on_their_way++;
		demo->tally.accepted++;
		say(demo, "job %zu: submitted", order->number);
		return true;
	case -EAGAIN:
		demo->tally.full++;
		if (!demo->full)
			say(demo, "job %zu: queue is full, kept back with %" PRIu64 " more",
				order->number, demo->arguments.jobs - demo->next - 1);
		demo->full = true;
		return false;
	case -ETIMEDOUT:
		demo->next++;
		demo->tally.late++;
		say(demo, "job %zu: its time was over before it could be submitted", order->number);
		return true;
	default:
		say(demo, "job %zu: not submitted: %s", order->number, evwork_strerror(rc));
		demo->error = rc;
		demo->stopped = true; /* out of memory, say: end with what there is */
		return false;
	}
}

static void produce(struct demo *demo)
{
	while (!demo->stopped && demo->next < demo->arguments.jobs)
		if (!produce_one(demo))
			return;
	demo->stopped = true;
}

/* ---- the end, on the loop ---- */

static void results_print(const struct demo *demo)
{
	uint64_t primes = 0;

	for (size_t i = 0; i < demo->next; i++)
		primes += demo->orders[i].primes;
	(void)printf("jobs      %" PRIu64 " = %" PRIu64 " accepted + %" PRIu64 " too late + %" PRIu64
		" never submitted\n",
		demo->arguments.jobs, demo->tally.accepted, demo->tally.late,
		demo->arguments.jobs - demo->next);
	(void)printf("results   %" PRIu64 " primes\n", primes);
}

/* After the last done, and after all workers have ended. */
static void pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct demo *demo = arg;
	struct evwork_lane_stats lane = { 0 };
	struct evwork_pool_stats workers = { 0 };
	int rc = evwork_lane_stats(evwork_pool_lane(pool), &lane);

	if (!rc)
		rc = evwork_pool_stats(pool, &workers);
	say(demo, "pool closed: %s", status ? evwork_strerror(status) : "all workers have ended");
	results_print(demo);
	account_print(&demo->tally, &lane, &workers);
	demo->adds_up = !rc && !status && account_adds_up(&demo->tally, &lane)
		&& atomic_load(&demo->open) == 0;
	(void)puts(demo->adds_up ? "the account adds up" : "the account does NOT add up");
	(void)event_del(demo->interrupt); /* the last thing that keeps the loop running */
}

static void pool_close(struct demo *demo, enum evwork_close_mode mode)
{
	int rc = evwork_pool_close(demo->pool, mode, demo->loop, pool_closed, demo);

	demo->stopped = true;
	demo->closing = true;
	if (rc && rc != -EALREADY)
		say(demo, "closing the pool: %s", evwork_strerror(rc));
}

static void close_when_through(struct demo *demo)
{
	if (demo->stopped && demo->on_their_way == 0 && !demo->closing)
		pool_close(demo, EVWORK_DRAIN);
}

static void on_interrupt(evutil_socket_t signal, short what, void *arg)
{
	struct demo *demo = arg;

	(void)signal;
	(void)what;
	if (demo->interrupts++ == 0) {
		say(demo, "interrupt: draining, %" PRIu64 " jobs on their way; again to cancel them",
			demo->on_their_way);
		pool_close(demo, EVWORK_DRAIN);
	} else {
		say(demo, "interrupt: cancelling, %" PRIu64 " jobs on their way", demo->on_their_way);
		pool_close(demo, EVWORK_CANCEL_ALL);
	}
}

/* ---- set-up ---- */

/* splitmix64: small, and the same everywhere. */
static uint64_t random_next(uint64_t *state)
{
	uint64_t value = (*state += UINT64_C(0x9e3779b97f4a7c15));

	value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
	return value ^ (value >> 31);
}

/* Of ten jobs about one is endless, one unlucky, and two make no sense. */
static int orders_make(struct demo *demo)
{
	uint64_t state = demo->arguments.seed;

	demo->orders = calloc(demo->arguments.jobs, sizeof(*demo->orders));
	if (!demo->orders)
		return -ENOMEM;
	for (size_t i = 0; i < demo->arguments.jobs; i++) {
		struct order *order = &demo->orders[i];
		uint64_t kind = random_next(&state) % 10;
		uint64_t cost = random_next(&state) % (COST_MAX - COST_MIN);

		order->demo = demo;
		order->number = i;
		if (kind == 0)
			order->below = ENDLESS;
		else if (kind == 1)
			order->below = UNLUCKY;
		else if (kind > 3)
			order->below = COST_MIN + (uint32_t)cost;
	}
	return 0;
}

static int demo_init(struct demo *demo)
{
	struct evwork_pool_options options = { 0 };
	int rc = orders_make(demo);

	if (rc)
		return rc;
	options.threads = (int)demo->arguments.workers;
	options.on_start = worker_start;
	options.lane.queue_limit = demo->arguments.queue;
	demo->base = event_base_new();
	if (!demo->base)
		return -ENOMEM;
	rc = evwork_pool_new(&options, &demo->pool);
	if (!rc)
		rc = evwork_loop_new(demo->base, demo->pool, NULL, &demo->loop);
	if (rc)
		return rc;
	demo->interrupt = evsignal_new(demo->base, SIGINT, on_interrupt, demo);
	if (!demo->interrupt || event_add(demo->interrupt, NULL))
		return -ENOMEM;
	demo->start_ns = evwork_loop_now(demo->loop);
	return 0;
}

static int demo_run(struct demo *demo)
{
	struct evwork_pool_stats workers;
	int rc = evwork_pool_stats(demo->pool, &workers);

	if (rc)
		return rc;
	say(demo, "%d workers, a queue of %" PRIu64 ", %" PRIu64 " jobs, seed %" PRIu64, workers.threads,
		demo->arguments.queue, demo->arguments.jobs, demo->arguments.seed);
	produce(demo);
	close_when_through(demo);
	return event_base_dispatch(demo->base) < 0 ? -EIO : demo->error;
}

static int demo_fini(struct demo *demo)
{
	int rc, pool_rc;

	if (demo->interrupt)
		event_free(demo->interrupt);
	rc = evwork_loop_free(demo->loop);
	pool_rc = evwork_pool_free(demo->pool);
	if (demo->base)
		event_base_free(demo->base);
	free(demo->orders);
	return rc ? rc : pool_rc;
}

int main(int argc, char **argv)
{
	struct demo demo = { 0 };
	int status = arguments_parse(argc, argv, &demo.arguments);
	int rc, end;

	if (status >= 0)
		return status;
	if (setvbuf(stdout, NULL, _IOLBF, 0)) /* whoever watches sees each line at once */
		return EXIT_FAILURE;
	rc = demo_init(&demo);
	if (!rc)
		rc = demo_run(&demo);
	if (rc)
		(void)fprintf(stderr, "worker_pool: %s\n", evwork_strerror(rc));
	end = demo_fini(&demo);
	if (end)
		(void)fprintf(stderr, "worker_pool: end: %s\n", evwork_strerror(end));
	if (ferror(stdout) || fflush(stdout)) {
		(void)fprintf(stderr, "worker_pool: cannot write\n");
		return EXIT_FAILURE;
	}
	return !rc && !end && demo.adds_up ? EXIT_SUCCESS : EXIT_FAILURE;
}
