// RocksDB's point lock manager, through its public door: a pessimistic transaction that locks a key
// without reading it, and lets it go again. The database is in memory and empty.
#include <rocksdb/env.h>
#include <rocksdb/utilities/transaction.h>
#include <rocksdb/utilities/transaction_db.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "rival.h"

namespace {

using rocksdb::Slice;
using rocksdb::Status;
using rocksdb::Transaction;
using rocksdb::TransactionDB;

void check(const Status &status)
{
    if (!status.ok()) {
        std::fprintf(stderr, "rocksdb: %s\n", status.ToString().c_str());
        std::abort();
    }
}

class Table {
  public:
    Table(const raw_key *const *keys, size_t n_keys, size_t n_threads)
        : env_(rocksdb::NewMemEnv(rocksdb::Env::Default())), keys_(keys), n_keys_(n_keys)
    {
        rocksdb::Options options;
        options.create_if_missing = true;
        options.env = env_.get();
        rocksdb::TransactionDBOptions locks;
        locks.num_stripes = 64; // the default of 16 is slower for two threads
        TransactionDB *db = nullptr;
        check(TransactionDB::Open(options, locks, "/raw", &db));
        db_.reset(db);
        for (size_t i = 0; i < n_threads + 1; i++) {
            transactions_.emplace_back(begin());
        }
    }

    ~Table()
    {
        transactions_.clear();
        db_.reset();
    }

    void pairs(size_t thread)
    {
        Transaction *transaction = transactions_[thread].get();
        for (size_t i = 0; i < n_keys_; i++) {
            Slice key(keys_[thread][i].bytes, keys_[thread][i].size);
            if (!acquire(transaction, key).ok()) {
                std::abort();
            }
            transaction->UndoGetForUpdate(key);
        }
    }

    bool excludes()
    {
        Transaction *first = transactions_.front().get();
        Transaction *second = transactions_.back().get();
        second->SetLockTimeout(0);
        Slice key(keys_[0][0].bytes, keys_[0][0].size);
        if (!acquire(first, key).ok() || !acquire(second, key).IsTimedOut()) {
            return false;
        }
        first->UndoGetForUpdate(key);
        if (!acquire(second, key).ok()) {
            return false;
        }
        second->UndoGetForUpdate(key);
        return true;
    }

  private:
    Transaction *begin()
    {
        rocksdb::TransactionOptions options;
        // Not 0: then it also gives up when it meets somebody else's key in the same stripe.
        options.lock_timeout = 1000;
        return db_->BeginTransaction(rocksdb::WriteOptions(), options);
    }

    Status acquire(Transaction *transaction, const Slice &key)
    {
        return transaction->GetForUpdate(
            rocksdb::ReadOptions(), key, static_cast<std::string *>(nullptr), true, false);
    }

    std::unique_ptr<rocksdb::Env> env_;
    std::unique_ptr<TransactionDB> db_;
    std::vector<std::unique_ptr<Transaction>> transactions_;
    const raw_key *const *keys_;
    size_t n_keys_;
};

void *make(const raw_key *const *keys, size_t n_keys, size_t n_threads)
{
    return new Table(keys, n_keys, n_threads);
}

void pairs(void *table, size_t thread) { static_cast<Table *>(table)->pairs(thread); }
bool excludes(void *table) { return static_cast<Table *>(table)->excludes(); }
void destroy(void *table) { delete static_cast<Table *>(table); }

} // namespace

const raw_rival rocksdb_locks = {"RocksDB point locks", make, pairs, excludes, destroy};
