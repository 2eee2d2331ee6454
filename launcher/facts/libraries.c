/* Which libraries of the host are skipped: asks a process without any privilege, which reads the files. */
#include "facts.h"

#include "../libraries/look.h"
#include "../privilege.h"

/* The child's text quotes names of the image: a terminator is put in. Whoever shows it escapes it. */
static void apply(struct plan *plan, struct step *step, struct told *told)
{
    told->text[TOLD_TEXT - 1] = '\0';
    if (*told->text != '\0')
        *(told->taken ? &step->reason : &step->skipped) = plan_text(plan, "%s", told->text);
}

/* The same test when asking and when answers are applied: answers come back by order alone. */
static bool wanted(const struct step *step)
{
    return (step->flags & STEP_LIBRARY) && step->facts.source_type != 0;
}

struct question {
    const struct request *asked;
    const struct caller *caller;
    int root;
};

static _Noreturn void look(const void *asked, int to)
{
    const struct question *question = asked;

    privilege_forget(question->caller);
    library_look_and_tell(question->asked, question->root, to);
}

void facts_libraries(struct plan *plan, const struct request *request, const struct caller *caller, int root)
{
    static struct request asked; /* these are too large for a stack that may be limited */
    static struct told told[LIBRARIES_LIMIT];
    uint32_t number = 0;

    asked.level = request->level;
    asked.colour = request->colour;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        if (wanted(step)) /* there are no more of them than in a request */
            asked.library[asked.library_count++] = (struct request_entry){step->source, step->target, step->library};
    }
    if (asked.library_count == 0)
        return;
    bool answered = ask(look, &(struct question){&asked, caller, root}, told, asked.library_count * sizeof told[0]);
    if (!answered)
        message_warning("the libraries of the host could not be compared with those of the image: none of them goes in");
    for (uint32_t i = 0; i < plan->step_count; i++) {
        struct step *step = &plan->steps[i];
        if (wanted(step) && answered)
            apply(plan, step, &told[number++]);
        else if (wanted(step))
            step->skipped = "not compared with the image's";
    }
}
