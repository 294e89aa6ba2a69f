# Runs every program that was built, each in its short form. `make test` calls this.
# Ends with one line, "N passed, N failed": a test of `unit` counts once in each variant, each other
# program once.
set -u
cd "$(dirname "$0")" || exit 1
export ASAN_OPTIONS=detect_stack_use_after_return=0 TSAN_OPTIONS=halt_on_error=0

passed=0
failed=0
for program in build/*/unit; do
    summary=$("$program" | tail -n 1)
    echo "$summary"
    set -- $(echo "$summary" | sed -n 's/^.*: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
    passed=$((passed + ${1:-0}))
    failed=$((failed + ${2:-1}))
done

run() {
    [ -x "$1" ] || return 0
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $*"
    fi
}

run build/plain/explore 1
run build/address/explore 0.05
run build/plain/interleave
run build/address/interleave 300
run build/plain/stress 3
run build/address/stress 3
run build/thread/stress 4

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
