/* The last act of a launch, in the plain starter: every privilege is gone. */
#include "payload.h"
#include "perform/user_namespace.h"
#include "starter.h"

/* Nothing of the request is trusted here either: whoever forges one has no more rights than before. */
_Noreturn void starter_start_program(const struct starter *starter, char **argv)
{
    const struct request *request = &starter->request;
    const struct payload payload = {.request = request, .caller_environment = inherited_environment(&starter->inherited),
                                    .arguments = argv + 2, .home = request->home, .image = request->image,
                                    .home_yields = request->home_yields, .path_exact = request->path_exact};

    inherited_restore(&starter->inherited, request);
    if (request->user_uid != 0)
        user_namespace_show(request, &starter->caller);
    payload_execute(&payload);
}
