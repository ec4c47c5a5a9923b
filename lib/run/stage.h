/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_STAGE_H
#define RUN_STAGE_H

#include "run/pool.h"

/*
 * The stage of a loop: what a turn collects to do at once instead of job by job.
 * See stage.c.
 */

struct stage {
	/* Submits to be handed over together. */
	struct evwork_job *jobs[STAGE_MAX];
	unsigned count;
	/* Deliveries to be counted together: of jobs of one lane, by outcome. */
	struct evwork_lane *lane;
	struct evwork_lane *delivering;    /* whose job's done is running */
	uint64_t outcomes[OUTCOMES];
	uint64_t delivered;
};

void stage_flush_jobs(struct evwork_loop *loop);
void stage_flush_counts(struct evwork_loop *loop);

/* In the child of a fork: what the stage holds is the parent's. */
void stage_forget(struct evwork_loop *loop);

/* The lane whose job's done is running on this thread, or NULL. */
struct evwork_lane *stage_delivering(void);

/* [any] Flushes the loop whose turn the calling thread is in, so that it sees its
 * own submits and deliveries. */
void stage_flush_here(void);

/* [loop] A turn begins: jobs are staged until it ends. Turns of two loops of one
 * thread may nest; returns what stage_end_turn wants back. */
struct evwork_loop *stage_begin_turn(struct evwork_loop *loop);
void stage_end_turn(struct evwork_loop *loop, struct evwork_loop *outer);

#endif
