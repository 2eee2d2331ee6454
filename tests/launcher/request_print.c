/* A starter that starts nothing: prints the request and the words and variables that it was given, one a line. The tests
 * of the front door put it where the starter belongs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"

static void print_list(const char *name, const struct request_entry *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        printf("%s %s|%s|%llu\n", name, list[i].first, list[i].second, (unsigned long long)list[i].number);
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

int main(int argc, char **argv, char **environment)
{
    static struct request request;
    struct error error = {.number = 0};

    if (argc < 2 || !request_receive(atoi(argv[1]), &request, &error)) {
        fprintf(stderr, "request_print: %s\n", error.text);
        return 1;
    }
    print_request(&request);
    for (int i = 2; i < argc; i++)
        printf("argument %s\n", argv[i]);
    for (; *environment != NULL; environment++)
        if (strncmp(*environment, "SINGULARITYENV_", 15) == 0 || strncmp(*environment, "APPTAINERENV_", 13) == 0 ||
            strncmp(*environment, "TEST_", 5) == 0)
            printf("environment %s\n", *environment);
    return 0;
}
