/* The arbiter's state as text; see arbiter/state.h. */
#include "fermata/arbiter/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/util/text.h"
#include "fermata/worker/listen.h"

#define FORM 2 /* another number: lines mean something else, and a program that reads this one cannot read it */

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define COUNTED (sizeof(struct fm_counters_sum) / sizeof(uint64_t))

/* ---- writing ---- */

static void write_roster(FILE *f, const struct fm_roster *r)
{
    fprintf(f, "roster %u %u %d %d %u %" PRIu32 "\n", r->wanted, r->generation, r->proven, r->ever_ready,
            (unsigned)r->reload, r->random);
    for (unsigned i = 0; i < COUNT_OF(r->slots); i++)
        if (r->slots[i].delay > 0 || r->slots[i].exits > 0)
            fprintf(f, "slot %u %" PRIu64 " %" PRIu64 " %u\n", i, r->slots[i].delay, r->slots[i].start_at,
                    r->slots[i].exits);
    for (unsigned i = 0; i < COUNT_OF(r->replaced); i++)
        if (r->replaced[i] > 0)
            fprintf(f, "replaced %u %" PRIu64 "\n", i, r->replaced[i]);
    fprintf(f, "memory %" PRIu64 "\n", r->out_of_memory);
    for (unsigned i = 0; i < COUNT_OF(r->workers); i++) {
        const struct fm_roster_worker *w = &r->workers[i];
        if (w->pid > 0)
            fprintf(f, "worker %ld %u %u %u %d %" PRIu64 " %" PRIu64 " %u %d %" PRIu64 "\n", (long)w->pid, w->slot,
                    w->generation, w->state, w->was_ready, w->since, w->kill_at, w->why, w->quick, w->boot);
    }
}

static void write_children(FILE *f, const struct fm_children *c)
{
    const uint64_t *ended = (const uint64_t *)&c->ended;
    fprintf(f, "counters %" PRIu64, fm_counters_layout()); /* before those whose counters they are */
    for (size_t i = 0; i < COUNTED; i++)
        fprintf(f, " %" PRIu64, ended[i]);
    putc('\n', f);
    for (unsigned i = 0; i < COUNT_OF(c->ended_requests); i++)
        if (c->ended_requests[i] > 0)
            fprintf(f, "requests %u %" PRIu64 "\n", i, c->ended_requests[i]);
    for (unsigned i = 0; i < COUNT_OF(c->all); i++)
        if (c->all[i].pid > 0)
            fprintf(f, "child %ld %u %d %d %d\n", (long)c->all[i].pid, c->all[i].slot, c->all[i].control_fd,
                    c->all[i].counters_fd, c->all[i].shows);
}

/* A path may have any byte in it, so it is written in hexadecimal digits. */
static void write_listener(FILE *f, const char *key, int fd, const struct fm_listener *l)
{
    fprintf(f, "%s %d %d %" PRIu64 " %" PRIu64 " ", key, fd, l->lent, (uint64_t)l->device, (uint64_t)l->inode);
    for (const char *c = l->inode ? l->path : ""; *c; c++)
        fprintf(f, "%02x", (unsigned char)*c);
    fputs("-\n", f);
}

int fm_state_write(const struct fm_state *s)
{
    int fd = memfd_create("fermata-state", MFD_CLOEXEC), copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    FILE *f = copy < 0 ? NULL : fdopen(copy, "w");
    if (!f) {
        int err = -errno;
        if (copy >= 0)
            close(copy);
        if (fd >= 0)
            close(fd);
        return err;
    }
    fprintf(f, "fermata %d %ld\n", FORM, (long)getpid());
    write_roster(f, s->roster);
    write_children(f, s->children);
    for (unsigned i = 0; i < s->conns->nbound; i++)
        write_listener(f, "listener", s->conns->bound[i].listener.fd, &s->conns->bound[i].listener);
    fprintf(f, "admin %d\n", s->admin_fd);
    if (s->admin)
        write_listener(f, "admin-path", s->admin_fd, s->admin);
    bool failed = ferror(f);
    if (fclose(f) != 0 || failed) {
        close(fd);
        return -ENOSPC;
    }
    return fd;
}

/* ---- reading: each takes what follows a key; false if it is not what was written ---- */

static bool read_roster(struct fm_state *s, const char *text)
{
    struct fm_roster *r = s->roster;
    int proven, ever;
    unsigned reload;
    if (sscanf(text, "%u %u %d %d %u %" SCNu32, &r->wanted, &r->generation, &proven, &ever, &reload, &r->random) != 6)
        return false;
    r->proven = proven;
    r->ever_ready = ever;
    r->reload = reload <= FM_RELOAD_FAILED ? (enum fm_reload)reload : FM_RELOAD_NONE;
    r->slots_used = r->wanted;
    return r->wanted >= 1 && r->wanted <= FM_WORKERS_MAX;
}

static bool read_slot(struct fm_state *s, const char *text)
{
    unsigned i;
    struct fm_roster_slot slot = {0};
    if (sscanf(text, "%u %" SCNu64 " %" SCNu64 " %u", &i, &slot.delay, &slot.start_at, &slot.exits) != 4 ||
        i >= FM_WORKERS_MAX)
        return false;
    s->roster->slots[i] = slot;
    return true;
}

/* Of "replaced" and "requests": a number of a place.  One that there is not is of a program that knows more. */
static bool read_place(uint64_t *places, size_t n, const char *text)
{
    unsigned i;
    uint64_t number;
    if (sscanf(text, "%u %" SCNu64, &i, &number) != 2)
        return false;
    if (i < n)
        places[i] = number;
    return true;
}

static bool read_worker(struct fm_state *s, const char *text)
{
    struct fm_roster *r = s->roster;
    struct fm_roster_worker w = {0};
    long pid;
    unsigned state, why;
    int was_ready, quick;
    if (sscanf(text, "%ld %u %u %u %d %" SCNu64 " %" SCNu64 " %u %d %" SCNu64, &pid, &w.slot, &w.generation, &state,
               &was_ready, &w.since, &w.kill_at, &why, &quick, &w.boot) != 10 ||
        pid <= 0 || w.slot >= FM_WORKERS_MAX || state >= FM_WORKER_STATE_COUNT || why >= FM_WHY_COUNT)
        return false;
    w.why = (uint8_t)why;
    w.quick = quick;
    w.pid = (pid_t)pid;
    w.state = (uint8_t)state;
    w.was_ready = was_ready;
    for (size_t i = 0; i < COUNT_OF(r->workers); i++)
        if (r->workers[i].pid == 0) {
            r->workers[i] = w;
            return true;
        }
    return false;
}

/* A program that knew no more than four of them wrote four, and reads four. */
static bool read_child(struct fm_state *s, const char *text) FM_ON_LOOP
{
    long pid;
    unsigned slot;
    int control_fd, counters_fd, shows = 0;
    return sscanf(text, "%ld %u %d %d %d", &pid, &slot, &control_fd, &counters_fd, &shows) >= 4 && pid > 0 &&
           fm_children_adopt(s->children, (pid_t)pid, slot, control_fd, counters_fd, shows) == 0;
}

/* Where the two programs count different things, counters begin anew, as for a server that was started again. */
static bool read_counters(struct fm_state *s, const char *text)
{
    uint64_t *ended = (uint64_t *)&s->children->ended;
    char *at;
    s->children->same_counters = strtoull(text, &at, 10) == fm_counters_layout();
    for (size_t i = 0; s->children->same_counters && i < COUNTED; i++) {
        char *end;
        ended[i] = strtoull(at, &end, 10);
        if (end == at)
            return false;
        at = end;
    }
    return true;
}

static bool read_path(struct fm_listener *l, const char *hex)
{
    size_t n = 0;
    for (; *hex && *hex != '-'; hex += 2) {
        int high = fm_hex_value(hex[0]), low = high < 0 ? -1 : fm_hex_value(hex[1]);
        if (low < 0 || n + 1 >= sizeof l->path)
            return false;
        l->path[n++] = (char)(high << 4 | low);
    }
    l->path[n] = '\0';
    return *hex == '-';
}

/* What write_listener has written, into *l but for the descriptor. */
static bool read_listener(struct fm_listener *l, int *fd, const char *text)
{
    int lent, at = 0;
    uint64_t device, inode;
    if (sscanf(text, "%d %d %" SCNu64 " %" SCNu64 " %n", fd, &lent, &device, &inode, &at) != 4 || at == 0)
        return false;
    l->lent = lent;
    l->device = (dev_t)device;
    l->inode = (ino_t)inode;
    return read_path(l, text + at);
}

static bool adopt_listener(struct fm_state *s, const struct fm_options *o, const char *text)
{
    static struct fm_listener read; /* of which the path is long; one thread reads */
    int fd;
    if (!read_listener(&read, &fd, text) || s->conns->nbound == FM_MAX_LISTENERS ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fm_listen_adopt(s->conns, o, &fd, 1) != 0)
        return false;
    struct fm_listener *l = &s->conns->bound[s->conns->nbound - 1].listener;
    l->lent = read.lent;
    fm_listener_take_path(l, &read);
    return true;
}

/* One line. */
static bool read_line(struct fm_state *s, const struct fm_options *o, const char *line) FM_ON_LOOP
{
    size_t key = strcspn(line, " ");
    const char *text = line[key] ? line + key + 1 : "";
#define IS(name) (key == sizeof(name) - 1 && memcmp(line, name, key) == 0)
    if (IS("roster"))
        return read_roster(s, text);
    if (IS("slot"))
        return read_slot(s, text);
    if (IS("replaced"))
        return read_place(s->roster->replaced, COUNT_OF(s->roster->replaced), text);
    if (IS("memory"))
        return sscanf(text, "%" SCNu64, &s->roster->out_of_memory) == 1;
    if (IS("requests"))
        return read_place(s->children->ended_requests, COUNT_OF(s->children->ended_requests), text);
    if (IS("worker"))
        return read_worker(s, text);
    if (IS("child"))
        return read_child(s, text);
    if (IS("counters"))
        return read_counters(s, text);
    if (IS("listener"))
        return adopt_listener(s, o, text);
    if (IS("admin"))
        return sscanf(text, "%d", &s->admin_fd) == 1;
    if (IS("admin-path")) {
        int fd;
        return read_listener(&s->admin_before, &fd, text);
    }
#undef IS
    return true;
}

int fm_state_read(struct fm_state *s, int fd, const struct fm_options *o)
{
    char *line = NULL;
    size_t size = 0;
    int form = 0;
    bool good = false, any = false; /* at the end of a file that is empty getline leaves memory without a text */
    FILE *f = lseek(fd, 0, SEEK_SET) == 0 ? fdopen(fd, "r") : NULL;
    for (ssize_t n; f && (n = getline(&line, &size, f)) > 0;) {
        line[n - 1] = '\0';
        any = true;
        good = form > 0 ? read_line(s, o, line) : sscanf(line, "fermata %d", &form) == 1 && form == FORM;
        if (!good)
            break;
    }
    good = good && s->roster->ever_ready && s->conns->nbound > 0;
    if (!good)
        fm_log(FM_LOG_CRITICAL, "the state of the arbiter before cannot be read at: %s", any ? line : "its begin");
    free(line);
    if (f)
        fclose(f);
    return good ? 0 : FM_EINVAL;
}

/* ---- descriptors ---- */

static void keep(int fd, bool open)
{
    if (fd >= 0)
        fcntl(fd, F_SETFD, open ? 0 : FD_CLOEXEC);
}

void fm_state_keep_open(const struct fm_state *s, bool open)
{
    for (unsigned i = 0; i < s->conns->nbound; i++)
        keep(s->conns->bound[i].listener.fd, open);
    for (size_t i = 0; i < COUNT_OF(s->children->all); i++)
        if (s->children->all[i].pid > 0) {
            keep(s->children->all[i].control_fd, open);
            keep(s->children->all[i].counters_fd, open);
        }
    keep(s->admin_fd, open);
}
