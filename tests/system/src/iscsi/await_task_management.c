/* Preloaded into iscsi-test-cu: its request for a task management function returns once the answer
 * has come. See suite.rs for why. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>

enum { TURNS = 100, TURN_MS = 100 };

struct iscsi_context;
typedef void (*callback)(struct iscsi_context *, int, void *, void *);
typedef int (*request)(struct iscsi_context *, int, int, uint32_t, uint32_t, callback, void *);

int iscsi_get_fd(struct iscsi_context *);
int iscsi_which_events(struct iscsi_context *);
int iscsi_service(struct iscsi_context *, int);

static callback waiting;
static int answered;

static void note(struct iscsi_context *context, int status, void *response, void *data)
{
    answered = 1;
    waiting(context, status, response, data);
}

int iscsi_task_mgmt_async(struct iscsi_context *context, int lun, int function, uint32_t task,
                          uint32_t command, callback called, void *data)
{
    request real = (request)dlsym(RTLD_NEXT, "iscsi_task_mgmt_async");
    waiting = called;
    answered = 0;
    int result = real(context, lun, function, task, command, note, data);
    for (int turn = 0; result == 0 && !answered && turn < TURNS; turn++) {
        struct pollfd wait = { iscsi_get_fd(context), (short)iscsi_which_events(context), 0 };
        poll(&wait, 1, TURN_MS);
        result = iscsi_service(context, wait.revents);
    }
    return result;
}
