/* A request head as a whole: finding its end line by line, and what its fields mean together.  Pure; no http-parser. */
#ifndef FERMATA_HTTP_H1_HEAD_H
#define FERMATA_HTTP_H1_HEAD_H

#include <stddef.h>
#include <stdint.h>

#include "fermata/http/h1/parser.h"
#include "strict.h"

/* How far a head that may still be arriving was read.  Begins zeroed. */
struct fm_head_scan {
    struct fm_request_line line; /* once the first line was read */
    size_t start;                /* of the line being read; the length of the head when it is whole */
    size_t seen;                 /* bytes of that line that were looked at */
    struct fm_field *fields;     /* those read so far but for names with an underscore, which are dropped */
    uint16_t nfields, cap;       /* how many there are, and have room */
    uint16_t lines;              /* field lines read */
};

void fm_head_scan_fini(struct fm_head_scan *scan);

/* For the next head, with the memory of this one if it is little. */
void fm_head_scan_reset(struct fm_head_scan *scan);

/* Reads on in a head of which len bytes are there; earlier ones are at the same offsets as before.  1: it is whole;
 * 0: more is needed; FM_EINVAL: refused, see *why. */
int fm_head_scan(struct fm_head_scan *scan, const struct fm_http_limits *limits, const char *head, size_t len,
                 enum fm_refusal *why);

/* Length of the line of a field up to the end of its value. */
static inline size_t fm_head_field_len(const struct fm_field *f) { return f->value_off + f->value_len - f->name_off; }

/* The last Host of a connection that was well-formed: most clients say the same one in each request, and the same bytes
 * need not be judged twice.  All zero at first. */
struct fm_good_host {
    uint8_t len; /* 0: none */
    char text[31];
};

/* Fills in what r says beside its text and fields: framing, persistence, host, expectation; and refuses what the fields
 * must not say.  r->head, fields and nfields are there; the body is not touched. */
enum fm_refusal fm_head_judge(struct fm_request *r, const struct fm_request_line *line,
                              const struct fm_http_limits *limits, struct fm_good_host *good);

#endif
