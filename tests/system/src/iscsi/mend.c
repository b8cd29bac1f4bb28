/* Preloaded into iscsi-test-cu for the tests that are wrong themselves: docs/iscsi-suite.md has
 * what is wrong with each. Functions of libiscsi, replaced or wrapped. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TURNS = 100, TURN_MS = 100 };

struct iscsi_context;
struct scsi_task;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

/* iSCSITMF.LUNResetSimpleAsync: the request returns once its answer has come. */

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
    waiting = called;
    answered = 0;
    request real = (request)next("iscsi_task_mgmt_async");
    int result = real(context, lun, function, task, command, note, data);
    for (int turn = 0; result == 0 && !answered && turn < TURNS; turn++) {
        struct pollfd wait = { iscsi_get_fd(context), (short)iscsi_which_events(context), 0 };
        poll(&wait, 1, TURN_MS);
        result = iscsi_service(context, wait.revents);
    }
    return result;
}

/* WriteSame10.UnmapUntilEnd: a block that is to be unmapped holds zeroes. */

struct scsi_iovec {
    void *base;
    size_t len;
};

typedef struct scsi_task *(*write_same)(int, int, int, uint32_t, int, uint16_t, uint32_t);
typedef void (*set_iov)(struct scsi_task *, struct scsi_iovec *, int);

static struct scsi_task *unmapping;

struct scsi_task *scsi_cdb_writesame10(int protect, int anchor, int unmap, uint32_t lba, int group,
                                       uint16_t blocks, uint32_t len)
{
    write_same real = (write_same)next("scsi_cdb_writesame10");
    struct scsi_task *task = real(protect, anchor, unmap, lba, group, blocks, len);
    unmapping = unmap ? task : NULL;
    return task;
}

void scsi_task_set_iov_out(struct scsi_task *task, struct scsi_iovec *parts, int count)
{
    if (task == unmapping && count == 1)
        memset(parts[0].base, 0, parts[0].len);
    unmapping = NULL;
    ((set_iov)next("scsi_task_set_iov_out"))(task, parts, count);
}

/* GetLBAStatus.UnmapSingle: a physical block is one logical block. */

struct capacity {
    uint64_t last_lba;
    uint32_t block_len;
    uint8_t protection[3];
    uint8_t physical_exponent;
};

enum { READ_CAPACITY_16 = 0x10 };

typedef struct scsi_task *(*service_action)(int, uint32_t);
typedef void *(*unmarshall)(struct scsi_task *);

static struct scsi_task *asking;

struct scsi_task *scsi_cdb_serviceactionin16(int action, uint32_t len)
{
    struct scsi_task *task = ((service_action)next("scsi_cdb_serviceactionin16"))(action, len);
    asking = action == READ_CAPACITY_16 ? task : NULL;
    return task;
}

void *scsi_datain_unmarshall(struct scsi_task *task)
{
    void *data = ((unmarshall)next("scsi_datain_unmarshall"))(task);
    if (task == asking && data != NULL)
        ((struct capacity *)data)->physical_exponent = 0;
    asking = NULL;
    return data;
}
