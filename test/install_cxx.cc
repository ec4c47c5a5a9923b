// SPDX-License-Identifier: BSD-3-Clause

// A C++ user of the installed library: a request object carries its job; it is
// submitted under a context and on a lane, and deleted by its done.

#include <event2/event.h>
#include <evwork.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

void must(bool ok, const char *what)
{
	if (ok)
		return;
	std::fprintf(stderr, "install_cxx: %s failed\n", what);
	std::exit(1);
}

struct Request {
	evwork_job job;
	std::string text;
	std::string *result;
	int *dones;
};

// The job is the first member, and the only one that C knows of.
Request *request_of(evwork_job *job)
{
	return reinterpret_cast<Request *>(job);
}

int reverse_run(evwork_job *job)
{
	Request *request = request_of(job);

	request->text.assign(request->text.rbegin(), request->text.rend());
	return evwork_job_err(job);
}

void reverse_done(evwork_job *job, int status)
{
	Request *request = request_of(job);

	must(status == 0, evwork_strerror(status));
	*request->result = request->text;
	++*request->dones;
	delete request;
}

}

int main()
{
	event_base *base = event_base_new();
	evwork_pool_options pool_options = {};
	evwork_lane_options lane_options = {};
	evwork_pool *pool;
	evwork_lane *lane;
	evwork_loop *loop;
	evwork_ctx *ctx;
	std::string result;
	int dones = 0;

	pool_options.threads = 2;
	lane_options.name = "reverse";
	lane_options.max_running = EVWORK_HALF;
	must(base != nullptr, "event_base_new");
	must(evwork_pool_new(&pool_options, &pool) == 0, "evwork_pool_new");
	must(evwork_lane_new(pool, &lane_options, &lane) == 0, "evwork_lane_new");
	must(evwork_loop_new(base, pool, nullptr, &loop) == 0, "evwork_loop_new");
	must(evwork_ctx_new(nullptr, &ctx) == 0, "evwork_ctx_new");

	Request *request = new Request();
	request->text = "krowve";
	request->result = &result;
	request->dones = &dones;
	evwork_job_init(&request->job, reverse_run, reverse_done);
	request->job.lane = lane;
	request->job.ctx = ctx;
	must(evwork_submit(loop, &request->job) == 0, "evwork_submit");
	must(event_base_dispatch(base) >= 0, "event_base_dispatch");
	must(dones == 1, "one done");
	must(result == "evwork", "the work");

	evwork_ctx_unref(ctx);
	must(evwork_lane_free(lane) == 0, "evwork_lane_free");
	must(evwork_loop_free(loop) == 0, "evwork_loop_free");
	must(evwork_pool_free(pool) == 0, "evwork_pool_free");
	event_base_free(base);
	return 0;
}
