/* Works for the setuid starter, which executes it without any privilege: compares libraries of the host with those of an image,
 * and prints the plan of a dry run. Installed with mode 0711, so that its users can neither trace nor read it. */
#include <stdlib.h>

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

int main(int argc, char **argv)
{
    static struct launch launch;
    struct error error = {0};

    (void)privilege_begin(); /* it has none: says who the user is, for processes that give up what they might have */
    if (argc != 4 || !request_receive(atoi(argv[1]), &launch.request, &error))
        stop_with(EXIT_USAGE, 0, "this is a part of the starter of singularity containers: run singularity instead");
    message_begin((int)(launch.request.level % 64) - 16, launch.request.colour);
    proc_open();
    if (launch.request.dry_run != DRY_RUN_NO)
        show(&launch, atoi(argv[2]));
    library_look_and_tell(&launch.request, atoi(argv[2]), atoi(argv[3]));
}
