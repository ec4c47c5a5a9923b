/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What happens between the calls of a stage: taking inputs, and handing on outputs, in
 * order, and the end after them. All of this is under the pipeline's lock.
 *
 * Room for outputs is reserved when inputs are taken, at least for one, so no call ever
 * waits. A stage of width 1 gets all the room there is and works on its items where they
 * wait, several at a time. A wider one takes one at a time, as no item may wait behind a
 * slow one while another call could have it, and copies it out, so that the slots of the
 * queue become free in whatever order calls return. What is emitted beyond the room is
 * kept by the emitter; its stage is ready again when all of it has found room, which is
 * given in the order of the outputs, so that the first never waits for a later one.
 *
 * An error takes the place of its item: it becomes the end of the queue that the outputs
 * go to, after those of all earlier calls, and so travels as an end does.
 */

#include <errno.h>

#include "flow/pipeline.h"

/* Long against taking the lock, short against the time in which others wait. */
#define WORTH_NS INT64_C(50000)
#define SPEED_MOST 65536

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Taking. */

/* Whether nothing more comes to a stage before it has taken some: the first outputs of the
 * stage before it wait for room, although later ones have some reserved. */
static bool is_starved(const struct pipe_stage *stage)
{
	const struct evwork_emitter *first = stage == stage->pipeline->stages ? NULL :
		(stage - 1)->order.head;

	return first && first->finished && stage->in.held == 0;
}

/* Whether the stage should take what waits although that is no full batch. */
static bool batch_is_due(const struct pipe_stage *stage)
{
	const struct pipe_queue *in = &stage->in;

	/* With a full queue nothing more comes before some are taken. */
	return stage->wait_ns == 0 || in->ended || in->count >= stage->batch ||
		in->count == in->capacity || is_starved(stage) ||
		clock_now(stage->pipeline->clock) >=
		sys_time_add(in->since[in->head], stage->wait_ns);
}

size_t stage_ready_locked(struct pipe_stage *stage)
{
	const struct pipe_queue *in = &stage->in, *out = stage->out;
	size_t room = queue_room(out), calls = stage->width - stage->active;

	if (stage->cut || stage->through || stage->ending || stage->spilled || calls == 0 ||
	    !stage->idle)
		return 0;
	/* What comes after has enough to do until there is room for many. */
	if (room == 0 || (room < out->low && out->count > 0 && stage->speed >= PIPE_QUICK))
		return 0;
	if (stage->source)
		return 1;
	if (in->count == 0 || (stage->batch && !batch_is_due(stage)))
		return 0;
	calls = least(calls, room);
	return least(calls, stage->batch ? (in->count - 1) / stage->batch + 1 : in->count);
}

/* Sets what an emitter works on. */
static void take_locked(struct pipe_stage *stage, struct evwork_emitter *emitter)
{
	struct pipe_queue *in = &stage->in;

	if (stage->in_place) {
		emitter->items = queue_slot(in, in->head);
		emitter->count = least(stage->speed, queue_piece(in));
		return;
	}
	emitter->count = stage->batch ? least(stage->batch, in->count) : 1;
	emitter->buffer = emitter->items = stage->buffers[--stage->buffer_count];
	queue_copy(in, emitter->items, emitter->count);
	queue_advance(in, emitter->count);
	in->held += emitter->count;
	/* The time of those that wait is looked at anew. */
	if (in->since && in->count > 0)
		stage->pipeline->wants_news = true;
}

struct evwork_emitter *stage_claim_locked(struct pipe_stage *stage)
{
	struct evwork_emitter *emitter = stage->idle;
	size_t room = queue_room(stage->out), calls = stage->width - stage->active;

	stage->idle = emitter->next;
	emitter->items = emitter->buffer = NULL;
	emitter->done = emitter->emitted = emitter->moved = emitter->failed = 0;
	emitter->error = 0;
	emitter->last = emitter->finished = emitter->spilled = false;
	emitter->used = true;
	atomic_store_explicit(&emitter->cut, false, memory_order_relaxed);
	if (stage->source)
		emitter->count = stage->speed;
	else
		take_locked(stage, emitter);
	if (stage->width == 1)
		emitter->room = room;
	else if (stage->batch)
		emitter->room = least(emitter->count, room > calls ? room / calls : 1);
	else
		emitter->room = 1;
	stage->out->reserved += emitter->room;
	if (stage->ordered)
		LIST_APPEND(&stage->order, emitter, next, prev);
	stage->active++;
	stage->pipeline->calls++;
	return emitter;
}

/* Handing on. */

static void give_back_buffer_locked(struct evwork_emitter *emitter)
{
	struct pipe_stage *stage = emitter->stage;

	if (emitter->buffer)
		stage->buffers[stage->buffer_count++] = emitter->buffer;
	emitter->buffer = NULL;
}

void emitter_release_locked(struct evwork_emitter *emitter)
{
	struct pipe_stage *stage = emitter->stage;

	stage->out->reserved -= emitter->room;
	emitter->room = 0;
	give_back_buffer_locked(emitter);
	if (emitter->spilled)
		stage->spilled--;
	emitter->used = false;
	emitter->next = stage->idle;
	stage->idle = emitter;
	stage->pipeline->calls--;
}

/* Reserves room for what was emitted beyond it, as far as there is any. */
static void reserve_more_locked(struct evwork_emitter *emitter)
{
	struct pipe_stage *stage = emitter->stage;
	size_t left = emitter->emitted - emitter->moved, more;
	bool spilled;

	if (left > emitter->room) {
		more = least(left - emitter->room, queue_room(stage->out));
		emitter->room += more;
		stage->out->reserved += more;
	}
	spilled = left > emitter->room;
	if (spilled != emitter->spilled)
		stage->spilled += spilled ? 1 : (size_t)-1;
	emitter->spilled = spilled;
}

static void put_locked(struct pipe_stage *stage, struct evwork_emitter *emitter)
{
	struct evwork_pipeline *pipeline = stage->pipeline;
	struct pipe_queue *out = stage->out;
	size_t count = least(emitter->emitted - emitter->moved, emitter->room);

	if (count == 0)
		return;
	if (!stage->next) {
		atomic_store_explicit(&pipeline->came, atomic_load_explicit(&pipeline->came,
			memory_order_relaxed) + 1, memory_order_relaxed);
		pipeline->wants_news = pipeline->wants_news || pipeline->hungry;
	}
	if (out->since && out->count == 0)
		pipeline->wants_news = true;
	queue_put(out, emitter->out + emitter->moved * emitter->out_size, count,
		out->since ? clock_now(pipeline->clock) : 0);
	emitter->moved += count;
	emitter->room -= count;
	out->reserved -= count;
}

static void end_locked(struct pipe_stage *stage, int error)
{
	stage->through = true;
	stage->out->ended = true;
	stage->out->error = error;
	if (!stage->next)
		stage->pipeline->wants_news = true;
}

void stage_hand_on_locked(struct pipe_stage *stage)
{
	struct evwork_emitter *emitter;

	for (emitter = stage->order.head; stage->spilled && emitter; emitter = emitter->next)
		if (emitter->spilled)
			reserve_more_locked(emitter);
	while ((emitter = stage->order.head) && emitter->finished &&
	       !atomic_load_explicit(&emitter->cut, memory_order_relaxed)) {
		if (emitter->spilled)
			reserve_more_locked(emitter);
		put_locked(stage, emitter);
		if (emitter->moved < emitter->emitted)
			return;
		LIST_REMOVE(&stage->order, emitter, next, prev);
		emitter_release_locked(emitter);
		if (emitter->error) {
			end_locked(stage, emitter->error);
			stage_settle_locked(stage->next);
		}
	}
}

static bool is_through(const struct pipe_stage *stage)
{
	if (stage->cut || stage->through || stage->active || stage->order.head)
		return false;
	return stage->source ? stage->ending : stage->in.ended && stage->in.count == 0;
}

void stage_settle_locked(struct pipe_stage *stage)
{
	for (; stage && is_through(stage); stage = stage->next)
		end_locked(stage, stage->in.error);
}

void source_shut_locked(struct pipe_stage *stage)
{
	if (!stage->source || stage->cut || stage->ending)
		return;
	stage->ending = true;
	stage->in.error = -ESHUTDOWN;
	stage_settle_locked(stage);
}

void queue_end_locked(struct evwork_pipeline *pipeline, struct pipe_queue *queue, int error)
{
	queue->ended = true;
	queue->error = error;
	if (queue == &pipeline->sink)
		pipeline->wants_news = true;
	else
		stage_settle_locked(&pipeline->stages[0]);
}

static void cut(struct evwork_emitter *emitter)
{
	atomic_store_explicit(&emitter->cut, true, memory_order_relaxed);
}

/* Of the stage itself what comes after this emitter: later in order, or without an order
 * whatever has not finished. */
static void cut_after_locked(struct pipe_stage *stage, struct evwork_emitter *except)
{
	struct evwork_emitter *emitter;
	size_t i;

	for (emitter = except->next; emitter; emitter = emitter->next)
		cut(emitter);
	for (i = 0; !stage->ordered && i < stage->emitter_count; i++) {
		emitter = &stage->emitters[i];
		if (emitter->used && !emitter->finished)
			cut(emitter);
	}
}

void stage_cut_locked(struct pipe_stage *stage, struct evwork_emitter *except)
{
	struct evwork_pipeline *pipeline = stage->pipeline;
	struct pipe_stage *each;
	size_t i;

	for (each = pipeline->stages; each <= stage; each++) {
		each->cut = each->in.cut = true;
		for (i = 0; !(except && each == stage) && i < each->emitter_count; i++)
			if (each->emitters[i].used)
				cut(&each->emitters[i]);
	}
	if (except)
		cut_after_locked(stage, except);
	pipeline->wants_news = true;
}

/* Finishing. */

void pipeline_count_in_locked(struct evwork_pipeline *pipeline, size_t count)
{
	pipeline->stats.inside += count;
	if (pipeline->stats.inside > pipeline->stats.peak)
		pipeline->stats.peak = pipeline->stats.inside;
}

static void count_locked(struct pipe_stage *stage, const struct evwork_emitter *emitter)
{
	struct evwork_pipeline *pipeline = stage->pipeline;

	if (stage->source)
		pipeline->stats.emitted += emitter->emitted;
	else
		pipeline->stats.inside -= emitter->done;
	pipeline->stats.failed += emitter->failed;
	pipeline_count_in_locked(pipeline, emitter->emitted);
}

void stage_note_speed_locked(struct pipe_stage *stage, size_t calls, int64_t ns)
{
	int64_t speed;

	if (calls == 0)
		return;
	speed = (int64_t)calls * WORTH_NS / (ns > 0 ? ns : 1) + 1;
	/* Twice as many at most, as the first may have been the easy ones; and less only
	 * after a time that says something. */
	if ((size_t)speed > stage->speed)
		stage->speed = least(least((size_t)speed, 2 * stage->speed), SPEED_MOST);
	else if (ns >= WORTH_NS / 2)
		stage->speed = (size_t)speed;
}

bool stage_finish_locked(struct evwork_emitter *emitter)
{
	struct pipe_stage *stage = emitter->stage;
	struct pipe_stage *before = stage->source || stage == stage->pipeline->stages ? NULL :
		stage - 1;
	bool is_cut = atomic_load_explicit(&emitter->cut, memory_order_relaxed);

	stage->active--;
	if (stage->in_place)
		queue_advance(&stage->in, emitter->done);
	else if (!stage->source)
		stage->in.held -= emitter->count;
	count_locked(stage, emitter);
	if (emitter->last) {
		stage->ending = true;
		/* It was through when it was told to stop. */
		stage->in.error = 0;
	}
	if (is_cut) {
		if (stage->ordered)
			LIST_REMOVE(&stage->order, emitter, next, prev);
		stage->pipeline->dropping++;
		stage->pipeline->wants_news = true;
		return false;
	}
	emitter->finished = true;
	give_back_buffer_locked(emitter);
	if (!stage->ordered)
		LIST_APPEND(&stage->order, emitter, next, prev);
	if (emitter->error)
		stage_cut_locked(stage, emitter);
	reserve_more_locked(emitter);
	stage_hand_on_locked(stage);
	stage_settle_locked(stage);
	/* There is room before the stage now. */
	if (before && before->spilled) {
		stage_hand_on_locked(before);
		stage_settle_locked(before);
	}
	return true;
}

int64_t pipeline_next_due_locked(struct evwork_pipeline *pipeline)
{
	int64_t due = EVWORK_NEVER, at;
	size_t i;

	for (i = 0; i < pipeline->stage_count; i++) {
		const struct pipe_stage *stage = &pipeline->stages[i];
		const struct pipe_queue *in = &stage->in;

		if (!in->since || stage->cut || in->count == 0 || batch_is_due(stage))
			continue;
		at = sys_time_add(in->since[in->head], stage->wait_ns);
		if (at < due)
			due = at;
	}
	return due;
}
