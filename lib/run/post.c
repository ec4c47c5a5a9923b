/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Posts: functions of the user that run once on a loop, as letters in its mailbox.
 */

#include "run/loop.h"

struct post {
	struct letter letter;
	struct evwork_loop *loop;
	void (*fn)(void *arg);
	void *arg;
	bool own;
};

static void open_post(struct letter *letter)
{
	struct post *post = EVWORK_CONTAINER(letter, struct post, letter);
	void (*fn)(void *arg) = post->fn;
	void *arg = post->arg;

	loop_leave(post->loop, post->own);
	sys_free(post);
	fn(arg);
}

static void lose_post(struct letter *letter)
{
	struct post *post = EVWORK_CONTAINER(letter, struct post, letter);
	struct evwork_loop *loop = post->loop;

	sys_free(post);
	loop_orphan_leave(loop);
}

int evwork_post(struct evwork_loop *loop, void (*fn)(void *arg), void *arg)
{
	struct post *post;
	int rc;

	if (!loop || !fn)
		return -EINVAL;
	post = sys_alloc(sizeof(*post));
	if (!post)
		return atomic_load(&loop->closing) ? -ESHUTDOWN : -ENOMEM;
	rc = loop_enter(loop, &post->own);
	if (rc) {
		sys_free(post);
		return rc;
	}
	letter_init(&post->letter, "a posted function", open_post, lose_post);
	post->loop = loop;
	post->fn = fn;
	post->arg = arg;
	mailbox_post(loop->box, &post->letter.mail);
	return 0;
}

bool post_is(const struct evwork_mail *mail)
{
	return mail->_kind == MAIL_LETTER &&
	       EVWORK_CONTAINER(mail, struct letter, mail)->open == open_post;
}

void post_free(struct evwork_mail *mail)
{
	sys_free(EVWORK_CONTAINER(mail, struct post, letter.mail));
}
