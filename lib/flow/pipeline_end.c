/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * How pipelines end. Whatever it is that ends one, the end of the last queue, a stop, the
 * death of the context or the close of loop or pool, comes through pipeline_decide_locked,
 * and the first of them decides. Then what is inside is dropped, the calls that still run
 * are waited for, and when carriers and items are all back a last letter brings done.
 */

#include <errno.h>

#include "flow/pipeline.h"
#include "run/ctx.h"
#include "run/turn.h"

/* How many items are dropped before the turn is asked for more time. */
#define PORTION 16

bool pipeline_decide_locked(struct evwork_pipeline *pipeline, int status)
{
	if (pipeline->decided)
		return false;
	pipeline->decided = true;
	pipeline->status = status;
	/* Relaxed: who sees it late calls one function more. */
	atomic_store_explicit(&pipeline->stopped, true, memory_order_relaxed);
	if (pipeline->stage_count)
		stage_cut_locked(&pipeline->stages[pipeline->stage_count - 1], NULL);
	pipeline->sink.cut = true;
	pipeline->room_wanted = pipeline->room_due = false;
	pipeline->wants_news = true;
	return true;
}

/* Dropping. */

/* False in a child that was made in a drop: another thread may have had the lock, and the
 * pipeline may be freed there, so nothing of it may be touched any more. */
static bool drop_items(const struct pipe_queue *queue, char *items, size_t count)
{
	unsigned here = fork_here();
	evwork_item_drop_fn drop = queue->drop;
	size_t size = queue->item_size;
	void *arg = queue->arg;
	/* Drop is not work, but may be called on a worker: no cancel takes effect in it. */
	int cancel = sys_no_cancel();

	for (; drop && count > 0 && here == fork_here(); count--, items += size)
		drop(items, arg);
	sys_cancel(cancel);
	return here == fork_here();
}

static void count_dropped_locked(struct evwork_pipeline *pipeline, size_t count)
{
	pipeline->stats.dropped += count;
	pipeline->stats.inside -= count;
	pipeline->dropping--;
	/* It may be what the end waits for. */
	pipeline->wants_news = true;
}

bool emitter_discard_locked(struct evwork_emitter *emitter)
{
	struct pipe_stage *stage = emitter->stage;
	struct evwork_pipeline *pipeline = stage->pipeline;
	size_t in = emitter->buffer ? emitter->count - emitter->done : 0;
	size_t out = emitter->emitted - emitter->moved;

	pipeline_unlock(pipeline);
	if (in > 0 && !drop_items(&stage->in,
			emitter->items + emitter->done * stage->in.item_size, in))
		return false;
	if (!drop_items(stage->out, emitter->out + emitter->moved * emitter->out_size, out))
		return false;
	sys_lock(&pipeline->mutex);
	emitter_release_locked(emitter);
	count_dropped_locked(pipeline, in + out);
	return true;
}

/* An emitter whose outputs wait for their turn, which will not come. */
static struct evwork_emitter *dead_emitter_locked(struct evwork_pipeline *pipeline)
{
	struct evwork_emitter *emitter;
	size_t i;

	for (i = 0; i < pipeline->stage_count; i++) {
		struct emitter_list *order = &pipeline->stages[i].order;

		for (emitter = order->head; emitter; emitter = emitter->next) {
			if (!emitter->finished ||
			    !atomic_load_explicit(&emitter->cut, memory_order_relaxed))
				continue;
			LIST_REMOVE(order, emitter, next, prev);
			return emitter;
		}
	}
	return NULL;
}

/* A queue with items that go no further, and that no call works on. */
static struct pipe_queue *dead_queue_locked(struct evwork_pipeline *pipeline)
{
	size_t i;

	for (i = 0; i < pipeline->stage_count; i++) {
		struct pipe_stage *stage = &pipeline->stages[i];

		if (stage->in.cut && stage->in.count > 0 && !(stage->in_place && stage->active))
			return &stage->in;
	}
	return pipeline->sink.cut && pipeline->sink.count > 0 ? &pipeline->sink : NULL;
}

/* Nothing is put into a queue that was cut, so the slots stay as they are. False as of
 * drop_items. */
static bool drop_first_locked(struct evwork_pipeline *pipeline, struct pipe_queue *queue)
{
	char *items = queue_slot(queue, queue->head);
	size_t count = queue_piece(queue);

	if (queue->drop && count > PORTION)
		count = PORTION;
	queue_advance(queue, count);
	pipeline->dropping++;
	pipeline_unlock(pipeline);
	if (!drop_items(queue, items, count))
		return false;
	sys_lock(&pipeline->mutex);
	count_dropped_locked(pipeline, count);
	return true;
}

bool pipeline_drop_dead(struct evwork_pipeline *pipeline, bool sparing)
{
	struct evwork_emitter *emitter;
	struct pipe_queue *queue;
	bool more = false, here;

	sys_lock(&pipeline->mutex);
	while (!more) {
		emitter = dead_emitter_locked(pipeline);
		queue = emitter ? NULL : dead_queue_locked(pipeline);
		if (emitter) {
			pipeline->dropping++;
			here = emitter_discard_locked(emitter);
		} else if (queue) {
			here = drop_first_locked(pipeline, queue);
		} else {
			break;
		}
		if (!here)
			return false;
		more = sparing && !turn_take(pipeline->loop);
	}
	pipeline->wants_news = pipeline->wants_news && !sparing;
	pipeline_unlock(pipeline);
	return more;
}

/* Ending. */

static bool is_over_locked(const struct evwork_pipeline *pipeline)
{
	size_t i;

	if (!pipeline->decided || pipeline->calls || pipeline->jobs || pipeline->dropping ||
	    pipeline->sink.count || pipeline->lost || pipeline->end_posted)
		return false;
	for (i = 0; i < pipeline->stage_count; i++)
		if (pipeline->stages[i].in.count)
			return false;
	return true;
}

void pipeline_end_if_over(struct evwork_pipeline *pipeline)
{
	bool over;

	sys_lock(&pipeline->mutex);
	over = is_over_locked(pipeline);
	sys_unlock(&pipeline->mutex);
	if (!over)
		return;
	if (!pipeline->unhooked)
		pool_remove_hook(pipeline->lane->pool, &pipeline->hook);
	pipeline->unhooked = true;
	sys_lock(&pipeline->mutex);
	/* Acquire: who posted it is through. The news asks once more. */
	over = !atomic_load_explicit(&pipeline->posted, memory_order_acquire);
	pipeline->end_posted = over;
	sys_unlock(&pipeline->mutex);
	if (over)
		mailbox_post(pipeline->loop->box, &pipeline->end.mail);
}

/* Lane and pool, before done, so that they may be freed in it. */
static void leave_lane(struct evwork_pipeline *pipeline)
{
	struct evwork_pool *pool = pipeline->lane->pool;

	lane_unkeep(pipeline->lane);
	pool_leave(pool, 1);
}

void pipeline_on_end(struct letter *letter)
{
	struct evwork_pipeline *pipeline = EVWORK_CONTAINER(letter, struct evwork_pipeline, end);
	unsigned made_in = pipeline->made_in;

	evwork_ctx_stop(&pipeline->watch);
	if (pipeline->timed)
		loop_stop_alarm(pipeline->loop, &pipeline->alarm);
	leave_lane(pipeline);
	loop_leave(pipeline->loop, pipeline->own);
	pipeline->calling = true;
	if (pipeline->done_fn)
		pipeline->done_fn(pipeline, pipeline->crashed ? -EOWNERDEAD : pipeline->status,
			pipeline->arg);
	/* In a child that was made in it nothing is touched. */
	if (made_in != fork_here())
		return;
	pipeline->calling = false;
	if (pipeline->doomed) {
		pipeline_release(pipeline);
		return;
	}
	sys_lock(&pipeline->mutex);
	pipeline->over = true;
	/* From here on another thread may free the pipeline. */
	sys_unlock(&pipeline->mutex);
}

void pipeline_lose_news(struct letter *letter)
{
	(void)letter;
}

void pipeline_lose_end(struct letter *letter)
{
	struct evwork_pipeline *pipeline = EVWORK_CONTAINER(letter, struct evwork_pipeline, end);

	/* Unless pipeline_on_lost has done this. */
	if (pipeline->lost)
		return;
	leave_lane(pipeline);
	loop_leave(pipeline->loop, pipeline->own);
}

void pipeline_on_death(struct evwork_watch *watch, int status)
{
	struct evwork_pipeline *pipeline = EVWORK_CONTAINER(watch, struct evwork_pipeline, watch);

	/* If it is the loop that closes: calls that run should end soon. */
	evwork_ctx_cancel(pipeline->ctx, 0);
	sys_lock(&pipeline->mutex);
	pipeline_decide_locked(pipeline, status);
	/* The loop may still be freed by force. */
	watch_set_for_loss(pipeline->loop, &pipeline->watch);
	pipeline_unlock(pipeline);
}

void pipeline_on_lost(struct evwork_watch *watch)
{
	struct evwork_pipeline *pipeline = EVWORK_CONTAINER(watch, struct evwork_pipeline, watch);
	unsigned made_in = pipeline->made_in;

	sys_lock(&pipeline->mutex);
	pipeline->lost = true;
	pipeline_decide_locked(pipeline, -ECANCELED);
	/* It may be in a delivery that this comes. */
	pipeline_make_room_locked(pipeline);
	pipeline_unlock(pipeline);
	evwork_ctx_cancel(pipeline->ctx, 0);
	if (!pipeline->unhooked)
		pool_remove_hook(pipeline->lane->pool, &pipeline->hook);
	pipeline->unhooked = true;
	leave_lane(pipeline);
	pipeline_drop_dead(pipeline, false);
	/* In a child that was made in a drop nothing is touched. */
	if (made_in == fork_here())
		loop_leave(pipeline->loop, true);
}

/* Stopping. */

static int stop(struct evwork_pipeline *pipeline)
{
	struct evwork_ctx *ctx;
	bool first;

	sys_lock(&pipeline->mutex);
	first = pipeline_decide_locked(pipeline, -ECANCELED);
	/* The pipeline may be gone when the lock is left. */
	ctx = evwork_ctx_ref(pipeline->ctx);
	pipeline_unlock(pipeline);
	if (first)
		evwork_ctx_cancel(ctx, 0);
	evwork_ctx_unref(ctx);
	return first ? 0 : -EALREADY;
}

int evwork_pipeline_stop(struct evwork_pipeline *pipeline)
{
	if (!pipeline)
		return -EINVAL;
	if (pipeline->made_in != fork_here())
		return -ESHUTDOWN;
	if (!pthread_equal(pipeline->thread, pthread_self()))
		return -EPERM;
	return stop(pipeline);
}

int evwork_pipeline_cancel(struct evwork_pipeline *pipeline)
{
	if (!pipeline)
		return -EINVAL;
	return pipeline->made_in != fork_here() ? -ESHUTDOWN : stop(pipeline);
}
