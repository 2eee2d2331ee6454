/* Environment scripts: the part of the POSIX shell's language that they use, evaluated without starting a shell.
 *
 * Understood: comments, blank lines, line continuation, `;`, `&&`, `||`, `!`; assignments; `export`, `unset`;
 * `if`, `elif`, `else`, `fi`; `test` and `[ ]` on files and texts; `.` and `source` of a file named by a path; `:`,
 * `true`, `false`, `umask` with an octal number. In words: '...', "...", \, $NAME, ${NAME}, and ${NAME} with
 * :- - := = :+ + and a word. All else is live code: the caller starts a shell for it, or does without.
 */
#ifndef SINGULARITY_ENVIRONMENT_SCRIPT_H
#define SINGULARITY_ENVIRONMENT_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

#include "environment/variables.h"

enum { SCRIPT_LIMIT = 1 << 20 };

enum script_outcome {
    SCRIPT_APPLIED, /* the table holds what a shell would have made of it */
    SCRIPT_LIVE     /* needs a shell: the table is as it was */
};

struct script_result {
    unsigned line;    /* LIVE: where, counted from 1 */
    const char *why;  /* LIVE: a noun, as "command substitution"; lives for ever */
    char file[256];   /* LIVE: the file that holds the line, cut off when longer */
    int mask;         /* APPLIED: the octal number of the last `umask`, or -1 */
};

/* Evaluates `size` bytes of `text`, at most SCRIPT_LIMIT, in a shell whose variables are `variables`. `name` is for
 * `result->file`. Reads the files that the script names, as the caller's process and from its current directory. */
enum script_outcome script_evaluate(const char *name, const char *text, size_t size, struct variables *variables,
                                    struct script_result *result);

/* Reads what `export -p` of a shell printed (dash, busybox, bash, mksh) into `variables`. False: none of theirs. */
bool script_read_dump(const char *text, size_t size, struct variables *variables, struct script_result *result);

/* The whole table as a script that makes it again, in the table's arena; NULL: no memory. */
char *script_write_dump(const struct variables *variables, size_t *size);

/* `value` as it would come out of double quotes, in the table's arena: $NAME and ${NAME...} are replaced, \ protects
 * $ ` " and itself; a " is an ordinary character, and so is a $ before anything but a name, a { or a (. */
enum script_outcome script_expand(const char *value, struct variables *variables, const char **expanded,
                                  struct script_result *result);

/* The words of one command, in the table's arena and ended by NULL, as the command would find them. */
enum script_outcome script_split(const char *command, struct variables *variables, char ***words, size_t *count,
                                 struct script_result *result);

#endif
