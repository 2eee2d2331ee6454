/* Words of a shell script: quotes, expansions, assignments. */
#include "environment/word.h"

#include <string.h>

enum { FIRST_ROOM = 64 };

bool evaluation_live(struct evaluation *evaluation, const char *why)
{
    struct script_result *result = evaluation->result;

    if (result->why == NULL) {
        size_t length = strnlen(evaluation->cursor.file, sizeof result->file - 1);
        result->why = why;
        result->line = evaluation->cursor.line;
        memcpy(result->file, evaluation->cursor.file, length);
        result->file[length] = '\0';
    }
    return false;
}

bool word_add(struct evaluation *evaluation, struct word *word, const char *bytes, size_t length)
{
    size_t needed = word->length + length + 1;

    if (needed > SCRIPT_LIMIT || length > evaluation->work)
        return evaluation_live(evaluation, "too large a value");
    evaluation->work -= length;
    if (needed > word->room) {
        size_t room = word->room == 0 ? FIRST_ROOM : 2 * word->room;
        room = room < needed ? needed : room;
        word->bytes = arena_grow(evaluation->variables->arena, word->bytes, word->length, room);
        if (word->bytes == NULL)
            return evaluation_live(evaluation, "too large a value");
        word->room = room;
    }
    memcpy(word->bytes + word->length, bytes, length);
    word->length += length;
    word->bytes[word->length] = '\0';
    return true;
}

static bool add_character(struct evaluation *evaluation, struct word *word, int character)
{
    char byte = (char)character;

    word->field = true;
    if (word->length + 2 > word->room || evaluation->work == 0)
        return word_add(evaluation, word, &byte, 1);
    evaluation->work--;
    word->bytes[word->length++] = byte;
    word->bytes[word->length] = '\0';
    return true;
}

/* Unquoted bytes that a value or the word of ${ } brings in. */
static bool add_unquoted(struct evaluation *evaluation, struct word *word, enum word_use use, const char *bytes,
                         size_t length)
{
    if (use == WORD_ARGUMENT || (use == WORD_DECLARED && word->name_length == 0)) {
        for (size_t at = 0; at < length; at++)
            if (strchr(" \t\n*?[\\", bytes[at]) != NULL)
                return evaluation_live(evaluation, "field splitting or a pattern");
    }
    word->field = word->field || length > 0;
    return word_add(evaluation, word, bytes, length);
}

bool word_name_special(const char *name, size_t length)
{
    static const char *const names[] = {
        "IFS", "RANDOM", "SRANDOM", "SECONDS", "LINENO", "PPID", "EUID", "FUNCNAME", "DIRSTACK", "GROUPS",
        "PIPESTATUS", "EPOCHSECONDS", "EPOCHREALTIME", "HOSTTYPE", "MACHTYPE", "OSTYPE", "SHELLOPTS", "BASH",
        "BASHOPTS", "BASHPID", "BASH_VERSION", "BASH_VERSINFO", "BASH_SOURCE", "BASH_LINENO", "BASH_SUBSHELL",
        "BASH_COMMAND", "BASH_ARGC", "BASH_ARGV", "BASH_ARGV0", "BASH_ALIASES", "BASH_CMDS", "POSIXLY_CORRECT",
    };
    for (size_t at = 0; at < sizeof names / sizeof *names; at++)
        if (strlen(names[at]) == length && memcmp(names[at], name, length) == 0)
            return true;
    return false;
}

bool word_assign(struct evaluation *evaluation, const char *text, size_t name_length, size_t value_length)
{
    if (!evaluation->dump && word_name_special(text, name_length))
        return evaluation_live(evaluation, "a variable with a meaning of its own");
    if (!variables_adopt(evaluation->variables, text, name_length, value_length))
        return evaluation_live(evaluation, "too many variables");
    return true;
}

static bool name_character(int character, bool first)
{
    return character == '_' || (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           (!first && character >= '0' && character <= '9');
}

static bool read_name(struct evaluation *evaluation, struct word *name)
{
    while (name_character(evaluation_peek(evaluation), name->length == 0)) {
        if (!add_character(evaluation, name, evaluation_peek(evaluation)))
            return false;
        evaluation_advance(evaluation);
    }
    return true;
}

static bool find_variable(struct evaluation *evaluation, const struct word *name, const struct variable **variable)
{
    *variable = NULL;
    if (!evaluation->execute)
        return true;
    *variable = variables_find(evaluation->variables, name->bytes, name->length);
    if (*variable == NULL && word_name_special(name->bytes, name->length))
        return evaluation_live(evaluation, "a variable with a meaning of its own");
    return true;
}

static bool add_variable(struct evaluation *evaluation, struct word *word, enum word_use use, bool quoted,
                         const struct variable *variable)
{
    if (variable == NULL)
        return true;
    if (quoted)
        return word_add(evaluation, word, variable_value(variable), variable->value_length);
    return add_unquoted(evaluation, word, use, variable_value(variable), variable->value_length);
}

static bool read_dollar(struct evaluation *evaluation, struct word *word, enum word_use use, bool quoted);

static bool read_single_quotes(struct evaluation *evaluation, struct word *word)
{
    struct cursor *cursor = &evaluation->cursor;
    const char *end = memchr(cursor->at, '\'', (size_t)(cursor->end - cursor->at));

    if (end == NULL)
        return evaluation_live(evaluation, "a quote without its end");
    word->field = true;
    word->plain = false;
    if (!word_add(evaluation, word, cursor->at, (size_t)(end - cursor->at)))
        return false;
    while (cursor->at <= end)
        evaluation_advance(evaluation);
    return true;
}

/* One character in double quotes, not the one that ends them; a backslash protects the characters of `special`. */
static bool read_quoted_character(struct evaluation *evaluation, struct word *word, const char *special)
{
    struct cursor *cursor = &evaluation->cursor;
    int character = evaluation_peek(evaluation);

    if (character < 0)
        return evaluation_live(evaluation, "a quote without its end");
    if (character == '`')
        return evaluation_live(evaluation, "command substitution");
    evaluation_advance(evaluation);
    if (character == '$')
        return read_dollar(evaluation, word, WORD_COMMAND, true);
    if (character == '\\' && cursor->at < cursor->end && strchr(special, *cursor->at) != NULL) {
        character = *cursor->at;
        evaluation_advance(evaluation);
    }
    return add_character(evaluation, word, character);
}

static bool read_double_quotes(struct evaluation *evaluation, struct word *word)
{
    word->field = true;
    word->plain = false;
    while (evaluation_peek(evaluation) != '"')
        if (!read_quoted_character(evaluation, word, "$`\"\\"))
            return false;
    evaluation_advance(evaluation);
    return true;
}

static bool read_escape(struct evaluation *evaluation, struct word *word)
{
    word->plain = false;
    evaluation_advance(evaluation);
    if (evaluation->cursor.at == evaluation->cursor.end)
        return evaluation_live(evaluation, "a backslash at the end");
    if (!add_character(evaluation, word, (unsigned char)*evaluation->cursor.at))
        return false;
    evaluation_advance(evaluation);
    return true;
}

/* The word of "${NAME:-word}" up to its brace. Shells agree on quotes in it only when they hold all of it. */
static bool read_quoted_brace_word(struct evaluation *evaluation, struct word *word)
{
    if (evaluation_peek(evaluation) == '"') {
        evaluation_advance(evaluation);
        if (!read_double_quotes(evaluation, word))
            return false;
        return evaluation_peek(evaluation) == '}' || evaluation_live(evaluation, "quotes within quotes");
    }
    while (evaluation_peek(evaluation) != '}') {
        if (evaluation_peek(evaluation) == '"' || evaluation_peek(evaluation) == '\'')
            return evaluation_live(evaluation, "quotes within quotes");
        if (!read_quoted_character(evaluation, word, "$`\"\\}"))
            return false;
    }
    return true;
}

/* The word of ${NAME:-word} up to its brace. */
static bool read_brace_word(struct evaluation *evaluation, struct word *word, enum word_use use)
{
    for (;;) {
        int character = evaluation_peek(evaluation);
        char byte = (char)character;
        bool going;
        if (character == '}')
            return true;
        if (character < 0)
            return evaluation_live(evaluation, "${ without its end");
        if (strchr("`~<>()&|;", character) != NULL)
            return evaluation_live(evaluation, "a special character in ${ }");
        if (character == '\\') {
            going = read_escape(evaluation, word);
        } else {
            evaluation_advance(evaluation);
            going = character == '\''  ? read_single_quotes(evaluation, word)
                    : character == '"' ? read_double_quotes(evaluation, word)
                    : character == '$' ? read_dollar(evaluation, word, use, false)
                                       : add_unquoted(evaluation, word, use, &byte, 1);
        }
        if (!going)
            return false;
    }
}

struct parameter {
    struct word name;
    bool colon;
    int operation; /* one of - + =, or } for none */
};

static bool read_parameter(struct evaluation *evaluation, struct parameter *parameter)
{
    if (!read_name(evaluation, &parameter->name))
        return false;
    if (parameter->name.length == 0)
        return evaluation_live(evaluation, "a positional or special parameter");
    if (evaluation_peek(evaluation) == ':') {
        parameter->colon = true;
        evaluation_advance(evaluation);
    }
    parameter->operation = evaluation_peek(evaluation);
    if (parameter->operation == '}' && !parameter->colon)
        return true;
    if (parameter->operation != '-' && parameter->operation != '+' && parameter->operation != '=')
        return evaluation_live(evaluation, "an expansion of another kind");
    evaluation_advance(evaluation);
    return true;
}

/* ${NAME=word}: the word becomes the value, and then stands for itself. */
static bool assign_default(struct evaluation *evaluation, const struct word *name, const struct word *value)
{
    struct word text = {0};

    return word_add(evaluation, &text, name->bytes, name->length) && word_add(evaluation, &text, "=", 1) &&
           word_add(evaluation, &text, value->length == 0 ? "" : value->bytes, value->length) &&
           word_assign(evaluation, text.bytes, name->length, value->length);
}

/* After "${": one expansion up to and with its brace. */
static bool read_braces(struct evaluation *evaluation, struct word *word, enum word_use use, bool quoted)
{
    bool execute = evaluation->execute;
    struct parameter parameter = {0};
    const struct variable *variable;
    struct word aside = {.name_length = word->name_length};
    bool null, wanted, assigned;

    if (!read_parameter(evaluation, &parameter) || !find_variable(evaluation, &parameter.name, &variable))
        return false;
    null = variable == NULL || (parameter.colon && variable->value_length == 0);
    if (parameter.operation == '}') {
        evaluation_advance(evaluation);
        return add_variable(evaluation, word, use, quoted, variable);
    }
    wanted = execute && (parameter.operation == '+') != null;
    assigned = wanted && parameter.operation == '=';
    evaluation->execute = wanted;
    struct word *target = wanted && !assigned ? word : &aside;
    if (!(quoted ? read_quoted_brace_word(evaluation, target)
                 : read_brace_word(evaluation, target, wanted ? use : WORD_COMMAND)))
        return false;
    evaluation_advance(evaluation);
    evaluation->execute = execute;
    if (assigned) {
        if (evaluation->value)
            return evaluation_live(evaluation, "an assignment in a value");
        if (!assign_default(evaluation, &parameter.name, &aside) ||
            !find_variable(evaluation, &parameter.name, &variable))
            return false;
        return add_variable(evaluation, word, use, quoted, variable);
    }
    return wanted || parameter.operation == '+' || add_variable(evaluation, word, use, quoted, variable);
}

static bool read_nested_braces(struct evaluation *evaluation, struct word *word, enum word_use use, bool quoted)
{
    bool read;

    if (evaluation->nesting >= NESTING_LIMIT)
        return evaluation_live(evaluation, "too deep a nesting");
    evaluation->nesting++;
    read = read_braces(evaluation, word, use, quoted);
    evaluation->nesting--;
    return read;
}

/* What follows a $. */
static bool read_dollar(struct evaluation *evaluation, struct word *word, enum word_use use, bool quoted)
{
    int character = evaluation_peek(evaluation);
    struct word name = {0};
    const struct variable *variable;

    word->plain = false;
    if (name_character(character, true))
        return read_name(evaluation, &name) && find_variable(evaluation, &name, &variable) &&
               add_variable(evaluation, word, use, quoted, variable);
    if (character == '{') {
        evaluation_advance(evaluation);
        return read_nested_braces(evaluation, word, use, quoted);
    }
    if (character == '(' || character == '[')
        return evaluation_live(evaluation, "command substitution or arithmetic");
    if (character == '\'' && !quoted && evaluation->dump) {
        evaluation_advance(evaluation);
        return word_read_ansi(evaluation, word);
    }
    if ((character == '\'' || character == '"') && !quoted)
        return evaluation_live(evaluation, "a quote of another kind");
    if (character > 0 && strchr("0123456789@*#?-$!", character) != NULL) {
        if (evaluation->execute)
            return evaluation_live(evaluation, "a positional or special parameter");
        evaluation_advance(evaluation);
        return true;
    }
    return add_character(evaluation, word, '$');
}

/* NAME=( ... ) in a dump, up to and with the parenthesis. */
static bool skip_array(struct evaluation *evaluation, struct word *word)
{
    struct word aside = {0};

    word->no_value = true;
    while (evaluation_peek(evaluation) != ')') {
        int character = evaluation_peek(evaluation);
        if (character < 0)
            return evaluation_live(evaluation, "a list without its end");
        if (character == '\\') {
            if (!read_escape(evaluation, &aside))
                return false;
            continue;
        }
        evaluation_advance(evaluation);
        if ((character == '\'' && !read_single_quotes(evaluation, &aside)) ||
            (character == '"' && !read_double_quotes(evaluation, &aside)) ||
            (character == '$' && !read_dollar(evaluation, &aside, WORD_COMMAND, false)))
            return false;
    }
    evaluation_advance(evaluation);
    return true;
}

/* One character or quoted part of a word that is not over. */
static bool read_part(struct evaluation *evaluation, struct word *word, enum word_use use, int character, int before)
{
    bool assignment = word->name_length > 0;
    bool braces_stay = assignment && (use == WORD_COMMAND || evaluation->dump);

    if (character == '\\')
        return read_escape(evaluation, word);
    if (character == '`' || character == '(' || character == ')')
        return evaluation_live(evaluation, character == '`' ? "command substitution" : "a parenthesis");
    if (evaluation->execute) {
        if (character == '~' && (before == 0 || before == '=' || before == ':'))
            return evaluation_live(evaluation, "a tilde");
        if ((character == '*' || character == '?') && !assignment)
            return evaluation_live(evaluation, "a pattern");
        if ((character == '{' || character == '}') && !braces_stay)
            return evaluation_live(evaluation, "a brace");
    }
    evaluation_advance(evaluation);
    if (character == '\'')
        return read_single_quotes(evaluation, word);
    if (character == '"')
        return read_double_quotes(evaluation, word);
    if (character == '$')
        return read_dollar(evaluation, word, use, false);
    return add_character(evaluation, word, character);
}

bool word_read(struct evaluation *evaluation, enum word_use use, struct word *word)
{
    int before = 0;
    bool bracket = false;

    *word = (struct word){.plain = true};
    if (!word_add(evaluation, word, "", 0) || !read_name(evaluation, word))
        return false;
    if (word->length > 0)
        before = 'a';
    if (evaluation_peek(evaluation) == '=' && word->length > 0 && use != WORD_ARGUMENT)
        word->name_length = word->length;
    for (;;) {
        int character = evaluation_peek(evaluation);
        if (character < 0 || strchr(" \t\n;&|<>", character) != NULL)
            break;
        if (character == '(' && evaluation->dump && before == '=' && word->name_length > 0) {
            if (!skip_array(evaluation, word))
                return false;
            continue;
        }
        bracket = bracket || character == '[';
        if (!read_part(evaluation, word, use, character, before))
            return false;
        before = character;
    }
    if (bracket && evaluation->execute && word->name_length == 0 && !(word->plain && word->length == 1))
        return evaluation_live(evaluation, "a pattern");
    return true;
}

bool word_read_value(struct evaluation *evaluation, struct word *word)
{
    *word = (struct word){0};
    if (!word_add(evaluation, word, "", 0))
        return false;
    while (evaluation_peek(evaluation) >= 0) {
        const char *at = evaluation->cursor.at;
        int next = at + 1 < evaluation->cursor.end ? (unsigned char)at[1] : 0;
        bool lone = *at == '$' && !name_character(next, true) && next != '{' && next != '(';
        if (lone) {
            evaluation_advance(evaluation);
            if (!add_character(evaluation, word, '$'))
                return false;
        } else if (!read_quoted_character(evaluation, word, "$`\"\\")) {
            return false;
        }
    }
    return true;
}
