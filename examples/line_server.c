/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection is bounded in both directions: a line has a length, and a client that does
 * not read its answers is not read from. */

#include <stdlib.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "line_server.h"
#include "listen.h"

#define LINE_LENGTH_MAX 4096u
#define UNREAD_MAX 65536u

struct line_session {
	struct line_session *next, **at;
	struct bufferevent *stream;
};

static void session_free(struct line_session *session)
{
	*session->at = session->next;
	if (session->next)
		session->next->at = session->at;
	bufferevent_free(session->stream);
	free(session);
}

/* When something has come, and when all answers have left. */
static void on_progress(struct bufferevent *stream, void *arg)
{
	struct evbuffer *input = bufferevent_get_input(stream);
	struct evbuffer *output = bufferevent_get_output(stream);

	while (evbuffer_get_length(output) < UNREAD_MAX) {
		char *line = evbuffer_readln(input, NULL, EVBUFFER_EOL_LF);
		int rc;

		if (!line) {
			if (evbuffer_get_length(input) >= LINE_LENGTH_MAX)
				session_free(arg); /* the line would never end */
			return;
		}
		rc = evbuffer_add_printf(output, "ok %s\n", line);
		free(line);
		if (rc < 0) {
			session_free(arg);
			return;
		}
	}
}

static void on_end(struct bufferevent *stream, short what, void *arg)
{
	(void)stream;
	(void)what; /* the end of the stream, or an error of it */
	session_free(arg);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
	struct sockaddr *address, int length, void *arg)
{
	struct line_server *server = arg;
	struct line_session *session = calloc(1, sizeof(*session));

	(void)address;
	(void)length;
	if (session)
		session->stream = bufferevent_socket_new(evconnlistener_get_base(listener), fd,
			BEV_OPT_CLOSE_ON_FREE);
	if (!session || !session->stream) {
		free(session);
		(void)evutil_closesocket(fd);
		return;
	}
	session->next = server->first;
	session->at = &server->first;
	if (session->next)
		session->next->at = &session->next;
	server->first = session;
	bufferevent_setcb(session->stream, on_progress, on_progress, on_end, session);
	bufferevent_setwatermark(session->stream, EV_READ, 0, LINE_LENGTH_MAX);
	if (bufferevent_enable(session->stream, EV_READ | EV_WRITE))
		session_free(session);
}

int line_server_open(struct line_server *server, struct event_base *base, uint64_t port)
{
	return listen_on_loopback(base, port, on_accept, server, &server->listener);
}

void line_server_close(struct line_server *server)
{
	if (server->listener)
		evconnlistener_free(server->listener);
	server->listener = NULL;
	while (server->first)
		session_free(server->first);
}
