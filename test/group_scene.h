/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_GROUP_SCENE_H
#define TEST_GROUP_SCENE_H

/* What several programs with tests of groups share. */

#include "support.h"

/* A world with one group in it. */
struct scene {
	struct world world;
	struct evwork_group *group;
	struct support_join join;
};

void scene_open(struct scene *scene, int threads, const struct evwork_group_options *options);
void scene_join(struct scene *scene);
void scene_close(struct scene *scene);
void scene_go(struct scene *scene, struct support_member *member);
void expect_member_end(const struct support_member *member, int status, int ran);
void expect_member_state(const struct scene *scene, size_t index, int state, int status);

#endif
