/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_CHAN_H
#define EVWORK_CHAN_H

/*
 * Channels: values that go from any thread to any other, in order, each to exactly one
 * receiver. A channel may join any number of loops, workers and threads of your own at
 * once (S-CHAN-20).
 *
 *	evwork_chan_new(sizeof(struct order), 64, NULL, &orders);
 *
 *	struct order order;                                 // a thread of your own
 *	while (evwork_chan_recv_wait(orders, &order, ctx) == 1)
 *		handle(&order);
 *
 *	evwork_chan_try_send(orders, &order);               // any thread; -EAGAIN: full
 *	...
 *	evwork_chan_close(orders);                          // no more: recv gives 0
 *
 * Every wait comes in three forms: try never waits, _wait blocks the calling thread, and
 * the one with a loop calls back on it. Sends give 0 or an error; receives give 1 for a
 * value, 0 for the end of the stream, or an error, as read(2) does (S-CHAN-4).
 *
 * A value is copied when its send is committed; until then, and for ever after an error,
 * it is the sender's. Who waits is served strictly in the order of coming, and what it
 * could use nobody overtakes (S-CHAN-6). If the context of a wait dies, the wait either has
 * got its transfer or gives the error: nothing is lost or doubled (S-CHAN-7). A capacity
 * of 0 is a rendezvous: a send is committed when a receiver takes it (S-CHAN-3).
 *
 * Ends. What evwork_chan_new() gives is an end that may send and receive, for all threads
 * to share if that will do. Where several senders each have to say that they are through,
 * or receivers, each gets an end of its own with evwork_chan_clone(): the stream ends when
 * the last end that may send is closed, and is abandoned when the last that may receive
 * has abandoned it (S-CHAN-11).
 */

#include <stddef.h>

#include <evwork/ctx.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_chan;
struct evwork_loop;

/* What an end may do. */
#define EVWORK_CHAN_SEND 1u
#define EVWORK_CHAN_RECV 2u

/*
 * evwork_chan_new [any] makes a channel for values of elem_size bytes, of which it holds
 * up to `capacity`, and its first end, which may send and receive. Both may be 0. The memory
 * for all values is taken here, so that a send cannot fail for it (S-CHAN-1). drop (may be
 * NULL) is called, on the thread that abandons or frees, with no lock held, for each
 * value that nobody will receive any more, in their order.
 * -EINVAL: ret_chan is NULL. -ERANGE: so many bytes cannot be addressed. -ENOMEM.
 */
int evwork_chan_new(size_t elem_size, size_t capacity, void (*drop)(void *value),
	struct evwork_chan **ret_chan);

/*
 * evwork_chan_clone [any] makes another end of the same channel; `ends` is what it may
 * do: EVWORK_CHAN_SEND, EVWORK_CHAN_RECV, or both.
 * -EINVAL: chan or ret_chan is NULL, or ends is none of these. -EPERM: chan itself may not
 * do that. -ESHUTDOWN: chan was closed or abandoned in that. -ENOMEM.
 */
int evwork_chan_clone(struct evwork_chan *chan, unsigned ends, struct evwork_chan **ret_chan);

/*
 * evwork_chan_close [any]: this end sends no more. Those who wait to send on it get
 * -ESHUTDOWN. If it was the last end that sends, the stream ends: values that were sent
 * stay to be received, after them every receive gives 0, for ever, and those who wait to
 * send get -EPIPE instead (S-CHAN-8, S-CHAN-9).
 * -EINVAL: chan is NULL. -EPERM: the end may not send. -EALREADY: closed before.
 */
int evwork_chan_close(struct evwork_chan *chan);

/*
 * evwork_chan_abandon [any]: this end receives no more. Those who wait to receive on it
 * get -ESHUTDOWN. If it was the last end that receives, waiting and later sends get -EPIPE,
 * and what is in the channel goes to drop, inside this call (S-CHAN-10).
 * -EINVAL: chan is NULL. -EPERM: the end may not receive. -EALREADY: abandoned before.
 */
int evwork_chan_abandon(struct evwork_chan *chan);

/*
 * evwork_chan_free [any] frees an end that nobody uses any more; with the last one the
 * channel, and drops what is in it. NULL is fine (S-CHAN-18).
 * -EBUSY: somebody waits on the end; or it is open, and other ends are: close and abandon
 * it first, so that what others see of it is said by you.
 */
int evwork_chan_free(struct evwork_chan *chan);

/*
 * [any] They never wait (S-CHAN-4). Errors, of all forms of send and receive:
 * -EINVAL: chan is NULL, or value is and values have a size (S-CHAN-19).
 * -EPERM: the end may not do that.
 * -ESHUTDOWN: the end was closed, or abandoned. For receives: so were all that receive.
 * -EPIPE, sends: the stream has ended, or was abandoned; the value is still yours. Of
 * receives, only a subscription gives it: it was disconnected, see evwork/broadcast.h.
 * -EAGAIN: full, or empty; or others wait, who come first.
 *
 * The forms with `many` move up to `count` values at once, which costs little more than
 * one, and give their number, which may be less; and for a receive 0 at the end of the
 * stream. A count of 0 is -EINVAL.
 */
int evwork_chan_try_send(struct evwork_chan *chan, const void *value);
int evwork_chan_try_recv(struct evwork_chan *chan, void *value);
int evwork_chan_try_send_many(struct evwork_chan *chan, const void *values, int count);
int evwork_chan_try_recv_many(struct evwork_chan *chan, void *values, int count);

/*
 * [wait] They wait until it is done, or ctx dies, whose deadline holds even while its
 * loop is stalled (S-CHAN-5). A worker may wait, but is not there for its pool meanwhile.
 * send_many waits until all are sent, and gives their number, or the error if none was;
 * recv_many waits for one value and takes what else is there.
 * Errors as above, and: -EDEADLK: on a loop's thread. -ECANCELED, -ETIMEDOUT: ctx is
 * dead. -ENOMEM: only where semaphores have no monotonic time limit.
 */
int evwork_chan_send_wait(struct evwork_chan *chan, const void *value, struct evwork_ctx *ctx);
int evwork_chan_recv_wait(struct evwork_chan *chan, void *value, struct evwork_ctx *ctx);
int evwork_chan_send_many_wait(struct evwork_chan *chan, const void *values, int count,
	struct evwork_ctx *ctx);
int evwork_chan_recv_many_wait(struct evwork_chan *chan, void *values, int count,
	struct evwork_ctx *ctx);

/*
 * One way in which a select may go on. evwork_send_case() and evwork_recv_case() [any] make
 * it; what is wrong with it the select says. The value must stay until that has ended.
 */
enum evwork_case_op { EVWORK_SEND, EVWORK_RECV };

struct evwork_chan_wait;

struct evwork_case {
	struct evwork_chan *chan;   /* NULL: never ready */
	enum evwork_case_op op;
	void *value;                /* to send from, or to receive to */
	/* Of the case that was chosen: what the send or the receive gave. */
	int status;
	/* Private. */
	struct evwork_chan_wait *_wait;
	struct evwork_case *_next, *_prev, *_order;
	int _listed;
};

struct evwork_case evwork_send_case(struct evwork_chan *chan, const void *value);
struct evwork_case evwork_recv_case(struct evwork_chan *chan, void *value);

/* Private: who waits, and for what. */
struct evwork_chan_wait {
	struct evwork_case *cases, *order;
	size_t count;
	struct evwork_ctx *ctx;
	struct evwork_loop *loop;
	struct evwork_chan_wait *next;
	uint32_t state;
	int result;
};

/*
 * A wait that calls back. The struct is yours, and the library's from an accepted call
 * until its callback starts.
 */
struct evwork_chan_waiter;

/*
 * On the waiter's loop, once, in a later turn than the call. result, of a send: 0 or an
 * error; of a receive: 1, 0, or an error; of a select: the index of the case that was
 * chosen, or an error. -ECANCELED or -ETIMEDOUT: ctx died first, or the loop was closed
 * (-ECANCELED); nothing was transferred.
 */
typedef void (*evwork_chan_fn)(struct evwork_chan_waiter *waiter, int result);

struct evwork_chan_waiter {
	evwork_chan_fn fn;
	/* Private. */
	struct evwork_watch _watch;
	struct evwork_chan_wait _wait;
	struct evwork_case _case;
	void (*_lost)(struct evwork_chan_waiter *waiter, int result);
};

/* evwork_chan_waiter_init prepares a waiter; needed once, before its first use. */
void evwork_chan_waiter_init(struct evwork_chan_waiter *waiter, evwork_chan_fn fn);

/*
 * [any] They have waiter->fn called on loop once it is done (S-CHAN-5): if it can be done
 * at once it is, in this call. The value must stay until then. A waiter does not keep the
 * loop alive, but a callback that is to come does, see evwork/loop.h; the loop is not freed
 * before it. If that is done by force, a value that was received for the waiter goes to drop.
 * Errors as above, which mean that there is no callback, and: -EINVAL: waiter, its fn or
 * loop is NULL. -EBUSY: the waiter is pending. -ESHUTDOWN: loop is closing. -ECANCELED,
 * -ETIMEDOUT: ctx is dead. But the end of the stream and -EPIPE come by the callback.
 */
int evwork_chan_send(struct evwork_chan *chan, const void *value, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_chan_waiter *waiter);
int evwork_chan_recv(struct evwork_chan *chan, void *value, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_chan_waiter *waiter);

/*
 * evwork_chan_stop [loop] takes a wait back: it gives 0, and there is no callback and was no
 * transfer; or -EALREADY, and the callback is still to come: the transfer, or the end of what it
 * waits on, came first.
 * -EINVAL: waiter is NULL. -EPERM: on another thread; there, cancel the context of the
 * wait. -ESRCH: the waiter is not pending.
 */
int evwork_chan_stop(struct evwork_chan_waiter *waiter);

/*
 * Select: exactly one of several sends and receives (S-CHAN-12). If several can be done, one
 * of them is chosen by lot, each with the same chance (S-CHAN-13). A closed channel counts:
 * its receive gives 0, its send -EPIPE (S-CHAN-16). The same channel may come more than
 * once, but a select never sends to itself (S-CHAN-15).
 *
 *	struct evwork_case cases[] = {
 *		evwork_recv_case(requests, &request),
 *		evwork_send_case(answers, &answer),
 *	};
 *	switch (evwork_select_wait(cases, 2, ctx)) {
 *	case 0:  ...                // cases[0].status: 1, or 0 at the end
 *	case 1:  ...                // cases[1].status: 0, or -EPIPE
 *	default: ...                // ctx has died
 *	}
 *
 * They give the index of the case, or an error. evwork_select_try [any] does not wait:
 * -EAGAIN means that at one instant none could be done (S-CHAN-14). evwork_select_wait is
 * [wait]. evwork_select [any] gives 0, and calls back on loop; cases and values must stay until
 * then.
 * -EINVAL: cases is NULL; count is 0, but for evwork_select_try, or more than INT_MAX; a case
 * is malformed. Otherwise as the send and the receive of the same form; that an end was
 * closed comes as the status of its case.
 */
int evwork_select_try(struct evwork_case *cases, size_t count);
int evwork_select_wait(struct evwork_case *cases, size_t count, struct evwork_ctx *ctx);
int evwork_select(struct evwork_case *cases, size_t count, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_chan_waiter *waiter);

/* A snapshot of the channel, not of the end; exact when quiet (S-CHAN-17). */
struct evwork_chan_stats {
	size_t length;          /* values in the channel */
	size_t capacity;
	size_t peak;            /* the most there ever were */
	size_t senders;         /* sends that wait, cases of selects included */
	size_t receivers;       /* receives that wait */
};

/* evwork_chan_stats [any]. -EINVAL: an argument is NULL. */
int evwork_chan_stats(struct evwork_chan *chan, struct evwork_chan_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
