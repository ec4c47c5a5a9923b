/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

/*
 * Races. A storm, in which many threads do everything at once to many jobs, and
 * one focused race for each place where two threads hand something over.
 *
 * Each test is bounded by an amount of work. EVWORK_STRESS_JOBS sets how many jobs
 * the storm has; EVWORK_STRESS_SEED repeats the random choices of a run, though
 * not its interleaving.
 */

#include "rival.h"

#include <pthread.h>
#include <sys/socket.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* For the storm alone, which may take minutes. */
#define LIMIT_SECONDS 900

/* The storm has all its jobs where everything is slow, too. */
static int stress_jobs = 1000000;

/*
 * The storm. Any thread takes any idle item, fills in its job by chance and
 * submits it; any other may cancel it at any time. What is wrong is counted and
 * judged when all is over.
 */

#define ITEMS 2048
#define HOSTS 3
#define FOREIGNERS 2
#define LANES 6
#define GUARDS 3
#define SLOTS 8192
#define RECENT 8

/* What can go wrong in callbacks. */
enum flaw {
	FLAW_RAN_TWICE,        /* run was called more than once */
	FLAW_RAN_LIE,          /* evwork_job_ran differs from what happened */
	FLAW_IDLE_DONE,        /* done or drop of a job that was not on its way */
	FLAW_DROP_UNRUN,       /* a job was abandoned whose work never ran */
	FLAW_STATUS,           /* done got another status than it should */
	FLAW_WRONG_THREAD,     /* a callback on another loop's thread */
	FLAW_AFTER_CLOSE,      /* a done after the pool's closed callback */
	FLAW_AFTER_LOOP,       /* a done or drop after the loop's */
	FLAW_CODE,             /* a call returned what its header does not list */
	FLAW_PERMIT,           /* a permit was released twice or never granted */
	FLAW_OUTCOME,          /* a guard was told something impossible */
	FLAW_CAP,              /* more jobs of a lane ran than it may run */
	FLAWS
};

static const char *const flaw_names[FLAWS] = {
	"ran twice", "ran lied", "done while idle", "dropped but never ran", "wrong status",
	"wrong thread", "done after the pool's close", "done after the loop's close",
	"undocumented code", "permit released twice", "impossible outcome", "cap exceeded"
};

enum { ITEM_IDLE, ITEM_BUSY, ITEM_ABANDONED };

struct storm;
struct host;

struct item {
	struct evwork_job job;
	struct storm *storm;
	atomic_int state;
	struct host *host;     /* where done must come */
	int lane;
	unsigned plan;         /* random bits for the work */
	atomic_int runs;
	int returned;          /* by run */
};

/* A guard with a ledger of its permits. */
struct ledger {
	struct evwork_guard guard;
	struct storm *storm;
	int kind;
	atomic_int inside;
	atomic_uint next;
	atomic_uchar slot[SLOTS];
};

/* One loop and its thread, which submits too. */
struct host {
	struct storm *storm;
	int index;
	pthread_t thread;
	struct event_base *base;
	struct evwork_loop *loop;
	struct evwork_ctx *ctx;
	int quota;
	bool done_submitting;
	atomic_bool closed;
	atomic_bool closing;   /* somebody called evwork_loop_close */
};

struct storm {
	uint64_t seed;
	struct evwork_pool *pool;
	struct evwork_lane *lane[LANES];
	struct evwork_ctx *root;
	struct host host[HOSTS];
	struct item item[ITEMS];
	struct ledger ledger[GUARDS];
	struct gate ready;      /* all loops exist */
	struct gate leave;      /* the loops may be freed */
	int threads;
	int lanes;              /* of lane[]: 1 for a storm of plain jobs, or all */
	int pool_close_at, loop_close_at, cancel_root_at;   /* of accepted; -1: never */
	int mode;
	atomic_int left;        /* threads that still submit */
	atomic_int started;     /* numbers the threads, for their seeds */
	atomic_bool test_closing;             /* the test itself closes the pool */
	atomic_bool pool_closing, pool_closed;
	atomic_int pool_closed_calls, pool_closed_wanted;
	atomic_int attempts, accepted, dones, drops, abandoned, refused, ran, ok;
	atomic_int running[LANES];
	_Atomic(struct item *) recent[RECENT];   /* started not long ago */
	atomic_int flaw[FLAWS];
};

static void flaw(struct storm *storm, enum flaw which)
{
	atomic_fetch_add(&storm->flaw[which], 1);
}

/* Guards: a bulkhead, one that delays, and one that refuses by chance. */

enum { LEDGER_BULKHEAD, LEDGER_PACER, LEDGER_QUOTA };

static int ledger_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	struct ledger *ledger = EVWORK_CONTAINER(guard, struct ledger, guard);
	unsigned char empty;
	unsigned i;

	(void)job;
	if (ledger->kind == LEDGER_QUOTA && chance(32) == 0)
		return chance(4) ? -EHOSTDOWN : 5;
	if (atomic_fetch_add(&ledger->inside, 1) >= 64 && ledger->kind == LEDGER_BULKHEAD) {
		atomic_fetch_sub(&ledger->inside, 1);
		return -EAGAIN;
	}
	if (ledger->kind == LEDGER_PACER && chance(8) == 0)
		permit->not_before_ns = evwork_clock_now(NULL) + chance(300) * SYS_NS_PER_US;
	do {
		i = atomic_fetch_add(&ledger->next, 1) % SLOTS;
		empty = 0;
	} while (!atomic_compare_exchange_strong(&ledger->slot[i], &empty, 1));
	permit->token = i + 1;
	return 0;
}

static void ledger_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	struct ledger *ledger = EVWORK_CONTAINER(guard, struct ledger, guard);
	uint64_t token = permit->token;

	atomic_fetch_sub(&ledger->inside, 1);
	if (token < 1 || token > SLOTS || !atomic_exchange(&ledger->slot[token - 1], 0))
		flaw(ledger->storm, FLAW_PERMIT);
	/* The done of an abandoned job got an error whatever its work returned. */
	if ((end->outcome == EVWORK_SUCCESS && end->status != 0 &&
	     end->status != -ECANCELED && end->status != -ETIMEDOUT) ||
	    (end->outcome != EVWORK_SUCCESS && end->status == 0) || end->run_ns < 0)
		flaw(ledger->storm, FLAW_OUTCOME);
}

static void ledger_init(struct ledger *ledger, struct storm *storm, int kind)
{
	ledger->guard.acquire = ledger_acquire;
	ledger->guard.release = ledger_release;
	ledger->storm = storm;
	ledger->kind = kind;
}

static int ledger_open_permits(struct ledger *ledger)
{
	int i, open = 0;

	for (i = 0; i < SLOTS; i++)
		open += atomic_load(&ledger->slot[i]);
	return open + abs(atomic_load(&ledger->inside));
}

/* Contexts: each thread keeps one for a while, then makes another. */

static void ctx_replace(struct storm *storm, struct evwork_ctx **ctx)
{
	struct host *host = &storm->host[chance(HOSTS)];
	int rc = 0;

	if (*ctx && chance(2))
		evwork_ctx_cancel(*ctx, 1 + chance(100));
	evwork_ctx_unref(*ctx);
	*ctx = NULL;
	switch (chance(4)) {
	case 0:
		rc = evwork_ctx_with_deadline(storm->root, host->loop, evwork_clock_now(NULL) +
			(chance(500) - 50) * SYS_NS_PER_US, chance(3), ctx);
		break;
	case 1:
		rc = evwork_ctx_with_timeout(storm->root, host->loop, chance(3), 0, ctx);
		break;
	case 2:
		rc = evwork_ctx_new(storm->root, ctx);
		break;
	default:
		break;
	}
	if (rc && !(rc == -ESHUTDOWN && atomic_load(&host->closing)))
		flaw(storm, FLAW_CODE);
}

/* Items. */

static void item_launch(struct item *item, struct host *host, struct evwork_ctx *ctx,
	bool wait);

static void submit_from_work(struct storm *storm);

static struct item *item_claim(struct storm *storm)
{
	int tries, idle;
	struct item *item;

	for (tries = 0; tries < 16; tries++) {
		item = &storm->item[chance(ITEMS)];
		idle = ITEM_IDLE;
		if (atomic_compare_exchange_strong(&item->state, &idle, ITEM_BUSY))
			return item;
	}
	return NULL;
}

static void toggle_detach(struct item *item, int on)
{
	int rc = evwork_job_set_detach(&item->job, on);

	if (rc && rc != -EALREADY && rc != -ECANCELED && rc != -ETIMEDOUT)
		flaw(item->storm, FLAW_CODE);
}

/* What an item does on its worker, as its plan says. */
static int item_work(struct item *item)
{
	unsigned plan = item->plan;
	int i, err;

	switch (plan % 8) {
	case 0:
		return 4711;
	case 1:
		for (i = 0; i < 200; i++) {
			err = evwork_job_err(&item->job);
			if (err)
				return err;
			sys_relax();
		}
		return 0;
	case 2:
		if ((plan >> 3) % 4 == 0)
			submit_from_work(item->storm);
		return 0;
	case 3:
		if (!item->job.drop)
			return 0;
		toggle_detach(item, (plan >> 3) % 2);
		for (i = (int)((plan >> 4) % 256); i > 0; i--)
			sys_relax();
		toggle_detach(item, (plan >> 12) % 2);
		return 0;
	case 4:
	case 5:
		/* Long enough to be abandoned. */
		for (i = (int)((plan >> 3) % 2048); i > 0; i--)
			sys_relax();
		return 0;
	default:
		return 0;
	}
}

static int lane_cap(const struct storm *storm, int lane)
{
	if (lane == 1)
		return 1;
	return lane == 3 ? (storm->threads + 1) / 2 : storm->threads;
}

static void worker_seed(struct storm *storm)
{
	if (!chance_is_seeded())
		chance_seed(storm->seed + 1000 + (uint64_t)atomic_fetch_add(&storm->started, 1));
}

static int item_run(struct evwork_job *job)
{
	struct item *item = EVWORK_CONTAINER(job, struct item, job);
	struct storm *storm = item->storm;
	int returned;

	worker_seed(storm);
	if (atomic_fetch_add(&item->runs, 1) != 0)
		flaw(storm, FLAW_RAN_TWICE);
	if (atomic_fetch_add(&storm->running[item->lane], 1) >= lane_cap(storm, item->lane))
		flaw(storm, FLAW_CAP);
	atomic_store(&storm->recent[chance(RECENT)], item);
	returned = item_work(item);
	item->returned = returned;
	atomic_fetch_sub(&storm->running[item->lane], 1);
	return returned;
}

/* The judgement of one done. */
static void item_judge(struct item *item, int status)
{
	struct storm *storm = item->storm;
	bool abandoned = evwork_job_abandoned(&item->job);
	bool stopped = status == -ECANCELED || status == -ETIMEDOUT;
	int ran = evwork_job_ran(&item->job);

	if (abandoned)
		/* The work may be at it still. */
		ran = ran && stopped ? 1 : -1;
	else if (ran != atomic_load(&item->runs))
		flaw(storm, FLAW_RAN_LIE);
	if (ran < 0 || (!ran && !stopped) ||
	    (ran && !abandoned && status != item->returned))
		flaw(storm, FLAW_STATUS);
	if (!pthread_equal(pthread_self(), item->host->thread))
		flaw(storm, FLAW_WRONG_THREAD);
	if (atomic_load(&storm->pool_closed))
		flaw(storm, FLAW_AFTER_CLOSE);
	if (atomic_load(&item->host->closed))
		flaw(storm, FLAW_AFTER_LOOP);
	atomic_fetch_add(&storm->ran, ran);
	atomic_fetch_add(&storm->ok, status == 0);
	atomic_fetch_add(&storm->dones, 1);
}

static void item_done(struct evwork_job *job, int status)
{
	struct item *item = EVWORK_CONTAINER(job, struct item, job);
	struct storm *storm = item->storm;

	if (atomic_load(&item->state) != ITEM_BUSY)
		flaw(storm, FLAW_IDLE_DONE);
	item_judge(item, status);
	if (evwork_job_abandoned(job)) {
		atomic_fetch_add(&storm->abandoned, 1);
		atomic_store(&item->state, ITEM_ABANDONED);
	} else if (chance(16) == 0) {
		/* It is ours again, so it can be submitted anew right here. */
		item_launch(item, item->host, NULL, false);
	} else {
		atomic_store(&item->state, ITEM_IDLE);
	}
}

static void item_drop(struct evwork_job *job)
{
	struct item *item = EVWORK_CONTAINER(job, struct item, job);
	struct storm *storm = item->storm;

	if (atomic_load(&item->state) != ITEM_ABANDONED)
		flaw(storm, FLAW_IDLE_DONE);
	if (atomic_load(&item->runs) != 1)
		flaw(storm, FLAW_DROP_UNRUN);
	if (!pthread_equal(pthread_self(), item->host->thread))
		flaw(storm, FLAW_WRONG_THREAD);
	if (atomic_load(&item->host->closed))
		flaw(storm, FLAW_AFTER_LOOP);
	atomic_fetch_add(&storm->drops, 1);
	atomic_store(&item->state, ITEM_IDLE);
}

static void on_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct storm *storm = arg;

	(void)pool;
	if (status != 0)
		flaw(storm, FLAW_CODE);
	atomic_fetch_add(&storm->pool_closed_calls, 1);
	atomic_store(&storm->pool_closed, true);
}

static void on_host_closed(struct evwork_loop *loop, void *arg)
{
	struct host *host = arg;

	atomic_store(&host->closed, true);
	if (evwork_loop_release(loop) != 0)
		flaw(host->storm, FLAW_CODE);
}

static void host_close(struct host *host)
{
	if (!atomic_exchange(&host->closing, true) &&
	    evwork_loop_close(host->loop, on_host_closed, host) != 0)
		flaw(host->storm, FLAW_CODE);
}

/* The closed callback goes to host 0, which closes last. */
static void pool_close(struct storm *storm)
{
	int rc;

	rc = evwork_pool_close(storm->pool, (enum evwork_close_mode)storm->mode,
		storm->host[0].loop, on_pool_closed, storm);
	if (rc == 0)
		atomic_fetch_add(&storm->pool_closed_wanted, 1);
	else if (rc != -EALREADY || !atomic_load(&storm->test_closing))
		flaw(storm, FLAW_CODE);
	atomic_store(&storm->pool_closing, true);
	if (chance(2) == 0)
		return;
	rc = evwork_pool_close(storm->pool, EVWORK_CANCEL_ALL, NULL, NULL, NULL);
	if (rc != (storm->mode == EVWORK_CANCEL_ALL ? -EALREADY : 0))
		flaw(storm, FLAW_CODE);
}

/* What happens at this accepted job, whoever submitted it. */
static void item_accepted(struct storm *storm)
{
	int n = atomic_fetch_add(&storm->accepted, 1);

	if (n == storm->loop_close_at)
		host_close(&storm->host[1 + n % (HOSTS - 1)]);
	if (n == storm->cancel_root_at && evwork_ctx_cancel(storm->root, 4711) != 0)
		flaw(storm, FLAW_CODE);
	if (n == storm->pool_close_at)
		pool_close(storm);
}

static bool refusal_documented(int rc, int lane)
{
	switch (rc) {
	case -EAGAIN:
	case -ESHUTDOWN:
	case -ECANCELED:
	case -ETIMEDOUT:
		return true;
	case -EHOSTDOWN:
	case -EINVAL:
		return lane == 4;
	default:
		return false;
	}
}

/* Submits a claimed item. */
static void item_launch(struct item *item, struct host *host, struct evwork_ctx *ctx,
	bool wait)
{
	struct storm *storm = item->storm;
	int lane = chance(storm->lanes), rc;
	/* Jobs without any of these take a shorter way through the library. */
	bool plain = storm->lanes == 1 && chance(8) != 0;

	item->host = host;
	item->lane = lane;
	item->plan = (unsigned)chance(1 << 30);
	item->job.lane = storm->lane[lane];
	item->job.ctx = plain ? NULL : ctx;
	item->job.drop = plain ? NULL : item_drop;
	atomic_store(&item->runs, 0);
	if (evwork_job_set_detach(&item->job, !plain && chance(2)) != 0)
		flaw(storm, FLAW_CODE);
	atomic_fetch_add(&storm->attempts, 1);
	rc = wait ? evwork_submit_wait(host->loop, &item->job) :
		evwork_submit(host->loop, &item->job);
	if (rc == 0) {
		item_accepted(storm);
		return;
	}
	atomic_fetch_add(&storm->refused, 1);
	if (!refusal_documented(rc, lane))
		flaw(storm, FLAW_CODE);
	atomic_store(&item->state, ITEM_IDLE);
}

static void submit_from_work(struct storm *storm)
{
	struct item *item = item_claim(storm);

	if (item)
		item_launch(item, &storm->host[chance(HOSTS)], NULL, false);
}

static void cancel_someone(struct storm *storm)
{
	struct item *item = atomic_load(&storm->recent[chance(RECENT)]);
	int rc;

	/* One that may be running, or any. */
	if (!item || chance(2))
		item = &storm->item[chance(ITEMS)];
	rc = evwork_cancel(&item->job);
	if (rc && rc != -EBUSY && rc != -EALREADY && rc != -ESRCH)
		flaw(storm, FLAW_CODE);
}

/* One step of a thread that makes trouble; false if no item was idle. */
static bool storm_step(struct storm *storm, struct evwork_ctx **ctx, bool may_wait)
{
	struct item *item;

	if (chance(40) == 0)
		ctx_replace(storm, ctx);
	if (chance(3) == 0)
		cancel_someone(storm);
	item = item_claim(storm);
	if (!item)
		return false;
	item_launch(item, &storm->host[chance(HOSTS)], chance(3) ? *ctx : NULL,
		may_wait && chance(64) == 0);
	return true;
}

/* Foreign threads. */

struct foreigner {
	struct storm *storm;
	int index, quota;
	pthread_t thread;
};

static void *foreigner_run(void *arg)
{
	struct foreigner *foreigner = arg;
	struct storm *storm = foreigner->storm;
	struct evwork_ctx *ctx = NULL;

	chance_seed(storm->seed + 100 + (uint64_t)foreigner->index);
	gate_pass(&storm->ready);
	while (foreigner->quota > 0 && !atomic_load(&storm->pool_closing)) {
		if (storm_step(storm, &ctx, true))
			foreigner->quota--;
		else
			sys_yield();
	}
	evwork_ctx_unref(ctx);
	atomic_fetch_sub(&storm->left, 1);
	return NULL;
}

/* Loops. */

static void host_finished(struct host *host)
{
	if (host->done_submitting)
		return;
	host->done_submitting = true;
	evwork_ctx_unref(host->ctx);
	host->ctx = NULL;
	atomic_fetch_sub(&host->storm->left, 1);
}

/* Some steps on the loop's thread, then again in a later turn. */
static void host_submit(void *arg)
{
	struct host *host = arg;
	int i, rc;

	for (i = chance(16); i >= 0 && host->quota > 0; i--)
		host->quota -= storm_step(host->storm, &host->ctx, false);
	if (host->quota > 0 && !atomic_load(&host->storm->pool_closing)) {
		rc = evwork_post(host->loop, host_submit, host);
		if (rc == 0)
			return;
		if (rc != -ESHUTDOWN || !atomic_load(&host->closing))
			flaw(host->storm, FLAW_CODE);
	}
	host_finished(host);
}

static int host_open(struct host *host)
{
	static const int batches[] = { 0, 1, 7, 1000 };
	struct evwork_loop_options options = { 0 };
	int rc;

	options.batch = batches[chance(4)];
	options.notify = chance(2) ? EVWORK_NOTIFY_DEFAULT : EVWORK_NOTIFY_PIPE;
	options.spin_us = chance(2) ? 0 : chance(30);
	host->base = event_base_new();
	if (!host->base)
		return -ENOMEM;
	rc = evwork_loop_new(host->base, host->storm->pool, &options, &host->loop);
	if (rc == 0)
		rc = evwork_loop_hold(host->loop);
	return rc;
}

static void *host_run(void *arg)
{
	struct host *host = arg;
	struct storm *storm = host->storm;

	chance_seed(storm->seed + 200 + (uint64_t)host->index);
	if (host_open(host) != 0)
		abort();
	gate_pass(&storm->ready);
	/* Once the loop is closed nothing keeps it, and dispatch returns. */
	if (evwork_post(host->loop, host_submit, host) != 0)
		host_finished(host);
	event_base_dispatch(host->base);
	/* Others may still hold a pointer to the loop. */
	gate_pass(&storm->leave);
	if (evwork_loop_free(host->loop) != 0)
		flaw(storm, FLAW_CODE);
	event_base_free(host->base);
	return NULL;
}

/* One storm, from pool to pool. */

static void storm_open_lanes(struct storm *storm)
{
	struct evwork_guard *guards[LANES][2] = {
		[3] = { &storm->ledger[LEDGER_BULKHEAD].guard, &storm->ledger[LEDGER_PACER].guard },
		[4] = { &storm->ledger[LEDGER_QUOTA].guard, &storm->ledger[LEDGER_BULKHEAD].guard },
	};
	struct evwork_lane_options options[LANES] = {
		[1] = { .priority = 10, .queue_limit = 32, .max_running = 1 },
		[2] = { .priority = -5, .queue_limit = 128, .timeout_ms = 1 },
		[3] = { .max_running = EVWORK_HALF, .guard_count = 2 },
		[4] = { .queue_limit = EVWORK_UNBOUNDED, .guard_count = 2 },
		[5] = { .priority = 10, .queue_limit = 1 },
	};
	int i;

	storm->lane[0] = evwork_pool_lane(storm->pool);
	for (i = 1; i < storm->lanes; i++) {
		options[i].guards = guards[i];
		ck_assert_int_eq(evwork_lane_new(storm->pool, &options[i], &storm->lane[i]), 0);
	}
}

static void storm_open(struct storm *storm, int round)
{
	struct evwork_pool_options options = { 0 };
	int i;

	memset(storm, 0, sizeof(*storm));
	storm->seed = (uint64_t)round * 10000;
	chance_seed(storm->seed);
	for (i = 0; i < GUARDS; i++)
		ledger_init(&storm->ledger[i], storm, i);
	for (i = 0; i < ITEMS; i++) {
		evwork_job_init(&storm->item[i].job, item_run, item_done);
		storm->item[i].storm = storm;
	}
	storm->threads = 1 + chance(4);
	options.threads = storm->threads;
	options.spin_us = chance(2) ? 0 : chance(30);
	options.hold_us = chance(2) ? 0 : EVWORK_HOLD_OFF;
	storm->lanes = chance(3) ? LANES : 1;
	/* Short queues refuse more, long ones are far from full. */
	options.lane.queue_limit = chance(2) ? 256 : 0;
	ck_assert_int_eq(evwork_pool_new(&options, &storm->pool), 0);
	storm_open_lanes(storm);
	ck_assert_int_eq(evwork_ctx_new(NULL, &storm->root), 0);
	gate_init(&storm->ready);
	gate_init(&storm->leave);
	storm->mode = EVWORK_DRAIN + chance(3);
	storm->pool_close_at = storm->loop_close_at = storm->cancel_root_at = -1;
}

/* Which disasters this storm has. */
static void storm_plan(struct storm *storm, int jobs)
{
	if (chance(2))
		storm->pool_close_at = jobs / 4 + chance(jobs / 2);
	if (chance(2))
		storm->loop_close_at = jobs / 4 + chance(jobs / 2);
	if (chance(8) == 0)
		storm->cancel_root_at = jobs / 2 + chance(jobs / 2);
}

static void storm_blow(struct storm *storm, int jobs)
{
	struct foreigner foreigner[FOREIGNERS];
	int quota = jobs / (HOSTS + FOREIGNERS);
	int i;

	atomic_store(&storm->left, HOSTS + FOREIGNERS);
	for (i = 0; i < HOSTS; i++) {
		storm->host[i].storm = storm;
		storm->host[i].index = i;
		storm->host[i].quota = quota;
		ck_assert_int_eq(pthread_create(&storm->host[i].thread, NULL, host_run,
			&storm->host[i]), 0);
	}
	for (i = 0; i < FOREIGNERS; i++) {
		foreigner[i] = (struct foreigner){ .storm = storm, .index = i, .quota = quota };
		ck_assert_int_eq(pthread_create(&foreigner[i].thread, NULL, foreigner_run,
			&foreigner[i]), 0);
	}
	gate_await(&storm->ready, HOSTS + FOREIGNERS);
	gate_open(&storm->ready);
	for (i = 0; i < FOREIGNERS; i++)
		ck_assert_int_eq(pthread_join(foreigner[i].thread, NULL), 0);
	/* Waits for all that is on its way; what works may still be submitting. */
	atomic_store(&storm->test_closing, true);
	ck_assert_int_eq(evwork_pool_close_wait(storm->pool,
		(enum evwork_close_mode)storm->mode), 0);
	atomic_store(&storm->pool_closing, true);
	while (atomic_load(&storm->left) > 0)
		sys_yield();
}

static void storm_close(struct storm *storm)
{
	int i;

	for (i = HOSTS - 1; i >= 0; i--)
		host_close(&storm->host[i]);
	gate_await(&storm->leave, HOSTS);
	gate_open(&storm->leave);
	for (i = 0; i < HOSTS; i++)
		ck_assert_int_eq(pthread_join(storm->host[i].thread, NULL), 0);
	evwork_ctx_unref(storm->root);
}

static void lane_check(struct evwork_lane *lane, struct evwork_lane_stats *sum)
{
	struct evwork_lane_stats stats;

	ck_assert_int_eq(evwork_lane_stats(lane, &stats), 0);
	ck_assert_uint_eq(stats.submitted, stats.refused + stats.accepted);
	ck_assert_uint_eq(stats.refused, stats.refused_full + stats.refused_closed +
		stats.refused_ctx + stats.refused_guard + stats.refused_memory);
	ck_assert_uint_eq(stats.queued + stats.running + stats.posted, 0);
	ck_assert_uint_eq(stats.accepted, stats.delivered);
	ck_assert_uint_eq(stats.delivered, stats.ok + stats.failed + stats.cancelled +
		stats.expired + stats.crashed);
	ck_assert_uint_eq(stats.refused_memory + stats.crashed, 0);
	sum->submitted += stats.submitted;
	sum->accepted += stats.accepted;
	sum->refused += stats.refused;
	sum->delivered += stats.delivered;
	sum->ok += stats.ok;
}

static void storm_check(struct storm *storm)
{
	struct evwork_lane_stats sum = { 0 };
	int i;

	for (i = 0; i < FLAWS; i++)
		expect(atomic_load(&storm->flaw[i]) == 0, "%s: %d times", flaw_names[i],
			atomic_load(&storm->flaw[i]));
	for (i = 0; i < ITEMS; i++)
		expect(atomic_load(&storm->item[i].state) == ITEM_IDLE, "item %d is in state %d",
			i, atomic_load(&storm->item[i].state));
	for (i = 0; i < GUARDS; i++)
		ck_assert_int_eq(ledger_open_permits(&storm->ledger[i]), 0);
	for (i = 0; i < storm->lanes; i++)
		lane_check(storm->lane[i], &sum);
	ck_assert_int_eq(atomic_load(&storm->accepted), atomic_load(&storm->dones));
	ck_assert_int_eq(atomic_load(&storm->abandoned), atomic_load(&storm->drops));
	ck_assert_int_eq(atomic_load(&storm->attempts),
		atomic_load(&storm->accepted) + atomic_load(&storm->refused));
	ck_assert_int_eq(atomic_load(&storm->pool_closed_calls),
		atomic_load(&storm->pool_closed_wanted));
	ck_assert_int_eq((int)sum.submitted, atomic_load(&storm->attempts));
	ck_assert_int_eq((int)sum.accepted, atomic_load(&storm->accepted));
	ck_assert_int_eq((int)sum.refused, atomic_load(&storm->refused));
	ck_assert_int_eq((int)sum.delivered, atomic_load(&storm->dones));
	ck_assert_int_eq((int)sum.ok, atomic_load(&storm->ok));
}

static void storm_free(struct storm *storm)
{
	int i;

	for (i = 1; i < storm->lanes; i++)
		ck_assert_int_eq(evwork_lane_free(storm->lane[i]), 0);
	ck_assert_int_eq(evwork_pool_free(storm->pool), 0);
	gate_fini(&storm->ready);
	gate_fini(&storm->leave);
}

/* S-SHUT-3, S-DLV-3, S-LANE-3, S-OBS-4, S-POOL-3, S-LANE-4: in storms of cancels,
 * deadlines, dead contexts, full queues, refusing guards and closings each
 * accepted job has one done, each refused one none, none runs twice, all permits
 * come back once and the accounts of every lane are exact. */
START_TEST(storm_keeps_all_accounts)
{
	enum { ROUND = 20000 };
	static struct storm storm;
	int jobs = 0, attempts = 0, ran = 0, abandoned = 0, round, size;

	for (round = 0; jobs < stress_jobs; round++) {
		size = stress_jobs < ROUND ? stress_jobs : ROUND;
		storm_open(&storm, round);
		storm_plan(&storm, size);
		storm_blow(&storm, size);
		storm_close(&storm);
		storm_check(&storm);
		storm_free(&storm);
		jobs += atomic_load(&storm.accepted);
		attempts += atomic_load(&storm.attempts);
		ran += atomic_load(&storm.ran);
		abandoned += atomic_load(&storm.abandoned);
		/* A storm in which nothing is accepted would never end. */
		ck_assert_int_gt(atomic_load(&storm.accepted), 0);
	}
	support_note("%d storms: %d submits, %d accepted, %d ran, %d abandoned", round, attempts,
		jobs, ran, abandoned);
}
END_TEST

/* The focused races. */

/* A job that is hit by something while it starts or ends. */
struct target {
	struct evwork_job job;
	struct evwork_ctx *ctx;
	int linger;            /* how long its work takes */
	atomic_bool held;      /* and not before this is false */
	atomic_int runs;
	atomic_bool returned;
	int dones, drops;
	int status, ran, abandoned;
	int submitted;         /* what submit returned */
	int rc;                /* what the rival's call returned */
	void *owner;           /* for dones that need more than the target */
};

static int target_run(struct evwork_job *job)
{
	struct target *target = EVWORK_CONTAINER(job, struct target, job);
	int i;

	atomic_fetch_add(&target->runs, 1);
	while (atomic_load(&target->held))
		sys_relax();
	for (i = target->linger; i > 0; i--)
		sys_relax();
	atomic_store(&target->returned, true);
	return 4711;
}

static void target_done(struct evwork_job *job, int status)
{
	struct target *target = EVWORK_CONTAINER(job, struct target, job);

	target->dones++;
	target->status = status;
	target->ran = evwork_job_ran(job);
	target->abandoned = evwork_job_abandoned(job);
}

static void target_drop(struct evwork_job *job)
{
	EVWORK_CONTAINER(job, struct target, job)->drops++;
}

static void target_init(struct target *target)
{
	memset(target, 0, sizeof(*target));
	evwork_job_init(&target->job, target_run, target_done);
	target->linger = chance(1 << chance(8));
}

static void target_cancel(struct target *target)
{
	target->rc = evwork_cancel(&target->job);
}

static void target_cancel_ctx(struct target *target)
{
	target->rc = evwork_ctx_cancel(target->ctx, 0);
}

/* If it was accepted one done, and that tells the truth about its run. */
static void target_check(const struct target *target, int round)
{
	int runs = atomic_load(&target->runs);

	expect(target->dones == (target->submitted == 0), "%d in round %d", target->dones, round);
	expect(runs == target->ran, "%d runs, ran %d in round %d", runs, target->ran, round);
	expect(target->submitted || target->status ==
		(runs && !target->abandoned ? 4711 : -ECANCELED),
		"status %d, %d runs, abandoned %d in round %d", target->status, runs,
		target->abandoned, round);
	expect(target->drops == target->abandoned, "%d drops in round %d", target->drops, round);
}

/* Where in the life of a job the rival tries to hit it. */
enum moment { AT_SUBMIT, AT_START, AT_FINISH };

#define VOLLEY 32

/* Many jobs in a row, so that rival and worker go along them side by side. */
struct volley {
	struct target target[VOLLEY];
	struct world world;
	void (*hit)(struct target *target);
	enum moment moment;
	atomic_int submits;        /* so far */
	int ran, hits, abandoned, refused;
};

/* Waits for another thread, though not for ever: what is awaited may never come. */
static void volley_await(atomic_int *count, int n)
{
	int i;

	for (i = 0; i < 1000 && atomic_load(count) < n; i++)
		sys_relax();
}

static void volley_act(void *arg)
{
	struct volley *volley = arg;
	struct target *target = volley->target;
	int i;

	for (i = 0; i < VOLLEY; i++) {
		if (volley->moment == AT_SUBMIT)
			volley_await(&volley->submits, i);
		else if (volley->moment == AT_FINISH)
			volley_await(&target[i].runs, 1);
		else if (i > 0)
			volley_await(&target[i - 1].runs, 1);
		dawdle();
		volley->hit(&target[i]);
	}
}

static void volley_submit(void *arg)
{
	struct volley *volley = arg;
	int i;

	for (i = 0; i < VOLLEY; i++) {
		volley->target[i].submitted = evwork_submit(volley->world.loop,
			&volley->target[i].job);
		atomic_store(&volley->submits, i + 1);
		if (volley->moment == AT_SUBMIT)
			dawdle();
	}
}

static void volley_prepare(struct volley *volley, bool detach)
{
	int i;

	atomic_store(&volley->submits, 0);
	for (i = 0; i < VOLLEY; i++) {
		target_init(&volley->target[i]);
		if (volley->hit == target_cancel_ctx) {
			must(evwork_ctx_new(NULL, &volley->target[i].ctx));
			volley->target[i].job.ctx = volley->target[i].ctx;
		}
		if (!detach)
			continue;
		volley->target[i].job.drop = target_drop;
		must(evwork_job_set_detach(&volley->target[i].job, 1));
	}
}

/* What the hit returned must fit to what happened to the job. */
static void volley_judge(struct volley *volley, const struct target *target, int round)
{
	int rc = target->rc;

	target_check(target, round);
	if (volley->hit == target_cancel_ctx) {
		expect(rc == 0, "evwork_ctx_cancel returned %d in round %d", rc, round);
		expect(target->submitted == 0 || target->submitted == -ECANCELED,
			"evwork_submit returned %d in round %d", target->submitted, round);
	} else {
		expect(rc == 0 ? !target->ran : target->ran && (rc == -EBUSY || rc == -ESRCH),
			"evwork_cancel returned %d, ran %d in round %d", rc, target->ran, round);
		expect(target->submitted == 0, "evwork_submit returned %d", target->submitted);
	}
	volley->refused += target->submitted != 0;
	volley->ran += target->ran;
	volley->hits += target->submitted == 0 && !target->ran;
	volley->abandoned += target->abandoned;
}

static void volley_round(struct volley *volley, struct rival *rival, int round, bool detach,
	bool staged)
{
	int i;

	volley_prepare(volley, detach);
	rival_go(rival, round);
	if (staged)
		must(evwork_post(volley->world.loop, volley_submit, volley));
	else
		volley_submit(volley);
	/* Until the last done, and the last drop if there is one. */
	world_run(&volley->world);
	rival_await(rival, round);
	for (i = 0; i < VOLLEY; i++) {
		volley_judge(volley, &volley->target[i], round);
		evwork_ctx_unref(volley->target[i].ctx);
	}
}

static void volleys(void (*hit)(struct target *target), enum moment moment, bool detach,
	bool staged)
{
	static struct volley volley;
	struct rival rival;
	int round, rounds = scaled(2000);

	chance_seed(1);
	memset(&volley, 0, sizeof(volley));
	volley.hit = hit;
	volley.moment = moment;
	world_open(&volley.world, 1);
	rival_start(&rival, volley_act, &volley, 2);
	for (round = 1; round <= rounds; round++)
		volley_round(&volley, &rival, round, detach, staged);
	rival_end(&rival);
	support_note("of %d jobs %d were refused, %d ended before they ran, %d ran, "
		"%d of them abandoned", rounds * VOLLEY, volley.refused, volley.hits,
		volley.ran, volley.abandoned);
	world_close(&volley.world);
}

/* S-POOL-8, S-POOL-9, S-POOL-10, S-POOL-3: cancel against submit, start and finish:
 * 0 means that the job never ran, EBUSY that it runs or has run and its result is
 * delivered, ESRCH that this happened before or is still to come. */
START_TEST(race_cancel)
{
	volleys(target_cancel, (enum moment)_i, false, false);
}
END_TEST

/* S-POOL-8, S-POOL-3, S-GEN-2: the same holds for jobs that a callback of the loop
 * submits many of at a time. */
START_TEST(race_cancel_against_submits_of_a_turn)
{
	volleys(target_cancel, (enum moment)_i, false, true);
}
END_TEST

/* S-POOL-11, S-POOL-12, S-POOL-13, S-CTX-7: death of the context against submit,
 * start and finish: the job is refused, or never runs and gets the context's
 * error, or its result is delivered. */
START_TEST(race_ctx_death)
{
	volleys(target_cancel_ctx, (enum moment)_i, false, false);
}
END_TEST

/* S-POOL-14, S-POOL-3: detach by cancel against submit, start and finish: either
 * the job's own result comes and no drop, or an abandoned done with ECANCELED and
 * one drop; one that is called abandoned has run. */
START_TEST(race_detach_by_cancel)
{
	volleys(target_cancel, (enum moment)_i, true, false);
}
END_TEST

/* S-POOL-14, S-POOL-3, S-CTX-7: the same holds for detach by death of the context. */
START_TEST(race_detach_by_ctx)
{
	volleys(target_cancel_ctx, (enum moment)_i, true, false);
}
END_TEST

/* S-POOL-12, S-CTX-10, S-LANE-7: a deadline that passes while the job starts ends
 * it once, by its own result or with ETIMEDOUT, though it be seen by the loop, the
 * worker and another thread at once. */
START_TEST(race_deadline_against_start)
{
	struct evwork_lane_options options = { .timeout_ms = 1 };
	struct evwork_lane *lane;
	struct target target;
	struct world world;
	int round, rc, ran = 0, rounds = scaled(3000);

	chance_seed(5);
	world_open(&world, 1);
	must(evwork_lane_new(world.pool, &options, &lane));
	for (round = 1; round <= rounds; round++) {
		target_init(&target);
		must(evwork_ctx_with_deadline(NULL, world.loop, evwork_clock_now(NULL) +
			chance(1 << (6 + chance(14))), 0, &target.ctx));
		target.job.ctx = target.ctx;
		target.job.lane = chance(2) ? lane : NULL;
		rc = evwork_submit(world.loop, &target.job);
		expect(rc == 0 || rc == -ETIMEDOUT, "submit returned %d", rc);
		world_run(&world);
		expect(target.dones == (rc == 0), "%d in round %d", target.dones, round);
		expect(atomic_load(&target.runs) == target.ran, "in round %d", round);
		expect(rc || target.status == (target.ran ? 4711 : -ETIMEDOUT), "%d in round %d",
			target.status, round);
		expect(evwork_ctx_err(target.ctx) == -ETIMEDOUT, "in round %d", round);
		ran += target.ran;
		evwork_ctx_unref(target.ctx);
	}
	support_note("%d of %d jobs ran before their deadline", ran, rounds);
	must(evwork_lane_free(lane));
	world_close(&world);
}
END_TEST

/* A watch in memory of its own, stopped by one thread while its context is
 * cancelled by another and its loop calls it. */
struct quarry {
	struct evwork_watch watch;
	atomic_int calls;
};

struct hunt {
	struct evwork_ctx *ctx;
	struct evwork_loop *loop;
	struct event_base *base;
	struct quarry *quarry;
	int stopped;
	int ends;
};

static void quarry_call(struct evwork_watch *watch, int status)
{
	struct quarry *quarry = EVWORK_CONTAINER(watch, struct quarry, watch);

	(void)status;
	atomic_fetch_add(&quarry->calls, 1);
}

static void hunt_end(void *arg)
{
	struct hunt *hunt = arg;

	hunt->ends++;
	event_base_loopbreak(hunt->base);
}

static void hunt_cancel(void *arg)
{
	struct hunt *hunt = arg;

	evwork_ctx_cancel(hunt->ctx, 0);
}

/* What was stopped is destroyed at once: a call that comes later would show. */
static void hunt_stop(void *arg)
{
	struct hunt *hunt = arg;

	hunt->stopped = evwork_ctx_stop(&hunt->quarry->watch);
	if (hunt->stopped == 1) {
		memset(hunt->quarry, 0xa5, sizeof(*hunt->quarry));
		free(hunt->quarry);
		hunt->quarry = NULL;
	}
	if (evwork_post(hunt->loop, hunt_end, hunt) != 0)
		abort();
}

static void hunt_judge(const struct hunt *hunt, int round)
{
	int calls = hunt->quarry ? atomic_load(&hunt->quarry->calls) : 0;

	expect(hunt->stopped == 0 || hunt->stopped == 1, "%d", hunt->stopped);
	/* Stop returned 0 only if the callback had begun, so it is counted by the
	 * time at which what was posted after stop is run. */
	expect(calls == (hunt->stopped == 0), "%d calls, stop returned %d, round %d", calls,
		hunt->stopped, round);
}

/* S-CTX-14, S-CTX-13: stop against fire: stop returns 1 and the watch is not
 * called, though its memory is gone, or it returns 0 and it is called once. */
START_TEST(race_stop_against_fire)
{
	struct rival killer, stopper;
	struct hunt hunt = { 0 };
	struct world world;
	int round, won = 0, rounds = scaled(20000);

	chance_seed(8);
	world_open(&world, 1);
	must(evwork_loop_hold(world.loop));
	hunt.loop = world.loop;
	hunt.base = world.base;
	rival_start(&killer, hunt_cancel, &hunt, 9);
	rival_start(&stopper, hunt_stop, &hunt, 10);
	for (round = 1; round <= rounds; round++) {
		hunt.quarry = calloc(1, sizeof(*hunt.quarry));
		expect(hunt.quarry != NULL, "no memory");
		evwork_watch_init(&hunt.quarry->watch, quarry_call);
		must(evwork_ctx_new(NULL, &hunt.ctx));
		must(evwork_ctx_after(hunt.ctx, world.loop, &hunt.quarry->watch));
		rival_go(&killer, round);
		rival_go(&stopper, round);
		while (hunt.ends < round)
			event_base_dispatch(world.base);
		rival_await(&killer, round);
		rival_await(&stopper, round);
		hunt_judge(&hunt, round);
		won += hunt.stopped;
		free(hunt.quarry);
		evwork_ctx_unref(hunt.ctx);
	}
	rival_end(&killer);
	rival_end(&stopper);
	support_note("stop came first in %d of %d rounds", won, rounds);
	must(evwork_loop_release(world.loop));
	world_close(&world);
}
END_TEST

/* Contexts whose deadline passes while another thread does something to them. */
struct hourglass {
	struct evwork_watch watch;
	struct evwork_ctx *timed, *child;
	int calls, status;
	int rc;
};

struct shelf {
	struct hourglass hourglass[VOLLEY];
	struct world world;
	atomic_int destroyed;
	bool cancel;           /* what the rival does: cancel, or drop the last reference */
};

static void hourglass_call(struct evwork_watch *watch, int status)
{
	struct hourglass *hourglass = EVWORK_CONTAINER(watch, struct hourglass, watch);

	hourglass->calls++;
	hourglass->status = status;
}

static void shelf_destroyed(void *value)
{
	atomic_fetch_add(&((struct shelf *)value)->destroyed, 1);
}

static void shelf_hit(void *arg)
{
	struct shelf *shelf = arg;
	int i;

	for (i = 0; i < VOLLEY; i++) {
		if (shelf->cancel)
			shelf->hourglass[i].rc = evwork_ctx_cancel(shelf->hourglass[i].timed, 1);
		else
			evwork_ctx_unref(shelf->hourglass[i].child);
		dawdle();
	}
}

/* The child keeps the timed one, and is all that does unless that is to be cancelled. */
static void hourglass_open(struct hourglass *hourglass, struct shelf *shelf)
{
	memset(hourglass, 0, sizeof(*hourglass));
	evwork_watch_init(&hourglass->watch, hourglass_call);
	must(evwork_ctx_with_timeout(NULL, shelf->world.loop, 10, 4711, &hourglass->timed));
	must(evwork_ctx_with_value(hourglass->timed, &shelf->world, shelf, shelf_destroyed,
		&hourglass->child));
	if (shelf->cancel)
		must(evwork_ctx_after(hourglass->child, shelf->world.loop, &hourglass->watch));
	else
		evwork_ctx_unref(hourglass->timed);
}

static void hourglass_judge(struct hourglass *hourglass, int round)
{
	int err = hourglass->rc == 0 ? -ECANCELED : -ETIMEDOUT;
	int cause = hourglass->rc == 0 ? 1 : 4711;

	expect(hourglass->rc == 0 || hourglass->rc == -EALREADY, "%d in round %d",
		hourglass->rc, round);
	expect(evwork_ctx_err(hourglass->timed) == err &&
		evwork_ctx_cause(hourglass->timed) == cause, "in round %d", round);
	expect(evwork_ctx_err(hourglass->child) == err &&
		evwork_ctx_cause(hourglass->child) == cause, "in round %d", round);
	expect(hourglass->calls == 1 && hourglass->status == err, "%d calls, status %d, round %d",
		hourglass->calls, hourglass->status, round);
	evwork_ctx_unref(hourglass->child);
	evwork_ctx_unref(hourglass->timed);
}

static void shelf_round(struct shelf *shelf, struct rival *rival, int round)
{
	int i;

	for (i = 0; i < VOLLEY; i++)
		hourglass_open(&shelf->hourglass[i], shelf);
	rival_go(rival, round);
	dawdle();
	must(evwork_clock_jump(shelf->world.clock, 10 * SYS_NS_PER_MS));
	/* Until no timer is left. */
	world_run(&shelf->world);
	rival_await(rival, round);
	/* And what the rival has brought after that. */
	must(evwork_loop_hold(shelf->world.loop));
	world_turns(&shelf->world, 2);
	must(evwork_loop_release(shelf->world.loop));
	for (i = 0; shelf->cancel && i < VOLLEY; i++)
		hourglass_judge(&shelf->hourglass[i], round);
	expect(atomic_load(&shelf->destroyed) == round * VOLLEY, "%d in round %d",
		atomic_load(&shelf->destroyed), round);
}

static void shelf_rounds(bool cancel)
{
	static struct shelf shelf;
	struct rival rival;
	int round, rounds = scaled(3000);

	chance_seed(26);
	memset(&shelf, 0, sizeof(shelf));
	shelf.cancel = cancel;
	world_open_manual(&shelf.world, 1, 0);
	rival_start(&rival, shelf_hit, &shelf, 27);
	for (round = 1; round <= rounds; round++)
		shelf_round(&shelf, &rival, round);
	rival_end(&rival);
	world_close(&shelf.world);
}

/* S-CTX-10, S-CTX-3, S-CTX-13: cancel against the deadline that the loop sees: one of
 * the two gives error and cause, and cancel and the watch tell the same. */
START_TEST(race_cancel_against_deadline)
{
	shelf_rounds(true);
}
END_TEST

/* S-CTX-17, S-CTX-16, S-CTX-18: the last unref on another thread against the timer
 * that fires: the context is freed once, and its timer keeps no loop alive. */
START_TEST(race_last_unref_against_deadline)
{
	shelf_rounds(false);
}
END_TEST

/* S-POOL-2, S-DLV-7: submit against park: no wake-up of a worker that is about to
 * sleep is lost, with one worker and with several, spinning or not. */
START_TEST(race_submit_against_park)
{
	static const struct { int threads; int spin_us; } cases[] = {
		{ 1, 0 }, { 1, 3 }, { 3, 0 }
	};
	struct evwork_pool_options options = { 0 };
	struct target target;
	struct world world;
	int round, rounds = scaled(100000);

	chance_seed(11);
	options.threads = cases[_i].threads;
	options.spin_us = cases[_i].spin_us;
	world_open_with(&world, &options, NULL);
	for (round = 1; round <= rounds; round++) {
		target_init(&target);
		target.linger = 0;
		must(evwork_submit(world.loop, &target.job));
		world_run(&world);
		expect(target.dones == 1, "%d in round %d", target.dones, round);
		dawdle();
	}
	world_close(&world);
}
END_TEST

/* A queue with room for one, and a thread that waits for it again and again. */
struct turnstile {
	struct target target[VOLLEY];
	struct world world;
	struct evwork_lane *lane;
	int dones;             /* in this round */
};

static void turnstile_done(struct evwork_job *job, int status)
{
	struct target *target = EVWORK_CONTAINER(job, struct target, job);
	struct turnstile *turnstile = target->owner;

	target_done(job, status);
	if (++turnstile->dones == VOLLEY)
		event_base_loopbreak(turnstile->world.base);
}

static void turnstile_enter(void *arg)
{
	struct turnstile *turnstile = arg;
	int i;

	for (i = 0; i < VOLLEY; i++)
		turnstile->target[i].submitted = evwork_submit_wait(turnstile->world.loop,
			&turnstile->target[i].job);
}

static void turnstile_round(struct turnstile *turnstile, struct rival *rival, int round)
{
	int i;

	turnstile->dones = 0;
	for (i = 0; i < VOLLEY; i++) {
		target_init(&turnstile->target[i]);
		turnstile->target[i].job.lane = turnstile->lane;
		turnstile->target[i].job.done = turnstile_done;
		turnstile->target[i].owner = turnstile;
	}
	rival_go(rival, round);
	while (turnstile->dones < VOLLEY)
		ck_assert_int_ge(event_base_dispatch(turnstile->world.base), 0);
	rival_await(rival, round);
	for (i = 0; i < VOLLEY; i++) {
		expect(turnstile->target[i].submitted == 0, "%d in round %d",
			turnstile->target[i].submitted, round);
		target_check(&turnstile->target[i], round);
	}
}

/* S-POOL-6: submit_wait against room: no wake-up of a thread that is about to wait
 * for room is lost, and each of its jobs is accepted once. */
START_TEST(race_submit_wait_against_room)
{
	static struct turnstile turnstile;
	struct evwork_lane_options options = { .queue_limit = 1 };
	struct rival rival;
	int round, rounds = scaled(2000);

	chance_seed(30);
	memset(&turnstile, 0, sizeof(turnstile));
	world_open(&turnstile.world, 1 + _i);
	must(evwork_loop_hold(turnstile.world.loop));
	must(evwork_lane_new(turnstile.world.pool, &options, &turnstile.lane));
	rival_start(&rival, turnstile_enter, &turnstile, 31);
	for (round = 1; round <= rounds; round++)
		turnstile_round(&turnstile, &rival, round);
	rival_end(&rival);
	must(evwork_lane_free(turnstile.lane));
	must(evwork_loop_release(turnstile.world.loop));
	world_close(&turnstile.world);
}
END_TEST

/* Posts one at a time to a loop that goes to sleep in between. */
struct pinger {
	struct evwork_loop *loop;
	struct event_base *base;
	atomic_int heard;      /* by the loop */
	int rounds;
	int refused;
};

static void pinger_heard(void *arg)
{
	struct pinger *pinger = arg;

	if (atomic_fetch_add(&pinger->heard, 1) + 1 == pinger->rounds)
		event_base_loopbreak(pinger->base);
}

static void *pinger_run(void *arg)
{
	struct pinger *pinger = arg;
	int round;

	chance_seed(12);
	for (round = 0; round < pinger->rounds; round++) {
		if (evwork_post(pinger->loop, pinger_heard, pinger) != 0)
			pinger->refused++;
		while (atomic_load(&pinger->heard) <= round && !pinger->refused)
			sys_relax();
		dawdle();
	}
	return NULL;
}

/* S-DLV-3, S-DLV-4, S-DLV-8: post against sleep: no wake-up of a loop that is
 * about to sleep is lost, by eventfd or pipe, spinning or not. */
START_TEST(race_post_against_sleep)
{
	static const struct evwork_loop_options cases[] = {
		{ .notify = EVWORK_NOTIFY_DEFAULT },
		{ .notify = EVWORK_NOTIFY_PIPE },
		{ .notify = EVWORK_NOTIFY_DEFAULT, .spin_us = 3 },
	};
	struct pinger pinger = { 0 };
	struct world world;
	pthread_t thread;

	world_open_with(&world, NULL, &cases[_i]);
	must(evwork_loop_hold(world.loop));
	pinger.loop = world.loop;
	pinger.base = world.base;
	pinger.rounds = scaled(100000);
	ck_assert_int_eq(pthread_create(&thread, NULL, pinger_run, &pinger), 0);
	ck_assert_int_ge(event_base_dispatch(world.base), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(pinger.refused, 0);
	ck_assert_int_eq(atomic_load(&pinger.heard), pinger.rounds);
	must(evwork_loop_release(world.loop));
	world_close(&world);
}
END_TEST

/* Several threads post as fast as they can. */
struct poster {
	struct evwork_loop *loop;
	struct event_base *base;
	atomic_int *heard;
	int index, posts, all, refused;
	pthread_t thread;
};

static void poster_heard(void *arg)
{
	struct poster *poster = arg;

	if (atomic_fetch_add(poster->heard, 1) + 1 == poster->all)
		event_base_loopbreak(poster->base);
}

static void *poster_run(void *arg)
{
	struct poster *poster = arg;
	int i;

	chance_seed(20 + (uint64_t)poster->index);
	for (i = 0; i < poster->posts; i++) {
		poster->refused += evwork_post(poster->loop, poster_heard, poster) != 0;
		if (chance(64) == 0)
			dawdle();
	}
	return NULL;
}

/* S-DLV-3: a million posts by three threads make as many deliveries, and between
 * one wake-up and as many. */
START_TEST(flood_of_posts)
{
	struct poster poster[3];
	struct evwork_loop_stats stats;
	struct world world;
	atomic_int heard = 0;
	int i, each = scaled(1000000) / 3;

	world_open(&world, 1);
	must(evwork_loop_hold(world.loop));
	for (i = 0; i < 3; i++) {
		poster[i] = (struct poster){ .loop = world.loop, .base = world.base,
			.heard = &heard, .index = i, .posts = each, .all = 3 * each };
		ck_assert_int_eq(pthread_create(&poster[i].thread, NULL, poster_run,
			&poster[i]), 0);
	}
	while (atomic_load(&heard) < 3 * each)
		ck_assert_int_ge(event_base_dispatch(world.base), 0);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(pthread_join(poster[i].thread, NULL), 0);
		ck_assert_int_eq(poster[i].refused, 0);
	}
	must(evwork_loop_release(world.loop));
	world_turns(&world, 3);
	ck_assert_int_eq(atomic_load(&heard), 3 * each);
	must(evwork_loop_stats(world.loop, &stats));
	ck_assert_uint_eq(stats.delivered, (uint64_t)3 * (uint64_t)each);
	ck_assert_uint_ge(stats.wakeups, 1);
	ck_assert_uint_le(stats.wakeups, stats.delivered);
	world_close(&world);
}
END_TEST

/* A loop that goes as soon as its last job is done. */
struct leaver {
	struct target target[3];
	struct evwork_loop *loop;
	int left;              /* jobs whose done is to come */
	bool in_done;          /* frees the loop in the last done */
	int rc;
};

static void leaver_done(struct evwork_job *job, int status)
{
	struct target *target = EVWORK_CONTAINER(job, struct target, job);
	struct leaver *leaver = target->owner;

	target_done(job, status);
	if (--leaver->left == 0 && leaver->in_done)
		leaver->rc = evwork_loop_free(leaver->loop);
}

/* Descriptors that have the numbers of those the loop has just closed: whoever
 * still writes to one of these writes to its peer. */
static void decoy_open(int fds[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
		ck_abort_msg("no descriptor");
}

static void decoy_close(int fds[2], int round)
{
	char byte;
	int i;

	for (i = 0; i < 2; i++)
		expect(recv(fds[i], &byte, 1, MSG_DONTWAIT) == -1, "in round %d", round);
	sys_close(fds[0]);
	sys_close(fds[1]);
}

static void leaver_round(struct leaver *leaver, struct event_base *base,
	struct evwork_pool *pool)
{
	struct evwork_loop_options options = { 0 };
	int i, jobs = 1 + chance(3);

	options.notify = chance(2) ? EVWORK_NOTIFY_DEFAULT : EVWORK_NOTIFY_PIPE;
	leaver->in_done = chance(2);
	leaver->left = jobs;
	leaver->rc = 0;
	must(evwork_loop_new(base, pool, &options, &leaver->loop));
	for (i = 0; i < jobs; i++) {
		target_init(&leaver->target[i]);
		leaver->target[i].linger = 0;
		leaver->target[i].job.done = leaver_done;
		leaver->target[i].owner = leaver;
		must(evwork_submit(leaver->loop, &leaver->target[i].job));
		dawdle();
	}
	ck_assert_int_ge(event_base_dispatch(base), 0);
	expect(leaver->left == 0, "%d", leaver->left);
	if (!leaver->in_done)
		leaver->rc = evwork_loop_free(leaver->loop);
	expect(leaver->rc == 0, "evwork_loop_free returned %d", leaver->rc);
}

/* S-DLV-14, S-GEN-5, S-SHUT-10: a loop is freed right after or inside the last
 * done while the worker may still be leaving the notification: that touches
 * neither freed memory nor the descriptor that takes the old one's number. */
START_TEST(race_loop_free_against_notification)
{
	struct evwork_pool_options options = { 0 };
	static struct leaver leaver;
	struct event_base *base;
	struct evwork_pool *pool;
	int round, decoy[2], rounds = scaled(20000);

	chance_seed(13);
	options.threads = 2;
	options.hold_us = _i ? EVWORK_HOLD_OFF : 0;
	must(evwork_pool_new(&options, &pool));
	base = event_base_new();
	ck_assert_ptr_nonnull(base);
	for (round = 1; round <= rounds; round++) {
		leaver_round(&leaver, base, pool);
		decoy_open(decoy);
		dawdle();
		decoy_close(decoy, round);
	}
	must(evwork_pool_free(pool));
	event_base_free(base);
}
END_TEST

/* S-SHUT-10, S-POOL-7: a pool is freed right after the last done, never closed,
 * while its workers are still on their way to sleep; nothing is left. */
START_TEST(race_pool_free_against_the_last_done)
{
	struct evwork_pool_options options = { 0 };
	struct target target[3];
	struct evwork_loop *loop;
	struct event_base *base;
	struct evwork_pool *pool;
	int round, i, rounds = scaled(5000);

	chance_seed(14);
	base = event_base_new();
	ck_assert_ptr_nonnull(base);
	must(evwork_loop_new(base, NULL, NULL, &loop));
	for (round = 1; round <= rounds; round++) {
		options.threads = 1 + chance(3);
		options.spin_us = chance(3) ? 0 : chance(10);
		must(evwork_pool_new(&options, &pool));
		for (i = 0; i < 3; i++) {
			target_init(&target[i]);
			target[i].job.lane = evwork_pool_lane(pool);
			must(evwork_submit(loop, &target[i].job));
			dawdle();
		}
		ck_assert_int_ge(event_base_dispatch(base), 0);
		for (i = 0; i < 3; i++)
			target_check(&target[i], round);
		must(evwork_pool_free(pool));
	}
	must(evwork_loop_free(loop));
	event_base_free(base);
}
END_TEST

/* A lane that goes in the done of its last job. */
struct tenant {
	struct evwork_job job;
	struct evwork_lane *lane;
	int rc;
	int dones;
};

static int tenant_run(struct evwork_job *job)
{
	(void)job;
	return 0;
}

static void tenant_done(struct evwork_job *job, int status)
{
	struct tenant *tenant = EVWORK_CONTAINER(job, struct tenant, job);

	(void)status;
	tenant->dones++;
	tenant->rc = evwork_lane_free(tenant->lane);
}

/* S-LANE-8, S-GEN-5: a lane is freed inside the done of its last job while the
 * worker that ran it may still be leaving. */
START_TEST(race_lane_free_against_the_last_done)
{
	struct evwork_lane_options options = { 0 };
	struct tenant tenant;
	struct world world;
	int round, rounds = scaled(30000);

	chance_seed(15);
	world_open(&world, 2);
	for (round = 1; round <= rounds; round++) {
		options.max_running = chance(2);
		options.priority = chance(3) - 1;
		memset(&tenant, 0, sizeof(tenant));
		evwork_job_init(&tenant.job, tenant_run, tenant_done);
		must(evwork_lane_new(world.pool, &options, &tenant.lane));
		tenant.job.lane = tenant.lane;
		must(evwork_submit(world.loop, &tenant.job));
		dawdle();
		world_run(&world);
		expect(tenant.dones == 1 && tenant.rc == 0, "%d dones, free returned %d",
			tenant.dones, tenant.rc);
	}
	world_close(&world);
}
END_TEST

/* A guard that counts what it has lent. */
struct lender {
	struct evwork_guard guard;
	atomic_int lent;
};

static int lender_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)job;
	(void)permit;
	atomic_fetch_add(&EVWORK_CONTAINER(guard, struct lender, guard)->lent, 1);
	return 0;
}

static void lender_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)permit;
	(void)end;
	atomic_fetch_sub(&EVWORK_CONTAINER(guard, struct lender, guard)->lent, 1);
}

/* An abandoned job on a lane of its own that is freed as soon as that works. */
static void squatter_round(struct world *world, struct target *target, int round)
{
	struct lender lender = { { lender_acquire, lender_release }, 0 };
	struct evwork_guard *guards[] = { &lender.guard };
	struct evwork_lane_options options = { .queue_limit = 4, .guards = guards,
		.guard_count = 1 };
	struct evwork_lane *lane;
	int rc;

	options.max_running = chance(2);
	target_init(target);
	must(evwork_lane_new(world->pool, &options, &lane));
	target->job.lane = lane;
	target->job.drop = target_drop;
	must(evwork_job_set_detach(&target->job, 1));
	atomic_store(&target->held, true);
	must(evwork_submit(world->loop, &target->job));
	while (!atomic_load(&target->runs))
		sys_relax();
	rc = evwork_cancel(&target->job);
	expect(rc == -EBUSY, "evwork_cancel returned %d in round %d", rc, round);
	while (target->dones == 0)
		ck_assert_int_ge(event_base_loop(world->base, EVLOOP_NONBLOCK), 0);
	expect(target->abandoned == 1, "in round %d", round);
	expect(evwork_lane_free(lane) == -EBUSY, "in round %d", round);
	atomic_store(&target->held, false);
	while ((rc = evwork_lane_free(lane)) == -EBUSY)
		world_turns(world, chance(2));
	expect(rc == 0, "evwork_lane_free returned %d in round %d", rc, round);
	expect(atomic_load(&target->returned), "its work still ran in round %d", round);
	expect(atomic_load(&lender.lent) == 0, "permits were out in round %d", round);
	world_run(world);
	target_check(target, round);
}

/* S-LANE-8, S-LANE-3, S-POOL-14: a lane is freed only when the work of its abandoned
 * job has returned and its permits are back, however soon that is tried. */
START_TEST(race_lane_free_against_abandoned_work)
{
	static struct target target;
	struct world world;
	int round, rounds = scaled(20000);

	chance_seed(21);
	world_open(&world, 2);
	for (round = 1; round <= rounds; round++)
		squatter_round(&world, &target, round);
	world_close(&world);
}
END_TEST

/* Submits from outside until the pool is closed. */
struct crowder {
	struct evwork_loop *loop;
	struct evwork_pool *pool;
	struct target target[64];
	atomic_int submits;    /* so far */
	int accepted, refused, odd;
};

static void crowder_submit(void *arg)
{
	struct crowder *crowder = arg;
	size_t i;
	int rc;

	for (i = 0; i < LENGTH(crowder->target); i++) {
		rc = evwork_submit(crowder->loop, &crowder->target[i].job);
		crowder->target[i].submitted = rc;
		crowder->accepted += rc == 0;
		crowder->refused += rc == -ESHUTDOWN;
		crowder->odd += rc != 0 && rc != -ESHUTDOWN;
		atomic_store(&crowder->submits, (int)i + 1);
	}
}

static void crowder_init(struct crowder *crowder)
{
	size_t i;

	memset(crowder, 0, sizeof(*crowder));
	for (i = 0; i < LENGTH(crowder->target); i++) {
		target_init(&crowder->target[i]);
		crowder->target[i].linger = 0;
	}
}

/* Until the crowder is in the middle of it. */
static void crowder_await(struct crowder *crowder)
{
	int n = chance((int)LENGTH(crowder->target));

	while (atomic_load(&crowder->submits) < n)
		sys_relax();
}

/* Waits for a closed callback. */
struct closing {
	struct event_base *base;
	struct crowder *crowder;   /* who submits meanwhile, or NULL */
	int closed;
	int dones;             /* before the closed callback */
};

static void closing_ends(struct closing *closing)
{
	size_t i;

	closing->closed++;
	for (i = 0; closing->crowder && i < LENGTH(closing->crowder->target); i++)
		closing->dones += closing->crowder->target[i].dones;
	event_base_loopbreak(closing->base);
}

static void crowd_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	closing_ends(arg);
}

static void loop_is_closed(struct evwork_loop *loop, void *arg)
{
	(void)loop;
	closing_ends(arg);
}

static void closing_await(struct closing *closing, int round)
{
	while (closing->closed == 0)
		ck_assert_int_ge(event_base_dispatch(closing->base), 0);
	expect(closing->closed == 1, "%d in round %d", closing->closed, round);
}

static void crowd_check(const struct crowder *crowder, const struct closing *closing,
	int round)
{
	size_t i;

	expect(crowder->odd == 0, "in round %d", round);
	expect(closing->dones == crowder->accepted, "%d dones before the end, %d accepted",
		closing->dones, crowder->accepted);
	for (i = 0; i < LENGTH(crowder->target); i++)
		target_check(&crowder->target[i], round);
}

/* S-SHUT-3, S-SHUT-5: close of the pool against submits from elsewhere: each is
 * accepted and has its one done before the closed callback, or refused and has none. */
START_TEST(race_pool_close_against_submit)
{
	static struct crowder crowder;
	struct evwork_pool_options options = { .threads = 2 };
	struct closing closing;
	struct world world;
	struct rival rival;
	int round, refused = 0, rounds = scaled(3000);

	chance_seed(16);
	world_open(&world, 1);
	must(evwork_loop_hold(world.loop));
	rival_start(&rival, crowder_submit, &crowder, 17);
	for (round = 1; round <= rounds; round++) {
		crowder_init(&crowder);
		closing = (struct closing){ world.base, &crowder, 0, 0 };
		must(evwork_pool_new(&options, &crowder.pool));
		must(evwork_loop_new(world.base, crowder.pool, NULL, &crowder.loop));
		rival_go(&rival, round);
		crowder_await(&crowder);
		must(evwork_pool_close(crowder.pool,
			(enum evwork_close_mode)(EVWORK_DRAIN + chance(3)), crowder.loop,
			crowd_closed, &closing));
		closing_await(&closing, round);
		rival_await(&rival, round);
		world_turns(&world, 2);
		crowd_check(&crowder, &closing, round);
		refused += crowder.refused;
		must(evwork_loop_free(crowder.loop));
		must(evwork_pool_free(crowder.pool));
	}
	rival_end(&rival);
	support_note("%d of %d submits came after the close", refused,
		rounds * (int)LENGTH(crowder.target));
	must(evwork_loop_release(world.loop));
	world_close(&world);
}
END_TEST

/* S-SHUT-3, S-SHUT-8: close of the loop against submits from elsewhere: each is
 * accepted and has its one done before the closed callback, or refused. */
START_TEST(race_loop_close_against_submit)
{
	static struct crowder crowder;
	struct closing closing;
	struct world world;
	struct rival rival;
	int round, refused = 0, rounds = scaled(5000);

	chance_seed(18);
	world_open(&world, 2);
	must(evwork_loop_hold(world.loop));
	rival_start(&rival, crowder_submit, &crowder, 19);
	for (round = 1; round <= rounds; round++) {
		crowder_init(&crowder);
		closing = (struct closing){ world.base, &crowder, 0, 0 };
		must(evwork_loop_new(world.base, world.pool, NULL, &crowder.loop));
		rival_go(&rival, round);
		crowder_await(&crowder);
		must(evwork_loop_close(crowder.loop, loop_is_closed, &closing));
		closing_await(&closing, round);
		rival_await(&rival, round);
		world_turns(&world, 2);
		crowd_check(&crowder, &closing, round);
		refused += crowder.refused;
		must(evwork_loop_free(crowder.loop));
	}
	rival_end(&rival);
	support_note("%d of %d submits came after the close", refused,
		rounds * (int)LENGTH(crowder.target));
	must(evwork_loop_release(world.loop));
	world_close(&world);
}
END_TEST

/* What is pending on a loop when that closes, and what another thread does to it. */
enum errand { ERRAND_STOP, ERRAND_CANCEL, ERRAND_UNREF, ERRANDS };

struct lodger {
	struct evwork_watch watch;
	struct evwork_ctx *ctx;
	enum errand errand;
	int calls, status;
	int rc;
};

struct inn {
	struct lodger lodger[VOLLEY];
	struct evwork_loop *loop;
	struct closing closing;
	atomic_int destroyed;
	int made;              /* values, in all rounds */
};

static void lodger_call(struct evwork_watch *watch, int status)
{
	struct lodger *lodger = EVWORK_CONTAINER(watch, struct lodger, watch);

	lodger->calls++;
	lodger->status = status;
}

static void inn_destroyed(void *value)
{
	atomic_fetch_add(&((struct inn *)value)->destroyed, 1);
}

static void lodger_open(struct lodger *lodger, struct inn *inn)
{
	struct evwork_ctx *values;

	memset(lodger, 0, sizeof(*lodger));
	lodger->errand = (enum errand)chance(ERRANDS);
	evwork_watch_init(&lodger->watch, lodger_call);
	must(evwork_ctx_with_value(NULL, &inn->loop, inn, inn_destroyed, &values));
	must(evwork_ctx_with_timeout(values, inn->loop, 3600000, 0, &lodger->ctx));
	evwork_ctx_unref(values);
	inn->made++;
	if (lodger->errand != ERRAND_UNREF)
		must(evwork_ctx_after(lodger->ctx, inn->loop, &lodger->watch));
}

static void lodger_errand(struct lodger *lodger)
{
	switch (lodger->errand) {
	case ERRAND_STOP:
		lodger->rc = evwork_ctx_stop(&lodger->watch);
		break;
	case ERRAND_CANCEL:
		lodger->rc = evwork_ctx_cancel(lodger->ctx, 0);
		break;
	default:
		evwork_ctx_unref(lodger->ctx);
		lodger->ctx = NULL;
	}
}

static void inn_errands(void *arg)
{
	struct inn *inn = arg;
	int i;

	for (i = 0; i < VOLLEY; i++) {
		lodger_errand(&inn->lodger[i]);
		dawdle();
	}
}

static void lodger_judge(struct lodger *lodger, int round)
{
	int calls = lodger->errand == ERRAND_CANCEL ? 1 :
		lodger->errand == ERRAND_STOP ? lodger->rc == 0 : 0;

	expect(lodger->errand != ERRAND_CANCEL || lodger->rc == 0, "%d in round %d", lodger->rc,
		round);
	expect(lodger->calls == calls && (!calls || lodger->status == -ECANCELED),
		"errand %d returned %d, %d calls, status %d in round %d", (int)lodger->errand,
		lodger->rc, lodger->calls, lodger->status, round);
	evwork_ctx_unref(lodger->ctx);
}

/* S-SHUT-7, S-CTX-14, S-CTX-17: close of a loop against stops, cancels and last unrefs
 * of what is pending on it: each watch is stopped or called once, each context is
 * freed once, and the closed callback comes after all calls. */
START_TEST(race_loop_close_against_contexts)
{
	static struct inn inn;
	struct world world;
	struct rival rival;
	int i, round, rounds = scaled(3000);

	chance_seed(28);
	memset(&inn, 0, sizeof(inn));
	world_open(&world, 1);
	must(evwork_loop_hold(world.loop));
	rival_start(&rival, inn_errands, &inn, 29);
	for (round = 1; round <= rounds; round++) {
		inn.closing = (struct closing){ .base = world.base };
		must(evwork_loop_new(world.base, world.pool, NULL, &inn.loop));
		for (i = 0; i < VOLLEY; i++)
			lodger_open(&inn.lodger[i], &inn);
		rival_go(&rival, round);
		dawdle();
		must(evwork_loop_close(inn.loop, loop_is_closed, &inn.closing));
		closing_await(&inn.closing, round);
		rival_await(&rival, round);
		for (i = 0; i < VOLLEY; i++)
			lodger_judge(&inn.lodger[i], round);
		must(evwork_loop_free(inn.loop));
		expect(atomic_load(&inn.destroyed) == inn.made, "%d of %d in round %d",
			atomic_load(&inn.destroyed), inn.made, round);
	}
	rival_end(&rival);
	must(evwork_loop_release(world.loop));
	world_close(&world);
}
END_TEST

#define LINE 8

/* Loops that are busy for some turns while another thread closes them. */
struct busybody {
	struct evwork_loop *loop;
	struct closing closing;
	int turns;             /* still to come */
	int rc;
};

static void busybody_turns(void *arg)
{
	struct busybody *busybody = arg;

	if (busybody->turns-- > 0)
		evwork_post(busybody->loop, busybody_turns, busybody);
}

static void busybody_close_all(void *arg)
{
	struct busybody *busybody = arg;
	int i;

	for (i = 0; i < LINE; i++) {
		busybody[i].rc = evwork_loop_close(busybody[i].loop, loop_is_closed,
			&busybody[i].closing);
		dawdle();
	}
}

static void busybody_open(struct busybody *busybody, struct world *world)
{
	memset(busybody, 0, sizeof(*busybody));
	busybody->closing.base = world->base;
	busybody->turns = chance(64);
	must(evwork_loop_new(world->base, world->pool, NULL, &busybody->loop));
	must(evwork_post(busybody->loop, busybody_turns, busybody));
}

/* S-SHUT-8, S-DLV-3: a close that another thread asks for at any moment of a turn is
 * noticed without anything else waking the loop. */
START_TEST(race_loop_close_against_turns)
{
	struct busybody busybody[LINE];
	struct world world;
	struct rival rival;
	int i, round, rounds = scaled(5000);

	chance_seed(22);
	world_open(&world, 1);
	must(evwork_loop_hold(world.loop));
	rival_start(&rival, busybody_close_all, busybody, 23);
	for (round = 1; round <= rounds; round++) {
		for (i = 0; i < LINE; i++)
			busybody_open(&busybody[i], &world);
		rival_go(&rival, round);
		for (i = 0; i < LINE; i++)
			closing_await(&busybody[i].closing, round);
		rival_await(&rival, round);
		for (i = 0; i < LINE; i++) {
			expect(busybody[i].rc == 0, "evwork_loop_close returned %d",
				busybody[i].rc);
			must(evwork_loop_free(busybody[i].loop));
		}
	}
	rival_end(&rival);
	must(evwork_loop_release(world.loop));
	world_close(&world);
}
END_TEST

/* A context with a deadline, made and watched by another thread while the loop goes
 * to sleep. */
struct fuse {
	struct evwork_watch watch;
	struct evwork_loop *loop;
	struct event_base *base;
	struct evwork_ctx *ctx;
	int rc, calls, status;
};

static void fuse_burns(struct evwork_watch *watch, int status)
{
	struct fuse *fuse = EVWORK_CONTAINER(watch, struct fuse, watch);

	fuse->calls++;
	fuse->status = status;
	event_base_loopbreak(fuse->base);
}

static void fuse_light(void *arg)
{
	struct fuse *fuse = arg;

	fuse->rc = evwork_ctx_with_deadline(NULL, fuse->loop, evwork_clock_now(NULL) +
		chance(1 << (6 + chance(14))), 0, &fuse->ctx);
	if (fuse->rc == 0)
		fuse->rc = evwork_ctx_after(fuse->ctx, fuse->loop, &fuse->watch);
}

/* S-CTX-18, S-CTX-13, S-GEN-11: a deadline and a watch that another thread sets
 * while the loop goes to sleep are noticed without anything else waking it. */
START_TEST(race_foreign_deadline_against_sleep)
{
	struct world world;
	struct rival rival;
	struct fuse fuse;
	int round, rounds = scaled(3000);

	chance_seed(24);
	world_open(&world, 1);
	must(evwork_loop_hold(world.loop));
	rival_start(&rival, fuse_light, &fuse, 25);
	for (round = 1; round <= rounds; round++) {
		memset(&fuse, 0, sizeof(fuse));
		evwork_watch_init(&fuse.watch, fuse_burns);
		fuse.loop = world.loop;
		fuse.base = world.base;
		rival_go(&rival, round);
		dawdle();
		while (fuse.calls == 0)
			ck_assert_int_ge(event_base_dispatch(world.base), 0);
		rival_await(&rival, round);
		expect(fuse.rc == 0 && fuse.calls == 1 && fuse.status == -ETIMEDOUT,
			"%d, %d calls, status %d in round %d", fuse.rc, fuse.calls, fuse.status,
			round);
		expect(evwork_clock_now(NULL) >= evwork_ctx_deadline(fuse.ctx), "%d", round);
		evwork_ctx_unref(fuse.ctx);
	}
	rival_end(&rival);
	must(evwork_loop_release(world.loop));
	world_close(&world);
}
END_TEST

static Suite *stress_suite(void)
{
	Suite *suite = suite_create("stress");
	TCase *tcase = support_case(suite, "job races");

	tcase_add_loop_test(tcase, race_cancel, 0, 3);
	tcase_add_loop_test(tcase, race_cancel_against_submits_of_a_turn, 0, 3);
	tcase_add_loop_test(tcase, race_ctx_death, 0, 3);
	tcase_add_loop_test(tcase, race_detach_by_cancel, 0, 3);
	tcase_add_loop_test(tcase, race_detach_by_ctx, 0, 3);
	tcase_add_test(tcase, race_deadline_against_start);

	tcase = support_case(suite, "context races");
	tcase_add_test(tcase, race_stop_against_fire);
	tcase_add_test(tcase, race_cancel_against_deadline);
	tcase_add_test(tcase, race_last_unref_against_deadline);

	tcase = support_case(suite, "wake-up races");
	tcase_add_loop_test(tcase, race_submit_against_park, 0, 3);
	tcase_add_loop_test(tcase, race_submit_wait_against_room, 0, 2);
	tcase_add_loop_test(tcase, race_post_against_sleep, 0, 3);
	tcase_add_test(tcase, flood_of_posts);
	tcase_add_test(tcase, race_foreign_deadline_against_sleep);

	tcase = support_case(suite, "ending races");
	tcase_add_loop_test(tcase, race_loop_free_against_notification, 0, 2);
	tcase_add_test(tcase, race_pool_free_against_the_last_done);
	tcase_add_test(tcase, race_lane_free_against_the_last_done);
	tcase_add_test(tcase, race_lane_free_against_abandoned_work);
	tcase_add_test(tcase, race_pool_close_against_submit);
	tcase_add_test(tcase, race_loop_close_against_submit);
	tcase_add_test(tcase, race_loop_close_against_contexts);
	tcase_add_test(tcase, race_loop_close_against_turns);

	tcase = support_case(suite, "storm");
	tcase_set_timeout(tcase, (double)LIMIT_SECONDS * support_slow());
	tcase_add_test(tcase, storm_keeps_all_accounts);
	return suite;
}

int main(void)
{
	const char *jobs = getenv("EVWORK_STRESS_JOBS");

	stress_begin();
	if (jobs)
		stress_jobs = atoi(jobs);
	support_note("EVWORK_STRESS_JOBS=%d", stress_jobs);
	return support_run(stress_suite());
}
