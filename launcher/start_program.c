/* The last act of a launch, in the plain starter: every privilege is gone. */
#include "commands/commands.h"
#include "emulate/emulate.h"
#include "named.h"
#include "payload.h"
#include "perform/perform.h"
#include "restrict/restrict.h"
#include "starter.h"

/* Nothing of the request is trusted here either: whoever forges one has no more rights than before. argv[1] is the
 * number of the request's descriptor, what follows are the program's words. The user namespace comes after what must
 * be done under the caller's own ids. */
_Noreturn void launch_start_program(const struct launch *launch, char **argv)
{
    const struct request *request = &launch->request;

    if (request->action == ACTION_LINGER)
        linger_keep(request, &launch->caller);
    const struct payload payload = {.request = request, .caller_environment = inherited_environment(&launch->inherited),
                                    .arguments = argv + 2, .home = request->home, .image = image_named(request),
                                    .home_yields = request->home_yields, .path_exact = request->path_exact};

    message_statuses(request->family_statuses);
    commands_greet();
    instance_tell(request, launch->plan.mode == MODE_USERNS);
    inherited_restore(&launch->inherited, request);
    if (request->user_uid != 0)
        user_namespace_show(request, &launch->caller);
    restrict_program(request); /* for the image's scripts, too, which the last line may run */
    if (launch->plan.emulates) /* after all that restricts the program: who answers for it has the same restrictions */
        emulate_root((struct emulation){.one_id = launch->plan.one_id});
    payload_execute(&payload);
}
