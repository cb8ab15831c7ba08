/* A library that registers its functions wherever it can. */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <frameobject.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

int anchor;

/* --- signals, keys --- */
static void on_signal(int number) { (void)number; }
static void on_signal_info(int number, siginfo_t *info, void *context) {
    (void)number; (void)info; (void)context;
}
int handle(int number, int with_info) {
    struct sigaction a; memset(&a, 0, sizeof(a));
    if (with_info) { a.sa_sigaction = on_signal_info; a.sa_flags = SA_SIGINFO; }
    else a.sa_handler = on_signal;
    return sigaction(number, &a, NULL);
}
int unhandle(int number) { return signal(number, SIG_DFL) == SIG_ERR; }
static void on_exit_of_thread(void *value) { (void)value; }
int make_key(void) {
    pthread_key_t key; return pthread_key_create(&key, on_exit_of_thread) ? -1 : (int)key;
}
int make_plain_key(void) {
    pthread_key_t key; return pthread_key_create(&key, NULL) ? -1 : (int)key;
}
int delete_key(int key) { return pthread_key_delete((pthread_key_t)key); }

/* --- Python's registries --- */
static void at_exit(void) {}
int register_at_exit(void) { return Py_AtExit(at_exit); }
static int trace(PyObject *self, PyFrameObject *frame, int what, PyObject *argument) {
    (void)self; (void)frame; (void)what; (void)argument; return 0;
}
void set_trace(int on) { PyEval_SetTrace(on ? trace : NULL, NULL); }
void set_profile(int on) { PyEval_SetProfile(on ? trace : NULL, NULL); }
static int pending(void *argument) { (void)argument; return 0; }
/* Asks before Python gets to running it. */
PyObject *pointers_while_pending(PyObject *function, PyObject *arguments) {
    if (Py_AddPendingCall(pending, NULL) < 0) Py_RETURN_NONE;
    return PyObject_Call(function, arguments, NULL);
}
static int input_hook(void) { return 0; }
void set_input_hook(int on) { PyOS_InputHook = on ? input_hook : NULL; }
static int audit(const char *event, PyObject *arguments, void *data) {
    (void)event; (void)arguments; (void)data; return 0;
}
int add_audit_hook(void) { return PySys_AddAuditHook(audit, NULL); }
#if PY_VERSION_HEX >= 0x030C0000
static int watch(PyTypeObject *type) { (void)type; return 0; }
int add_type_watcher(void) { return PyType_AddWatcher(watch); }
int clear_type_watcher(int id) { return PyType_ClearWatcher(id); }
#endif
#if PY_VERSION_HEX >= 0x030D0000
static void at_exit_of_interpreter(void *data) { (void)data; }
int register_at_exit_of_interpreter(void) {
    return PyUnstable_AtExit(PyInterpreterState_Get(), at_exit_of_interpreter, NULL);
}
#endif

/* --- what goes by itself --- */
static int ran;
static void by_c(void) { ran++; }
static void by_fork(void) { ran++; }
__attribute__((constructor)) static void constructed(void) {
    atexit(by_c);
    pthread_atfork(by_fork, NULL, by_fork);
}
__attribute__((destructor)) static void destructed(void) { ran++; }
