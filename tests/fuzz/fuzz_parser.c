/* Any stream of requests: what the parser accepts, the recogniser accepts too, with the same requests, framing and
 * bodies, and the other way round (compare.h); and it comes to the same however the stream is cut.
 *
 * Input: a byte whose low half is a number of lengths and whose fifth bit asks for small limits; the lengths, of the
 * pieces that the stream is cut into, in turn; the stream.  Or a case of tests/http.
 *
 * Covers: src/http/h1/parser.c src/http/h1/head.c src/http/h1/strict.c src/http/headers.c src/http/request.c
 * src/http/body.c src/http/traceparent.c */
#include "compare.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_stream in = fuzz_case(data, size);
    size_t nlengths = size && !in.s ? data[0] & 15 : 0;
    if (size < 1 + nlengths || size > 16384)
        return -1;
    const struct fm_http_limits *limits = !in.s && data[0] & 16 ? &fuzz_small_limits : &fuzz_limits;
    const char *s = in.s ? in.s : (const char *)data + 1 + nlengths;
    size_t len = in.s ? in.len : size - 1 - nlengths;
    struct replay whole;
    fuzz_compare(&whole, limits, s, len);

    unsigned char *cut = calloc(1, len + 1);
    for (size_t i = 0, at = 0; nlengths > 0 && at < len; i++) {
        cut[at] = 1;
        at += data[1 + i % nlengths] + 1u;
    }
    fuzz_same_when_cut(&whole, limits, s, len, cut, "cut as the input says");
    memset(cut, 1, len);
    fuzz_same_when_cut(&whole, limits, s, len, cut, "byte by byte");
    free(cut);
    replay_fini(&whole);
    return 0;
}
