/* Runs the tests of a program: all of them, or those whose names contain an argument. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "harness.h"

#define SECONDS_A_TEST 60

static test *first, *last;

void
harness_add(test *each)
{
    if (last == NULL) {
        first = each;
    } else {
        last->next = each;
    }
    last = each;
}

_Noreturn void
harness_fail(const char *file, int line, const char *claim)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, claim);
    /* Not exit(): other threads may still run, and leaks do not matter any more. */
    _exit(1);
}

/* Returns: whether it passed. */
static int
run_apart(const test *each)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(SECONDS_A_TEST);
        each->run();
        exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status)) {
        int signal = WTERMSIG(status);
        fprintf(stderr, "%s: %s\n", each->name, signal == SIGALRM ? "it hangs" : strsignal(signal));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int
is_chosen(const test *each, int n_names, char **names)
{
    for (int i = 0; i < n_names; i++) {
        if (strstr(each->name, names[i]) != NULL) {
            return 1;
        }
    }
    return n_names == 0;
}

int
main(int argc, char **argv)
{
    int passed = 0, failed = 0;
    for (const test *each = first; each != NULL; each = each->next) {
        if (is_chosen(each, argc - 1, argv + 1)) {
            if (run_apart(each)) {
                passed++;
            } else {
                failed++;
                fprintf(stderr, "FAILED %s\n", each->name);
            }
        }
    }
    printf("%s: %d passed, %d failed\n", argv[0], passed, failed);
    return failed != 0 || passed == 0;
}
