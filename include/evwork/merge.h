/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_MERGE_H
#define EVWORK_MERGE_H

/*
 * Merges: the values of several channels go to one, on a loop, without a thread.
 *
 *	struct evwork_chan *feeds[] = { radar, sonar, weather };
 *	struct evwork_merge_options options = {
 *		.inputs = feeds, .count = 3, .output = reports, .done = feeds_ended,
 *	};
 *	evwork_merge_start(loop, &options, &merge);
 *
 *	while (evwork_chan_recv_wait(reports, &report, NULL) == 1)  // a thread of your own
 *		handle(&report);
 *
 *	evwork_chan_abandon(reports);       // had enough: the feeds get -EPIPE
 *
 * The order of each input is kept; between inputs there is none (S-FAN-8). Inputs take
 * turns, so that as long as all have values all supply alike, whichever is quickest
 * (S-FAN-9). A full output makes the merge wait, and the inputs fill.
 *
 * Values move many at a time, at most as many in one turn of the loop as it delivers
 * callbacks (S-DLV-5). Between an input and the output the merge holds up to 32 values,
 * all of one input.
 */

#include <stddef.h>

#include <evwork/chan.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_merge;

/*
 * On the thread of the loop, once: the merge has ended. The merge and its channels may be
 * freed in it. status is 0 if all inputs have ended and all values have been sent;
 * -EPIPE if the output was abandoned; -ESHUTDOWN if its end was closed by somebody else;
 * the error of ctx; or -ECANCELED if the loop was closed.
 */
typedef void (*evwork_merge_done_fn)(struct evwork_merge *merge, int status, void *arg);

/* All zero means the defaults, where there is one. */
struct evwork_merge_options {
	/* Ends that receive; the array is copied. One of them may come twice. */
	struct evwork_chan *const *inputs;
	size_t count;
	struct evwork_chan *output;     /* an end that sends; must be set */
	evwork_merge_done_fn done;
	void *arg;
	struct evwork_ctx *ctx;         /* its death ends the merge; NULL: background */
};

/*
 * evwork_merge_start [any] starts a merge. Without inputs it ends at once, that is in a
 * later turn.
 *
 * The inputs and the output are the merge's until it has ended: others may use other ends
 * of these channels, or the other direction of an end that may do both, and
 * evwork_chan_free() refuses with -EBUSY. When the merge ends, for whatever reason, before
 * done it closes the output and abandons all inputs, as evwork_chan_close() and
 * evwork_chan_abandon() do; the ends stay yours to be freed. An input that is abandoned
 * by somebody else counts as ended. Values that the merge holds when it ends early go to
 * the drop of their input, on the loop's thread, as what is left in the input does.
 *
 * A merge does not keep the loop alive, see evwork/loop.h, but the loop is not freed
 * before it. If that is done by force the merge ends without done.
 *
 * -EINVAL: loop, options, output or ret_merge is NULL; an input is, or inputs is while
 * count is not 0; the sizes of the values differ; the output's channel is an input; or
 * count does not fit in an int. -EPERM: an input may not receive, or the output not send.
 * -ESHUTDOWN: an input was abandoned, the output closed, or the loop is closing.
 * -ECANCELED, -ETIMEDOUT: ctx is dead. -ENOMEM. In each case done does not come, and the
 * channels are as they were.
 */
int evwork_merge_start(struct evwork_loop *loop, const struct evwork_merge_options *options,
	struct evwork_merge **ret_merge);

/* evwork_merge_free [any], from done too. NULL is fine. -EBUSY: done has not started, or, on
 * another thread, not returned. To end a merge cancel its context, or abandon its output. */
int evwork_merge_free(struct evwork_merge *merge);

#ifdef __cplusplus
}
#endif

#endif
