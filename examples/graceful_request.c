/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each request is PARTS jobs of a group. The group has a context with the deadline of
 * this request, below that of the client: it ends early if time is over, if the client
 * has left, or if one part fails, and its join comes when no part runs any more. So
 * there is one place that answers, and one at which the memory is free again.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "graceful_request.h"

#define PARTS 4u
#define DIGEST_LENGTH 32
#define DIGEST_SHOWN 8
#define REPLY_LENGTH 80
#define POLL_EVERY 64u           /* rounds between two looks at evwork_job_err() */

/* Not even a line full of these overflows. */
#define NUMBER_MAX INT64_C(1000000000000)

struct part {
	struct evwork_member member;
	const struct request *request;
	unsigned index;
	unsigned char digest[DIGEST_LENGTH];
	int64_t sum;
};

struct kind {
	const char *name;
	evwork_run_fn run;                       /* one part, on a worker */
	void (*reply)(struct request *request);  /* of all parts, on the loop */
};

struct request {
	struct request *next;
	const struct kind *kind;
	struct part parts[PARTS];
	struct evwork_group *group;
	uint64_t rounds;
	int refused;             /* why a part was not taken, a status */
	request_done_fn done;
	void *arg;
	char reply[REPLY_LENGTH];
	char text[];             /* what is behind the name */
};

/* ---- hash ---- */

static int rounds_run(struct part *part, struct evwork_job *job, EVP_MD_CTX *state)
{
	const char *text = part->request->text;
	char digit = (char)('0' + part->index);

	if (!EVP_DigestInit_ex(state, EVP_sha256(), NULL) || !EVP_DigestUpdate(state, &digit, 1)
	    || !EVP_DigestUpdate(state, text, strlen(text))
	    || !EVP_DigestFinal_ex(state, part->digest, NULL))
		return -EIO;
	for (uint64_t round = 1; round < part->request->rounds; round++) {
		int rc = round % POLL_EVERY == 0 ? evwork_job_err(job) : 0;

		if (rc)
			return rc;
		/* The algorithm stays; to look it up takes longer than to use it. */
		if (!EVP_DigestInit_ex(state, NULL, NULL)
		    || !EVP_DigestUpdate(state, part->digest, DIGEST_LENGTH)
		    || !EVP_DigestFinal_ex(state, part->digest, NULL))
			return -EIO;
	}
	return 0;
}

static int hash_run(struct evwork_job *job)
{
	struct part *part = EVWORK_CONTAINER(job, struct part, member.job);
	EVP_MD_CTX *state = EVP_MD_CTX_new();
	int rc = state ? rounds_run(part, job, state) : -ENOMEM;

	EVP_MD_CTX_free(state);
	return rc;
}

static void hash_reply(struct request *request)
{
	char *to = request->reply + sprintf(request->reply, "ok ");

	for (unsigned i = 0; i < PARTS; i++)
		for (unsigned byte = 0; byte < DIGEST_SHOWN; byte++)
			to += sprintf(to, "%02x", request->parts[i].digest[byte]);
	(void)sprintf(to, "\n");
}

/* ---- sum ---- */

/* Where a part begins: about there, but never within a number. */
static const char *part_begin(const char *text, unsigned index)
{
	const char *at = text + strlen(text) * index / PARTS;

	while (index > 0 && *at && *at != ' ')
		at++;
	return at;
}

static int sum_run(struct evwork_job *job)
{
	struct part *part = EVWORK_CONTAINER(job, struct part, member.job);
	const char *at = part_begin(part->request->text, part->index);
	const char *end = part_begin(part->request->text, part->index + 1);

	for (;;) {
		long long number;
		char *next;

		while (at < end && *at == ' ')
			at++;
		if (at >= end)
			return 0;
		errno = 0;
		number = strtoll(at, &next, 10);
		if (next == at || (*next && *next != ' '))
			return -EINVAL;
		if (errno || number < -NUMBER_MAX || number > NUMBER_MAX)
			return -ERANGE;
		part->sum += number;
		at = next;
	}
}

static void sum_reply(struct request *request)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < PARTS; i++)
		sum += request->parts[i].sum;
	(void)snprintf(request->reply, REPLY_LENGTH, "ok %" PRId64 "\n", sum);
}

/* ---- both ---- */

static const struct kind kinds[] = {
	{ "hash", hash_run, hash_reply },
	{ "sum", sum_run, sum_reply },
};

static const struct kind *kind_find(const char *line)
{
	size_t length = strcspn(line, " ");

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (strlen(kinds[i].name) == length && !strncmp(kinds[i].name, line, length))
			return &kinds[i];
	return NULL;
}

static void request_answer(struct request *request, int status)
{
	switch (status) {
	case 0:
		request->kind->reply(request);
		break;
	case -EAGAIN:
		(void)snprintf(request->reply, REPLY_LENGTH, "busy\n");
		break;
	case -ETIMEDOUT:
		(void)snprintf(request->reply, REPLY_LENGTH, "timeout\n");
		break;
	case -ECANCELED:
		(void)snprintf(request->reply, REPLY_LENGTH, "cancelled\n");
		break;
	default:
		(void)snprintf(request->reply, REPLY_LENGTH, "error %s\n", strerror(-status));
		break;
	}
}

static void group_joined(struct evwork_group *group, int status, void *arg)
{
	struct request *request = arg;

	(void)evwork_group_free(group); /* in its join that cannot fail */
	request_answer(request, request->refused ? request->refused : status);
	request->done(request, request->arg);
}

/*
 * The lane may have room for some parts and not for all. Those that it took are of no
 * use then, but they have to end before the reply: so it is joined in any case.
 */
static int group_start(struct request *request, struct evwork_loop *loop,
	struct evwork_ctx *ctx)
{
	struct evwork_group_options options = { .ctx = ctx };
	int rc = evwork_group_new(loop, &options, &request->group);

	if (rc)
		return rc;
	for (unsigned i = 0; i < PARTS && !request->refused; i++) {
		struct part *part = &request->parts[i];

		part->request = request;
		part->index = i;
		evwork_member_init(&part->member, request->kind->run, NULL);
		request->refused = evwork_group_go(request->group, &part->member);
	}
	if (request->refused)
		(void)evwork_group_cancel(request->group, request->refused);
	rc = evwork_group_join(request->group, group_joined, request);
	if (rc) /* there is no part, and the loop is closing */
		(void)evwork_group_free(request->group);
	return rc;
}

int request_start(const struct request_options *options, struct evwork_ctx *client,
	const char *line, request_done_fn done, void *arg, struct request **ret_request)
{
	const struct kind *kind = kind_find(line);
	const char *text = kind ? line + strlen(kind->name) : "";
	struct request *request = calloc(1, sizeof(*request) + strlen(text) + 1);
	struct evwork_ctx *ctx;
	int rc = kind ? 0 : -ENOSYS;

	if (!request)
		return -ENOMEM;
	strcpy(request->text, *text ? text + 1 : text); /* without the blank */
	request->kind = kind;
	request->rounds = options->rounds;
	request->done = done;
	request->arg = arg;
	if (!rc)
		rc = evwork_ctx_with_timeout(client, options->loop, options->timeout_ms, 0, &ctx);
	if (!rc) {
		rc = group_start(request, options->loop, ctx);
		evwork_ctx_unref(ctx); /* the group keeps it as long as it needs it */
	}
	if (rc)
		request_answer(request, rc);
	*ret_request = request;
	return 0;
}

const char *request_reply(const struct request *request)
{
	return *request->reply ? request->reply : NULL;
}

struct request **request_next(struct request *request)
{
	return &request->next;
}

void request_free(struct request *request)
{
	free(request);
}
