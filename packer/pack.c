/* singularity-pack: layers of images become files of compressed blocks, once; and those become squashfs file systems. Started by
 * the Python half, as the user, with the files that it may write already open; see docs/conversion.md. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "merge.h"

#define PATTERNS_LIMIT 256
#define INPUT_SIZE (1U << 18)

enum choice { OUTPUT = 1, OFFSET, COMPRESSOR, LEVEL, THREADS, DIGEST, LIMIT, HOT, WARM, ALONE, BUDGET, EPOCH, SCRATCH, HOLD, HOLD_LINK, HOLD_TREE,
              SHOW, READ, LITERAL, HELP };

struct patterns {
    const char *all[PATTERNS_LIMIT + 1];
    size_t count;
};

struct command {
    int fd;
    uint64_t offset, limit;
    int64_t epoch;
    const char *digest, *scratch;
    bool literal;
    struct layer_options conversion;
    struct patterns hot, warm, alone, hold, hold_links, hold_trees, show, read;
};

/* Standard input, with a digest of all that comes. */
struct input {
    EVP_MD_CTX *digest;
    uint64_t position, limit;
    uint8_t data[INPUT_SIZE];
    size_t used, filled;
};

static const struct option options[] = {
    {"output", required_argument, NULL, OUTPUT}, {"offset", required_argument, NULL, OFFSET},
    {"compressor", required_argument, NULL, COMPRESSOR}, {"level", required_argument, NULL, LEVEL},
    {"threads", required_argument, NULL, THREADS}, {"digest", required_argument, NULL, DIGEST},
    {"limit", required_argument, NULL, LIMIT}, {"hot", required_argument, NULL, HOT},
    {"warm", required_argument, NULL, WARM}, {"alone", required_argument, NULL, ALONE},
    {"budget", required_argument, NULL, BUDGET}, {"epoch", required_argument, NULL, EPOCH},
    {"scratch", required_argument, NULL, SCRATCH}, {"hold", required_argument, NULL, HOLD},
    {"hold-link", required_argument, NULL, HOLD_LINK}, {"hold-tree", required_argument, NULL, HOLD_TREE},
    {"show", required_argument, NULL, SHOW}, {"read", required_argument, NULL, READ},
    {"literal", no_argument, NULL, LITERAL}, {"help", no_argument, NULL, HELP}, {0}};

static const char help[] =
    "singularity-pack layer --output FD [OPTIONS]          an archive on standard input becomes a layer file\n"
    "singularity-pack merge --output FD [OPTIONS] LAYER... layer files, the lowest first, become a squashfs file system\n"
    "\n"
    "Started by singularity; FD is open already. Options of both:\n"
    "  --compressor zstd|gzip  --level N  --threads N\n"
    "of layer:\n"
    "  --digest ALGORITHM:HEX  what the archive must be       --limit BYTES  what it may have at most\n"
    "  --hot P  --warm P  files that are stored as they are, the second while --budget BYTES last\n"
    "  --alone P               files that share no block with others\n"
    "of merge:\n"
    "  --offset BYTES  where in the file        --epoch SECONDS  no time is later     --scratch DIRECTORY\n"
    "  --literal       the layers are archives of files: no name is a whiteout\n"
    "  --hot P         files that come first\n"
    "  --hold P  --hold-link P  --hold-tree P  --show P  --read P\n"
    "                  files that are told on standard output; see packer/merge.h\n"
    "P is a pattern of paths as fnmatch(3) has them, and may be given several times.\n";

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || !*text || *end || *text == '-')
        usage("%s: no number", text);
    return value;
}

static void add(struct patterns *patterns, const char *pattern)
{
    if (patterns->count == PATTERNS_LIMIT)
        usage("more than %d patterns", PATTERNS_LIMIT);
    patterns->all[patterns->count++] = pattern;
}

static enum compressor compressor(const char *name)
{
    if (strcmp(name, "zstd") && strcmp(name, "gzip"))
        usage("%s: a compressor that is not known (zstd, gzip)", name);
    return strcmp(name, "zstd") ? COMPRESSOR_GZIP : COMPRESSOR_ZSTD;
}

static void take(struct command *command, int option, const char *value)
{
    struct patterns *lists[] = {[HOT] = &command->hot, [WARM] = &command->warm, [ALONE] = &command->alone,
                                [HOLD] = &command->hold, [HOLD_LINK] = &command->hold_links,
                                [HOLD_TREE] = &command->hold_trees, [SHOW] = &command->show, [READ] = &command->read};
    switch (option) {
    case OUTPUT: command->fd = (int)number(value); break;
    case OFFSET: command->offset = number(value); break;
    case COMPRESSOR: command->conversion.compressor = compressor(value); break;
    case LEVEL: command->conversion.level = (int)number(value); break;
    case THREADS: command->conversion.threads = (unsigned)number(value); break;
    case DIGEST: command->digest = value; break;
    case LIMIT: command->limit = number(value); break;
    case BUDGET: command->conversion.budget = number(value); break;
    case EPOCH: command->epoch = (int64_t)number(value); break;
    case SCRATCH: command->scratch = value; break;
    case LITERAL: command->literal = true; break;
    case HELP: fputs(help, stdout); exit(0);
    case HOT: case WARM: case ALONE: case HOLD: case HOLD_LINK: case HOLD_TREE: case SHOW: case READ:
        add(lists[option], value); break;
    default: exit(STATUS_FAILED); /* getopt has said why */
    }
}

static size_t read_input(void *from, void *data, size_t size)
{
    struct input *input = from;
    size_t done = 0;
    while (done < size) {
        if (input->used == input->filled) {
            ssize_t count = read(STDIN_FILENO, input->data, sizeof input->data);
            if (count < 0 && errno == EINTR)
                continue;
            if (count < 0)
                stop(errno, "standard input");
            if (!count)
                break;
            input->used = 0;
            input->filled = (size_t)count;
            input->position += (size_t)count;
            if (input->limit && input->position > input->limit)
                bad("more than %llu bytes when decompressed (no archive of files is; it would fill the disk)",
                    (unsigned long long)input->limit);
            if (input->digest)
                EVP_DigestUpdate(input->digest, input->data, (size_t)count);
        }
        size_t count = input->filled - input->used < size - done ? input->filled - input->used : size - done;
        memcpy((uint8_t *)data + done, input->data + input->used, count);
        input->used += count;
        done += count;
    }
    return done;
}

static void begin_digest(struct input *input, const char *digest)
{
    char name[16] = "";
    const char *colon = strchr(digest, ':');
    if (!colon || (size_t)(colon - digest) >= sizeof name)
        usage("%s: no digest", digest);
    memcpy(name, digest, (size_t)(colon - digest));
    const EVP_MD *kind = EVP_get_digestbyname(name);
    input->digest = EVP_MD_CTX_new();
    if (!kind || !input->digest || !EVP_DigestInit_ex(input->digest, kind, NULL))
        usage("%s: a digest of a kind that is not known", digest);
}

static void check_digest(struct input *input, const char *digest)
{
    unsigned char found[EVP_MAX_MD_SIZE];
    char digits[2 * EVP_MAX_MD_SIZE + 1] = "";
    unsigned size = 0;
    uint8_t rest[4096];
    while (read_input(input, rest, sizeof rest))
        continue;
    EVP_DigestFinal_ex(input->digest, found, &size);
    for (unsigned i = 0; i < size; i++)
        snprintf(digits + 2 * i, 3, "%02x", found[i]);
    if (strcmp(digits, strchr(digest, ':') + 1))
        bad("decompressed: its content is not what %s names (damaged? fetch it again)", digest);
    EVP_MD_CTX_free(input->digest);
}

static void perform_layer(struct command *command)
{
    static struct input input;
    input.limit = command->limit;
    if (command->digest)
        begin_digest(&input, command->digest);
    command->conversion.hot = command->hot.all;
    command->conversion.warm = command->warm.all;
    command->conversion.alone = command->alone.all;
    layer_convert(read_input, &input, command->fd, &command->conversion);
    if (command->digest)
        check_digest(&input, command->digest);
}

static void perform_merge(struct command *command, char **layers)
{
    struct merge_options merging = {.fd = command->fd, .offset = command->offset, .conversion = command->conversion,
                                    .epoch = command->epoch, .scratch = command->scratch,
                                    .literal = command->literal, .hold = command->hold.all,
                                    .hold_links = command->hold_links.all, .hold_trees = command->hold_trees.all,
                                    .show = command->show.all, .read = command->read.all,
                                    .first = command->hot.all, .layers = (const char *const *)layers};
    if (!command->scratch)
        usage("merge: no --scratch");
    merging.made = (uint32_t)(command->epoch >= 0 ? command->epoch : time(NULL));
    merging.conversion.all_alone = true;
    merge(&merging);
}

int main(int argc, char **argv)
{
    static struct command command = {.fd = -1, .epoch = -1, .conversion = {.compressor = COMPRESSOR_ZSTD, .level = 3, .threads = 1}};
    int option;
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1)
        take(&command, option, optarg);
    const char *verb = optind < argc ? argv[optind++] : "";
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        take(&command, option, optarg);
    if (command.fd < 0)
        usage("no --output (--help says more)");
    if (!strcmp(verb, "layer"))
        perform_layer(&command);
    else if (!strcmp(verb, "merge"))
        perform_merge(&command, argv + optind);
    else
        usage("%s: neither layer nor merge (--help says more)", verb);
    return 0;
}
