/* Digits, as text and as numbers. */
#ifndef FERMATA_UTIL_TEXT_H
#define FERMATA_UTIL_TEXT_H

#include <stdbool.h>

#define FM_HEX_DIGITS "0123456789abcdef"

static inline bool fm_is_digit(char c) { return c >= '0' && c <= '9'; }

/* The value of a hexadecimal digit, in either case, or -1. */
static inline int fm_hex_value(char c)
{
    if (fm_is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A byte as \xNN, which is how logs show what could forge a line. */
static inline void fm_escape_byte(unsigned char c, char to[4])
{
    to[0] = '\\';
    to[1] = 'x';
    to[2] = FM_HEX_DIGITS[c >> 4];
    to[3] = FM_HEX_DIGITS[c & 15];
}

#endif
