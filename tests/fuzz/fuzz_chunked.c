/* A chunked body: as fuzz_parser.c has it, and the same whatever byte it is cut in two at, cut at each CRLF, and byte
 * by byte.
 *
 * Input: what comes behind the head of a request with Transfer-Encoding: chunked.
 *
 * Covers: src/http/h1/parser.c src/http/h1/strict.c src/http/body.c */
#include "compare.h"

#define HEAD "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
#define HEAD_LEN (sizeof HEAD - 1)
#define MAX 1024
#define CUT_ANYWHERE_MAX 256 /* a longer body is cut in two at every so many bytes */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char s[HEAD_LEN + MAX];
    static unsigned char cut[sizeof s + 2];
    if (size > MAX)
        return -1;
    size_t len = HEAD_LEN + size;
    memcpy(s, HEAD, HEAD_LEN);
    if (size > 0)
        memcpy(s + HEAD_LEN, data, size);
    struct replay whole;
    fuzz_compare(&whole, &fuzz_limits, s, len);

    memset(cut, 0, sizeof cut);
    for (size_t i = HEAD_LEN; i < len; i += 1 + size / CUT_ANYWHERE_MAX) {
        cut[i] = 1;
        fuzz_same_when_cut(&whole, &fuzz_limits, s, len, cut, "cut in two");
        cut[i] = 0;
    }
    for (size_t i = 1; i < len; i++)
        if (s[i - 1] == '\r' || s[i - 1] == '\n')
            cut[i] = 1;
    fuzz_same_when_cut(&whole, &fuzz_limits, s, len, cut, "cut within and after each CRLF");
    memset(cut, 1, sizeof cut);
    fuzz_same_when_cut(&whole, &fuzz_limits, s, len, cut, "byte by byte");
    replay_fini(&whole);
    return 0;
}
