/* A module with a thread of its own, that counts. before_unload() ends it: else it would go on
   executing this library, which could then never be unmapped. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define MILLISECONDS 10 /* between two ticks; edit it while main.py runs */

static pthread_t thread;
static atomic_int running;
static atomic_long ticks;

static void *
run(void *ignored)
{
    (void)ignored;
    while (running) {
        nanosleep(&(struct timespec){0, MILLISECONDS * 1000000L}, NULL);
        ticks++;
    }
    return NULL;
}

static PyObject *
count(PyObject *self, PyObject *ignored)
{
    (void)self;
    (void)ignored;
    return PyLong_FromLong(ticks);
}

static PyObject *
before_unload(PyObject *self, PyObject *ignored)
{
    (void)self;
    (void)ignored;
    if (atomic_exchange(&running, 0)) {
        Py_BEGIN_ALLOW_THREADS
        pthread_join(thread, NULL);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static int
execute(PyObject *module)
{
    (void)module;
    running = 1;
    if (pthread_create(&thread, NULL, run, NULL) != 0) {
        running = 0;
        PyErr_SetString(PyExc_OSError, "no thread could be started");
        return -1;
    }
    return 0;
}

static PyMethodDef functions[] = {
    {"count", count, METH_NOARGS, PyDoc_STR("How often the clock has ticked.")},
    {"before_unload", before_unload, METH_NOARGS, PyDoc_STR("End the thread.")},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "clock", .m_methods = functions, .m_slots = slots};

PyMODINIT_FUNC
PyInit_clock(void)
{
    return PyModuleDef_Init(&definition);
}
