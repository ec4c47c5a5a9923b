/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_LANE_H
#define EVWORK_LANE_H

/*
 * Lanes: named classes of work in one pool. A lane has its own bounded queue,
 * priority, cap on running jobs, timeout, guards and counters. Lanes are how
 * one kind of work is kept from starving another: a lane for slow jobs is a
 * lane with max_running = EVWORK_HALF (S-POOL-18, S-LANE-4).
 *
 *	struct evwork_lane_options options = { 0 };
 *	options.name = "thumbnails";
 *	options.max_running = EVWORK_HALF;
 *	options.timeout_ms = 2000;
 *	evwork_lane_new(pool, &options, &thumbnails);
 *	request->job.lane = thumbnails;
 *
 * Jobs of one lane start first in, first out. Between lanes the higher priority
 * starts first, and lanes of equal priority share one order of arrival; a job
 * that waits is started after at most `ageing` jobs of higher priority that
 * were submitted after it (S-POOL-4, S-POOL-5, S-LANE-5).
 */

#include <stddef.h>

#include <evwork/guard.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_job;
struct evwork_pool;
struct evwork_lane;

/* Bytes of a name, the 0 at its end included; longer ones are cut. */
#define EVWORK_NAME_MAX 64

/* max_running: half the workers of the pool, rounded up. */
#define EVWORK_HALF (-1)

#define EVWORK_QUEUE_LIMIT_DEFAULT 4096
#define EVWORK_QUEUE_LIMIT_MAX (1u << 30)

/* Priorities reach from -EVWORK_PRIORITY_MAX to EVWORK_PRIORITY_MAX. */
#define EVWORK_PRIORITY_MAX 100

/* All zero means the defaults. */
struct evwork_lane_options {
	/* Copied, at most 63 bytes of it; NULL is "default" for the pool's own
	 * lane and "lane" for others (S-OBS-8). */
	const char *name;
	/* Higher starts first. */
	int priority;
	/* Jobs that may wait, at most EVWORK_QUEUE_LIMIT_MAX; 0 is 4096.
	 * EVWORK_UNBOUNDED for no limit: then submit may return -ENOMEM. A lane with
	 * guards or a timeout counts more than 16 threads inside submit as full. */
	size_t queue_limit;
	/* Jobs of this lane that may run at once; 0 is all workers. */
	int max_running;
	/* A deadline for each job, from submit on; a job found expired when its turn
	 * comes ends with -ETIMEDOUT and does not run (S-LANE-7). 0 is none. */
	int64_t timeout_ms;
	/* Asked in this order at submit; the array is copied, the guards are not. */
	struct evwork_guard *const *guards;
	size_t guard_count;
	/*
	 * What a job is called, for evwork_pool_running() and reports of stalls: copied, so
	 * it may be made in the job itself; NULL is "". Called on the worker just before each work of the
	 * lane, so it should be quick. A lane that has it takes the longer way through
	 * submit.
	 */
	const char *(*describe)(struct evwork_job *job);
};

/*
 * evwork_lane_new [any] makes a lane of pool. The caller frees it, at the latest
 * before the pool; freeing the pool frees the lanes that are left.
 * -EINVAL: an argument is NULL, a value out of range, a guard without its
 * functions, max_running above 1024 or below EVWORK_HALF.
 * -ESHUTDOWN: the pool is closing. -ENOMEM.
 */
int evwork_lane_new(struct evwork_pool *pool, const struct evwork_lane_options *options,
	struct evwork_lane **ret_lane);

/*
 * evwork_lane_free [any]; from the done of the lane's last job, too. NULL is
 * fine. -EBUSY: jobs of the lane are queued, running or undelivered (S-LANE-8).
 * -EINVAL: it is the pool's default lane.
 */
int evwork_lane_free(struct evwork_lane *lane);

/* evwork_lane_name [any]: the copied name; the lane's own memory. NULL for NULL. */
const char *evwork_lane_name(const struct evwork_lane *lane);

/*
 * A snapshot of a lane's counters. At every quiet instant
 *	submitted = refused + accepted,
 *	accepted  = delivered + posted + running + queued,
 *	delivered = ok + failed + cancelled + expired + crashed
 * hold exactly (S-OBS-4). A job's delivery is counted when its done has returned: on
 * the loop's own thread at once, for other threads when the turn of the loop ends.
 * An abandoned job counts as delivered after its done, and as running until its
 * work returns.
 */
struct evwork_lane_stats {
	uint64_t submitted, accepted, delivered;
	uint64_t refused;            /* the sum of the next five */
	uint64_t refused_full;       /* -EAGAIN: no room in the queue, or no worker */
	uint64_t refused_closed;     /* -ESHUTDOWN */
	uint64_t refused_ctx;        /* the context was dead */
	uint64_t refused_guard;      /* a guard said no */
	uint64_t refused_memory;     /* -ENOMEM */
	uint64_t ok;                 /* done got 0 */
	uint64_t cancelled;          /* done got -ECANCELED */
	uint64_t expired;            /* done got -ETIMEDOUT */
	uint64_t crashed;            /* done got -EOWNERDEAD */
	uint64_t failed;             /* done got anything else */
	uint64_t queued, running, posted;   /* gauges */
	uint64_t queue_peak;
	uint64_t stalls;             /* jobs whose work ran longer than the pool's stall_ms */
	uint64_t dropped;            /* of the delivered, those without a done: their loop was
	                              * freed by evwork_loop_free_force() */
};

/* evwork_lane_stats [any]. -EINVAL: an argument is NULL. */
int evwork_lane_stats(struct evwork_lane *lane, struct evwork_lane_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
