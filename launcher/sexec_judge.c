/* Works for the setuid starter, which executes it without any privilege: judges signatures, compares libraries of the host with those
 * of an image, prints the plan of a dry run, and keeps containers that are shared. Installed with mode 0711, so that its users can neither trace nor read it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inside.h"
#include "libraries/look.h"
#include "starter.h"

/* Once more what the setuid starter has planned, and said: from the same request come the same facts and the same plan. */
static _Noreturn void show(struct launch *launch, int root)
{
    int level = message_level_get();

    caller_read(&launch->caller);
    message_begin(LEVEL_ERROR, launch->request.colour);
    launch_find_facts(launch, true);
    launch_plan_mode(launch);
    launch_plan_mounts(launch);
    message_begin(level, launch->request.colour);
    launch_show(launch, root);
}

/* What the setuid program's keeper_run() has handed on: socket, key, the child of an instance's first process (-1: no instance), and
 * namespaces. */
static _Noreturn void keep(int count, char **words)
{
    static struct rendezvous rendezvous;
    int spaces[RENDEZVOUS_SPACES], key = atoi(words[1]);
    pid_t script = atoi(words[2]);
    ssize_t size = pread(key, rendezvous.key, sizeof rendezvous.key, 0);

    for (int i = 0; i < count; i++)
        spaces[i] = atoi(words[3 + i]);
    if (size <= 0)
        stop(errno, "keep a container for others");
    rendezvous.key_size = (size_t)size;
    rendezvous.linger = script < 0 ? 0 : RENDEZVOUS_FOREVER;
    rendezvous.script = script;
    keeper_run(&rendezvous, atoi(words[0]), spaces, (size_t)count);
}

/* What the setuid program's seal_judge_and_tell() has handed on. */
static _Noreturn void judge_seal(char **words)
{
    const struct seal_question question = {.image = atoi(words[0]), .offset = strtoull(words[1], NULL, 10),
                                           .size = strtoull(words[2], NULL, 10), .reader = (enum seal_reader)atoi(words[3]), .enforced = true};

    proc_open();
    seal_judge_and_tell(&question, atoi(words[4]));
}

int main(int argc, char **argv)
{
    static struct launch launch;
    struct error error = {0};

    (void)privilege_begin(); /* it has none: says who the user is, for processes that give up what they might have */
    if (argc > 5 && argc <= 5 + RENDEZVOUS_SPACES && strcmp(argv[1], "keep") == 0)
        keep(argc - 5, argv + 2);
    if (argc == 7 && strcmp(argv[1], "signature") == 0)
        judge_seal(argv + 2);
    if (argc != 4 || !request_receive(atoi(argv[1]), &launch.request, &error))
        stop_with(EXIT_USAGE, 0, "this is a part of the starter of singularity containers: run singularity instead");
    message_begin((int)(launch.request.level % 64) - 16, launch.request.colour);
    proc_open();
    if (launch.request.dry_run != DRY_RUN_NO)
        show(&launch, atoi(argv[2]));
    library_look_and_tell(&launch.request, atoi(argv[2]), atoi(argv[3]));
}
