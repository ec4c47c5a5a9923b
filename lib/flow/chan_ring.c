/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The ring of a channel, and the short ways: sends and receives that take one lock, as
 * there is room, or a value, and nobody waits.
 */

#include "flow/chan.h"

static inline char *slot(const struct chan_core *core, uint64_t number)
{
	return core->slots + number * core->elem_size;
}

/* Copies count values between memory and the ring, which may go round its end. Returns
 * the slot after the last. */
static inline uint64_t put_values(struct chan_core *core, uint64_t at, const char *from,
	size_t count)
{
	size_t size = core->elem_size, first = core->capacity - at;

	if (count == 1) {
		chan_copy(slot(core, at), from, size);
	} else if (count <= first) {
		chan_copy(slot(core, at), from, count * size);
	} else {
		chan_copy(slot(core, at), from, first * size);
		chan_copy(core->slots, chan_value(core, from, first), (count - first) * size);
	}
	return count < first ? at + count : count - first;
}

static inline uint64_t take_values(struct chan_core *core, uint64_t at, char *to, size_t count)
{
	size_t size = core->elem_size, first = core->capacity - at;

	if (count == 1) {
		chan_copy(to, slot(core, at), size);
	} else if (count <= first) {
		chan_copy(to, slot(core, at), count * size);
	} else {
		chan_copy(to, slot(core, at), first * size);
		chan_copy(chan_value(core, to, first), core->slots, (count - first) * size);
	}
	return count < first ? at + count : count - first;
}

static inline void note_peak(struct chan_core *core, uint64_t tail)
{
	uint64_t peak = atomic_load_explicit(&core->peak, memory_order_relaxed);

	/* What was seen of the head last makes the channel fuller than it is. */
	if (tail - core->head_seen <= peak)
		return;
	core->head_seen = atomic_load_explicit(&core->head, memory_order_acquire);
	if (tail - core->head_seen > peak)
		atomic_store_explicit(&core->peak, tail - core->head_seen, memory_order_relaxed);
}

static inline size_t put(struct chan_core *core, const void *values, size_t count)
{
	uint64_t tail = atomic_load_explicit(&core->tail, memory_order_relaxed);
	size_t room = core->capacity - (size_t)(tail - core->head_seen);

	if (room < count) {
		/* Acquire: what was in these slots has been read. */
		core->head_seen = atomic_load_explicit(&core->head, memory_order_acquire);
		room = core->capacity - (size_t)(tail - core->head_seen);
	}
	if (room < count)
		count = room;
	if (count == 0)
		return 0;
	core->tail_slot = put_values(core, core->tail_slot, values, count);
	tail += count;
	note_peak(core, tail);
	atomic_store_explicit(&core->tail, tail, memory_order_release);
	return count;
}

static inline size_t take(struct chan_core *core, void *values, size_t count)
{
	uint64_t head = atomic_load_explicit(&core->head, memory_order_relaxed);
	size_t there = (size_t)(core->tail_seen - head);

	if (there < count) {
		/* Acquire: what was put into these slots is seen. */
		core->tail_seen = atomic_load_explicit(&core->tail, memory_order_acquire);
		there = (size_t)(core->tail_seen - head);
	}
	if (there < count)
		count = there;
	if (count == 0)
		return 0;
	core->head_slot = take_values(core, core->head_slot, values, count);
	atomic_store_explicit(&core->head, head + count, memory_order_release);
	return count;
}

/* [under both locks] The oldest value, which is there, is no more. */
static void skip(struct chan_core *core)
{
	uint64_t head = atomic_load_explicit(&core->head, memory_order_relaxed) + 1;

	core->head_slot = core->head_slot + 1 < core->capacity ? core->head_slot + 1 : 0;
	/* It may have been put after the receivers' side looked last. */
	if (core->tail_seen < head)
		core->tail_seen = head;
	/* Release: as in take, although nothing was read. */
	atomic_store_explicit(&core->head, head, memory_order_release);
}

size_t chan_put(struct chan_core *core, const void *values, size_t count)
{
	return put(core, values, count);
}

size_t chan_take(struct chan_core *core, void *values, size_t count)
{
	return take(core, values, count);
}

/* The short ways. -EAGAIN, or how many; *ret_special: it must be tried the long way. */

static int send_short(struct evwork_chan *chan, const void *values, size_t count,
	bool *ret_special)
{
	struct chan_core *core = chan->core;
	size_t moved = 0;
	bool open;

	sys_lock(&core->senders_lock);
	open = chan->open & EVWORK_CHAN_SEND;
	*ret_special = core->special;
	if (!core->special && open)
		moved = put(core, values, count);
	sys_unlock(&core->senders_lock);
	return moved ? (int)moved : open ? -EAGAIN : -ESHUTDOWN;
}

static int receive_short(struct evwork_chan *chan, void *values, size_t count,
	bool *ret_special)
{
	struct chan_core *core = chan->core;
	size_t moved = 0;
	bool open;

	sys_lock(&core->receivers_lock);
	open = chan->open & EVWORK_CHAN_RECV;
	*ret_special = core->special;
	if (!core->special && open)
		moved = take(core, values, count);
	sys_unlock(&core->receivers_lock);
	return moved ? (int)moved : open ? -EAGAIN : -ESHUTDOWN;
}

/* The long way, one value after the other: how many, or the status of the first. */
static int move_long(struct evwork_case *one, int count)
{
	struct wake_list wakes = { NULL };
	struct chan_core *core = one->chan->core;
	int moved = 0, status = -EAGAIN;

	chan_lock(core);
	while (moved < count && chan_case_commit(one, &wakes)) {
		status = one->status;
		if (status < 0 || (status == 0 && one->op == EVWORK_RECV))
			break;
		one->value = chan_value(core, one->value, 1);
		moved++;
	}
	chan_unlock(core);
	chan_wake_all(&wakes);
	return moved ? moved : status;
}

int chan_send_over(struct evwork_chan *chan, const void *value, void *oldest)
{
	struct evwork_case one = evwork_send_case(chan, value);
	struct wake_list wakes = { NULL };
	struct chan_core *core = chan->core;
	int displaced = 0;

	chan_lock(core);
	if (core->open_receivers && chan_length(core) == core->capacity) {
		if (oldest)
			take(core, oldest, 1);
		else
			skip(core);
		displaced = 1;
	}
	chan_case_commit(&one, &wakes);
	chan_unlock(core);
	chan_wake_all(&wakes);
	return one.status ? one.status : displaced;
}

int chan_try_send(struct evwork_chan *chan, const void *values, int count)
{
	struct evwork_case one;
	bool special;
	int rc = send_short(chan, values, (size_t)count, &special);

	if (!special)
		return rc;
	one = evwork_send_case(chan, values);
	return move_long(&one, count);
}

int chan_try_receive(struct evwork_chan *chan, void *values, int count)
{
	struct evwork_case one;
	bool special;
	int rc = receive_short(chan, values, (size_t)count, &special);

	if (!special)
		return rc;
	one = evwork_recv_case(chan, values);
	return move_long(&one, count);
}

int chan_shut_or(struct evwork_chan *chan, enum evwork_case_op op, int err)
{
	bool shut;

	chan_lock(chan->core);
	shut = chan_end_is_shut(chan, op);
	chan_unlock(chan->core);
	return shut ? -ESHUTDOWN : err;
}

int evwork_chan_try_send(struct evwork_chan *chan, const void *value)
{
	int rc = chan_check(chan, EVWORK_SEND, value);

	if (rc == 0)
		rc = chan_try_send(chan, value, 1);
	return rc == 1 ? 0 : rc;
}

int evwork_chan_try_recv(struct evwork_chan *chan, void *value)
{
	int rc = chan_check(chan, EVWORK_RECV, value);

	return rc ? rc : chan_try_receive(chan, value, 1);
}

int evwork_chan_try_send_many(struct evwork_chan *chan, const void *values, int count)
{
	int rc = count > 0 ? chan_check(chan, EVWORK_SEND, values) : -EINVAL;

	return rc ? rc : chan_try_send(chan, values, count);
}

int evwork_chan_try_recv_many(struct evwork_chan *chan, void *values, int count)
{
	int rc = count > 0 ? chan_check(chan, EVWORK_RECV, values) : -EINVAL;

	return rc ? rc : chan_try_receive(chan, values, count);
}
