/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_GATE_H
#define EVWORK_GATE_H

/*
 * Gates: a server that is behind stops reading.
 *
 * What clients send faster than the workers serve it can be kept, in memory and waiting
 * times that grow without end; or refused; or left with the clients, until there is room
 * for it. A gate does the last. It watches a lane, or a limiter, and while that is full it
 * pauses its inlets: it switches off the reading of bufferevents and the accepting of
 * listeners, so that the sockets fill and the clients, as TCP has it, send no faster than
 * they are served.
 *
 *	struct evwork_gate_options options = { .lane = hashes, .queue_high = 64 };
 *	evwork_gate_new(loop, &options, &gate);
 *
 *	evwork_inlet_init_bufferevent(&connection->inlet, connection->bev);   // once accepted
 *	evwork_gate_add(gate, &connection->inlet);
 *
 *	static void on_read(struct bufferevent *bev, void *arg)
 *	{
 *		struct connection *connection = arg;
 *		char *line;
 *
 *		while (evwork_inlet_pass(&connection->inlet) == 0 &&
 *		       (line = next_line(connection)) != NULL)
 *			serve(connection, line);                // which submits a job
 *	}
 *
 * One read may bring hundreds of requests, so the loop asks before each of them. When the
 * answer is no it just returns: what is left stays in the input of the bufferevent, and
 * on_read is called again when it is the connection's turn, whether or not more has come.
 *
 * Where every request passes the gate of its loop, and is then at once submitted as one job,
 * no more than queue_high jobs wait in the lane, and 32 more for each further loop that
 * submits to it: so many are before a request that was let in, whatever clients do, and those
 * that the workers have in hand. A lane whose queue_limit is as much refuses none of them.
 * Several jobs for a request are as many times more, and what is submitted only later is not
 * known to the gate in between.
 *
 * Going on is fair. The inlets that were paused stand in line, and a few of them go on
 * in each turn of the loop, those first who have waited longest; who then asks, and finds that
 * others were quicker, has its place back. While somebody stands in line, who has passed
 * `share` times since it was its turn goes to the end of it.
 *
 * libevent's own rate limits (ev_token_bucket_cfg) bound the bytes of bufferevents and know
 * nothing of the work that these cause. They are not disturbed (S-LIM-18).
 *
 * While somebody stands in line the base keeps running. A pool that is closed, or has no
 * worker left, shuts no gate: submit says what is to be done.
 *
 * All calls are [loop] but for evwork_gate_stats. The bufferevents and listeners are of the
 * base of the loop. In the child of a fork they give -ESHUTDOWN for what was inherited, but
 * evwork_gate_free frees it in any case.
 */

#include <stddef.h>

#include <evwork/lane.h>
#include <evwork/limiter.h>
#include <evwork/loop.h>
#include <evwork/status.h>

struct bufferevent;
struct evconnlistener;

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_gate;
struct evwork_inlet;

#define EVWORK_GATE_BATCH_DEFAULT 4
#define EVWORK_GATE_SHARE_DEFAULT 16

/* All zero means the defaults: the queue of the loop's pool, half full. */
struct evwork_gate_options {
	/* Copied, at most 63 bytes of it; NULL is "gate" (S-OBS-8). */
	const char *name;
	/* The lane that is watched, if one of the marks below is set or there is no limiter.
	 * NULL is the default lane of the loop's pool. It must outlive the gate. */
	struct evwork_lane *lane;
	/* The gate shuts when so many jobs wait in the lane, and opens again when no more than
	 * queue_low do, which is seen whenever a worker takes jobs, or one is cancelled. 0 for
	 * both of the marks of the queue, if age and limiter are not set
	 * either, is half of the lane's queue_limit, or 2048 if it has none. queue_low 0 is half
	 * of queue_high. */
	size_t queue_high, queue_low;
	/* It shuts, too, when the oldest job in the lane has waited for so long, and opens when
	 * that is not older than age_low_ms. Known to an eighth of age_high_ms while requests
	 * come, and not counting what workers have set aside to run next. 0 is no such mark;
	 * age_low_ms 0 is half. */
	int64_t age_high_ms, age_low_ms;
	/* It shuts, too, while there are fewer than `tokens` in a limiter, and opens when there are
	 * tokens_open. It takes none; that remains with whoever serves. 0 is 1, and
	 * tokens_open 0 is as many as tokens. A limiter that is given another rate meanwhile is
	 * looked at after at most 100 ms. NULL is none; it must outlive the gate. */
	struct evwork_limiter *limiter;
	int64_t tokens, tokens_open;
	/* How many inlets go on in one turn; 0 is 4. */
	int batch;
	/* How often one may pass while others stand in line; 0 is 16. */
	int share;
};

/*
 * evwork_gate_new makes a gate that is open. options are copied; NULL is all defaults.
 * -EINVAL: loop or ret_gate is NULL; there is no lane to watch; a value is negative, or a low
 * mark not below its high one; tokens_open is less than tokens; loop and limiter have
 * different clocks. -EPERM. -ESHUTDOWN: the loop is closing. -ERANGE: tokens or tokens_open is
 * more than the limiter's burst, or queue_high more than the lane's queue_limit. -ENOMEM.
 */
int evwork_gate_new(struct evwork_loop *loop, const struct evwork_gate_options *options,
	struct evwork_gate **ret_gate);

/*
 * evwork_gate_free: NULL is fine. From every callback. It must come before the lane and the
 * limiter are freed, and before the loop is, unless that has closed.
 * -EPERM. -EBUSY: inlets are at the gate.
 */
int evwork_gate_free(struct evwork_gate *gate);

/* evwork_gate_name: the copied name; the gate's own memory. NULL for NULL. */
const char *evwork_gate_name(const struct evwork_gate *gate);


/* Inlets: where work comes in. */

/*
 * For inlets of your own: with on = 0 nothing is to be taken in any more, until the same
 * is called with on = 1. On the loop, in a turn of its own. Where evwork_inlet_pass() has said
 * no it is not called with 0, as the caller knows. It may remove the inlet.
 */
typedef void (*evwork_inlet_fn)(struct evwork_inlet *inlet, int on);

/* A caller-owned inlet, in use while it is at a gate. */
struct evwork_inlet {
	evwork_inlet_fn fn;
	/* Private. */
	struct bufferevent *_bufferevent;
	struct evconnlistener *_listener;
	struct evwork_gate *_gate;
	struct evwork_inlet *_next, *_prev;
	uint64_t _place;
	uint32_t _state, _passed, _due, _turn;
};

/* These prepare an inlet; needed once, before it is added. */
void evwork_inlet_init(struct evwork_inlet *inlet, evwork_inlet_fn fn);
void evwork_inlet_init_bufferevent(struct evwork_inlet *inlet, struct bufferevent *bufferevent);
void evwork_inlet_init_listener(struct evwork_inlet *inlet, struct evconnlistener *listener);

/*
 * evwork_gate_add puts an inlet at a gate, which from now on switches it on and off; nobody
 * else enables or disables the reading of a bufferevent or the listener until it is removed,
 * see evwork_inlet_want(). It is switched on, or if the gate is shut or others stand in
 * line, off, and stands at the end of the line; one of your own is taken to be on, and
 * called if the gate is shut. Remove it before the bufferevent or listener is freed.
 * libevent switches the reading of a bufferevent off at the end of the stream, after an error
 * and when its read timeout has passed. Then say that it is not wanted, or remove it: or else
 * it is switched on again in its turn, and the end is told once more. The read timeout
 * runs only while it is switched on. With BEV_OPT_DEFER_CALLBACKS the end may be told while
 * requests are left in the input; without, only when all that came before it has passed.
 * -EINVAL: gate or inlet is NULL, or the inlet was given nothing to switch. -EPERM. -EBUSY: it
 * is at a gate. -ESHUTDOWN: the loop is closing. -ENOMEM: libevent could not switch it, or
 * had no memory for what keeps the base running meanwhile.
 */
int evwork_gate_add(struct evwork_gate *gate, struct evwork_inlet *inlet);

/*
 * evwork_gate_remove takes an inlet from its gate, at any time. What it stands for is left
 * switched as it is. -EINVAL: inlet is NULL. -EPERM. -ESRCH: it is at no gate.
 */
int evwork_gate_remove(struct evwork_inlet *inlet);

/*
 * evwork_inlet_pass, before each request is taken in: 0, or
 * -EAGAIN: not now. The inlet is switched off, or was already, and stands in line, if it
 *	is wanted. When it goes on the read callback of a bufferevent is called if its input
 *	is not empty (and not below its low watermark); a listener, or an inlet of your own,
 *	is switched on.
 * For a listener call it after having taken a connection, to pause it at once.
 * Once the loop closes it is always 0, and no inlet goes on any more. If libevent has no
 * memory for what keeps the base running while an inlet is switched off it is 0, too.
 * -EINVAL: inlet is NULL. -EPERM. -ESRCH: it is at no gate.
 */
int evwork_inlet_pass(struct evwork_inlet *inlet);

/*
 * evwork_inlet_want says whether the inlet's owner wants anything from it: with on = 0 it is
 * switched off and leaves the line, with on = 1 it is as if added anew. For connections that
 * stop reading for reasons of their own, too; it is wanted when it is added.
 * -EINVAL: inlet is NULL. -EPERM. -ESRCH: it is at no gate. -EALREADY: nothing new.
 * -ESHUTDOWN: the loop is closing, and on is not 0.
 * -ENOMEM: as for evwork_gate_add(); it is as before.
 */
int evwork_inlet_want(struct evwork_inlet *inlet, int on);


/* A snapshot of the counters. */
struct evwork_gate_stats {
	uint64_t inlets, paused;     /* gauges: at the gate; in line */
	int shut;                    /* 1 while it is */
	uint64_t shut_queue, shut_age, shut_limiter;   /* how often, for each of the reasons */
	uint64_t passed, held;       /* answers of evwork_inlet_pass() */
	uint64_t resumed;            /* inlets that went on */
	uint64_t yielded;            /* that went to the end of the line for others */
};

/* evwork_gate_stats [any]. -EINVAL: an argument is NULL. */
int evwork_gate_stats(struct evwork_gate *gate, struct evwork_gate_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
