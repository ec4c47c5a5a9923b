/* SPDX-License-Identifier: BSD-3-Clause */

/* ivykis: an iv_work pool on its own loop. */

#include "bench.h"

#include <iv.h>
#include <iv_work.h>

struct ivykis_job {
	struct bench_job bench;
	struct iv_work_item work;
};

static struct iv_work_pool pool;
static struct iv_fd watch;
static int watching;
static void (*watch_ready)(void);

const size_t peer_job_size = sizeof(struct ivykis_job);

static void on_work(void *job)
{
	bench_job_run(job);
}

static void on_done(void *job)
{
	bench_job_done(job);
}

static void on_watch(void *cookie)
{
	(void)cookie;
	watch_ready();
}

void peer_start(const struct peer_options *options)
{
	iv_init();
	IV_WORK_POOL_INIT(&pool);
	pool.max_threads = options->workers;
	bench_must(iv_work_pool_create(&pool), "iv_work_pool_create");
}

void peer_stop(void)
{
	iv_work_pool_put(&pool);
	if (watching)
		iv_fd_unregister(&watch);
	/* Returns when the pool has gone. */
	iv_main();
	iv_deinit();
}

void peer_init(struct bench_job *job)
{
	struct iv_work_item *work = &((struct ivykis_job *)job)->work;

	IV_WORK_ITEM_INIT(work);
	work->cookie = job;
	work->work = on_work;
	work->completion = on_done;
}

void peer_submit(struct bench_job *job)
{
	iv_work_pool_submit_work(&pool, &((struct ivykis_job *)job)->work);
}

void peer_run(void)
{
	iv_main();
}

void peer_leave(void)
{
	iv_quit();
}

void peer_watch(int fd, void (*ready)(void))
{
	watch_ready = ready;
	watching = 1;
	IV_FD_INIT(&watch);
	watch.fd = fd;
	watch.handler_in = on_watch;
	iv_fd_register(&watch);
}
