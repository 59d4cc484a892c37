/* The octets of responses in HTTP/1.x (RFC 9112): status line, fields, chunks. */
#ifndef FERMATA_HTTP_H1_FRAMER_H
#define FERMATA_HTTP_H1_FRAMER_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/http/framer.h"

extern const struct fm_framer_ops fm_h1_framer;

/* A complete plain-text answer of the server itself, closing the connection: head and a one-line body (left out for
 * HEAD).  503 asks the client to come again after a second (RFC 9110, 10.2.3).  How long it is; it needs no memory, as
 * there may be none. */
#define FM_H1_PLAIN_SIZE 512
size_t fm_h1_plain(char text[FM_H1_PLAIN_SIZE], int status, bool is_head);

/* Bytes of the body of such an answer. */
size_t fm_h1_plain_body(int status, bool is_head);

#endif
