// oneTBB's concurrent_hash_map as a lock table: a key is held while it is in the map.
#include <tbb/concurrent_hash_map.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "rival.h"

namespace {

// A string that brings its hash, as a str of Python does and as lockcore's keys do here.
struct Hashed {
    std::string text;
    uint64_t hash;
};

template <typename Key> Key key_of(const raw_key &key);
template <> uint64_t key_of(const raw_key &key) { return key.number; }
template <> std::string key_of(const raw_key &key) { return std::string(key.bytes, key.size); }
template <> Hashed key_of(const raw_key &key) { return {key_of<std::string>(key), key.hash}; }

// The low bits choose the bucket there, so the high ones are brought down.
struct CompareHashed {
    static size_t hash(const Hashed &key) { return key.hash ^ key.hash >> 32; }
    static bool equal(const Hashed &a, const Hashed &b) { return a.text == b.text; }
};

template <typename Key> struct Compare {
    using type = tbb::tbb_hash_compare<Key>;
};
template <> struct Compare<Hashed> {
    using type = CompareHashed;
};

template <typename Key> class Table {
  public:
    Table(const raw_key *const *keys, size_t n_keys, size_t n_threads) : keys_(n_threads)
    {
        for (size_t thread = 0; thread < n_threads; thread++) {
            for (size_t i = 0; i < n_keys; i++) {
                keys_[thread].push_back(key_of<Key>(keys[thread][i]));
            }
        }
    }

    // Remembers in the map who has the key, as a lock table must.
    bool acquire(const Key &key, size_t holder)
    {
        typename Map::accessor entry;
        if (!map_.insert(entry, key)) {
            return false;
        }
        entry->second = holder;
        return true;
    }

    bool release(const Key &key) { return map_.erase(key); }

    void pairs(size_t thread)
    {
        for (const Key &key : keys_[thread]) {
            if (!acquire(key, thread)) {
                std::abort();
            }
            release(key);
        }
    }

    bool excludes()
    {
        const Key &key = keys_[0][0];
        return acquire(key, 1) && !acquire(key, 2) && release(key) && acquire(key, 2) &&
               release(key);
    }

  private:
    using Map = tbb::concurrent_hash_map<Key, size_t, typename Compare<Key>::type>;
    Map map_;
    std::vector<std::vector<Key>> keys_;
};

template <typename Key>
void *make(const raw_key *const *keys, size_t n_keys, size_t n_threads)
{
    return new Table<Key>(keys, n_keys, n_threads);
}

template <typename Key> void pairs(void *table, size_t thread)
{
    static_cast<Table<Key> *>(table)->pairs(thread);
}

template <typename Key> bool excludes(void *table)
{
    return static_cast<Table<Key> *>(table)->excludes();
}

template <typename Key> void destroy(void *table) { delete static_cast<Table<Key> *>(table); }

} // namespace

const raw_rival tbb_numbers = {
    "oneTBB, number keys", make<uint64_t>, pairs<uint64_t>, excludes<uint64_t>, destroy<uint64_t>,
};
const raw_rival tbb_strings = {
    "oneTBB, string keys",     make<std::string>,    pairs<std::string>,
    excludes<std::string>, destroy<std::string>,
};
const raw_rival tbb_hashed = {
    "oneTBB, string keys with their hash",
    make<Hashed>,
    pairs<Hashed>,
    excludes<Hashed>,
    destroy<Hashed>,
};
