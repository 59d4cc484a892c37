/* Compares what the server's parser makes of a stream with the recogniser's reading of it. */
#ifndef FERMATA_TESTS_COMPARE_H
#define FERMATA_TESTS_COMPARE_H

#include <stddef.h>
#include <stdint.h>

#define REPLAY_REQUESTS 512
#include "../unit/http/h1/replay.h"

#define FUZZ_LINE_MAX 64 /* of the request line, if limits are to be met by short inputs */
extern const struct fm_http_limits fuzz_limits, fuzz_small_limits;

struct fuzz_stream {
    const char *s;
    size_t len;
};

/* The stream of an input that is a case of tests/http (its README.md says how one reads); s is NULL if it is none. */
struct fuzz_stream fuzz_case(const uint8_t *data, size_t size);

/* Aborts, after saying why: for a property that does not hold. */
_Noreturn void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Replays the stream whole into *whole (which the caller ends), and aborts unless the recogniser accepts what was
 * accepted, with the same requests, framing and bodies; and refuses what was refused, but for the differences of
 * recogniser.h and the limits, which must be exceeded then. */
void fuzz_compare(struct replay *whole, const struct fm_http_limits *limits, const char *s, size_t len);

/* Aborts unless the stream cut like this comes to the same as *whole. */
void fuzz_same_when_cut(const struct replay *whole, const struct fm_http_limits *limits, const char *s, size_t len,
                        const unsigned char *cut, const char *how);

#endif
