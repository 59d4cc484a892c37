/* Which server is asked; see command/target.h. */
#include "fermata/command/target.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/admin/published.h"
#include "fermata/util/err.h"

static bool wrong(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool wrong(char *why, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, FM_SENTENCE, format, ap);
    va_end(ap);
    return false;
}

/* ---- an address ---- */

/* HOST:PORT of an URL, whose port may be left out. */
static bool read_url(struct fm_target *t, const char *text, char *why)
{
    const char *end = text + strcspn(text, "/?#");
    if (end[0] != '\0' && strcmp(end, "/") != 0)
        return wrong(why, "http://%s: the address ends behind the port: the pages are known", text);
    if (end == text || *text == ':')
        return wrong(why, "http://%s: there is no host in it", text);
    const char *bracket = memchr(text, ']', (size_t)(end - text));
    const char *colon = strchr(bracket ? bracket : text, ':');
    snprintf(t->host, sizeof t->host, "%.*s%s", (int)(end - text), text, colon && colon < end ? "" : ":80");
    return true;
}

bool fm_target_parse(struct fm_target *t, const char *text, char *why)
{
    static const char http[] = "http://";
    const char *reason;
    memset(t, 0, sizeof *t);
    if (strlen(text) >= sizeof t->text - sizeof http)
        return wrong(why, "%.40s...: the address is too long", text);
    if (strncmp(text, "https://", 8) == 0)
        return wrong(why, "%s: the admin port speaks http://", text);
    if (strncmp(text, http, sizeof http - 1) == 0) {
        if (!read_url(t, text + sizeof http - 1, why))
            return false;
    } else {
        snprintf(t->host, sizeof t->host, "%s%.500s", *text == ':' ? "localhost" : "", text);
    }
    if (fm_addr_parse(t->host, &t->addr, &reason) != 0)
        return wrong(why, "%s: %s", text, reason);
    if (t->addr.is_fd)
        return wrong(why, "%s: HOST:PORT, http://HOST:PORT or unix:PATH", text);
    if (t->addr.u.sa.sa_family == AF_UNIX) {
        snprintf(t->text, sizeof t->text, "%s", t->host);
        snprintf(t->host, sizeof t->host, "localhost");
    } else {
        snprintf(t->text, sizeof t->text, "http://%.500s", t->host);
    }
    return true;
}

/* ---- a process ---- */

/* The parent of a process, or 0. */
static long parent_of(long pid)
{
    char path[40], text[512] = "";
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    if (file) {
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
    }
    const char *behind = strrchr(text, ')'); /* of its name, which may have any character in it */
    return behind && strlen(behind) > 4 ? strtol(behind + 4, NULL, 10) : 0;
}

bool fm_target_of_process(struct fm_target *t, long pid, char *why)
{
    char text[FM_PUBLISHED_SIZE];
    switch (fm_published_read((pid_t)pid, text)) {
    case 0: return fm_target_parse(t, text, why);
    case -ESRCH: return wrong(why, "there is no process %ld", pid);
    case -EACCES: return wrong(why, "process %ld is another user's", pid);
    case -EXDEV:
        return wrong(why, "process %ld has %s of its own, in which its admin port is %s: ask there", pid,
                     strncmp(text, "unix:/", 6) == 0 ? "files" : "a network", text);
    default: break;
    }
    long parent = parent_of(pid);
    if (parent > 0 && fm_published_read((pid_t)parent, text) == 0)
        return wrong(why, "process %ld has no admin port, but its parent has one, for all its workers: --pid %ld", pid,
                     parent);
    return wrong(why, "process %ld has no admin port: a server has one with --admin-bind ADDRESS", pid);
}

/* ---- the only one ---- */

struct found {
    unsigned n;
    char first[FM_PUBLISHED_SIZE];
    char all[FM_SENTENCE / 2];
};

static bool see(void *ctx, pid_t pid, const char *text)
{
    struct found *f = ctx;
    size_t len = strlen(f->all);
    if (f->n++ == 0)
        snprintf(f->first, sizeof f->first, "%s", text);
    snprintf(f->all + len, sizeof f->all - len, "%s%ld at %s", len ? ", " : "", (long)pid, text);
    return f->n < 6;
}

bool fm_target_find(struct fm_target *t, char *why)
{
    struct found f = {0};
    fm_published_each(see, &f);
    if (f.n == 0)
        return wrong(why, "no server of this user runs with --admin-bind here: name one by its address or --pid");
    if (f.n > 1)
        return wrong(why, "several servers run (%s): name one by its address or --pid", f.all);
    return fm_target_parse(t, f.first, why);
}
