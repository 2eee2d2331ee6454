/* What the site's configuration says about an image. */
#ifndef SINGULARITY_FACTS_POLICY_H
#define SINGULARITY_FACTS_POLICY_H

#include "../plan/plan.h"

/* The rules on formats, for everyone; those on owners, groups and paths where they bind: in SUID mode, not for root. */
bool policy_image(const struct image *image, const struct config *config, bool enforced, struct error *error);

/* Whether this is the home directory of a user in /etc/passwd, or he is not in there: other sources are not asked. */
bool policy_home(uid_t uid, const char *home);

/* Whether a file lies in a FUSE file system: a user may be its server, who says whose the files are, and when they answer. */
bool policy_served(int fd);

/* Whether the configuration limits whose images, or images of which places, may run. */
bool policy_limited(const struct config *config);

/* Whether root is the machine's, and not of a user namespace that somebody has made (`unshare -r`, containers). */
bool policy_real_root(void);

/* The host's architecture in the words of the SIF format, "" when it has none. */
const char *policy_architecture(void);

/* May an image of this architecture run here, natively or through binfmt_misc? */
bool policy_architecture_runs(const char *architecture);

#endif
