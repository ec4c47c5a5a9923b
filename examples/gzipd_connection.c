/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection: HTTP/1.1 as http_parser understands it, one request at a time. The body
 * of a request goes chunk by chunk through a pipeline of its own and comes back
 * compressed, and each side pushes back on the other:
 *
 *	client ──► input ──push──► queue ──► deflate ──► window ──item──► output ──► client
 *
 * A client that does not read its response fills the output; then no more items are
 * asked for, the window and the queue fill up, a push finds no room, the input is not
 * parsed, and when it has reached its high-water mark the socket is not read. So a
 * connection holds no more than about a megabyte, however large the body is: the input
 * and the chunk parsed from it, QUEUE, the one that is compressed and the one that fills,
 * WINDOW, and OUTPUT_HIGH with ASKED chunks above it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <http_parser.h>

#include "gzipd_connection.h"
#include "gzipd_deflate.h"

#define QUEUE 4
#define WINDOW 4
#define ASKED 2                      /* items asked for at once */
#define OUTPUT_HIGH (4 * CHUNK_SIZE) /* with more than this no item is asked for, */
#define OUTPUT_LOW CHUNK_SIZE        /* until it is down to this */
#define IDLE_S 60
#define LINGER_S 2

struct connection {
	struct connection *next, *prev;
	struct connections *all;
	struct bufferevent *stream;      /* NULL: the client has left */
	http_parser parser;
	char header[8];                  /* the name of the header that is parsed, if short */
	size_t header_length;
	struct evwork_pipeline *pipeline;    /* of the request; NULL: there is none */
	struct deflater *deflater;
	struct chunk *parsed;            /* body that is to be pushed */
	int asked;                       /* items asked for and not delivered */
	bool expects;                    /* a word before it sends the body */
	bool complete;                   /* the request was read to its end */
	bool full;                       /* a push found no room */
	bool framed;                     /* the response is in chunks */
	bool eof;                        /* the client sends no more */
	bool last;                       /* this is the last request */
	bool finishing;                  /* all was said; it is only to arrive */
};

static void feed(struct connection *connection);

/* ---- the end ---- */

static void connection_free(struct connection *connection)
{
	struct connections *all = connection->all;

	if (connection->next)
		connection->next->prev = connection->prev;
	if (connection->prev)
		connection->prev->next = connection->next;
	else
		all->first = connection->next;
	if (connection->stream)
		bufferevent_free(connection->stream);
	free(connection->parsed);
	free(connection);
}

/* The client has left, or has to. */
static void connection_cut(struct connection *connection)
{
	if (!connection->pipeline) {
		connection_free(connection);
		return;
	}
	if (!connection->stream)
		return;
	bufferevent_free(connection->stream);
	connection->stream = NULL;
	/* -EALREADY: it has failed, and its done is to come anyway. */
	(void)evwork_pipeline_stop(connection->pipeline);
}

/*
 * The output is on its way to the client, who is then told that it was all. Closing at
 * once would not do: if there are bytes that nobody has read, TCP resets the connection,
 * and what is on its way is lost.
 */
static void say_bye(struct connection *connection)
{
	const struct timeval linger = { LINGER_S, 0 };

	if (evbuffer_get_length(bufferevent_get_output(connection->stream)) > 0)
		return;
	(void)shutdown(bufferevent_getfd(connection->stream), SHUT_WR);
	(void)bufferevent_set_timeouts(connection->stream, &linger, NULL);
	if (connection->eof)
		connection_free(connection);
}

static void connection_finish(struct connection *connection)
{
	struct evbuffer *input = bufferevent_get_input(connection->stream);

	connection->finishing = true;
	(void)evbuffer_drain(input, evbuffer_get_length(input));
	bufferevent_setwatermark(connection->stream, EV_WRITE, 0, 0);
	say_bye(connection);
}

static void say(struct connection *connection, const char *text)
{
	(void)bufferevent_write(connection->stream, text, strlen(text));
}

/* ---- the response ---- */

/* Asks for more items, if the client has read enough of those before. */
static void ask(struct connection *connection)
{
	size_t unread = evbuffer_get_length(bufferevent_get_output(connection->stream));

	if (unread <= OUTPUT_HIGH && connection->asked < ASKED &&
	    !evwork_pipeline_request(connection->pipeline, ASKED - connection->asked))
		connection->asked = ASKED;
}

static void sent(const void *bytes, size_t length, void *chunk)
{
	(void)bytes;
	(void)length;
	free(chunk);
}

static void on_item(struct evwork_pipeline *pipeline, void *item, void *arg)
{
	struct connection *connection = arg;
	struct chunk *chunk = *(struct chunk **)item;
	struct evbuffer *output = bufferevent_get_output(connection->stream);

	(void)pipeline;
	connection->asked--;
	connection->all->bytes_out += chunk->length;
	if (connection->framed)
		(void)evbuffer_add_printf(output, "%zx\r\n", chunk->length);
	if (evbuffer_add_reference(output, chunk->bytes, chunk->length, sent, chunk)) {
		free(chunk);
		connection_cut(connection);
		return;
	}
	if (connection->framed)
		say(connection, "\r\n");
	ask(connection);
}

static void on_done(struct evwork_pipeline *pipeline, int status, void *arg)
{
	struct connection *connection = arg;

	(void)evwork_pipeline_free(pipeline);
	deflater_free(connection->deflater);
	connection->pipeline = NULL;
	connection->deflater = NULL;
	/* After an error the response, which has begun, is cut short: that tells. */
	if (!connection->stream || status) {
		connection_free(connection);
		return;
	}
	connection->all->served++;
	if (connection->framed)
		say(connection, "0\r\n\r\n");
	if (connection->last || connection->eof || connection->all->stopping) {
		connection_finish(connection);
		return;
	}
	connection->complete = false;
	http_parser_pause(&connection->parser, 0);
	feed(connection);
}

static void on_room(struct evwork_pipeline *pipeline, void *arg)
{
	struct connection *connection = arg;

	(void)pipeline;
	connection->full = false;
	if (connection->stream)
		feed(connection);
}

static int pipeline_start(struct connection *connection)
{
	struct evwork_stage stage = {
		.run = deflater_run, .item_size = sizeof(struct chunk *), .queue = QUEUE,
		.drop = chunk_drop,
	};
	struct evwork_pipeline_options options = {
		.stages = &stage, .stage_count = 1, .item_size = sizeof(struct chunk *),
		.item = on_item, .drop = chunk_drop, .window = WINDOW, .demand = 1,
		.done = on_done, .room = on_room, .arg = connection,
	};
	int rc = deflater_new(connection->all->level, &connection->deflater);

	if (rc)
		return rc;
	stage.arg = connection->deflater;
	rc = evwork_pipeline_start(connection->all->loop, &options, &connection->pipeline);
	if (rc) {
		deflater_free(connection->deflater);
		connection->deflater = NULL;
		return rc;
	}
	connection->asked = 0;
	connection->full = false;
	return 0;
}

/* ---- the request ---- */

/* Nothing of what the client sends from now on matters. */
static void refuse(struct connection *connection, const char *status)
{
	(void)evbuffer_add_printf(bufferevent_get_output(connection->stream), "HTTP/1.1 %s\r\n"
		"Content-Length: 0\r\nConnection: close\r\n\r\n", status);
	connection->last = true;
}

static int on_message_begin(http_parser *parser)
{
	struct connection *connection = parser->data;

	connection->header_length = 0;
	connection->expects = false;
	return 0;
}

/* Names and values come in pieces, as the network cuts them. */
static int on_header_field(http_parser *parser, const char *at, size_t length)
{
	struct connection *connection = parser->data;

	if (length > sizeof(connection->header) - connection->header_length)
		length = sizeof(connection->header) - connection->header_length;
	memcpy(connection->header + connection->header_length, at, length);
	connection->header_length += length;
	return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t length)
{
	struct connection *connection = parser->data;

	(void)at;
	(void)length;
	if (connection->header_length == strlen("expect") &&
	    !evutil_ascii_strncasecmp(connection->header, "expect", strlen("expect")))
		connection->expects = true;
	connection->header_length = 0;
	return 0;
}

static int on_headers_complete(http_parser *parser)
{
	struct connection *connection = parser->data;

	if (parser->method != HTTP_POST && parser->method != HTTP_PUT) {
		refuse(connection, "405 Method Not Allowed\r\nAllow: POST, PUT");
		return -1;
	}
	if (pipeline_start(connection)) {
		refuse(connection, "503 Service Unavailable");
		return -1;
	}
	connection->framed = parser->http_major > 1 || parser->http_minor >= 1;
	connection->last = !connection->framed || !http_should_keep_alive(parser);
	if (connection->expects)
		say(connection, "HTTP/1.1 100 Continue\r\n\r\n");
	say(connection, connection->framed ?
		"HTTP/1.1 200 OK\r\nContent-Type: application/gzip\r\n"
		"Transfer-Encoding: chunked\r\n\r\n" :
		"HTTP/1.0 200 OK\r\nContent-Type: application/gzip\r\n\r\n");
	ask(connection);
	return 0;
}

static int on_body(http_parser *parser, const char *at, size_t length)
{
	struct connection *connection = parser->data;
	struct chunk *chunk = connection->parsed;

	/* It fits: no more than there is room for is parsed at once. */
	memcpy(chunk->bytes + chunk->length, at, length);
	chunk->length += length;
	connection->all->bytes_in += length;
	return 0;
}

static int on_message_complete(http_parser *parser)
{
	struct connection *connection = parser->data;

	connection->complete = true;
	connection->parsed->last = true;
	/* The next request waits for the end of the response. */
	http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings callbacks = {
	.on_message_begin = on_message_begin,
	.on_header_field = on_header_field,
	.on_header_value = on_header_value,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

/* Parses some of the input. 1, 0 if there is none, or -EBADMSG, and the connection was
 * ended. */
static int parse(struct connection *connection)
{
	struct evbuffer *input = bufferevent_get_input(connection->stream);
	size_t length = evbuffer_get_contiguous_space(input), parsed;

	if (length == 0)
		return 0;
	if (!connection->parsed)
		connection->parsed = chunk_new();
	if (!connection->parsed) {
		connection_cut(connection);
		return -EBADMSG;
	}
	if (length > CHUNK_SIZE - connection->parsed->length)
		length = CHUNK_SIZE - connection->parsed->length;
	parsed = http_parser_execute(&connection->parser, &callbacks,
		(const char *)evbuffer_pullup(input, (ev_ssize_t)length), length);
	(void)evbuffer_drain(input, parsed);
	if (parsed == length || connection->complete)
		return 1;
	if (connection->pipeline) {
		connection_cut(connection);
		return -EBADMSG;
	}
	if (HTTP_PARSER_ERRNO(&connection->parser) != HPE_CB_headers_complete)
		refuse(connection, "400 Bad Request");
	connection_finish(connection);
	return -EBADMSG;
}

/* Pushes what was parsed; false if there was no room, or the pipeline is over. */
static bool push(struct connection *connection)
{
	if (!connection->parsed || (!connection->parsed->length && !connection->parsed->last))
		return true;
	if (evwork_pipeline_push(connection->pipeline, &connection->parsed)) {
		connection->full = true;
		return false;
	}
	connection->parsed = NULL;
	if (connection->complete)
		(void)evwork_pipeline_end(connection->pipeline);
	return true;
}

/* Takes what has come from the client as far as there is room for it. */
static void feed(struct connection *connection)
{
	int parsed = 1;

	while (push(connection) && !connection->complete && parsed > 0)
		parsed = parse(connection);
	/* Half a request, and there is no more. */
	if (parsed == 0 && connection->eof && !connection->full)
		connection_cut(connection);
}

/* ---- the connection ---- */

static void on_read(struct bufferevent *stream, void *arg)
{
	struct connection *connection = arg;
	struct evbuffer *input = bufferevent_get_input(stream);

	if (connection->finishing)
		(void)evbuffer_drain(input, evbuffer_get_length(input));
	else if (!connection->full && !connection->complete)
		feed(connection);
}

static void on_write(struct bufferevent *stream, void *arg)
{
	struct connection *connection = arg;

	(void)stream;
	if (connection->finishing)
		say_bye(connection);
	else if (connection->pipeline)
		ask(connection);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	struct connection *connection = arg;

	if (what & BEV_EVENT_EOF)
		connection->eof = true;
	/* While it waits for its response it need not say anything. */
	if ((what & BEV_EVENT_TIMEOUT) && (what & BEV_EVENT_READING) && connection->complete &&
	    !connection->finishing)
		bufferevent_enable(stream, EV_READ);
	else if (!(what & BEV_EVENT_EOF))
		connection_cut(connection);
	else if (connection->finishing)
		say_bye(connection);
	else if (!connection->complete && !connection->full)
		feed(connection);
}

void connections_add(struct connections *all, evutil_socket_t fd)
{
	const struct timeval idle = { IDLE_S, 0 };
	struct connection *connection = calloc(1, sizeof(*connection));

	if (connection)
		connection->stream = bufferevent_socket_new(evwork_loop_base(all->loop), fd,
			BEV_OPT_CLOSE_ON_FREE);
	if (!connection || !connection->stream) {
		free(connection);
		(void)evutil_closesocket(fd);
		return;
	}
	connection->all = all;
	connection->next = all->first;
	if (all->first)
		all->first->prev = connection;
	all->first = connection;
	http_parser_init(&connection->parser, HTTP_REQUEST);
	connection->parser.data = connection;
	bufferevent_setcb(connection->stream, on_read, on_write, on_event, connection);
	bufferevent_setwatermark(connection->stream, EV_READ, 0, CHUNK_SIZE);
	bufferevent_setwatermark(connection->stream, EV_WRITE, OUTPUT_LOW, 0);
	(void)bufferevent_set_timeouts(connection->stream, &idle, &idle);
	(void)bufferevent_enable(connection->stream, EV_READ);
}

void connections_stop(struct connections *all)
{
	struct connection *connection = all->first, *next;

	all->stopping = true;
	for (; connection; connection = next) {
		next = connection->next;
		if (!connection->pipeline && !connection->finishing)
			connection_free(connection);
	}
}
