/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Making pipelines: checking what is asked for, and taking all the memory that is needed
 * later, so that nothing but what a call emits beyond its room can fail for want of it.
 */

#include "flow/pipeline.h"

#include <errno.h>

#include "run/ctx.h"

/* With less room than this, and less than half, it is not worth to run a quick stage. */
#define LOW_MOST 128

/* Checking. */

static bool stage_valid(const struct evwork_stage *stage)
{
	return !stage->run != !stage->run_batch && stage->item_size > 0 && stage->width >= 0 &&
		stage->queue >= 0 && stage->batch >= 0 && stage->batch_wait_ms >= 0 &&
		!stage->run_batch == !stage->batch && (stage->run_batch || !stage->batch_wait_ms);
}

static bool options_valid(const struct evwork_pipeline_options *options)
{
	size_t i;

	if (options->item_size == 0 || options->window < 0 ||
	    options->policy < EVWORK_PIPELINE_STOP || options->policy > EVWORK_PIPELINE_SKIP ||
	    (options->stage_count && !options->stages))
		return false;
	for (i = 0; i < options->stage_count; i++)
		if (!stage_valid(&options->stages[i]))
			return false;
	return true;
}

static size_t queue_of(const struct evwork_stage *stage)
{
	return stage->queue ? (size_t)stage->queue : EVWORK_PIPELINE_QUEUE_DEFAULT;
}

/* No more calls at once than there are workers: so no more places for them. */
static size_t width_of(const struct evwork_stage *stage, const struct evwork_pool *pool)
{
	size_t width = stage->width ? (size_t)stage->width : 1;

	return width < (size_t)pool->threads ? width : (size_t)pool->threads;
}

static size_t window_of(const struct evwork_pipeline_options *options)
{
	return options->window ? (size_t)options->window : EVWORK_PIPELINE_QUEUE_DEFAULT;
}

/* So many places for items of this size, and what goes with each, can be addressed. */
static bool fits(size_t places, size_t item_size)
{
	return item_size <= (SIZE_MAX >> 2) / (places + sizeof(struct evwork_emitter)) &&
		places <= (SIZE_MAX >> 2) / sizeof(struct evwork_emitter);
}

static bool all_fits(const struct evwork_pipeline_options *options, const struct evwork_pool *pool)
{
	size_t i;

	if (options->stage_count >= (SIZE_MAX >> 2) / sizeof(struct pipe_stage) ||
	    !fits(window_of(options) + (size_t)pool->threads, options->item_size))
		return false;
	for (i = 0; i < options->stage_count; i++) {
		const struct evwork_stage *stage = &options->stages[i];
		size_t places = queue_of(stage) + 2 * (size_t)pool->threads;

		if (!fits(places, stage->item_size) ||
		    !fits(width_of(stage, pool), places * stage->item_size))
			return false;
	}
	return true;
}

int pipeline_check(struct evwork_loop *loop, const struct evwork_pipeline_options *options)
{
	const struct evwork_pool *pool;

	if (!loop || !options || !options_valid(options) || (!options->lane && !loop->lane))
		return -EINVAL;
	pool = (options->lane ? options->lane : loop->lane)->pool;
	if (atomic_load(&loop->closing) || pool_refuses(pool))
		return -ESHUTDOWN;
	if (!all_fits(options, pool))
		return -ERANGE;
	return evwork_ctx_err(options->ctx);
}

/* Making. */

/* The memory of a stage whose queues are known. */
static int make_stage_memory(struct pipe_stage *stage)
{
	size_t out_size = stage->out->item_size, i;
	/* One that gets all the room may emit as much; the others start small. */
	size_t out_capacity = stage->width == 1 ? stage->out->capacity : 1;
	size_t taken = stage->source || stage->in_place ? 0 : stage->width;
	size_t in_size = (stage->batch ? stage->batch : 1) * stage->in.item_size;

	/* Each that has not handed on all has room reserved, or is one of those that
	 * spilled, of which there are no more than can be called at once. */
	stage->emitter_count = stage->width == 1 ? 1 : stage->out->capacity + stage->width;
	stage->emitters = sys_zalloc(stage->emitter_count * sizeof(*stage->emitters));
	stage->out_memory = sys_alloc(stage->emitter_count * out_capacity * out_size);
	if (!stage->emitters || !stage->out_memory)
		return -ENOMEM;
	for (i = 0; i < stage->emitter_count; i++) {
		struct evwork_emitter *emitter = &stage->emitters[i];

		emitter->stage = stage;
		emitter->out_size = out_size;
		emitter->out_capacity = out_capacity;
		emitter->out = emitter->out_first = stage->out_memory + i * out_capacity * out_size;
		emitter->next = stage->idle;
		stage->idle = emitter;
	}
	if (taken == 0)
		return 0;
	stage->memory = sys_alloc(taken * in_size);
	stage->buffers = sys_alloc(taken * sizeof(*stage->buffers));
	if (!stage->memory || !stage->buffers)
		return -ENOMEM;
	for (; stage->buffer_count < taken; stage->buffer_count++)
		stage->buffers[stage->buffer_count] = stage->memory + stage->buffer_count * in_size;
	return 0;
}

static void set_low(struct pipe_queue *queue, bool batch)
{
	size_t low = queue->capacity / 2;

	/* For a batch the queue may have to be filled. */
	queue->low = batch || low == 0 ? 1 : low < LOW_MOST ? low : LOW_MOST;
}

static int make_stage(struct pipe_stage *stage, const struct evwork_stage *options)
{
	struct pipe_queue *in = &stage->in;
	int rc;

	stage->run = options->run;
	stage->run_batch = options->run_batch;
	stage->arg = options->arg ? options->arg : stage->pipeline->arg;
	stage->width = width_of(options, stage->pipeline->lane->pool);
	stage->ordered = !options->unordered || stage->width == 1;
	stage->in_place = stage->width == 1 && !stage->run_batch;
	stage->wait_ns = sys_time_mul(options->batch_wait_ms, SYS_NS_PER_MS);
	rc = queue_make(in, options->item_size, queue_of(options) + stage->width,
		stage->wait_ns > 0);
	if (rc)
		return rc;
	in->drop = options->drop;
	in->arg = stage->arg;
	stage->batch = (size_t)options->batch < in->capacity ? (size_t)options->batch :
		in->capacity;
	set_low(in, stage->batch > 0);
	stage->pipeline->timed = stage->pipeline->timed || stage->wait_ns > 0;
	return make_stage_memory(stage);
}

static int make_source(struct pipe_stage *stage, evwork_source_fn source)
{
	stage->source = source;
	stage->arg = stage->pipeline->arg;
	stage->width = 1;
	stage->ordered = true;
	return make_stage_memory(stage);
}

/* From the last to the first, as each needs to know the queue after it. */
static int make_stages(struct evwork_pipeline *pipeline,
	const struct evwork_pipeline_options *options)
{
	size_t first = options->source ? 1 : 0, i = pipeline->stage_count;
	struct pipe_queue *out = &pipeline->sink;
	struct pipe_stage *next = NULL;
	int rc = 0;

	while (i-- > 0 && rc == 0) {
		struct pipe_stage *stage = &pipeline->stages[i];

		stage->pipeline = pipeline;
		stage->next = next;
		stage->out = out;
		stage->speed = 1;
		rc = i < first ? make_source(stage, options->source) :
			make_stage(stage, &options->stages[i - first]);
		out = &stage->in;
		next = stage;
	}
	pipeline->first = pipeline->pushed ? out : NULL;
	return rc;
}

static int make_carriers(struct evwork_pipeline *pipeline)
{
	size_t calls = 0, i, most = (size_t)pipeline->lane->pool->threads;

	for (i = 0; i < pipeline->stage_count; i++)
		calls += pipeline->stages[i].width;
	pipeline->most = (unsigned)(calls < most ? calls : most);
	pipeline->carrier_count = 2 * (size_t)pipeline->most;
	if (pipeline->carrier_count == 0)
		return 0;
	pipeline->carriers = sys_zalloc(pipeline->carrier_count * sizeof(*pipeline->carriers));
	if (!pipeline->carriers)
		return -ENOMEM;
	for (i = 0; i < pipeline->carrier_count; i++)
		carrier_init(&pipeline->carriers[i], pipeline);
	return 0;
}

void pipeline_release_memory(struct evwork_pipeline *pipeline)
{
	size_t i, k;

	for (i = 0; pipeline->stages && i < pipeline->stage_count; i++) {
		struct pipe_stage *stage = &pipeline->stages[i];

		for (k = 0; stage->emitters && k < stage->emitter_count; k++)
			if (stage->emitters[k].out != stage->emitters[k].out_first)
				sys_free(stage->emitters[k].out);
		sys_free(stage->emitters);
		sys_free(stage->out_memory);
		sys_free(stage->memory);
		sys_free(stage->buffers);
		queue_release(&stage->in);
	}
	queue_release(&pipeline->sink);
	sys_free(pipeline->stages);
	sys_free(pipeline->carriers);
	evwork_ctx_unref(pipeline->ctx);
	sys_free(pipeline);
}

void pipeline_release(struct evwork_pipeline *pipeline)
{
	sys_mutex_fini(&pipeline->mutex);
	pipeline_release_memory(pipeline);
}

static void on_pool_drains(struct pool_hook *hook)
{
	struct evwork_pipeline *pipeline = EVWORK_CONTAINER(hook, struct evwork_pipeline, hook);

	atomic_store_explicit(&pipeline->pool_drains, true, memory_order_relaxed);
	pipeline_post_news(pipeline);
}

static void on_pool_cancelled(struct pool_hook *hook)
{
	struct evwork_pipeline *pipeline = EVWORK_CONTAINER(hook, struct evwork_pipeline, hook);

	atomic_store_explicit(&pipeline->pool_closed, true, memory_order_relaxed);
	pipeline_post_news(pipeline);
}

static void on_pool_room(struct pool_hook *hook)
{
	struct evwork_pipeline *pipeline = EVWORK_CONTAINER(hook, struct evwork_pipeline, hook);

	atomic_store_explicit(&pipeline->full, false, memory_order_relaxed);
	pipeline_post_news(pipeline);
}

static void set_options(struct evwork_pipeline *pipeline, struct evwork_loop *loop,
	const struct evwork_pipeline_options *options)
{
	pipeline->loop = loop;
	pipeline->thread = loop->thread;
	pipeline->clock = loop->clock;
	pipeline->made_in = fork_here();
	pipeline->lane = options->lane ? options->lane : loop->lane;
	pipeline->policy = options->policy;
	pipeline->pushed = !options->source;
	pipeline->item = options->item;
	pipeline->done_fn = options->done;
	pipeline->room_fn = options->room;
	pipeline->arg = options->arg;
	pipeline->demanding = options->demand != 0;
	pipeline->demand = pipeline->demanding ? 0 : INT64_MAX;
	pipeline->hungry = !pipeline->demanding;
	pipeline->sink.drop = options->drop;
	pipeline->sink.arg = options->arg;
	pipeline->alarm_at = EVWORK_NEVER;
	pipeline->hook.drains = on_pool_drains;
	pipeline->hook.cancelled = on_pool_cancelled;
	pipeline->hook.room = on_pool_room;
	evwork_watch_init(&pipeline->watch, pipeline_on_death);
	pipeline->watch._lost = pipeline_on_lost;
	evwork_timer_init(&pipeline->alarm, pipeline_on_alarm);
	letter_init(&pipeline->news, "the item of a pipeline", pipeline_on_news, pipeline_lose_news);
	letter_init(&pipeline->end, "the end of a pipeline", pipeline_on_end, pipeline_lose_end);
}

static int make_parts(struct evwork_pipeline *pipeline,
	const struct evwork_pipeline_options *options)
{
	int rc = evwork_ctx_new(options->ctx, &pipeline->ctx);

	if (rc)
		return rc;
	rc = queue_make(&pipeline->sink, options->item_size, window_of(options), false);
	if (rc)
		return rc;
	set_low(&pipeline->sink, false);
	pipeline->stage_count = options->stage_count + (options->source ? 1 : 0);
	pipeline->first = &pipeline->sink;
	if (pipeline->stage_count) {
		pipeline->stages = sys_zalloc(pipeline->stage_count * sizeof(*pipeline->stages));
		if (!pipeline->stages)
			return -ENOMEM;
		rc = make_stages(pipeline, options);
	}
	return rc ? rc : make_carriers(pipeline);
}

int pipeline_make(struct evwork_loop *loop, const struct evwork_pipeline_options *options,
	struct evwork_pipeline **ret_pipeline)
{
	struct evwork_pipeline *pipeline = sys_zalloc(sizeof(*pipeline));
	int rc;

	if (!pipeline)
		return -ENOMEM;
	set_options(pipeline, loop, options);
	rc = make_parts(pipeline, options);
	if (rc == 0)
		rc = sys_mutex_init_spinning(&pipeline->mutex);
	if (rc) {
		pipeline_release_memory(pipeline);
		return rc;
	}
	*ret_pipeline = pipeline;
	return 0;
}
