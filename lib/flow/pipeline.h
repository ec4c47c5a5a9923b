/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FLOW_PIPELINE_H
#define FLOW_PIPELINE_H

#include <string.h>

#include "base/fork.h"
#include "base/list.h"
#include "run/loop.h"
#include "run/pool.h"
#include "evwork/pipeline.h"

/*
 * A pipeline is a chain of queues with a stage between each two of them. The source is
 * the stage that has no queue before it, and the sink's queue, the last, is emptied by the
 * loop. One mutex covers all that is not one thread's own; it is taken once to take inputs
 * and once to hand over outputs, for as many items at once as are worth it.
 *
 *	source ─► queue ─► stage ─► queue ─► stage ─► queue ─► loop
 *
 * Lock order: as a group's mutex, after a context's tree and before a loop's and a pool's.
 * Nothing is submitted and no function of the user runs while it is held.
 */

/*
 * Items that wait, in a ring. What counts against the capacity: `count` that wait, the
 * first of them perhaps worked on in place; `held`, taken out by calls that have not
 * returned; and `reserved`, room promised to what calls before it will emit. So capacity,
 * which is queue + width, bounds all that is alive between two stages (S-PIPE-2).
 */
struct pipe_queue {
	char *slots;
	size_t item_size, capacity;
	size_t head;
	size_t count, held, reserved;
	size_t low;             /* with less room and items that wait, what is quick can wait */
	bool ended;             /* nothing comes after those that wait, */
	int error;              /* because of this, if not 0 */
	bool cut;               /* nothing goes in or out any more but to be dropped */
	evwork_item_drop_fn drop;
	void *arg;
	int64_t *since;         /* when each came, for a stage that waits for a batch */
};

/*
 * What one call of a source or stage works with, or several calls in a row by the same
 * carrier. It is idle, then used by a carrier, then `finished` until its outputs have gone
 * on, which for an ordered stage is when those of all earlier ones have.
 *
 * Written by the carrier without the lock while calls run, but for cut.
 */
struct evwork_emitter {
	struct pipe_stage *stage;
	struct carrier *carrier;
	struct evwork_emitter *next, *prev;     /* in order, or idle */
	char *items;            /* what it works on; NULL for a source */
	char *buffer;           /* where that is if it was taken out of the queue */
	size_t count, done;     /* items, or calls of a source; and those that are through */
	char *out, *out_first;  /* what was emitted, and the array that it had at first */
	size_t out_size, out_capacity;
	size_t emitted, moved;  /* and what has gone on of it */
	size_t room;            /* reserved in the next queue */
	size_t failed;          /* calls that returned an error */
	int error;              /* the one that ends the pipeline here */
	bool last;              /* the source has ended */
	bool used, finished;
	bool spilled;           /* counted in the stage's */
	/* Set under the lock, read by the calls: relaxed, who sees it late emits more that
	 * is dropped. */
	atomic_bool cut;
};

struct emitter_list {
	struct evwork_emitter *head, *tail;
};

struct pipe_stage {
	/* Fixed at the start. */
	struct evwork_pipeline *pipeline;
	struct pipe_stage *next;        /* NULL: the sink is */
	struct pipe_queue *out;
	evwork_source_fn source;
	evwork_stage_fn run;
	evwork_stage_batch_fn run_batch;
	void *arg;
	size_t width;
	bool ordered;
	bool in_place;          /* calls work on items where they wait */
	size_t batch;           /* 0: none */
	int64_t wait_ns;
	struct evwork_emitter *emitters;
	size_t emitter_count;
	char *memory, *out_memory;

	/* Covered by the lock. */
	struct pipe_queue in;           /* of a source only the error at its end is used */
	size_t active;                  /* emitters that calls use */
	struct emitter_list order;      /* whose outputs go on in this order */
	struct evwork_emitter *idle;
	char **buffers;                 /* free ones, for items that are taken out */
	size_t buffer_count;
	size_t spilled;                 /* finished with more outputs than room */
	size_t speed;                   /* how many calls are worth one taking */
	bool cut;                       /* it is not called any more */
	bool ending;                    /* of a source: it has said so */
	bool through;                   /* its end has been passed on */
};

/* The job that runs stages, one after the other as there is something to do. */
struct carrier {
	struct evwork_job job;
	struct evwork_pipeline *pipeline;
	struct carrier *next;           /* idle */
	int64_t begun;                  /* when its worker took it; the worker's */
	/* Whose calls run: written by the worker, read after a crash on the loop, or where
	 * the job is lost, which its delivery orders. */
	struct evwork_emitter *emitter;
};

/*
 *	running ──end, error or stop reaches the loop──► decided ──all calls through──► over
 *
 * Once it is `decided` nothing is delivered and nothing new starts. The loop is there until
 * it is over, or lost: freed by force.
 */
struct evwork_pipeline {
	/* Fixed at the start. */
	struct evwork_loop *loop;
	pthread_t thread;               /* the loop's */
	bool own;                       /* how the loop is held */
	unsigned made_in;               /* fork_here() when it was made */
	struct evwork_lane *lane;       /* kept until the end, with its pool */
	struct evwork_ctx *ctx;
	struct evwork_clock *clock;
	enum evwork_pipeline_policy policy;
	bool pushed;                    /* it has no source */
	bool timed;                     /* some stage waits for batches */
	evwork_item_fn item;
	evwork_pipeline_done_fn done_fn;
	evwork_room_fn room_fn;
	void *arg;
	struct pipe_stage *stages;      /* the source is the first */
	size_t stage_count;
	struct pipe_queue *first;       /* where pushed items go */
	struct carrier *carriers;
	size_t carrier_count;
	unsigned most;                  /* carriers at work at once */

	/* The loop's thread only. */
	struct evwork_watch watch;      /* on ctx, then on the background, as of a group */
	struct evwork_timer alarm;      /* when a batch has waited long enough */
	int64_t demand;                 /* INT64_MAX: without bound */
	bool demanding;                 /* in demand mode */
	size_t through;                 /* the first items of the sink that were delivered */
	bool charged;                   /* the letter's own callback is still to be had */
	bool unhooked;                  /* pool and context have been left */
	bool calling;                   /* done runs */

	/* The news letter is on its way. Set by exchange, acquire and release: who finds it
	 * set leaves what it wrote to the opening, which clears it first. */
	atomic_bool posted;
	struct letter news;             /* has the loop look after the pipeline */
	struct letter end;              /* brings done */
	struct pool_hook hook;
	/* Both relaxed: the lock of the pool, or the letter that follows, orders them. */
	atomic_bool pool_closed;
	atomic_bool pool_drains;        /* relaxed: who sees it late calls the source once more */
	atomic_bool full;               /* the lane is, and the hook will tell of room */
	atomic_bool stopped;            /* decided, for who looks without the lock; relaxed */
	atomic_bool attended;           /* the loop is delivering; relaxed, a hint */

	/* What all carriers write is apart from what they only read. */
	char pad[64];
	/* How often the lock was left, and items came to the sink: relaxed, hints for who
	 * looks without the lock. */
	atomic_uint changes, came;
	sys_mutex mutex;                /* covers all below */
	struct pipe_queue sink;
	struct carrier *idle;
	unsigned working;               /* carriers that were submitted and go on */
	unsigned starting;              /* of these, not yet running */
	unsigned jobs;                  /* carriers that are not idle */
	size_t calls;                   /* emitters that are used */
	size_t dropping;                /* calls that drop something now */
	bool hungry;                    /* the loop wants what comes to the sink */
	bool wants_news;                /* the letter is to be posted before the lock is left */
	bool room_wanted, room_due;
	bool decided, over, lost, doomed;
	bool end_posted;                /* no news any more */
	bool crashed;
	int status;
	int64_t alarm_at;
	struct evwork_pipeline_stats stats;
};

/* pipeline_queue.c */

static inline size_t queue_room(const struct pipe_queue *queue)
{
	return queue->capacity - queue->count - queue->held - queue->reserved;
}

static inline char *queue_slot(const struct pipe_queue *queue, size_t at)
{
	return queue->slots + at * queue->item_size;
}

/* How many of the first items lie in one piece. */
static inline size_t queue_piece(const struct pipe_queue *queue)
{
	size_t piece = queue->capacity - queue->head;

	return piece < queue->count ? piece : queue->count;
}

static inline void pipe_copy(void *to, const void *from, size_t size)
{
	/* The usual sizes without a call. */
	if (size == sizeof(uint64_t))
		memcpy(to, from, sizeof(uint64_t));
	else if (size == sizeof(uint32_t))
		memcpy(to, from, sizeof(uint32_t));
	else
		memcpy(to, from, size);
}

/* Stages with this many calls in a taking are quick: taking costs more than some calls. */
#define PIPE_QUICK 200

int queue_make(struct pipe_queue *queue, size_t item_size, size_t capacity, bool timed);
void queue_release(struct pipe_queue *queue);
/* There is room for the items; now is for queues with `since`. */
void queue_put(struct pipe_queue *queue, const char *items, size_t count, int64_t now);
/* Copies the first items out. */
void queue_copy(const struct pipe_queue *queue, char *to, size_t count);
void queue_advance(struct pipe_queue *queue, size_t count);

/* Looks for a moment at a counter that others change: whether it has. */
bool pipe_look_on(const atomic_uint *counter, unsigned before, int64_t ns);

/* pipeline_stage.c, under the lock */

/* How many calls of the stage could begin now. */
size_t stage_ready_locked(struct pipe_stage *stage);
/* Takes inputs for one carrier; the stage is ready. */
struct evwork_emitter *stage_claim_locked(struct pipe_stage *stage);
/*
 * The calls of an emitter are through. False: what is in it goes no further, and is for
 * emitter_discard_locked.
 */
bool stage_finish_locked(struct evwork_emitter *emitter);
/* So many calls took so long. */
void stage_note_speed_locked(struct pipe_stage *stage, size_t calls, int64_t ns);
/* Gives an emitter back whose items were dropped. */
void emitter_release_locked(struct evwork_emitter *emitter);
/* Hands on what there is room for. */
void stage_hand_on_locked(struct pipe_stage *stage);
/* Hands on the end of a stage that is through, and of those after it. */
void stage_settle_locked(struct pipe_stage *stage);
/* The stage, and all before it, start nothing new, and what they have goes no further,
 * except, if it is set, what was before this emitter, and it itself. */
void stage_cut_locked(struct pipe_stage *stage, struct evwork_emitter *except);
/* No more comes to this queue, which is that of the stage, or the sink's if it is NULL. */
/* [under the lock] The source, if the first stage is one, is not called again: what it has
 * emitted runs dry, and then the pipeline ends with -ESHUTDOWN (S-SHUT-2). */
void source_shut_locked(struct pipe_stage *stage);
void queue_end_locked(struct evwork_pipeline *pipeline, struct pipe_queue *queue, int error);
/* When the next batch has waited long enough; EVWORK_NEVER: none waits. */
int64_t pipeline_next_due_locked(struct evwork_pipeline *pipeline);
void pipeline_count_in_locked(struct evwork_pipeline *pipeline, size_t count);

/* pipeline_run.c */

void carrier_init(struct carrier *carrier, struct evwork_pipeline *pipeline);
/* A carrier to be submitted with carrier_submit once the lock is left, if there is something
 * to do for one more. */
struct carrier *pipeline_wake_locked(struct evwork_pipeline *pipeline);
/* May be called with NULL. */
void carrier_submit(struct carrier *carrier);

/* pipeline_sink.c */

/* [any] Has the loop look after the pipeline. */
void pipeline_post_news(struct evwork_pipeline *pipeline);
/* Leaves the lock. */
void pipeline_unlock(struct evwork_pipeline *pipeline);
/* [loop] Makes room for what was delivered; a carrier to be submitted, or NULL. */
struct carrier *pipeline_make_room_locked(struct evwork_pipeline *pipeline);
/* [loop] */
void pipeline_on_news(struct letter *letter);
void pipeline_on_alarm(struct evwork_timer *alarm, int status);

/* pipeline_end.c */

/* Nothing more happens but the end, with this status. False if that was so already. */
bool pipeline_decide_locked(struct evwork_pipeline *pipeline, int status);
/* Drops what an emitter has that goes no further, with the lock left meanwhile, and gives
 * it back. It is counted in `dropping`. False in a child that was made in a drop: the lock
 * is not held, and nothing may be touched. */
bool emitter_discard_locked(struct evwork_emitter *emitter);
/* Drops what waits and goes no further; with `sparing`, on the loop, only as much as the
 * turn allows: true says that there is more. In a child that was made in a drop nothing may
 * be touched after it. */
bool pipeline_drop_dead(struct evwork_pipeline *pipeline, bool sparing);
/* [loop] Posts the end if everything is through. */
void pipeline_end_if_over(struct evwork_pipeline *pipeline);
void pipeline_on_end(struct letter *letter);
/* The loop was freed by force. */
void pipeline_lose_news(struct letter *letter);
void pipeline_lose_end(struct letter *letter);
void pipeline_on_lost(struct evwork_watch *watch);
/* [loop] The context has died, or the loop closes. */
void pipeline_on_death(struct evwork_watch *watch, int status);

/* pipeline_new.c */

/* What a start refuses, in the order of S-GEN-4, before it needs memory. */
int pipeline_check(struct evwork_loop *loop, const struct evwork_pipeline_options *options);
int pipeline_make(struct evwork_loop *loop, const struct evwork_pipeline_options *options,
	struct evwork_pipeline **ret_pipeline);
void pipeline_release(struct evwork_pipeline *pipeline);
/* The same but for the lock, and for a pipeline in whatever state of being made. */
void pipeline_release_memory(struct evwork_pipeline *pipeline);

#endif
