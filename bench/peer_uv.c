/* SPDX-License-Identifier: BSD-3-Clause */

/* libuv: uv_queue_work() on its own loop and its process-wide pool. */

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

struct uv_job {
	struct bench_job bench;
	uv_work_t work;
};

static uv_loop_t loop;
static uv_poll_t watch;
static int watching;
static void (*watch_ready)(void);

const size_t peer_job_size = sizeof(struct uv_job);

static void check(int result, const char *what)
{
	if (result < 0)
		bench_fail("%s: %s", what, uv_strerror(result));
}

static void on_work(uv_work_t *work)
{
	bench_job_run(work->data);
}

static void on_after_work(uv_work_t *work, int status)
{
	check(status, "a job");
	bench_job_done(work->data);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	(void)handle;
	(void)events;
	check(status, "uv_poll");
	watch_ready();
}

void peer_start(const struct peer_options *options)
{
	char text[16];

	/* Read once, when the first work is queued. */
	snprintf(text, sizeof(text), "%d", options->workers);
	bench_must(setenv("UV_THREADPOOL_SIZE", text, 1), "setenv");
	check(uv_loop_init(&loop), "uv_loop_init");
}

void peer_stop(void)
{
	if (watching)
		uv_close((uv_handle_t *)&watch, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	check(uv_loop_close(&loop), "uv_loop_close");
	uv_library_shutdown();
}

void peer_init(struct bench_job *job)
{
	((struct uv_job *)job)->work.data = job;
}

void peer_submit(struct bench_job *job)
{
	uv_work_t *work = &((struct uv_job *)job)->work;

	check(uv_queue_work(&loop, work, on_work, on_after_work), "uv_queue_work");
}

void peer_run(void)
{
	uv_run(&loop, UV_RUN_DEFAULT);
}

void peer_leave(void)
{
	uv_stop(&loop);
}

void peer_watch(int fd, void (*ready)(void))
{
	watch_ready = ready;
	watching = 1;
	check(uv_poll_init(&loop, &watch, fd), "uv_poll_init");
	check(uv_poll_start(&watch, UV_READABLE, on_poll), "uv_poll_start");
}
