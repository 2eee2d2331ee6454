/* A shell script that only assigns and tests, evaluated without a shell; what is more than that is live code.
 * Pure: text and variables in, variables out. */
#include "environment/script.h"

#include <fcntl.h>
#include <string.h>

#include "environment/condition.h"
#include "environment/source.h"
#include "environment/word.h"

enum ending { END_OF_TEXT, END_THEN, END_ELIF, END_ELSE, END_FI, END_COUNT };

static bool evaluate_list(struct evaluation *evaluation, enum ending *ending);

static void skip_blanks(struct evaluation *evaluation)
{
    while (evaluation_peek(evaluation) == ' ' || evaluation_peek(evaluation) == '\t')
        evaluation_advance(evaluation);
}

/* Blanks, newlines and comments: what may stand before a command. */
static void skip_lines(struct evaluation *evaluation)
{
    struct cursor *cursor = &evaluation->cursor;

    for (;;) {
        int character = evaluation_peek(evaluation);
        if (character == '#') {
            const char *end = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
            cursor->at = end == NULL ? cursor->end : end;
        } else if (character == ' ' || character == '\t' || character == '\n') {
            evaluation_advance(evaluation);
        } else {
            return;
        }
    }
}

/* The > or < at the cursor with its word: known only where it is not performed. */
static bool skip_redirection(struct evaluation *evaluation)
{
    int first = evaluation_peek(evaluation);
    struct word word;

    if (evaluation->execute)
        return evaluation_live(evaluation, "a redirection");
    evaluation_advance(evaluation);
    if (first == '<' && evaluation_peek(evaluation) == '<')
        return evaluation_live(evaluation, "a here-document");
    if (strchr(">&|", evaluation_peek(evaluation)) != NULL && evaluation_peek(evaluation) >= 0)
        evaluation_advance(evaluation);
    skip_blanks(evaluation);
    if (!word_read(evaluation, WORD_ARGUMENT, &word))
        return false;
    return word.length > 0 || !word.plain || evaluation_live(evaluation, "a redirection");
}

/* Whether a word begins at the cursor, once blanks and a comment are passed. */
static bool more_words(struct evaluation *evaluation)
{
    struct cursor *cursor = &evaluation->cursor;
    int character;

    skip_blanks(evaluation);
    character = evaluation_peek(evaluation);
    if (character == '#') {
        const char *end = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
        cursor->at = end == NULL ? cursor->end : end;
        return false;
    }
    return character >= 0 && strchr("\n;&|", character) == NULL;
}

/* The words up to the end of the command, the empty ones that shells drop left out. */
static bool read_words(struct evaluation *evaluation, enum word_use use, struct word **words, size_t *count)
{
    struct word **last = words;

    *words = NULL;
    *count = 0;
    while (more_words(evaluation)) {
        struct word *word;
        int character = evaluation_peek(evaluation);
        if (character == '<' || character == '>') {
            if (!skip_redirection(evaluation))
                return false;
            continue;
        }
        word = arena_take(evaluation->variables->arena, sizeof *word);
        if (word == NULL || evaluation->work < sizeof *word)
            return evaluation_live(evaluation, "too many words");
        evaluation->work -= sizeof *word;
        if (!word_read(evaluation, use, word))
            return false;
        if (!word->field)
            continue;
        *last = word;
        last = &word->next;
        ++*count;
    }
    return true;
}

static bool run_test(struct evaluation *evaluation, const struct word *words, size_t count, bool bracket)
{
    const char *texts[CONDITION_WORDS + 1];
    enum condition condition = CONDITION_UNKNOWN;
    size_t used = 0;

    for (; words != NULL && used <= CONDITION_WORDS; words = words->next)
        texts[used++] = words->bytes;
    if (bracket && (used == 0 || strcmp(texts[--used], "]") != 0))
        return evaluation_live(evaluation, "a condition of another kind");
    if (count <= CONDITION_WORDS + (bracket ? 1u : 0u))
        condition = condition_evaluate(texts, used);
    if (condition == CONDITION_UNKNOWN)
        return evaluation_live(evaluation, "a condition of another kind");
    evaluation->status = condition == CONDITION_TRUE ? 0 : 1;
    return true;
}

static bool run_plain_test(struct evaluation *evaluation, const struct word *words, size_t count)
{
    return run_test(evaluation, words, count, false);
}

static bool run_bracket(struct evaluation *evaluation, const struct word *words, size_t count)
{
    return run_test(evaluation, words, count, true);
}

static bool run_export(struct evaluation *evaluation, const struct word *words, size_t count)
{
    bool options = evaluation->dump;

    if (count == 0)
        return evaluation_live(evaluation, "a list of variables");
    for (; words != NULL; words = words->next) {
        const char *equals = strchr(words->bytes, '=');
        size_t length = equals == NULL ? words->length : (size_t)(equals - words->bytes);
        options = options && words->bytes[0] == '-';
        if (options)
            continue;
        if (!variable_name_valid(words->bytes, length))
            return evaluation_live(evaluation, "a name that is none");
        if (equals == NULL && !evaluation->dump && word_name_special(words->bytes, length))
            return evaluation_live(evaluation, "a variable with a meaning of its own");
        if (equals != NULL && !words->no_value &&
            !word_assign(evaluation, words->bytes, length, words->length - length - 1))
            return false;
        if (!variables_export(evaluation->variables, words->bytes, length))
            return evaluation_live(evaluation, "too many variables");
    }
    return true;
}

static bool run_unset(struct evaluation *evaluation, const struct word *words, size_t count)
{
    if (count > 0 && strcmp(words->bytes, "-v") == 0)
        words = words->next;
    for (; words != NULL; words = words->next) {
        if (!variable_name_valid(words->bytes, words->length))
            return evaluation_live(evaluation, "a name that is none");
        if (word_name_special(words->bytes, words->length))
            return evaluation_live(evaluation, "a variable with a meaning of its own");
        variables_unset(evaluation->variables, words->bytes, words->length);
    }
    return true;
}

/* `umask` is one number of the launch, so the last one counts and is set with the rest. */
static bool run_umask(struct evaluation *evaluation, const struct word *words, size_t count)
{
    int mask = 0;

    if (count != 1 || words->length == 0 || words->length > 4)
        return evaluation_live(evaluation, "umask of another kind");
    for (const char *digit = words->bytes; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '7')
            return evaluation_live(evaluation, "umask of another kind");
        mask = mask * 8 + (*digit - '0');
    }
    if (mask > 0777)
        return evaluation_live(evaluation, "umask of another kind");
    evaluation->result->mask = mask;
    return true;
}

static bool run_nothing(struct evaluation *evaluation, const struct word *words, size_t count)
{
    (void)evaluation;
    (void)words;
    (void)count;
    return true;
}

static bool run_false(struct evaluation *evaluation, const struct word *words, size_t count)
{
    (void)words;
    (void)count;
    evaluation->status = 1;
    return true;
}

static bool evaluate_text(struct evaluation *evaluation, const char *file, const char *text, size_t size)
{
    struct cursor outer = evaluation->cursor;
    enum ending ending;

    evaluation->cursor = (struct cursor){.at = text, .end = text + size, .line = 1, .file = file};
    if (size > SCRIPT_LIMIT || size > evaluation->work)
        return evaluation_live(evaluation, "too large a script");
    if (memchr(text, '\0', size) != NULL)
        return evaluation_live(evaluation, "a NUL");
    evaluation->work -= size;
    evaluation->status = 0;
    if (!evaluate_list(evaluation, &ending))
        return false;
    if (ending != END_OF_TEXT)
        return evaluation_live(evaluation, "a word out of place");
    evaluation->cursor = outer;
    return true;
}

static bool run_source(struct evaluation *evaluation, const struct word *words, size_t count)
{
    size_t size;
    char *text;
    bool evaluated;

    if (count != 1 || strchr(words->bytes, '/') == NULL)
        return evaluation_live(evaluation, "a file to search for or with arguments");
    if (evaluation->nesting >= NESTING_LIMIT)
        return evaluation_live(evaluation, "too deep a nesting");
    text = source_read(AT_FDCWD, words->bytes, evaluation->variables->arena, &size);
    if (text == NULL)
        return evaluation_live(evaluation, "a file that cannot be read");
    evaluation->nesting++;
    evaluated = evaluate_text(evaluation, words->bytes, text, size);
    evaluation->nesting--;
    return evaluated;
}

struct command {
    const char *name;
    enum word_use use;
    bool dump_only;
    bool (*run)(struct evaluation *evaluation, const struct word *words, size_t count);
};

static const struct command commands[] = {
    {"export", WORD_DECLARED, false, run_export}, {"[", WORD_ARGUMENT, false, run_bracket},
    {"test", WORD_ARGUMENT, false, run_plain_test}, {"unset", WORD_ARGUMENT, false, run_unset},
    {".", WORD_ARGUMENT, false, run_source}, {"source", WORD_ARGUMENT, false, run_source},
    {":", WORD_ARGUMENT, false, run_nothing}, {"true", WORD_ARGUMENT, false, run_nothing},
    {"false", WORD_ARGUMENT, false, run_false}, {"umask", WORD_ARGUMENT, false, run_umask},
    {"declare", WORD_DECLARED, true, run_export}, {"typeset", WORD_DECLARED, true, run_export},
};

static const struct command *command_find(const struct evaluation *evaluation, const struct word *word)
{
    if (!word->plain)
        return NULL;
    for (size_t at = 0; at < sizeof commands / sizeof *commands; at++)
        if (strcmp(commands[at].name, word->bytes) == 0 && (evaluation->dump || !commands[at].dump_only))
            return &commands[at];
    return NULL;
}

/* . FILE "$@": the sourced file sees the same arguments, and using any of them is live code. */
static void skip_all_arguments(struct evaluation *evaluation)
{
    struct cursor *cursor = &evaluation->cursor;
    static const char text[] = "\"$@\"";
    size_t length = sizeof text - 1;

    skip_blanks(evaluation);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, text, length) != 0)
        return;
    if ((size_t)(cursor->end - cursor->at) == length || strchr(" \t\n;&|", cursor->at[length]) != NULL)
        cursor->at += length;
}

static bool read_source_words(struct evaluation *evaluation, struct word *file, struct word **words, size_t *count)
{
    struct word *rest;
    size_t others;

    *words = NULL;
    *count = 0;
    if (!more_words(evaluation) || strchr("<>", evaluation_peek(evaluation)) != NULL)
        return read_words(evaluation, WORD_ARGUMENT, words, count);
    if (!word_read(evaluation, WORD_ARGUMENT, file))
        return false;
    skip_all_arguments(evaluation);
    if (!read_words(evaluation, WORD_ARGUMENT, &rest, &others))
        return false;
    file->next = rest;
    *words = file->field ? file : rest;
    *count = others + (file->field ? 1 : 0);
    return true;
}

/* A command whose first word is neither an assignment nor reserved. */
static bool evaluate_command(struct evaluation *evaluation, const struct word *name)
{
    const struct command *command = command_find(evaluation, name);
    struct word *words, file;
    size_t count;
    bool read;

    if (command == NULL && evaluation->execute)
        return evaluation_live(evaluation, "a command");
    if (command != NULL && command->run == run_source)
        read = read_source_words(evaluation, &file, &words, &count);
    else
        read = read_words(evaluation, command == NULL ? WORD_ARGUMENT : command->use, &words, &count);
    if (!read || !evaluation->execute || command == NULL)
        return read;
    evaluation->status = 0;
    return command->run(evaluation, words, count);
}

/* NAME=VALUE words; a command behind them would have them for itself alone. */
static bool evaluate_assignments(struct evaluation *evaluation, struct word *word)
{
    while (word->name_length > 0) {
        if (evaluation->execute &&
            !word_assign(evaluation, word->bytes, word->name_length, word->length - word->name_length - 1))
            return false;
        if (!more_words(evaluation)) {
            evaluation->status = evaluation->execute ? 0 : evaluation->status;
            return true;
        }
        if (strchr("<>", evaluation_peek(evaluation)) != NULL) {
            if (!skip_redirection(evaluation))
                return false;
            continue;
        }
        if (!word_read(evaluation, WORD_COMMAND, word))
            return false;
    }
    if (evaluation->execute)
        return evaluation_live(evaluation, "a command with variables of its own");
    return evaluate_command(evaluation, word);
}

/* After `if`, up to and with its `fi`. */
static bool evaluate_if(struct evaluation *evaluation)
{
    bool execute = evaluation->execute;
    bool taken = false;
    enum ending ending = END_ELIF;

    while (ending == END_ELIF) {
        evaluation->execute = execute && !taken;
        if (!evaluate_list(evaluation, &ending))
            return false;
        if (ending != END_THEN)
            return evaluation_live(evaluation, "`if` without `then`");
        evaluation->execute = evaluation->execute && evaluation->status == 0;
        taken = taken || evaluation->execute;
        if (!evaluate_list(evaluation, &ending))
            return false;
    }
    if (ending == END_ELSE) {
        evaluation->execute = execute && !taken;
        taken = true;
        if (!evaluate_list(evaluation, &ending))
            return false;
    }
    evaluation->execute = execute;
    if (ending != END_FI)
        return evaluation_live(evaluation, "`if` without `fi`");
    if (execute && !taken)
        evaluation->status = 0;
    return true;
}

static bool evaluate_nested_if(struct evaluation *evaluation)
{
    bool evaluated;

    if (evaluation->nesting >= NESTING_LIMIT)
        return evaluation_live(evaluation, "too deep a nesting");
    evaluation->nesting++;
    evaluated = evaluate_if(evaluation);
    evaluation->nesting--;
    skip_blanks(evaluation);
    if (evaluated && more_words(evaluation))
        return evaluation_live(evaluation, "a redirection");
    return evaluated;
}

static bool is_reserved(const struct word *word)
{
    static const char *const names[] = {"then", "elif", "else", "fi", "for", "while", "until", "do", "done",
                                        "case", "esac", "in", "select", "function", "time", "coproc", "[[", "{", "}"};
    for (size_t at = 0; word->plain && at < sizeof names / sizeof *names; at++)
        if (strcmp(word->bytes, names[at]) == 0)
            return true;
    return false;
}

/* One command, `!` and compound ones included; `word` is its first word. */
static bool evaluate_pipeline(struct evaluation *evaluation, struct word *word)
{
    bool negated = word->plain && strcmp(word->bytes, "!") == 0;
    bool evaluated;

    if (negated && (!more_words(evaluation) || !word_read(evaluation, WORD_COMMAND, word)))
        return evaluation_live(evaluation, "`!` without a command");
    if (word->length == 0 && word->plain)
        return evaluation_live(evaluation, "a special character");
    if (is_reserved(word) || (negated && word->plain && strcmp(word->bytes, "!") == 0))
        return evaluation_live(evaluation, "a compound command");
    if (word->plain && strcmp(word->bytes, "if") == 0)
        evaluated = evaluate_nested_if(evaluation);
    else if (word->name_length > 0)
        evaluated = evaluate_assignments(evaluation, word);
    else
        evaluated = evaluate_command(evaluation, word);
    if (evaluated && negated && evaluation->execute)
        evaluation->status = evaluation->status == 0 ? 1 : 0;
    return evaluated;
}

/* && or ||, taken from the cursor; 0: neither. */
static int read_connection(struct evaluation *evaluation)
{
    struct cursor start;
    int first;

    skip_blanks(evaluation);
    start = evaluation->cursor;
    first = evaluation_peek(evaluation);
    if (first != '&' && first != '|')
        return 0;
    evaluation_advance(evaluation);
    if (evaluation_peek(evaluation) == first) {
        evaluation_advance(evaluation);
        return first;
    }
    evaluation->cursor = start;
    return 0;
}

static bool evaluate_connected(struct evaluation *evaluation, struct word *word)
{
    bool execute = evaluation->execute;
    bool evaluated = evaluate_pipeline(evaluation, word);
    int connection;

    while (evaluated && (connection = read_connection(evaluation)) != 0) {
        skip_lines(evaluation);
        evaluation->execute = execute && (connection == '&') == (evaluation->status == 0);
        evaluated = word_read(evaluation, WORD_COMMAND, word) && evaluate_pipeline(evaluation, word);
    }
    evaluation->execute = execute;
    return evaluated;
}

static enum ending word_ending(const struct word *word)
{
    static const char *const names[END_COUNT] = {[END_THEN] = "then", [END_ELIF] = "elif", [END_ELSE] = "else",
                                                 [END_FI] = "fi"};
    for (int at = END_THEN; word->plain && at < END_COUNT; at++)
        if (strcmp(word->bytes, names[at]) == 0)
            return (enum ending)at;
    return END_OF_TEXT;
}

/* Commands up to the end of the text or a reserved word that ends a part of `if`. */
static bool evaluate_list(struct evaluation *evaluation, enum ending *ending)
{
    for (size_t done = 0;; done++) {
        struct word word;
        int character;
        skip_lines(evaluation);
        *ending = END_OF_TEXT;
        if (evaluation_peek(evaluation) < 0)
            return true;
        if (!word_read(evaluation, WORD_COMMAND, &word))
            return false;
        *ending = word_ending(&word);
        if (*ending != END_OF_TEXT)
            return done > 0 || evaluation_live(evaluation, "an empty list of commands");
        if (!evaluate_connected(evaluation, &word))
            return false;
        skip_blanks(evaluation);
        character = evaluation_peek(evaluation);
        if (character == ';')
            evaluation_advance(evaluation);
        else if (character >= 0 && character != '\n')
            return evaluation_live(evaluation, character == '|' ? "a pipe" : "a special character");
    }
}

static void evaluation_begin(struct evaluation *evaluation, struct variables *variables, struct script_result *result)
{
    *result = (struct script_result){.mask = -1};
    *evaluation = (struct evaluation){.variables = variables, .result = result, .work = WORK_LIMIT, .execute = true};
}

enum script_outcome script_evaluate(const char *name, const char *text, size_t size, struct variables *variables,
                                    struct script_result *result)
{
    const struct arena mark = *variables->arena;
    struct evaluation evaluation;
    struct variables copy;

    evaluation_begin(&evaluation, &copy, result);
    if (!variables_copy(&copy, variables) || !evaluate_text(&evaluation, name, text, size)) {
        if (result->why == NULL)
            result->why = "too many variables";
        result->mask = -1;
        arena_return(variables->arena, &mark);
        return SCRIPT_LIVE;
    }
    *variables = copy;
    return SCRIPT_APPLIED;
}

bool script_read_dump(const char *text, size_t size, struct variables *variables, struct script_result *result)
{
    struct evaluation evaluation;

    evaluation_begin(&evaluation, variables, result);
    evaluation.dump = true;
    return evaluate_text(&evaluation, "export -p", text, size);
}

enum script_outcome script_expand(const char *value, struct variables *variables, const char **expanded,
                                  struct script_result *result)
{
    struct evaluation evaluation;
    struct word word;

    evaluation_begin(&evaluation, variables, result);
    evaluation.value = true;
    evaluation.cursor = (struct cursor){.at = value, .end = value + strlen(value), .line = 1, .file = ""};
    if (!word_read_value(&evaluation, &word))
        return SCRIPT_LIVE;
    *expanded = word.bytes;
    return SCRIPT_APPLIED;
}

static bool split(struct evaluation *evaluation, char ***words, size_t *count)
{
    struct word *first;
    size_t used = 0;

    if (!read_words(evaluation, WORD_ARGUMENT, &first, count))
        return false;
    if (evaluation_peek(evaluation) >= 0)
        return evaluation_live(evaluation, "a special character");
    *words = arena_take(evaluation->variables->arena, (*count + 1) * sizeof **words);
    if (*words == NULL)
        return evaluation_live(evaluation, "too many words");
    for (; first != NULL; first = first->next)
        (*words)[used++] = first->bytes;
    (*words)[used] = NULL;
    return true;
}

enum script_outcome script_split(const char *command, struct variables *variables, char ***words, size_t *count,
                                 struct script_result *result)
{
    struct evaluation evaluation;

    evaluation_begin(&evaluation, variables, result);
    evaluation.value = true;
    evaluation.cursor = (struct cursor){.at = command, .end = command + strlen(command), .line = 1, .file = ""};
    return split(&evaluation, words, count) ? SCRIPT_APPLIED : SCRIPT_LIVE;
}
