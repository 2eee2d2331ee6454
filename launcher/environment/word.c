/* Words of a shell script: quotes, expansions, assignments. What shells do not agree on is live code. Pure. */
#include "environment/word.h"

#include <string.h>

enum { FIRST_ROOM = 64, NO_DIGIT = 16 };

/* Where a character stands decides what it means: in a plain word, between double quotes, in an injected value
 * (double quotes without the quotes), in the default of ${NAME:-here}, in the same between double quotes, and in an
 * array of bash's, which is only read over. */
enum place { PLACE_WORD, PLACE_QUOTES, PLACE_VALUE, PLACE_BRACES, PLACE_QUOTED_BRACES, PLACE_LIST };

static const struct {
    const char *end;     /* characters that end it, and stay */
    const char *live;    /* that are never evaluated here */
    const char *escaped; /* that a backslash protects; NULL: all */
    bool quoted;
    bool open;           /* the end of the text ends it too */
} places[] = {
    [PLACE_WORD] = {" \t\n;&|<>", "`()", NULL, false, true},
    [PLACE_QUOTES] = {"\"", "`", "$`\"\\", true, false},
    [PLACE_VALUE] = {"", "`", "$`\"\\", true, true},
    [PLACE_BRACES] = {"}", "`~<>()&|;", NULL, false, false},
    /* Shells agree on quotes in "${NAME:-word}" only when they hold all of the word. */
    [PLACE_QUOTED_BRACES] = {"}", "`\"'", "$`\"\\}", true, false},
    [PLACE_LIST] = {")", "", NULL, false, false},
};

static bool read_place(struct evaluation *evaluation, struct word *word, enum place place);

/* The first reason stays: it is where the evaluation stopped, and what follows from it would mislead. */
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

/* ---- what words are made of ---- */

/* Every word keeps room for its NUL. The limit of a word is that of a whole script, so that variables which double
 * each other end soon. */
static bool add(struct evaluation *evaluation, struct word *word, const char *bytes, size_t length)
{
    size_t needed = word->length + length + 1;

    if (needed > SCRIPT_LIMIT)
        return evaluation_live(evaluation, "too large a value");
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

/* A character that was written as such, quoted or not: it makes the word count. add() is for bytes that come out of a
 * variable, of which there may be none. */
static bool add_character(struct evaluation *evaluation, struct word *word, int character)
{
    char byte = (char)character;

    word->field = true;
    if (word->length + 2 > word->room)
        return add(evaluation, word, &byte, 1);
    word->bytes[word->length++] = byte;
    word->bytes[word->length] = '\0';
    return true;
}

/* Unquoted bytes that a value or the word of ${ } brings in: outside assignments they may be several fields, or a
 * pattern. To split and match files as a shell does would need its IFS and its settings, so the value must not be of
 * that kind. */
static bool add_unquoted(struct evaluation *evaluation, struct word *word, const char *bytes, size_t length)
{
    for (size_t at = 0; evaluation->execute && word->name_length == 0 && at < length; at++)
        if (strchr(" \t\n*?[\\", bytes[at]) != NULL)
            return evaluation_live(evaluation, "field splitting or a pattern");
    word->field = word->field || length > 0;
    return add(evaluation, word, bytes, length);
}

static bool name_character(int character, bool first)
{
    char letter = (char)character;
    return character > 0 && (variable_name_valid(&letter, 1) || (!first && letter >= '0' && letter <= '9'));
}

static bool read_name(struct evaluation *evaluation, struct word *name)
{
    for (; name_character(evaluation_peek(evaluation), name->length == 0); evaluation_advance(evaluation))
        if (!add_character(evaluation, name, evaluation_peek(evaluation)))
            return false;
    return true;
}

/* ---- variables ---- */

/* Shells give these values by themselves, or behave differently by them (IFS): an assignment would not do what it
 * says here. */
bool word_name_special(const char *name, size_t length)
{
    static const char names[] =
        " IFS RANDOM SRANDOM SECONDS LINENO PPID EUID FUNCNAME DIRSTACK GROUPS PIPESTATUS EPOCHSECONDS EPOCHREALTIME HOSTTYPE"
        " MACHTYPE OSTYPE SHELLOPTS BASH BASHOPTS BASHPID BASH_VERSION BASH_VERSINFO BASH_SOURCE BASH_LINENO BASH_SUBSHELL"
        " BASH_COMMAND BASH_ARGC BASH_ARGV BASH_ARGV0 BASH_ALIASES BASH_CMDS POSIXLY_CORRECT ";
    const char *found = memmem(names, sizeof names, name, length);

    for (; found != NULL; found = memmem(found + 1, strlen(found + 1), name, length))
        if (found[-1] == ' ' && found[length] == ' ')
            return true;
    return false;
}

/* A dump is read without this check: there a shell tells its own variables, and they are taken as told. */
bool word_assign(struct evaluation *evaluation, const char *text, size_t name_length, size_t length)
{
    if (!evaluation->dump && word_name_special(text, name_length))
        return evaluation_live(evaluation, "a variable with a meaning of its own");
    return variables_adopt(evaluation->variables, text, name_length, length - name_length - 1) ||
           evaluation_live(evaluation, "too many variables");
}

/* An unset one may be one that the shell computes (RANDOM): then its value is not empty, and only a shell knows it. */
static bool find_variable(struct evaluation *evaluation, const struct word *name, const struct variable **variable)
{
    *variable = evaluation->execute && name->length > 0 ? variables_find(evaluation->variables, name->bytes, name->length) : NULL;
    if (*variable == NULL && evaluation->execute && name->length > 0 && word_name_special(name->bytes, name->length))
        return evaluation_live(evaluation, "a variable with a meaning of its own");
    return true;
}

/* Unset is empty; without `set -u`, that is, which is live code. */
static bool add_variable(struct evaluation *evaluation, struct word *word, bool quoted, const struct variable *variable)
{
    if (variable == NULL)
        return true;
    return (quoted ? add : add_unquoted)(evaluation, word, variable_value(variable), variable->value_length);
}

/* A quoted word is a field even when it is empty, and no reserved word. */
static bool read_quotes(struct evaluation *evaluation, struct word *word)
{
    word->field = true;
    word->plain = false;
    if (!read_place(evaluation, word, PLACE_QUOTES))
        return false;
    evaluation_advance(evaluation);
    return true;
}

/* The word of ${NAME:-word}, with the brace that ends it. "${NAME:-"word"}" is the one form of nested quotes that all
 * shells read alike. */
static bool read_default(struct evaluation *evaluation, struct word *word, bool quoted)
{
    if (quoted && evaluation_peek(evaluation) == '"') {
        evaluation_advance(evaluation);
        if (!read_quotes(evaluation, word))
            return false;
        if (evaluation_peek(evaluation) != '}')
            return evaluation_live(evaluation, "quotes within quotes");
    } else if (!read_place(evaluation, word, quoted ? PLACE_QUOTED_BRACES : PLACE_BRACES)) {
        return false;
    }
    evaluation_advance(evaluation);
    return true;
}

/* After "${": one expansion up to and with its brace. The default is read in any case, to find the brace that ends
 * it; it is evaluated only where it is wanted, since it may be live code. */
static bool read_braces(struct evaluation *evaluation, struct word *word, bool quoted)
{
    bool execute = evaluation->execute, colon, wanted, read;
    struct word name = {0}, aside = {.name_length = word->name_length};
    const struct variable *variable;
    int operation;

    if (!read_name(evaluation, &name) || !find_variable(evaluation, &name, &variable))
        return false;
    colon = evaluation_peek(evaluation) == ':';
    if (colon)
        evaluation_advance(evaluation);
    operation = evaluation_peek(evaluation);
    if (name.length == 0 || operation < 0 || strchr(colon ? "-+" : "-+}", operation) == NULL)
        return evaluation_live(evaluation, "an expansion of another kind");
    evaluation_advance(evaluation);
    if (operation == '}')
        return add_variable(evaluation, word, quoted, variable);
    wanted = execute && (operation == '+') == (variable != NULL && !(colon && variable->value_length == 0));
    evaluation->execute = wanted;
    read = read_default(evaluation, wanted ? word : &aside, quoted);
    evaluation->execute = execute;
    return read && (wanted || operation == '+' || add_variable(evaluation, word, quoted, variable));
}

/* ---- $'...', in which shells print what has no other form ---- */

/* 16 digits, then A to F once more; 16 stands for "no digit", which is at no base below one. */
static unsigned digit_value(char character)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *found = character == '\0' ? NULL : strchr(digits, character);
    size_t at = found == NULL ? NO_DIGIT : (size_t)(found - digits);

    return (unsigned)(at > 15 && found != NULL ? at - 6 : at);
}

/* At most `limit` digits of the base at the cursor. */
static unsigned read_number(struct evaluation *evaluation, unsigned base, unsigned limit)
{
    struct cursor *cursor = &evaluation->cursor;
    unsigned number = 0;

    for (; limit > 0 && cursor->at < cursor->end && digit_value(*cursor->at) < base; limit--) {
        number = number * base + digit_value(*cursor->at);
        evaluation_advance(evaluation);
    }
    return number;
}

/* \u and \U in $'...': UTF-8 whatever the locale is, since the environment is bytes. Points above 0x10ffff do not
 * exist (RFC 3629). */
static bool add_utf8(struct evaluation *evaluation, struct word *word, unsigned point)
{
    static const unsigned limits[] = {0x80, 0x800, 0x10000, 0x110000}, leads[] = {0, 0xc0, 0xe0, 0xf0};
    char bytes[4];

    for (unsigned rest = 0; rest < sizeof limits / sizeof *limits; rest++) {
        if (point >= limits[rest])
            continue;
        bytes[0] = (char)(leads[rest] | point >> (6 * rest));
        for (unsigned at = 1; at <= rest; at++)
            bytes[at] = (char)(0x80 | (point >> (6 * (rest - at)) & 0x3f));
        return add(evaluation, word, bytes, rest + 1);
    }
    return evaluation_live(evaluation, "a character that does not exist");
}

/* What follows a backslash in $'...'. bash prints control characters so in `export -p`; the list of letters is its
 * own (bash(1), QUOTING). */
static bool read_ansi_escape(struct evaluation *evaluation, struct word *word)
{
    static const char letters[] = "abefnrtvE", meanings[] = "\a\b\033\f\n\r\t\v\033";
    char letter = *evaluation->cursor.at;
    const char *known = letter == '\0' ? NULL : strchr(letters, letter);
    unsigned number = known == NULL ? (unsigned char)letter : (unsigned char)meanings[known - letters];

    if (digit_value(letter) < 8) {
        number = read_number(evaluation, 8, 3);
    } else {
        evaluation_advance(evaluation);
        if (letter == 'u' || letter == 'U')
            return add_utf8(evaluation, word, read_number(evaluation, 16, letter == 'u' ? 4 : 8));
        if (letter == 'x')
            number = read_number(evaluation, 16, 2);
    }
    return (char)number == '\0' ? evaluation_live(evaluation, "a NUL") : add_character(evaluation, word, (int)number);
}

/* '...' or, with `ansi`, $'...', after its first quote. By the cursor itself and not by evaluation_peek(): between
 * single quotes a backslash before a newline is two characters. */
static bool read_single_quotes(struct evaluation *evaluation, struct word *word, bool ansi)
{
    struct cursor *cursor = &evaluation->cursor;

    word->field = true;
    word->plain = false;
    while (cursor->at < cursor->end && *cursor->at != '\'') {
        char byte = *cursor->at;
        evaluation_advance(evaluation);
        if (!ansi || byte != '\\') {
            if (!add_character(evaluation, word, byte))
                return false;
        } else if (cursor->at == cursor->end || !read_ansi_escape(evaluation, word)) {
            return evaluation_live(evaluation, "a quote without its end");
        }
    }
    if (cursor->at == cursor->end)
        return evaluation_live(evaluation, "a quote without its end");
    evaluation_advance(evaluation);
    return true;
}

/* ---- words ---- */

/* What follows a $. In the order of what shells agree on: names, braces, then what is live code, and last a lone $,
 * which stands for itself. "$@" is remembered, for `. FILE "$@"` is common and harmless where no argument is used. */
static bool read_dollar(struct evaluation *evaluation, struct word *word, enum place place)
{
    const struct cursor *cursor = &evaluation->cursor;
    bool quoted = places[place].quoted, read;
    struct word name = {0};
    const struct variable *variable;
    int character;

    word->plain = false;
    if (place == PLACE_VALUE && cursor->at < cursor->end && *cursor->at == '\\')
        return add_character(evaluation, word, '$'); /* also before a continued line, as in live_text.c */
    character = evaluation_peek(evaluation);
    if (name_character(character, true))
        return read_name(evaluation, &name) && find_variable(evaluation, &name, &variable) &&
               add_variable(evaluation, word, quoted, variable);
    if (character == '{') {
        evaluation_advance(evaluation);
        if (evaluation->nesting++ >= NESTING_LIMIT)
            return evaluation_live(evaluation, "too deep a nesting");
        read = read_braces(evaluation, word, quoted);
        evaluation->nesting--;
        return read;
    }
    if (character == '(')
        return evaluation_live(evaluation, "command substitution or arithmetic");
    if (place == PLACE_VALUE)
        return add_character(evaluation, word, '$');
    if (character == '\'' && !quoted && evaluation->dump) {
        evaluation_advance(evaluation);
        return read_single_quotes(evaluation, word, true);
    }
    if (character == '[' || (!quoted && (character == '\'' || character == '"')))
        return evaluation_live(evaluation, "arithmetic or a quote of another kind");
    if (character > 0 && strchr("0123456789@*#?-$!", character) != NULL) {
        word->arguments = character == '@' && place == PLACE_QUOTES && word->length == 0;
        if (evaluation->execute && !word->arguments)
            return evaluation_live(evaluation, "a positional or special parameter");
        evaluation_advance(evaluation);
        return true;
    }
    return add_character(evaluation, word, '$');
}

/* Between double quotes a backslash stays where it protects nothing (POSIX, 2.2.3). */
static bool read_escape(struct evaluation *evaluation, struct word *word, const char *escaped)
{
    struct cursor *cursor = &evaluation->cursor;
    char next = '\\';

    word->plain = false;
    if (cursor->at < cursor->end && (escaped == NULL || strchr(escaped, *cursor->at) != NULL)) {
        next = *cursor->at;
        evaluation_advance(evaluation);
    } else if (escaped == NULL) {
        return evaluation_live(evaluation, "a backslash at the end");
    }
    return add_character(evaluation, word, next);
}

/* Whether the character, in a word and without quotes, may be a pattern, a list of words or a home directory. "~"
 * means a home directory at the start of a word and behind "=" and ":" (POSIX, Tilde Expansion); "[" alone is the
 * command; "{" is bash's brace expansion. In an assignment no file names are matched. */
static bool may_expand(struct evaluation *evaluation, const struct word *word, int character, int before)
{
    const struct cursor *cursor = &evaluation->cursor;
    bool alone = word->length == 0 && (cursor->end - cursor->at < 2 || strchr(places[PLACE_WORD].end, cursor->at[1]) != NULL);

    if (!evaluation->execute || evaluation->dump)
        return false;
    if (character == '~')
        return before == 0 || before == '=' || before == ':';
    return character == '{' || character == '}' ||
           (word->name_length == 0 && (character == '*' || character == '?' || (character == '[' && !alone)));
}

/* bash prints exported arrays as NAME=(...): read over, since no environment holds them. */
static bool read_list(struct evaluation *evaluation, struct word *word)
{
    struct word aside = {.name_length = word->name_length};

    word->no_value = true;
    if (!read_place(evaluation, &aside, PLACE_LIST))
        return false;
    evaluation_advance(evaluation);
    return true;
}

/* What stands in such a place, up to its end. `before` is the character before, 'a' for anything in a word that has
 * begun, 0 at its start: may_expand() goes by it. */
static bool read_place(struct evaluation *evaluation, struct word *word, enum place place)
{
    bool quoted = places[place].quoted;
    int before = word->length > 0 ? 'a' : 0;

    for (;;) {
        int character = evaluation_peek(evaluation);
        char byte = (char)character;
        bool read;
        if (character < 0)
            return places[place].open || evaluation_live(evaluation, "a quote or ${ without its end");
        if (strchr(places[place].end, character) != NULL)
            return true;
        if (character == '(' && before == '=' && evaluation->dump && place == PLACE_WORD && word->name_length > 0) {
            evaluation_advance(evaluation);
            if (!read_list(evaluation, word))
                return false;
            continue;
        }
        if (strchr(places[place].live, character) != NULL)
            return evaluation_live(evaluation, character == '`' ? "command substitution" : "a special character");
        if (place == PLACE_WORD && may_expand(evaluation, word, character, before))
            return evaluation_live(evaluation, "a pattern, a brace or a tilde");
        evaluation_advance(evaluation);
        if (character == '\\')
            read = read_escape(evaluation, word, places[place].escaped);
        else if (character == '$')
            read = read_dollar(evaluation, word, place);
        else if (character == '\'' && !quoted)
            read = read_single_quotes(evaluation, word, false);
        else if (character == '"' && !quoted)
            read = read_quotes(evaluation, word);
        else if (place == PLACE_BRACES)
            read = add_unquoted(evaluation, word, &byte, 1);
        else
            read = add_character(evaluation, word, character);
        if (!read)
            return false;
        before = character;
    }
}

/* The name first: only a word that begins with NAME= can be an assignment, and whether it is decides how the rest is
 * read. */
bool word_read(struct evaluation *evaluation, bool assigns, struct word *word)
{
    *word = (struct word){.plain = true};
    if (!add(evaluation, word, "", 0) || !read_name(evaluation, word))
        return false;
    if (assigns && word->length > 0 && evaluation_peek(evaluation) == '=')
        word->name_length = word->length;
    return read_place(evaluation, word, PLACE_WORD);
}

bool word_read_value(struct evaluation *evaluation, struct word *word)
{
    *word = (struct word){0};
    return add(evaluation, word, "", 0) && read_place(evaluation, word, PLACE_VALUE);
}
