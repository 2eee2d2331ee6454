/* Decompression for squashfs: each library is there when the Makefile found it (HAVE_zstd and so on). One whole block at a time, from
 * memory to memory; no file, no state but the contexts that are used again. */
#include <errno.h>
#include <stdlib.h>

#ifdef HAVE_deflate
#include <libdeflate.h>
#elif defined HAVE_z
#include <zlib.h>
#endif
#ifdef HAVE_zstd
#include <zstd.h>
#endif
#ifdef HAVE_lz4
#include <lz4.h>
#endif
#ifdef HAVE_lzma
#include <lzma.h>
#endif
#ifdef HAVE_lzo2
#include <lzo/lzo1x.h>
#endif

#include "squashfs.h"

struct squashfs_decompressor {
    const struct method *method;
    void *context; /* made when first needed: large, and images with little compressed in them are started too */
};

struct method {
    unsigned compression;
    const char *missing; /* why it cannot be had; NULL: it can */
    void *(*begin)(void); /* NULL: needs no context */
    void (*end)(void *context);
    int (*decompress)(void *context, const void *from, size_t length, void *to, size_t room);
};

#define BUILD_AGAIN(package) "its compression was left out when Singularity was built (install " package " and build it again)"

#ifdef HAVE_deflate
static void *zlib_begin(void)
{
    return libdeflate_alloc_decompressor();
}

static void zlib_end(void *context)
{
    libdeflate_free_decompressor(context);
}

static int zlib_decompress(void *context, const void *from, size_t length, void *to, size_t room)
{
    size_t used;

    return libdeflate_zlib_decompress(context, from, length, to, room, &used) == LIBDEFLATE_SUCCESS ? (int)used : -EIO;
}
#elif defined HAVE_z
static void *zlib_begin(void)
{
    z_stream *stream = calloc(1, sizeof *stream);

    if (stream != NULL && inflateInit(stream) != Z_OK) {
        free(stream);
        stream = NULL;
    }
    return stream;
}

static void zlib_end(void *context)
{
    if (context != NULL)
        (void)inflateEnd(context);
    free(context);
}

static int zlib_decompress(void *context, const void *from, size_t length, void *to, size_t room)
{
    z_stream *stream = context;

    if (inflateReset(stream) != Z_OK)
        return -EIO;
    stream->next_in = (z_const Bytef *)from;
    stream->avail_in = (uInt)length;
    stream->next_out = to;
    stream->avail_out = (uInt)room;
    return inflate(stream, Z_FINISH) == Z_STREAM_END ? (int)stream->total_out : -EIO;
}
#endif

#ifdef HAVE_zstd
static void *zstd_begin(void)
{
    return ZSTD_createDCtx();
}

static void zstd_end(void *context)
{
    (void)ZSTD_freeDCtx(context);
}

static int zstd_decompress(void *context, const void *from, size_t length, void *to, size_t room)
{
    size_t used = ZSTD_decompressDCtx(context, to, room, from, length);

    return ZSTD_isError(used) ? -EIO : (int)used;
}
#endif

#ifdef HAVE_lz4
static int lz4_decompress(void *context, const void *from, size_t length, void *to, size_t room)
{
    (void)context;
    int used = LZ4_decompress_safe(from, to, (int)length, (int)room);

    return used < 0 ? -EIO : used;
}
#endif

#ifdef HAVE_lzo2
static int lzo_decompress(void *context, const void *from, size_t length, void *to, size_t room)
{
    lzo_uint used = room;

    (void)context;
    return lzo1x_decompress_safe(from, length, to, &used, NULL) == LZO_E_OK ? (int)used : -EIO;
}
#endif

#ifdef HAVE_lzma
/* Dictionaries of mksquashfs are no larger than a block. */
enum { XZ_MEMORY = 4 << 20 };

static void *xz_begin(void)
{
    static const lzma_stream fresh = LZMA_STREAM_INIT;
    lzma_stream *stream = malloc(sizeof *stream);

    if (stream != NULL)
        *stream = fresh;
    return stream;
}

static void xz_end(void *context)
{
    if (context != NULL)
        lzma_end(context);
    free(context);
}

/* Beginning again with the same stream uses its memory again. BCJ filters come with the stream's header. */
static int xz_decompress(void *context, const void *from, size_t length, void *to, size_t room)
{
    lzma_stream *stream = context;

    if (lzma_stream_decoder(stream, XZ_MEMORY, 0) != LZMA_OK)
        return -ENOMEM;
    stream->next_in = from;
    stream->avail_in = length;
    stream->next_out = to;
    stream->avail_out = room;
    return lzma_code(stream, LZMA_FINISH) == LZMA_STREAM_END ? (int)(room - stream->avail_out) : -EIO;
}
#endif

static const struct method methods[] = {
#if defined HAVE_deflate || defined HAVE_z
    {SQUASHFS_ZLIB, NULL, zlib_begin, zlib_end, zlib_decompress},
#else
    {SQUASHFS_ZLIB, BUILD_AGAIN("libdeflate-dev"), NULL, NULL, NULL},
#endif
    {SQUASHFS_LZMA, "lzma, which the kernel does not read either (unsquashfs it and pack it again with mksquashfs -comp xz)",
     NULL, NULL, NULL},
#ifdef HAVE_lzo2
    {SQUASHFS_LZO, NULL, NULL, NULL, lzo_decompress},
#else
    {SQUASHFS_LZO, BUILD_AGAIN("liblzo2-dev"), NULL, NULL, NULL},
#endif
#ifdef HAVE_lzma
    {SQUASHFS_XZ, NULL, xz_begin, xz_end, xz_decompress},
#else
    {SQUASHFS_XZ, BUILD_AGAIN("liblzma-dev"), NULL, NULL, NULL},
#endif
#ifdef HAVE_lz4
    {SQUASHFS_LZ4, NULL, NULL, NULL, lz4_decompress},
#else
    {SQUASHFS_LZ4, BUILD_AGAIN("liblz4-dev"), NULL, NULL, NULL},
#endif
#ifdef HAVE_zstd
    {SQUASHFS_ZSTD, NULL, zstd_begin, zstd_end, zstd_decompress},
#else
    {SQUASHFS_ZSTD, BUILD_AGAIN("libzstd-dev"), NULL, NULL, NULL},
#endif
};

int squashfs_decompressor_new(unsigned compression, struct squashfs_decompressor **decompressor, const char **why)
{
    const struct method *method = NULL;

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (methods[i].compression == compression)
            method = &methods[i];
    *decompressor = NULL;
    *why = method == NULL ? "unknown compression: damaged?" : method->missing;
    if (*why != NULL)
        return -EOPNOTSUPP;
    *decompressor = calloc(1, sizeof **decompressor);
    if (*decompressor == NULL) {
        *why = "no memory";
        return -ENOMEM;
    }
    (*decompressor)->method = method;
    return 0;
}

void squashfs_decompressor_free(struct squashfs_decompressor *decompressor)
{
    if (decompressor != NULL && decompressor->context != NULL)
        decompressor->method->end(decompressor->context);
    free(decompressor);
}

int squashfs_decompress(struct squashfs_decompressor *decompressor, const void *from, size_t length, void *to, size_t room)
{
    const struct method *method = decompressor->method;

    if (method->begin != NULL && decompressor->context == NULL && (decompressor->context = method->begin()) == NULL)
        return -ENOMEM;
    return method->decompress(decompressor->context, from, length, to, room);
}
