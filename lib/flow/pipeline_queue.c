/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The rings that items of a pipeline wait in. Not thread-safe: the pipeline's lock covers
 * what says which slots are taken. The items themselves are touched without it, too, by who
 * works on the first of them in place: nobody writes to a slot that is taken.
 */

#include "flow/pipeline.h"

#include <errno.h>

int queue_make(struct pipe_queue *queue, size_t item_size, size_t capacity, bool timed)
{
	queue->item_size = item_size;
	queue->capacity = capacity;
	queue->slots = sys_alloc(capacity * item_size);
	if (timed)
		queue->since = sys_alloc(capacity * sizeof(*queue->since));
	return queue->slots && (!timed || queue->since) ? 0 : -ENOMEM;
}

void queue_release(struct pipe_queue *queue)
{
	sys_free(queue->slots);
	sys_free(queue->since);
}

/* The position `by` after this one. */
static size_t after(const struct pipe_queue *queue, size_t at, size_t by)
{
	return at < queue->capacity - by ? at + by : at - (queue->capacity - by);
}

void queue_put(struct pipe_queue *queue, const char *items, size_t count, int64_t now)
{
	size_t tail = after(queue, queue->head, queue->count);
	size_t piece = queue->capacity - tail, i;

	if (count == 0)
		return;
	if (piece > count)
		piece = count;
	pipe_copy(queue_slot(queue, tail), items, piece * queue->item_size);
	if (count > piece)
		pipe_copy(queue->slots, items + piece * queue->item_size,
			(count - piece) * queue->item_size);
	for (i = 0; queue->since && i < count; i++)
		queue->since[after(queue, tail, i)] = now;
	queue->count += count;
}

void queue_copy(const struct pipe_queue *queue, char *to, size_t count)
{
	size_t piece = queue_piece(queue);

	if (piece > count)
		piece = count;
	pipe_copy(to, queue_slot(queue, queue->head), piece * queue->item_size);
	if (count > piece)
		pipe_copy(to + piece * queue->item_size, queue->slots,
			(count - piece) * queue->item_size);
}

void queue_advance(struct pipe_queue *queue, size_t count)
{
	queue->head = after(queue, queue->head, count);
	queue->count -= count;
}

/* The first looks cost least; then another thread on the same CPU is let through. */
#define QUICK_LOOKS 80

bool pipe_look_on(const atomic_uint *counter, unsigned before, int64_t ns)
{
	int64_t until = sys_time_add(sys_now(), ns);
	unsigned looks;

	for (looks = 0; atomic_load_explicit(counter, memory_order_relaxed) == before; looks++) {
		if (looks < QUICK_LOOKS)
			sys_relax();
		else if (sys_now() < until)
			sys_yield();
		else
			return false;
	}
	return true;
}
