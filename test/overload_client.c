/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client of examples/overload that wants four times what it gets: for each answer it has
 * four more requests, until all have been asked for. How fast the server is does not matter.
 *
 *	overload_client PORT CONNECTIONS REQUESTS BYTES
 *
 * REQUESTS and BYTES are for each connection, and each request. Prints "begun" with the first
 * answer, and "ok" if each request was answered exactly once.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FACTOR 4
#define SILENCE_MS 120000        /* after which something hangs */

struct connection {
	int fd;
	size_t wanted;               /* requests that have been asked for */
	size_t sent;                 /* bytes of these */
	size_t answers;
	bool *answered;
	char line[64];
	size_t length;
};

static size_t requests, size;
static bool first = true;

static void die(const char *what)
{
	(void)fprintf(stderr, "overload_client: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static void want_more(struct connection *connection)
{
	connection->wanted += FACTOR;
	if (connection->wanted > requests)
		connection->wanted = requests;
}

/* The request is its number and as many dots as it takes. */
static void request_write(char *text, size_t number)
{
	int digits = sprintf(text, "%zu ", number);

	memset(text + digits, '.', size - (size_t)digits - 1);
	text[size - 1] = '\n';
}

/* Sends what the server takes now, and after the last request the end: the answers come
 * nevertheless. */
static void send_some(struct connection *connection, char *text)
{
	while (connection->sent < connection->wanted * size) {
		size_t at = connection->sent % size;
		ssize_t count;

		request_write(text, connection->sent / size);
		count = send(connection->fd, text + at, size - at, MSG_NOSIGNAL);
		if (count < 0 && errno != EAGAIN)
			die("send");
		if (count < 0)
			return;
		connection->sent += (size_t)count;
		if (connection->sent == requests * size && shutdown(connection->fd, SHUT_WR))
			die("shutdown");
	}
}

static void answer_take(struct connection *connection, const char *line)
{
	char *end;
	size_t number = strtoul(line, &end, 10);

	errno = EBADMSG;
	if (end == line || strncmp(end, " ok ", 4) != 0 || number >= connection->wanted ||
	    connection->answered[number])
		die(line);
	if (first && (puts("begun") < 0 || fflush(stdout)))
		die("write");
	first = false;
	connection->answered[number] = true;
	connection->answers++;
	want_more(connection);
}

static void receive_some(struct connection *connection)
{
	char bytes[4096];
	ssize_t count = read(connection->fd, bytes, sizeof(bytes)), i;

	if (count < 0 && errno == EAGAIN)
		return;
	if (count <= 0)
		die("read");
	for (i = 0; i < count; i++) {
		errno = EMSGSIZE;
		if (connection->length + 1 == sizeof(connection->line))
			die("an answer");
		connection->line[connection->length++] = bytes[i];
		if (bytes[i] != '\n')
			continue;
		connection->line[connection->length - 1] = '\0';
		connection->length = 0;
		answer_take(connection, connection->line);
	}
}

static void connection_open(struct connection *connection, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	connection->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connection->fd < 0 ||
	    connect(connection->fd, (struct sockaddr *)&address, sizeof(address)) ||
	    fcntl(connection->fd, F_SETFL, O_NONBLOCK))
		die("connect");
	connection->answered = calloc(requests, sizeof(bool));
	if (!connection->answered)
		die("memory");
	want_more(connection);
}

/* How many connections want something; what each waits for is in polls. */
static size_t look(struct connection *connections, struct pollfd *polls, size_t count)
{
	size_t open = 0, i;

	for (i = 0; i < count; i++) {
		struct connection *connection = &connections[i];
		bool over = connection->answers == requests;

		polls[i].fd = over ? -1 : connection->fd;
		polls[i].events = POLLIN;
		if (connection->sent < connection->wanted * size)
			polls[i].events |= POLLOUT;
		open += !over;
	}
	return open;
}

int main(int argc, char **argv)
{
	size_t count, i;
	struct connection *connections;
	struct pollfd *polls;
	char *text;

	if (argc != 5)
		return 2;
	count = strtoul(argv[2], NULL, 10);
	requests = strtoul(argv[3], NULL, 10);
	size = strtoul(argv[4], NULL, 10);
	connections = calloc(count, sizeof(*connections));
	polls = calloc(count, sizeof(*polls));
	text = malloc(size + 1);
	if (!connections || !polls || !text || size < 32)
		die("arguments");
	for (i = 0; i < count; i++)
		connection_open(&connections[i], (int)strtol(argv[1], NULL, 10));
	while (look(connections, polls, count) > 0) {
		int rc = poll(polls, count, SILENCE_MS);

		errno = rc < 0 ? errno : ETIMEDOUT;
		if (rc <= 0)
			die("poll");
		for (i = 0; i < count; i++) {
			if (polls[i].revents & ~POLLOUT)
				receive_some(&connections[i]);
			if (polls[i].revents)
				send_some(&connections[i], text);
		}
	}
	for (i = 0; i < count; i++) {
		(void)close(connections[i].fd);
		free(connections[i].answered);
	}
	free(connections);
	free(polls);
	free(text);
	return puts("ok") < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
