/* Environment scripts: the part of the POSIX shell's language that they use, evaluated without starting a shell.
 *
 * Understood: comments, blank lines, line continuation, `;`, `&&`, `||`, `!`; assignments; `export`, `unset`;
 * `if`, `elif`, `else`, `fi`; `test` and `[ ]` on files and texts; `.` and `source` of a file named by a path; `:`.
 * In words: '...', "...", \, $NAME, ${NAME}, and ${NAME} with :- - :+ + and a word. All else is live
 * code: the caller starts a shell for it, or does without. Apptainer's own scripts (95-apps.sh, 99-base.sh,
 * 99-runtimevars.sh) need no less than this, and each of its images has them.
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
};

/* Evaluates `size` bytes of `text`, at most SCRIPT_LIMIT, in a shell whose variables are `variables`. `name` is for
 * `result->file`. Reads the files that the script names, as the caller's process and from its current directory. */
enum script_outcome script_evaluate(const char *name, const char *text, size_t size, struct variables *variables,
                                    struct script_result *result);

/* Reads what `export -p` of a shell printed (dash, busybox, bash, mksh) into `variables`. False: none of theirs. */
bool script_read_dump(const char *text, size_t size, struct variables *variables, struct script_result *result);

/* `value` as it would come out of double quotes, in the table's arena: $NAME and ${NAME...} are replaced, \ protects
 * $ ` " and itself; a " is an ordinary character, and so is a $ before anything but a name, a { or a (. */
enum script_outcome script_expand(const char *value, struct variables *variables, const char **expanded,
                                  struct script_result *result);

/* The words of one command, in the table's arena and ended by NULL, as the command would find them. */
enum script_outcome script_split(const char *command, struct variables *variables, char ***words, size_t *count,
                                 struct script_result *result);

/* ---- script files (source.c) ---- */

/* The bytes of a regular file of at most SCRIPT_LIMIT bytes, with a NUL behind them, in the arena; `directory` is a
 * descriptor or AT_FDCWD. NULL with errno: EISDIR for another kind of file, EFBIG for a larger one. */
char *source_read(int directory, const char *path, struct arena *arena, size_t *size);

/* All bytes of an open file or pipe up to its end, which may grow meanwhile, ended by a NUL, in the arena; room for
 * `expected` is made at once. NULL with errno: EFBIG for more than `limit`. */
char *source_read_whole(int file, size_t expected, size_t limit, struct arena *arena, size_t *size);

/* A descriptor at the start of a file in memory that holds the text; the caller owns it. Negative with errno. */
int source_in_memory(const char *text, size_t size);

#endif
