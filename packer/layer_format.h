/* Where the numbers are in the head of a layer file, and in a record: for who writes such files and who reads them. */
#pragma once

#define LAYER_MAGIC "singularity layer 1\n"
#define HEAD_SIZES 32 /* four of 8 bytes: data, records, attributes, fragments */
#define HEAD_COMPRESSOR 64
#define HEAD_RECORDS 68 /* how many */
#define HEAD_SETS 72
#define HEAD_FRAGMENTS 76
#define HEAD_DATA_CRC 80
#define HEAD_REST_CRC 84
#define HEAD_CRC 88 /* of what is before it */
#define CHECK_STEP (1U << 22)

/* A record; path, target and blocks follow. singularity/image/squashfs/packer.py reads those that come out of `merge`. */
#define RECORD_KIND 0 /* a byte; and one that is zero */
#define RECORD_MODE 2
#define RECORD_UID 4
#define RECORD_GID 8
#define RECORD_TIME 12
#define RECORD_MAJOR 20
#define RECORD_MINOR 24
#define RECORD_ATTRIBUTES 28
#define RECORD_PATH 32 /* sizes, in bytes */
#define RECORD_TARGET 36
#define RECORD_FILE_SIZE 40
#define RECORD_START 48
#define RECORD_SPARSE 56
#define RECORD_FRAGMENT 64
#define RECORD_FRAGMENT_OFFSET 68
#define RECORD_BLOCKS 72 /* how many */
#define RECORD_SIZE 76
