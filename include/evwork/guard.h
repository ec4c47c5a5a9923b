/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_GUARD_H
#define EVWORK_GUARD_H

/*
 * Guards: what may refuse or delay a job when it is submitted, and must hear of
 * its end: rate limiters, circuit breakers, bulkheads, and your own.
 *
 * A lane has a list of guards. evwork_submit() asks them in order; the first
 * refusal is what submit returns, and the permits taken before it are given
 * back (S-LANE-2). The permits of an accepted job are released exactly once,
 * when its outcome is fixed: when its work returned, or when it ended without
 * running (S-LANE-3).
 *
 * A dependency with all that protects it is one lane, and using it a plain submit:
 *
 *	struct evwork_limiter_guard_options pace = {
 *		.mode = EVWORK_LIMITER_WAIT, .max_wait_ms = 500,
 *	};
 *	evwork_limiter_guard_init(&rate, limiter, &pace);
 *
 *	struct evwork_guard *guards[] = {
 *		evwork_breaker_guard(breaker),      // refuses at once while it fails
 *		&rate.guard,                        // so many a second; what is too early waits
 *		evwork_adaptive_guard(limit),       // no more at once than it bears
 *	};
 *	struct evwork_lane_options options = {
 *		.name = "billing", .timeout_ms = 2000, .max_running = EVWORK_HALF,
 *		.guards = guards, .guard_count = 3,
 *	};
 *	evwork_lane_new(pool, &options, &billing);
 *
 *	request->job.lane = billing;
 *	rc = evwork_submit(loop, &request->job);    // -EHOSTDOWN, -ETIMEDOUT, -EAGAIN, or 0
 *
 * with evwork/breaker.h, evwork/limiter.h, evwork/adaptive.h, and evwork/retry.h for what is
 * tried again. The order matters little, as what is taken before a refusal is given back:
 * as if it had not been, but for what others were refused or told to wait meanwhile. A job
 * that waits for its time is in flight to the limit.
 *
 * A guard of your own:
 *
 *	static int quota_acquire(struct evwork_guard *guard,
 *	        const struct evwork_job *job, struct evwork_permit *permit)
 *	{
 *	        struct quota *quota = EVWORK_CONTAINER(guard, struct quota, guard);
 *	        return quota_take(quota) ? 0 : -EAGAIN;
 *	}
 */

#include <stddef.h>

#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_guard;
struct evwork_job;

/* The struct that holds `member`, from a pointer to the member. */
#define EVWORK_CONTAINER(pointer, type, member) \
	((type *)(void *)((char *)(pointer) - offsetof(type, member)))

enum evwork_outcome {
	EVWORK_SUCCESS,  /* work ran and returned 0 */
	EVWORK_FAILURE,  /* work ran and returned something else, or crashed */
	EVWORK_IGNORE    /* work never ran, or stopped with -ECANCELED */
};

/* What one guard remembers of one job. */
struct evwork_permit {
	/* For the guard's own use; 0 when acquire is called. */
	uint64_t token;
	/* The guard may delay the job: set a point in time on the clock of the pool
	 * before which it must not start (S-LANE-6). 0 when acquire is called. */
	int64_t not_before_ns;
	/* For the guard's own use, too; 0 when acquire is called. */
	uint64_t more[2];
};

/* How a job ended. */
struct evwork_end {
	enum evwork_outcome outcome;
	int status;        /* what work returned, or what done will get */
	int64_t run_ns;    /* how long work ran; 0 if it never did */
	int ran;           /* 1 if it did, else 0 */
};

/*
 * Embed this in your own struct; both functions are needed. They must not
 * block, and are called with no lock of the library held (S-LANE-9):
 * acquire on the thread that submits: 0 grants, a negated code refuses and is
 * what submit returns; a positive value is taken for -EINVAL. release on the
 * thread that fixed the outcome, once per granted permit. Both may run on
 * several threads at once. The guard must outlive every lane that names it.
 */
struct evwork_guard {
	int (*acquire)(struct evwork_guard *guard, const struct evwork_job *job,
		struct evwork_permit *permit);
	void (*release)(struct evwork_guard *guard, const struct evwork_permit *permit,
		const struct evwork_end *end);
};

#ifdef __cplusplus
}
#endif

#endif
