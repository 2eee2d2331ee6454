/* The command line by the table of options.def: words to options, and one line where they are wrong. */
#include "front.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "../suggest.h"

enum {
    GLOBAL = SCOPE_GLOBAL,
    EXEC = SCOPE_EXEC,
    RUN = SCOPE_RUN,
    SHELL = SCOPE_SHELL,
    TEST = SCOPE_TEST,
    INSTANCE = SCOPE_INSTANCE,
    FOREGROUND = SCOPE_FOREGROUND,
    ACTIONS = SCOPE_ACTIONS
};

/* options.def is the one place for names, help, completion and manual: what is not there does not exist. */
const struct option option_table[OPTION_COUNT] = {
#define OPTION(identifier, letter_, names_, kind_, metavar_, variables_, verbs_, group_, help_) \
    [OPTION_##identifier] = {.letter = (letter_), .names = "--" names_, .kind = KIND_##kind_, .bare = sizeof(metavar_) == 1, \
                             .variables = (variables_), .scopes = (verbs_), .help = (help_)},
#define VARIABLE(identifier, kind_, metavar_, variables_, verbs_, group_, help_) \
    [OPTION_##identifier] = {.names = "--", .kind = KIND_##kind_, .variables = (variables_), \
                             .scopes = (verbs_), .help = (help_)},
#include "../options.def"
#undef OPTION
#undef VARIABLE
};

/* Whole texts, for no memory is allocated on the way to a message. */
static const struct {
    const char *name, *words, *help;
    unsigned scope;
} launch_verbs[] = {
#define VERB(name, scope) {name, " for " name, "singularity help " name, scope}
    VERB("exec", SCOPE_EXEC),   VERB("run", SCOPE_RUN),           VERB("shell", SCOPE_SHELL),
    VERB("test", SCOPE_TEST),   VERB("instance start", SCOPE_START), VERB("instance run", SCOPE_START_RUN),
#undef VERB
};
enum { LAUNCH_VERBS = sizeof launch_verbs / sizeof launch_verbs[0] };

const char *scope_verb(unsigned scope)
{
    for (int i = 0; i < LAUNCH_VERBS; i++)
        if (launch_verbs[i].scope == scope)
            return launch_verbs[i].name;
    return "";
}

/* ---- the table ---- */

/* The names of an option stand in one text, as options.def has them. */
bool name_listed(const char *list, const char *name, size_t length, unsigned *rank)
{
    unsigned place = 0;

    while (*list != '\0') {
        size_t size = strcspn(list, ",");
        if (size == length && memcmp(list, name, length) == 0) {
            if (rank != NULL)
                *rank = place;
            return true;
        }
        list += size + (list[size] == ',');
        place++;
    }
    return false;
}

/* No abbreviations: a script that uses one would break by the next option that begins the same way. */
static enum option_id find_long(const char *name, size_t length, unsigned scopes)
{
    for (int id = 0; id < OPTION_COUNT; id++)
        if ((option_table[id].scopes & scopes) != 0 && length > 0 &&
            name_listed(option_table[id].names + 2, name, length, NULL))
            return (enum option_id)id;
    return OPTION_COUNT;
}

/* The same letter may mean different options before and behind the verb, as in the family. */
static enum option_id find_letter(char letter, unsigned scopes)
{
    for (int id = 0; id < OPTION_COUNT; id++)
        if ((option_table[id].scopes & scopes) != 0 && option_table[id].letter == letter)
            return (enum option_id)id;
    return OPTION_COUNT;
}

/* An optional value comes with "=" only, or the next word, the image, would be taken for it. */
static bool takes_no_word(enum option_kind kind)
{
    return kind == KIND_FLAG || kind == KIND_COUNT || kind == KIND_OPTIONAL || kind == KIND_NONE_HERE;
}

bool boolean_parse(const char *text, bool *value)
{
    static const char *const spellings[2][6] = {{"0", "f", "false", "no", "n", "off"}, {"1", "t", "true", "yes", "y", "on"}};

    for (int truth = 0; truth < 2; truth++)
        for (int i = 0; i < 6; i++)
            if (strcasecmp(text, spellings[truth][i]) == 0) {
                *value = truth != 0;
                return true;
            }
    return false;
}

/* ---- uses ---- */

bool options_add(struct options *options, struct option_value value, struct error *error)
{
    if (options->count == OPTION_VALUES)
        return error_set(error, 0, "more than %d options", OPTION_VALUES);
    options->values[options->count++] = value;
    if (!value.from_variable)
        options->given[value.id] = true;
    return true;
}

/* "--flag=false" takes an earlier "--flag", or its variable, back. */
bool options_flag(const struct options *options, enum option_id id)
{
    bool value = false;

    for (uint32_t i = 0; i < options->count; i++) {
        if (options->values[i].id != id)
            continue;
        value = true;
        if (options->values[i].text != NULL)
            boolean_parse(options->values[i].text, &value);
    }
    return value;
}

/* "--verbose=false" forgets those before it. */
int options_times(const struct options *options, enum option_id id)
{
    int times = 0;
    bool value = true;

    for (uint32_t i = 0; i < options->count; i++) {
        const struct option_value *use = &options->values[i];
        if (use->id != id)
            continue;
        if (use->text != NULL && boolean_parse(use->text, &value) && !value)
            times = 0;
        else
            times++;
    }
    return times;
}

const struct option_value *options_last(const struct options *options, enum option_id id)
{
    for (uint32_t i = options->count; i > 0; i--)
        if (options->values[i - 1].id == id)
            return &options->values[i - 1];
    return NULL;
}

const char *options_text(const struct options *options, enum option_id id)
{
    const struct option_value *last = options_last(options, id);

    return last != NULL ? last->text : NULL;
}

/* ---- words ---- */

/* `words` is the next word; every function that takes one moves it on. */
struct parse {
    char *const *words;
    unsigned scope;
    struct command_line *line;
    struct error *error;
};

static const char *scope_words(unsigned scope)
{
    for (int i = 0; i < LAUNCH_VERBS; i++)
        if (launch_verbs[i].scope == scope)
            return launch_verbs[i].words;
    return "";
}

static const char *help_hint(unsigned scope)
{
    for (int i = 0; i < LAUNCH_VERBS; i++)
        if (launch_verbs[i].scope == scope)
            return launch_verbs[i].help;
    return "singularity help";
}

/* An unknown word that stands in the other half of the command line, or resembles something that is known. What is
 * most likely meant is said first: the other side of the verb, Docker's option, a typing error. Very long words are
 * cut, for they come from a missing blank or quote. */
static bool refuse_unknown_long(const struct parse *parse, const char *word, const char *name, size_t length)
{
    unsigned others = parse->scope == SCOPE_GLOBAL ? SCOPE_ACTIONS : SCOPE_GLOBAL;
    const char *where = scope_words(parse->scope);
    int shown = (int)(name - word) + (int)length;
    struct suggestion nearest = {.word = name, .length = length};
    const char *here = docker_long(name, length);

    if (length > OPTION_NAME_SIZE)
        return error_set(parse->error, 0, "unknown option %.40s...%s (see: %s)", word, where, help_hint(parse->scope));
    if (find_long(name, length, others) != OPTION_COUNT)
        return error_set(parse->error, 0, "option %.*s goes %s the verb (singularity %s)", shown, word,
                         others == SCOPE_GLOBAL ? "before" : "after",
                         others == SCOPE_GLOBAL ? "[global options] VERB" : "VERB [options]");
    if (here != NULL)
        return error_set(parse->error, 0, "unknown option %.*s%s (it is Docker's; here: %s)", shown, word, where, here);
    for (int id = 0; id < OPTION_COUNT; id++)
        if ((option_table[id].scopes & parse->scope) != 0 && option_table[id].kind != KIND_NONE_HERE)
            suggest_from_list(&nearest, option_table[id].names + 2);
    if (nearest.found_length > 0)
        return error_set(parse->error, 0, "unknown option %.*s%s (did you mean --%.*s?)", shown, word, where,
                         (int)nearest.found_length, nearest.found);
    return error_set(parse->error, 0, "unknown option %.*s%s (see: %s)", shown, word, where, help_hint(parse->scope));
}

/* "-nv" and "-home" are long options with one dash, as people write them; read as letters they would be blamed for
 * their first one. */
static bool refuse_unknown_letter(const struct parse *parse, const char *word, const char *at)
{
    char letter = *at;
    const char *value = at[1] != '\0' ? at + 1 : *parse->words != NULL ? *parse->words : "";
    const char *here = docker_letter(letter, value);
    unsigned others = parse->scope == SCOPE_GLOBAL ? SCOPE_ACTIONS : SCOPE_GLOBAL;
    size_t length = strcspn(word + 1, "=");
    enum option_id whole = length > 1 ? find_long(word + 1, length, parse->scope) : OPTION_COUNT;

    if (whole != OPTION_COUNT)
        return error_set(parse->error, 0, "unknown option %.*s%s (did you mean -%.*s?)", (int)length + 1, word,
                         scope_words(parse->scope), (int)length + 1, word);
    if (here != NULL && others == SCOPE_GLOBAL)
        return error_set(parse->error, 0, "unknown option %s%s (it is Docker's; here: %s)", word, scope_words(parse->scope), here);
    if (find_letter(letter, others) != OPTION_COUNT)
        return error_set(parse->error, 0, "option -%c goes %s the verb (see: %s)", letter,
                         others == SCOPE_GLOBAL ? "before" : "after", help_hint(parse->scope));
    return error_set(parse->error, 0, "unknown option -%c%s (see: %s)", letter, scope_words(parse->scope),
                     help_hint(parse->scope));
}

/* The help sentence says what it would be; its first word loses its capital, unless it is an abbreviation. */
bool option_refuse(const struct option_value *use, const char *what, struct error *error)
{
    const char *help = option_table[use->id].help;
    char first = help[1] >= 'A' && help[1] <= 'Z' ? help[0] : (char)(help[0] | 0x20);

    return error_set(error, 0, "%s %.*s is not available here (%c%s)", what, OPTION_NAME(use), first, help + 1);
}

/* One use by the command line; `value` NULL: none stands with it. `name` ends at its "=" or ",". The same checks for
 * both spellings. An empty value comes from a script's variable that is not set: of a list it is nothing more, else it is refused. */
static bool take(const struct parse *parse, enum option_id id, const char *name, const char *value)
{
    const struct option *option = &option_table[id];
    const struct option_value use = {.id = id, .name = name, .text = value};
    bool truth;

    if (option->kind == KIND_NONE_HERE)
        return option_refuse(&use, "option", parse->error);
    if (value != NULL && (option->kind == KIND_FLAG || option->kind == KIND_COUNT) && !boolean_parse(value, &truth))
        return error_set(parse->error, 0, "option %.*s: \"%.60s\" is neither true nor false", OPTION_NAME(&use), value);
    if (value != NULL && *value == '\0' && (option->kind == KIND_LIST_CSV || option->kind == KIND_LIST_RAW))
        return true;
    if ((value == NULL || *value == '\0') && !takes_no_word(option->kind))
        return error_set(parse->error, 0, "option %.*s%s needs a value (see: %s)", OPTION_NAME(&use),
                         scope_words(parse->scope), help_hint(parse->scope));
    return options_add(&parse->line->options, use, parse->error);
}

/* The word is "--name" or "--name=value". A value that is a word of its own may begin with a dash: "--env -x" takes
 * it. */
static bool take_long(struct parse *parse, const char *word)
{
    const char *name = word + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    enum option_id id = find_long(name, length, parse->scope);

    if (id == OPTION_COUNT)
        return refuse_unknown_long(parse, word, name, length);
    if (value == NULL && !takes_no_word(option_table[id].kind) && *parse->words != NULL)
        value = *parse->words++;
    return take(parse, id, word, value);
}

/* The word is "-x", "-xyz", "-xvalue" or "-x=value". The rest of the word is the value of the first letter that takes
 * one, as for getopt(3). */
static bool take_letters(struct parse *parse, const char *word)
{
    for (const char *letter = word + 1; *letter != '\0'; letter++) {
        enum option_id id = find_letter(*letter, parse->scope);
        const char *value = letter[1] == '=' ? letter + 2 : NULL;
        if (id == OPTION_COUNT)
            return refuse_unknown_letter(parse, word, letter);
        bool alone = takes_no_word(option_table[id].kind);
        if (value == NULL && !alone && letter[1] != '\0')
            value = letter + 1;
        else if (value == NULL && !alone && *parse->words != NULL)
            value = *parse->words++;
        if (!take(parse, id, option_table[id].names, value))
            return false;
        if (value != NULL)
            return true;
    }
    return true;
}

/* Takes options until the first word that is none. "-" alone is a word, "--" ends the options (POSIX, Utility Syntax
 * Guidelines). Behind the first word nothing is ours: options there are the program's. */
static bool take_options(struct parse *parse)
{
    while (*parse->words != NULL) {
        const char *word = *parse->words;
        if (word[0] != '-' || word[1] == '\0')
            return true;
        parse->words++;
        if (strcmp(word, "--") == 0)
            return true;
        if (word[1] == '-' ? !take_long(parse, word) : !take_letters(parse, word))
            return false;
    }
    return true;
}

static bool finish(struct command_line *line, enum line_kind kind, char *const *rest)
{
    line->kind = kind;
    line->rest = rest;
    return true;
}

/* `exec help` asks for help, unless something follows it: "help" could be an image. */
static bool parse_launch(struct parse *parse, char *const *verb, unsigned scope)
{
    struct command_line *line = parse->line;

    parse->scope = line->scope = scope;
    if (!take_options(parse))
        return false;
    char *const *rest = parse->words;
    bool word_help = rest[0] != NULL && rest[1] == NULL && strcmp(rest[0], "help") == 0;
    if (options_flag(&line->options, OPTION_help) || word_help)
        return finish(line, LINE_HELP, verb);
    return finish(line, LINE_LAUNCH, rest);
}

/* The verb at `words`, of one word or two; "instance.start" is how 2.4 to 2.6 spelt it. 0: no launch. */
static unsigned launch_scope(char *const *words, size_t *length)
{
    static const char instance[] = "instance";
    const size_t size = sizeof instance - 1;

    *length = strcmp(words[0], instance) == 0 && words[1] != NULL ? 2 : 1;
    for (int i = 0; i < LAUNCH_VERBS; i++) {
        const char *name = launch_verbs[i].name;
        bool two = *length == 2 && strncmp(name, "instance ", size + 1) == 0 && strcmp(words[1], name + size + 1) == 0;
        bool dotted = strncmp(words[0], "instance.", size + 1) == 0 && strncmp(name, instance, size) == 0 &&
                      strcmp(words[0] + size + 1, name + size + 1) == 0 && name[size] == ' ';
        if (two || dotted || strcmp(words[0], name) == 0)
            return launch_verbs[i].scope;
    }
    return 0;
}

/* No verb of Python's is known by name here: whatever is no launch is handed on, so that a new one needs no change. */
bool command_line_parse(char *const *words, struct command_line *line, struct error *error)
{
    struct parse parse = {.words = words, .scope = SCOPE_GLOBAL, .line = line, .error = error};

    if (!take_options(&parse))
        return false;
    char *const *verb = parse.words;
    if (options_flag(&line->options, OPTION_version))
        return finish(line, LINE_VERSION, verb);
    if (options_flag(&line->options, OPTION_help) || *verb == NULL)
        return finish(line, LINE_HELP, verb);
    if (strcmp(*verb, "help") == 0)
        return finish(line, LINE_HELP, verb + 1);
    if (strcmp(*verb, "version") == 0 && verb[1] == NULL)
        return finish(line, LINE_BARE_VERSION, verb);
    size_t length;
    unsigned scope = launch_scope(verb, &length);
    parse.words += length;
    if (scope != 0)
        return parse_launch(&parse, verb, scope);
    return finish(line, LINE_OTHER, verb);
}
