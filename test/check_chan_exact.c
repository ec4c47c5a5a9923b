/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Channels at random on one thread, against a model that says exactly what each call and
 * each callback gives. The lots of selects are drawn from the seed, too, so that
 * EVWORK_STRESS_SEED repeats a run exactly.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "chan_scene.h"

#include "flow/chan.h"

#define CHANS 2
#define ENDS 4             /* of a channel; the first is made with it */
#define PARTIES 6
#define CTXS 3
#define ROOM 4             /* the most a channel holds */
#define CASES 3


/* The model. */

struct end {
	struct evwork_chan *real;          /* NULL: there is none */
	unsigned may, open;
	int chan, held;
};

struct line {                              /* cases that are parked, oldest first */
	struct { int party, at; } cases[PARTIES * CASES];
	int count;
};

struct channel {
	int capacity, ends, senders, receivers, peak;
	int64_t values[ROOM];
	int length;
	struct line lines[2];              /* EVWORK_SEND, EVWORK_RECV */
};

struct part {
	struct evwork_chan_waiter waiter;
	int number;
	enum { IDLE, PARKED, SERVED } state;
	bool single;
	int ctx, count, result;
	struct end *ends[CASES];           /* NULL: a case without a channel */
	enum evwork_case_op ops[CASES];
	int statuses[CASES];
	int64_t values[CASES];             /* to send; or that must have been received */
	bool listed[CASES];
	/* Real. */
	struct evwork_case cases[CASES];
	int64_t buffers[CASES];
	int calls;
};

static struct channel channels[CHANS];
static struct end ends[CHANS][ENDS];
static struct part parts[PARTIES];
static struct { struct evwork_ctx *real; bool dead; } ctxs[CTXS];
static struct world world;
static int64_t last_value;
static int step;
/* What was dropped, and what is to be. */
static int64_t drops[CHANS * ROOM], due_drops[CHANS * ROOM];
static int drop_count, due_count;

#define same(real, model) do { \
	long long real_is = (real), model_is = (model); \
	expect(real_is == model_is, "%lld, and the model says %lld, in step %d", real_is, \
		model_is, step); \
} while (0)

static void on_drop(void *value)
{
	if (drop_count < CHANS * ROOM)
		drops[drop_count] = *(int64_t *)value;
	drop_count++;
}

static bool is_live(const struct part *part)
{
	return part->state == PARKED && (part->ctx < 0 || !ctxs[part->ctx].dead);
}

static void unlist(struct part *part, int at)
{
	struct line *line = &channels[part->ends[at]->chan].lines[part->ops[at]];
	int i, k = 0;

	for (i = 0; i < line->count; i++)
		if (line->cases[i].party != part->number || line->cases[i].at != at)
			line->cases[k++] = line->cases[i];
	line->count = k;
	part->listed[at] = false;
}

static void serve(struct part *part, int at, int status)
{
	part->state = SERVED;
	part->result = at;
	part->statuses[at] = status;
	unlist(part, at);
}

static struct part *first_live(int chan, enum evwork_case_op op, int *ret_at)
{
	struct line *line = &channels[chan].lines[op];
	int i;

	for (i = 0; i < line->count; i++) {
		if (is_live(&parts[line->cases[i].party])) {
			*ret_at = line->cases[i].at;
			return &parts[line->cases[i].party];
		}
	}
	return NULL;
}

static void push(struct channel *channel, int64_t value)
{
	channel->values[channel->length++] = value;
	if (channel->length > channel->peak)
		channel->peak = channel->length;
}

static int model_send(struct end *end, int64_t value)
{
	struct channel *channel = &channels[end->chan];
	struct part *peer;
	int at;

	if (!(end->may & EVWORK_CHAN_SEND))
		return -EPERM;
	if (!channel->senders || !channel->receivers)
		return -EPIPE;
	if (!(end->open & EVWORK_CHAN_SEND))
		return -ESHUTDOWN;
	peer = first_live(end->chan, EVWORK_RECV, &at);
	if (peer) {
		peer->values[at] = value;
		serve(peer, at, 1);
		return 0;
	}
	if (channel->length == channel->capacity)
		return -EAGAIN;
	push(channel, value);
	return 0;
}

static int model_receive(struct end *end, int64_t *ret_value)
{
	struct channel *channel = &channels[end->chan];
	struct part *peer;
	int at;

	if (!(end->may & EVWORK_CHAN_RECV))
		return -EPERM;
	if (!(end->open & EVWORK_CHAN_RECV))
		return -ESHUTDOWN;
	peer = first_live(end->chan, EVWORK_SEND, &at);
	if (channel->length) {
		*ret_value = channel->values[0];
		channel->length--;
		memmove(channel->values, channel->values + 1,
			(size_t)channel->length * sizeof(int64_t));
		if (peer)
			push(channel, peer->values[at]);
	} else if (peer) {
		*ret_value = peer->values[at];
	} else {
		return channel->senders ? -EAGAIN : 0;
	}
	if (peer)
		serve(peer, at, 0);
	return 1;
}

static int model_do(struct part *part, int at)
{
	return part->ops[at] == EVWORK_SEND ? model_send(part->ends[at], part->values[at]) :
		model_receive(part->ends[at], &part->values[at]);
}

/* Whether a case could be done, without doing it. */
static bool model_ready(const struct part *part, int i)
{
	const struct end *end = part->ends[i];
	const struct channel *channel;
	int at;

	if (!end)
		return false;
	channel = &channels[end->chan];
	if (part->ops[i] == EVWORK_SEND)
		return !channel->senders || !channel->receivers ||
			!(end->open & EVWORK_CHAN_SEND) || channel->length < channel->capacity ||
			first_live(end->chan, EVWORK_RECV, &at);
	return !channel->senders || !(end->open & EVWORK_CHAN_RECV) || channel->length ||
		first_live(end->chan, EVWORK_SEND, &at);
}

static void hold(struct part *part, int by)
{
	int i;

	for (i = 0; i < part->count; i++)
		if (part->ends[i])
			part->ends[i]->held += by;
}

static void park(struct part *part)
{
	int i;

	part->state = PARKED;
	for (i = 0; i < part->count; i++) {
		struct line *line;

		if (!part->ends[i])
			continue;
		line = &channels[part->ends[i]->chan].lines[part->ops[i]];
		line->cases[line->count].party = part->number;
		line->cases[line->count++].at = i;
		part->listed[i] = true;
	}
}

static void release(struct part *part)
{
	int i;

	for (i = 0; i < part->count; i++)
		if (part->listed[i])
			unlist(part, i);
	hold(part, -1);
	part->state = IDLE;
}

/* All who are parked in a line, or for one end; with the contexts they have. */
static void end_line(int chan, enum evwork_case_op op, const struct end *end, int status)
{
	struct line line = channels[chan].lines[op];
	int i;

	for (i = 0; i < line.count; i++) {
		struct part *part = &parts[line.cases[i].party];

		if (part->state == PARKED && (!end || part->ends[line.cases[i].at] == end))
			serve(part, line.cases[i].at, status);
	}
}

static void drop_all(struct channel *channel)
{
	int i;

	for (i = 0; i < channel->length; i++)
		due_drops[due_count++] = channel->values[i];
	channel->length = 0;
}

/* Callbacks. */

static void part_called(struct evwork_chan_waiter *waiter, int result)
{
	struct part *part = EVWORK_CONTAINER(waiter, struct part, waiter);
	int at = part->result;

	same(part->calls, 0);
	part->calls++;
	if (part->state == PARKED) {
		same(part->ctx >= 0 && ctxs[part->ctx].dead, 1);
		same(result, -ECANCELED);
	} else {
		same(part->state, SERVED);
		same(result, part->single ? part->statuses[at] : at);
		if (!part->single)
			same(part->cases[at].status, part->statuses[at]);
		if (part->ops[at] == EVWORK_RECV && part->statuses[at] == 1)
			same(part->buffers[at], part->values[at]);
	}
	release(part);
}

static void do_turn(void)
{
	bool due[PARTIES];
	int i;

	for (i = 0; i < PARTIES; i++) {
		due[i] = parts[i].state == SERVED || (parts[i].state == PARKED && !is_live(&parts[i]));
		parts[i].calls = 0;
	}
	world_turns(&world, 2);
	for (i = 0; i < PARTIES; i++)
		same(parts[i].calls, due[i]);
}

/* Operations. */

static struct end *any_end(void)
{
	struct end *end = &ends[chance(CHANS)][chance(ENDS)];

	return end->real ? end : NULL;
}

static void do_send(struct end *end)
{
	int64_t values[4];
	int count = chance(3) ? 1 : 1 + chance(4), i, rc = 0, moved = 0;

	for (i = 0; i < count; i++)
		values[i] = ++last_value;
	for (i = 0; i < count && (rc = model_send(end, values[i])) == 0; i++)
		moved++;
	if (count == 1)
		same(try_send(end->real, values[0]), rc);
	else
		same(evwork_chan_try_send_many(end->real, values, count), moved ? moved : rc);
}

static void do_receive(struct end *end)
{
	int64_t values[4] = { 0 }, expected[4];
	int count = chance(3) ? 1 : 1 + chance(4), i, rc = 1, moved = 0;

	for (i = 0; i < count && (rc = model_receive(end, &expected[i])) == 1; i++)
		moved++;
	if (count == 1)
		same(evwork_chan_try_recv(end->real, values), rc);
	else
		same(evwork_chan_try_recv_many(end->real, values, count), moved ? moved : rc);
	for (i = 0; i < moved; i++)
		same(values[i], expected[i]);
}

static void draw_case(struct part *part, int i, struct end *end, enum evwork_case_op op)
{
	part->ends[i] = end;
	part->ops[i] = op;
	part->values[i] = part->buffers[i] = op == EVWORK_SEND ? ++last_value : 0;
	part->cases[i] = op == EVWORK_SEND ?
		evwork_send_case(end ? end->real : NULL, &part->buffers[i]) :
		evwork_recv_case(end ? end->real : NULL, &part->buffers[i]);
	part->listed[i] = false;
}

static int ctx_error(const struct part *part)
{
	return part->ctx >= 0 && ctxs[part->ctx].dead ? -ECANCELED : 0;
}

static struct evwork_ctx *real_ctx(const struct part *part)
{
	return part->ctx >= 0 ? ctxs[part->ctx].real : NULL;
}

/* A send or a receive with a callback. */
static void do_single(struct part *part, struct end *end)
{
	enum evwork_case_op op = chance(2) ? EVWORK_SEND : EVWORK_RECV;
	struct channel *channel = &channels[end->chan];
	int rc, real;
	bool shut;

	part->single = true;
	part->count = 1;
	part->ctx = chance(3) ? -1 : chance(CTXS);
	draw_case(part, 0, end, op);
	real = op == EVWORK_SEND ? evwork_chan_send(end->real, &part->buffers[0], real_ctx(part),
			world.loop, &part->waiter) :
		evwork_chan_recv(end->real, &part->buffers[0], real_ctx(part), world.loop,
			&part->waiter);
	shut = !(end->open & chan_end_for(op)) &&
		(op == EVWORK_RECV || (channel->senders && channel->receivers));
	rc = !(end->may & chan_end_for(op)) ? -EPERM : shut ? -ESHUTDOWN : ctx_error(part);
	same(real, rc);
	if (rc)
		return;
	hold(part, 1);
	rc = model_do(part, 0);
	if (rc == -EAGAIN) {
		park(part);
		return;
	}
	part->state = SERVED;
	part->result = 0;
	part->statuses[0] = rc;
}

/* What a select of part, which may not be pending, does first: the model follows its lot. */
static int follow(struct part *part, int chosen)
{
	expect(chosen >= 0 && chosen < part->count && model_ready(part, chosen),
		"case %d was not ready, in step %d", chosen, step);
	part->statuses[chosen] = model_do(part, chosen);
	same(part->cases[chosen].status, part->statuses[chosen]);
	return chosen;
}

static void do_select(struct part *part, bool tries)
{
	int i, ready = 0, bad = 0, rc, real;

	part->single = false;
	part->count = 1 + chance(CASES);
	part->ctx = chance(3) ? -1 : chance(CTXS);
	for (i = 0; i < part->count; i++) {
		draw_case(part, i, chance(8) ? any_end() : NULL,
			chance(2) ? EVWORK_SEND : EVWORK_RECV);
		if (part->ends[i] && !(part->ends[i]->may & chan_end_for(part->ops[i])))
			bad = -EPERM;
		ready += model_ready(part, i);
	}
	rc = bad ? bad : tries ? 0 : ctx_error(part);
	if (tries) {
		real = evwork_select_try(part->cases, (size_t)part->count);
		if (rc == 0 && ready == 0)
			rc = -EAGAIN;
		if (rc) {
			same(real, rc);
			return;
		}
		real = follow(part, real);
		if (part->ops[real] == EVWORK_RECV && part->statuses[real] == 1)
			same(part->buffers[real], part->values[real]);
		return;
	}
	real = evwork_select(part->cases, (size_t)part->count, real_ctx(part), world.loop,
		&part->waiter);
	same(real, rc);
	if (rc)
		return;
	hold(part, 1);
	if (ready == 0) {
		park(part);
		return;
	}
	part->state = SERVED;
	/* The lot, which the callback will tell, is known only inside. */
	part->result = follow(part, part->waiter._wait.result);
}

static void do_close(struct end *end)
{
	struct channel *channel = &channels[end->chan];
	int real = evwork_chan_close(end->real);

	if (!(end->may & EVWORK_CHAN_SEND)) {
		same(real, -EPERM);
	} else if (!(end->open & EVWORK_CHAN_SEND)) {
		same(real, -EALREADY);
	} else {
		same(real, 0);
		end->open &= ~EVWORK_CHAN_SEND;
		channel->senders--;
		end_line(end->chan, EVWORK_SEND, end, channel->senders ? -ESHUTDOWN : -EPIPE);
		if (channel->senders == 0 && channel->length == 0)
			end_line(end->chan, EVWORK_RECV, NULL, 0);
	}
}

static void do_abandon(struct end *end)
{
	struct channel *channel = &channels[end->chan];
	int real = evwork_chan_abandon(end->real);

	if (!(end->may & EVWORK_CHAN_RECV)) {
		same(real, -EPERM);
	} else if (!(end->open & EVWORK_CHAN_RECV)) {
		same(real, -EALREADY);
	} else {
		same(real, 0);
		end->open &= ~EVWORK_CHAN_RECV;
		channel->receivers--;
		end_line(end->chan, EVWORK_RECV, end, -ESHUTDOWN);
		if (channel->receivers == 0) {
			end_line(end->chan, EVWORK_SEND, NULL, -EPIPE);
			drop_all(channel);
		}
	}
}

static void do_clone(struct end *from)
{
	struct end *to = &ends[from->chan][1 + chance(ENDS - 1)];
	unsigned what = 1 + (unsigned)chance(3);
	struct evwork_chan *clone = NULL;
	int real;

	if (to->real)
		return;
	real = evwork_chan_clone(from->real, what, &clone);
	same(real, what & ~from->may ? -EPERM : what & ~from->open ? -ESHUTDOWN : 0);
	if (real)
		return;
	to->real = clone;
	to->may = to->open = what;
	to->held = 0;
	channels[from->chan].ends++;
	channels[from->chan].senders += (what & EVWORK_CHAN_SEND) != 0;
	channels[from->chan].receivers += (what & EVWORK_CHAN_RECV) != 0;
}

static void do_free(struct end *end)
{
	struct channel *channel = &channels[end->chan];
	int sends = (end->open & EVWORK_CHAN_SEND) != 0;
	int receives = (end->open & EVWORK_CHAN_RECV) != 0;
	bool others = channel->senders > sends || channel->receivers > receives;
	int real = evwork_chan_free(end->real);

	same(real, end->held || (end->open && others) ? -EBUSY : 0);
	if (real)
		return;
	if (receives)
		drop_all(channel);
	channel->senders -= sends;
	channel->receivers -= receives;
	channel->ends--;
	end->real = NULL;
}

static void make_channel(int chan)
{
	static const int capacities[] = { 0, 0, 1, 2, ROOM };
	struct channel *channel = &channels[chan];
	struct end *end = &ends[chan][0];

	memset(channel, 0, sizeof(*channel));
	channel->capacity = capacities[chance(5)];
	channel->ends = channel->senders = channel->receivers = 1;
	memset(ends[chan], 0, sizeof(ends[chan]));
	end->may = end->open = EVWORK_CHAN_SEND | EVWORK_CHAN_RECV;
	same(evwork_chan_new(sizeof(int64_t), (size_t)channel->capacity, on_drop, &end->real), 0);
	for (end = ends[chan]; end < ends[chan] + ENDS; end++)
		end->chan = chan;
}

static void do_stop(struct part *part)
{
	int real = evwork_chan_stop(&part->waiter);

	same(real, part->state == IDLE ? -ESRCH : part->state == PARKED ? 0 : -EALREADY);
	if (real == 0)
		release(part);
}

static void do_cancel(int i)
{
	if (ctxs[i].dead) {
		int k;

		/* A new one, once nobody has the old. */
		for (k = 0; k < PARTIES; k++)
			if (parts[k].state != IDLE && parts[k].ctx == i)
				return;
		evwork_ctx_unref(ctxs[i].real);
		same(evwork_ctx_new(NULL, &ctxs[i].real), 0);
		ctxs[i].dead = false;
		return;
	}
	same(evwork_ctx_cancel(ctxs[i].real, 0), 0);
	ctxs[i].dead = true;
}

static void operate(void)
{
	struct part *part = &parts[chance(PARTIES)];
	struct end *end = any_end();
	int kind = chance(64);

	if (kind < 3)
		do_turn();
	else if (kind < 5)
		do_stop(part);
	else if (kind < 8)
		do_cancel(chance(CTXS));
	else if (!end)
		return;
	else if (kind < 24)
		do_send(end);
	else if (kind < 40)
		do_receive(end);
	else if (kind < 56) {
		if (part->state != IDLE)
			same(evwork_chan_recv(end->real, &(int64_t){ 0 }, NULL, world.loop,
				&part->waiter),
				end->may & EVWORK_CHAN_RECV ? -EBUSY : -EPERM);
		else if (kind < 46)
			do_single(part, end);
		else
			do_select(part, kind < 51);
	} else if (kind < 57)
		do_close(end);
	else if (kind < 58)
		do_abandon(end);
	else if (kind < 62)
		do_clone(end);
	else
		do_free(end);
}

/* What can be seen of the channels at any time. */
static void compare(void)
{
	struct evwork_chan_stats stats;
	int chan, i;

	same(drop_count, due_count);
	for (i = 0; i < due_count; i++)
		same(drops[i], due_drops[i]);
	drop_count = due_count = 0;
	for (chan = 0; chan < CHANS; chan++) {
		const struct channel *channel = &channels[chan];

		for (i = 0; i < ENDS && !ends[chan][i].real; i++)
			;
		if (i == ENDS) {
			make_channel(chan);
			continue;
		}
		same(evwork_chan_stats(ends[chan][i].real, &stats), 0);
		same((long long)stats.length, channel->length);
		same((long long)stats.peak, channel->peak);
		same((long long)stats.senders, channel->lines[EVWORK_SEND].count);
		same((long long)stats.receivers, channel->lines[EVWORK_RECV].count);
	}
}

static void end_all(void)
{
	int chan, i;

	for (i = 0; i < PARTIES; i++)
		if (parts[i].state == PARKED)
			do_stop(&parts[i]);
	do_turn();
	for (chan = 0; chan < CHANS; chan++) {
		for (i = 0; i < ENDS; i++) {
			if (!ends[chan][i].real)
				continue;
			do_close(&ends[chan][i]);
			do_abandon(&ends[chan][i]);
		}
		for (i = 0; i < ENDS; i++)
			if (ends[chan][i].real)
				do_free(&ends[chan][i]);
	}
}

/* Each call and each callback gives exactly what the model says: values, statuses, order,
 * refusals, drops and statistics (S-CHAN-1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12,
 * -15, -16, -17, -18, S-GEN-3, -4, -7, -18). */
START_TEST(as_the_model_says)
{
	int steps = scaled(2000000), i;

	chance_seed(0);
	cases_seed(stress_seed | 1);
	world_open(&world, 1);
	for (i = 0; i < CTXS; i++)
		ck_assert_int_eq(evwork_ctx_new(NULL, &ctxs[i].real), 0);
	for (i = 0; i < PARTIES; i++) {
		evwork_chan_waiter_init(&parts[i].waiter, part_called);
		parts[i].number = i;
	}
	for (i = 0; i < CHANS; i++)
		make_channel(i);
	for (step = 1; step <= steps; step++) {
		operate();
		compare();
	}
	end_all();
	for (i = 0; i < CTXS; i++)
		evwork_ctx_unref(ctxs[i].real);
	world_close(&world);
	support_note("%d steps, %lld values", steps, (long long)last_value);
}
END_TEST

static Suite *exact_suite(void)
{
	Suite *suite = suite_create("chan_exact");
	TCase *tcase = support_case(suite, "model");

	tcase_add_test(tcase, as_the_model_says);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(exact_suite());
}
