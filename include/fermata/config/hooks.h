/* Hooks that a configuration file may define: their names, and which process calls them. */
#ifndef FERMATA_CONFIG_HOOKS_H
#define FERMATA_CONFIG_HOOKS_H

/* X(name): with gunicorn's names.  First those of the arbiter's side, then those of a worker's. */
#define FM_ARBITER_HOOKS(X)                                                                                            \
    X(on_starting)                                                                                                     \
    X(when_ready)                                                                                                      \
    X(pre_fork)                                                                                                        \
    X(child_exit)                                                                                                      \
    X(on_reload)                                                                                                       \
    X(nworkers_changed)                                                                                                \
    X(on_exit)
#define FM_WORKER_HOOKS(X)                                                                                             \
    X(post_fork)                                                                                                       \
    X(post_worker_init)                                                                                                \
    X(worker_int)                                                                                                      \
    X(worker_abort)                                                                                                    \
    X(worker_exit)                                                                                                     \
    X(pre_request)                                                                                                     \
    X(post_request)

enum fm_hook {
#define X(name) FM_HOOK_##name,
    FM_ARBITER_HOOKS(X) FM_WORKER_HOOKS(X)
#undef X
        FM_HOOK_COUNT,
};

#define FM_HOOK_BIT(hook) (1u << (hook))
#define FM_HOOKS_OF_ARBITER (FM_HOOK_BIT(FM_HOOK_post_fork) - 1)

#endif
