/* A launch that starts nothing: prints the request and the words and variables that it was given, one a line. The tests
 * of the front door put it in the place of the launch, and where the setuid starter belongs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "starter.h"

static void print_list(const char *name, const struct request_entry *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        printf("%s %s|%s|%llu\n", name, list[i].first != NULL ? list[i].first : "", list[i].second != NULL ? list[i].second : "",
               (unsigned long long)list[i].number);
}

static void print_request(const struct request *request)
{
#define REQUEST_FLAG(tag, member) \
    if (request->member) \
        printf(#member "\n");
#define REQUEST_NUMBER(tag, member) \
    if (request->member != 0) \
        printf(#member " %llu\n", (unsigned long long)request->member);
#define REQUEST_TEXT(tag, member) \
    if (request->member != NULL) \
        printf(#member " %s\n", request->member);
#define REQUEST_LIST(tag, member, limit) print_list(#member, request->member, request->member##_count);
#include "request.def"
#undef REQUEST_FLAG
#undef REQUEST_NUMBER
#undef REQUEST_TEXT
#undef REQUEST_LIST
}

/* Where the standard streams lead, into the file of that name. */
static void print_streams(const char *file)
{
    FILE *stream = fopen(file, "w");
    char path[32], target[4096];

    for (int fd = 0; fd < 3 && stream != NULL; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(path, target, sizeof target);
        fprintf(stream, "%.*s\n", size > 0 ? (int)size : 0, target);
    }
    fclose(stream);
}

_Noreturn void launch_here(const struct request *given, char **line, int argc, char **argv)
{
    static struct request request;
    struct error error = {.number = 0};

    (void)line;
    if (given == NULL && (argc < 2 || !request_receive(atoi(argv[1]), &request, &error))) {
        fprintf(stderr, "request_print: %s\n", error.text);
        exit(1);
    }
    if (getenv("TEST_STREAMS") != NULL)
        print_streams(getenv("TEST_STREAMS"));
    print_request(given != NULL ? given : &request);
    for (char **word = argv + 2; *word != NULL; word++)
        printf("argument %s\n", *word);
    for (char **entry = environ; *entry != NULL; entry++)
        if (strncmp(*entry, "SINGULARITYENV_", 15) == 0 || strncmp(*entry, "APPTAINERENV_", 13) == 0 ||
            strncmp(*entry, "TEST_", 5) == 0)
            printf("environment %s\n", *entry);
    exit(0);
}

/* A starter by itself; the front door has its own. */
int __attribute__((weak)) main(int argc, char **argv)
{
    launch_here(NULL, NULL, argc, argv);
}
