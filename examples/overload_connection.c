/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "overload_connection.h"

#define LINE_MAX_BYTES (1024 * 1024)
/* How long a client may take to read its last answers. */
#define LINGER_S 3

struct connection {
	struct connection *next, *previous;
	struct service *service;
	struct bufferevent *bev;          /* NULL: the client has left */
	struct evwork_inlet inlet;
	int requests;                     /* under way */
};

struct request {
	struct evwork_job job;
	struct connection *connection;
	int64_t read_ns;
	size_t size;
	uint32_t primes;
	char line[];                      /* kept until it is answered, as a real one would be */
};

/* ---- requests ---- */

static int request_run(struct evwork_job *job)
{
	struct request *request = EVWORK_CONTAINER(job, struct request, job);
	struct service *service = request->connection->service;
	uint32_t number, divisor;

	atomic_fetch_add_explicit(&service->started, 1, memory_order_relaxed);
	for (number = 2; number < service->below; number++) {
		for (divisor = 2; divisor * divisor <= number; divisor++)
			if (number % divisor == 0)
				break;
		request->primes += divisor * divisor > number;
	}
	return 0;
}

static void note_most(uint64_t *most, uint64_t value)
{
	if (*most < value)
		*most = value;
}

static void connection_free_unused(struct connection *connection)
{
	if (!connection->bev && connection->requests == 0)
		free(connection);
}

static void request_done(struct evwork_job *job, int status)
{
	struct request *request = EVWORK_CONTAINER(job, struct request, job);
	struct connection *connection = request->connection;
	struct service *service = connection->service;
	int64_t took = evwork_loop_now(service->loop) - request->read_ns;
	int number = (int)strcspn(request->line, " ");

	service->answered++;
	service->bytes -= request->size;
	if (service->longest_ns < took)
		service->longest_ns = took;
	if (connection->bev)
		(void)evbuffer_add_printf(bufferevent_get_output(connection->bev),
			"%.*s %s %" PRIu32 "\n", number, request->line,
			status ? evwork_strerror(status) : "ok", request->primes);
	connection->requests--;
	connection_free_unused(connection);
	free(request);
}

static int request_begin(struct connection *connection, const char *line, size_t length)
{
	struct service *service = connection->service;
	struct request *request = calloc(1, sizeof(*request) + length + 1);
	/* Before it is submitted, as it may have been started when that returns. */
	uint64_t ahead = service->taken -
		atomic_load_explicit(&service->started, memory_order_relaxed);
	int rc;

	if (!request)
		return -ENOMEM;
	memcpy(request->line, line, length);
	request->connection = connection;
	request->size = sizeof(*request) + length + 1;
	request->read_ns = evwork_loop_now(service->loop);
	evwork_job_init(&request->job, request_run, request_done);
	rc = evwork_submit(service->loop, &request->job);
	if (rc) {
		free(request);
		return rc;
	}
	note_most(&service->most_ahead, ahead);
	service->taken++;
	service->bytes += request->size;
	connection->requests++;
	note_most(&service->most_held, service->taken - service->answered);
	note_most(&service->most_bytes, service->bytes);
	return 0;
}

/* ---- connections ---- */

static void connection_close(struct connection *connection)
{
	struct service *service = connection->service;

	if (connection->next)
		connection->next->previous = connection->previous;
	if (connection->previous)
		connection->previous->next = connection->next;
	else
		service->first = connection->next;
	(void)evwork_gate_remove(&connection->inlet); /* -ESRCH: there is no gate */
	bufferevent_free(connection->bev);
	connection->bev = NULL;
	connection_free_unused(connection);
	if (service->finishing && !service->first)
		service->all_closed(service);
}

/* Whether another request may be taken in. This question is all that the gate asks for. */
static bool may_take(struct connection *connection)
{
	return !connection->service->gate || evwork_inlet_pass(&connection->inlet) == 0;
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct evbuffer *input = bufferevent_get_input(bev);
	struct connection *connection = arg;
	size_t length;
	char *line;
	int rc = 0;

	while (!rc && may_take(connection) &&
	       (line = evbuffer_readln(input, &length, EVBUFFER_EOL_LF))) {
		rc = request_begin(connection, line, length);
		free(line);
	}
	/* It ends, or has no memory. */
	if (rc || evbuffer_get_length(input) > LINE_MAX_BYTES)
		connection_close(connection);
}

/* What was taken in is answered. */
static void on_written(struct bufferevent *bev, void *arg)
{
	struct connection *connection = arg;

	if (connection->requests == 0 && evbuffer_get_length(bufferevent_get_output(bev)) == 0)
		connection_close(connection);
}

static void connection_stop(struct connection *connection)
{
	if (connection->service->gate)
		(void)evwork_inlet_want(&connection->inlet, 0); /* -EALREADY: as before */
	else
		(void)bufferevent_disable(connection->bev, EV_READ);
}

/* A client that has no more requests still waits for its answers. Libevent has switched the
 * reading off, and so must the gate, or it would be told of the end once more. */
static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct connection *connection = arg;

	if (!(what & BEV_EVENT_EOF)) {
		connection_close(connection);
		return;
	}
	connection_stop(connection);
	bufferevent_setcb(bev, NULL, on_written, on_event, connection);
	on_written(bev, connection);
}

void connection_add(struct service *service, evutil_socket_t fd)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	struct event_base *base = evwork_loop_base(service->loop);
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);

	if (!connection || !bev) {
		free(connection);
		if (bev)
			bufferevent_free(bev);
		else
			(void)evutil_closesocket(fd);
		return;
	}
	connection->service = service;
	connection->bev = bev;
	connection->next = service->first;
	if (service->first)
		service->first->previous = connection;
	service->first = connection;
	bufferevent_setcb(bev, on_read, NULL, on_event, connection);
	evwork_inlet_init_bufferevent(&connection->inlet, bev);
	if (service->gate ? evwork_gate_add(service->gate, &connection->inlet) != 0 :
	    bufferevent_enable(bev, EV_READ) != 0)
		connection_close(connection);
}

void connections_stop(struct service *service)
{
	struct connection *connection;

	for (connection = service->first; connection; connection = connection->next)
		connection_stop(connection);
}

void connections_finish(struct service *service)
{
	const struct timeval linger = { LINGER_S, 0 };
	struct connection *connection, *next;

	for (connection = service->first; connection; connection = next) {
		next = connection->next;
		bufferevent_setcb(connection->bev, NULL, on_written, on_event, connection);
		if (evbuffer_get_length(bufferevent_get_output(connection->bev)) == 0)
			connection_close(connection);
		else
			(void)bufferevent_set_timeouts(connection->bev, NULL, &linger);
	}
	service->finishing = true;
	if (!service->first)
		service->all_closed(service);
}
