/* The calls that can be made to fail: the Makefile wraps each name of these tables (`ld --wrap`) in FLAVOR=faults.
 *
 * A CPython function that the server calls is either here or in the list of test_calls.py of those that cannot fail. */
#ifndef FERMATA_TESTS_FAULTS_CALLS_H
#define FERMATA_TESTS_FAULTS_CALLS_H

/* X(result, name, (parameters), (arguments)): -1 with errno, if the order is an errno. */
#define FM_FAULT_SYSTEM_CALLS(X)                                                                                       \
    X(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags), (fd, addr, len, flags))                \
    X(int, bind, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len))                                \
    X(int, dup, (int fd), (fd))                                                                                        \
    X(int, epoll_create1, (int flags), (flags))                                                                        \
    X(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event), (epfd, op, fd, event))                    \
    X(int, epoll_wait, (int epfd, struct epoll_event *events, int max, int timeout), (epfd, events, max, timeout))     \
    X(int, eventfd, (unsigned count, int flags), (count, flags))                                                       \
    X(int, eventfd_read, (int fd, eventfd_t *value), (fd, value))                                                      \
    X(int, getsockname, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len))                              \
    X(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len))      \
    X(int, listen, (int fd, int backlog), (fd, backlog))                                                               \
    X(int, mkostemp, (char *template, int flags), (template, flags))                                                   \
    X(int, ppoll, (struct pollfd * fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask),               \
      (fds, n, timeout, mask))                                                                                         \
    X(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len), (fd, level, name, value, len)) \
    X(int, shutdown, (int fd, int end), (fd, end))                                                                     \
    X(int, socket, (int domain, int type, int protocol), (domain, type, protocol))                                     \
    X(int, timerfd_create, (int clock, int flags), (clock, flags))

/* X(name, (parameters), (arguments)): transfers of `len` bytes, which can also be short. */
#define FM_FAULT_TRANSFERS(X)                                                                                          \
    X(pread, (int fd, void *data, size_t len, off_t at), (fd, data, len, at))                                          \
    X(pwrite, (int fd, const void *data, size_t len, off_t at), (fd, data, len, at))                                   \
    X(read, (int fd, void *data, size_t len), (fd, data, len))                                                         \
    X(recv, (int fd, void *data, size_t len, int flags), (fd, data, len, flags))                                       \
    X(send, (int fd, const void *data, size_t len, int flags), (fd, data, len, flags))                                 \
    X(sendfile, (int to, int from, off_t *at, size_t len), (to, from, at, len))                                        \
    X(write, (int fd, const void *data, size_t len), (fd, data, len))

/* X(name): those with a function of their own in inject.c. */
#define FM_FAULT_SPECIAL_CALLS(X)                                                                                      \
    X(calloc)                                                                                                          \
    X(eventfd_write)                                                                                                   \
    X(fcntl)                                                                                                           \
    X(ioctl)                                                                                                           \
    X(malloc)                                                                                                          \
    X(open)                                                                                                            \
    X(pthread_create)                                                                                                  \
    X(realloc)                                                                                                         \
    X(sendmsg)                                                                                                         \
    X(Py_InitializeFromConfig)                                                                                         \
    X(_PyBytes_Resize)

/* X(name): CPython functions that answer a pointer, NULL with an exception. */
#define FM_FAULT_PY_POINTERS(X)                                                                                        \
    X(PyBytes_FromStringAndSize)                                                                                       \
    X(PyCMethod_New)                                                                                                   \
    X(PyCapsule_New)                                                                                                   \
    X(PyContext_New)                                                                                                   \
    X(PyDict_Copy)                                                                                                     \
    X(PyDict_GetItemWithError)                                                                                         \
    X(PyDict_New)                                                                                                      \
    X(PyImport_ExecCodeModule)                                                                                         \
    X(PyImport_GetModule)                                                                                              \
    X(PyImport_ImportModule)                                                                                           \
    X(PyIter_Next)                                                                                                     \
    X(PyList_AsTuple)                                                                                                  \
    X(PyList_New)                                                                                                      \
    X(PyLong_FromLong)                                                                                                 \
    X(PyLong_FromSsize_t)                                                                                              \
    X(PyLong_FromUnsignedLongLong)                                                                                     \
    X(PyLong_FromUnsignedLong)                                                                                         \
    X(PyMem_Malloc)                                                                                                    \
    X(PyMem_RawMalloc)                                                                                                 \
    X(PyObject_Call)                                                                                                   \
    X(PyObject_CallNoArgs)                                                                                             \
    X(PyObject_CallObject)                                                                                             \
    X(PyObject_CallOneArg)                                                                                             \
    X(PyObject_GetAttr)                                                                                                \
    X(PyObject_GenericGetAttr)                                                                                         \
    X(PyObject_GenericGetDict)                                                                                         \
    X(PyObject_GetAttrString)                                                                                          \
    X(PyObject_GetIter)                                                                                                \
    X(PyObject_Vectorcall)                                                                                             \
    X(PyObject_VectorcallMethod)                                                                                       \
    X(PyObject_Str)                                                                                                    \
    X(PySequence_Tuple)                                                                                                \
    X(PySequence_Fast)                                                                                                 \
    X(PyTuple_New)                                                                                                     \
    X(PyType_FromSpec)                                                                                                 \
    X(PyUnicode_AsEncodedString)                                                                                       \
    X(PyUnicode_AsUTF8)                                                                                                \
    X(PyUnicode_AsUTF8AndSize)                                                                                         \
    X(PyUnicode_DecodeFSDefault)                                                                                       \
    X(PyUnicode_DecodeFSDefaultAndSize)                                                                                \
    X(PyUnicode_DecodeLatin1)                                                                                          \
    X(PyUnicode_FromFormat)                                                                                            \
    X(PyUnicode_FromString)                                                                                            \
    X(PyUnicode_InternFromString)                                                                                      \
    X(PyUnicode_Join)                                                                                                  \
    X(Py_CompileStringExFlags)                                                                                         \
    X(_PyObject_CallMethod_SizeT)                                                                                      \
    X(_PyObject_GC_New)                                                                                                \
    X(_PyObject_New)                                                                                                   \
    X(_Py_BuildValue_SizeT)                                                                                            \
    X(_Py_VaBuildValue_SizeT)                                                                                          \
    X(PyObject_CallMethod)                                                                                             \
    X(Py_BuildValue)                                                                                                   \
    X(Py_VaBuildValue)

/* X(name): CPython functions that answer an int or a Py_ssize_t, -1 with an exception. */
#define FM_FAULT_PY_NUMBERS(X)                                                                                         \
    X(PyDict_Contains)                                                                                                 \
    X(PyDict_DelItem)                                                                                                  \
    X(PyDict_SetItem)                                                                                                  \
    X(PyDict_SetItemString)                                                                                            \
    X(PyList_Append)                                                                                                   \
    X(PyList_Insert)                                                                                                   \
    X(PyList_SetSlice)                                                                                                 \
    X(PyLong_AsLong)                                                                                                   \
    X(PyLong_AsLongLong)                                                                                               \
    X(PyNumber_AsSsize_t)                                                                                              \
    X(PyObject_GetBuffer)                                                                                              \
    X(PyObject_IsTrue)

/* X(name): CPython functions that answer 0 with an exception. */
#define FM_FAULT_PY_TRUTHS(X)                                                                                          \
    X(PyArg_ParseTupleAndKeywords)                                                                                     \
    X(_PyArg_ParseTupleAndKeywords_SizeT)                                                                              \
    X(PyArg_ParseTuple)                                                                                                \
    X(_PyArg_ParseTuple_SizeT)

#endif
