/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_PIPELINE_H
#define EVWORK_PIPELINE_H

/*
 * Pipelines: items that go from a source through stages, on the workers, to a sink on
 * the loop, with a bound on how many are inside.
 *
 *	static int walk(struct evwork_emitter *out, void *arg)        // on a worker
 *	{
 *		char *path = next_path(arg);
 *		int rc;
 *
 *		if (!path)
 *			return EVWORK_SOURCE_END;
 *		rc = evwork_emit(out, &path);
 *		if (rc)
 *			free(path);             // still ours
 *		return rc ? rc : EVWORK_SOURCE_MORE;
 *	}
 *
 *	static int hash(struct evwork_emitter *out, void *item, void *arg)
 *	{
 *		char *path = *(char **)item;
 *		struct digest digest;
 *		int rc = digest_file(path, &digest);
 *
 *		free(path);
 *		return rc ? rc : evwork_emit(out, &digest);
 *	}
 *
 *	static void print(struct evwork_pipeline *pipeline, void *item, void *arg);
 *	static void done(struct evwork_pipeline *pipeline, int status, void *arg);
 *
 *	struct evwork_stage stages[] = {
 *		{ .run = hash, .item_size = sizeof(char *), .width = 4, .drop = drop_path },
 *	};
 *	struct evwork_pipeline_options options = {
 *		.source = walk, .stages = stages, .stage_count = 1,
 *		.item_size = sizeof(struct digest), .item = print, .done = done, .arg = tree,
 *	};
 *	evwork_pipeline_start(loop, &options, &pipeline);
 *
 * Nothing waits on a worker: a stage is run for as many items as it has input, and its
 * output room, and then lets the worker go. So a pipeline of any length finishes on a
 * pool of one thread (S-PIPE-3), and a slow sink stops the source (S-PIPE-2): inside are
 * never more items than the sum of the queues and widths, the window of the sink and what
 * one running call for each width emits. The workers are those of the lane: a pipeline has
 * as many jobs in it as it can use workers, and each gives its worker back after about a
 * millisecond if others wait for it.
 *
 * Items are copied, item_size bytes each. Small ones are the items themselves; of large
 * ones a pointer travels, and `drop` says what becomes of one that goes no further.
 * Each item ends exactly once: a stage's run, the sink's item, or drop (S-GEN-18).
 *
 * Errors. With EVWORK_PIPELINE_STOP an error takes the place of its item: it follows what
 * was emitted before it, through the stages after it, to the loop. The source, the stage
 * that failed and all before it start nothing new at once; the stages after it go on
 * until the error passes them. So where stages keep the order the sink gets exactly what
 * a sequential program would have made before the error, and of several errors the one
 * that such a program would have met (S-PIPE-8). With EVWORK_PIPELINE_SKIP what the call
 * had emitted before it failed goes on, and so does everything else (S-PIPE-9). An error of
 * the source ends the pipeline under either policy, and so does a call that panics or ends
 * its thread (see crash.h): its error is -EOWNERDEAD, what it had emitted goes on, and it
 * counts as failed (S-CRASH-4).
 *
 * Ends. A pipeline is decided by what comes first to the loop: the end of the last item, an
 * error in its place, a stop or cancel, the death of the context (S-PIPE-11), or the close
 * of loop or pool. From then on nothing is delivered and nothing new is called;
 * what is inside goes to drop; and done comes when the last call has returned. A crash is
 * never masked: done gets -EOWNERDEAD if any call crashed before it, whatever decided.
 *
 * When its pool drains, a source is not called again: what it has emitted goes on, and then
 * done gets -ESHUTDOWN. A pipeline without a source goes on until who pushes ends it, as what
 * that one has begun is to be finished (S-SHUT-2). A close with EVWORK_CANCEL_QUEUED or EVWORK_CANCEL_ALL stops it, with
 * -ECANCELED. A lane that is full delays a pipeline until it has room. If a guard or the
 * timeout of the lane, or the loss of all workers, keeps its only job from running, the
 * pipeline ends with that error. A closing loop stops its pipelines with -ECANCELED.
 */

#include <stddef.h>

#include <evwork/job.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_emitter;
struct evwork_loop;
struct evwork_pipeline;

#define EVWORK_PIPELINE_QUEUE_DEFAULT 64

/* What a source returns. */
#define EVWORK_SOURCE_END 0
#define EVWORK_SOURCE_MORE 1

/*
 * On a worker, one call at a time: emits some items, or none, and returns
 * EVWORK_SOURCE_MORE, EVWORK_SOURCE_END after the last, or an error below 0, which ends the
 * pipeline under either policy. It is called again as soon as there is room.
 */
typedef int (*evwork_source_fn)(struct evwork_emitter *out, void *arg);

/*
 * On a worker: takes one item over, whatever it returns, and emits 0, 1 or more. item
 * points to a copy that is the stage's until it returns. 0, or an error of yours, which may
 * be any other number. What is registered with evwork_defer() is called after each call.
 */
typedef int (*evwork_stage_fn)(struct evwork_emitter *out, void *item, void *arg);

/* The same for a stage with `batch`: items is an array of count items, 1 to batch. */
typedef int (*evwork_stage_batch_fn)(struct evwork_emitter *out, void *items, size_t count,
	void *arg);

/* What becomes of an item that goes no further; on a worker, or on the loop. It must not
 * panic or end its thread. */
typedef void (*evwork_item_drop_fn)(void *item, void *arg);

/* On the thread of the loop, one at a time. item points to a copy that is valid until this
 * returns; what it points to in turn is yours from now on. */
typedef void (*evwork_item_fn)(struct evwork_pipeline *pipeline, void *item, void *arg);

/* On the thread of the loop, once, after everything else; the pipeline may be freed in
 * it. */
typedef void (*evwork_pipeline_done_fn)(struct evwork_pipeline *pipeline, int status, void *arg);

/* On the thread of the loop, see evwork_pipeline_push(). */
typedef void (*evwork_room_fn)(struct evwork_pipeline *pipeline, void *arg);

/* All zero means the defaults, but one of run and run_batch must be set. */
struct evwork_stage {
	evwork_stage_fn run;
	evwork_stage_batch_fn run_batch;
	void *arg;              /* NULL: that of the pipeline */
	size_t item_size;       /* of what it takes */
	evwork_item_drop_fn drop;   /* for items that wait for this stage; may be NULL */
	/* Calls at once; 0: 1. More than there are workers is as many (S-PIPE-4). */
	int width;
	/* Items that wait for it while all its calls are busy; 0: 64. */
	int queue;
	/* Outputs go on as calls finish; else in the order of the source (S-PIPE-5). */
	int unordered;
	/* For run_batch: as many items at most, but no more than queue + width, and how long
	 * the first may wait for more; 0: no time at all. A batch is smaller if that time
	 * is over, by the loop's clock, and at the end (S-PIPE-16). */
	int batch;
	int64_t batch_wait_ms;
};

enum evwork_pipeline_policy {
	EVWORK_PIPELINE_STOP,   /* the first error ends it (S-PIPE-8) */
	EVWORK_PIPELINE_SKIP    /* items that failed are left out and counted (S-PIPE-9) */
};

/* All zero means the defaults, where there is one. Copied, the stages too. */
struct evwork_pipeline_options {
	evwork_source_fn source;    /* NULL: items come by evwork_pipeline_push() */
	const struct evwork_stage *stages;
	size_t stage_count;
	size_t item_size;           /* of what the sink takes */
	evwork_item_fn item;        /* NULL: what the last stage emits is dropped */
	evwork_item_drop_fn drop;   /* for items that wait for the sink; may be NULL */
	int window;                 /* items that wait for the sink; 0: 64 */
	evwork_pipeline_done_fn done;
	evwork_room_fn room;
	void *arg;
	enum evwork_pipeline_policy policy;
	/* Items are delivered only as evwork_pipeline_request() asks for them. */
	int demand;
	struct evwork_ctx *ctx;     /* its death stops the pipeline; NULL: background */
	struct evwork_lane *lane;   /* NULL: the default lane of the loop's pool */
};

/*
 * evwork_pipeline_start [any] starts a pipeline that ends on loop. done comes once, in a
 * later turn, whatever races (S-PIPE-11), see "Ends" above. Its status is
 * -EOWNERDEAD if a stage or the source crashed, under either policy (S-CRASH-4);
 * with EVWORK_PIPELINE_STOP, and of the source under either policy: the first error, in
 *	the order in which it came to the sink;
 * -ECANCELED after a stop, a cancel or a close; the error of ctx after its death;
 * 0 if everything was delivered; or what the lane said.
 * Until done has started the pipeline counts among what keeps loop, lane and pool from
 * being freed. On another thread than the loop's it may come before this returns;
 * *ret_pipeline is set before that.
 *
 * -EINVAL: loop, options or ret_pipeline is NULL, a stage has not exactly one of run and
 * run_batch, an item_size is 0, a number is negative, batch is set without run_batch or the
 * other way round, or batch_wait_ms without batch, policy is none, or there is no lane.
 * -ESHUTDOWN: loop or pool is closing. -ERANGE: the queues would not fit into memory that
 * can be addressed. -ECANCELED, -ETIMEDOUT: ctx is dead. -ENOMEM.
 */
int evwork_pipeline_start(struct evwork_loop *loop,
	const struct evwork_pipeline_options *options, struct evwork_pipeline **ret_pipeline);

/*
 * evwork_emit [in source and stages, on their thread, until they return] hands a copy of
 * item to the next stage, or to the sink. It never blocks (S-PIPE-7): what finds no room in
 * the queue is kept, and the stage is not called again before that has found room. So a
 * stage that emits thousands of items for one holds these thousands in memory; one that
 * needs not should look at evwork_emit_room() and come back for the rest, which a source can.
 * -EINVAL: an argument is NULL. -EPIPE: the pipeline was stopped or cancelled, or has
 * failed here or further on, so that what is emitted goes nowhere: return soon; what the
 * call returns does not matter any more. -ENOMEM. In each case the item is still yours.
 */
int evwork_emit(struct evwork_emitter *out, const void *item);

/*
 * [as evwork_emit] 0, or an error if the stage should stop soon, for stages that take long:
 * -EPIPE, as evwork_emit() would say; or that of the pipeline's ctx, whose deadline is seen
 * even while the loop is stalled. -EINVAL: out is NULL.
 */
int evwork_emitter_err(struct evwork_emitter *out);

/* [as evwork_emit] How many more items will find room in the queue; at least 1 when a source
 * or stage begins. 0 for NULL. */
size_t evwork_emit_room(struct evwork_emitter *out);

/* [as evwork_emit] The pipeline; and the job that runs, for evwork_panic(), evwork_defer()
 * and evwork_job_err(), which tells that the pipeline was stopped or cancelled. NULL for
 * NULL. */
struct evwork_pipeline *evwork_emitter_pipeline(struct evwork_emitter *out);
struct evwork_job *evwork_emitter_job(struct evwork_emitter *out);

/*
 * Without a source: evwork_pipeline_push [any] hands a copy of item to the first stage, in the
 * order of the calls; evwork_pipeline_end [any] says that no more will come. A push that
 * finds no room gives -EAGAIN, and `room` is called once on the loop when there is room
 * again: this is how a pipeline pauses what feeds it. After a refusal the item is still
 * yours.
 * -EINVAL: an argument is NULL. -EPERM: the pipeline has a source. -EPIPE: it was stopped,
 * or cancelled, or has failed, or, for push, was ended. -EALREADY: end was called before.
 * -EAGAIN: full.
 */
int evwork_pipeline_push(struct evwork_pipeline *pipeline, const void *item);
int evwork_pipeline_end(struct evwork_pipeline *pipeline);

/*
 * evwork_pipeline_request [loop], from item too, asks for n more items; requests add up,
 * and stop counting at INT64_MAX, which means without bound (S-PIPE-12). item is not
 * called inside this call (S-PIPE-14). End and errors come without a request.
 * -EINVAL: pipeline is NULL, or n <= 0 (S-PIPE-13); the stream goes on. -EPERM: another
 * thread, or not in demand mode. -EALREADY: it is decided, see "Ends" (S-PIPE-15).
 */
int evwork_pipeline_request(struct evwork_pipeline *pipeline, int64_t n);

/*
 * evwork_pipeline_stop [loop], from item too: item is not called again once this has
 * returned, what is inside goes to drop, and done(-ECANCELED) comes when the last call of
 * a stage has returned (S-PIPE-10).
 * evwork_pipeline_cancel [any] does the same from any thread; an item that is being
 * delivered meanwhile is the last.
 * -EINVAL: pipeline is NULL. stop: -EPERM: another thread. -EALREADY: it is decided already:
 * stopped, cancelled, failed, or all was delivered.
 */
int evwork_pipeline_stop(struct evwork_pipeline *pipeline);
int evwork_pipeline_cancel(struct evwork_pipeline *pipeline);

/* A snapshot. Calls count when they have returned. */
struct evwork_pipeline_stats {
	uint64_t emitted;       /* by the source, or pushed */
	uint64_t delivered;     /* to item */
	uint64_t failed;        /* calls that returned an error */
	uint64_t dropped;       /* items given to drop, or lost for want of one */
	uint64_t inside;        /* items alive now */
	uint64_t peak;          /* the most there were at once */
};

/* evwork_pipeline_stats [any]; in done it is exact. -EINVAL: an argument is NULL. */
int evwork_pipeline_stats(struct evwork_pipeline *pipeline,
	struct evwork_pipeline_stats *ret_stats);

/*
 * evwork_pipeline_free [any], from done too. NULL is fine. After done neither loop nor pool
 * is needed for it. -EBUSY: done has not started, or, on another thread, not returned.
 *
 * In the child of a fork every other call here gives -ESHUTDOWN, and this frees the
 * pipeline's memory; items are not dropped. A child that was made in drop may return from
 * it, as from a callback, if that ran on the loop's thread; on a worker it must not.
 */
int evwork_pipeline_free(struct evwork_pipeline *pipeline);

/* evwork_pipeline_arg [any]: the arg of the options; NULL for NULL. */
void *evwork_pipeline_arg(struct evwork_pipeline *pipeline);

#ifdef __cplusplus
}
#endif

#endif
