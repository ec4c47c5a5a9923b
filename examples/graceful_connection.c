/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection is bounded in every direction: a line has a length, requests under way
 * have a number, and a client that does not read its replies is not read from.
 *
 * It ends in one of two ways. Either its client leaves: then its context dies, and it
 * goes when its last request is over, as these still use it. Or it is stopped: then its
 * last reply is followed by bye and the end of the stream, and it goes when the client
 * leaves. Closing at once would not do: if there are bytes that nobody has read, TCP
 * resets the connection, and replies on their way are lost.
 */

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "graceful_connection.h"

#define LINE_LENGTH_MAX 8192u
#define REQUESTS_MAX 32u
#define UNREAD_MAX 65536u

struct connection {
	struct connection *next, *prev;
	struct connections *all;
	struct bufferevent *stream;  /* NULL: the client has left */
	struct evwork_ctx *ctx;      /* dies when it leaves */
	struct request *first;       /* in the order of their lines */
	struct request **last;
	unsigned requests;
	uint64_t accepted;
	bool stopped;
	bool bye;                    /* said */
};

static void connection_free(struct connection *connection)
{
	struct connections *all = connection->all;

	if (connection->next)
		connection->next->prev = connection->prev;
	if (connection->prev)
		connection->prev->next = connection->next;
	else
		all->first = connection->next;
	evwork_ctx_unref(connection->ctx);
	free(connection);
	(void)evwork_latch_add(all->open, -1); /* it was counted when it was made */
}

static void connection_leave(struct connection *connection)
{
	bufferevent_free(connection->stream);
	connection->stream = NULL;
	(void)evwork_ctx_cancel(connection->ctx, 0);
	if (connection->requests == 0)
		connection_free(connection);
}

/* ---- replies ---- */

static struct evbuffer *output(const struct connection *connection)
{
	return bufferevent_get_output(connection->stream);
}

/* Replies wait for those of the requests before them. Returns false if there was no memory
 * for one; then those behind it are left out, too. */
static bool replies_write(struct connection *connection)
{
	bool whole = true;

	while (connection->first && request_reply(connection->first)) {
		struct request *request = connection->first;
		const char *reply = request_reply(request);

		whole = whole && connection->stream
			&& !evbuffer_add(output(connection), reply, strlen(reply));
		if (whole)
			connection->all->answered++;
		else
			connection->all->abandoned++;
		connection->first = *request_next(request);
		if (!connection->first)
			connection->last = &connection->first;
		connection->requests--;
		request_free(request);
	}
	return whole;
}

static void bye_say(struct connection *connection)
{
	if (!connection->stopped || connection->bye || connection->requests > 0)
		return;
	connection->bye = true; /* the stream ends when this is written */
	(void)evbuffer_add_printf(output(connection), "bye %" PRIu64 "\n", connection->accepted);
}

/* ---- lines ---- */

static bool lines_take(struct connection *connection);

static void request_done(struct request *request, void *arg)
{
	struct connection *connection = arg;
	bool written = replies_write(connection);

	(void)request;
	if (!connection->stream) {
		if (connection->requests == 0)
			connection_free(connection);
	} else if (!written) {
		connection_leave(connection);
	} else if (lines_take(connection)) {
		bye_say(connection);
	}
}

static bool has_room(const struct connection *connection)
{
	return connection->requests < REQUESTS_MAX
		&& evbuffer_get_length(output(connection)) < UNREAD_MAX;
}

static int line_take(struct connection *connection, const char *line)
{
	struct request *request;
	int rc = request_start(&connection->all->requests, connection->ctx, line,
		request_done, connection, &request);

	if (rc)
		return rc;
	connection->all->accepted++;
	connection->accepted++;
	connection->requests++;
	*connection->last = request;
	connection->last = request_next(request);
	return 0;
}

/*
 * Lines that are left here stay in the buffer, which then is full at some time, and no
 * more is read. Of a connection that is stopped all that were read are taken. Returns
 * false if it had to be given up, and may be gone.
 */
static bool lines_take(struct connection *connection)
{
	struct evbuffer *input = bufferevent_get_input(connection->stream);

	while (connection->stopped || has_room(connection)) {
		char *line = evbuffer_readln(input, NULL, EVBUFFER_EOL_CRLF);
		int rc;

		if (!line)
			return true;
		rc = line_take(connection, line);
		free(line);
		if (rc || !replies_write(connection)) {
			connection_leave(connection); /* no memory */
			return false;
		}
	}
	return true;
}

/* ---- what libevent says ---- */

static void on_input(struct bufferevent *stream, void *arg)
{
	struct connection *connection = arg;
	struct evbuffer *input = bufferevent_get_input(stream);

	if (connection->stopped) {
		(void)evbuffer_drain(input, evbuffer_get_length(input));
		return;
	}
	if (evbuffer_get_length(input) >= LINE_LENGTH_MAX
	    && evbuffer_search_eol(input, NULL, NULL, EVBUFFER_EOL_LF).pos < 0)
		connection_leave(connection); /* the line would never end */
	else
		(void)lines_take(connection);
}

/* All that there was to say is on its way. */
static void on_written(struct bufferevent *stream, void *arg)
{
	struct connection *connection = arg;

	if (connection->bye)
		(void)shutdown(bufferevent_getfd(stream), SHUT_WR); /* fails if it has left */
	else if (!connection->stopped)
		(void)lines_take(connection);
}

static void on_end(struct bufferevent *stream, short what, void *arg)
{
	(void)stream;
	(void)what; /* the end of the stream, or an error of it */
	connection_leave(arg);
}

/* ---- all of them ---- */

static int stream_open(struct connection *connection, evutil_socket_t fd)
{
	struct event_base *base = evwork_loop_base(connection->all->requests.loop);
	const int on = 1;

	/* Replies are short, and each is waited for. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	connection->stream = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!connection->stream) {
		(void)evutil_closesocket(fd);
		return -ENOMEM;
	}
	bufferevent_setcb(connection->stream, on_input, on_written, on_end, connection);
	bufferevent_setwatermark(connection->stream, EV_READ, 0, LINE_LENGTH_MAX);
	if (evbuffer_add_printf(output(connection), "ready\n") < 0
	    || bufferevent_enable(connection->stream, EV_READ | EV_WRITE)) {
		bufferevent_free(connection->stream);
		return -ENOMEM;
	}
	return 0;
}

void connections_add(struct connections *all, evutil_socket_t fd)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection || evwork_ctx_new(NULL, &connection->ctx)) {
		free(connection);
		(void)evutil_closesocket(fd);
		return;
	}
	connection->all = all;
	connection->last = &connection->first;
	if (stream_open(connection, fd)) {
		evwork_ctx_unref(connection->ctx);
		free(connection);
		return;
	}
	connection->next = all->first;
	if (all->first)
		all->first->prev = connection;
	all->first = connection;
	all->served++;
	(void)evwork_latch_add(all->open, 1); /* nobody waits yet, so it is not busy */
}

void connections_stop(struct connections *all)
{
	for (struct connection *connection = all->first, *next; connection; connection = next) {
		next = connection->next;
		connection->stopped = true;
		if (connection->stream && lines_take(connection))
			bye_say(connection);
	}
}

void connections_cut(struct connections *all)
{
	for (struct connection *connection = all->first, *next; connection; connection = next) {
		next = connection->next;
		if (connection->stream)
			connection_leave(connection);
	}
}
