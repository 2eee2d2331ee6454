/* A plan for people, and as JSON: --dry-run. */
#include "plan.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#include "../restriction.h"

static const char *const mode_names[] = {[MODE_ROOT] = "root", [MODE_SETUID] = "setuid", [MODE_USERNS] = "user namespace"};
static const char *const way_names[] = {[WAY_BIND] = "bind", [WAY_KERNEL] = "kernel", [WAY_FUSE] = "FUSE", [WAY_KEPT] = "keeper"};
static const char *const layer_names[] = {[LAYER_NONE] = "none", [LAYER_OVERLAY] = "overlay",
                                          [LAYER_OVERLAY_FUSE] = "overlay (FUSE)", [LAYER_UNDERLAY] = "underlay"};
static const char *const step_names[] = {[STEP_BIND] = "bind", [STEP_DIRECTORY] = "directory", [STEP_FILE] = "file",
                                         [STEP_FILESYSTEM] = "mount", [STEP_LINK] = "link",
                                         [STEP_PLACE] = "place"};
static const char *const filesystem_names[] = {[FILESYSTEM_DIRECTORY] = "directory", [FILESYSTEM_SQUASHFS] = "squashfs",
                                               [FILESYSTEM_EXT] = "ext", [FILESYSTEM_EROFS] = "erofs"};
static const char *const identity_reasons[] = {[USER_CALLER] = NULL, [USER_NAMESPACE] = "by a user namespace", [USER_REAL] = "by setuid"};
static const struct {
    uint64_t flag;
    const char *name;
} namespace_names[] = {{CLONE_NEWUSER, "user"}, {CLONE_NEWNS, "mount"}, {CLONE_NEWPID, "pid"},
                       {CLONE_NEWIPC, "ipc"},   {CLONE_NEWUTS, "uts"},  {CLONE_NEWNET, "net"}};

static const char *const restriction_names[RESTRICTION_KINDS] = {
    [RESTRICTION_HOME] = "the home directory is only read", [RESTRICTION_NETWORK] = "no network",
    [RESTRICTION_PATH] = "allowed to read and write",       [RESTRICTION_PATH_READ] = "allowed to read",
    [RESTRICTION_FILTER] = "system calls by the profile",   [RESTRICTION_APPARMOR] = "AppArmor's profile",
    [RESTRICTION_SELINUX] = "SELinux's label",              [RESTRICTION_UID] = "user",
    [RESTRICTION_GID] = "group",                            [RESTRICTION_RECORD] = "recorded"};

enum { NAMESPACES = sizeof namespace_names / sizeof namespace_names[0] };

/* nosuid always, as every mount has it but for root's --allow-setuid, which has no mark here. */
static const char *options_of(const struct step *step, char text[64])
{
    snprintf(text, 64, "%s,nosuid%s%s", step->flags & STEP_READONLY ? "ro" : "rw", step->flags & STEP_NODEV ? ",nodev" : "",
             step->flags & STEP_NOEXEC ? ",noexec" : "");
    return text;
}

static unsigned uid_inside(const struct plan *plan, const struct plan_inputs *inputs)
{
    return plan->user.way != USER_CALLER ? plan->user.uid : plan->root_mapped ? 0 : inputs->caller->uid;
}

static unsigned gid_inside(const struct plan *plan, const struct plan_inputs *inputs)
{
    return plan->user.way != USER_CALLER ? plan->user.gid : plan->root_mapped ? 0 : inputs->caller->gid;
}

/* In a launch: a dry run mounts none of them so. */
static bool is_written(const struct plan *plan, uint32_t part)
{
    return part == 0 ? plan->image_writable : (int)part == plan->writable_part;
}

static const char *restriction_name(const struct request_entry *restriction)
{
    uint64_t kind = restriction->number & RESTRICTION_KIND;

    return kind < RESTRICTION_KINDS ? restriction_names[kind] : "unknown";
}

/* ---- for people ---- */

/* With control characters shown: names may come from an image or other users, and a terminal would obey them. */
static void put_plain(FILE *file, const char *text, const char *end)
{
    char shown[4 * PATH_MAX + 5];

    fprintf(file, "%.*s%s", (int)message_escaped(shown, 0, sizeof shown, text), shown, end);
}

static void print_restrictions(const struct request *request, FILE *file)
{
    for (uint32_t i = 0; i < request->restriction_count; i++) {
        const struct request_entry *restriction = &request->restriction[i];
        fprintf(file, "restriction: %s%s", restriction_name(restriction), *restriction->first != '\0' ? " " : "");
        put_plain(file, restriction->first, " (");
        put_plain(file, restriction->second, ")\n");
    }
}

static void print_text(const struct plan *plan, const struct plan_inputs *inputs, FILE *file)
{
    char options[64];

    fprintf(file, "mode: %s (%s)\nnamespaces:", mode_names[plan->mode], plan->mode_reason);
    for (size_t i = 0; i < NAMESPACES; i++)
        if (plan->namespaces & namespace_names[i].flag)
            fprintf(file, " %s", namespace_names[i].name);
    fprintf(file, "\n");
    if (plan->join_reason != NULL) {
        fprintf(file, "join: %s (", plan->join ? "yes" : "no");
        put_plain(file, plan->join_reason, ")\n");
    }
    if (inputs->request->linger_reason != NULL) {
        fputs("linger: ", file);
        put_plain(file, inputs->request->linger_reason, "\n");
    }
    for (uint32_t i = 0; i < plan->part_count; i++) {
        const struct part *part = &plan->parts[i];
        fprintf(file, "root: %s ", filesystem_names[part->partition.filesystem]);
        put_plain(file, part->source, "");
        fprintf(file, ", offset %llu, %s, by %s (%s)\n", (unsigned long long)part->partition.offset,
                is_written(plan, i) ? "writable" : "read-only", way_names[part->way], part->reason);
    }
    fprintf(file, "layer: %s (%s)\n", layer_names[plan->layer], plan->layer_reason);
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        fprintf(file, "%s: ", step->skipped != NULL ? "skip" : step_names[step->kind]);
        put_plain(file, step->source, " -> ");
        put_plain(file, *step->target != '\0' ? step->target : "-", " ");
        fprintf(file, "[%s] (%s)%s%s\n", options_of(step, options), step->reason, step->skipped != NULL ? ": " : "",
                step->skipped != NULL ? step->skipped : "");
    }
    fputs("directory: ", file);
    put_plain(file, plan->directory, "");
    if (plan->directory_reason != NULL)
        fprintf(file, " (%s)", plan->directory_reason);
    fputs("\nhome: ", file);
    put_plain(file, plan->home, "\n");
    fprintf(file, "identity: uid %u, gid %u, no_new_privs %s", uid_inside(plan, inputs), gid_inside(plan, inputs),
            plan->no_new_privs ? "on" : "off");
    if (identity_reasons[plan->user.way] != NULL) {
        fputs(" (USER ", file);
        put_plain(file, plan->user.spec, "");
        fprintf(file, " of the image, %s)", identity_reasons[plan->user.way]);
    }
    fputc('\n', file);
    print_restrictions(inputs->request, file);
}

/* ---- for programs ---- */

/* Bytes that are no UTF-8 are shown as their Latin-1 characters: JSON has no others. 0x7f and up in the form \u00XX,
 * so that the output is ASCII whatever the names are and no parser has to guess an encoding (RFC 8259). */
static void json_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (const unsigned char *byte = (const unsigned char *)text; *byte != '\0'; byte++) {
        if (*byte == '"' || *byte == '\\')
            fprintf(file, "\\%c", *byte);
        else if (*byte < 0x20 || *byte >= 0x7f)
            fprintf(file, "\\u%04x", *byte);
        else
            fputc(*byte, file);
    }
    fputc('"', file);
}

static void json_member(FILE *file, const char *name, const char *text, const char *end)
{
    json_text(file, name);
    fputs(": ", file);
    if (text != NULL)
        json_text(file, text);
    else
        fputs("null", file);
    fputs(end, file);
}

static void json_step(const struct step *step, FILE *file)
{
    char options[64];

    fputs("    {", file);
    json_member(file, "step", step_names[step->kind], ", ");
    json_member(file, "source", step->source, ", ");
    json_member(file, "target", step->target, ", ");
    json_member(file, "options", options_of(step, options), ", ");
    json_member(file, "reason", step->reason, ", ");
    json_member(file, "skipped", step->skipped, "}");
}

static void json_parts(const struct plan *plan, FILE *file)
{
    fputs("  \"root\": [\n", file);
    for (uint32_t i = 0; i < plan->part_count; i++) {
        const struct part *part = &plan->parts[i];
        fputs("    {", file);
        json_member(file, "source", part->source, ", ");
        json_member(file, "filesystem", filesystem_names[part->partition.filesystem], ", ");
        json_member(file, "by", way_names[part->way], ", ");
        json_member(file, "reason", part->reason, ", ");
        fprintf(file, "\"offset\": %llu, \"size\": %llu, \"writable\": %s}%s\n", (unsigned long long)part->partition.offset,
                (unsigned long long)part->partition.size, is_written(plan, i) ? "true" : "false", i + 1 < plan->part_count ? "," : "");
    }
    fputs("  ],\n", file);
}

static void json_restrictions(const struct request *request, FILE *file)
{
    for (uint32_t i = 0; i < request->restriction_count; i++) {
        fputs(i == 0 ? "  \"restrictions\": [\n    {" : ",\n    {", file);
        json_member(file, "restriction", restriction_name(&request->restriction[i]), ", ");
        json_member(file, "value", request->restriction[i].first, ", ");
        json_member(file, "reason", request->restriction[i].second, "}");
    }
    fputs(request->restriction_count > 0 ? "\n  ],\n" : "", file);
}

static void print_json(const struct plan *plan, const struct plan_inputs *inputs, FILE *file)
{
    const char *separator = "";

    fputs("{\n  ", file);
    json_member(file, "mode", mode_names[plan->mode], ",\n  ");
    json_member(file, "mode_reason", plan->mode_reason, ",\n  \"namespaces\": [");
    for (size_t i = 0; i < NAMESPACES; i++)
        if (plan->namespaces & namespace_names[i].flag) {
            fprintf(file, "%s\"%s\"", separator, namespace_names[i].name);
            separator = ", ";
        }
    fprintf(file, "],\n  \"join\": %s,\n  ", plan->join ? "true" : "false");
    json_member(file, "join_reason", plan->join_reason, ",\n");
    if (inputs->request->linger_reason != NULL) {
        fputs("  ", file);
        json_member(file, "linger", inputs->request->linger_reason, ",\n");
    }
    json_parts(plan, file);
    json_restrictions(inputs->request, file);
    fputs("  ", file);
    json_member(file, "layer", layer_names[plan->layer], ",\n  ");
    json_member(file, "layer_reason", plan->layer_reason, ",\n  ");
    json_member(file, "directory", plan->directory, ",\n  ");
    json_member(file, "directory_reason", plan->directory_reason, ",\n  ");
    json_member(file, "home", plan->home, ",\n  ");
    json_member(file, "user", plan->user.way != USER_CALLER ? plan->user.spec : NULL, ",\n  ");
    fprintf(file, "\"uid\": %u,\n  \"gid\": %u,\n  \"no_new_privs\": %s,\n  \"steps\": [\n", uid_inside(plan, inputs),
            gid_inside(plan, inputs), plan->no_new_privs ? "true" : "false");
    for (uint32_t i = 0; i < plan->step_count; i++) {
        json_step(&plan->steps[i], file);
        fputs(i + 1 < plan->step_count ? ",\n" : "\n", file);
    }
    fputs("  ]\n}\n", file);
}

/* A full disk or closed pipe is an error of the launch: half a plan is worse than none (R-F4). */
void plan_print(const struct plan *plan, const struct plan_inputs *inputs, bool json, FILE *file)
{
    if (json)
        print_json(plan, inputs, file);
    else
        print_text(plan, inputs, file);
    if (fflush(file) != 0 || ferror(file))
        stop(errno, "standard output");
}
