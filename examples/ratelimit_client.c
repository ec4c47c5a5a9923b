/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each connection makes one request after the other: waits for its turn, sends, reads the
 * answer. If one fails the others send nothing more, either.
 */

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ratelimit_client.h"

#define ANSWER_LENGTH_MAX 64

struct client {
	struct evwork_limiter_waiter turn;
	struct clients *clients;
	struct bufferevent *stream;
	struct record record;
	bool waiting;            /* for its turn */
	bool broken;             /* of no use any more; left as soon as it does not wait */
};

static int64_t now(const struct clients *clients)
{
	return evwork_loop_now(clients->loop) - clients->start_ns;
}

/* ---- leaving ---- */

static void client_leave(struct client *client)
{
	struct clients *clients = client->clients;

	if (client->stream)
		bufferevent_free(client->stream);
	client->stream = NULL;
	if (--clients->open == 0)
		clients->ended(clients->arg);
}

static void client_fail(struct client *client, const char *what, int error)
{
	struct clients *clients = client->clients;

	if (!clients->error) {
		(void)fprintf(stderr, "ratelimit: %s: %s\n", what, strerror(error));
		clients->error = -error;
	}
	(void)evwork_ctx_cancel(clients->ctx, 0); /* -EALREADY: so be it */
	client->broken = true;
	if (!client->waiting)
		client_leave(client);
}

/* ---- a request ---- */

static void client_ask(struct client *client)
{
	struct clients *clients = client->clients;
	int rc;

	if (clients->account.asked == clients->account.requests) {
		client_leave(client);
		return;
	}
	client->record.number = clients->account.asked;
	client->record.asked_ns = now(clients);
	rc = evwork_limiter_wait(clients->limiter, 1, clients->ctx, clients->loop, &client->turn);
	if (rc == -ECANCELED) {
		client_leave(client); /* we were interrupted, or somebody has failed */
	} else if (rc) {
		client_fail(client, "waiting for a turn", -rc);
	} else {
		clients->account.asked++;
		client->waiting = true;
	}
}

static void on_turn(struct evwork_limiter_waiter *turn, int status)
{
	struct client *client = EVWORK_CONTAINER(turn, struct client, turn);
	struct account *account = &client->clients->account;

	client->waiting = false;
	if (status) {
		account->cancelled++;
		client_leave(client);
		return;
	}
	client->record.sent_ns = now(client->clients);
	account_grant(account, &client->record);
	if (client->broken)
		client_leave(client);
	else if (evbuffer_add_printf(bufferevent_get_output(client->stream),
			"request %" PRIu64 "\n", client->record.number) < 0)
		client_fail(client, "sending", ENOMEM);
}

/* Whether it is the one that we wait for. A line that is too long never is. */
static bool is_answer(const struct client *client, const char *line)
{
	char expected[ANSWER_LENGTH_MAX];

	(void)snprintf(expected, sizeof(expected), "ok request %" PRIu64, client->record.number);
	return !client->waiting && line && strcmp(line, expected) == 0;
}

static void on_input(struct bufferevent *stream, void *arg)
{
	struct client *client = arg;
	struct evbuffer *input = bufferevent_get_input(stream);
	char *line;
	bool right;
	int rc;

	if (client->broken)
		return;
	line = evbuffer_readln(input, NULL, EVBUFFER_EOL_LF);
	if (!line && evbuffer_get_length(input) < ANSWER_LENGTH_MAX)
		return; /* the rest is to come */
	right = is_answer(client, line) && evbuffer_get_length(input) == 0; /* nor more than it */
	free(line);
	if (!right) {
		client_fail(client, "what the server says", EPROTO);
		return;
	}
	client->record.answered_ns = now(client->clients);
	rc = account_answer(&client->clients->account, &client->record);
	if (rc)
		client_fail(client, "the log", -rc); /* nobody would know that we go on */
	else
		client_ask(client);
}

/* ---- the connection ---- */

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	struct client *client = arg;

	(void)stream;
	if (what & BEV_EVENT_CONNECTED)
		client_ask(client);
	else if (client->broken)
		return;
	else if (what & BEV_EVENT_EOF)
		client_fail(client, "the server has closed the connection", EPIPE);
	else
		client_fail(client, "the connection to the server", EVUTIL_SOCKET_ERROR());
}

static int client_connect(struct client *client, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	client->stream = bufferevent_socket_new(evwork_loop_base(client->clients->loop), -1,
		BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	if (!client->stream)
		return -ENOMEM;
	bufferevent_setcb(client->stream, on_input, NULL, on_event, client);
	bufferevent_setwatermark(client->stream, EV_READ, 0, ANSWER_LENGTH_MAX);
	if (bufferevent_socket_connect(client->stream, (struct sockaddr *)&address,
			(int)sizeof(address)))
		return -EVUTIL_SOCKET_ERROR();
	return bufferevent_enable(client->stream, EV_READ | EV_WRITE) ? -ENOMEM : 0;
}

/* ---- all of them ---- */

int clients_start(struct clients *clients, uint16_t port)
{
	size_t i;

	clients->all = calloc(clients->count, sizeof(*clients->all));
	if (!clients->all)
		return -ENOMEM;
	clients->open = clients->count;
	for (i = 0; i < clients->count; i++) {
		struct client *client = &clients->all[i];
		int rc;

		client->clients = clients;
		evwork_limiter_waiter_init(&client->turn, on_turn);
		rc = client_connect(client, port);
		if (rc)
			client_fail(client, "connecting", -rc);
	}
	return 0;
}

void clients_fini(struct clients *clients)
{
	free(clients->all);
	clients->all = NULL;
}
