/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A flaky HTTP server for test/fetchmany.sh, on a free port of the loopback interface. What
 * a request gets is decided by its path and by counting, never by time; words after that
 * only make paths different:
 *
 *	/ok           200
 *	/bytes/N      200, N bytes
 *	/chunked/N    200, N bytes in chunks of at most 1000
 *	/chunk/N      200, N bytes in one chunk
 *	/short/N      200, ends after half of N bytes
 *	/fail/K       503 for the first K requests of this path, then 200; says "failing"
 *	/drop/K       closes the connection of the first K, then 200
 *	/hang/K       never answers the first K, then 200; says "hanging"
 *	/busy/K       429 with "Retry-After: 0" for the first K, then 200
 *	/later        503 with "Retry-After: 1000"
 *	/meet/K       answers when K requests of this path are there at once
 *	/nonsense     what is no HTTP
 *	/missing, or anything else   404
 *
 * What it says is on stdout. SIGTERM ends it; then it prints how many requests there were and
 * how many of them were there at once at the most, those that hang not counted. It has
 * nothing of evhttp, whose other half is what is tested.
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "listen.h"

#define PIECE 1000
#define HEADER_MAX 65536

struct path {
	struct path *next;
	unsigned count;               /* requests */
	struct client *waiting;       /* /meet, those that are there */
	char text[];
};

struct client {
	struct client *next, *prev;   /* of all */
	struct client *met;           /* the next in path->waiting */
	struct bufferevent *stream;
	char line[512];               /* the request's first; empty: not read yet */
	bool read, closing;
};

static struct event_base *base;
static struct client *clients;
static struct path *paths;
static unsigned requests, now, most;

static void die(const char *what)
{
	(void)fprintf(stderr, "fetchmany_server: %s\n", what);
	exit(EXIT_FAILURE);
}

static struct path *path_get(const char *text)
{
	struct path *path;

	for (path = paths; path; path = path->next)
		if (strcmp(path->text, text) == 0)
			return path;
	path = calloc(1, sizeof(*path) + strlen(text) + 1);
	if (!path)
		die("no memory");
	memcpy(path->text, text, strlen(text) + 1);
	path->next = paths;
	paths = path;
	return path;
}

static void client_free(struct client *client)
{
	if (client->next)
		client->next->prev = client->prev;
	if (client->prev)
		client->prev->next = client->next;
	else
		clients = client->next;
	bufferevent_free(client->stream);
	free(client);
}

/* ---- answers ---- */

static void on_written(struct bufferevent *stream, void *arg)
{
	(void)stream;
	if (((struct client *)arg)->closing)
		client_free(arg);
}

/* What was written is the answer: the client may be there again before it has arrived. */
static void finish(struct client *client)
{
	now--;
	client->closing = true;
	if (evbuffer_get_length(bufferevent_get_output(client->stream)) == 0)
		client_free(client);
}

static void head(struct client *client, const char *status, const char *more)
{
	(void)evbuffer_add_printf(bufferevent_get_output(client->stream),
		"HTTP/1.1 %s\r\nConnection: close\r\n%s\r\n", status, more);
}

static void zeros(struct client *client, uint64_t count)
{
	static const char piece[PIECE];

	for (; count > PIECE; count -= PIECE)
		(void)bufferevent_write(client->stream, piece, PIECE);
	(void)bufferevent_write(client->stream, piece, count);
}

static void body(struct client *client, uint64_t says, uint64_t sends)
{
	char length[64];

	(void)snprintf(length, sizeof(length), "Content-Length: %" PRIu64 "\r\n", says);
	head(client, "200 OK", length);
	zeros(client, sends);
	finish(client);
}

static void chunked(struct client *client, uint64_t count, uint64_t size)
{
	struct evbuffer *output = bufferevent_get_output(client->stream);

	head(client, "200 OK", "Transfer-Encoding: chunked\r\n");
	while (count > 0) {
		uint64_t piece = count < size ? count : size;

		(void)evbuffer_add_printf(output, "%" PRIx64 "\r\n", piece);
		zeros(client, piece);
		(void)evbuffer_add(output, "\r\n", 2);
		count -= piece;
	}
	(void)evbuffer_add(output, "0\r\n\r\n", 5);
	finish(client);
}

static void refuse(struct client *client, const char *status, const char *more)
{
	char headers[128];

	(void)snprintf(headers, sizeof(headers), "Content-Length: 0\r\n%s", more);
	head(client, status, headers);
	finish(client);
}

static void say(const char *what)
{
	if (puts(what) < 0 || fflush(stdout))
		die("stdout");
}

static void hang(void)
{
	now--;
	say("hanging");
}

static void fail(struct client *client)
{
	say("failing");
	refuse(client, "503 Unavailable", "");
}

static void nonsense(struct client *client)
{
	(void)evbuffer_add_printf(bufferevent_get_output(client->stream), "nonsense\r\n\r\n");
	finish(client);
}

static void meet(struct client *client, struct path *path, uint64_t count)
{
	client->met = path->waiting;
	path->waiting = client;
	if (path->count % count != 0)
		return;
	while (path->waiting) {
		client = path->waiting;
		path->waiting = client->met;
		body(client, 2, 2);
	}
}

static void answer(struct client *client, const char *text)
{
	struct path *path = path_get(text);
	bool early;
	char kind[16] = "";
	uint64_t n = 0;

	(void)sscanf(text, "/%15[a-z]/%" SCNu64, kind, &n);
	early = ++path->count <= n;
	if (strcmp(kind, "ok") == 0)
		body(client, 2, 2);
	else if (strcmp(kind, "bytes") == 0)
		body(client, n, n);
	else if (strcmp(kind, "chunked") == 0)
		chunked(client, n, PIECE);
	else if (strcmp(kind, "chunk") == 0)
		chunked(client, n, n);
	else if (strcmp(kind, "short") == 0)
		body(client, n, n / 2);
	else if (strcmp(kind, "fail") == 0 && early)
		fail(client);
	else if (strcmp(kind, "busy") == 0 && early)
		refuse(client, "429 Too Many", "Retry-After: 0\r\n");
	else if (strcmp(kind, "later") == 0)
		refuse(client, "503 Unavailable", "Retry-After: 1000\r\n");
	else if (strcmp(kind, "drop") == 0 && early)
		finish(client);
	else if (strcmp(kind, "hang") == 0 && early)
		hang();
	else if (strcmp(kind, "meet") == 0 && n > 0)
		meet(client, path, n);
	else if (strcmp(kind, "nonsense") == 0)
		nonsense(client);
	else if (n > 0)
		body(client, 2, 2);
	else
		refuse(client, "404 Not Found", "");
}

/* ---- requests ---- */

static void on_read(struct bufferevent *stream, void *arg)
{
	struct client *client = arg;
	struct evbuffer *input = bufferevent_get_input(stream);
	char path[sizeof(client->line)] = "", *line;

	if (client->read || evbuffer_get_length(input) > HEADER_MAX)
		return;
	while ((line = evbuffer_readln(input, NULL, EVBUFFER_EOL_CRLF))) {
		client->read = *line == '\0';
		if (!*client->line)
			(void)snprintf(client->line, sizeof(client->line), "%s", line);
		free(line);
		if (client->read)
			break;
	}
	if (!client->read)
		return;
	requests++;
	now++;
	if (now > most)
		most = now;
	(void)sscanf(client->line, "GET %511s", path);
	answer(client, path);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	struct client *client = arg, **place;
	struct path *path;

	(void)stream;
	(void)what;
	for (path = paths; path; path = path->next)
		for (place = &path->waiting; *place; place = &(*place)->met)
			if (*place == client) {
				*place = client->met;
				now--;
				break;
			}
	client_free(client);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
	struct sockaddr *address, int length, void *arg)
{
	struct client *client = calloc(1, sizeof(*client));

	(void)listener;
	(void)address;
	(void)length;
	(void)arg;
	if (!client)
		die("no memory");
	client->stream = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!client->stream)
		die("no memory");
	client->next = clients;
	if (clients)
		clients->prev = client;
	clients = client;
	bufferevent_setcb(client->stream, on_read, on_written, on_event, client);
	(void)bufferevent_enable(client->stream, EV_READ | EV_WRITE);
}

static void on_term(evutil_socket_t signal, short what, void *arg)
{
	(void)signal;
	(void)what;
	(void)arg;
	(void)event_base_loopbreak(base);
}

int main(void)
{
	struct evconnlistener *listener = NULL;
	struct event *term;
	struct path *path;

	(void)signal(SIGPIPE, SIG_IGN);
	base = event_base_new();
	term = base ? evsignal_new(base, SIGTERM, on_term, NULL) : NULL;
	if (!term || event_add(term, NULL) || listen_on_loopback(base, 0, on_accept, NULL, &listener))
		die("no socket, or no memory");
	if (event_base_dispatch(base) < 0)
		die("dispatch");
	(void)fprintf(stderr, "%u requests, %u at once\n", requests, most);
	while (clients)
		client_free(clients);
	while ((path = paths)) {
		paths = path->next;
		free(path);
	}
	evconnlistener_free(listener);
	event_free(term);
	event_base_free(base);
	return EXIT_SUCCESS;
}
