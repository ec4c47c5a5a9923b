/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Channels at random: four threads and two loops send, receive, select, cancel, close,
 * abandon and clone, a million operations in all. Each value says who sent it to which
 * channel, and its number there; the model is a table of what was sent and what came of it.
 *
 * EVWORK_STRESS_SEED has each actor draw the same operations again. What they meet is up
 * to the scheduler; check_chan_exact.c has a run on one thread that repeats itself exactly.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "chan_scene.h"

#define THREADS 4
#define LOOPS 2
#define ACTORS (THREADS + LOOPS)
#define CHANS 3
#define PARTIES 6
#define NUMBERS 65536      /* of an actor on a channel in an epoch */
#define OPERATIONS 2500    /* of a thread in an epoch */
#define EPOCHS 100


struct actor {
	int who;
	uint64_t state;                        /* of its draws */
	struct evwork_chan *ends[CHANS];
	bool shut[CHANS];                      /* the end was closed or abandoned */
	bool over[CHANS];                      /* it has seen the end of the stream */
	int next[CHANS];                       /* number of the next value */
	int last[CHANS][ACTORS];               /* number received last from each */
	pthread_mutex_t mutex;                 /* covers ctx */
	struct evwork_ctx *ctx;                /* of what it waits for; others may cancel it */
};

static struct evwork_chan *roots[CHANS];
static struct actor actors[ACTORS];
/* What each did, and what came of it: in a receiver, or in drop. */
static unsigned char sent[ACTORS][CHANS][NUMBERS];
static atomic_uchar came[ACTORS][CHANS][NUMBERS];
static atomic_bool threads_over;
static atomic_int wrong, epoch;
static atomic_llong operations, transfers, drops;

/* All of an operation is drawn before it begins, so that the draws of an actor do not
 * depend on what it meets. */
static uint64_t draw(struct actor *actor)
{
	actor->state ^= actor->state << 13;
	actor->state ^= actor->state >> 7;
	actor->state ^= actor->state << 17;
	return actor->state * UINT64_C(2685821657736338717);
}

/* Takes a number below bound out of the bits. */
static unsigned part(uint64_t *bits, unsigned bound)
{
	unsigned taken = (unsigned)(*bits % bound);

	*bits /= bound;
	return taken;
}

/* Something is wrong; where it was seen first is told. */
#define fault() note_fault(__LINE__)

static void note_fault(int line)
{
	int none = 0;

	atomic_compare_exchange_strong(&wrong, &none, line);
}

/* Values. */

static int64_t value_of(int who, int chan, int number)
{
	return (int64_t)who << 32 | (int64_t)chan << 24 | number;
}

static int64_t next_value(struct actor *actor, int chan)
{
	if (actor->next[chan] == NUMBERS - 1)
		abort();
	return value_of(actor->who, chan, ++actor->next[chan]);
}

static void note_sent(int64_t value)
{
	sent[value >> 32][value >> 24 & 255][value & 0xffffff] = 1;
}

static void note_came(int64_t value)
{
	atomic_fetch_add_explicit(&came[value >> 32][value >> 24 & 255][value & 0xffffff], 1,
		memory_order_relaxed);
}

static void on_drop(void *value)
{
	note_came(*(int64_t *)value);
	atomic_fetch_add_explicit(&drops, 1, memory_order_relaxed);
}

/* Each receiver sees the values of a sender in their order, and none after the end. */
static void note_received(struct actor *actor, int chan, int64_t value)
{
	int who = (int)(value >> 32), number = (int)(value & 0xffffff);

	if ((value >> 24 & 255) != chan || number <= actor->last[chan][who] || actor->over[chan]) {
		fault();
		return;
	}
	actor->last[chan][who] = number;
	note_came(value);
	atomic_fetch_add_explicit(&transfers, 1, memory_order_relaxed);
}

/* What may come of a send and of a receive. */
static void check_send(int rc, int64_t value)
{
	if (rc == 0)
		note_sent(value);
	else if (rc != -EAGAIN && rc != -EPIPE && rc != -ESHUTDOWN && rc != -ECANCELED)
		fault();
}

static void check_receive(struct actor *actor, int chan, int rc, int64_t value)
{
	if (rc == 1)
		note_received(actor, chan, value);
	else if (rc == 0)
		actor->over[chan] = true;
	else if (rc != -EAGAIN && rc != -ESHUTDOWN && rc != -ECANCELED)
		fault();
}

/* Contexts. */

static struct evwork_ctx *new_ctx(struct actor *actor)
{
	struct evwork_ctx *ctx;

	if (evwork_ctx_new(NULL, &ctx) != 0)
		abort();
	pthread_mutex_lock(&actor->mutex);
	actor->ctx = ctx;
	pthread_mutex_unlock(&actor->mutex);
	return ctx;
}

static void end_ctx(struct actor *actor)
{
	struct evwork_ctx *ctx = actor->ctx;

	pthread_mutex_lock(&actor->mutex);
	actor->ctx = NULL;
	pthread_mutex_unlock(&actor->mutex);
	evwork_ctx_unref(ctx);
}

static void cancel(struct actor *actor)
{
	struct evwork_ctx *ctx;

	pthread_mutex_lock(&actor->mutex);
	ctx = evwork_ctx_ref(actor->ctx);
	pthread_mutex_unlock(&actor->mutex);
	if (ctx)
		evwork_ctx_cancel(ctx, 0);
	evwork_ctx_unref(ctx);
}

/* Operations of threads. */

static void send_one(struct actor *actor, int chan, bool waits)
{
	int64_t value = next_value(actor, chan);
	int rc = waits ? evwork_chan_send_wait(actor->ends[chan], &value, new_ctx(actor)) :
		evwork_chan_try_send(actor->ends[chan], &value);

	check_send(rc, value);
	if (waits)
		end_ctx(actor);
}

static void receive_one(struct actor *actor, int chan, bool waits)
{
	int64_t value = 0;
	int rc = waits ? evwork_chan_recv_wait(actor->ends[chan], &value, new_ctx(actor)) :
		evwork_chan_try_recv(actor->ends[chan], &value);

	check_receive(actor, chan, rc, value);
	if (waits)
		end_ctx(actor);
}

static void send_many(struct actor *actor, int chan, int count, bool waits)
{
	int64_t values[8];
	int i, rc;

	for (i = 0; i < count; i++)
		values[i] = next_value(actor, chan);
	rc = waits ? evwork_chan_send_many_wait(actor->ends[chan], values, count, new_ctx(actor)) :
		evwork_chan_try_send_many(actor->ends[chan], values, count);
	if (waits)
		end_ctx(actor);
	for (i = 0; i < rc; i++)
		note_sent(values[i]);
	if (rc <= 0)
		check_send(rc ? rc : 1, 0);
}

static void receive_many(struct actor *actor, int chan, int count, bool waits)
{
	int64_t values[8];
	int i, rc;

	rc = waits ? evwork_chan_recv_many_wait(actor->ends[chan], values, count, new_ctx(actor)) :
		evwork_chan_try_recv_many(actor->ends[chan], values, count);
	if (waits)
		end_ctx(actor);
	for (i = 0; i < rc; i++)
		note_received(actor, chan, values[i]);
	if (rc <= 0)
		check_receive(actor, chan, rc, 0);
}

/* Two or three cases, which are what they are by the bits. */
struct choice {
	struct evwork_case cases[3];
	int chans[3], count;
	int64_t values[3];
};

static void choose(struct choice *choice, struct actor *actor, uint64_t bits)
{
	int i;

	choice->count = 2 + (int)part(&bits, 2);
	for (i = 0; i < choice->count; i++) {
		int chan = choice->chans[i] = (int)part(&bits, CHANS);

		if (part(&bits, 2)) {
			choice->values[i] = next_value(actor, chan);
			choice->cases[i] = evwork_send_case(actor->ends[chan], &choice->values[i]);
		} else {
			choice->values[i] = 0;
			choice->cases[i] = evwork_recv_case(actor->ends[chan], &choice->values[i]);
		}
	}
}

static void check_choice(const struct choice *choice, struct actor *actor, int rc)
{
	int i;

	/* Of the cases that were not chosen none was done. */
	for (i = 0; i < choice->count; i++)
		if (i != rc && choice->cases[i].op == EVWORK_RECV && choice->values[i])
			fault();
	if (rc < 0)
		check_send(rc, 0);
	else if (choice->cases[rc].op == EVWORK_SEND)
		check_send(choice->cases[rc].status, choice->values[rc]);
	else
		check_receive(actor, choice->chans[rc], choice->cases[rc].status,
			choice->values[rc]);
}

static void select_one(struct actor *actor, uint64_t bits, bool waits)
{
	struct choice choice;
	int rc;

	choose(&choice, actor, bits);
	rc = waits ? evwork_select_wait(choice.cases, (size_t)choice.count, new_ctx(actor)) :
		evwork_select_try(choice.cases, (size_t)choice.count);
	if (waits)
		end_ctx(actor);
	check_choice(&choice, actor, rc);
}

/* Closes one side of the actor's end, or gets a new end for one that was. */
static void change_end(struct actor *actor, int chan, uint64_t bits)
{
	struct evwork_chan *end = actor->ends[chan], *clone;
	int rc;

	if (!actor->shut[chan]) {
		actor->shut[chan] = true;
		rc = part(&bits, 2) ? evwork_chan_close(end) : evwork_chan_abandon(end);
		if (rc)
			fault();
		return;
	}
	/* Not once the root was closed or abandoned. */
	rc = evwork_chan_clone(roots[chan], EVWORK_CHAN_SEND | EVWORK_CHAN_RECV, &clone);
	if (rc == 0) {
		evwork_chan_close(end);
		evwork_chan_abandon(end);
		if (evwork_chan_free(end) != 0)
			fault();
		actor->ends[chan] = clone;
		actor->shut[chan] = false;
	} else if (rc != -ESHUTDOWN) {
		fault();
	}
}

static void close_root(int chan, bool abandons)
{
	int rc = abandons ? evwork_chan_abandon(roots[chan]) : evwork_chan_close(roots[chan]);

	if (rc && rc != -EALREADY)
		fault();
}

static void operate(struct actor *actor)
{
	uint64_t bits = draw(actor);
	unsigned kind = part(&bits, 40), rare;
	int chan = (int)part(&bits, CHANS), count = 1 + (int)part(&bits, 8);

	rare = part(&bits, 256);
	if (kind < 13)
		send_one(actor, chan, kind == 0);
	else if (kind < 26)
		receive_one(actor, chan, kind == 13);
	else if (kind < 28)
		send_many(actor, chan, count, rare < 32);
	else if (kind < 30)
		receive_many(actor, chan, count, rare < 32);
	else if (kind < 37)
		select_one(actor, bits, kind == 30);
	else if (kind < 39)
		cancel(&actors[part(&bits, ACTORS)]);
	else if (rare < 2)
		close_root(chan, rare == 0);
	else
		change_end(actor, chan, bits);
}

/* Life of an actor in an epoch. */

static void actor_begin(struct actor *actor)
{
	int chan;

	actor->state = (stress_seed ^ ((uint64_t)atomic_load(&epoch) * ACTORS + (uint64_t)actor->who + 1) *
		UINT64_C(0x9e3779b97f4a7c15)) | 1;
	for (chan = 0; chan < CHANS; chan++) {
		actor->shut[chan] = actor->over[chan] = false;
		actor->next[chan] = 0;
		memset(actor->last[chan], 0, sizeof(actor->last[chan]));
	}
}

static void actor_end(struct actor *actor)
{
	int chan;

	for (chan = 0; chan < CHANS; chan++) {
		evwork_chan_close(actor->ends[chan]);
		evwork_chan_abandon(actor->ends[chan]);
		if (evwork_chan_free(actor->ends[chan]) != 0)
			fault();
	}
}

static void thread_act(void *arg)
{
	struct actor *actor = arg;
	int i;

	actor_begin(actor);
	for (i = 0; i < OPERATIONS; i++)
		operate(actor);
	atomic_fetch_add(&operations, OPERATIONS);
	actor_end(actor);
}

/* Loops: parties that send, receive or select, again and again. */

struct guest {
	struct evwork_chan_waiter waiter;
	struct actor *actor;
	struct choice choice;
	enum { SENDS, RECEIVES, SELECTS } how;
	bool pending;
};

static void guest_called(struct evwork_chan_waiter *waiter, int result)
{
	struct guest *guest = EVWORK_CONTAINER(waiter, struct guest, waiter);

	guest->pending = false;
	if (guest->how == SENDS)
		check_send(result, guest->choice.values[0]);
	else if (guest->how == RECEIVES)
		check_receive(guest->actor, guest->choice.chans[0], result,
			guest->choice.values[0]);
	else
		check_choice(&guest->choice, guest->actor, result);
}

static void guest_start(struct guest *guest, struct evwork_loop *loop, struct evwork_ctx *ctx)
{
	struct actor *actor = guest->actor;
	struct choice *choice = &guest->choice;
	uint64_t bits = draw(actor);
	unsigned how = part(&bits, 4);
	int chan = choice->chans[0] = (int)part(&bits, CHANS), rc;

	guest->how = how == 0 ? SENDS : how == 1 ? RECEIVES : SELECTS;
	if (guest->how == SENDS) {
		choice->values[0] = next_value(actor, chan);
		rc = evwork_chan_send(actor->ends[chan], choice->values, ctx, loop, &guest->waiter);
	} else if (guest->how == RECEIVES) {
		rc = evwork_chan_recv(actor->ends[chan], choice->values, ctx, loop, &guest->waiter);
	} else {
		choose(choice, actor, bits);
		rc = evwork_select(choice->cases, (size_t)choice->count, ctx, loop, &guest->waiter);
	}
	guest->pending = rc == 0;
	if (rc && rc != -ECANCELED)
		fault();
	atomic_fetch_add_explicit(&operations, 1, memory_order_relaxed);
}

static void guest_stop(struct guest *guest)
{
	int rc = guest->pending ? evwork_chan_stop(&guest->waiter) : -EALREADY;

	if (rc == 0)
		guest->pending = false;
	else if (rc != -EALREADY)
		fault();
}

/* All that is pending ends; by force only receives do, of which nobody need know. */
static void leave(struct guest *guests, struct event_base *base, struct evwork_loop *loop,
	bool force)
{
	bool any = true;
	int i;

	while (any) {
		any = false;
		for (i = 0; i < PARTIES; i++) {
			if (force && guests[i].how == RECEIVES)
				continue;
			guest_stop(&guests[i]);
			any = any || guests[i].pending;
		}
		if (any && event_base_loop(base, EVLOOP_NONBLOCK) < 0)
			fault();
	}
	if (force)
		evwork_loop_free_force(loop);
	else if (evwork_loop_release(loop) != 0 || evwork_loop_free(loop) != 0)
		fault();
}

static void loop_act(void *arg)
{
	struct actor *actor = arg;
	struct guest guests[PARTIES];
	struct event_base *base = event_base_new();
	struct evwork_loop *loop;
	struct evwork_ctx *ctx;
	int i;

	actor_begin(actor);
	/* Held, as it is others who serve its waits. */
	if (!base || evwork_loop_new(base, NULL, NULL, &loop) != 0 || evwork_loop_hold(loop) != 0)
		abort();
	memset(guests, 0, sizeof(guests));
	for (i = 0; i < PARTIES; i++) {
		evwork_chan_waiter_init(&guests[i].waiter, guest_called);
		guests[i].actor = actor;
	}
	ctx = new_ctx(actor);
	while (!atomic_load(&threads_over)) {
		uint64_t bits = draw(actor);

		i = (int)part(&bits, PARTIES);
		if (!guests[i].pending &&
		    actor->next[0] + actor->next[1] + actor->next[2] < NUMBERS / 2)
			guest_start(&guests[i], loop, ctx);
		if (part(&bits, 8) == 0)
			guest_stop(&guests[part(&bits, PARTIES)]);
		/* Nobody waits for ever. */
		if (part(&bits, 4) == 0)
			cancel(&actors[part(&bits, ACTORS)]);
		if (evwork_ctx_err(ctx)) {
			end_ctx(actor);
			ctx = new_ctx(actor);
		}
		if (event_base_loop(base, EVLOOP_NONBLOCK) < 0)
			fault();
		sys_yield();
	}
	leave(guests, base, loop, draw(actor) % 2);
	end_ctx(actor);
	event_base_free(base);
	actor_end(actor);
}

/* Epochs. */

static void make_channels(void)
{
	static const size_t capacities[] = { 0, 0, 1, 1, 3, 16, 64 };
	int chan, i;

	for (chan = 0; chan < CHANS; chan++) {
		ck_assert_int_eq(evwork_chan_new(sizeof(int64_t), capacities[chance(7)], on_drop,
			&roots[chan]), 0);
		for (i = 0; i < ACTORS; i++)
			actors[i].ends[chan] = clone_of(roots[chan],
				EVWORK_CHAN_SEND | EVWORK_CHAN_RECV);
	}
}

/* What was sent came to somebody, once; what was not sent to nobody. */
static void check_table(int round)
{
	int who, chan, number;

	expect(atomic_load(&wrong) == 0, "line %d, in epoch %d", atomic_load(&wrong), round);
	for (who = 0; who < ACTORS; who++) {
		for (chan = 0; chan < CHANS; chan++) {
			int last = actors[who].next[chan];

			for (number = 1; number <= last; number++)
				expect(came[who][chan][number] == sent[who][chan][number],
					"%d of %d on %d came %d times, sent %d, in epoch %d", number,
					who, chan, came[who][chan][number],
					sent[who][chan][number], round);
			memset(sent[who][chan], 0, (size_t)last + 1);
			memset(came[who][chan], 0, (size_t)last + 1);
		}
	}
}

/* Values are neither lost, nor doubled, nor reordered, whatever ends the waits and the
 * channels (S-CHAN-2, -6, -7, -8, -9, -10, -11, -15, -18, -20, S-GEN-2, -17, -18). */
START_TEST(a_million_operations)
{
	struct rival rivals[ACTORS];
	int epochs = scaled(EPOCHS), round, i, chan;

	chance_seed(0);
	for (i = 0; i < ACTORS; i++) {
		actors[i].who = i;
		pthread_mutex_init(&actors[i].mutex, NULL);
		rival_start(&rivals[i], i < THREADS ? thread_act : loop_act, &actors[i],
			(uint64_t)i);
	}
	for (round = 1; round <= epochs; round++) {
		atomic_store(&epoch, round);
		atomic_store(&threads_over, false);
		make_channels();
		for (i = 0; i < ACTORS; i++)
			rival_go(&rivals[i], round);
		for (i = 0; i < THREADS; i++)
			rival_await(&rivals[i], round);
		atomic_store(&threads_over, true);
		for (i = THREADS; i < ACTORS; i++)
			rival_await(&rivals[i], round);
		for (chan = 0; chan < CHANS; chan++) {
			struct evwork_chan_stats stats = chan_stats_of(roots[chan]);

			expect(stats.senders + stats.receivers == 0, "%d", round);
			chan_end(roots[chan]);
		}
		check_table(round);
	}
	for (i = 0; i < ACTORS; i++) {
		rival_end(&rivals[i]);
		pthread_mutex_destroy(&actors[i].mutex);
	}
	support_note("%lld operations, %lld values received, %lld dropped",
		atomic_load(&operations), atomic_load(&transfers), atomic_load(&drops));
	ck_assert_int_ge(atomic_load(&operations), (long long)epochs * THREADS * OPERATIONS);
}
END_TEST

static Suite *model_suite(void)
{
	Suite *suite = suite_create("chan_model");
	TCase *tcase = support_case(suite, "model");

	tcase_add_test(tcase, a_million_operations);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(model_suite());
}
