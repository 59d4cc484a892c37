/* One request at a time, blocking. */
#include "load.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void ask_close(struct asker *a)
{
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
}

int ask_open(struct asker *a, const struct target *t, double seconds)
{
    a->target = t;
    a->fd = dial(t, 0, seconds);
    return a->fd < 0 ? -1 : 0;
}

static void keep_body(void *arg, const char *data, size_t n)
{
    struct asker *a = arg;
    size_t had = strlen(a->body), room = sizeof a->body - 1 - had;
    memcpy(a->body + had, data, n < room ? n : room);
    a->body[had + (n < room ? n : room)] = '\0';
}

static int receive(struct asker *a, struct reply *r)
{
    char input[16 * 1024];
    while (r->state != REPLY_COMPLETE) {
        ssize_t n = recv(a->fd, input, sizeof input, 0);
        if (n == 0 && reply_ended(r))
            return 0;
        if (n <= 0 || reply_feed(r, input, (size_t)n, keep_body, a) != n)
            return -1;
    }
    return 0;
}

int ask_send(struct asker *a, const char *request)
{
    size_t n = strlen(request);
    return send(a->fd, request, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

int ask_receive(struct asker *a)
{
    struct reply r = {0};
    a->body[0] = '\0';
    return receive(a, &r) == 0 && r.status == 200 ? 0 : -1;
}

int ask(struct asker *a, const char *request)
{
    if (ask_send(a, request) == 0 && ask_receive(a) == 0)
        return 0;
    ask_close(a);
    return -1;
}

int ask_once(const struct target *t, const char *request, char body[64], double seconds)
{
    struct asker a;
    if (ask_open(&a, t, seconds) != 0 || ask(&a, request) != 0)
        return -1;
    memcpy(body, a.body, sizeof a.body);
    ask_close(&a);
    return 0;
}
