/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The loop's side: one letter, the news, has the loop look after whatever has come up:
 * items for the sink, room for those who push, a batch that has waited long enough, items
 * to drop, and at last the end. Each callback counts against the budget of the turn; when
 * that is used up the letter is posted again, for the next one (S-PIPE-17).
 *
 * The loop takes some items at a time, works on them where they wait, and makes room for
 * new ones when it is through with these.
 */

#include "flow/pipeline.h"
#include "run/ctx.h"
#include "run/turn.h"

/* How many items the loop takes at once: few enough to free room early. */
#define PORTION 64

/* How long the loop looks on for more. */
#define LOOK_NS INT64_C(5000)

enum going { GOES_ON, NEXT_TURN, GONE };

void pipeline_post_news(struct evwork_pipeline *pipeline)
{
	if (!atomic_exchange_explicit(&pipeline->posted, true, memory_order_acq_rel))
		mailbox_post(pipeline->loop->box, &pipeline->news.mail);
}

/* Whether who found no room is to be told of some. */
static bool has_room_again_locked(const struct evwork_pipeline *pipeline)
{
	const struct pipe_queue *first = pipeline->first;
	size_t room = queue_room(first);

	return room >= first->low || (room > 0 && first->count == 0);
}

void pipeline_unlock(struct evwork_pipeline *pipeline)
{
	atomic_store_explicit(&pipeline->changes, atomic_load_explicit(&pipeline->changes,
		memory_order_relaxed) + 1, memory_order_relaxed);
	if (pipeline->room_wanted && has_room_again_locked(pipeline)) {
		pipeline->room_wanted = false;
		pipeline->room_due = pipeline->wants_news = true;
	}
	/* Under the lock, as the loop may be gone when it is left. */
	if (pipeline->wants_news && !pipeline->lost && !pipeline->end_posted)
		pipeline_post_news(pipeline);
	pipeline->wants_news = false;
	sys_unlock(&pipeline->mutex);
}

/* Whether one more callback may be called in this turn. */
static bool take(struct evwork_pipeline *pipeline)
{
	if (pipeline->charged) {
		pipeline->charged = false;
		return true;
	}
	return turn_take(pipeline->loop);
}

/* What a callback has left of the pipeline: in a child that was made in it nothing is
 * touched, and without a loop nothing more is called. */
static bool is_gone(const struct evwork_pipeline *pipeline, unsigned made_in)
{
	return made_in != fork_here() || pipeline->lost;
}

/* Items. */

static size_t portion_locked(struct evwork_pipeline *pipeline)
{
	size_t count = queue_piece(&pipeline->sink), part = pipeline->sink.capacity / 2 + 1;

	if (pipeline->decided)
		return 0;
	/* Without demand nobody need tell of items. */
	pipeline->hungry = pipeline->demand > 0;
	if (count > PORTION)
		count = PORTION;
	if (count > part)
		count = part;
	return pipeline->demand < (int64_t)count ? (size_t)pipeline->demand : count;
}

/* There is room for as many as the loop is through with. */
struct carrier *pipeline_make_room_locked(struct evwork_pipeline *pipeline)
{
	struct pipe_stage *last = pipeline->stage_count ?
		&pipeline->stages[pipeline->stage_count - 1] : NULL;
	size_t count = pipeline->through;

	if (count == 0)
		return NULL;
	pipeline->through = 0;
	queue_advance(&pipeline->sink, count);
	pipeline->stats.inside -= count;
	if (pipeline->item)
		pipeline->stats.delivered += count;
	else
		pipeline->stats.dropped += count;
	if (last && last->spilled) {
		stage_hand_on_locked(last);
		stage_settle_locked(last);
	}
	return pipeline_wake_locked(pipeline);
}

static void deliver_one(struct evwork_pipeline *pipeline, void *item)
{
	if (pipeline->demand != INT64_MAX)
		pipeline->demand--;
	pipeline->through++;
	if (pipeline->item)
		pipeline->item(pipeline, item, pipeline->arg);
	else if (pipeline->sink.drop)
		pipeline->sink.drop(item, pipeline->sink.arg);
}

/* Whether nothing more is to be delivered. Of a context only what is known already. */
static bool stops(const struct evwork_pipeline *pipeline)
{
	return atomic_load_explicit(&pipeline->stopped, memory_order_relaxed) ||
		atomic_load_explicit(&pipeline->ctx->err, memory_order_relaxed);
}

/* Delivers the first items, up to `most`. */
static enum going deliver_some(struct evwork_pipeline *pipeline, size_t most)
{
	unsigned made_in = pipeline->made_in;
	char *item = queue_slot(&pipeline->sink, pipeline->sink.head);
	size_t size = pipeline->sink.item_size;

	for (; most > 0 && !stops(pipeline); most--, item += size) {
		if (!take(pipeline))
			return NEXT_TURN;
		deliver_one(pipeline, item);
		if (is_gone(pipeline, made_in))
			return GONE;
	}
	return GOES_ON;
}

/* Whether more items are to be expected sooner than the loop could come back for them. */
static bool is_quick_locked(const struct evwork_pipeline *pipeline)
{
	size_t i;

	if (pipeline->working == 0 || pipeline->decided || !pipeline->hungry)
		return false;
	for (i = 0; i < pipeline->stage_count; i++)
		if (pipeline->stages[i].speed < PIPE_QUICK)
			return false;
	return pipeline->stage_count > 0;
}

/* Waits a moment for the next items: false if none came. */
static bool look_on(struct evwork_pipeline *pipeline)
{
	unsigned came;
	bool any, quick;

	sys_lock(&pipeline->mutex);
	came = atomic_load_explicit(&pipeline->came, memory_order_relaxed);
	any = pipeline->sink.count > 0;
	quick = is_quick_locked(pipeline);
	sys_unlock(&pipeline->mutex);
	return quick && (any || pipe_look_on(&pipeline->came, came, LOOK_NS));
}

static enum going deliver(struct evwork_pipeline *pipeline)
{
	enum going going = GOES_ON;
	struct carrier *more;
	size_t most;

	do {
		int err = evwork_ctx_err(pipeline->ctx);

		sys_lock(&pipeline->mutex);
		more = pipeline_make_room_locked(pipeline);
		if (err)
			pipeline_decide_locked(pipeline, err);
		most = going == GOES_ON ? portion_locked(pipeline) : 0;
		pipeline_unlock(pipeline);
		carrier_submit(more);
		if (most > 0)
			going = deliver_some(pipeline, most);
	} while ((most > 0 && going != GONE) || (going == GOES_ON && look_on(pipeline)));
	return going;
}

/* What else there may be. */

static enum going tell_of_room(struct evwork_pipeline *pipeline)
{
	unsigned made_in = pipeline->made_in;
	bool due;

	sys_lock(&pipeline->mutex);
	due = pipeline->room_due && !pipeline->decided;
	sys_unlock(&pipeline->mutex);
	if (!due)
		return GOES_ON;
	if (!take(pipeline))
		return NEXT_TURN;
	sys_lock(&pipeline->mutex);
	pipeline->room_due = false;
	sys_unlock(&pipeline->mutex);
	pipeline->room_fn(pipeline, pipeline->arg);
	return is_gone(pipeline, made_in) ? GONE : GOES_ON;
}

static enum going drop(struct evwork_pipeline *pipeline)
{
	unsigned made_in = pipeline->made_in;
	bool more = pipeline_drop_dead(pipeline, true);

	if (is_gone(pipeline, made_in))
		return GONE;
	return more ? NEXT_TURN : GOES_ON;
}

/* Sets the alarm for the next batch that will have waited long enough. */
static void set_alarm(struct evwork_pipeline *pipeline)
{
	int64_t due;
	bool set;

	sys_lock(&pipeline->mutex);
	due = pipeline->decided ? EVWORK_NEVER : pipeline_next_due_locked(pipeline);
	set = due < pipeline->alarm_at;
	if (set)
		pipeline->alarm_at = due;
	sys_unlock(&pipeline->mutex);
	if (set)
		loop_set_alarm(pipeline->loop, &pipeline->alarm, due);
}

void pipeline_on_alarm(struct evwork_timer *alarm, int status)
{
	struct evwork_pipeline *pipeline = EVWORK_CONTAINER(alarm, struct evwork_pipeline, alarm);

	(void)status;
	sys_lock(&pipeline->mutex);
	pipeline->alarm_at = EVWORK_NEVER;
	pipeline->wants_news = true;
	pipeline_unlock(pipeline);
}

/* The last item has been delivered, or the pool takes no more. */
static void decide(struct evwork_pipeline *pipeline)
{
	const struct pipe_queue *sink = &pipeline->sink;
	struct carrier *more;
	bool decided;

	sys_lock(&pipeline->mutex);
	/* First, as this may be the end. */
	if (atomic_load_explicit(&pipeline->pool_drains, memory_order_relaxed))
		source_shut_locked(pipeline->stages);
	if (sink->ended && sink->count == 0)
		pipeline_decide_locked(pipeline, sink->error);
	if (atomic_load_explicit(&pipeline->pool_closed, memory_order_relaxed))
		pipeline_decide_locked(pipeline, -ECANCELED);
	decided = pipeline->decided;
	more = pipeline_wake_locked(pipeline);
	pipeline->wants_news = false;
	pipeline_unlock(pipeline);
	carrier_submit(more);
	/* For calls that still run, and carriers that wait for a worker. */
	if (decided)
		evwork_ctx_cancel(pipeline->ctx, 0);
}

static enum going look_after(struct evwork_pipeline *pipeline)
{
	enum going going;

	atomic_store_explicit(&pipeline->attended, true, memory_order_relaxed);
	going = deliver(pipeline);
	if (going != GONE)
		atomic_store_explicit(&pipeline->attended, false, memory_order_relaxed);
	if (going == GOES_ON)
		going = tell_of_room(pipeline);
	if (going != GONE)
		decide(pipeline);
	if (going == GOES_ON)
		going = drop(pipeline);
	if (going == GOES_ON && pipeline->timed)
		set_alarm(pipeline);
	return going;
}

void pipeline_on_news(struct letter *letter)
{
	struct evwork_pipeline *pipeline = EVWORK_CONTAINER(letter, struct evwork_pipeline, news);
	enum going going;

	/* Before the look: what comes from now on posts it again. */
	atomic_exchange_explicit(&pipeline->posted, false, memory_order_acq_rel);
	pipeline->charged = true;
	going = look_after(pipeline);
	if (going == NEXT_TURN)
		pipeline_post_news(pipeline);
	else if (going == GOES_ON)
		pipeline_end_if_over(pipeline);
}
