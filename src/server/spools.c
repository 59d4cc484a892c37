/* Spools through a list and one event; see server/spools.h. */
#include "fermata/server/spools.h"

#include "fermata/http/body.h"
#include "fermata/util/list.h"

static struct fm_loop *loop; /* this and the next are set before any thread starts */
static void (*tell)(void *owner);
static struct fm_event some;                 /* spools are in the list */
static struct fm_mutex lock = FM_MUTEX_INIT; /* guards what follows */
static struct fm_list over = {&over, &over};
static bool posted;

/* On a file thread. */
static void on_over(struct fm_spool *spool)
{
    fm_mutex_lock(&lock);
    fm_list_push(&over, fm_spool_node(spool));
    bool post = !posted;
    posted = true;
    fm_mutex_unlock(&lock);
    if (post) /* only one file thread finds it unposted, and the loop lives until all of them have ended */
        fm_loop_post(loop, &some, 0, NULL);
}

static void on_some(struct fm_event *event)
{
    struct fm_list taken;
    (void)event;
    fm_assert_on_loop();
    fm_list_init(&taken);
    fm_mutex_lock(&lock);
    fm_list_append(&taken, &over);
    posted = false;
    fm_mutex_unlock(&lock);
    for (struct fm_list *node; (node = fm_list_pop(&taken));) {
        void *owner = fm_spool_over(fm_spool_of_node(node));
        if (owner)
            tell(owner);
    }
}

void fm_spools_start(struct fm_loop *l, void (*stored)(void *owner))
{
    loop = l;
    tell = stored;
    fm_event_init(&some, on_some);
    fm_body_listen(on_over);
}
