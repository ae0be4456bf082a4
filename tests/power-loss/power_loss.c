/*
 * A file layer that forgets whatever was not synced: what a power cut does and SIGKILL never does.
 *
 * Loaded with LD_PRELOAD into one process. It keeps, beside the real files below POWER_LOSS_ROOT, a
 * journal of what a power cut would have left of them. `rebuild` in tests/it/power_loss_image.rs
 * turns that journal into a data folder for the next start.
 *
 *   POWER_LOSS_ROOT=DIR            the folder watched; it must exist
 *   POWER_LOSS_SHADOW=DIR          an existing folder outside it, for the journal (emptied at start)
 *   POWER_LOSS_FAIL_SYNC=N[:TEXT]  the N-th sync of a path containing TEXT fails with EIO. TEXT is
 *                                  compared with the path below the root; N = 0 only counts
 *   POWER_LOSS_KILL_AT=N           SIGKILL when the N-th sync begins, before it makes anything durable
 *   POWER_LOSS_COUNT_FILE=FILE     holds "SYNCS MATCHING\n" at any time: syncs begun, and those of them
 *                                  whose path contains TEXT
 *   POWER_LOSS_REAL_SYNC=0         skip the kernel's own sync: quicker, and the model is the same
 *
 * The model:
 * - What exists below the root at start is durable.
 * - A write is remembered as a dirty range. fsync or fdatasync of the file moves the dirty ranges into
 *   the journal, the size too; they are durable if and only if the call returned 0.
 * - fsync of a folder makes its list of names durable: creating, renaming or unlinking a name counts
 *   from then on, and not before. A file synced under a name that was not is unreachable, thus lost;
 *   a name synced without its file is an empty file.
 * - A failed sync forgets the dirty ranges, as Linux marks such pages clean: a later sync that succeeds
 *   does not save them, only writing them again does. The size may still become durable, so they read as
 *   the former bytes, or as zeros. Names lost by a failed folder sync stay lost until they change again.
 *
 * What the layer does not see never becomes durable, so it errs by a loud test and never by a
 * quiet one: raw system calls (rustix, io_uring), writes through mmap or stdio, sync(), O_SYNC. Nor do
 * msync and sync_file_range make anything durable. It models dropped writes, not torn or reordered ones.
 *
 * A file is known by inode number and birth time, since inode numbers are used again; no table of
 * descriptors is kept, so dup and close cannot confuse it. Forked children and programs started by the
 * watched one write nothing to the journal; exec in place begins it anew. Limits: one filesystem, which
 * tells birth times (ext4, xfs, btrfs, tmpfs); a second file born on an inode within one clock tick (4 ms)
 * of the first is taken for it; symbolic links are dropped, hard links come back as copies.
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS /* else the headers rename pwrite to pwrite64, and both are defined here */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8 && sizeof(off_t) == 8, "only 64-bit Linux");

struct key { uint64_t ino, sec, nsec; };
struct range { uint64_t from, to; };
struct bytes { char *at; size_t len, room; };

/* One name in a folder; laid out like this in the journal too, the name padded to 8 bytes. */
struct entry { struct key key; uint64_t mode, name_len; char name[]; };

/* The head of a journal record. A record cut short by a kill is the last one, so `total` finds it. */
struct head { uint64_t magic, total, kind; struct key key; uint64_t mode, min_size, size, count; };
enum { MAGIC = 0x4c575047, A_FILE = 1, A_FOLDER = 2 };

/* What is known of one file or folder. Never freed: a run touches thousands of them, not millions. */
struct node {
    struct node *next;
    struct key key;
    pthread_mutex_t syncing;    /* a second sync of a file may not return before the first is journalled */
    struct range *dirty;        /* written since the last sync; overlapping ones are only copied twice */
    size_t ranges, room;
    uint64_t min_size;          /* the smallest size since the last sync: beyond it old bytes are gone */
    struct bytes durable, lost; /* folders: names as last synced; names a failed sync lost (ino 0: unlinked) */
};

/* Where a descriptor leads, if that is below the root. */
struct place { struct key key; uint64_t size; unsigned mode; char path[PATH_MAX]; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* all below, and each write with its bookkeeping */
static volatile int active;
static int real_sync = 1, journal = -1, count_file = -1;
static uint64_t journal_end, syncs, matching, fail_at, kill_at;
static const char *fail_text = "";
static char root[PATH_MAX];
static size_t root_len;
static struct node *table[4096];

/* The test cannot be trusted any more: better no process than a wrong answer. */
static void die(const char *what)
{
    dprintf(2, "power_loss: %s: %s\n", what, strerror(errno));
    abort();
}

static void append(struct bytes *b, const void *data, size_t len)
{
    if (b->len + len > b->room) {
        b->room = 2 * (b->len + len) + 256;
        if (!(b->at = realloc(b->at, b->room)))
            die("memory");
    }
    memcpy(b->at + b->len, data, len);
    b->len += len;
}

static int same(const struct key *a, const struct key *b)
{
    return a->ino == b->ino && a->sec == b->sec && a->nsec == b->nsec;
}

static struct node *node_of(const struct key *key)
{
    struct node **slot = &table[(key->ino * 31 + key->nsec) % 4096], *n;
    for (n = *slot; n; n = n->next)
        if (same(&n->key, key))
            return n;
    if (!(n = calloc(1, sizeof *n)))
        die("memory");
    n->key = *key;
    n->min_size = UINT64_MAX;
    pthread_mutex_init(&n->syncing, NULL);
    n->next = *slot;
    return *slot = n;
}

static int look(int folder, const char *name, struct place *p)
{
    struct statx s;
    int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
    if (statx(folder, name, flags, STATX_BASIC_STATS | STATX_BTIME, &s) != 0)
        return 0;
    int born = (s.stx_mask & STATX_BTIME) != 0;
    p->key = (struct key){s.stx_ino, born ? (uint64_t)s.stx_btime.tv_sec : 0, born ? s.stx_btime.tv_nsec : 0};
    p->mode = s.stx_mode;
    p->size = s.stx_size;
    return S_ISREG(s.stx_mode) || S_ISDIR(s.stx_mode);
}

static int below_root(int fd, struct place *p)
{
    char link[40];
    int keep = errno, found = 0;
    if (active && look(fd, "", p)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, p->path, sizeof p->path - 1);
        p->path[n > 0 ? n : 0] = 0;
        found = n >= (ssize_t)root_len && memcmp(p->path, root, root_len) == 0 &&
                (p->path[root_len] == '/' || p->path[root_len] == 0);
    }
    errno = keep;
    return found;
}

/* ---- dirty ranges ---- */

static void add_dirty(struct node *n, uint64_t from, uint64_t to)
{
    struct range *last = n->ranges ? &n->dirty[n->ranges - 1] : NULL;
    if (last && last->from <= from && from <= last->to) { /* most writes append */
        if (to > last->to)
            last->to = to;
        return;
    }
    if (n->ranges == n->room) {
        n->room = 2 * n->room + 8;
        if (!(n->dirty = realloc(n->dirty, n->room * sizeof *n->dirty)))
            die("memory");
    }
    n->dirty[n->ranges++] = (struct range){from, to};
}

/*
 * Begin and end a write: the lock is held across it, so that no sync falls between the write and its range.
 * The size seen before each write catches every way a file may have shrunk, open(O_TRUNC) included.
 */
static struct node *begin_write(int fd, struct place *p)
{
    if (!below_root(fd, p) || !S_ISREG(p->mode))
        return NULL;
    pthread_mutex_lock(&lock);
    look(fd, "", p);
    struct node *n = node_of(&p->key);
    if (p->size < n->min_size)
        n->min_size = p->size;
    return n;
}

static void end_write(struct node *n, int fd, const struct place *p, off_t at, ssize_t done)
{
    int keep = errno;
    if (done > 0) {
        if (fcntl(fd, F_GETFL) & O_APPEND) /* Linux appends even by pwrite */
            at = (off_t)p->size;
        else if (at < 0)
            at = lseek(fd, 0, SEEK_CUR) - done;
        add_dirty(n, (uint64_t)at, (uint64_t)(at + done));
    }
    pthread_mutex_unlock(&lock);
    errno = keep;
}

/* ---- the journal ---- */

static void put(const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = syscall(SYS_pwrite64, journal, p, len, journal_end);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            die("writing the journal");
        p += n, len -= n, journal_end += n;
    }
}

static void put_head(unsigned kind, const struct place *p, uint64_t min, uint64_t count, uint64_t payload)
{
    struct head h = {MAGIC, sizeof h + payload, kind, p->key, p->mode, min, p->size, count};
    put(&h, sizeof h);
}

static void put_content(int fd, uint64_t from, uint64_t to)
{
    static char buffer[1 << 18];
    while (from < to) {
        size_t want = to - from < sizeof buffer ? to - from : sizeof buffer;
        ssize_t n = pread(fd, buffer, want, (off_t)from);
        if (n < 0)
            die("reading a synced file");
        memset(buffer + n, 0, want - n); /* cut meanwhile by somebody else */
        put(buffer, want);
        from += want;
    }
}

static void record_file(struct node *n, int fd, const struct place *p)
{
    /* Read through the caller's descriptor where it can read: closing another one would drop the POSIX
     * locks that the process holds on the file, and SQLite lives by those. */
    int flags = fcntl(fd, F_GETFL), reader = fd;
    if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_DIRECT)) {
        char link[40];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if ((reader = open(link, O_RDONLY | O_CLOEXEC)) < 0)
            die("reopening a synced file");
    }
    uint64_t payload = 0;
    for (size_t i = 0; i < n->ranges; i++) {
        struct range *r = &n->dirty[i];
        r->to = r->to < p->size ? r->to : p->size; /* cut since */
        r->from = r->from < r->to ? r->from : r->to;
        payload += sizeof *r + r->to - r->from;
    }
    put_head(A_FILE, p, n->min_size < p->size ? n->min_size : p->size, n->ranges, payload);
    for (size_t i = 0; i < n->ranges; i++) {
        put(&n->dirty[i], sizeof n->dirty[i]);
        put_content(reader, n->dirty[i].from, n->dirty[i].to);
    }
    if (reader != fd)
        close(reader);
    n->ranges = 0;
    n->min_size = UINT64_MAX;
}

static struct entry *next_entry(const struct bytes *list, struct entry *e)
{
    char *p = e ? (char *)e + sizeof *e + (e->name_len + 7) / 8 * 8 : list->at;
    return p < list->at + list->len ? (struct entry *)p : NULL;
}

static struct entry *find(const struct bytes *list, const struct entry *like)
{
    struct entry *e = NULL;
    while (list->len && (e = next_entry(list, e)))
        if (e->name_len == like->name_len && memcmp(e->name, like->name, e->name_len) == 0)
            return e;
    return NULL;
}

static void add_entry(struct bytes *list, const struct key *key, uint64_t mode, const char *name, size_t len)
{
    struct entry e = {*key, mode, len};
    append(list, &e, sizeof e);
    append(list, name, len);
    append(list, "\0\0\0\0\0\0\0", (8 - len % 8) % 8);
}

static struct bytes list_folder(int fd)
{
    struct bytes list = {0};
    struct place p;
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = own < 0 ? NULL : fdopendir(own);
    if (!folder) {
        if (errno == ENOENT) /* removed, still open */
            return list;
        die("listing a synced folder");
    }
    for (struct dirent *d; (d = readdir(folder));)
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && look(own, d->d_name, &p))
            add_entry(&list, &p.key, p.mode, d->d_name, strlen(d->d_name));
    closedir(folder);
    return list;
}

static const struct key nowhere;

/* The names that a failed sync lost: every one that is not now as it was last synced. */
static void lose_names(struct node *n, int fd)
{
    struct bytes now = list_folder(fd), lost = {0};
    struct entry *e = NULL, *old;
    while (now.len && (e = next_entry(&now, e)))
        if (!(old = find(&n->durable, e)) || !same(&old->key, &e->key))
            add_entry(&lost, &e->key, e->mode, e->name, e->name_len);
    for (e = NULL; n->durable.len && (e = next_entry(&n->durable, e));)
        if (!find(&now, e))
            add_entry(&lost, &nowhere, 0, e->name, e->name_len);
    free(now.at);
    free(n->lost.at);
    n->lost = lost;
}

/* `now`, with each lost name that has not changed since put back to what is durable. */
static struct bytes without_lost(struct node *n, struct bytes now)
{
    struct bytes list = {0}, lost = {0};
    struct entry *e = NULL, *old, *l;
    while (now.len && (e = next_entry(&now, e))) {
        if ((l = find(&n->lost, e)) && same(&l->key, &e->key)) {
            add_entry(&lost, &l->key, l->mode, l->name, l->name_len);
            if ((old = find(&n->durable, e)))
                add_entry(&list, &old->key, old->mode, old->name, old->name_len);
        } else {
            add_entry(&list, &e->key, e->mode, e->name, e->name_len);
        }
    }
    for (l = NULL; (l = next_entry(&n->lost, l));)
        if (same(&l->key, &nowhere) && !find(&now, l) && (old = find(&n->durable, l))) {
            add_entry(&lost, &nowhere, 0, l->name, l->name_len);
            add_entry(&list, &old->key, old->mode, old->name, old->name_len);
        }
    free(now.at);
    free(n->lost.at);
    n->lost = lost;
    return list;
}

static void record_folder(struct node *n, int fd, const struct place *p)
{
    struct bytes list = list_folder(fd);
    if (n->lost.len)
        list = without_lost(n, list);
    uint64_t count = 0;
    for (struct entry *e = NULL; list.len && (e = next_entry(&list, e));)
        count++;
    put_head(A_FOLDER, p, 0, count, list.len);
    put(list.at, list.len);
    free(n->durable.at);
    n->durable = list;
}

/* ---- sync ---- */

/* Counts a sync that begins; true if it is the one to fail. */
static int count_sync(const struct place *p)
{
    char text[48];
    syncs++;
    int matches = strstr(p->path + root_len, fail_text) != NULL;
    matching += matches;
    if (count_file >= 0) {
        int len = snprintf(text, sizeof text, "%lu %lu\n", syncs, matching);
        if (syscall(SYS_pwrite64, count_file, text, len, 0) != len)
            die("writing the count");
    }
    if (syncs == kill_at)
        for (;;)
            kill(getpid(), SIGKILL);
    return matches && matching == fail_at;
}

static int sync_fd(int fd, long number)
{
    struct place p;
    if (!below_root(fd, &p))
        return (int)syscall(number, fd);
    pthread_mutex_lock(&lock);
    struct node *n = node_of(&p.key);
    int fails = count_sync(&p), error = errno;
    pthread_mutex_unlock(&lock);

    pthread_mutex_lock(&n->syncing);
    int done = 0;
    if (fails || (real_sync && syscall(number, fd) != 0)) {
        error = fails ? EIO : errno;
        done = -1;
    }
    pthread_mutex_lock(&lock);
    if (!look(fd, "", &p))
        die("looking at a synced file");
    if (S_ISDIR(p.mode))
        done ? lose_names(n, fd) : record_folder(n, fd, &p);
    else if (done)
        n->ranges = 0;
    else
        record_file(n, fd, &p);
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&n->syncing);
    errno = error;
    return done;
}

/* ---- start ---- */

/* All that exists is durable. A folder comes before what is in it, so the root is the first record. */
static void record_tree(int fd)
{
    struct place p;
    if (!look(fd, "", &p))
        die("looking at the root");
    struct node *n = node_of(&p.key);
    if (S_ISREG(p.mode)) {
        add_dirty(n, 0, p.size);
        record_file(n, fd, &p);
        return;
    }
    record_folder(n, fd, &p);
    for (struct entry *e = NULL; n->durable.len && (e = next_entry(&n->durable, e));) {
        char name[NAME_MAX + 1] = {0};
        memcpy(name, e->name, e->name_len);
        int child = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0)
            die(name);
        record_tree(child);
        close(child);
    }
}

/* Opens one of the layer's own files, out of the way of the low descriptors. */
static int own_file(const char *path, int flags)
{
    int fd = open(path, flags | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        die(path);
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 800);
    if (high < 0)
        return fd;
    close(fd);
    return high;
}

static void forked(void)
{
    active = 0; /* the journal has one writer */
}

__attribute__((constructor)) static void start(void)
{
    char text[PATH_MAX + 16];
    const char *dir = getenv("POWER_LOSS_ROOT"), *shadow = getenv("POWER_LOSS_SHADOW");
    const char *owner = getenv("POWER_LOSS_PID"), *fail = getenv("POWER_LOSS_FAIL_SYNC");
    const char *at = getenv("POWER_LOSS_KILL_AT"), *count = getenv("POWER_LOSS_COUNT_FILE");
    const char *real = getenv("POWER_LOSS_REAL_SYNC");
    /* A program that the watched one starts inherits the environment; exec in place keeps the pid. */
    if (!dir || !shadow || (owner && atol(owner) != (long)getpid()))
        return;
    snprintf(text, sizeof text, "%ld", (long)getpid());
    setenv("POWER_LOSS_PID", text, 1);
    if (!realpath(dir, root))
        die(dir);
    root_len = strlen(root);
    if (fail) {
        char *rest;
        fail_at = strtoull(fail, &rest, 10);
        fail_text = *rest == ':' ? strdup(rest + 1) : "";
    }
    kill_at = at ? strtoull(at, NULL, 10) : 0;
    real_sync = !real || strcmp(real, "0") != 0;
    if (count) {
        count_file = own_file(count, O_WRONLY | O_TRUNC);
        if (syscall(SYS_pwrite64, count_file, "0 0\n", 4, 0) != 4)
            die(count);
    }
    snprintf(text, sizeof text, "%s/journal", shadow);
    journal = own_file(text, O_WRONLY | O_TRUNC);
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        die(root);
    record_tree(fd);
    close(fd);
    pthread_atfork(NULL, NULL, forked);
    active = 1;
}

/* ---- the symbols taken over ---- */

/* Performs `call`, which writes to `fd` at `where` (below 0: at its position). */
#define WRITE(fd, where, call)                       \
    do {                                             \
        struct place p_;                             \
        off_t at_ = (where);                         \
        struct node *n_ = begin_write((fd), &p_);    \
        ssize_t done_ = (call);                      \
        if (n_)                                      \
            end_write(n_, (fd), &p_, at_, done_);    \
        return done_;                                \
    } while (0)

/* Defines `name` and its twin for 64-bit offsets, which is the same function here. */
#define WITH_TWIN(result, name, twin, arguments) \
    result twin arguments __attribute__((alias(#name)))

int fsync(int fd) { return sync_fd(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_fd(fd, SYS_fdatasync); }

ssize_t write(int fd, const void *b, size_t n) { WRITE(fd, -1, syscall(SYS_write, fd, b, n)); }
ssize_t writev(int fd, const struct iovec *v, int n) { WRITE(fd, -1, syscall(SYS_writev, fd, v, n)); }

ssize_t pwrite(int fd, const void *b, size_t n, off_t at)
{
    WRITE(fd, at, syscall(SYS_pwrite64, fd, b, n, at));
}
WITH_TWIN(ssize_t, pwrite, pwrite64, (int, const void *, size_t, off_t));

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    WRITE(fd, at, syscall(SYS_pwritev, fd, v, n, at, 0));
}
WITH_TWIN(ssize_t, pwritev, pwritev64, (int, const struct iovec *, int, off_t));

ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t at, int flags)
{
    WRITE(fd, at, syscall(SYS_pwritev2, fd, v, n, at, 0, flags));
}
WITH_TWIN(ssize_t, pwritev2, pwritev64v2, (int, const struct iovec *, int, off_t, int));

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t n, unsigned flags)
{
    WRITE(out, out_at ? *out_at : -1, syscall(SYS_copy_file_range, in, in_at, out, out_at, n, flags));
}

ssize_t sendfile(int out, int in, off_t *in_at, size_t n) { WRITE(out, -1, syscall(SYS_sendfile, out, in, in_at, n)); }
WITH_TWIN(ssize_t, sendfile, sendfile64, (int, int, off_t *, size_t));

int ftruncate(int fd, off_t size)
{
    struct place p;
    struct node *n = begin_write(fd, &p);
    int done = (int)syscall(SYS_ftruncate, fd, size);
    if (n) {
        if (done == 0 && (uint64_t)size < n->min_size)
            n->min_size = (uint64_t)size;
        end_write(n, fd, &p, 0, 0);
    }
    return done;
}
WITH_TWIN(int, ftruncate, ftruncate64, (int, off_t));

/* Renames wait while a folder is listed: a name moving past the reader could be missed under both names. */
int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    if (!active)
        return (int)syscall(SYS_renameat2, from, old, to, new, flags);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_renameat2, from, old, to, new, flags);
    pthread_mutex_unlock(&lock);
    return done;
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }
