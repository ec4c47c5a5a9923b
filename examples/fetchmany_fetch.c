/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A fetch is a retry, each of whose attempts is a hedge, whose copies are requests:
 *
 *	turn at the host ──► retry ──► attempt: hedge ──► copy 1: request
 *	                       ▲           │          └─► copy 2: request, if 1 is slow
 *	                       └──backoff──┘
 *
 * Without -H a hedge has one copy, and is a plain call. The turn is kept through all the
 * attempts and the delays between them: a host that asks for a pause is not sent another
 * URL instead. A second copy takes a connection only if nobody waits for one.
 *
 * What a context's end means is the same everywhere: who waits is told, the request is cut
 * off, and the fetch ends with one line.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetchmany_fetch.h"

#define COPIES 2
#define NS_PER_MS INT64_C(1000000)
#define PAUSE_MAX_MS 60000       /* who asks for a longer one is not asked again */

struct fetch {
	struct fetches *all;
	char *url;
	struct target target;
	struct host *host;
	struct evwork_adaptive_waiter turn;  /* and its connection, once it is there */
	struct evwork_adaptive_token second; /* the connection of a second copy */
	struct evwork_retry retry;
	struct evwork_attempt *attempt;      /* of the retry: the hedge */
	struct evwork_hedge hedge;
	struct request copies[COPIES];
	int failed;                          /* the number of the copy that failed first */
	struct answer answer;                /* of the last attempt */
	uint64_t requests;
	int64_t begun_ns;
};

/* ---- the end ---- */

static const char *const reasons[EVWORK_RETRY_REASONS] = {
	[EVWORK_RETRY_OK] = "ok", [EVWORK_RETRY_ATTEMPTS] = "attempts",
	[EVWORK_RETRY_PERMANENT] = "permanent", [EVWORK_RETRY_DEADLINE] = "deadline",
	[EVWORK_RETRY_CTX] = "cancelled", [EVWORK_RETRY_BUDGET] = "budget",
	[EVWORK_RETRY_SHUTDOWN] = "shutdown", [EVWORK_RETRY_MEMORY] = "memory",
};

static void print_line(const struct fetch *fetch, const char *url, int status, const char *reason)
{
	static const struct answer none = { 0 };
	const struct answer *answer = fetch ? &fetch->answer : &none;
	int64_t ms = fetch && fetch->begun_ns ?
		(evwork_clock_now(NULL) - fetch->begun_ns) / NS_PER_MS : 0;

	(void)printf("%03d %" PRIu64 " %" PRId64 " %" PRIu64 " %s %s", answer->code, answer->bytes,
		ms, fetch ? fetch->requests : 0, reason, url);
	/* What the library does not know it passes on: these are errors of the system. */
	if (status && answer->code == 0)
		(void)printf(" (%s)", strerror(-status));
	(void)putchar('\n');
}

static void fetch_free(struct fetch *fetch)
{
	int i;

	for (i = 0; i < COPIES; i++)
		request_fini(&fetch->copies[i]);
	if (fetch->host)
		host_put(&fetch->all->hosts, fetch->host);
	target_fini(&fetch->target);
	free(fetch->url);
	free(fetch);
}

static void fetch_end(struct fetch *fetch, int status, const char *reason)
{
	struct fetches *all = fetch->all;

	if (status == 0)
		all->ok++;
	else if (status == -ECANCELED)
		all->cancelled++;
	else
		all->failed++;
	print_line(fetch, fetch->url, status, reason);
	evwork_adaptive_drop(&fetch->turn.token);
	fetch_free(fetch);
	all->active--;
	all->room(all->arg);
}

/* ---- copies ---- */

static int number_of(const struct request *request)
{
	const struct fetch *fetch = request->arg;

	return (int)(request - fetch->copies) + 1;
}

static void copy_ended(struct request *request, int status)
{
	struct fetch *fetch = request->arg;

	if (number_of(request) > 1)
		evwork_adaptive_drop(&fetch->second);
	if (status && status != -ECANCELED && !fetch->failed)
		fetch->failed = number_of(request);
}

static void copy_begin(struct evwork_attempt *attempt, void *arg)
{
	struct fetch *fetch = arg;
	int number = evwork_attempt_number(attempt);

	if (number > 1 && evwork_adaptive_acquire(fetch->host->limit, &fetch->second)) {
		(void)evwork_attempt_end(attempt, -EBUSY);
		return;
	}
	fetch->all->launched += number > 1;
	fetch->requests++;
	request_begin(&fetch->copies[number - 1], attempt);
}

/* A copy is for an answer that does not come. What has failed is for the policy, which waits
 * before it tries again; only a copy that got no connection changes nothing. */
static int is_fatal(int status, void *arg)
{
	(void)arg;
	return status != -EBUSY;
}

/* ---- attempts ---- */

static void attempt_decided(struct evwork_hedge *hedge, int status)
{
	struct fetch *fetch = EVWORK_CONTAINER(hedge, struct fetch, hedge);
	int number = status ? fetch->failed : hedge->winner;

	if (number)
		fetch->answer = fetch->copies[number - 1].answer;
}

static void attempt_drained(struct evwork_hedge *hedge, int status)
{
	struct fetch *fetch = EVWORK_CONTAINER(hedge, struct fetch, hedge);
	int64_t pause_ms = fetch->answer.retry_after_ms;

	fetch->all->refused += (uint64_t)hedge->refused;
	fetch->all->won += hedge->winner > 1;
	if (status == -EAGAIN && pause_ms >= 0)
		(void)evwork_attempt_push_back(fetch->attempt,
			pause_ms <= PAUSE_MAX_MS ? pause_ms : -1);
	(void)evwork_attempt_end(fetch->attempt, status);
}

static void attempt_begin(struct evwork_attempt *attempt, void *arg)
{
	struct fetch *fetch = arg;
	int rc;

	fetch->attempt = attempt;
	fetch->failed = 0;
	fetch->answer = (struct answer) { .retry_after_ms = -1 };
	fetch->hedge.ctx = evwork_attempt_ctx(attempt);
	rc = evwork_hedge_start(fetch->all->client.loop, &fetch->hedge);
	if (rc)
		(void)evwork_attempt_end(attempt, rc);
}

static void retry_done(struct evwork_retry *retry, int status)
{
	struct fetch *fetch = EVWORK_CONTAINER(retry, struct fetch, retry);

	fetch_end(fetch, status, reasons[retry->reason]);
}

/* ---- the beginning ---- */

static void on_turn(struct evwork_adaptive_waiter *turn, int status)
{
	struct fetch *fetch = EVWORK_CONTAINER(turn, struct fetch, turn);

	fetch->begun_ns = evwork_clock_now(NULL);
	if (status == 0)
		status = evwork_retry_start(fetch->all->client.loop, &fetch->retry);
	if (status)
		fetch_end(fetch, status, reasons[EVWORK_RETRY_CTX]);
}

static int fetch_init(struct fetch *fetch)
{
	struct fetches *all = fetch->all;
	int rc = 0, i;

	evwork_adaptive_waiter_init(&fetch->turn, on_turn);
	evwork_retry_init(&fetch->retry, all->policy, retry_done);
	fetch->retry.op = (struct evwork_op) { .start = attempt_begin, .arg = fetch };
	fetch->retry.ctx = all->ctx;
	fetch->hedge = (struct evwork_hedge) {
		.op = { .start = copy_begin, .arg = fetch }, .copies = all->copies,
		.delay_ms = all->hedge_ms, .idempotent = 1, .budget = all->copy_budget,
		.fatal = is_fatal, .done = attempt_decided, .drained = attempt_drained };
	for (i = 0; i < COPIES && rc == 0; i++) {
		fetch->copies[i] = (struct request) { .client = &all->client,
			.target = &fetch->target, .ended = copy_ended, .arg = fetch };
		rc = request_init(&fetch->copies[i]);
	}
	return rc;
}

static int fetch_new(struct fetches *fetches, const char *url, struct fetch **ret_fetch)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));
	int rc;

	if (!fetch)
		return -ENOMEM;
	fetch->all = fetches;
	rc = target_parse(&fetch->target, url);
	if (rc == 0)
		rc = fetch_init(fetch);
	if (rc == 0) {
		fetch->url = strdup(url);
		fetch->host = host_get(&fetches->hosts, fetch->target.key);
		rc = fetch->url && fetch->host ? evwork_adaptive_wait(fetch->host->limit,
			fetches->ctx, fetches->client.loop, &fetch->turn) : -ENOMEM;
	}
	if (rc) {
		fetch_free(fetch);
		return rc;
	}
	*ret_fetch = fetch;
	return 0;
}

void fetch_begin(struct fetches *fetches, const char *url)
{
	struct fetch *fetch;
	int rc = fetch_new(fetches, url, &fetch);

	if (rc == 0) {
		fetches->active++;
		return;
	}
	fetches->failed++;
	print_line(NULL, url, rc, rc == -EINVAL ? "invalid" : "memory");
}
