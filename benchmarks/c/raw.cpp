// Takes and gives back keys as fast as it goes, one thread and two, each on keys of its own, and
// prints what a pair costs as JSON. The rivals take turns, round by round.
//
//     raw [ROUNDS] [MILLISECONDS]
#include <ctime>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "rival.h"
#ifdef HAVE_TBB
#include <tbb/version.h>
#endif
#ifdef HAVE_ROCKSDB
#include <rocksdb/version.h>
#endif

namespace {

constexpr size_t N_KEYS = 1024;

const raw_rival *const RIVALS[] = {
    &core_fresh,
    &core_prepared,
#ifdef HAVE_TBB
    &tbb_numbers,
    &tbb_strings,
    &tbb_hashed,
#endif
#ifdef HAVE_ROCKSDB
    &rocksdb_locks,
#endif
};

struct Keys {
    explicit Keys(size_t n_threads) : texts(n_threads), keys(n_threads)
    {
        for (size_t thread = 0; thread < n_threads; thread++) {
            for (size_t i = 0; i < N_KEYS; i++) {
                texts[thread].push_back("vm-" + std::to_string(thread) + "-" + std::to_string(i));
            }
            for (size_t i = 0; i < N_KEYS; i++) {
                const std::string &text = texts[thread][i];
                uint64_t hash = std::hash<std::string>()(text) * UINT64_C(0x9E3779B97F4A7C15);
                uint64_t number = (thread << 32) + i;
                keys[thread].push_back({text.data(), text.size(), hash, number});
            }
            pointers.push_back(keys[thread].data());
        }
    }

    std::vector<std::vector<std::string>> texts;
    std::vector<std::vector<raw_key>> keys;
    std::vector<const raw_key *> pointers;
};

// One rival with so many threads, and what it has been measured to take.
struct Contender {
    Contender(const raw_rival *its, const Keys &keys, size_t threads)
        : rival(its), table(its->make(keys.pointers.data(), N_KEYS, threads)), n_threads(threads)
    {
        if (!rival->excludes(table)) {
            std::fprintf(stderr, "%s does not exclude\n", rival->name);
            std::exit(1);
        }
    }

    ~Contender() { rival->free(table); }

    const raw_rival *rival;
    void *table;
    size_t n_threads;
    size_t repetitions = 1;
    std::vector<double> ns;         // processor time of a pair, for each thread that did it
    std::vector<double> throughput; // pairs per microsecond, all threads together
};

double processor_time()
{
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return 1e9 * static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec);
}

void round(Contender &contender)
{
    std::atomic<size_t> ready{0};
    std::atomic<bool> go{false};
    std::vector<double> took(contender.n_threads);
    std::vector<std::thread> threads;
    for (size_t thread = 0; thread < contender.n_threads; thread++) {
        threads.emplace_back([&, thread] {
            ready++;
            while (!go) {
                std::this_thread::yield();
            }
            double start = processor_time();
            for (size_t i = 0; i < contender.repetitions; i++) {
                contender.rival->pairs(contender.table, thread);
            }
            took[thread] = processor_time() - start;
        });
    }
    while (ready < contender.n_threads) {
        std::this_thread::yield();
    }
    auto start = std::chrono::steady_clock::now();
    go = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    std::chrono::duration<double, std::micro> wall = std::chrono::steady_clock::now() - start;
    double total = 0;
    for (double each : took) {
        total += each;
    }
    double pairs = static_cast<double>(contender.repetitions * N_KEYS * contender.n_threads);
    contender.ns.push_back(total / pairs);
    contender.throughput.push_back(pairs / wall.count());
}

// Prints median, lower and upper quartile.
void print_spread(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    auto at = [&](double part) {
        return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
    };
    std::printf("[%.4f, %.4f, %.4f]", at(0.5), at(0.25), at(0.75));
}

std::vector<double> quotients(const std::vector<double> &above, const std::vector<double> &below)
{
    std::vector<double> result;
    for (size_t i = 0; i < above.size(); i++) {
        result.push_back(above[i] / below[i]);
    }
    return result;
}

} // namespace

int main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 25;
    double milliseconds = argc > 2 ? std::strtod(argv[2], nullptr) : 20;
    if (rounds < 1 || !(milliseconds > 0)) {
        std::fprintf(stderr, "usage: raw [ROUNDS] [MILLISECONDS]\n");
        return 2;
    }
    Keys keys(2);
    std::vector<std::unique_ptr<Contender>> contenders;
    for (const raw_rival *rival : RIVALS) {
        for (size_t n_threads : {1, 2}) {
            contenders.push_back(std::make_unique<Contender>(rival, keys, n_threads));
            Contender &contender = *contenders.back();
            round(contender);
            double once = contender.ns.back() * N_KEYS;
            contender.repetitions = std::max<size_t>(1, size_t(milliseconds * 1e6 / once));
            contender.ns.clear();
            contender.throughput.clear();
        }
    }
    for (size_t i = 0; i < rounds; i++) {
        for (auto &contender : contenders) {
            round(*contender);
        }
    }

    std::printf("{\"keys\": %zu, \"rounds\": %zu, \"missing\": [%s], \"versions\": {",
                N_KEYS, rounds, MISSING);
    const char *separator = "";
#ifdef HAVE_TBB
    std::printf("\"oneTBB\": \"%d.%d\"", TBB_VERSION_MAJOR, TBB_VERSION_MINOR);
    separator = ", ";
#endif
#ifdef HAVE_ROCKSDB
    std::printf("%s\"RocksDB point locks\": \"%d.%d.%d\"", separator, ROCKSDB_MAJOR, ROCKSDB_MINOR,
                ROCKSDB_PATCH);
#endif
    (void)separator;
    std::printf("}, \"runs\": [");
    const char *comma = "";
    for (size_t i = 0; i < contenders.size(); i++) {
        const Contender &mine = *contenders[i];
        const Contender &alone = *contenders[i - i % 2];
        std::printf("%s\n  {\"rival\": \"%s\", \"threads\": %zu, \"ns\": ", comma,
                    mine.rival->name, mine.n_threads);
        print_spread(mine.ns);
        std::printf(", \"speedup\": ");
        print_spread(quotients(mine.throughput, alone.throughput));
        std::printf(", \"ratios\": {");
        for (size_t j = 0; j < 2; j++) { // to lockcore's two, with as many threads
            const Contender &its = *contenders[2 * j + i % 2];
            std::printf("%s\"%s\": ", j ? ", " : "", its.rival->name);
            print_spread(quotients(mine.ns, its.ns));
        }
        std::printf("}}");
        comma = ",";
    }
    std::printf("\n]}\n");
    return 0;
}
