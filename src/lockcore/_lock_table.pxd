# The C core as Cython sees it. lock_table.h has the contracts.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "lock_table.h" nogil:
    ctypedef struct lc_mutex:
        pass

    void lc_mutex_lock(lc_mutex *mutex)
    void lc_mutex_unlock(lc_mutex *mutex)
    int64_t lc_now()
    void lc_spin_pause()
    void lc_yield_thread()

    enum:
        LC_SHARED
        LC_EXCLUSIVE

    enum:
        LC_STR1
        LC_STR2
        LC_STR4
        LC_BYTES
        LC_INT
        LC_UUID
        LC_UNIQUE

    enum:
        LC_NEW
        LC_WAITING
        LC_HELD
        LC_ENDED
        LC_SHUT_OUT

    ctypedef enum lc_status:
        LC_OK
        LC_CONFLICT
        LC_QUEUED
        LC_NOT_HELD
        LC_CLOSED
        LC_DEADLOCK
        LC_NO_MEMORY
        LC_BUSY

    ctypedef struct lc_name:
        const void *group
        const void *id
        uint64_t hash
        uint32_t group_size
        uint32_t id_size
        uint8_t group_kind
        uint8_t id_kind
        uint8_t mode
        uint32_t position

    ctypedef struct lc_key:
        uint64_t hash
        const unsigned char *bytes
        uint32_t size
        uint32_t shape

    ctypedef struct lc_table:
        pass

    ctypedef struct lc_link:
        lc_key key
        uint8_t mode

    ctypedef struct lc_waiter:
        void (*wake)(lc_request *request) noexcept nogil
        void *parker
        lc_table *table
        unsigned char has_resumed  # atomic
        uint8_t is_next

    ctypedef struct lc_request:
        uint32_t n_links
        uint64_t token
        void *payload
        lc_key *owner
        lc_waiter *waiter
        lc_request *below
        lc_link *links

    ctypedef struct lc_spares:
        pass

    ctypedef struct lc_row:
        lc_request *request
        const lc_key *owner
        uint32_t link
        uint8_t mode
        uint8_t is_waiter
        uint64_t token
        int64_t since

    ctypedef struct lc_rows:
        lc_row *rows
        size_t n
        size_t capacity

    enum:
        LC_N_WAIT_BINS

    ctypedef struct lc_statistics:
        uint64_t acquired
        uint64_t refused
        uint64_t waits
        uint64_t timeouts
        uint64_t deadlocks
        uint64_t wakes
        uint64_t *wait_bins

    lc_table *lc_table_new()
    void lc_table_guard(lc_table *table)
    void lc_table_unguard(lc_table *table)
    lc_request *lc_table_free(lc_table *table)
    lc_request *lc_next_ended(const lc_request *request)
    void lc_table_keep(lc_table *table)
    bint lc_table_drop(lc_table *table)
    bint lc_table_leave(lc_table *table)
    void lc_table_close(lc_table *table)
    bint lc_table_is_closed(lc_table *table)
    void lc_call_after_waking(void (*call)() noexcept nogil)
    bint lc_handle_forks()
    lc_request *lc_tables_empty()

    lc_request *lc_request_new(lc_name *names, uint32_t *n, const lc_name *owner, lc_spares *spares)
    lc_request *lc_request_copy(const lc_request *request, void *payload)
    lc_request *lc_request_keep(lc_request *request)
    bint lc_request_drop(lc_request *request)
    bint lc_request_is_ours(const lc_request *request)
    void lc_request_free(lc_request *request, lc_spares *spares)
    int lc_request_state(const lc_request *request)

    void lc_expect_grant(lc_table *table)
    lc_status lc_try_acquire(lc_table *table, lc_request *request)
    lc_status lc_acquire(
        lc_table *table, lc_request *request, lc_waiter *waiter, lc_rows *blockers
    )
    lc_status lc_queue(lc_table *table, lc_request *request, lc_waiter *waiter)
    lc_status lc_cancel(lc_table *table, lc_request *request, bint timed_out, lc_rows *blockers)
    lc_status lc_break_deadlock(lc_table *table, lc_request *request, lc_rows *cycle)
    lc_status lc_release(lc_table *table, lc_request *request)
    size_t lc_release_rows(lc_table *table, lc_rows *rows, bint of_owner)

    lc_status lc_downgrade(lc_table *table, lc_request *request)
    lc_status lc_transfer(
        lc_table *table, lc_request *request, const lc_name *owner, lc_rows *blockers
    )
    lc_request *lc_request_upgrade(
        lc_table *table, const lc_request *request, void *payload
    )
    lc_status lc_begin_upgrade(lc_table *table, lc_request *request)
    lc_status lc_end_upgrade(lc_table *table, lc_request *request, lc_request *upgrade)

    void lc_look_at(
        lc_table *table, const lc_request *request, const lc_key **owner, uint64_t *token,
        uint8_t *modes)
    lc_status lc_list_key(lc_table *table, const lc_name *key, lc_rows *rows)
    lc_status lc_list_holders(lc_table *table, const lc_name *owner, lc_rows *rows)
    void lc_rows_clear(lc_rows *rows, void (*dispose)(lc_request *request) noexcept nogil)
    size_t lc_count_held(lc_table *table)
    void lc_read_statistics(lc_table *table, lc_statistics *statistics)
    void lc_count_refusal(lc_table *table)
