/* Exceptions and stacks as text, through the traceback module: it knows chains, notes and groups. */
#include "fermata/py/python.h"

#include "fermata/py/error.h"
#include "fermata/py/interp.h"
#include "fermata/util/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- text for the log ----
 *
 * What an exception says may come from a client.  It must not look like a record of the log, nor command the terminal
 * where it is read, nor fill the disk. */

#define LONGEST (64 * 1024) /* bytes of a text that are logged: half of it from the beginning, half from the end */

struct out {
    char *text;
    size_t len;
};

static void put(struct out *o, const char *p, size_t n)
{
    memcpy(o->text + o->len, p, n);
    o->len += n;
}

/* How many bytes make what a terminal obeys or takes for the end of a line; 0 if it is neither: the control characters
 * of ASCII without the line feed and the tab, those of UTF-8 (U+0080 to U+009F), and U+2028 and U+2029. */
static size_t control(const unsigned char *s, size_t len)
{
    if (*s < 0x20 || *s == 0x7f)
        return *s != '\n' && *s != '\t';
    if (*s == 0xc2 && len > 1 && s[1] >= 0x80 && s[1] <= 0x9f)
        return 2;
    return *s == 0xe2 && len > 2 && s[1] == 0x80 && (s[2] & 0xfe) == 0xa8 ? 3 : 0;
}

/* Takes up to six times the bytes. */
static void put_lines(struct out *o, const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '[' && (i == 0 || s[i - 1] == '\n'))
            put(o, " ", 1); /* a record begins with a bracket, and nothing else does */
        size_t n = control(s + i, len - i);
        if (n == 0)
            put(o, text + i, 1);
        for (size_t end = i + n; i < end; i++) {
            char escaped[4];
            fm_escape_byte(s[i], escaped);
            put(o, escaped, sizeof escaped);
        }
        i -= n > 0;
    }
}

/* What is logged of a text; to be freed with PyMem_RawFree.  NULL if there is no memory. */
static char *for_log(const char *text, size_t len, size_t *out_len)
{
    char note[64];
    size_t first = len > LONGEST ? LONGEST / 2 : len, last = len - first > LONGEST / 2 ? LONGEST / 2 : len - first;
    struct out o = {PyMem_RawMalloc(6 * (first + last) + sizeof note), 0};
    if (!o.text)
        return NULL;
    put_lines(&o, text, first);
    int n = snprintf(note, sizeof note, "\n... %zu bytes are left out ...\n", len - first - last);
    if (first + last < len)
        put(&o, note, (size_t)n);
    put_lines(&o, text + len - last, last);
    *out_len = o.len;
    return o.text;
}

/* Joins the list of str that traceback's functions return and logs it; steals lines (NULL: an exception is set). */
static void log_lines(enum fm_log_level level, const char *head, PyObject *lines)
{
    PyObject *empty = PyUnicode_FromString("");
    PyObject *joined = lines && empty ? PyUnicode_Join(empty, lines) : NULL;
    PyObject *bytes = joined ? PyUnicode_AsEncodedString(joined, "utf-8", "backslashreplace") : NULL;
    PyErr_Clear();
    size_t len = 0;
    char *text = bytes ? for_log(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), &len) : NULL;
    PyThreadState *state = PyEval_SaveThread(); /* a pipe or a disk may take its time */
    if (text)
        fm_log_text(level, text, len, "%s", head);
    else
        fm_log(level, "%s (its traceback cannot be shown)", head);
    PyEval_RestoreThread(state);
    PyMem_RawFree(text);
    Py_XDECREF(bytes);
    Py_XDECREF(joined);
    Py_XDECREF(empty);
    Py_XDECREF(lines);
}

static PyObject *format_with(const char *function, const char *format, ...)
{
    va_list ap;
    PyObject *module = PyImport_ImportModule("traceback");
    PyObject *fn = module ? PyObject_GetAttrString(module, function) : NULL;
    va_start(ap, format);
    PyObject *args = fn ? Py_VaBuildValue(format, ap) : NULL;
    va_end(ap);
    PyObject *lines = args ? PyObject_CallObject(fn, args) : NULL;
    Py_XDECREF(args);
    Py_XDECREF(fn);
    Py_XDECREF(module);
    return lines;
}

void fm_py_log_exception(enum fm_log_level level, const char *fmt, ...)
{
    char head[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    log_lines(level, head,
              format_with("format_exception", "(OOO)", type ? type : Py_None, value ? value : Py_None,
                          tb ? tb : Py_None));
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(tb);
}

/* Without a GIL the thread may go on while its frames are looked at, of which CPython says that it is not safe. */
static bool is_out_of_reach(const char *what) FM_NEEDS_GIL
{
    bool is = !fm_interp_stops_others();
    if (is)
        fm_log(FM_LOG_WARNING, "%s the stack cannot be shown, as there is no GIL that would stop the thread", what);
    return is;
}

void fm_py_log_stack(unsigned long ident, const char *fmt, ...)
{
    char head[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    if (is_out_of_reach(head))
        return;
    PyObject *sys = fm_loaded("sys");
    PyObject *frames = sys ? PyObject_CallMethod(sys, "_current_frames", NULL) : NULL;
    PyObject *key = PyLong_FromUnsignedLong(ident), *frame = NULL;
    if (frames && key && fm_dict_get(frames, key, &frame) > 0)
        log_lines(FM_LOG_WARNING, head, format_with("format_stack", "(O)", frame));
    else
        fm_log(FM_LOG_WARNING, "%s", head);
    PyErr_Clear();
    Py_XDECREF(frame);
    Py_XDECREF(key);
    Py_XDECREF(frames);
    Py_XDECREF(sys);
}

/* "fermata-1", or "?". */
static void name_of(PyObject *threads, PyObject *ident, char *name, size_t size)
{
    snprintf(name, size, "?");
    for (Py_ssize_t i = 0; threads && PyList_Check(threads) && i < PyList_GET_SIZE(threads); i++) {
        PyObject *thread = Py_NewRef(PyList_GET_ITEM(threads, i)); /* a new list: no other thread knows it */
        PyObject *its = PyObject_GetAttrString(thread, "ident"), *text = PyObject_GetAttrString(thread, "name");
        const char *utf8 = text && PyUnicode_Check(text) ? PyUnicode_AsUTF8(text) : NULL;
        if (utf8 && its && PyObject_RichCompareBool(its, ident, Py_EQ) == 1)
            snprintf(name, size, "%s", utf8);
        PyErr_Clear();
        Py_XDECREF(text);
        Py_XDECREF(its);
        Py_DECREF(thread);
    }
}

void fm_py_log_stacks(const char *what)
{
    char head[1024], name[100];
    snprintf(head, sizeof head, "%s:", what);
    if (is_out_of_reach(head))
        return;
    PyObject *sys = fm_loaded("sys"), *module = fm_loaded("threading");
    PyObject *frames = sys ? PyObject_CallMethod(sys, "_current_frames", NULL) : NULL;
    PyObject *threads = module ? PyObject_CallMethod(module, "enumerate", NULL) : NULL;
    PyObject *own = module ? PyObject_CallMethod(module, "get_ident", NULL) : NULL;
    PyObject *ident, *frame; /* borrowed; the dictionary is a copy that no other thread knows */
    PyErr_Clear();
    for (Py_ssize_t at = 0; frames && PyDict_Check(frames) && PyDict_Next(frames, &at, &ident, &frame);) {
        if (own && PyObject_RichCompareBool(own, ident, Py_EQ) == 1)
            continue;
        name_of(threads, ident, name, sizeof name);
        snprintf(head, sizeof head, "%s: this is where thread %s is:", what, name);
        log_lines(FM_LOG_WARNING, head, format_with("format_stack", "(O)", frame));
    }
    PyErr_Clear();
    Py_XDECREF(own);
    Py_XDECREF(threads);
    Py_XDECREF(frames);
    Py_XDECREF(module);
    Py_XDECREF(sys);
}
