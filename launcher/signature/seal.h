/* What a signature says of a file system in an image: by this it is checked, whoever has the file meanwhile. */
#ifndef SINGULARITY_SIGNATURE_SEAL_H
#define SINGULARITY_SIGNATURE_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "../message.h"

enum { SEAL_DIGEST = 32, SEAL_BLOCK = 4096 };
#define SEALS_KNOWN CONTAINER_DIR "/../signed/"

struct seal {
    uint64_t offset, size;       /* in the file */
    uint64_t tree, end;          /* where the digests of its hash tree are in the file, the top level first, at a distance of whole blocks
                                  * from the data; 0: nothing is checked when it is read, and need not be */
    uint8_t root[SEAL_DIGEST], digest[SEAL_DIGEST]; /* of the tree, and of all the data */
    bool remember;               /* all of it has just been read, and is what was signed */
    char table[160], known[192]; /* all this as dm-verity has it, behind the names of the devices; and by what name, in SEALS_KNOWN, root
                                  * remembers that it was read, of the file as it is now */
};

/* Who reads what is mounted: the kernel, which can check blocks where it has dm-verity; our server of squashfs, which always can;
 * another program. */
enum seal_reader { READER_KERNEL, READER_SERVER, READER_OTHER };

/* What is to be judged: the file system in `size` bytes of an open image from `offset` on, by the site's configuration. */
struct seal_question {
    int image;
    uint64_t offset, size;
    enum seal_reader reader;
    bool enforced; /* files of the policy that are not root's alone do not count, nor images that could change unseen */
};
struct seal_verdict {
    struct error error; /* why it is not to run, without the image's name; no text: it may */
    struct seal seal;
    char by[128];       /* who has signed, for messages */
};

/* Ends the process, which has no privilege any more, when the verdict has been written to `to`, a pipe. The setuid program reads no
 * signature, and executes sexec-judge in its place. */
_Noreturn void seal_judge_and_tell(const struct seal_question *question, int to);

#endif
