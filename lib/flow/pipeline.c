/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Pipelines, from the outside: starting, pushing, asking and freeing. Making is in
 * pipeline_new.c, what moves the items in pipeline_stage.c, what runs the stages in
 * pipeline_run.c, the loop's side in pipeline_sink.c, and how it all ends in
 * pipeline_end.c.
 */

#include "flow/pipeline.h"

#include <errno.h>

#include "run/ctx.h"

/* Starting. */

/* Holds what is needed until the end: lane and pool, and the loop. */
static int begin(struct evwork_pipeline *pipeline)
{
	struct evwork_pool *pool = pipeline->lane->pool;
	int rc = lane_keep(pipeline->lane);

	if (rc)
		return rc;
	rc = loop_enter(pipeline->loop, &pipeline->own);
	if (rc)
		goto no_loop;
	rc = evwork_ctx_after(pipeline->ctx, pipeline->loop, &pipeline->watch);
	if (rc)
		goto no_watch;
	pool_add_hook(pool, &pipeline->hook);
	return 0;
no_watch:
	loop_leave(pipeline->loop, pipeline->own);
no_loop:
	lane_unkeep(pipeline->lane);
	pool_leave(pool, 1);
	return rc;
}

int evwork_pipeline_start(struct evwork_loop *loop,
	const struct evwork_pipeline_options *options, struct evwork_pipeline **ret_pipeline)
{
	int rc = ret_pipeline ? pipeline_check(loop, options) : -EINVAL;
	struct evwork_pipeline *pipeline;
	struct carrier *first;

	if (rc == 0)
		rc = pipeline_make(loop, options, &pipeline);
	if (rc)
		return rc;
	/* Counts as a carrier until all is begun: its context may die meanwhile, and it end
	 * on another thread. */
	pipeline->jobs = 1;
	rc = begin(pipeline);
	if (rc) {
		pipeline_release(pipeline);
		return rc;
	}
	/* Before it can end. */
	*ret_pipeline = pipeline;
	sys_lock(&pipeline->mutex);
	pipeline->jobs--;
	pipeline->wants_news = pipeline->wants_news || pipeline->decided;
	first = pipeline_wake_locked(pipeline);
	pipeline_unlock(pipeline);
	carrier_submit(first);
	return 0;
}

/* Pushing. */

static int push_locked(struct evwork_pipeline *pipeline, const void *item)
{
	struct pipe_queue *first = pipeline->first;

	if (pipeline->decided || first->cut || first->ended)
		return -EPIPE;
	if (queue_room(first) == 0) {
		pipeline->room_wanted = pipeline->room_fn != NULL;
		return -EAGAIN;
	}
	if ((first == &pipeline->sink && pipeline->hungry) || (first->since && first->count == 0))
		pipeline->wants_news = true;
	queue_put(first, item, 1, first->since ? clock_now(pipeline->clock) : 0);
	pipeline->stats.emitted++;
	pipeline_count_in_locked(pipeline, 1);
	return 0;
}

int evwork_pipeline_push(struct evwork_pipeline *pipeline, const void *item)
{
	struct carrier *more;
	int rc;

	if (!pipeline || !item)
		return -EINVAL;
	if (pipeline->made_in != fork_here())
		return -ESHUTDOWN;
	if (!pipeline->pushed)
		return -EPERM;
	sys_lock(&pipeline->mutex);
	rc = push_locked(pipeline, item);
	more = rc ? NULL : pipeline_wake_locked(pipeline);
	pipeline_unlock(pipeline);
	carrier_submit(more);
	return rc;
}

int evwork_pipeline_end(struct evwork_pipeline *pipeline)
{
	struct carrier *more = NULL;
	int rc = 0;

	if (!pipeline)
		return -EINVAL;
	if (pipeline->made_in != fork_here())
		return -ESHUTDOWN;
	if (!pipeline->pushed)
		return -EPERM;
	sys_lock(&pipeline->mutex);
	if (pipeline->first->ended) {
		rc = -EALREADY;
	} else if (pipeline->decided || pipeline->first->cut) {
		rc = -EPIPE;
	} else {
		queue_end_locked(pipeline, pipeline->first, 0);
		/* For a batch that need not be full any more. */
		more = pipeline_wake_locked(pipeline);
	}
	pipeline_unlock(pipeline);
	carrier_submit(more);
	return rc;
}

int evwork_pipeline_request(struct evwork_pipeline *pipeline, int64_t n)
{
	bool decided;

	if (!pipeline || n <= 0)
		return -EINVAL;
	if (pipeline->made_in != fork_here())
		return -ESHUTDOWN;
	if (!pthread_equal(pipeline->thread, pthread_self()) || !pipeline->demanding)
		return -EPERM;
	sys_lock(&pipeline->mutex);
	decided = pipeline->decided;
	if (!decided) {
		pipeline->demand = sys_time_add(pipeline->demand, n);
		pipeline->hungry = true;
		pipeline->wants_news = pipeline->sink.count > 0;
	}
	pipeline_unlock(pipeline);
	return decided ? -EALREADY : 0;
}

/* Asking. */

int evwork_pipeline_stats(struct evwork_pipeline *pipeline,
	struct evwork_pipeline_stats *ret_stats)
{
	if (!pipeline || !ret_stats)
		return -EINVAL;
	if (pipeline->made_in != fork_here())
		return -ESHUTDOWN;
	sys_lock(&pipeline->mutex);
	*ret_stats = pipeline->stats;
	sys_unlock(&pipeline->mutex);
	return 0;
}

void *evwork_pipeline_arg(struct evwork_pipeline *pipeline)
{
	return pipeline ? pipeline->arg : NULL;
}

int evwork_pipeline_free(struct evwork_pipeline *pipeline)
{
	bool inside, busy;

	if (!pipeline)
		return 0;
	if (pipeline->made_in != fork_here()) {
		/* Its lock stays as it is. */
		pipeline_release_memory(pipeline);
		return 0;
	}
	/* Only the loop's thread asks for `calling`. */
	inside = pthread_equal(pipeline->thread, pthread_self()) && pipeline->calling;
	sys_lock(&pipeline->mutex);
	busy = !pipeline->over && !inside;
	pipeline->doomed = inside;
	sys_unlock(&pipeline->mutex);
	if (!busy && !inside)
		pipeline_release(pipeline);
	return busy ? -EBUSY : 0;
}
