/* Who the program will be inside: account and group names, read without NSS (nothing is loaded into this program). */
#ifndef SINGULARITY_FRONT_ACCOUNT_H
#define SINGULARITY_FRONT_ACCOUNT_H

#include <stdint.h>
#include <sys/types.h>

#include "../request.h"
#include "../text_store.h"

/* Files and program asked; the real ones, or a test's. */
struct account_sources {
    const char *passwd;
    const char *group;
    const char *nsswitch;
    const char *getent;
};
extern const struct account_sources account_sources_usual;

/* Sets account_* from the entry of `uid` and `group` from those of the `count` ids in `gids`, in their order. One pass
 * over each file; what the files lack is asked of getent, once each, where nsswitch.conf names another source. What is
 * found nowhere stays out: account_name is NULL then. */
void account_read(const struct account_sources *sources, uid_t uid, const gid_t *gids, uint32_t count,
                  struct request *request, struct text_store *store);

#endif
