/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_FETCHMANY_REQUEST_H
#define EXAMPLES_FETCHMANY_REQUEST_H

/* One GET of a URL: an attempt, which waits until the rate of its host allows it, is sent,
 * and ends with an answer, an error, or the end of its context or of its time. */

#include <stdbool.h>
#include <stdint.h>

#include <event2/dns.h>
#include <event2/event.h>
#include <event2/http.h>

#include <evwork.h>

/* Bytes of the longest key; names of hosts have at most 253. */
#define TARGET_KEY_MAX 272

/* Where a URL leads. */
struct target {
	char *host, *path;            /* with the query */
	uint16_t port;
	char key[TARGET_KEY_MAX + 1];     /* of the host and port: the value of "Host:", too */
};

/* 0; -EINVAL: it is no URL that begins with http://, or names a user; -ENOMEM. */
int target_parse(struct target *target, const char *url);
void target_fini(struct target *target);

/* What all requests share. */
struct client {
	struct event_base *base;
	struct evwork_loop *loop;
	struct evdns_base *dns;
	struct evwork_limiter_table *rates;   /* NULL: no limit */
	int64_t limit_ms;             /* for the whole of a request, once it is sent */
	int64_t body_max;
	uint64_t sent;                /* requests */
};

struct answer {
	int code;                     /* 0: there was none */
	uint64_t bytes;               /* of the body, that came */
	int64_t retry_after_ms;       /* -1: not said */
};

struct request {
	struct client *client;
	const struct target *target;
	/* Its end, just before that of the attempt. */
	void (*ended)(struct request *request, int status);
	void *arg;
	struct answer answer;
	/* Private. */
	struct evwork_attempt *attempt;
	struct evwork_timer turn;     /* when the rate may allow it */
	struct evwork_watch watch;    /* on the attempt's context, then on ctx */
	struct evwork_ctx *ctx;       /* with the time limit; NULL: not sent yet */
	struct evhttp_connection *connection;
	struct event *over;
	bool decided;                 /* with this: */
	int status;
};

/* The rest of the struct is filled in; it is used for one attempt after the other. 0 or
 * -ENOMEM. */
int request_init(struct request *request);
void request_fini(struct request *request);

/* On the loop. The status is 0 for an answer of 200 to 299; -EAGAIN for one that asks to try
 * again: 408, 429, 500 and more; -EPROTO for any other. Without an answer -ECONNREFUSED is
 * that nobody listens there, -ECONNRESET that no connection could be made for another reason,
 * or that it ended too soon; evhttp does not tell these apart. */
void request_begin(struct request *request, struct evwork_attempt *attempt);

#endif
