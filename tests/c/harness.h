/* A small test harness. Every TEST runs in a process of its own, so a failed claim, a crash, an
 * abort of a debug check, a sanitizer's report or a hang fails that test and no other.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
} test;

void harness_add(test *each);

/* Ends the process, and with it the test, from whichever thread. */
_Noreturn void harness_fail(const char *file, int line, const char *claim);

#define TEST(test_name)                                                                            \
    static void test_name(void);                                                                   \
    static test test_name##_test = {.name = #test_name, .run = test_name};                         \
    __attribute__((constructor)) static void test_name##_add(void)                                 \
    {                                                                                              \
        harness_add(&test_name##_test);                                                            \
    }                                                                                              \
    static void test_name(void)

#define CHECK(claim)                                                                               \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            harness_fail(__FILE__, __LINE__, #claim);                                              \
        }                                                                                          \
    } while (0)

#define CHECK_INT(value, expected)                                                                 \
    do {                                                                                           \
        long long value_ = (long long)(value), expected_ = (long long)(expected);                  \
        if (value_ != expected_) {                                                                 \
            fprintf(stderr, "%lld, not %lld: ", value_, expected_);                                \
            harness_fail(__FILE__, __LINE__, #value " == " #expected);                             \
        }                                                                                          \
    } while (0)

#define CHECK_TEXT(value, expected)                                                                \
    do {                                                                                           \
        const char *value_ = (value), *expected_ = (expected);                                     \
        if (strcmp(value_, expected_) != 0) {                                                      \
            fprintf(stderr, "\"%s\", not \"%s\": ", value_, expected_);                            \
            harness_fail(__FILE__, __LINE__, #value " == " #expected);                             \
        }                                                                                          \
    } while (0)

#endif
