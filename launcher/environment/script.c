/* A shell script that only assigns and tests, evaluated without a shell; what is more than that is live code.
 * Text and variables in, variables out; looks at the files that the script tests and reads those that it sources. */
#include "environment/script.h"

#include <fcntl.h>
#include <string.h>

#include "environment/word.h"

enum ending { END_OF_TEXT, END_THEN, END_ELIF, END_ELSE, END_FI, END_COUNT };

struct command {
    const char *name;
    bool assigns;   /* NAME=VALUE is an assignment among its words */
    bool dump_only;
    bool (*run)(struct evaluation *evaluation, const struct word *words, size_t count);
};

static bool evaluate_list(struct evaluation *evaluation, enum ending *ending);

/* ---- commands ---- */

/* More words than CONDITION_WORDS are read and not looked at: they are live code in any case. */
static bool run_test(struct evaluation *evaluation, const struct word *words, size_t count)
{
    const char *texts[CONDITION_WORDS];
    enum condition condition = CONDITION_UNKNOWN;

    for (size_t at = 0; words != NULL && at < count && count <= CONDITION_WORDS; words = words->next)
        texts[at++] = words->bytes;
    if (count <= CONDITION_WORDS)
        condition = condition_evaluate(texts, count);
    if (condition == CONDITION_UNKNOWN)
        return evaluation_live(evaluation, "a condition of another kind");
    evaluation->status = condition == CONDITION_TRUE ? 0 : 1;
    return true;
}

/* Its last word must be "]"; what stands before it are the words of `test`. */
static bool run_bracket(struct evaluation *evaluation, const struct word *words, size_t count)
{
    const struct word *last = words;

    while (last != NULL && last->next != NULL)
        last = last->next;
    if (last == NULL || strcmp(last->bytes, "]") != 0)
        return evaluation_live(evaluation, "a condition of another kind");
    return run_test(evaluation, words, count - 1);
}

/* Options like -p and -n are live code outside a dump. `export NAME` marks a variable that may get its value later. */
static bool run_export(struct evaluation *evaluation, const struct word *words, size_t count)
{
    while (evaluation->dump && words != NULL && words->bytes[0] == '-')
        words = words->next;
    if (count == 0)
        return evaluation_live(evaluation, "a list of variables");
    for (; words != NULL; words = words->next) {
        const char *equals = strchr(words->bytes, '=');
        size_t length = equals == NULL ? words->length : (size_t)(equals - words->bytes);
        if (!variable_name_valid(words->bytes, length))
            return evaluation_live(evaluation, "an invalid name of a variable");
        if (equals == NULL && !evaluation->dump && word_name_special(words->bytes, length))
            return evaluation_live(evaluation, "a variable with a meaning of its own");
        if (equals != NULL && !words->no_value && !word_assign(evaluation, words->bytes, length, words->length))
            return false;
        if (!variables_export(evaluation->variables, words->bytes, length))
            return evaluation_live(evaluation, "too many variables");
    }
    return true;
}

/* Without -f and -v: `unset NAME` is what scripts use. */
static bool run_unset(struct evaluation *evaluation, const struct word *words, size_t count)
{
    (void)count;
    for (; words != NULL; words = words->next) {
        if (!variable_name_valid(words->bytes, words->length))
            return evaluation_live(evaluation, "an invalid name of a variable");
        if (word_name_special(words->bytes, words->length))
            return evaluation_live(evaluation, "a variable with a meaning of its own");
        variables_unset(evaluation->variables, words->bytes, words->length);
    }
    return true;
}

/* `:` is the shell's way to say nothing; its words are expanded all the same, which has happened when this is called. */
static bool run_nothing(struct evaluation *evaluation, const struct word *words, size_t count)
{
    (void)evaluation;
    (void)words;
    (void)count;
    return true;
}

/* A NUL ends a text for one shell and is dropped by another, so it is none that can be evaluated here. */
static bool evaluate_text(struct evaluation *evaluation, const char *file, const char *text, size_t size)
{
    struct cursor outer = evaluation->cursor;
    enum ending ending;

    evaluation->cursor = (struct cursor){.at = text, .end = text + size, .line = 1, .file = file};
    if (size > SCRIPT_LIMIT)
        return evaluation_live(evaluation, "too large a script");
    if (memchr(text, '\0', size) != NULL)
        return evaluation_live(evaluation, "a NUL");
    evaluation->status = 0;
    if (!evaluate_list(evaluation, &ending))
        return false;
    if (ending != END_OF_TEXT)
        return evaluation_live(evaluation, "a word out of place");
    evaluation->cursor = outer;
    return true;
}

/* A name without a slash is searched for in PATH, and by some shells in the current directory as well (POSIX, dot).
 * Loops end by the nesting, which all files share. */
static bool run_source(struct evaluation *evaluation, const struct word *words, size_t count)
{
    size_t size;
    char *text;
    bool evaluated;

    if (count != 1 || strchr(words->bytes, '/') == NULL)
        return evaluation_live(evaluation, "a file to search for or with arguments");
    if (evaluation->nesting++ >= NESTING_LIMIT)
        return evaluation_live(evaluation, "too deep a nesting");
    text = source_read(AT_FDCWD, words->bytes, evaluation->variables->arena, &size);
    if (text == NULL)
        return evaluation_live(evaluation, "a file that cannot be read");
    evaluated = evaluate_text(evaluation, words->bytes, text, size);
    evaluation->nesting--;
    return evaluated;
}

/* declare and typeset only in a dump: bash and the ksh family print exported variables so. */
static const struct command commands[] = {
    {"export", true, false, run_export}, {"unset", false, false, run_unset},  {"[", false, false, run_bracket},
    {"test", false, false, run_test},    {".", false, false, run_source},     {"source", false, false, run_source},
    {":", false, false, run_nothing},    {"declare", true, true, run_export}, {"typeset", true, true, run_export},
};

/* A quoted word is a command like any other, but never an alias or reserved; what does not stand plainly is not
 * looked up here. */
static const struct command *command_find(const struct evaluation *evaluation, const struct word *word)
{
    for (size_t at = 0; word->plain && at < sizeof commands / sizeof *commands; at++)
        if (strcmp(commands[at].name, word->bytes) == 0 && (evaluation->dump || !commands[at].dump_only))
            return &commands[at];
    return NULL;
}

/* ---- words ---- */

/* Passes blanks, with `lines` newlines too, and the comments behind them. "#" begins a comment only where a word
 * could begin; within one it is a letter, and word_read() takes it. */
static void skip_blanks(struct evaluation *evaluation, bool lines)
{
    struct cursor *cursor = &evaluation->cursor;

    for (;;) {
        int character = evaluation_peek(evaluation);
        if (character == '#') {
            const char *end = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
            cursor->at = end == NULL ? cursor->end : end;
        } else if (character == ' ' || character == '\t' || (lines && character == '\n')) {
            evaluation_advance(evaluation);
        } else {
            return;
        }
    }
}

/* Whether a word begins at the cursor, once blanks and a comment are passed. */
static bool more_words(struct evaluation *evaluation)
{
    int character;

    skip_blanks(evaluation, false);
    character = evaluation_peek(evaluation);
    return character >= 0 && strchr("\n;&|", character) == NULL;
}

/* The > or < at the cursor, if there is one: known only where it is not performed. Its word follows. */
static bool skip_redirection(struct evaluation *evaluation)
{
    int first = evaluation_peek(evaluation);

    if (first != '<' && first != '>')
        return true;
    evaluation_advance(evaluation);
    if (evaluation->execute || (first == '<' && evaluation_peek(evaluation) == '<'))
        return evaluation_live(evaluation, "a redirection");
    if (evaluation_peek(evaluation) == '>' || evaluation_peek(evaluation) == '&')
        evaluation_advance(evaluation);
    return (more_words(evaluation) && strchr("<>#", evaluation_peek(evaluation)) == NULL) ||
           evaluation_live(evaluation, "a redirection");
}

/* The words up to the end of the command, the empty ones that shells drop left out. `. FILE "$@"` gives the file the same
 * arguments, and using any of them is live code. */
static bool read_words(struct evaluation *evaluation, const struct command *command, struct word **words, size_t *count)
{
    struct word **last = words;

    *words = NULL;
    *count = 0;
    while (more_words(evaluation)) {
        struct word *word = arena_take(evaluation->variables->arena, sizeof *word);
        if (word == NULL)
            return evaluation_live(evaluation, "too many words");
        if (!skip_redirection(evaluation) || !word_read(evaluation, command != NULL && command->assigns, word))
            return false;
        if (word->arguments && evaluation->execute) {
            if (word->length > 0 || *count == 0 || command == NULL || command->run != run_source)
                return evaluation_live(evaluation, "a positional or special parameter");
            continue;
        }
        if (!word->field)
            continue;
        *last = word;
        last = &word->next;
        ++*count;
    }
    return true;
}

/* ---- grammar ---- */

/* A command whose first word is neither an assignment nor reserved. The status is 0 before the command runs, and only
 * `test` and `[` make another one of it. */
static bool evaluate_command(struct evaluation *evaluation, const struct word *name)
{
    const struct command *command = command_find(evaluation, name);
    struct word *words;
    size_t count;

    if (command == NULL && evaluation->execute)
        return evaluation_live(evaluation, "a command");
    if (!read_words(evaluation, command, &words, &count))
        return false;
    if (!evaluation->execute || command == NULL)
        return true;
    evaluation->status = 0;
    return command->run(evaluation, words, count);
}

/* NAME=VALUE words; a command behind them would have them for itself alone. `NAME=VALUE command` sets the variable
 * for that command alone; with no command behind it, for the shell. */
static bool evaluate_assignments(struct evaluation *evaluation, struct word *word)
{
    while (word->name_length > 0) {
        if (evaluation->execute && !word_assign(evaluation, word->bytes, word->name_length, word->length))
            return false;
        if (!more_words(evaluation)) {
            evaluation->status = evaluation->execute ? 0 : evaluation->status;
            return true;
        }
        if (!skip_redirection(evaluation) || !word_read(evaluation, true, word))
            return false;
    }
    if (evaluation->execute)
        return evaluation_live(evaluation, "a command with variables of its own");
    return evaluate_command(evaluation, word);
}

/* After `if`, up to and with its `fi`. Branches that are not taken are read to their end without being executed: only
 * the grammar says where the `fi` is. */
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
    return !more_words(evaluation) || evaluation_live(evaluation, "a redirection");
}

/* At which place in the list, ended by NULL, the word stands; the list's length: it does not. A reserved word counts
 * as one only when it is written plainly: "if" in quotes is a command (POSIX, Reserved Words). */
static size_t place_in(const char *const *list, const struct word *word)
{
    size_t at = 0;

    while (list[at] != NULL && !(word->plain && strcmp(word->bytes, list[at]) == 0))
        at++;
    return at;
}

/* One command, `!` and compound ones included; `word` is its first word. Reserved words that begin what is not known
 * here make it live code before anything has been changed. */
static bool evaluate_pipeline(struct evaluation *evaluation, struct word *word)
{
    static const char *const reserved[] = {"then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac",
                                           "in", "select", "function", "time", "coproc", "[[", "{", "}", "!", NULL};
    bool negated = word->plain && strcmp(word->bytes, "!") == 0;
    bool evaluated;

    if (negated && (!more_words(evaluation) || !word_read(evaluation, true, word)))
        return evaluation_live(evaluation, "`!` without a command");
    if (word->length == 0 && word->plain)
        return evaluation_live(evaluation, "a special character");
    if (reserved[place_in(reserved, word)] != NULL)
        return evaluation_live(evaluation, "a compound command");
    if (word->plain && strcmp(word->bytes, "if") == 0) {
        if (evaluation->nesting++ >= NESTING_LIMIT)
            return evaluation_live(evaluation, "too deep a nesting");
        evaluated = evaluate_if(evaluation);
        evaluation->nesting--;
    } else if (word->name_length > 0) {
        evaluated = evaluate_assignments(evaluation, word);
    } else {
        evaluated = evaluate_command(evaluation, word);
    }
    if (evaluated && negated && evaluation->execute)
        evaluation->status = evaluation->status == 0 ? 1 : 0;
    return evaluated;
}

/* Commands up to the end of the text or a reserved word that ends a part of `if`. `connected` is && or ||: the next
 * command is executed by the status of the last one, from left to right and without precedence (POSIX, AND-OR lists).
 * A single & or | is live code. */
static bool evaluate_list(struct evaluation *evaluation, enum ending *ending)
{
    static const char *const endings[] = {[END_THEN - 1] = "then", [END_ELIF - 1] = "elif", [END_ELSE - 1] = "else",
                                          [END_FI - 1] = "fi", [END_COUNT - 1] = NULL};
    bool execute = evaluation->execute, connected = false;

    for (size_t done = 0;; done++) {
        struct word word;
        int character;
        skip_blanks(evaluation, true);
        *ending = END_OF_TEXT;
        if (evaluation_peek(evaluation) < 0)
            return !connected || evaluation_live(evaluation, "a list without its end");
        if (!word_read(evaluation, true, &word))
            return false;
        *ending = (enum ending)((place_in(endings, &word) + 1) % END_COUNT);
        if (*ending != END_OF_TEXT)
            return (done > 0 && !connected) || evaluation_live(evaluation, "an empty list of commands");
        if (!evaluate_pipeline(evaluation, &word))
            return false;
        skip_blanks(evaluation, false);
        character = evaluation_peek(evaluation);
        connected = character == '&' || character == '|';
        if (connected || character == ';')
            evaluation_advance(evaluation);
        if (connected ? evaluation_peek(evaluation) != character : character >= 0 && strchr(";\n", character) == NULL)
            return evaluation_live(evaluation, character == '|' ? "a pipe" : "a special character");
        if (connected)
            evaluation_advance(evaluation);
        evaluation->execute = execute && (!connected || (character == '&') == (evaluation->status == 0));
    }
}

/* ---- what others call ---- */

/* For texts that are no file: errors in them have line 1 and no name. */
static struct evaluation evaluation_of(const char *text, struct variables *variables, struct script_result *result)
{
    *result = (struct script_result){.line = 0};
    return (struct evaluation){.cursor = {.at = text, .end = text + strlen(text), .line = 1, .file = ""},
                               .variables = variables, .result = result, .execute = true};
}

/* On a copy of the table: live code may come in the last line, and then nothing may have changed. */
enum script_outcome script_evaluate(const char *name, const char *text, size_t size, struct variables *variables,
                                    struct script_result *result)
{
    const struct arena mark = *variables->arena;
    struct variables copy;
    struct evaluation evaluation = evaluation_of("", &copy, result);

    if (!variables_copy(&copy, variables) || !evaluate_text(&evaluation, name, text, size)) {
        if (result->why == NULL)
            result->why = "too many variables";
        arena_return(variables->arena, &mark);
        return SCRIPT_LIVE;
    }
    *variables = copy;
    return SCRIPT_APPLIED;
}

/* Straight into the table, which is a fresh one: what cannot be read ends the launch. */
bool script_read_dump(const char *text, size_t size, struct variables *variables, struct script_result *result)
{
    struct evaluation evaluation = evaluation_of("", variables, result);

    evaluation.dump = true;
    return evaluate_text(&evaluation, "export -p", text, size);
}

/* The whole value is one text, spaces and all, since it stands between double quotes. */
enum script_outcome script_expand(const char *value, struct variables *variables, const char **expanded,
                                  struct script_result *result)
{
    struct evaluation evaluation = evaluation_of(value, variables, result);
    struct word word;

    if (!word_read_value(&evaluation, &word) || word.arguments)
        return SCRIPT_LIVE;
    *expanded = word.bytes;
    return SCRIPT_APPLIED;
}

/* Without the rules of assignments, redirections and command names: the words of a command that is not a script. */
enum script_outcome script_split(const char *command, struct variables *variables, char ***words, size_t *count,
                                 struct script_result *result)
{
    struct evaluation evaluation = evaluation_of(command, variables, result);
    struct word *first;
    size_t used = 0;

    if (!read_words(&evaluation, NULL, &first, count) || evaluation_peek(&evaluation) >= 0)
        return SCRIPT_LIVE;
    *words = arena_take(variables->arena, (*count + 1) * sizeof **words);
    if (*words == NULL)
        return SCRIPT_LIVE;
    for (; first != NULL; first = first->next)
        (*words)[used++] = first->bytes;
    (*words)[used] = NULL;
    return SCRIPT_APPLIED;
}
