/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests, with libevent's HTTP client, which has its ways:
 *
 * It calls back when it is in the middle of something: inside evhttp_make_request(), too,
 * and while it walks the list of a connection's requests. So nothing is freed there. The
 * callback only decides the request and makes an event active, whose turn comes when
 * evhttp is out of the way; that frees the connection, and with it the request.
 *
 * On an error it calls back without a request, or with one that has no answer, and says
 * in another callback before, sometimes, what was wrong.
 *
 * A request that is to end before its time is freed with its connection; then evhttp calls
 * nothing. evhttp's own time limits count from one byte to the next, and are set to come
 * never: the limit of the whole is a context's.
 *
 * Each request has its own connection. Bodies are counted as they come and not kept, but a
 * chunk of a chunked one is collected first, so there is a limit for the size of bodies.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/keyvalq_struct.h>

#include "command_line.h"
#include "fetchmany_request.h"

#define HTTP_PORT 80
#define HEADERS_MAX 65536
#define NS_PER_MS INT64_C(1000000)
#define PATIENCE_S 3600          /* beyond our own limit */
#define AGAIN_NS (10 * NS_PER_MS)    /* when there is no room for the host's rate */

/* ---- targets ---- */

static int set_host(struct target *target, const struct evhttp_uri *uri)
{
	const char *host = evhttp_uri_get_host(uri);
	int port = evhttp_uri_get_port(uri), size;
	size_t length = host ? strlen(host) : 0;
	char *c;

	if (length == 0 || port == 0 || port > UINT16_MAX)
		return -EINVAL;
	target->port = (uint16_t)(port < 0 ? HTTP_PORT : port);
	size = snprintf(target->key, sizeof(target->key), target->port == HTTP_PORT ? "%s" : "%s:%u",
		host, target->port);
	if (size > TARGET_KEY_MAX)
		return -EINVAL;
	for (c = target->key; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	/* An IPv6 address has brackets in a URL only. */
	target->host = *host == '[' ? strndup(host + 1, length - 2) : strdup(host);
	return target->host ? 0 : -ENOMEM;
}

static int set_path(struct target *target, const struct evhttp_uri *uri)
{
	const char *path = evhttp_uri_get_path(uri), *query = evhttp_uri_get_query(uri);
	size_t size;

	if (!path || !*path)
		path = "/";
	size = strlen(path) + (query ? strlen(query) + 1 : 0) + 1;
	target->path = malloc(size);
	if (!target->path)
		return -ENOMEM;
	(void)snprintf(target->path, size, query ? "%s?%s" : "%s", path, query);
	return 0;
}

int target_parse(struct target *target, const char *url)
{
	struct evhttp_uri *uri = evhttp_uri_parse(url);
	const char *scheme = uri ? evhttp_uri_get_scheme(uri) : NULL;
	int rc = -EINVAL;

	*target = (struct target) { 0 };
	if (scheme && evutil_ascii_strcasecmp(scheme, "http") == 0 && !evhttp_uri_get_userinfo(uri))
		rc = set_host(target, uri);
	if (rc == 0)
		rc = set_path(target, uri);
	if (uri)
		evhttp_uri_free(uri);
	if (rc)
		target_fini(target);
	return rc;
}

void target_fini(struct target *target)
{
	free(target->host);
	free(target->path);
	target->host = target->path = NULL;
}

/* ---- the end ---- */

static void end(struct request *request, int status)
{
	struct evwork_attempt *attempt = request->attempt;

	(void)evwork_timer_stop(&request->turn);   /* -ESRCH: it is not set, and so below */
	(void)evwork_ctx_stop(&request->watch);
	(void)event_del(request->over);
	if (request->connection)
		evhttp_connection_free(request->connection);
	evwork_ctx_unref(request->ctx);
	request->connection = NULL;
	request->ctx = NULL;
	request->attempt = NULL;
	request->ended(request, status);
	(void)evwork_attempt_end(attempt, status);
}

static void on_over(evutil_socket_t fd, short what, void *arg)
{
	struct request *request = arg;

	(void)fd;
	(void)what;
	end(request, request->status);
}

/* In a callback of evhttp. */
static void decide(struct request *request, int status)
{
	if (request->decided)
		return;
	request->decided = true;
	request->status = status;
	event_active(request->over, 0, 0);
}

/* Out of time, or nobody wants it any more. An answer that is there counts. */
static void on_watch(struct evwork_watch *watch, int status)
{
	struct request *request = EVWORK_CONTAINER(watch, struct request, watch);

	if (!request->decided)
		end(request, status);
}

/* ---- the answer ---- */

static int status_of(int code)
{
	if (code >= 200 && code <= 299)
		return 0;
	return code == 408 || code == 429 || code >= 500 ? -EAGAIN : -EPROTO;
}

/* Only a number of seconds; dates are not understood. */
static int64_t retry_after(struct evhttp_request *http)
{
	const char *text = evhttp_find_header(evhttp_request_get_input_headers(http), "Retry-After");
	uint64_t seconds;

	return text && !number_parse(text, 0, INT32_MAX, &seconds) ? (int64_t)seconds * 1000 : -1;
}

static void on_piece(struct evhttp_request *http, void *arg)
{
	struct request *request = arg;

	request->answer.bytes += evbuffer_get_length(evhttp_request_get_input_buffer(http));
}

static void on_error(enum evhttp_request_error error, void *arg)
{
	switch (error) {
	case EVREQ_HTTP_TIMEOUT:
		decide(arg, -ETIMEDOUT);
		break;
	case EVREQ_HTTP_INVALID_HEADER:
		decide(arg, -EBADMSG);
		break;
	case EVREQ_HTTP_DATA_TOO_LONG:
		decide(arg, -EMSGSIZE);
		break;
	default:
		decide(arg, -ECONNRESET);
		break;
	}
}

static void on_answer(struct evhttp_request *http, void *arg)
{
	struct request *request = arg;
	int code = http ? evhttp_request_get_response_code(http) : 0;

	if (code && !request->decided) {
		request->answer.code = code;
		request->answer.retry_after_ms = retry_after(http);
	}
	decide(request, code ? status_of(code) : http ? -ECONNREFUSED : -ECONNRESET);
}

/* ---- the beginning ---- */

static int watch_limit(struct request *request)
{
	struct client *client = request->client;
	int rc;

	(void)evwork_ctx_stop(&request->watch);
	rc = evwork_ctx_with_timeout(evwork_attempt_ctx(request->attempt), client->loop,
		client->limit_ms, 0, &request->ctx);
	return rc ? rc : evwork_ctx_after(request->ctx, client->loop, &request->watch);
}

static struct evhttp_request *http_new(struct request *request)
{
	struct evhttp_request *http = evhttp_request_new(on_answer, request);
	struct evkeyvalq *headers;

	if (!http)
		return NULL;
	headers = evhttp_request_get_output_headers(http);
	evhttp_request_set_chunked_cb(http, on_piece);
	evhttp_request_set_error_cb(http, on_error);
	if (evhttp_add_header(headers, "Host", request->target->key) ||
	    evhttp_add_header(headers, "User-Agent", "fetchmany") ||
	    evhttp_add_header(headers, "Connection", "close")) {
		evhttp_request_free(http);
		return NULL;
	}
	return http;
}

static int request_send(struct request *request)
{
	struct client *client = request->client;
	const struct target *target = request->target;
	struct evhttp_request *http;
	int rc = watch_limit(request);

	if (rc)
		return rc;
	request->connection = evhttp_connection_base_new(client->base, client->dns, target->host,
		target->port);
	if (!request->connection)
		return -ENOMEM;
	evhttp_connection_set_timeout(request->connection,
		(int)(client->limit_ms / 1000) + PATIENCE_S);
	evhttp_connection_set_max_headers_size(request->connection, HEADERS_MAX);
	evhttp_connection_set_max_body_size(request->connection, client->body_max);
	http = http_new(request);
	if (!http)
		return -ENOMEM;
	client->sent++;
	/* The request is the connection's now, also where this fails. */
	return evhttp_make_request(request->connection, http, EVHTTP_REQ_GET, target->path) ?
		-ENOMEM : 0;
}

/* Sends it, or waits until the rate of its host may allow that. */
static void take_turn(struct request *request)
{
	struct client *client = request->client;
	const char *key = request->target->key;
	int64_t wait_ns = 0;
	int rc = client->rates ?
		evwork_limiter_table_allow(client->rates, key, strlen(key), 1) : 0;

	if (rc == 0) {
		rc = request_send(request);
	} else if (rc == -EAGAIN) {
		rc = evwork_limiter_table_retry_after(client->rates, key, strlen(key), 1, &wait_ns);
		if (rc == 0)
			rc = evwork_timer_start_at(client->loop, &request->turn,
				evwork_clock_now(NULL) + (wait_ns ? wait_ns : AGAIN_NS));
	}
	/* From here it is out of evhttp's way, but what it has decided counts. */
	if (rc && !request->decided)
		end(request, rc);
}

static void on_turn(struct evwork_timer *timer, int status)
{
	struct request *request = EVWORK_CONTAINER(timer, struct request, turn);

	if (status)
		end(request, status);
	else
		take_turn(request);
}

int request_init(struct request *request)
{
	evwork_timer_init(&request->turn, on_turn);
	evwork_watch_init(&request->watch, on_watch);
	request->over = event_new(request->client->base, -1, 0, on_over, request);
	return request->over ? 0 : -ENOMEM;
}

void request_fini(struct request *request)
{
	if (request->over)
		event_free(request->over);
}

void request_begin(struct request *request, struct evwork_attempt *attempt)
{
	int rc = evwork_ctx_after(evwork_attempt_ctx(attempt), request->client->loop,
		&request->watch);

	request->attempt = attempt;
	request->answer = (struct answer) { .retry_after_ms = -1 };
	request->decided = false;
	if (rc)
		end(request, rc);
	else
		take_turn(request);
}
