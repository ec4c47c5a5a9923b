/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_PIPELINE_SCENE_H
#define TEST_PIPELINE_SCENE_H

/*
 * A pipeline of numbers for tests: the source counts from 0, stages pass on what they get
 * unless the test says otherwise, and what the sink, drop and done are given is recorded.
 */

#include "support.h"

#define LINE_STAGES 50
#define LINE_ITEMS 5000

struct line {
	struct world *world, own;
	struct evwork_pipeline_options options;
	struct evwork_stage stages[LINE_STAGES];
	struct evwork_pipeline *pipeline;

	int numbers;                    /* how many the source makes */
	int made;
	atomic_int source_calls, consumed, dropped;
	atomic_int refused;           /* items whose output line_pass could not emit */
	int items[LINE_ITEMS];          /* as the sink got them */
	int item_count;
	int rooms;                      /* calls of room */
	int dones, status, free_rc;
	struct evwork_pipeline_stats stats;
	pthread_t item_thread, source_thread;
	void (*on_item)(struct line *line, int number);     /* may be NULL */
	void (*on_done)(struct line *line);                 /* before it is freed */
	bool keeps;                     /* done does not free it */
	struct gate gate;               /* for the test's own functions */
	void *arg;
};

/* A source and so many stages with all defaults, in a world that is there, */
void line_init(struct line *line, struct world *world, int numbers, int stages);
void line_fini(struct line *line);
/* or in one of its own. */
void line_open(struct line *line, int threads, int numbers, int stages);
void line_close(struct line *line);
void line_start(struct line *line);
/* Runs the base until done. */
void line_run(struct line *line);
/* Waits, without the loop, until no job of the pool is queued or runs, as the pipeline is full,
 * or has nothing to do. */
void await_quiet(struct world *world);
/* The sink got 0 to count - 1, in order, and done this status; nothing is left. */
void line_expect(const struct line *line, int count, int status);

/* The source, and what stages do. */
int line_source(struct evwork_emitter *out, void *arg);
int line_pass(struct evwork_emitter *out, void *item, void *arg);

#endif
