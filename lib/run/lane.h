/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_LANE_H
#define RUN_LANE_H

#include "run/ring.h"
#include "evwork/lane.h"

/*
 * What an accepted job holds beyond its place in the queue: the permits of the
 * lane's guards, and its points in time. Lanes with neither guards nor timeout
 * have no ledgers. Made beforehand, so that submitting needs no memory.
 */
struct evwork_ledger {
	struct evwork_ledger *next;        /* in the free list */
	struct evwork_ledger *next_made;   /* in that of all, which only grows */
	struct evwork_lane *lane;
	int64_t deadline_ns;
	int64_t not_before_ns;             /* the latest that a guard asked for */
	int64_t started_ns;                /* 0: work never started */
	size_t taken;                      /* permits held: the first so many guards */
	struct evwork_permit permits[];
};

/* How a delivered job ended, for the counters. */
enum outcome { OUTCOME_OK, OUTCOME_FAILED, OUTCOME_CANCELLED, OUTCOME_EXPIRED, OUTCOME_CRASHED, OUTCOMES };

struct evwork_lane {
	/* Fixed at creation. */
	struct evwork_pool *pool;
	char name[EVWORK_NAME_MAX];
	int priority;
	size_t queue_limit;
	unsigned max_running;
	bool capped;                  /* max_running is less than the workers */
	bool has_ledgers;
	bool plain;                   /* bounded, not capped, no ledgers, not described */
	int64_t timeout_ns;           /* 0: none */
	struct evwork_guard **guards;
	size_t guard_count;
	const char *(*describe)(struct evwork_job *job);
	char pad_fixed[64];

	/* Covered by the pool's lock. */
	struct evwork_lane *next, *prev;      /* highest priority first */
	struct ring ring;
	uint32_t *started;            /* numbers of the last jobs started, see sched.c */
	uint64_t starts;              /* how many were noted there */
	uint32_t passed;              /* starts that count for the first job's ageing */
	unsigned running;             /* counted for capped lanes only */
	unsigned entering;            /* what is between its caller and the queue */
	bool dead;                    /* freed in the done of its last job */
	uint64_t accepted, queue_peak;

	/* Counters of refusals: relaxed, they order nothing. */
	_Atomic uint64_t refused_full, refused_closed, refused_ctx, refused_guard,
		refused_memory;
	/* Abandoned jobs whose work has not returned. Up before the job can be told to
	 * be abandoned; down, with release, when the worker has left the lane. */
	_Atomic uint64_t abandoned;
	_Atomic uint64_t dropped;     /* delivered to nobody; relaxed */

	/* Delivered jobs by outcome, written by the loops at the end of their turns, on
	 * a line of their own. */
	char pad_outcomes[64];
	_Atomic uint64_t outcomes[OUTCOMES];

	sys_mutex ledger_mutex;       /* covers both lists; a leaf */
	struct evwork_ledger *ledgers;       /* free ones */
	struct evwork_ledger *made;

	uint64_t stalls;              /* covered by the pool's lock, see stall_pool.c */
};

/* The lane's own part of making and freeing; the pool links it. */
int lane_make(struct evwork_pool *pool, const struct evwork_lane_options *options,
	const char *default_name, struct evwork_lane **ret_lane);
void lane_destroy(struct evwork_lane *lane);
/* Frees its memory, and leaves its lock as it is. */
void lane_release(struct evwork_lane *lane);
bool lane_options_valid(const struct evwork_lane_options *options);

/* Under the pool's lock: what the lane has accepted and where that is now; all but the
 * refusals. */
void lane_count_locked(const struct evwork_lane *lane, struct evwork_lane_stats *stats);

static inline uint64_t lane_delivered(const struct evwork_lane *lane)
{
	uint64_t sum = 0;
	int i;

	/* Acquire: pairs with the release of the loop that counted. */
	for (i = 0; i < OUTCOMES; i++)
		sum += atomic_load_explicit(&lane->outcomes[i], memory_order_acquire);
	return sum;
}

/* Ledgers. */

/* A free ledger. NULL: none left, which for a bounded lane means that it is full
 * of jobs, for an unbounded one that there is no memory. */
struct evwork_ledger *ledger_take(struct evwork_lane *lane);

/* Asks the guards of the lane in order. On a refusal gives back what was taken
 * and returns the refusal. No lock is held. */
int ledger_acquire(struct evwork_ledger *ledger, const struct evwork_job *job);

/* Releases all permits, each once, and gives the ledger back. No lock is held. */
void ledger_end(struct evwork_ledger *ledger, int status, bool ran);

#endif
