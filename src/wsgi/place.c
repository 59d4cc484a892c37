/* Where a request waits: the line of the application's code that its generator has stopped at.
 *
 * It is looked for when the request is parked, in the thread that has just got the future from the generator: that is
 * suspended and belongs to this thread alone, and the GIL is held anyway.  What is found is a number (util/places.h)
 * whose text is made when the place is seen for the first time, so that nothing of Python is needed to show it.
 *
 * From the iterator that the application has returned it goes inwards:
 *   - along `yield from`, as CPython knows what a generator delegates to;
 *   - through an object whose class says by __wsgi_plus_inner__ which of its attributes has the inner iterator;
 *   - through anything else by what it refers to, as the garbage collector sees it: wrappers of middleware, map, chain,
 *     a generator with a loop around another one.  What is found so is a guess.
 * Shown is the innermost line that is not of a library which stands between server and application.
 *
 * Nothing of the application's is called, but for a property that __wsgi_plus_inner__ may name. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#include "fermata/util/places.h"

#if PY_VERSION_HEX < 0x030b0000
#include <frameobject.h>
#endif

#define SLOTS (2 * FM_PLACES) /* a power of two */
#define CHAIN 64              /* generators, one in the other */
#define QUEUE 64              /* objects that are looked through for a generator */
#define VISITS 256            /* objects that are looked at meanwhile: a list may have millions */
#define HOPS 8                /* how often it is looked for another one */
#define IN_VAIN 8             /* after so many times a line is taken to be the innermost */
#define LINES 1024            /* that this is noted of; a power of two */
#define LARGE_DICT 16

struct fm_line {
    PyCodeObject *code;
    int at; /* offset of its instruction, in bytes */
};

struct slot {
    PyCodeObject *code; /* a reference: the address stays this code's */
    int at;
    bool guessed;
    _Atomic uint16_t number; /* 0: empty; written last, under fm_wsgi.lock */
};

struct fm_place_table {
    struct slot slot[SLOTS];
    atomic_uchar in_vain[LINES]; /* how often nothing was found behind a line; by a hash, so it is only a hint */
};

/* ---- a suspended generator ---- */

/* The public headers have the struct of generators up to 3.13; what is in their frames is read by functions since 3.12,
 * and laid out as here in 3.11 (Include/internal/pycore_frame.h).  An object of the frame would stay as long as the
 * generator: 168 bytes of each parked request. */
#if PY_VERSION_HEX >= 0x030e0000
static bool is_suspended(PyObject *gen)
{
    PyObject *suspended = PyObject_GetAttr(gen, fm_wsgi.name[FM_N_gi_suspended]);
    bool is = suspended == Py_True;
    Py_XDECREF(suspended);
    PyErr_Clear();
    return is;
}

static bool read_line(PyObject *gen, struct fm_line *line)
{
    if (!is_suspended(gen))
        return false;
    PyFrameObject *frame = (PyFrameObject *)PyObject_GetAttr(gen, fm_wsgi.name[FM_N_gi_frame]);
    bool has = frame && PyFrame_Check((PyObject *)frame);
    if (has) {
        line->code = PyFrame_GetCode(frame);
        line->at = PyFrame_GetLasti(frame);
    }
    Py_XDECREF(frame);
    PyErr_Clear();
    return has;
}
#elif PY_VERSION_HEX >= 0x030b0000
static bool is_suspended(PyObject *gen)
{
    int state = (int)((PyGenObject *)gen)->gi_frame_state;
    return state == -1 || (PY_VERSION_HEX >= 0x030d0000 && state == -2);
}

static bool read_line(PyObject *gen, struct fm_line *line)
{
    struct _PyInterpreterFrame *frame = (struct _PyInterpreterFrame *)((PyGenObject *)gen)->gi_iframe;
    if (!is_suspended(gen))
        return false;
#if PY_VERSION_HEX >= 0x030c0000
    line->code = (PyCodeObject *)PyUnstable_InterpreterFrame_GetCode(frame);
    line->at = PyUnstable_InterpreterFrame_GetLasti(frame);
#else
    struct frame_of_3_11 {
        void *function, *globals, *builtins, *locals;
        PyCodeObject *code;
        void *object, *previous;
        _Py_CODEUNIT *last;
    } *f = (struct frame_of_3_11 *)frame;
    line->code = (PyCodeObject *)Py_NewRef((PyObject *)f->code);
    line->at = (int)(f->last - (_Py_CODEUNIT *)f->code->co_code_adaptive) * (int)sizeof(_Py_CODEUNIT);
#endif
    return true;
}
#else
static bool is_suspended(PyObject *gen)
{
    PyFrameObject *frame = ((PyGenObject *)gen)->gi_frame;
    return frame && frame->f_state == FRAME_SUSPENDED;
}

static bool read_line(PyObject *gen, struct fm_line *line)
{
    if (!is_suspended(gen))
        return false;
    PyFrameObject *frame = ((PyGenObject *)gen)->gi_frame;
    line->code = PyFrame_GetCode(frame);
    line->at = frame->f_lasti * (int)sizeof(_Py_CODEUNIT);
    return true;
}
#endif

/* What it delegates to: a reference, or NULL. */
static PyObject *yields_from(PyObject *gen)
{
    PyObject *inner = PyObject_GetAttr(gen, fm_wsgi.name[FM_N_gi_yieldfrom]);
    if (inner == Py_None)
        Py_CLEAR(inner);
    if (!inner)
        PyErr_Clear();
    return inner;
}

/* ---- an iterator that hides one ---- */

struct hunt {
    PyObject *queue[QUEUE]; /* borrowed: no code runs that could drop one */
    unsigned n, visits;
};

#ifndef Py_GIL_DISABLED /* there another thread may change what an object refers to */
/* Only in 3.10 a generator refers to a frame, which refers to what newer generators refer to themselves. */
static bool is_of_suspended(PyObject *frame)
{
#if PY_VERSION_HEX < 0x030b0000
    PyObject *gen = ((PyFrameObject *)frame)->f_gen;
    return gen && PyGen_CheckExact(gen) && is_suspended(gen);
#else
    (void)frame;
    return false;
#endif
}

static bool leads_on(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    if (!PyType_IS_GC(type) || !type->tp_traverse)
        return false;
    if (PyType_Check(o) || PyModule_Check(o) || PyFunction_Check(o) || PyCode_Check(o))
        return false;
    if (PyFrame_Check(o))
        return is_of_suspended(o);
    if (PyDict_CheckExact(o))
        return PyDict_GET_SIZE(o) <= LARGE_DICT;
    if (type == fm_wsgi.run_type || type == fm_wsgi.wakeup_type || type == fm_wsgi.input_type)
        return false; /* they lead to the iterator that it begins with */
    return !PyContext_CheckExact(o) && !PyExceptionInstance_Check(o) && !PyObject_TypeCheck(o, fm_wsgi.future_type);
}

static int visit(PyObject *o, void *arg)
{
    struct hunt *h = arg;
    if (h->n == QUEUE || ++h->visits > VISITS)
        return 1;
    if (!o || !leads_on(o))
        return 0;
    for (unsigned i = 0; i < h->n; i++)
        if (h->queue[i] == o)
            return 0;
    h->queue[h->n++] = o;
    return 0;
}
#endif

/* The name of the attribute, if the class of o or one of its bases has it: a reference, as another thread may give the
 * class another one. */
static PyObject *told_inner(PyObject *o)
{
    if (!PyType_HasFeature(Py_TYPE(o), Py_TPFLAGS_HEAPTYPE))
        return NULL;
    PyObject *name = fm_class_get(o, fm_wsgi.name[FM_N_wsgi_plus_inner]);
    if (name && !PyUnicode_CheckExact(name))
        Py_CLEAR(name);
    return name;
}

/* What lies behind `from`, breadth first: a suspended generator that is not in `known`, or what an object says that it
 * has.  A reference, or NULL; *told: it was said. */
static PyObject *look_behind(PyObject *from, PyObject *const *known, unsigned nknown, bool *told)
{
    struct hunt h = {.n = 1, .queue = {from}};
    *told = false;
    for (unsigned head = 0; head < h.n; head++) {
        PyObject *o = h.queue[head], *name;
        if (head > 0 && PyGen_CheckExact(o)) {
            bool seen = false;
            for (unsigned i = 0; i < nknown; i++)
                seen = seen || known[i] == o;
            if (!seen && is_suspended(o))
                return Py_NewRef(o);
            continue;
        }
        if ((name = told_inner(o))) {
            PyObject *inner = PyObject_GenericGetAttr(o, name);
            Py_DECREF(name);
            fm_child_check();
            *told = inner != NULL;
            if (!inner)
                PyErr_Clear();
            return inner; /* code may have run: the queue is not looked at any more */
        }
#ifndef Py_GIL_DISABLED
        if (Py_TYPE(o)->tp_traverse)
            Py_TYPE(o)->tp_traverse(o, visit, &h);
#endif
    }
    return NULL;
}

/* ---- the way inwards ---- */

struct way {
    PyObject *generator[CHAIN]; /* references: what is asked on the way may drop the application's */
    struct fm_line line[CHAIN]; /* with references to the code */
    bool guessed[CHAIN];
    unsigned n;
};

static atomic_uchar *in_vain(struct fm_place_table *t, const struct fm_line *line)
{
    return &t->in_vain[(((uintptr_t)line->code >> 4) ^ ((uintptr_t)line->at * 31)) % LINES];
}

/* From a generator along `yield from`.  What it comes to: NULL, or an iterator of another kind, a reference. */
static PyObject *follow(struct way *w, PyObject *gen, bool guessed)
{
    Py_INCREF(gen);
    while (w->n < CHAIN && read_line(gen, &w->line[w->n])) {
        w->generator[w->n] = Py_NewRef(gen);
        w->guessed[w->n++] = guessed;
        PyObject *inner = yields_from(gen);
        if (!inner)
            break;
        Py_SETREF(gen, inner);
        if (!PyGen_CheckExact(gen))
            return gen;
    }
    Py_DECREF(gen);
    return NULL;
}

/* What is behind the innermost of the generators, or an iterator that it has come to. */
static PyObject *go_behind(struct fm_place_table *t, const struct way *w, PyObject *iterator, bool *told)
{
    *told = false;
    if (iterator)
        return look_behind(iterator, w->generator, w->n, told);
    if (w->n == 0 || w->n == CHAIN)
        return NULL;
    atomic_uchar *vain = in_vain(t, &w->line[w->n - 1]);
    unsigned char times = atomic_load_explicit(vain, memory_order_relaxed);
    if (times >= IN_VAIN)
        return NULL;
    PyObject *found = look_behind(w->generator[w->n - 1], w->generator, w->n, told);
    atomic_store_explicit(vain, found ? 0 : (unsigned char)(times + 1), memory_order_relaxed);
    return found;
}

static void find_way(struct fm_place_table *t, struct way *w, PyObject *iterator)
{
    bool guessed = false, told;
    PyObject *o = Py_NewRef(iterator);
    w->n = 0;
    for (int hops = 0; o && hops < HOPS; hops++) {
        if (PyGen_CheckExact(o))
            Py_SETREF(o, follow(w, o, guessed));
        PyObject *behind = go_behind(t, w, o, &told);
        guessed = guessed || !told;
        Py_XSETREF(o, behind);
    }
    Py_XDECREF(o);
}

/* ---- which line to show ---- */

/* Directories of what stands between server and application; py/wsgi_plus/_places.py passes over the same ones. */
static bool is_library(const PyCodeObject *code)
{
    static const char *const names[] = {"/wsgi_plus/",    "/werkzeug/",      "/flask/",         "/django/",
                                        "/contextlib.py", "/opentelemetry/", "/rest_framework/"};
    const char *file = PyUnicode_AsUTF8(code->co_filename);
    if (!file) {
        PyErr_Clear();
        return false;
    }
    for (const char *slash = strchr(file, '/'); slash; slash = strchr(slash + 1, '/'))
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (slash[1] == names[i][1] && strncmp(slash, names[i], strlen(names[i])) == 0)
                return true;
    return false;
}

static unsigned innermost_own(const struct way *w)
{
    for (unsigned i = w->n; i-- > 0;)
        if (!is_library(w->line[i].code))
            return i;
    return w->n - 1;
}

/* ---- its number ---- */

/* *number: that of the line, or 0: it has none so far, and the slot may be another line's by now. */
static struct slot *slot_of(struct fm_place_table *t, const struct fm_line *line, bool guessed, uint16_t *number)
{
    uintptr_t hash = ((uintptr_t)line->code >> 4) * 31 + (uintptr_t)line->at * 7 + guessed;
    for (;; hash++) {
        struct slot *s = &t->slot[hash % SLOTS];
        *number = atomic_load_explicit(&s->number, memory_order_acquire);
        if (*number == 0 || (s->code == line->code && s->at == line->at && s->guessed == guessed))
            return s;
    }
}

static uint16_t add_place(struct fm_place_table *t, const struct fm_line *line, bool guessed)
{
    PyCodeObject *code = line->code;
    if (fm_places_count() == FM_PLACES)
        return 0;
    const char *file = PyUnicode_AsUTF8(code->co_filename);
#if PY_VERSION_HEX >= 0x030b0000
    const char *function = PyUnicode_AsUTF8(code->co_qualname);
#else
    const char *function = PyUnicode_AsUTF8(code->co_name);
#endif
    if (!file || !function)
        PyErr_Clear(); /* a name that is no text, or no memory */
    int number = PyCode_Addr2Line(code, line->at);
    fm_mutex_lock(&fm_wsgi.lock);
    uint16_t place;
    struct slot *s = slot_of(t, line, guessed, &place); /* another thread may have added it */
    if (place == 0)
        place = fm_places_add(file ? file : "?", function ? function : "?", number > 0 ? (unsigned)number : 0, guessed);
    if (place != 0 && atomic_load_explicit(&s->number, memory_order_relaxed) == 0) {
        s->code = (PyCodeObject *)Py_NewRef((PyObject *)code);
        s->at = line->at;
        s->guessed = guessed;
        atomic_store_explicit(&s->number, place, memory_order_release);
    }
    fm_mutex_unlock(&fm_wsgi.lock);
    return place;
}

uint16_t fm_place_of(struct fm_run *run)
{
    struct fm_place_table *t = fm_wsgi.places;
    struct way w;
    uint16_t place = 0;
    if (!t)
        return 0;
    find_way(t, &w, run->iterator);
    if (w.n > 0) {
        unsigned shown = innermost_own(&w);
        slot_of(t, &w.line[shown], w.guessed[shown], &place);
        if (place == 0)
            place = add_place(t, &w.line[shown], w.guessed[shown]);
    }
    for (unsigned i = 0; i < w.n; i++) {
        Py_DECREF(w.line[i].code);
        Py_DECREF(w.generator[i]);
    }
    if (w.n > 0)
        fm_child_check(); /* the last reference may have been ours */
    return place;
}

struct fm_place_table *fm_place_table_new(void) { return calloc(1, sizeof(struct fm_place_table)); }

void fm_place_table_free(struct fm_place_table *t)
{
    for (unsigned i = 0; t && i < SLOTS; i++)
        Py_XDECREF(t->slot[i].code);
    free(t);
}
