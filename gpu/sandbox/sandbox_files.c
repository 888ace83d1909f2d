/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Landlock: the second fence of the sandbox, which looks at files and not at system calls. There is
 * no rule, so nothing is allowed that it knows. */

#include "sandbox.h"

#include <errno.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/landlock.h>

/* struct landlock_ruleset_attr, of which older headers know less. The kernel takes more than it
 * knows as long as that is 0. */
struct ruleset {
	uint64_t files, network;
};

/* What each version of Landlock has learned. */
#define FILES_1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define FILES_REFER (UINT64_C(1) << 13)     /* 2 */
#define FILES_TRUNCATE (UINT64_C(1) << 14)  /* 3 */
#define NETWORK_TCP UINT64_C(3)             /* 4: bind, connect */
#define FILES_IOCTL_DEV (UINT64_C(1) << 15) /* 5 */

static struct ruleset all_of(long version)
{
	return (struct ruleset){
		.files = FILES_1 | (version >= 2 ? FILES_REFER : 0) |
			(version >= 3 ? FILES_TRUNCATE : 0) | (version >= 5 ? FILES_IOCTL_DEV : 0),
		.network = version >= 4 ? NETWORK_TCP : 0,
	};
}

int sandbox_close_files(void)
{
	long version = syscall(
		SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset ruleset;
	int fd, ret = 1;

	if (version < 0) {
		return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM ? 0 : -errno;
	}
	ruleset = all_of(version);
	fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
	if (fd < 0) {
		return -errno;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		syscall(SYS_landlock_restrict_self, fd, 0) < 0) {
		ret = -errno;
	}
	close(fd);
	return ret;
}
