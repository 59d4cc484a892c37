/* Takes a fuzz input apart from its front; when it is used up, there are zeros and empty texts. */
#ifndef FERMATA_TESTS_INPUT_H
#define FERMATA_TESTS_INPUT_H

#include <stddef.h>

struct input {
    const char *at, *end;
};

struct input_text {
    const char *at;
    size_t len;
};

static inline unsigned input_byte(struct input *in) { return in->at < in->end ? (unsigned char)*in->at++ : 0; }

/* A text of up to 255 bytes: its length, then it. */
static inline struct input_text input_text(struct input *in)
{
    size_t n = input_byte(in), left = (size_t)(in->end - in->at);
    struct input_text t = {in->at, n < left ? n : left};
    in->at += t.len;
    return t;
}

#endif
