// zlib's streams behind a handle: no macros, no struct of zlib's in sight, and no policy. How much may
// come out, and when to stop, is the caller's to say.
#ifndef CZLIB_H
#define CZLIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CZLIB_CLOSED __attribute__((enum_extensibility(closed)))
#define CZLIB_CASE(name) __attribute__((swift_name(name)))

/// A stream that deflates or inflates; it belongs to one thread at a time.
typedef struct czlib_stream czlib_stream;

/// How the compressed bytes are wrapped: RFC 1951 alone, or RFC 1952.
typedef enum CZLIB_CLOSED {
    CZLIB_RAW CZLIB_CASE("raw"),
    CZLIB_GZIP CZLIB_CASE("gzip"),
} czlib_format;

/// What a step came to.
typedef enum CZLIB_CLOSED {
    /// Bytes were taken or given.
    CZLIB_PROGRESS CZLIB_CASE("progress"),
    /// Nothing can be done without more input or more room.
    CZLIB_STALLED CZLIB_CASE("stalled"),
    /// The compressed stream is over; what was not consumed lies behind it.
    CZLIB_END CZLIB_CASE("end"),
    /// The input is no compressed stream.
    CZLIB_INVALID CZLIB_CASE("invalid"),
    /// Out of memory.
    CZLIB_MEMORY CZLIB_CASE("memory"),
} czlib_status;

/// When a deflating step must let everything out.
typedef enum CZLIB_CLOSED {
    CZLIB_NO_FLUSH CZLIB_CASE("none"),
    CZLIB_SYNC_FLUSH CZLIB_CASE("sync"),
    CZLIB_FINISH CZLIB_CASE("finish"),
} czlib_flush;

typedef struct {
    czlib_status status;
    size_t consumed;
    size_t produced;
} czlib_step;

/// `window_bits` is between 8 and 15. NULL when memory is short.
czlib_stream *_Nullable czlib_inflater_new(czlib_format format, int window_bits);
/// `level` is between 0 and 9, `memory_level` between 1 and 9.
czlib_stream *_Nullable czlib_deflater_new(
    czlib_format format, int level, int window_bits, int memory_level);
/// Frees the stream; NULL is nothing.
void czlib_free(czlib_stream *_Nullable stream);

/// Forgets everything that went through the stream.
void czlib_reset(czlib_stream *_Nonnull stream);
/// Whether the last step of inflating ended where a block may begin.
bool czlib_is_between_blocks(const czlib_stream *_Nonnull stream);
czlib_step czlib_inflate(
    czlib_stream *_Nonnull stream, const uint8_t *_Nullable input, size_t input_count,
    uint8_t *_Nonnull output, size_t output_count);
czlib_step czlib_deflate(
    czlib_stream *_Nonnull stream, const uint8_t *_Nullable input, size_t input_count,
    uint8_t *_Nonnull output, size_t output_count, czlib_flush flush);

#endif
