/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Carriers: the jobs that run stages. A carrier calls the stage that is furthest
 * downstream of those that can be called, again and again until there is none, so items
 * leave before new ones come in, and a pipeline of any length needs only one of them. Each
 * that finds more to do than it takes itself sends for the next one, up to as many as
 * the pool has workers.
 *
 * One that has worked for a while, when others wait for the pool, sends a fresh carrier to
 * the end of the queue in its place. A carrier is free again when the loop has seen it
 * come back; so there are twice as many as may work at once.
 */

#include <errno.h>

#include "flow/pipeline.h"
#include "run/ctx.h"
#include "run/job.h"

#define SLICE_NS INT64_C(1000000)

/* So many calls of one taking may go by without a look at the clock. */
#define UNSEEN_CALLS 4

/* How long a carrier without work looks on while others are at work: less than it takes
 * to send for another. */
#define LOOK_NS INT64_C(50000)

/* What source and stages call. */

static int grow(struct evwork_emitter *out)
{
	size_t capacity = 2 * out->out_capacity;
	char *bigger;

	if (capacity > SIZE_MAX / out->out_size)
		return -ENOMEM;
	bigger = sys_alloc(capacity * out->out_size);
	if (!bigger)
		return -ENOMEM;
	memcpy(bigger, out->out, out->emitted * out->out_size);
	if (out->out != out->out_first)
		sys_free(out->out);
	out->out = bigger;
	out->out_capacity = capacity;
	return 0;
}

int evwork_emit(struct evwork_emitter *out, const void *item)
{
	if (!out || !item)
		return -EINVAL;
	if (atomic_load_explicit(&out->cut, memory_order_relaxed))
		return -EPIPE;
	if (__builtin_expect(out->emitted == out->out_capacity, 0) && grow(out) != 0)
		return -ENOMEM;
	pipe_copy(out->out + out->emitted * out->out_size, item, out->out_size);
	out->emitted++;
	return 0;
}

int evwork_emitter_err(struct evwork_emitter *out)
{
	if (!out)
		return -EINVAL;
	/* Relaxed: who sees it late works a little more. */
	if (atomic_load_explicit(&out->cut, memory_order_relaxed))
		return -EPIPE;
	return evwork_ctx_err(out->stage->pipeline->ctx);
}

size_t evwork_emit_room(struct evwork_emitter *out)
{
	return out && out->emitted < out->room ? out->room - out->emitted : 0;
}

struct evwork_pipeline *evwork_emitter_pipeline(struct evwork_emitter *out)
{
	return out ? out->stage->pipeline : NULL;
}

struct evwork_job *evwork_emitter_job(struct evwork_emitter *out)
{
	return out ? &out->carrier->job : NULL;
}

/* The calls of one carrier. */

/* Whether others wait for this worker. */
static bool others_wait(const struct worker *worker)
{
	return worker_set_aside(worker) > 0 ||
		atomic_load_explicit(&worker->pool->queued, memory_order_relaxed) > 0;
}

/* Calls may have become slower than those that said how many are taken at once. */
static bool gives_way(const struct worker *worker, const struct evwork_emitter *emitter)
{
	return emitter->done % UNSEEN_CALLS == 0 && others_wait(worker) &&
		sys_now() - emitter->carrier->begun > SLICE_NS;
}

static bool goes_on(const struct worker *worker, const struct evwork_emitter *emitter)
{
	if (emitter->done == 0)
		return !atomic_load_explicit(&emitter->cut, memory_order_relaxed);
	return emitter->done < emitter->count && emitter->emitted < emitter->room &&
		!atomic_load_explicit(&emitter->cut, memory_order_relaxed) &&
		!gives_way(worker, emitter);
}

/* A call has returned. Its deferred functions are called as if it were a job. True if it
 * was the last. */
static inline bool returned(struct worker *worker, struct evwork_emitter *emitter, size_t items,
	int rc)
{
	struct pipe_stage *stage = emitter->stage;

	if (__builtin_expect(worker->deferred != NULL, 0))
		crash_call_deferred(worker);
	emitter->done += items;
	if (__builtin_expect(rc == 0, 1))
		return false;
	/* It may have failed only for want of a pipeline. */
	if (atomic_load_explicit(&emitter->cut, memory_order_relaxed))
		return true;
	emitter->failed++;
	if (stage->pipeline->policy == EVWORK_PIPELINE_SKIP && !stage->source)
		return false;
	emitter->error = rc;
	return true;
}

static void call_source(struct worker *worker, struct evwork_emitter *emitter)
{
	struct pipe_stage *stage = emitter->stage;

	while (goes_on(worker, emitter)) {
		int rc = stage->source(emitter, stage->arg);

		emitter->last = rc == EVWORK_SOURCE_END;
		if (returned(worker, emitter, 1, rc < 0 ? rc : 0) || emitter->last ||
		    atomic_load_explicit(&stage->pipeline->pool_drains, memory_order_relaxed))
			break;
	}
}

static void call_stage(struct worker *worker, struct evwork_emitter *emitter)
{
	struct pipe_stage *stage = emitter->stage;
	char *item = emitter->items;

	while (goes_on(worker, emitter)) {
		int rc = stage->run(emitter, item, stage->arg);

		item += stage->in.item_size;
		if (returned(worker, emitter, 1, rc))
			break;
	}
}

static void call_batch(struct worker *worker, struct evwork_emitter *emitter)
{
	struct pipe_stage *stage = emitter->stage;

	if (goes_on(worker, emitter))
		returned(worker, emitter, emitter->count, stage->run_batch(emitter, emitter->items,
			emitter->count, stage->arg));
}

static void call(struct worker *worker, struct evwork_emitter *emitter)
{
	if (emitter->stage->source)
		call_source(worker, emitter);
	else if (emitter->stage->run)
		call_stage(worker, emitter);
	else
		call_batch(worker, emitter);
}

/* Choosing. */

static bool may_send_locked(const struct evwork_pipeline *pipeline)
{
	return pipeline->idle && pipeline->starting == 0 && pipeline->working < pipeline->most &&
		!atomic_load_explicit(&pipeline->full, memory_order_relaxed);
}

static struct carrier *send_locked(struct evwork_pipeline *pipeline)
{
	struct carrier *carrier = pipeline->idle;

	pipeline->idle = carrier->next;
	pipeline->jobs++;
	pipeline->working++;
	pipeline->starting++;
	return carrier;
}

struct carrier *pipeline_wake_locked(struct evwork_pipeline *pipeline)
{
	size_t i;

	if (pipeline->decided || !may_send_locked(pipeline))
		return NULL;
	for (i = pipeline->stage_count; i-- > 0;)
		if (stage_ready_locked(&pipeline->stages[i]))
			return send_locked(pipeline);
	return NULL;
}

/* Inputs of the last stage that is ready, or NULL. If there is more to do, *ret_more is
 * another carrier to be submitted. */
static struct evwork_emitter *choose_locked(struct evwork_pipeline *pipeline,
	struct carrier **ret_more)
{
	struct pipe_stage *chosen = NULL;
	bool more = false, may_send = may_send_locked(pipeline);
	size_t i;

	*ret_more = NULL;
	for (i = pipeline->stage_count; i-- > 0 && !(chosen && (more || !may_send));) {
		size_t calls = stage_ready_locked(&pipeline->stages[i]);

		if (calls && !chosen) {
			chosen = &pipeline->stages[i];
			more = calls > 1;
		} else if (calls) {
			more = true;
		}
	}
	if (!chosen)
		return NULL;
	if (more && may_send)
		*ret_more = send_locked(pipeline);
	return stage_claim_locked(chosen);
}

/* Whether the loop is making room, or about to. */
static bool loop_comes(const struct evwork_pipeline *pipeline)
{
	return atomic_load_explicit(&pipeline->attended, memory_order_relaxed) ||
		atomic_load_explicit(&pipeline->posted, memory_order_relaxed);
}

/*
 * Without work, while others are at it: looks on for a moment, as what comes then would
 * need another carrier. It counts as one that is on its way.
 */
static struct evwork_emitter *look_on_locked(struct evwork_pipeline *pipeline,
	struct carrier **ret_more)
{
	unsigned changes;

	if (pipeline->decided || pipeline->starting > 0 ||
	    (pipeline->working < 2 && !loop_comes(pipeline)))
		return NULL;
	pipeline->starting++;
	changes = atomic_load_explicit(&pipeline->changes, memory_order_relaxed) + 1;
	pipeline_unlock(pipeline);
	pipe_look_on(&pipeline->changes, changes, LOOK_NS);
	sys_lock(&pipeline->mutex);
	pipeline->starting--;
	return choose_locked(pipeline, ret_more);
}

static struct evwork_emitter *next_locked(struct evwork_pipeline *pipeline,
	struct carrier **ret_more)
{
	struct evwork_emitter *emitter = choose_locked(pipeline, ret_more);

	return emitter ? emitter : look_on_locked(pipeline, ret_more);
}

/* A carrier's life on its worker. */

static void lost_carrier(struct evwork_job *job);

/* False as of emitter_discard_locked. */
static bool finish_locked(struct evwork_emitter *emitter, int64_t ns)
{
	stage_note_speed_locked(emitter->stage, emitter->done, ns);
	return stage_finish_locked(emitter) || emitter_discard_locked(emitter);
}

static int carry(struct evwork_job *job)
{
	struct carrier *carrier = EVWORK_CONTAINER(job, struct carrier, job), *more = NULL;
	struct evwork_pipeline *pipeline = carrier->pipeline;
	struct worker *worker = worker_here();
	int64_t begun = sys_now(), now = begun, before;
	/* The context is asked without the lock, as its death ends jobs. */
	bool stop = evwork_ctx_err(pipeline->ctx) != 0, lost;
	struct evwork_emitter *emitter;

	/* Not before, as it would be submitted as a job that can be abandoned. */
	job->drop = lost_carrier;
	carrier->begun = begun;
	sys_lock(&pipeline->mutex);
	pipeline->starting--;
	while (!stop && (emitter = next_locked(pipeline, &more)) != NULL) {
		emitter->carrier = carrier;
		carrier->emitter = emitter;
		pipeline_unlock(pipeline);
		carrier_submit(more);
		call(worker, emitter);
		carrier->emitter = NULL;
		before = now;
		now = sys_now();
		stop = evwork_ctx_err(pipeline->ctx) != 0 ||
			(now - begun > SLICE_NS && others_wait(worker));
		sys_lock(&pipeline->mutex);
		/* A child that was made in a drop has no business here, see pool.h. */
		if (!finish_locked(emitter, now - before))
			return 0;
	}
	pipeline->working--;
	more = stop ? pipeline_wake_locked(pipeline) : NULL;
	lost = pipeline->lost;
	pipeline_unlock(pipeline);
	carrier_submit(more);
	if (lost)
		pipeline_drop_dead(pipeline, false);
	return 0;
}

/* Submitting. */

/* The carrier goes nowhere. */
static void refused(struct carrier *carrier, int rc, bool waits)
{
	struct evwork_pipeline *pipeline = carrier->pipeline;

	sys_lock(&pipeline->mutex);
	carrier->next = pipeline->idle;
	pipeline->idle = carrier;
	pipeline->jobs--;
	pipeline->working--;
	pipeline->starting--;
	/* Others do all that there is. Of the context and the closing of pool and loop the
	 * loop hears anyway. */
	if (pipeline->working == 0 && !waits && rc != -ESHUTDOWN &&
	    rc != atomic_load_explicit(&pipeline->ctx->err, memory_order_relaxed))
		pipeline_decide_locked(pipeline, rc);
	/* It may have been the last that the end waits for. */
	if (pipeline->decided)
		pipeline->wants_news = true;
	pipeline_unlock(pipeline);
}

/* The lane is full: whether the pipeline will be told of room. If there is some already,
 * *ret_again. */
static bool await_room(struct evwork_pipeline *pipeline, bool *ret_again)
{
	int rc;

	/* First, as the hook takes it back. */
	atomic_store_explicit(&pipeline->full, true, memory_order_relaxed);
	rc = pool_await_room(pipeline->lane, &pipeline->hook);
	if (rc != 1)
		atomic_store_explicit(&pipeline->full, false, memory_order_relaxed);
	*ret_again = rc == 0;
	return rc == 1;
}

void carrier_submit(struct carrier *carrier)
{
	struct evwork_pipeline *pipeline;
	bool waits = false, again = false;
	int rc, tries = 0;

	if (!carrier)
		return;
	pipeline = carrier->pipeline;
	/* A lane that is full is waited for. If it is not, and still says so, that was a
	 * guard. */
	do {
		rc = submit_kept(pipeline->loop, &carrier->job);
		if (rc == -EAGAIN)
			waits = await_room(pipeline, &again);
	} while (rc == -EAGAIN && again && tries++ == 0);
	if (rc)
		refused(carrier, rc, rc == -EAGAIN && waits);
}

/* Back on the loop. */

/* Work has ended its job, or its thread: the call counts as one that has failed. False as of
 * emitter_discard_locked. */
static bool crashed_locked(struct evwork_pipeline *pipeline, struct evwork_emitter *emitter)
{
	pipeline->crashed = true;
	pipeline->working--;
	if (!emitter)
		return true;
	emitter->done += emitter->buffer ? emitter->count : 1;
	emitter->failed++;
	emitter->error = -EOWNERDEAD;
	return finish_locked(emitter, 0);
}

static void came_back(struct evwork_job *job, int status)
{
	struct carrier *carrier = EVWORK_CONTAINER(job, struct carrier, job), *more;
	struct evwork_pipeline *pipeline = carrier->pipeline;

	sys_lock(&pipeline->mutex);
	if (!evwork_job_ran(job)) {
		pipeline->working--;
		pipeline->starting--;
		if (pipeline->working == 0)
			pipeline_decide_locked(pipeline, status);
	} else if (status == -EOWNERDEAD && !crashed_locked(pipeline, carrier->emitter)) {
		return;
	}
	carrier->emitter = NULL;
	job->drop = NULL;
	carrier->next = pipeline->idle;
	pipeline->idle = carrier;
	pipeline->jobs--;
	more = pipeline_wake_locked(pipeline);
	pipeline_unlock(pipeline);
	carrier_submit(more);
	pipeline_end_if_over(pipeline);
}

/* It was on its way to a loop that has been freed by force, which the pipeline knows already.
 * If work had crashed, what its call had is dropped now. */
static void lost_carrier(struct evwork_job *job)
{
	struct carrier *carrier = EVWORK_CONTAINER(job, struct carrier, job);
	struct evwork_pipeline *pipeline = carrier->pipeline;

	if (!carrier->emitter)
		return;
	sys_lock(&pipeline->mutex);
	if (!crashed_locked(pipeline, carrier->emitter))
		return;
	carrier->emitter = NULL;
	pipeline_unlock(pipeline);
	pipeline_drop_dead(pipeline, false);
}

void carrier_init(struct carrier *carrier, struct evwork_pipeline *pipeline)
{
	evwork_job_init(&carrier->job, carry, came_back);
	carrier->job.ctx = pipeline->ctx;
	carrier->job.lane = pipeline->lane;
	carrier->pipeline = pipeline;
	carrier->next = pipeline->idle;
	pipeline->idle = carrier;
}
