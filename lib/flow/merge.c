/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Merges. One waiter drives a merge: it waits for one of the inputs, as long as all are
 * empty, or for the output. What it calls back moves as many values as a turn may, then
 * waits again. Between input and output the values are held, all of one input: so
 * nothing is lost if the output takes fewer than the input gave, and what is left when
 * the merge ends goes to the drop of that input.
 *
 * Inputs take turns in rounds. In a round each gives at most as many values as the
 * shortest that has any had at its beginning: whatever the others have, an input that
 * always has something supplies as much as they do. Since that is 32 at most, any 100k
 * outputs of k such inputs hold whole rounds of 68k values and more, two thirds of an
 * even share for each (S-FAN-9).
 */

#include "evwork/merge.h"

#include <limits.h>

#include "flow/chan.h"
#include "run/loop.h"

#define HELD_VALUES 32
/* More than this is not held, or moved in one turn, if values are large. */
#define HELD_BYTES 4096
#define TURN_BYTES 65536

struct evwork_merge {
	/* Fixed at creation. */
	unsigned made_in;               /* fork_here() when it was made */
	struct evwork_loop *loop;
	pthread_t thread;               /* the loop's */
	struct evwork_ctx *ctx;
	evwork_merge_done_fn done;
	void *arg;
	struct evwork_chan *output;
	struct evwork_chan **inputs;    /* all */
	size_t count;
	int most_held, most_moved;

	/* The loop's thread only, once it has started. */
	struct evwork_chan_waiter waiter;
	bool sending;                   /* it waits for the output to take a value */
	struct evwork_case send;
	struct evwork_case *cases;      /* of the inputs that have not ended, and the output */
	size_t live;                    /* how many inputs these are */
	size_t next;                    /* whose turn it is */
	int quota;                      /* what each gives in this round */
	char *held;
	int first, holds;               /* which of them are left to be sent */
	void (*drop)(void *value);      /* of the input they are from */
	bool calling;                   /* done runs, */
	bool doomed;                    /* and the merge was freed in it */

	atomic_bool over;               /* done has returned, too */
};

static void *held_value(const struct evwork_merge *merge, int i)
{
	return chan_value(merge->output->core, merge->held, (size_t)i);
}

static void hold(struct evwork_merge *merge, const struct evwork_chan *from, int count)
{
	merge->first = 0;
	merge->holds = count;
	merge->drop = from->core->drop;
}

/* The inputs. */

/* An input has ended. The others keep their order. */
static void remove_input(struct evwork_merge *merge, size_t i)
{
	merge->live--;
	memmove(&merge->cases[i], &merge->cases[i + 1],
		(merge->live - i) * sizeof(merge->cases[0]));
	if (merge->next > i)
		merge->next--;
}

/* How many values an input seems to have. Who sends without a buffer is found only by
 * trying, and has one. */
static size_t seems_to_have(const struct evwork_chan *input)
{
	return input->core->capacity ? chan_glance(input) : 1;
}

static void begin_round(struct evwork_merge *merge)
{
	size_t i, has, least = (size_t)merge->most_held;

	for (i = 0; i < merge->live; i++) {
		has = seems_to_have(merge->cases[i].chan);
		if (has && has < least)
			least = has;
	}
	merge->quota = (int)least;
	merge->next = 0;
}

/* Takes what the next input gives; false if none has anything, as far as it seems. */
static bool take_some(struct evwork_merge *merge)
{
	size_t looks;
	int rc;

	for (looks = 0; looks <= merge->live && merge->live; looks++) {
		struct evwork_chan *input;

		if (merge->next >= merge->live)
			begin_round(merge);
		input = merge->cases[merge->next++].chan;
		if (!seems_to_have(input))
			continue;
		rc = chan_try_receive(input, merge->held, merge->quota);
		if (rc > 0) {
			hold(merge, input, rc);
			return true;
		}
		if (rc != -EAGAIN)
			remove_input(merge, merge->next - 1);
	}
	return false;
}

/* Waiting. */

static int wait_for(struct evwork_merge *merge, struct evwork_case *cases, size_t count)
{
	return cases_begin(&merge->waiter, cases, count, merge->ctx, merge->loop);
}

/* For the first value, the end of an input, or the output to be given up. */
static int wait_for_input(struct evwork_merge *merge)
{
	struct evwork_case *gone = &merge->cases[merge->live];

	merge->sending = false;
	*gone = evwork_send_case(merge->output, NULL);
	gone->op = CASE_GONE;
	return wait_for(merge, merge->cases, merge->live + 1);
}

/* For the output to take the next value. If it does at once, this is how the merge goes on
 * in the next turn. */
static int wait_for_output(struct evwork_merge *merge)
{
	merge->sending = true;
	merge->send = evwork_send_case(merge->output, held_value(merge, merge->first));
	return wait_for(merge, &merge->send, 1);
}

/* A wait has ended with this: 0, or the error that ends the merge. */
static int after_wait(struct evwork_merge *merge, int result)
{
	struct evwork_case *one;

	if (result < 0)
		return result;
	if (merge->sending) {
		if (merge->send.status == 0) {
			merge->first++;
			merge->holds--;
		}
		return merge->send.status;
	}
	one = &merge->cases[result];
	if ((size_t)result == merge->live)
		return one->status;
	if (one->status == 1) {
		hold(merge, one->chan, 1);
		/* It had its turn. */
		begin_round(merge);
		merge->next = (size_t)result + 1;
	} else {
		remove_input(merge, (size_t)result);
	}
	return 0;
}

/* Moves what a turn may. 0: and waits for more. 1: all inputs have ended and all is sent.
 * Or an error. */
static int move_values(struct evwork_merge *merge)
{
	int moved = 0, rc;

	for (;;) {
		if (!merge->holds && !take_some(merge))
			return merge->live ? wait_for_input(merge) : 1;
		if (moved >= merge->most_moved)
			return wait_for_output(merge);
		rc = chan_try_send(merge->output, held_value(merge, merge->first), merge->holds);
		if (rc == -EAGAIN)
			return wait_for_output(merge);
		if (rc < 0)
			return rc;
		merge->first += rc;
		merge->holds -= rc;
		moved += rc;
	}
}

/* The end. */

static void let_go_of_channels(struct evwork_merge *merge)
{
	size_t i;

	for (i = 0; i < merge->count; i++)
		chan_release(merge->inputs[i]);
	chan_release(merge->output);
}

/* Sends on an end that was closed give -EPIPE, too, if it was the last of its stream. */
static bool was_closed(const struct evwork_merge *merge)
{
	const struct evwork_chan *output = merge->output;
	bool closed;

	chan_lock(output->core);
	closed = !(output->open & EVWORK_CHAN_SEND) && output->core->open_receivers;
	chan_unlock(output->core);
	return closed;
}

static void release(struct evwork_merge *merge)
{
	sys_free(merge->inputs);
	sys_free(merge->cases);
	sys_free(merge->held);
	evwork_ctx_unref(merge->ctx);
	sys_free(merge);
}

/* The merge stays until done has returned, also if it is freed in it. */
static void call_done(struct evwork_merge *merge, int status)
{
	unsigned made_in = merge->made_in;

	merge->calling = true;
	merge->done(merge, status, merge->arg);
	/* In a child that was made in it nothing is touched. */
	if (made_in != fork_here())
		return;
	merge->calling = false;
	if (merge->doomed)
		release(merge);
	else
		/* Release: pairs with the acquire of who frees it. */
		atomic_store_explicit(&merge->over, true, memory_order_release);
}

static void end(struct evwork_merge *merge, int status)
{
	struct evwork_loop *loop = merge->loop;
	unsigned made_in = merge->made_in;
	bool calls;
	size_t i;

	if (status == -EPIPE && was_closed(merge))
		status = -ESHUTDOWN;
	/* The loop must stay, whatever a drop does. */
	loop_enter_following(loop);
	while (merge->drop && merge->holds) {
		merge->holds--;
		merge->drop(held_value(merge, merge->first++));
		/* In a child that was made in it nothing is touched. */
		if (made_in != fork_here())
			return;
	}
	for (i = 0; i < merge->count; i++)
		evwork_chan_abandon(merge->inputs[i]);
	evwork_chan_close(merge->output);
	let_go_of_channels(merge);
	evwork_ctx_unref(merge->ctx);
	merge->ctx = NULL;
	calls = merge->done && !loop->orphaned;
	loop_leave(loop, true);
	if (calls)
		call_done(merge, status);
	else
		/* Release: as in call_done. */
		atomic_store_explicit(&merge->over, true, memory_order_release);
}

static void on_wait(struct evwork_chan_waiter *waiter, int result)
{
	struct evwork_merge *merge = EVWORK_CONTAINER(waiter, struct evwork_merge, waiter);
	int rc = after_wait(merge, result);

	if (rc == 0) {
		rc = move_values(merge);
		/* Before the loop could tell the waiter so. */
		if (rc == -ESHUTDOWN && atomic_load(&merge->loop->closing))
			rc = -ECANCELED;
	}
	if (rc)
		end(merge, rc < 0 ? rc : 0);
}

static void on_lost(struct evwork_chan_waiter *waiter, int result)
{
	struct evwork_merge *merge = EVWORK_CONTAINER(waiter, struct evwork_merge, waiter);

	after_wait(merge, result);
	end(merge, -ECANCELED);
}

/* The beginning. */

static bool is_malformed(const struct evwork_merge_options *options)
{
	size_t i;

	if (!options->output || (options->count && !options->inputs) || options->count >= INT_MAX)
		return true;
	for (i = 0; i < options->count; i++) {
		const struct evwork_chan *input = options->inputs[i];

		if (!input || input->core == options->output->core ||
		    input->core->elem_size != options->output->core->elem_size)
			return true;
	}
	return false;
}

static int closed(struct evwork_chan *chan, enum evwork_case_op op)
{
	bool open;

	chan_lock(chan->core);
	open = chan->open & chan_end_for(op);
	chan_unlock(chan->core);
	return open ? 0 : -ESHUTDOWN;
}

static int check_ends(const struct evwork_merge_options *options)
{
	int rc = 0;
	size_t i;

	if (!(options->output->may & EVWORK_CHAN_SEND))
		return -EPERM;
	for (i = 0; i < options->count; i++) {
		if (!(options->inputs[i]->may & EVWORK_CHAN_RECV))
			return -EPERM;
	}
	if (chan_is_inherited(options->output))
		return -ESHUTDOWN;
	for (i = 0; i < options->count; i++) {
		if (chan_is_inherited(options->inputs[i]))
			return -ESHUTDOWN;
	}
	for (i = 0; rc == 0 && i < options->count; i++)
		rc = closed(options->inputs[i], EVWORK_RECV);
	return rc ? rc : closed(options->output, EVWORK_SEND);
}

static int check(struct evwork_loop *loop, const struct evwork_merge_options *options)
{
	int rc = is_malformed(options) ? -EINVAL : check_ends(options);

	if (rc)
		return rc;
	if (atomic_load_explicit(&loop->closing, memory_order_relaxed))
		return -ESHUTDOWN;
	return evwork_ctx_err(options->ctx);
}

/* As many values as are no more bytes than this, but at least one. */
static int at_most(int count, size_t elem_size, size_t bytes)
{
	if (elem_size == 0 || bytes / elem_size >= (size_t)count)
		return count;
	return bytes / elem_size ? (int)(bytes / elem_size) : 1;
}

static struct evwork_merge *make(struct evwork_loop *loop,
	const struct evwork_merge_options *options)
{
	struct evwork_merge *merge = sys_zalloc(sizeof(*merge));
	size_t elem_size = options->output->core->elem_size, count = options->count, i;

	if (!merge)
		return NULL;
	merge->made_in = fork_here();
	merge->loop = loop;
	merge->thread = loop->thread;
	merge->ctx = evwork_ctx_ref(options->ctx);
	merge->done = options->done;
	merge->arg = options->arg;
	merge->output = options->output;
	merge->count = merge->live = count;
	merge->most_held = at_most(HELD_VALUES, elem_size, HELD_BYTES);
	merge->most_moved = at_most(loop->batch, elem_size, TURN_BYTES);
	evwork_chan_waiter_init(&merge->waiter, on_wait);
	merge->waiter._lost = on_lost;
	if (count < SIZE_MAX / sizeof(merge->cases[0])) {
		merge->inputs = sys_alloc(count * sizeof(merge->inputs[0]) + 1);
		merge->cases = sys_alloc((count + 1) * sizeof(merge->cases[0]));
		merge->held = sys_alloc(elem_size * (size_t)merge->most_held + 1);
	}
	if (!merge->inputs || !merge->cases || !merge->held) {
		release(merge);
		return NULL;
	}
	for (i = 0; i < count; i++) {
		merge->inputs[i] = options->inputs[i];
		merge->cases[i] = evwork_recv_case(options->inputs[i], merge->held);
	}
	return merge;
}

/* From here on the loop's thread may be at it. */
static int begin(struct evwork_merge *merge)
{
	size_t i;
	int rc;

	for (i = 0; i < merge->count; i++)
		chan_hold(merge->inputs[i]);
	chan_hold(merge->output);
	if (merge->count) {
		rc = wait_for_input(merge);
	} else {
		merge->cases[0] = evwork_send_case(merge->output, NULL);
		merge->cases[0].op = CASE_NOW;
		rc = wait_for(merge, merge->cases, 1);
	}
	if (rc)
		let_go_of_channels(merge);
	return rc;
}

int evwork_merge_start(struct evwork_loop *loop, const struct evwork_merge_options *options,
	struct evwork_merge **ret_merge)
{
	struct evwork_merge *merge, *before;
	int rc = loop && options && ret_merge ? check(loop, options) : -EINVAL;

	if (rc)
		return rc;
	merge = make(loop, options);
	if (!merge)
		return -ENOMEM;
	/* It may have ended when begin returns, and the place may be gone. */
	before = *ret_merge;
	*ret_merge = merge;
	rc = begin(merge);
	if (rc) {
		*ret_merge = before;
		release(merge);
	}
	return rc;
}

int evwork_merge_free(struct evwork_merge *merge)
{
	if (!merge)
		return 0;
	/* In the child of a fork nobody is at it. */
	if (merge->made_in != fork_here()) {
		release(merge);
		return 0;
	}
	/* Only the loop's thread asks for `calling`. */
	if (pthread_equal(merge->thread, pthread_self()) && merge->calling) {
		merge->doomed = true;
		return 0;
	}
	/* Acquire: pairs with the release of the end. */
	if (!atomic_load_explicit(&merge->over, memory_order_acquire))
		return -EBUSY;
	release(merge);
	return 0;
}
