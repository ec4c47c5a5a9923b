/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client of examples/gzipd that does not read: it sends a body that cannot be
 * compressed until the server takes no more, which has to be soon. Only then it reads,
 * sends the rest, and compares what it gets with what it sent.
 *
 *	gzipd_client PORT BYTES MOST
 *
 * Prints how much was taken, and "ok" if that was no more than MOST bytes and the
 * response was right. That the server takes no more is believed after a second without
 * any; if it only was slow the test sees less than it could, and never fails for it.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <http_parser.h>
#include <zlib.h>

#define PIECE 16384u
#define STILL_MS 1000
#define SILENCE_MS 60000         /* after which something hangs */

/* The body, from both ends: as it is sent, and as it is compared. */
struct noise {
	uint64_t state;
	uint64_t left;               /* bytes */
};

struct client {
	int fd;
	struct noise sent, expected;
	unsigned char piece[PIECE];
	size_t begin, end;           /* of what is to be sent of it */
	http_parser parser;
	z_stream inflater;
	bool inflated, complete;
};

static void die(const char *what)
{
	(void)fprintf(stderr, "gzipd_client: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static unsigned char noise_byte(struct noise *noise)
{
	noise->state ^= noise->state << 13;
	noise->state ^= noise->state >> 7;
	noise->state ^= noise->state << 17;
	noise->left--;
	return (unsigned char)(noise->state >> 32);
}

static void fill(struct client *client)
{
	client->begin = 0;
	for (client->end = 0; client->end < PIECE && client->sent.left > 0; client->end++)
		client->piece[client->end] = noise_byte(&client->sent);
}

/* Sends what the server takes now; whether all was sent. */
static bool send_some(struct client *client)
{
	for (;;) {
		ssize_t count;

		if (client->begin == client->end)
			fill(client);
		if (client->begin == client->end)
			return true;
		count = write(client->fd, client->piece + client->begin, client->end - client->begin);
		if (count < 0 && errno != EAGAIN)
			die("write");
		if (count < 0)
			return false;
		client->begin += (size_t)count;
	}
}

static bool wait_for(struct client *client, short what, int limit_ms)
{
	struct pollfd poll_fd = { client->fd, what, 0 };
	int rc = poll(&poll_fd, 1, limit_ms);

	if (rc < 0)
		die("poll");
	return rc > 0;
}

static void compare(struct client *client, const unsigned char *bytes, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++) {
		errno = EBADMSG;
		if (client->expected.left == 0 || noise_byte(&client->expected) != bytes[i])
			die("the response is not what was sent");
	}
}

static int on_body(http_parser *parser, const char *at, size_t length)
{
	struct client *client = parser->data;
	unsigned char plain[PIECE];
	int state;

	client->inflater.next_in = (Bytef *)(uintptr_t)at;
	client->inflater.avail_in = (uInt)length;
	do {
		client->inflater.next_out = plain;
		client->inflater.avail_out = sizeof(plain);
		state = inflate(&client->inflater, Z_NO_FLUSH);
		compare(client, plain, sizeof(plain) - client->inflater.avail_out);
	} while (state == Z_OK && client->inflater.avail_out == 0);
	client->inflated = state == Z_STREAM_END;
	return state == Z_OK || state == Z_BUF_ERROR || client->inflated ? 0 : -1;
}

static int on_message_complete(http_parser *parser)
{
	struct client *client = parser->data;

	client->complete = true;
	return 0;
}

static void receive_some(struct client *client)
{
	static const http_parser_settings callbacks = {
		.on_body = on_body, .on_message_complete = on_message_complete,
	};
	char bytes[PIECE];
	ssize_t count = read(client->fd, bytes, sizeof(bytes));

	if (count < 0 && errno == EAGAIN)
		return;
	if (count <= 0)
		die("read");
	if (http_parser_execute(&client->parser, &callbacks, bytes, (size_t)count) != (size_t)count) {
		errno = EBADMSG;
		die("the response is malformed");
	}
}

static void client_open(struct client *client, uint16_t port, uint64_t bytes)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int length;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	client->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof(address)) ||
	    fcntl(client->fd, F_SETFL, O_NONBLOCK))
		die("connect");
	client->sent.state = client->expected.state = UINT64_C(88172645463325252);
	client->sent.left = client->expected.left = bytes;
	length = snprintf((char *)client->piece, PIECE, "PUT / HTTP/1.1\r\nHost: localhost\r\n"
		"Content-Length: %" PRIu64 "\r\n\r\n", bytes);
	client->end = (size_t)length;
	http_parser_init(&client->parser, HTTP_RESPONSE);
	client->parser.data = client;
	if (inflateInit2(&client->inflater, 15 + 16) != Z_OK)
		die("zlib");
}

/* Sends until no more is taken; returns how much was. */
static uint64_t stall(struct client *client, uint64_t bytes)
{
	while (!send_some(client) && wait_for(client, POLLOUT, STILL_MS))
		;
	return bytes - client->sent.left - (client->end - client->begin);
}

static void finish(struct client *client)
{
	bool sent = false;

	while (!client->complete) {
		if (!wait_for(client, (short)(sent ? POLLIN : POLLIN | POLLOUT), SILENCE_MS)) {
			errno = ETIMEDOUT;
			die("the server is silent");
		}
		sent = sent || send_some(client);
		receive_some(client);
	}
}

int main(int argc, char **argv)
{
	static struct client client;
	uint64_t bytes, most, taken;

	if (argc != 4 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return EXIT_FAILURE;
	bytes = strtoull(argv[2], NULL, 10);
	most = strtoull(argv[3], NULL, 10);
	client_open(&client, (uint16_t)strtoul(argv[1], NULL, 10), bytes);
	taken = stall(&client, bytes);
	printf("%" PRIu64 " of %" PRIu64 " bytes were taken\n", taken, bytes);
	finish(&client);
	if (taken <= most && client.inflated && client.expected.left == 0)
		puts("ok");
	(void)inflateEnd(&client.inflater);
	(void)close(client.fd);
	return EXIT_SUCCESS;
}
