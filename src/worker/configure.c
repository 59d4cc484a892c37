/* Command line, environment and file together; see worker/configure.h. */
#include "fermata/worker/configure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fermata/config/processors.h"
#include "fermata/py/interp.h"
#include "fermata/util/err.h"
#include "fermata/util/log.h"
#include "fermata/worker/hooks.h"
#include "fermata/worker/reader.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int shared_fd = -1; /* in an arbiter; the main thread's */

/* ---- what an arbiter hands over: "PID\0" and the settings, in a sealed file of memory ---- */

static int make_file(const struct fm_options *o)
{
    size_t size;
    const char *settings = fm_options_settings(o, &size);
    char pid[24];
    size_t n = (size_t)snprintf(pid, sizeof pid, "%ld", (long)getpid()) + 1;
    int fd = memfd_create("fermata-settings", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, pid, n) != (ssize_t)n || write(fd, settings, size) != (ssize_t)size ||
        fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        int err = errno ? -errno : -EIO;
        close(fd);
        return err;
    }
    return fd;
}

int fm_configure_share(const struct fm_options *o)
{
    char text[24];
    if (!o->config)
        return 0;
    shared_fd = make_file(o);
    if (shared_fd < 0)
        return shared_fd;
    fcntl(shared_fd, F_SETFD, 0);
    snprintf(text, sizeof text, "%d", shared_fd);
    return setenv(FM_SETTINGS_VARIABLE, text, 1) == 0 ? 0 : -errno;
}

int fm_configure_share_again(const struct fm_options *o)
{
    int fd = make_file(o), before = fd < 0 ? fd : fcntl(shared_fd, F_DUPFD_CLOEXEC, 3);
    if (before >= 0)
        dup2(fd, shared_fd);
    if (fd >= 0)
        close(fd);
    return before < 0 && fd >= 0 ? -errno : before;
}

void fm_configure_back(int before)
{
    dup2(before, shared_fd);
    close(before);
}

/* The file of that number, if it is one that an arbiter makes, or -1. */
static int shared_with_us(const char *number, struct stat *st)
{
    char *end;
    long fd = number ? strtol(number, &end, 10) : -1;
    if (fd <= STDERR_FILENO || fd > 1 << 20 || *end || fstat((int)fd, st) != 0)
        return -1;
    int seals = fcntl((int)fd, F_GET_SEALS);
    return seals >= 0 && (seals & SEALS) == SEALS ? (int)fd : -1;
}

/* What this process's parent has handed to it, of malloc, or NULL.  The variable and the descriptor are gone then. */
static char *take_file(size_t *size)
{
    struct stat st;
    int fd = shared_with_us(getenv(FM_SETTINGS_VARIABLE), &st);
    unsetenv(FM_SETTINGS_VARIABLE);
    if (fd < 0)
        return NULL;
    size_t all = (size_t)st.st_size;
    char *text = fm_malloc(all + 1), *settings = NULL;
    text[all] = '\0';
    size_t n = pread(fd, text, all, 0) == st.st_size ? strlen(text) + 1 : all + 1;
    if (n <= all && strtol(text, NULL, 10) == (long)getppid()) { /* not that of an arbiter that was executed anew */
        *size = all - n;
        settings = fm_malloc(*size + 1);
        memcpy(settings, text + n, *size);
    }
    free(text);
    close(fd);
    return settings;
}

/* ---- a process that reads it ---- */

static enum fm_options_outcome not_read(struct fm_options *o, int err)
{
    fprintf(stderr, "fermata: %s: %s\n", o->config,
            err == -EPIPE ? "what reads it has ended without having read it" : fm_strerror(err));
    return FM_OPTIONS_WRONG;
}

/* Waits for it: as long as nothing serves there is nothing else to do. */
static enum fm_options_outcome read_file(struct fm_options *o, char **argv)
{
    struct fm_reader reader;
    char **again = fm_interp_again(argv);
    if (!again)
        return FM_OPTIONS_WRONG;
    int directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int err = directory < 0 ? -errno : fm_reader_start(&reader, again, directory);
    if (directory >= 0)
        close(directory);
    if (err != 0)
        return not_read(o, err);
    do
        err = fm_reader_read(&reader);
    while (err == 0);
    pid_t pid = reader.process.pid;
    size_t size = fm_buf_size(&reader.text);
    char *settings = err == 1 ? fm_malloc(size) : NULL;
    if (settings)
        memcpy(settings, fm_buf_head(&reader.text), size);
    fm_reader_end(&reader);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return settings ? fm_options_configure(o, settings, size, false) : not_read(o, err);
}

void fm_configure_warn(const struct fm_options *o)
{
    const char *text;
    for (size_t i = 0; (text = fm_options_warning(o, i)); i++)
        fm_warn("%s", text);
    if (!o->config && access("gunicorn.conf.py", F_OK) == 0)
        fm_info("There is a gunicorn.conf.py here, which is not read: -c gunicorn.conf.py names it");
}

enum fm_options_outcome fm_configure(struct fm_options *o, int argc, char **argv)
{
    int reader_fd = fm_again_taken(FM_READER_VARIABLE), hooks_fd = fm_again_taken(FM_HOOKS_VARIABLE);
    size_t size;
    char *settings = take_file(&size);
    if (fm_interp_is_free_threaded())
        fm_options_default_threads(fm_processors_usable());
    enum fm_options_outcome outcome = fm_options_parse(o, argc, argv, fm_interp_version());
    if (outcome == FM_OPTIONS_RUN && o->config && reader_fd >= 0)
        _exit(fm_reader_be(o, argv[0], reader_fd));
    if (outcome != FM_OPTIONS_RUN || !o->config) {
        free(settings);
        return outcome;
    }
    outcome = settings ? fm_options_configure(o, settings, size, false) : read_file(o, argv);
    if (outcome == FM_OPTIONS_RUN && hooks_fd >= 0)
        _exit(fm_hooks_be(o, argv[0], hooks_fd));
    return outcome;
}
