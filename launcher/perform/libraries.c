/* Which libraries of the host are skipped: asks a process without any privilege, which reads the files. */
#include "perform.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../library/look.h"
#include "../privilege.h"

/* What was told comes from the image in part: plain characters only, and an end. */
static const char *plain(struct plan *plan, const char *before, char *text)
{
    text[VERDICT_REASON - 1] = '\0';
    for (char *byte = text; *byte != '\0'; byte++)
        if (*byte < ' ' || *byte > '~')
            *byte = '?';
    return before != NULL ? plan_text(plan, "%s: %s", before, text) : plan_text(plan, "%s", text);
}

static void apply(struct plan *plan, struct step *step, struct told *told)
{
    if (told->verdict != JUDGE_TAKEN)
        step->skipped = plain(plan, told->verdict == JUDGE_BROKEN ? "cannot be used here" : NULL, told->reason);
    else if (*told->reason != '\0')
        step->reason = plain(plan, library_option(step->library), told->reason);
}

static bool wanted(const struct step *step)
{
    return (step->flags & STEP_LIBRARY) && step->facts.source_type != 0;
}

static _Noreturn void look(const struct request *asked, const struct caller *caller, int root, int to)
{
    privilege_forget(caller);
    library_look_and_tell(asked, root, to);
}

/* True: `told` holds a verdict for each library that was asked about. */
static bool ask(const struct request *asked, const struct caller *caller, int root, struct told *told)
{
    size_t used = 0, size = asked->library_count * sizeof *told;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    OWNED_FD from = ends[0], to = ends[1];
    pid_t child = fork();
    if (child == 0)
        look(asked, caller, root, to);
    fd_close(&to);
    for (ssize_t got = 1; child > 0 && used < size && got != 0; used += got > 0 ? (size_t)got : 0)
        if ((got = read(from, (char *)told + used, size - used)) < 0 && errno != EINTR)
            break;
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    return used == size;
}

void survey_libraries(struct plan *plan, const struct request *request, const struct caller *caller, int root)
{
    static struct request asked; /* these are too large for a stack that may be limited */
    static struct told told[LIBRARIES_LIMIT];
    uint32_t number = 0;

    asked.level = request->level;
    asked.colour = request->colour;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        if (wanted(step) && asked.library_count < LIBRARIES_LIMIT)
            asked.library[asked.library_count++] = (struct request_entry){step->source, step->target, step->library};
    }
    if (asked.library_count == 0)
        return;
    bool answered = ask(&asked, caller, root, told);
    if (!answered)
        message_warning("the libraries of the host could not be compared with those of the image: none of them goes in");
    for (uint32_t i = 0; i < plan->step_count; i++) {
        struct step *step = &plan->steps[i];
        if (!wanted(step) || number == asked.library_count)
            continue;
        if (answered)
            apply(plan, step, &told[number++]);
        else
            step->skipped = "not compared with the image's";
    }
}
