/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_H
#define BENCH_H

/*
 * The benchmark, as seen from its two sides.
 *
 * A workload (work_*.c) says which jobs are in flight, when they are submitted
 * and what is measured. A peer (peer_*.c) carries a job to a worker thread and
 * its completion back to an event loop with one particular library. Each
 * executable is one set of workloads linked with one peer, so every peer runs
 * the very same definitions (peer.go restates them).
 *
 *	workload             peer
 *	bench_submit() ----> peer_submit()      loop thread
 *	                     bench_job_run()    a worker
 *	bench_done() <------ bench_job_done()   loop thread
 *
 * Every completion is checked: the job's work ran, it ran once, and it computed
 * what it should. A violation ends the process with status 2, one minute
 * without an end with status 3.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stddef.h>
#include <stdint.h>

/* The benchmark's own part of a job, and the first member of each peer's. */
struct bench_job {
	uint64_t sequence;   /* differs in every submission */
	uint64_t check;      /* what the work adds up, 0 at submit */
	uint32_t cost;       /* steps of the busy loop, 0 for an empty job */
	uint32_t gate;       /* the work blocks until bench_gate_open() */
};

/* Where the busy loop starts, and so the result of a job without steps. */
#define BENCH_SEED UINT64_C(0x9e3779b97f4a7c15)

/*
 * The busy loop: a chain of dependent integer operations that neither compiler
 * nor processor can shorten. It is out of line so that sequential, bare and
 * pooled runs execute the same instructions.
 */
uint64_t bench_spin(uint64_t state, uint32_t steps);

/* Called by a gate job: reports that a worker arrived, and blocks. */
void bench_gate_wait(void);

/* What a job does on its worker; each peer calls it once for each submission.
 * It adds instead of storing, so that a second run shows. */
static inline void bench_job_run(struct bench_job *job)
{
	uint64_t result = BENCH_SEED;

	if (job->gate)
		bench_gate_wait();
	else if (job->cost)
		result = bench_spin(result, job->cost);
	job->check += job->sequence ^ result;
}

/* What each peer calls on its loop thread after the work; the job may be freed
 * or submitted again inside. */
void bench_job_done(struct bench_job *job);


/*
 * The peer. All of it is called on the loop thread.
 */

struct peer_options {
	int workers;
	size_t depth;      /* the most jobs the workload will have in flight */
	int64_t spin_us;   /* how long to poll before sleeping, where a peer can */
};

/* Size of the struct that starts with a struct bench_job. */
extern const size_t peer_job_size;

void peer_start(const struct peer_options *options);
/* Waits until the worker threads no longer touch anything. */
void peer_stop(void);

/* Called once for each new job; each job may then be submitted many times. */
void peer_init(struct bench_job *job);
void peer_submit(struct bench_job *job);

/* Runs the loop until peer_leave() is called in one of its callbacks. */
void peer_run(void);
void peer_leave(void);

/* Calls ready in the loop as long as fd is readable; one descriptor at most,
 * to be called before peer_run(). It ends with peer_stop(). */
void peer_watch(int fd, void (*ready)(void));


/*
 * For workloads.
 */

struct bench_case {
	const char *name;
	void (*run)(const struct bench_case *test);
	int workers;
	int jobs;         /* in all, or in one burst */
	int in_flight;
	int cost_us;      /* of each work, or of each callback */
	int one_cpu;      /* the whole process is bound to one CPU */
	int repeat;
};

/* Ends with an entry without a name; one definition in each executable. */
extern const struct bench_case bench_cases[];

void work_throughput(const struct bench_case *test);
void work_pingpong(const struct bench_case *test);
void work_sparse(const struct bench_case *test);
void work_burst(const struct bench_case *test);
void work_late(const struct bench_case *test);
void work_memory(const struct bench_case *test);
void work_map(const struct bench_case *test);
void work_pipeline(const struct bench_case *test);
void work_breaker(const struct bench_case *test);

/* Starts the peer; done is called for each completed job. */
void bench_start(const struct bench_case *test, void (*done)(struct bench_job *job));
/* Stops the peer and fails unless exactly `expected` jobs came back. */
void bench_stop(uint64_t expected);

struct bench_job *bench_job_new(void);
void bench_submit(struct bench_job *job, uint32_t cost);
void bench_submit_gate(struct bench_job *job);
uint64_t bench_completed(void);

/* A descriptor that becomes readable when `workers` gate jobs have started. */
int bench_gate_init(int workers);
void bench_gate_open(void);

/* Steps of the busy loop that take this long here; jobs with this cost are then
 * checked for the right result. */
uint32_t bench_calibrate(int cost_us);

uint64_t bench_now_ns(void);
uint64_t bench_cpu_ns(void);   /* of all threads of the process */

/* A one-shot timer descriptor, armed for an absolute time; a read takes what
 * has expired. */
int bench_timer_new(void);
void bench_timer_set(int fd, uint64_t due_ns);
void bench_fd_clear(int fd);

/* Sorts the values and gives the one below which `part` of them lie. */
double bench_quantile(uint64_t *values, size_t count, double part);

/* The -s option: how long a peer that can should poll before it sleeps. */
extern int64_t bench_spin_us;

/* Lets the calling thread run only on the CPU with this index among those that
 * the process may use, or anywhere for -1. Nothing happens if it has fewer. */
void bench_pin_thread(int index);

/* n, or a small part of it in a quick run that only looks for mistakes. */
int bench_scale(int n);
void bench_print(const struct bench_case *test, const char *metric, double value);
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For calls that must not fail: the value, unless it is negative. */
int bench_must(int value, const char *what);
void *bench_alloc(size_t size);

#endif
