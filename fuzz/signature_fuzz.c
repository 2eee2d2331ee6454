/* The judgement on signatures, over a file of keys, an execution control list and an image, all of them strange. An image that may run has a
 * signature by one of the keys, and what it is checked by lies in the file, behind the data. Input: four bytes of length and the keys,
 * the same of the list, and the image. */
#include "signature/signature.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROW = 585, TEXT = 64 << 10 };

/* With a NUL behind it; false: there is none. */
static bool text_take(const uint8_t **data, size_t *size, char *text, size_t *length)
{
    if (*size < 4 || (*length = le32(*data)) > *size - 4 || *length > TEXT)
        return false;
    memcpy(text, *data + 4, *length);
    text[*length] = '\0';
    *data += 4 + *length;
    *size -= 4 + *length;
    return true;
}

/* Of the first partition. */
static bool ask_of(const uint8_t *image, size_t size, struct seal_question *question)
{
    if (size < 128 || le64(image + 96) > size)
        return false;
    for (uint64_t at = le64(image + 96); at + ROW <= size; at += ROW)
        if (le32(image + at) == 0x4004) {
            question->offset = le64(image + at + 17);
            question->size = le64(image + at + 25);
            return true;
        }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char signers[TEXT + 1], list[TEXT + 1];
    static struct seal_verdict verdict;
    struct signature_policy policy = {.signers_name = "signers", .list_name = "ecl.toml", .signers = signers, .list = list,
                                      .directory = "/images", .now = 1800000000};
    struct seal_question question = {.reader = READER_SERVER};

    if (!text_take(&data, &size, signers, &policy.signers_size) || !text_take(&data, &size, list, &policy.list_size) ||
        !ask_of(data, size, &question))
        return 0;
    if (policy.list_size == 0)
        policy.list = NULL;
    question.image = memfd_create("image", MFD_CLOEXEC);
    assert(question.image >= 0 && write(question.image, data, size) == (ssize_t)size);
    memset(&verdict, 0, sizeof verdict);
    if (signature_judge(&question, &policy, &verdict)) {
        assert(verdict.by[0] != '\0' && verdict.seal.offset == question.offset && verdict.seal.size == question.size);
        assert(verdict.seal.tree == 0 || verdict.seal.tree >= question.offset + question.size + SEAL_BLOCK);
        struct sealed_file *file = sealed_open(question.image, &verdict.seal, "image");
        uint8_t block[3 * SEAL_BLOCK];
        for (uint64_t at = 100; file != NULL && at + sizeof block <= question.size; at += sizeof block)
            (void)sealed_read(file, at, block, sizeof block);
        free(file);
    } else {
        assert(verdict.error.text[0] != '\0');
    }
    close(question.image);
    return 0;
}
