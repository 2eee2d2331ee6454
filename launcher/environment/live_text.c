/* The text that the image's shell runs for live.c. */
#include "environment/parts.h"

#include <stdio.h>
#include <string.h>

/* The `close` that ends the ${ or $( at `at`; NULL: there is none. Shells respect quotes in ( ) only. An opening
 * parenthesis counts as one more, a brace only after a $, which is how shells nest them. */
static const char *group_end(const char *at, char open, char close)
{
    unsigned depth = 0;
    char quote = '\0';

    for (; *at != '\0'; at++) {
        if (*at == '\\' && quote != '\'' && at[1] != '\0')
            at++;
        else if (quote != '\0')
            quote = *at == quote ? '\0' : quote;
        else if (open == '(' && (*at == '\'' || *at == '"'))
            quote = *at;
        else if (open == '(' ? *at == open : *at == '$' && at[1] == open)
            depth++;
        else if (*at == close && --depth == 0)
            return at;
    }
    return NULL;
}

/* The end of what begins at `at`, one character or one substitution, to be kept as it is in double quotes; NULL: it
 * has no end. A pair of a backslash and its character, a substitution with all that is nested in it, or one
 * character. */
static const char *part_end(const char *at)
{
    if (*at == '\\' && at[1] != '\0')
        return at + 2;
    if (*at == '$' && (at[1] == '(' || at[1] == '{')) {
        at = group_end(at, at[1], at[1] == '(' ? ')' : '}');
        return at == NULL ? NULL : at + 1;
    }
    if (*at == '`') {
        for (at++; *at != '`'; at++)
            if (*at == '\0' || (*at == '\\' && *++at == '\0'))
                return NULL;
        return at + 1;
    }
    return at + 1;
}

bool live_value_complete(const char *value)
{
    while (value != NULL && *value != '\0')
        value = part_end(value);
    return value != NULL;
}

/* A $ counts before a name, a { and a (, as in script_expand. */
static bool dollar_counts(char next)
{
    return next == '{' || next == '(' || variable_name_valid(&next, 1);
}

/* A value must not end the quotes it stands in: its own double quotes and a lone $ are escaped. Substitutions stay,
 * since that is what the user asked for by writing them; he could run them in the container in any case. */
static void add_double_quoted(struct text *text, const char *value)
{
    text_add_string(text, "\"");
    while (*value != '\0') {
        const char *end = part_end(value);
        bool lone = (*value == '$' && !dollar_counts(value[1])) || (*value == '\\' && value[1] == '\0');
        if (lone || *value == '"')
            text_add_string(text, "\\");
        text_add(text, value, (size_t)(end - value));
        value = end;
    }
    text_add_string(text, "\"");
}

static void add_injected(struct text *text, const struct live *live)
{
    for (uint32_t at = 0; at < live->injected->count; at++) {
        const struct variable *entry = &live->injected->entries[at];
        const char *value = variable_value(entry);
        text_add_string(text, "export ");
        text_add(text, entry->text, (size_t)entry->name_length + 1);
        if (live->payload->request->no_eval || !live_value_complete(value))
            text_add_quoted(text, value);
        else
            add_double_quoted(text, value);
        text_add_string(text, "\n");
    }
}

/* The text of path_complete. Every shell knows `case`; its pattern with colons on both sides finds whole directories
 * only. */
static void add_path_complete(struct text *text)
{
    for (const char *part = PATH_DEFAULT; *part != '\0';) {
        int length = (int)strcspn(part, ":");
        char line[256];
        snprintf(line, sizeof line, "case \":$PATH:\" in *:%.*s:*) ;; *) PATH=\"${PATH:+$PATH:}%.*s\" ;; esac\n",
                 length, part, length, part);
        text_add_string(text, line);
        part += length + (part[length] == ':' ? 1 : 0);
    }
    text_add_string(text, "export PATH\n");
}

/* `${NAME+x}` tells "set to nothing" from "not set", which [ -n "$NAME" ] does not. */
static void add_defaults(struct text *text, const struct live *live)
{
    text_add_string(text, "[ -n \"${PATH+x}\" ] || export PATH='" PATH_DEFAULT "'\n");
    if (!live->payload->home_yields || live->payload->home == NULL)
        return;
    text_add_string(text, "[ -n \"${HOME+x}\" ] || export HOME=");
    text_add_quoted(text, live->payload->home);
    text_add_string(text, "\n");
}

/* Sourced, so that a function or variable of one script is there for the next. 8 and 9 are closed for the script: it
 * is not to read or write what is ours. A directory or unreadable file is left out, as without a shell. */
static void add_scripts(struct text *text, const struct live *live)
{
    bool injected = false;

    for (size_t at = 0; at < live->scripts->count; at++) {
        const char *path = live->scripts->paths[at];
        enum script_kind kind = script_kind(path);
        if (kind == SCRIPT_LATE && !injected) {
            add_injected(text, live);
            injected = true;
        }
        if (kind != SCRIPT_FIRST && kind != SCRIPT_DOCKER)
            add_defaults(text, live);
        text_add_string(text, "if [ -f ");
        text_add_quoted(text, path);
        text_add_string(text, " ] && [ -r ");
        text_add_quoted(text, path);
        text_add_string(text, " ]; then . ");
        text_add_quoted(text, path);
        text_add_string(text, " 8<&- 9>&-; fi\n");
        if ((kind == SCRIPT_DOCKER && !live->payload->path_exact) || !live->scripts->modern)
            add_path_complete(text);
    }
    if (!injected)
        add_injected(text, live);
}

/* A line of the result: `word`, and for each of the host's variables an x, if it has a value now, and a comma. */
static void add_marks(struct text *text, const struct variables *host, const char *word)
{
    text_add_strings(text, "echo \"", word, NULL);
    for (uint32_t at = 0; at < host->count; at++) {
        text_add_string(text, "${");
        text_add(text, host->entries[at].text, host->entries[at].name_length);
        text_add_string(text, "+x},");
    }
    text_add_string(text, "\" >&9\n");
}

/* Variables that the scripts see and programs do not: UID and GID. */
static void add_hidden(struct text *text, const struct variables *variables)
{
    for (uint32_t at = 0; at < variables->count; at++) {
        const struct variable *entry = &variables->entries[at];
        if (!entry->set || entry->exported)
            continue;
        text_add_string(text, "[ -n \"${");
        text_add(text, entry->text, entry->name_length);
        text_add_string(text, "+x}\" ] || ");
        text_add(text, entry->text, (size_t)entry->name_length + 1);
        text_add_quoted(text, variable_value(entry));
        text_add_string(text, "\n");
    }
}

void live_text_write(const struct live *live, const struct variables *variables, struct text *text)
{
    /* One command: the shell has read it to its end before it runs, and the text itself is not there to be read. */
    text_add_string(text, "{\nunset PS1\n");
    if (variables_get(variables, "PATH") == NULL)
        text_add_string(text, "unset PATH\n");
    add_hidden(text, variables);
    add_marks(text, live->host, "before");
    add_scripts(text, live);
    add_marks(text, live->host, "after");
    text_add_string(text, "umask >&9\necho variables >&9\nexport -p >&9\n} <&8\n");
}
