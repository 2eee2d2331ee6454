/* singularity.conf: keys and values by the table of config.def, refused where root does not own it alone. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "descriptor.h"

/* ---- the table of keys ---- */

enum kind { KIND_WORD, KIND_NUMBER, KIND_PLACE, KIND_LIST, KIND_PLACES, KIND_FOREIGN };

struct value {
    const char *text;
    uint64_t number;
    uint32_t line; /* 0: the default */
};

/* One row of config.def. A list is written straight into struct config by its offset, so that a new key needs a line
 * of config.def and nothing here. */
struct key {
    const char *name;
    enum kind kind;
    struct value initial;
    uint32_t limit;       /* of a number, or of entries */
    const char *wanted;   /* what the value must be, for the message */
    const char *words[4]; /* the value is the index */
    size_t items, count;  /* where a list lies in struct config */
};

#define WORDS(number_, wanted_, ...) .initial = {.number = (number_)}, .wanted = (wanted_), .words = {__VA_ARGS__}
#define ITEMS(member) .items = offsetof(struct config, member), .count = offsetof(struct config, member##_count)

static const struct key keys[] = {
#define CONFIG_BOOL(member, key, value) {key, KIND_WORD, WORDS(value, "\"yes\" or \"no\"", "no", "yes")},
#define CONFIG_CHOICE(member, key, value, ...) {key, KIND_WORD, WORDS(value, "one of " #__VA_ARGS__, __VA_ARGS__)},
#define CONFIG_NUMBER(member, key, value, maximum) \
    {key, KIND_NUMBER, {#value, value, 0}, .limit = (maximum), .wanted = "a number from 0 to " #maximum},
#define CONFIG_PLACE(member, key, value) {key, KIND_PLACE, {value, 0, 0}, .wanted = "an absolute path"},
#define CONFIG_LIST(member, key, most) {key, KIND_LIST, .limit = (most), .wanted = "a list without gaps", ITEMS(member)},
#define CONFIG_PLACES(member, key, most) {key, KIND_PLACES, .limit = (most), .wanted = "an absolute path", ITEMS(member)},
#define CONFIG_FOREIGN(key) {key, KIND_FOREIGN, .limit = 0},
#include "config.def"
};
enum { KEYS = sizeof keys / sizeof *keys };

/* The same table once more, now to copy what was read: values stand in the order of the keys. */
static void values_give(const struct value *value, struct config *config)
{
#define CONFIG_BOOL(member, key, initial) config->member = value++->number != 0;
#define CONFIG_CHOICE(member, key, initial, ...) config->member = (enum config_choice)value++->number;
#define CONFIG_NUMBER(member, key, initial, maximum) config->member = value++->number;
#define CONFIG_PLACE(member, key, initial) config->member = value++->text;
#define CONFIG_LIST(member, key, limit) value++;
#define CONFIG_PLACES(member, key, limit) value++;
#define CONFIG_FOREIGN(key) value++;
#include "config.def"
}

/* ---- words ---- */

/* "\r" counts as blank: files that were edited on Windows are no reason to refuse a launch. */
static bool is_blank(char letter)
{
    return letter == ' ' || letter == '\t' || letter == '\r';
}

static char *trimmed(char *text)
{
    while (is_blank(*text))
        text++;
    for (size_t length = strlen(text); length > 0 && is_blank(text[length - 1]); length--)
        text[length - 1] = '\0';
    return text;
}

/* In trimmed text: blanks beside a colon go; with `join` every other run of blanks becomes one space. */
static void blanks_tidy(char *text, bool join)
{
    char *out = text;

    for (const char *in = text; *in != '\0'; in++) {
        const char *next = in;
        while (is_blank(*next))
            next++;
        if (*next == ':' || (out > text && out[-1] == ':'))
            in = next;
        else if (join && next > in)
            in = next - 1;
        *out++ = join && next > in ? ' ' : *in; /* next > in: blanks, no colon beside them */
    }
    *out = '\0';
}

/* Letters of either case; `word` is lower case. By hand, since strcasecmp(3) goes by the locale, and a setuid program
 * has none (R-L2): in Turkish "I" is no capital "i". */
static bool same_word(const char *text, const char *word)
{
    for (; *text != '\0' && (*text == *word || (*text >= 'A' && *text <= 'Z' && *text - 'A' + 'a' == *word)); text++)
        word++;
    return *text == '\0' && *word == '\0';
}

static const struct key *key_find(const char *name)
{
    for (const struct key *key = keys; key < keys + KEYS; key++)
        if (strcmp(key->name, name) == 0)
            return key;
    return NULL;
}

/* ---- one line ---- */

struct reading {
    struct config *config;
    struct error *error;
    bool enforced;
    uint32_t line;
    struct value values[KEYS];
};

__attribute__((format(printf, 2, 3))) static bool complain(const struct reading *reading, const char *format, ...)
{
    char text[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(reading->error, 0, "%.400s:%u: %s", reading->config->path, reading->line, text);
}

/* Refused in SUID mode: a key that is spelled wrongly would leave a limit open that its administrator believes in
 * (R-C2). */
static bool unknown_key(const struct reading *reading, const char *name)
{
    char hint[96] = "";

    config_suggest(name, hint, sizeof hint);
    if (reading->enforced)
        return complain(reading, "unknown key \"%.100s\"%s", name, hint);
    message_warning("%s:%u: unknown key \"%.100s\"%s", reading->config->path, reading->line, name, hint);
    return true;
}

static bool number_read(const struct key *key, const char *text, uint64_t *number)
{
    uint64_t value = 0;

    for (; *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (uint64_t)(*text - '0'); /* no overflow: at most ten times the limit, a 32 bit number */
        if (value > key->limit)
            return false;
    }
    *number = value;
    return *text == '\0';
}

/* y, n, 1 and 0 are what files of version 2.2 and of today's family have as well. */
static bool word_read(const struct key *key, const char *text, uint64_t *number)
{
    if (same_word(text, "y") || same_word(text, "1"))
        text = "yes";
    if (same_word(text, "n") || same_word(text, "0"))
        text = "no";
    for (*number = 0; key->words[*number] != NULL; ++*number)
        if (same_word(text, key->words[*number]))
            return true;
    return false;
}

/* Twice the same value is no harm; two different ones are, since nobody knows which was meant (R-C2). */
static bool scalar_line(struct reading *reading, const struct key *key, const char *text)
{
    struct value value = {.text = text, .line = reading->line}, *held = &reading->values[key - keys];

    if ((key->kind == KIND_WORD && !word_read(key, text, &value.number)) ||
        (key->kind == KIND_NUMBER && !number_read(key, text, &value.number)) || (key->kind == KIND_PLACE && *text != '/' && strcmp(text, key->initial.text) != 0))
        return complain(reading, "%s: \"%.100s\" is not %s", key->name, text, key->wanted);
    if (key->kind == KIND_WORD)
        value.text = key->words[value.number];
    if (held->line != 0 && strcmp(held->text, value.text) != 0)
        return complain(reading, "%s has another value in line %u (keep one of them)", key->name, held->line);
    message_debug("config %s = %s (line %u)", key->name, value.text, value.line);
    *held = value;
    return true;
}

static bool list_line(struct reading *reading, const struct key *key, char *text)
{
    struct config_item *items = (struct config_item *)((char *)reading->config + key->items);
    uint32_t *count = (uint32_t *)((char *)reading->config + key->count);

    for (char *next; text != NULL; text = next) {
        next = strchr(text, ',');
        if (next != NULL)
            *next++ = '\0';
        char *item = trimmed(text);
        if (*item == '\0' || (key->kind == KIND_PLACES && *item != '/'))
            return complain(reading, "%s: \"%.100s\" is not %s", key->name, item, key->wanted);
        if (*count == key->limit)
            return complain(reading, "%s: more than %u entries", key->name, *count);
        if (key->kind == KIND_PLACES)
            blanks_tidy(item, false);
        message_debug("config %s = %s (line %u)", key->name, item, reading->line);
        items[(*count)++] = (struct config_item){.text = item, .line = reading->line};
    }
    return true;
}

/* A key of the family that has no meaning here is told at the level of details: one file can serve both programs. */
static bool line_read(struct reading *reading, char *line)
{
    char *name = trimmed(line), *equals = strchr(name, '=');

    if (*name == '\0' || *name == '#')
        return true;
    if (equals == NULL)
        return complain(reading, "\"%.100s\" is not \"key = value\" (comments begin with #)", name);
    *equals = '\0';
    char *value = trimmed(equals + 1);
    name = trimmed(name);
    blanks_tidy(name, true);
    const struct key *key = key_find(name);
    if (key == NULL)
        return unknown_key(reading, name);
    if (key->kind == KIND_FOREIGN)
        message_verbose("%s:%u: \"%s\" has no meaning here", reading->config->path, reading->line, name);
    else if (*value == '\0')
        return complain(reading, "%s has no value (take the line out for the default)", name);
    else
        return key->kind < KIND_LIST ? scalar_line(reading, key, value) : list_line(reading, key, value);
    return true;
}

/* ---- all lines ---- */

/* The file is in the text store, `size` bytes and a NUL. Each line is cut in place, and its values point into the
 * file's text: nothing is allocated. A NUL would hide the rest of a line from this reader and not from an editor. */
static bool lines_read(struct config *config, size_t size, bool enforced, struct error *error)
{
    struct reading reading = {.config = config, .error = error, .enforced = enforced};
    char *line = config->text_store, *end = line + size;

    for (size_t i = 0; i < KEYS; i++) {
        reading.values[i] = keys[i].initial;
        if (keys[i].kind == KIND_WORD)
            reading.values[i].text = keys[i].words[keys[i].initial.number];
    }
    while (line < end) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((newline != NULL ? newline : end) - line);
        reading.line++;
        if (length > CONFIG_LINE_LIMIT)
            return complain(&reading, "longer than %d bytes", CONFIG_LINE_LIMIT);
        if (memchr(line, '\0', length) != NULL)
            return complain(&reading, "a NUL byte (not a text file?)");
        line[length] = '\0';
        if (!line_read(&reading, line))
            return false;
        line += length + 1;
    }
    values_give(reading.values, config);
    for (size_t i = 0; i < KEYS; i++)
        if (keys[i].kind < KIND_LIST && reading.values[i].line == 0)
            message_debug("config %s = %s (default)", keys[i].name, reading.values[i].text);
    return true;
}

/* ---- the file ---- */

/* Only root may have a say in what `fd` holds: the first `length` bytes of `path`. */
static bool roots_alone(int fd, const char *path, size_t length, struct error *error)
{
    int shown = length < 400 ? (int)length : 400;
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(error, errno, "%.*s%s", shown, path,
                         errno == ELOOP || errno == ENOTDIR ? " (SUID mode follows no symbolic link here)" : "");
    if (status.st_uid != 0)
        return error_set(error, 0, "%.*s: belongs to uid %u, not to root: no SUID mode with it (chown root)", shown, path,
                         (unsigned)status.st_uid);
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return error_set(error, 0, "%.*s: writable by others than root: no SUID mode with it (chmod go-w)", shown, path);
    return true;
}

/* From "/" by hand, one name at a time and O_NOFOLLOW: if a user may rename any directory on the way he chooses the
 * file (R-C1). A sticky directory is no help, since its owner may still rename. O_NONBLOCK and O_NOCTTY: what stands
 * there is judged after it is open. */
int config_open(const char *path, struct error *error)
{
    OWNED_FD directory = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *name = path;
    char component[NAME_MAX + 1];

    while (roots_alone(directory, path, name > path ? (size_t)(name - path) : 1, error)) {
        name += strspn(name, "/");
        size_t length = strcspn(name, "/");
        bool last = name[length] == '\0';
        if (*path != '/' || length > NAME_MAX) {
            error_set(error, EINVAL, "%.400s", path);
            return -1;
        }
        memcpy(component, name, length);
        component[length] = '\0';
        name += length;
        OWNED_FD next = openat(directory, component, O_NOFOLLOW | O_CLOEXEC |
                               (last ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_PATH | O_DIRECTORY));
        if (last)
            return roots_alone(next, path, strlen(path), error) ? fd_give(&next) : -1;
        fd_close(&directory);
        directory = fd_give(&next);
    }
    return -1;
}

/* Into the text store, with a NUL behind it. A second hard link lets a user keep an old, laxer file under the name of
 * his choice (R-C1). Read to its end by one more read(2) and not by the size that was told, since the file may be
 * written meanwhile; one byte more than allowed is enough to know. */
static bool file_load(int fd, bool enforced, struct config *config, size_t *size, struct error *error)
{
    struct stat status;
    ssize_t got;

    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return error_set(error, 0, "%.400s: not a regular file", config->path);
    if (enforced && status.st_nlink > 1)
        return error_set(error, 0, "%.400s: has a second hard link: no SUID mode with it (make a copy)", config->path);
    do {
        got = read(fd, config->text_store + *size, sizeof config->text_store - *size);
        *size += got > 0 ? (size_t)got : 0;
    } while (got > 0 && *size <= CONFIG_SIZE_LIMIT);
    if (got != 0)
        return error_set(error, got < 0 ? errno : EFBIG, "%.400s", config->path);
    config->text_store[*size] = '\0';
    return true;
}

bool config_take(int fd, const char *name, bool enforced, struct config *config, struct error *error)
{
    size_t size = 0;

    if (strlen(name) >= sizeof config->path)
        return error_set(error, ENAMETOOLONG, "%.400s", name);
    memcpy(config->path, name, strlen(name));
    return (fd < 0 || file_load(fd, enforced, config, &size, error)) && lines_read(config, size, enforced, error);
}

/* Without SUID mode there is nothing to enforce: the user could run the program with another file anyway. */
bool config_read(const char *path, bool enforced, struct config *config, struct error *error)
{
    OWNED_FD fd = enforced ? config_open(path, error) : open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0 && !enforced && (errno == ENOENT || errno == ENOTDIR))
        message_verbose("%s: no such file, the defaults hold", path);
    else if (fd < 0)
        return error_set(error, errno, "%.400s", path);
    return config_take(fd, path, enforced, config, error);
}
