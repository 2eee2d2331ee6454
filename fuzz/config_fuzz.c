/* What an accepted file means, written out anew, is accepted and means the same; without enforcement it does too. */
#include "config.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "descriptor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config config, again;
static char text[2 * CONFIG_SIZE_LIMIT];

static const char *word(uint64_t index, const char *const *words)
{
    return words[index];
}

static size_t write_out(void)
{
    size_t used = 0;

#define LINE(key, format, value) \
    used += (size_t)snprintf(text + used, sizeof text - used, "%s = " format "\n", key, value); \
    assert(used < sizeof text);
#define CONFIG_BOOL(member, key, initial) LINE(key, "%s", config.member ? "yes" : "no")
#define CONFIG_CHOICE(member, key, initial, ...) \
    LINE(key, "%s", word(config.member, (const char *const[]){__VA_ARGS__}))
#define CONFIG_NUMBER(member, key, initial, maximum) \
    assert(config.member <= (maximum)); \
    LINE(key, "%llu", (unsigned long long)config.member)
#define CONFIG_PLACE(member, key, initial) \
    if (*config.member != '\0') \
        LINE(key, "%s", config.member)
#define CONFIG_LIST(member, key, limit) \
    assert(config.member##_count <= (limit)); \
    for (uint32_t i = 0; i < config.member##_count; i++) \
        LINE(key, "%s", config.member[i].text)
#define CONFIG_PLACES(member, key, limit) CONFIG_LIST(member, key, limit)
#define CONFIG_FOREIGN(key)
#include "config.def"
    return used;
}

static void compare(void)
{
#define CONFIG_BOOL(member, key, initial) assert(config.member == again.member);
#define CONFIG_CHOICE(member, key, initial, ...) assert(config.member == again.member);
#define CONFIG_NUMBER(member, key, initial, maximum) assert(config.member == again.member);
#define CONFIG_PLACE(member, key, initial) assert(strcmp(config.member, again.member) == 0);
#define CONFIG_LIST(member, key, limit) \
    assert(config.member##_count == again.member##_count); \
    for (uint32_t i = 0; i < config.member##_count; i++) \
        assert(strcmp(config.member[i].text, again.member[i].text) == 0);
#define CONFIG_PLACES(member, key, limit) CONFIG_LIST(member, key, limit)
#define CONFIG_FOREIGN(key)
#include "config.def"
}

static bool parse(const void *bytes, size_t size, bool enforced, struct config *into, struct error *error)
{
    memset(into, 0, offsetof(struct config, text_store));
    OWNED_FD fd = memfd_create("config", MFD_CLOEXEC);
    assert(fd >= 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
    return config_take(fd, "x.conf", enforced, into, error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error = {0};

    message_begin(LEVEL_FATAL, false);
    if (!parse(data, size, true, &config, &error)) {
        assert(error.text[0] != '\0');
        return 0;
    }
    assert(error.text[0] == '\0');
    assert(parse(data, size, false, &again, &error));
    compare();
    size_t length = write_out();
    if (length <= CONFIG_SIZE_LIMIT) {
        assert(parse(text, length, true, &again, &error));
        compare();
    }
    return 0;
}
