/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients of examples/graceful, many at once, that ask until they are told bye. When
 * all of them together have seen a number of lines, SIGTERM goes to the server: so the
 * moment is a random one under load, and yet nobody has to guess how long to sleep.
 *
 * What the server owes to a client:
 *
 * - replies in the order of its requests, and right ones;
 * - after "ready", also "bye COUNT", then the end of the stream, nothing else, and no
 *   reset;
 * - exactly COUNT replies before that, and not more than there were complete requests.
 *
 * A request that the server had not read before the signal is not accepted, and has no
 * reply. Nor has a client that was not greeted: it was still in the listener's queue.
 *
 * Bytes are sent in portions of random sizes, so that the signal comes within lines.
 * Prints a summary, and "ok" if that was so.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for getopt() under -std=c11 */
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WINDOW 8u                /* requests that are not answered */
#define LINE_MAX_LENGTH 128u
#define SILENCE_S 60             /* after which something hangs */

enum { READY, TALKING, BYE, GONE };

struct peer {
	int fd;
	int state;               /* what was heard: nothing yet, ready, bye, the end */
	bool leaves;             /* at a random time, with requests unanswered */
	uint64_t made, sent;     /* requests; sent ones were taken by the socket completely */
	uint64_t replies;
	int64_t expected[WINDOW];        /* by request; NO_SUM for a hash */
	size_t ends[WINDOW];             /* where the request ends in the stream */
	char out[WINDOW * LINE_MAX_LENGTH];
	size_t out_length;
	size_t written;          /* bytes of the stream */
	char in[LINE_MAX_LENGTH];
	size_t in_length;
};

#define NO_SUM INT64_MIN

static struct {
	struct sockaddr_in address;
	pid_t server;
	uint64_t lines, signal_at;
	bool signalled;
	bool flood;              /* after bye, go on until the server closes */
	bool deserts;            /* all leave together, before the signal */
	uint64_t ok, busy, timeout, cancelled, left, ungreeted;
	uint64_t random;
	unsigned failures;
} test;

static uint64_t random_next(void)
{
	uint64_t value = (test.random += UINT64_C(0x9e3779b97f4a7c15));

	value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
	return value ^ (value >> 31);
}

__attribute__((format(printf, 2, 3)))
static void fail(const struct peer *peer, const char *format, ...)
{
	va_list arguments;

	test.failures++;
	(void)fprintf(stderr, "client %d, %" PRIu64 " sent, %" PRIu64 " replies: ",
		peer->fd, peer->sent, peer->replies);
	va_start(arguments, format);
	(void)vfprintf(stderr, format, arguments);
	va_end(arguments);
	(void)fputc('\n', stderr);
}

static void die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

/* ---- requests ---- */

/* The sum of a request is its number; every other one is a hash. */
static void request_make(struct peer *peer)
{
	char *to = peer->out + peer->out_length;
	int64_t half = (int64_t)(random_next() % 1000);
	size_t slot = peer->made % WINDOW;

	if (peer->made % 2) {
		peer->expected[slot] = NO_SUM;
		to += sprintf(to, "hash %d and %" PRIu64 "\n", peer->fd, peer->made);
	} else {
		peer->expected[slot] = (int64_t)peer->made;
		to += sprintf(to, "sum %" PRId64 " 1 2 3  %" PRId64 " -6\n",
			(int64_t)peer->made + half, -half);
	}
	peer->out_length = (size_t)(to - peer->out);
	peer->ends[slot] = peer->written + peer->out_length;
	peer->made++;
}

static void peer_write(struct peer *peer)
{
	size_t portion = 1 + random_next() % sizeof(peer->out);
	ssize_t put;

	if (peer->state == TALKING)
		while (peer->made - peer->replies < WINDOW)
			request_make(peer);
	put = send(peer->fd, peer->out, portion < peer->out_length ? portion : peer->out_length,
		MSG_NOSIGNAL);
	if (put < 0) {
		if (errno != EAGAIN && errno != EINTR)
			fail(peer, "send: %s", strerror(errno));
		return;
	}
	peer->written += (size_t)put;
	peer->out_length -= (size_t)put;
	memmove(peer->out, peer->out + put, peer->out_length);
	while (peer->sent < peer->made && peer->ends[peer->sent % WINDOW] <= peer->written)
		peer->sent++;
}

/* ---- replies ---- */

static bool is_hash(const char *text)
{
	return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static void reply_check(struct peer *peer, const char *line)
{
	int64_t expected = peer->expected[peer->replies % WINDOW];

	if (peer->replies >= peer->sent) {
		fail(peer, "a reply to no request: %s", line);
		return;
	}
	peer->replies++;
	if (!strncmp(line, "ok ", 3)) {
		test.ok++;
		if (expected == NO_SUM ? !is_hash(line + 3) : strtoll(line + 3, NULL, 10) != expected)
			fail(peer, "a wrong reply: %s", line);
	} else if (!strcmp(line, "busy")) {
		test.busy++;
	} else if (!strcmp(line, "timeout")) {
		test.timeout++;
	} else if (!strcmp(line, "cancelled")) {
		test.cancelled++;
	} else {
		fail(peer, "not a reply: %s", line);
	}
}

static void line_check(struct peer *peer, const char *line)
{
	test.lines++;
	if (peer->state == READY) {
		if (strcmp(line, "ready") != 0)
			fail(peer, "not a greeting: %s", line);
		peer->state = TALKING;
	} else if (peer->state == BYE) {
		fail(peer, "more after bye: %s", line);
	} else if (!strncmp(line, "bye ", 4)) {
		if (strtoull(line + 4, NULL, 10) != peer->replies)
			fail(peer, "%s requests were accepted", line + 4);
		peer->state = BYE;
	} else {
		reply_check(peer, line);
	}
}

/* ---- the stream ---- */

static void peer_close(struct peer *peer)
{
	(void)close(peer->fd);
	peer->state = GONE;
}

static void peer_open(struct peer *peer)
{
	bool leaves = peer->leaves;

	memset(peer, 0, sizeof(*peer));
	peer->leaves = leaves;
	peer->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (peer->fd < 0)
		die("socket");
	/* The loopback interface connects at once, or the listener's queue is full. */
	if (fcntl(peer->fd, F_SETFL, O_NONBLOCK))
		die("fcntl");
	if (connect(peer->fd, (struct sockaddr *)&test.address, sizeof(test.address))
	    && errno != EINPROGRESS)
		peer_close(peer); /* the server has closed its listener */
}

static void peer_end(struct peer *peer, int error)
{
	if (peer->state == READY)
		test.ungreeted++;
	else if (peer->state != BYE)
		fail(peer, "the end, but no bye: %s", error ? strerror(error) : "no error");
	else if (error)
		fail(peer, "after bye: %s", strerror(error));
	if (peer->in_length > 0)
		fail(peer, "an incomplete line");
	if (!test.flood || peer->state != BYE)
		peer_close(peer);
}

static void peer_read(struct peer *peer)
{
	ssize_t got = recv(peer->fd, peer->in + peer->in_length,
		sizeof(peer->in) - 1 - peer->in_length, 0);
	char *line = peer->in, *newline;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		peer_end(peer, got ? errno : 0);
		return;
	}
	peer->in_length += (size_t)got;
	peer->in[peer->in_length] = '\0';
	for (; (newline = strchr(line, '\n')); line = newline + 1) {
		*newline = '\0';
		line_check(peer, line);
	}
	peer->in_length -= (size_t)(line - peer->in);
	memmove(peer->in, line, peer->in_length);
	if (peer->in_length == sizeof(peer->in) - 1) {
		fail(peer, "a line without end");
		peer_close(peer);
	}
}

/* Once told bye it sends, but does not read, so that it does not see the end. */
static void peer_flood(struct peer *peer)
{
	char bytes[4096] = { 0 };

	if (send(peer->fd, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0
	    && errno != EAGAIN && errno != EINTR)
		peer_close(peer);
}

static bool leaves_now(const struct peer *peer)
{
	return peer->leaves && peer->state == TALKING && !test.signalled
		&& peer->sent > peer->replies && random_next() % 4 == 0;
}

static void peer_serve(struct peer *peer, short ready)
{
	if (test.flood && peer->state == BYE) {
		peer_flood(peer);
		return;
	}
	if (ready & (POLLIN | POLLHUP | POLLERR))
		peer_read(peer);
	if (leaves_now(peer)) {
		test.left++;
		(void)close(peer->fd);
		peer_open(peer);
	} else if (peer->state == TALKING && ready & POLLOUT) {
		peer_write(peer);
	}
}

static short peer_wants(const struct peer *peer)
{
	if (test.flood && peer->state == BYE)
		return POLLOUT;
	if (peer->state == TALKING
	    && (peer->out_length > 0 || peer->made - peer->replies < WINDOW))
		return POLLIN | POLLOUT;
	return POLLIN;
}

/* ---- all of them ---- */

static void peer_desert(struct peer *peer)
{
	if (peer->state == GONE)
		return;
	test.left++;
	peer_close(peer);
}

static void server_signal(void)
{
	if (test.signalled || test.lines < test.signal_at)
		return;
	if (test.deserts && test.left == 0)
		return; /* not before they have left */
	if (kill(test.server, SIGTERM))
		die("kill");
	test.signalled = true;
}

/* Returns how many are still there. */
static size_t peers_serve(struct peer *peers, struct pollfd *polls, size_t count, int limit_ms)
{
	size_t there = 0;

	for (size_t i = 0; i < count; i++) {
		bool gone = peers[i].state == GONE;

		polls[i] = (struct pollfd){ .fd = gone ? -1 : peers[i].fd };
		if (!gone) {
			polls[i].events = peer_wants(&peers[i]);
			there++;
		}
	}
	server_signal();
	if (there == 0)
		return 0;
	switch (poll(polls, (nfds_t)count, limit_ms)) {
	case 0:
		(void)fputs("nothing happens any more\n", stderr);
		exit(EXIT_FAILURE);
	case -1:
		if (errno != EINTR)
			die("poll");
		return there;
	}
	for (size_t i = 0; i < count; i++) {
		if (polls[i].revents)
			peer_serve(&peers[i], polls[i].revents);
		server_signal();
	}
	if (test.deserts && test.lines >= test.signal_at)
		for (size_t i = 0; i < count; i++)
			peer_desert(&peers[i]);
	return there;
}

static int summary(size_t count)
{
	(void)printf("%zu clients, %" PRIu64 " ok, %" PRIu64 " busy, %" PRIu64 " timeout, %" PRIu64
		" cancelled, %" PRIu64 " left, %" PRIu64 " not greeted\n", count, test.ok, test.busy,
		test.timeout, test.cancelled, test.left, test.ungreeted);
	if (test.failures || !test.signalled)
		return EXIT_FAILURE;
	(void)puts("ok");
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* One client: sends standard input, in one portion, and prints what comes. If nothing
 * else was said SIGTERM goes to the server when each line has its reply. */
static int ask(bool until_replied)
{
	char text[65536], line[LINE_MAX_LENGTH];
	size_t length = fread(text, 1, sizeof(text), stdin);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	FILE *stream;

	if (until_replied) {
		test.signal_at = 1; /* the greeting */
		for (size_t i = 0; i < length; i++)
			test.signal_at += text[i] == '\n';
	}
	if (fd < 0 || connect(fd, (struct sockaddr *)&test.address, sizeof(test.address)))
		die("connect");
	if (send(fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
		die("send");
	stream = fdopen(fd, "r");
	if (!stream)
		die("fdopen");
	while (fgets(line, sizeof(line), stream)) {
		(void)fputs(line, stdout);
		test.lines++;
		server_signal();
	}
	if (ferror(stream))
		die("recv");
	(void)fclose(stream);
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void usage_die(void)
{
	(void)fputs("usage: graceful_client [-dfl] [-c CLIENTS] [-k LINES] [-s SEED] PORT PID\n"
		"       graceful_client -a [-k LINES] PORT PID\n"
		"  -a  ask what standard input says, and print what comes\n"
		"  -d  all leave instead of waiting for replies, and then comes SIGTERM\n"
		"  -f  flood the server after its bye, until it closes\n"
		"  -k  SIGTERM after so many lines; a random number below 4000 if not given\n"
		"  -l  every fourth client leaves now and then, and comes again\n", stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	const char *slow = getenv("EVWORK_TEST_SLOW");
	int limit_ms = 1000 * SILENCE_S * (slow && atoi(slow) > 0 ? atoi(slow) : 1);
	size_t count = 200, there;
	long long signal_at = -1;
	bool asks = false, leavers = false;
	struct peer *peers;
	struct pollfd *polls;
	int option;

	while ((option = getopt(argc, argv, "ac:dfk:ls:")) != -1) {
		switch (option) {
		case 'a': asks = true; break;
		case 'c': count = (size_t)atoi(optarg); break;
		case 'd': test.deserts = true; break;
		case 'f': test.flood = true; break;
		case 'k': signal_at = atoll(optarg); break;
		case 'l': leavers = true; break;
		case 's': test.random = strtoull(optarg, NULL, 10); break;
		default: usage_die();
		}
	}
	if (argc - optind != 2 || count == 0)
		usage_die();
	test.signal_at = signal_at < 0 ? random_next() % 4000 : (uint64_t)signal_at;
	test.address.sin_family = AF_INET;
	test.address.sin_port = htons((uint16_t)atoi(argv[optind]));
	test.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	test.server = (pid_t)atol(argv[optind + 1]);
	if (test.server <= 1)
		usage_die();
	if (asks)
		return ask(signal_at < 0);
	peers = calloc(count, sizeof(*peers));
	polls = calloc(count, sizeof(*polls));
	if (!peers || !polls)
		die("calloc");
	for (size_t i = 0; i < count; i++) {
		peers[i].leaves = leavers && i % 4 == 0;
		peer_open(&peers[i]);
	}
	do
		there = peers_serve(peers, polls, count, limit_ms);
	while (there > 0);
	free(peers);
	free(polls);
	return summary(count);
}
