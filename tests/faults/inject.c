/* Fault injection: one chosen call site of the server fails, everything else goes on.  Linked only into FLAVOR=faults,
 * where `ld --wrap` leads the calls of calls.h through here; the sources of the server know nothing of it.  libevent is
 * linked statically there, so its calls come through here as well.
 *
 * The test and the server share a file (FERMATA_FAULTS) that is mapped by both: a table of the call sites that were
 * reached, which the server fills, and a few orders, which the test writes while the server runs or before it starts.
 * Without the file nothing ever fails.
 *
 * A site is a function and the address that called it; for memory, which goes through fm_malloc, fm_buf_append and the
 * like, the four innermost addresses.  Looking a site up takes no lock, because a signal handler may come through here.
 * tests/faults/control.py has the other end, and the layout again. */
#include <Python.h> /* without PY_SSIZE_T_CLEAN, which would rename some of the functions that are wrapped */

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "calls.h"

#define SITES 4096
#define FRAMES 4
#define ORDERS 4
#define MAGIC 0x46415531u

/* What an order asks for: an errno, or one of these. */
enum {
    HOW_FAIL = -1,     /* a CPython function: MemoryError without being called; memory: NULL */
    HOW_SHORT = -2,    /* a transfer of one byte */
    HOW_OVERFLOW = -3, /* eventfd_write: the counter is at its maximum */
    HOW_INSIDE = -4,   /* a CPython function: the first allocation within fails */
    HOW_NOTHING = -5,  /* a transfer of nothing: 0 */
};

struct site {
    _Atomic uint64_t key; /* 0: a free slot */
    char function[40];
    uint64_t frames[FRAMES]; /* offsets from the beginning of the executable */
    _Atomic uint64_t calls;
    _Atomic uint64_t allocations; /* made by CPython within these calls */
};

struct order {
    _Atomic uint32_t site; /* slot + 1; 0: none */
    _Atomic int32_t how;
    _Atomic int32_t times; /* calls that fail; negative: without end */
    _Atomic uint32_t fired;
};

struct control {
    uint32_t magic, slots;
    _Atomic int64_t live; /* blocks that CPython holds */
    struct order orders[ORDERS];
    struct site sites[SITES];
};

static struct control *control;
extern char __executable_start, etext;

__attribute__((constructor)) static void map_control(void)
{
    void *frames[2];
    const char *path = getenv("FERMATA_FAULTS");
    if (!path)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        _exit(70);
    close(fd);
    backtrace(frames, 2); /* loads what it needs */
    control = p;
    control->slots = SITES;
    control->magic = MAGIC;
}

/* ---- sites ---- */

static struct site *find(const char *function, const uint64_t *frames, unsigned n)
{
    uint64_t key = 14695981039346656037u;
    for (const char *c = function; *c; c++)
        key = (key ^ (unsigned char)*c) * 1099511628211u;
    for (unsigned i = 0; i < n; i++)
        key = (key ^ frames[i]) * 1099511628211u;
    key |= 1;
    for (unsigned slot = (unsigned)(key >> 40) % SITES, tried = 0; tried < SITES; tried++, slot = (slot + 1) % SITES) {
        struct site *s = &control->sites[slot];
        uint64_t there = 0;
        if (atomic_compare_exchange_strong(&s->key, &there, key)) {
            strncpy(s->function, function, sizeof s->function - 1);
            memcpy(s->frames, frames, n * sizeof *frames);
            return s;
        }
        if (there == key)
            return s;
    }
    return NULL;
}

static struct site *site_of(const char *function, const void *caller)
{
    if (!control)
        return NULL;
    uint64_t frame = (uint64_t)((const char *)caller - &__executable_start);
    struct site *s = find(function, &frame, 1);
    if (s)
        atomic_fetch_add(&s->calls, 1);
    return s;
}

/* The same for memory: by the innermost four callers within the executable, of which `caller` is the first. */
__attribute__((noinline)) static struct site *deep_site_of(const char *function, const void *caller)
{
    void *found[FRAMES + 6];
    uint64_t frames[FRAMES];
    unsigned n = 0;
    if (!control)
        return NULL;
    int count = backtrace(found, FRAMES + 6), i = 0;
    while (i < count && found[i] != caller) /* frames of this file, and of the sanitizer */
        i++;
    for (; i < count && n < FRAMES; i++) {
        if ((char *)found[i] >= &__executable_start && (char *)found[i] < &etext)
            frames[n++] = (uint64_t)((char *)found[i] - &__executable_start);
    }
    struct site *s = find(function, frames, n);
    if (s)
        atomic_fetch_add(&s->calls, 1);
    return s;
}

/* What is to happen at this site now; 0: what always happens. */
static int due(const struct site *s)
{
    if (!s)
        return 0;
    uint32_t number = (uint32_t)(s - control->sites) + 1;
    for (unsigned i = 0; i < ORDERS; i++) {
        struct order *o = &control->orders[i];
        if (atomic_load(&o->site) != number)
            continue;
        int32_t times = atomic_load(&o->times);
        while (times > 0 && !atomic_compare_exchange_weak(&o->times, &times, times - 1))
            ;
        if (times == 0)
            continue;
        atomic_fetch_add(&o->fired, 1);
        return atomic_load(&o->how);
    }
    return 0;
}

static int fail(int how)
{
    errno = how;
    return -1;
}

/* ---- system calls ---- */

#define X(result, name, parameters, arguments)                                                                         \
    result __real_##name parameters;                                                                                   \
    result __wrap_##name parameters;                                                                                   \
    result __wrap_##name parameters                                                                                    \
    {                                                                                                                  \
        int how = due(site_of(#name, __builtin_return_address(0)));                                                    \
        return how > 0 ? fail(how) : __real_##name arguments;                                                          \
    }
FM_FAULT_SYSTEM_CALLS(X)
#undef X

#define X(name, parameters, arguments)                                                                                 \
    ssize_t __real_##name parameters;                                                                                  \
    ssize_t __wrap_##name parameters;                                                                                  \
    ssize_t __wrap_##name parameters                                                                                   \
    {                                                                                                                  \
        int how = due(site_of(#name, __builtin_return_address(0)));                                                    \
        if (how == HOW_SHORT && len > 1)                                                                               \
            len = 1;                                                                                                   \
        if (how == HOW_NOTHING)                                                                                        \
            return 0;                                                                                                  \
        return how > 0 ? fail(how) : __real_##name arguments;                                                          \
    }
FM_FAULT_TRANSFERS(X)
#undef X

ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    int how = due(site_of("sendmsg", __builtin_return_address(0)));
    for (size_t i = 0; how == HOW_SHORT && i < msg->msg_iovlen; i++) {
        struct iovec one = {msg->msg_iov[i].iov_base, 1};
        struct msghdr cut = *msg;
        cut.msg_iov = &one;
        cut.msg_iovlen = 1;
        if (msg->msg_iov[i].iov_len > 0)
            return __real_sendmsg(fd, &cut, flags);
    }
    return how > 0 ? fail(how) : __real_sendmsg(fd, msg, flags);
}

int __real_eventfd_write(int fd, eventfd_t value);
int __wrap_eventfd_write(int fd, eventfd_t value);
int __wrap_eventfd_write(int fd, eventfd_t value)
{
    int how = due(site_of("eventfd_write", __builtin_return_address(0)));
    if (how == HOW_OVERFLOW) { /* as if 2^64 - 2 wake-ups had come before: the write below fails with EAGAIN */
        eventfd_t before;
        (void)!__real_eventfd_read(fd, &before);
        (void)!__real_eventfd_write(fd, UINT64_MAX - 1);
    }
    return how > 0 ? fail(how) : __real_eventfd_write(fd, value);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    unsigned mode = va_arg(ap, unsigned);
    va_end(ap);
    int how = due(site_of("open", __builtin_return_address(0)));
    return how > 0 ? fail(how) : __real_open(path, flags, mode);
}

int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
    int how = due(site_of("ioctl", __builtin_return_address(0)));
    return how > 0 ? fail(how) : __real_ioctl(fd, request, argument);
}

int __real_fcntl(int fd, int command, void *argument);
int __wrap_fcntl(int fd, int command, void *argument);
int __wrap_fcntl(int fd, int command, void *argument)
{
    int how = due(site_of("fcntl", __builtin_return_address(0)));
    return how > 0 ? fail(how) : __real_fcntl(fd, command, argument);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    int how = due(site_of("pthread_create", __builtin_return_address(0)));
    return how > 0 ? how : __real_pthread_create(thread, attr, fn, arg);
}

/* ---- memory ---- */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    if (due(deep_site_of("malloc", __builtin_return_address(0))) == 0)
        return __real_malloc(size);
    errno = ENOMEM;
    return NULL;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    if (due(deep_site_of("calloc", __builtin_return_address(0))) == 0)
        return __real_calloc(n, size);
    errno = ENOMEM;
    return NULL;
}

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size)
{
    if (due(deep_site_of("realloc", __builtin_return_address(0))) == 0)
        return __real_realloc(p, size);
    errno = ENOMEM;
    return NULL;
}

/* ---- CPython ---- */

static _Thread_local struct {
    struct site *site; /* whose call is under way in this thread */
    int fail_inside;   /* its next allocation fails */
} call;

#define TEN void *a, void *b, void *c, void *d, void *e, void *f, void *g, void *h, void *i, void *j

/* All of them take integers and pointers, at most ten, so one wrapper fits all: what is more than a function takes is
 * not looked at, and variadic ones find theirs where they expect them. */
#define WRAP(name, failure)                                                                                            \
    void *__real_##name(TEN);                                                                                          \
    void *__wrap_##name(TEN);                                                                                          \
    void *__wrap_##name(TEN)                                                                                           \
    {                                                                                                                  \
        struct site *s = site_of(#name, __builtin_return_address(0)), *outer = call.site;                              \
        int how = due(s), outer_fails = call.fail_inside;                                                              \
        if (how == HOW_FAIL) {                                                                                         \
            if (strncmp(#name, "PyMem_", 6) != 0)                                                                    \
                PyErr_NoMemory();                                                                                      \
            return failure;                                                                                            \
        }                                                                                                              \
        call.site = s;                                                                                                 \
        call.fail_inside = how == HOW_INSIDE;                                                                          \
        void *answer = __real_##name(a, b, c, d, e, f, g, h, i, j);                                                    \
        call.site = outer;                                                                                             \
        call.fail_inside = outer_fails;                                                                                \
        return answer;                                                                                                 \
    }

#define X(name) WRAP(name, NULL)
FM_FAULT_PY_POINTERS(X)
FM_FAULT_PY_TRUTHS(X)
#undef X
#define X(name) WRAP(name, (void *)(intptr_t)-1)
FM_FAULT_PY_NUMBERS(X)
#undef X

int __real__PyBytes_Resize(PyObject **bytes, Py_ssize_t size);
int __wrap__PyBytes_Resize(PyObject **bytes, Py_ssize_t size);
int __wrap__PyBytes_Resize(PyObject **bytes, Py_ssize_t size)
{
    if (due(site_of("_PyBytes_Resize", __builtin_return_address(0))) == 0)
        return __real__PyBytes_Resize(bytes, size);
    Py_CLEAR(*bytes);
    PyErr_NoMemory();
    return -1;
}

static PyMemAllocatorEx real_allocators[2]; /* PYMEM_DOMAIN_MEM and PYMEM_DOMAIN_OBJ */

static int fails_now(void)
{
    if (call.site)
        atomic_fetch_add(&call.site->allocations, 1);
    int fails = call.fail_inside;
    call.fail_inside = 0;
    return fails;
}

static void *py_malloc(void *ctx, size_t size)
{
    PyMemAllocatorEx *real = ctx;
    void *p = fails_now() ? NULL : real->malloc(real->ctx, size);
    atomic_fetch_add(&control->live, p != NULL);
    return p;
}

static void *py_calloc(void *ctx, size_t n, size_t size)
{
    PyMemAllocatorEx *real = ctx;
    void *p = fails_now() ? NULL : real->calloc(real->ctx, n, size);
    atomic_fetch_add(&control->live, p != NULL);
    return p;
}

static void *py_realloc(void *ctx, void *old, size_t size)
{
    PyMemAllocatorEx *real = ctx;
    void *p = fails_now() ? NULL : real->realloc(real->ctx, old, size);
    atomic_fetch_add(&control->live, p != NULL && old == NULL);
    return p;
}

static void py_free(void *ctx, void *p)
{
    PyMemAllocatorEx *real = ctx;
    atomic_fetch_sub(&control->live, p != NULL);
    real->free(real->ctx, p);
}

PyStatus __real_Py_InitializeFromConfig(const PyConfig *config);
PyStatus __wrap_Py_InitializeFromConfig(const PyConfig *config);
PyStatus __wrap_Py_InitializeFromConfig(const PyConfig *config)
{
    if (due(site_of("Py_InitializeFromConfig", __builtin_return_address(0))))
        return PyStatus_NoMemory();
    PyStatus status = __real_Py_InitializeFromConfig(config);
    if (PyStatus_Exception(status) || !control)
        return status;
    for (int i = 0; i < 2; i++) {
        PyMemAllocatorDomain domain = i == 0 ? PYMEM_DOMAIN_MEM : PYMEM_DOMAIN_OBJ;
        PyMem_GetAllocator(domain, &real_allocators[i]);
        PyMemAllocatorEx ours = {&real_allocators[i], py_malloc, py_calloc, py_realloc, py_free};
        PyMem_SetAllocator(domain, &ours);
    }
    return status;
}
