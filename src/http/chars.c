/* The character tables; see chars.h. */
#include "chars.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

const bool fm_char_token[256] = {
    ['!'] = true,         ['#' ... '\''] = true, ['*'] = true,         ['+'] = true, ['-'] = true, ['.'] = true,
    ['0' ... '9'] = true, ['A' ... 'Z'] = true,  ['^' ... 'z'] = true, ['|'] = true, ['~'] = true,
};

const bool fm_char_text[256] = {
    ['\t'] = true,
    [' ' ... '~'] = true,
    [0x80 ... 0xff] = true,
};

const bool fm_char_target[256] = {
    ['!' ... '"'] = true,
    ['$' ... '~'] = true,
    [0x80 ... 0xff] = true,
};

#define SAME(c) (c), (c) + 1, (c) + 2, (c) + 3, (c) + 4, (c) + 5, (c) + 6, (c) + 7
#define SAME32(c) SAME(c), SAME((c) + 8), SAME((c) + 16), SAME((c) + 24)
#define LOWER_LETTERS SAME('a'), SAME('a' + 8), SAME('a' + 16), 'y', 'z'

const unsigned char fm_char_lower[256] = {
    SAME32(0), SAME32(32), '@',        LOWER_LETTERS, '[',         '\\',        ']',
    '^',       '_',        SAME32(96), SAME32(128),   SAME32(160), SAME32(192), SAME32(224),
};

const char *fm_text_end(const char *s, const char *end)
{
#ifdef __SSE2__ /* sixteen bytes in seven instructions: every head is read here */
    const __m128i control = _mm_set1_epi8(0x1f), del = _mm_set1_epi8(0x7f), tab = _mm_set1_epi8('\t');
    while (end - s >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)s);
        __m128i low = _mm_andnot_si128(_mm_cmpeq_epi8(v, tab), _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
        int found = _mm_movemask_epi8(_mm_or_si128(low, _mm_cmpeq_epi8(v, del)));
        if (found)
            return s + __builtin_ctz((unsigned)found);
        s += 16;
    }
#endif
    while (s < end && fm_char_text[(unsigned char)*s])
        s++;
    return s;
}
