/* Runs a fuzz target over the files it is given: the corpus as a test, one finding under a debugger. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(const char *path)
{
    FILE *file = fopen(path, "rbe");
    struct stat status;

    if (file == NULL || fstat(fileno(file), &status) < 0 || !S_ISREG(status.st_mode)) {
        fprintf(stderr, "%s: not a file that can be read\n", path);
        if (file != NULL)
            fclose(file);
        return 1;
    }
    size_t size = (size_t)status.st_size;
    uint8_t *data = malloc(size + (size == 0)); /* of the exact size, so that a sanitizer sees each read behind it */
    int failed = data == NULL || fread(data, 1, size, file) != size;
    if (failed)
        perror(path);
    else
        LLVMFuzzerTestOneInput(data, size);
    free(data);
    fclose(file);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;

    if (argc < 2)
        fprintf(stderr, "usage: %s FILE...\n", argv[0] != NULL ? argv[0] : "TARGET");
    for (int i = 1; i < argc; i++)
        failed |= run(argv[i]);
    return failed;
}
