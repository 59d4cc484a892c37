/* Stacks of steps: told by Python where it answers, else by each thread itself; threads that have ended, or do not
 * answer. */
#include "gateway.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "fermata/util/clock.h"
#include "fermata/wsgi/report.h"
#include "fermata/wsgi/steps.h"

#define NUMBER (SIGRTMAX - 2)

static struct fm_sched many; /* with three threads, which are those that a test says */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t is_done = PTHREAD_COND_INITIALIZER;
static struct fm_stacks *found;
static bool done;

static void on_done(void *ctx, struct fm_stacks *stacks)
{
    CHECK(ctx == &many);
    pthread_mutex_lock(&mutex);
    found = stacks;
    done = true;
    pthread_cond_broadcast(&is_done);
    pthread_mutex_unlock(&mutex);
}

/* Waits as the caller is: with the GIL or without. */
static struct fm_stacks *ask(void)
{
    done = false;
    assert_int_equal(fm_steps_ask(&many, on_done, &many), 0);
    pthread_mutex_lock(&mutex);
    while (!done)
        pthread_cond_wait(&is_done, &mutex);
    pthread_mutex_unlock(&mutex);
    assert_non_null(found);
    return found;
}

/* Thread `index` of the scheduler is in a step, as the thread with that id. */
static void be_in_step(unsigned index, int tid, unsigned long ident)
{
    struct fm_thread *h = &many.threads[index];
    h->here = tid != 0;
    h->tid = tid;
    h->ident = ident;
    atomic_store(&h->since, tid ? fm_now() & ~1ull : 0);
}

static bool says(const struct fm_stack *s, const char *text)
{
    return fm_buf_size(&s->text) > 0 && memmem(fm_buf_head(&s->text), fm_buf_size(&s->text), text, strlen(text));
}

static PyObject *ask_holding_the_gil(PyObject *self, PyObject *arg)
{
    (void)self, (void)arg;
    ask();
    Py_RETURN_NONE;
}

static PyObject *ask_without_the_gil(PyObject *self, PyObject *arg)
{
    (void)self, (void)arg;
    Py_BEGIN_ALLOW_THREADS
    ask();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef holding = {"holding", ask_holding_the_gil, METH_NOARGS, NULL},
                   without = {"without", ask_without_the_gil, METH_NOARGS, NULL};

/* Calls the function from a function of Python's called `name`. */
static void call_from(const char *name, PyMethodDef *method)
{
    char code[200];
    PyObject *function = PyCFunction_New(method, NULL), *main = PyImport_AddModule("__main__");
    assert_int_equal(PyObject_SetAttrString(main, method->ml_name, function), 0);
    Py_DECREF(function);
    snprintf(code, sizeof code, "def %s(): %s()\n%s()\n", name, method->ml_name, name);
    assert_int_equal(PyRun_SimpleString(code), 0);
}

static int own(void) { return (int)syscall(SYS_gettid); }

static void test_nothing_runs(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) { /* who has been told may ask again at once */
        call_from("nobody", &without);
        assert_int_equal(found->n, 0);
        fm_stacks_free(found);
    }
}

#ifndef Py_GIL_DISABLED
#define BY_PYTHON true
#else
#define BY_PYTHON false
#endif

static void test_python_answers(void **state)
{
    (void)state;
    be_in_step(1, own(), PyThread_get_thread_ident());
    uint64_t since = many.threads[1].since;
    call_from("where_it_waits", &without);
    assert_int_equal(found->n, 1);
    assert_int_equal(found->alone, !BY_PYTHON);
    assert_int_equal(found->all[0].thread, 2);
    assert_int_equal(found->all[0].since, since);
    assert_null(found->all[0].why);
    assert_true(says(&found->all[0], " in where_it_waits\n"));
    fm_stacks_free(found);
}

/* Python cannot answer: the thread that holds the GIL does.  The second time nothing is waited for. */
static void test_the_gil_is_held(void **state)
{
    (void)state;
    be_in_step(1, own(), PyThread_get_thread_ident());
    for (int i = 0; i < 3; i++) {
        call_from("where_it_holds", &holding);
        assert_int_equal(found->n, 1);
        assert_true(found->alone);
        assert_null(found->all[0].why);
        assert_true(says(&found->all[0], " in where_it_holds\n"));
        fm_stacks_free(found);
    }
}

static void *sleep_in_c(void *arg)
{
    int *tid = arg;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, NUMBER);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_mutex_lock(&mutex);
    *tid = own();
    pthread_cond_broadcast(&is_done);
    while (*tid)
        pthread_cond_wait(&is_done, &mutex);
    pthread_mutex_unlock(&mutex);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* what is pending comes now, when nobody asks */
    return NULL;
}

/* One that has ended, one that blocks the signal, and one that answers all the same. */
static void test_threads_that_do_not_answer(void **state)
{
    pthread_t blocked;
    int tid = 0;
    (void)state;
    pthread_create(&blocked, NULL, sleep_in_c, &tid);
    pthread_mutex_lock(&mutex);
    while (!tid)
        pthread_cond_wait(&is_done, &mutex);
    pthread_mutex_unlock(&mutex);
    be_in_step(0, 1 << 22, 1); /* above what the kernel gives out: it has ended */
    be_in_step(1, tid, 2);
    be_in_step(2, own(), PyThread_get_thread_ident());
    call_from("who_answers", &holding);
    assert_int_equal(found->n, 3);
    assert_string_equal(found->all[0].why, "the thread has ended");
    assert_non_null(strstr(found->all[1].why, "has not answered"));
    assert_true(says(&found->all[2], " in who_answers\n"));
    fm_stacks_free(found);
    pthread_mutex_lock(&mutex);
    tid = 0;
    pthread_cond_broadcast(&is_done);
    pthread_mutex_unlock(&mutex);
    pthread_join(blocked, NULL);
    be_in_step(0, 0, 0);
    be_in_step(1, 0, 0);
    call_from("who_answers", &holding);
    assert_true(found->n == 1 && says(&found->all[0], " in who_answers\n"));
    fm_stacks_free(found);
    be_in_step(2, 0, 0);
}

static void test_others_take_the_signal(void **state)
{
    (void)state;
    struct sigaction before, theirs = {.sa_handler = SIG_IGN};
    sigaction(NUMBER, &theirs, &before);
    be_in_step(1, own(), PyThread_get_thread_ident());
    call_from("nobody", &holding);
    assert_true(found->n == 1 && strstr(found->all[0].why, "is used by others"));
    fm_stacks_free(found);
    sigaction(NUMBER, &before, NULL);
    be_in_step(1, 0, 0);
}

static void test_the_end(void **state)
{
    struct sigaction after;
    (void)state;
    Py_BEGIN_ALLOW_THREADS
    fm_steps_stop();
    Py_END_ALLOW_THREADS
    assert_int_equal(fm_steps_ask(&many, on_done, &many), FM_EBUSY);
    Py_BEGIN_ALLOW_THREADS
    fm_report_wait(30);
    Py_END_ALLOW_THREADS
    fm_steps_fini();
    sigaction(NUMBER, NULL, &after);
    assert_ptr_equal(after.sa_handler, SIG_IGN); /* as a thread had not answered */
    fm_sched_fini(&many);
}

static int prepare(void **state)
{
    (void)state;
    assert_int_equal(fm_sched_init(&many, 2, &sched_ops, NULL), 0);
    assert_int_equal(fm_steps_prepare(), 0);
    return 0;
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup(test_nothing_runs, prepare),
    cmocka_unit_test(test_python_answers),
    cmocka_unit_test(test_the_gil_is_held),
    cmocka_unit_test(test_threads_that_do_not_answer),
    cmocka_unit_test(test_others_take_the_signal),
    cmocka_unit_test(test_the_end),
};

GATEWAY_MAIN(tests)
