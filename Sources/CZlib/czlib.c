#include "CZlib.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

struct czlib_stream {
    z_stream z;
    int deflates;
};

// zlib's windowBits: negative for raw streams, 16 more for gzip.
static int window_bits_for(czlib_format format, int window_bits) {
    return format == CZLIB_GZIP ? window_bits + 16 : -window_bits;
}

czlib_stream *czlib_inflater_new(czlib_format format, int window_bits) {
    czlib_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) return NULL;
    if (inflateInit2(&stream->z, window_bits_for(format, window_bits)) != Z_OK) {
        free(stream);
        return NULL;
    }
    return stream;
}

czlib_stream *czlib_deflater_new(
    czlib_format format, int level, int window_bits, int memory_level) {
    czlib_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) return NULL;
    stream->deflates = 1;
    // zlib refuses raw windows of 256 bytes. With one of 512 it looks back 250 bytes at the most (the
    // window less its look-ahead of 262), which is within 256.
    int bits = window_bits < 9 ? 9 : window_bits;
    int result = deflateInit2(
        &stream->z, level, Z_DEFLATED, window_bits_for(format, bits), memory_level,
        Z_DEFAULT_STRATEGY);
    if (result != Z_OK) {
        free(stream);
        return NULL;
    }
    return stream;
}

void czlib_free(czlib_stream *stream) {
    if (stream == NULL) return;
    if (stream->deflates) {
        deflateEnd(&stream->z);
    } else {
        inflateEnd(&stream->z);
    }
    free(stream);
}

void czlib_reset(czlib_stream *stream) {
    if (stream->deflates) {
        deflateReset(&stream->z);
    } else {
        inflateReset(&stream->z);
    }
}

// inflate() leaves 128 in data_type behind the end of a block.
bool czlib_is_between_blocks(const czlib_stream *stream) {
    return (stream->z.data_type & 128) != 0;
}

static uInt clamped(size_t count) { return count > UINT_MAX ? UINT_MAX : (uInt)count; }

static czlib_step finish_step(
    z_stream *z, int result, size_t input_count, size_t output_count) {
    czlib_step step = {
        .consumed = clamped(input_count) - z->avail_in,
        .produced = clamped(output_count) - z->avail_out,
    };
    // The caller's memory is lent for the one call.
    z->next_in = NULL;
    z->next_out = NULL;
    z->avail_in = 0;
    z->avail_out = 0;
    switch (result) {
        case Z_OK:
        case Z_BUF_ERROR:
            step.status =
                step.consumed == 0 && step.produced == 0 ? CZLIB_STALLED : CZLIB_PROGRESS;
            break;
        case Z_STREAM_END:
            step.status = CZLIB_END;
            break;
        case Z_MEM_ERROR:
            step.status = CZLIB_MEMORY;
            break;
        default:
            step.status = CZLIB_INVALID;
            break;
    }
    return step;
}

czlib_step czlib_inflate(
    czlib_stream *stream, const uint8_t *input, size_t input_count, uint8_t *output,
    size_t output_count) {
    z_stream *z = &stream->z;
    z->next_in = (Bytef *)(uintptr_t)input;
    z->avail_in = clamped(input_count);
    z->next_out = output;
    z->avail_out = clamped(output_count);
    int result = inflate(z, Z_SYNC_FLUSH);
    return finish_step(z, result, input_count, output_count);
}

czlib_step czlib_deflate(
    czlib_stream *stream, const uint8_t *input, size_t input_count, uint8_t *output,
    size_t output_count, czlib_flush flush) {
    static const int flushes[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH};
    z_stream *z = &stream->z;
    z->next_in = (Bytef *)(uintptr_t)input;
    z->avail_in = clamped(input_count);
    z->next_out = output;
    z->avail_out = clamped(output_count);
    int result = deflate(z, flushes[flush]);
    return finish_step(z, result, input_count, output_count);
}
