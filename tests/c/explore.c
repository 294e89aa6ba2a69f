/* Explores every order of the steps of small scripts over the real table.
 *
 *     explore [SHARE]            part of each family of scripts, evenly spread; 1: seconds
 *     explore "x: get 1 a! ..."  one script, in the notation of script.h
 *
 * A step is one call of the table. A search goes depth first through the states; to come to a
 * state again, its steps are made again on a new table. States are told apart by a hash of all
 * that the table holds, so each is looked at once. What is checked is in world.c and rules.h.
 */
#include <time.h>

#include "world.h"

#define MAX_STEPS 64
#define MAX_STATES (1u << 20)

/* ---- one script ------------------------------------------------------------ */

static uint64_t n_scripts, n_states, n_steps, n_ends, n_deadlocks, n_timeouts;

static const script *current;
static step path[MAX_STEPS];
static int depth;

_Noreturn void
explorer_fail(const char *what)
{
    static const char *const kinds[] = {"step", "look", "time out"};
    fprintf(stderr, "explore: %s\n  script: ", what);
    script_print(current, stderr);
    fprintf(stderr, "  steps:");
    for (int i = 0; i < depth; i++) {
        fprintf(stderr, "%s actor %d: %s", i > 0 ? "," : "", path[i].actor, kinds[path[i].kind]);
    }
    fprintf(stderr, "\n");
    abort();
}

/* Fingerprints seen, of the script whose number they carry. */
static struct {
    uint64_t fingerprint, script;
} seen[MAX_STATES];

/* Returns: whether it is new. */
static bool
see(uint64_t fingerprint)
{
    size_t i = fingerprint % MAX_STATES, end = i;
    while (seen[i].script == n_scripts && seen[i].fingerprint != fingerprint) {
        i = (i + 1) % MAX_STATES;
        REQUIRE(i != end);
    }
    bool is_new = seen[i].script != n_scripts;
    seen[i].fingerprint = fingerprint;
    seen[i].script = n_scripts;
    return is_new;
}

typedef struct choice {
    step options[3 * MAX_ACTORS];
    int n, chosen;
} choice;

static choice choices[MAX_STEPS];
static int n_choices;

/* Makes the chosen steps, then first ones, up to the end or a state seen before. */
static void
run_once(void)
{
    static world world;
    world_begin(&world, current);
    depth = 0;
    for (;;) {
        if (depth == n_choices) {
            world_check(&world);
            if (!see(world_fingerprint(&world))) {
                break;
            }
            n_states++;
            choice *choice = &choices[n_choices];
            choice->n = world_options(&world, choice->options);
            choice->chosen = 0;
            if (choice->n == 0) {
                world_check_end(&world);
                n_ends++;
                break;
            }
            REQUIRE(++n_choices < MAX_STEPS);
        }
        path[depth] = choices[depth].options[choices[depth].chosen];
        depth++;
        world_step(&world, path[depth - 1]);
        n_steps += depth == n_choices;
    }
    n_deadlocks += world.deadlocks;
    n_timeouts += world.timeouts;
    world_end(&world);
}

static void
explore(const script *script)
{
    current = script;
    n_scripts++;
    n_choices = 0;
    do {
        run_once();
        while (n_choices > 0 && choices[n_choices - 1].chosen + 1 == choices[n_choices - 1].n) {
            n_choices--;
        }
        if (n_choices > 0) {
            choices[n_choices - 1].chosen++;
        }
    } while (n_choices > 0);
}

/* ---- families of scripts --------------------------------------------------- */

#define MAX_PROGRAMS 2048

/* What one actor may do. Slots are numbered anew in each script. */
typedef struct menu {
    int n;
    actor_script programs[MAX_PROGRAMS];
} menu;

static op
request_op(enum verb verb, uint8_t slot, int number, int n_keys)
{
    op op = {.verb = (uint8_t)verb, .slot = slot};
    for (int key = 0; key < n_keys; key++, number /= 3) {
        op.modes[key] = (uint8_t)(number % 3);
    }
    return op;
}

static int
n_requests(int n_keys)
{
    int n = 1;
    for (int key = 0; key < n_keys; key++) {
        n *= 3;
    }
    return n; /* the empty one is number 0 */
}

static void
add_program(menu *menu, int n_ops, const op *ops)
{
    REQUIRE(menu->n < MAX_PROGRAMS && n_ops <= MAX_OPS);
    actor_script *program = &menu->programs[menu->n++];
    program->n_ops = (uint8_t)n_ops;
    memcpy(program->ops, ops, (size_t)n_ops * sizeof(op));
}

static const op put_0 = {.verb = PUT, .slot = 0}, put_1 = {.verb = PUT, .slot = 1};

/* get, release; the same with another verb. */
static void
add_single(menu *menu, enum verb verb, int n_keys)
{
    for (int i = 1; i < n_requests(n_keys); i++) {
        add_program(menu, 2, (op[]){request_op(verb, 0, i, n_keys), put_0});
    }
}

/* get, get more, release both, the later or the earlier first. */
static void
add_nested(menu *menu, enum verb second, int n_keys, bool earlier_first)
{
    for (int i = 1; i < n_requests(n_keys); i++) {
        for (int j = 1; j < n_requests(n_keys); j++) {
            op ops[] = {request_op(GET, 0, i, n_keys), request_op(second, 1, j, n_keys),
                        earlier_first ? put_0 : put_1, earlier_first ? put_1 : put_0};
            add_program(menu, 4, ops);
        }
    }
}

/* get, change, release. */
static void
add_changed(menu *menu, op change, int n_keys)
{
    for (int i = 1; i < n_requests(n_keys); i++) {
        add_program(menu, 3, (op[]){request_op(GET, 0, i, n_keys), change, put_0});
    }
}

/* Something done to the first actor's request, or to all. */
static void
add_meddling(menu *menu)
{
    static const op ops[] = {{.verb = CLEAR},
                             {.verb = CLOSE},
                             {.verb = PUT, .slot = 0},
                             {.verb = DOWN, .slot = 0},
                             {.verb = GIVE, .slot = 0, .to = 0},
                             {.verb = GIVE, .slot = 0, .to = 6},
                             {.verb = GIVE, .slot = 0, .to = 7}};
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        add_program(menu, 1, &ops[i]);
    }
}

typedef struct family {
    const char *name;
    int n_actors;
    char owners[MAX_ACTORS + 1];
    const menu *menus[MAX_ACTORS];
    double percent;                 /* of the scripts, that a share of 1 takes */
} family;

static void
build(script *script, const family *family, const int *programs)
{
    uint8_t slot = 0;
    memset(script, 0, sizeof(*script));
    script->n_actors = family->n_actors;
    for (int i = 0; i < family->n_actors; i++) {
        actor_script *actor = &script->actors[i];
        *actor = family->menus[i]->programs[programs[i]];
        char owner = family->owners[i];
        actor->owner = owner == '-' ? 0 : (uint8_t)(owner - 't' + 1);
        uint8_t highest = 0;
        bool is_meddling = actor->ops[0].verb > TRY;
        for (int j = 0; j < actor->n_ops && !is_meddling; j++) {
            highest = actor->ops[j].slot > highest ? actor->ops[j].slot : highest;
            actor->ops[j].slot += slot;
        }
        slot += highest + 1;
    }
}

/* Scripts that differ only in the names of their actors are one: of equal menus the programs
 * do not fall. Where owners are shared that is no symmetry, and all are taken. */
static bool
is_in_order(const family *family, const int *programs)
{
    for (int i = 1; i < family->n_actors; i++) {
        if (family->menus[i] == family->menus[i - 1]
            && strchr(family->owners, family->owners[i - 1]) == &family->owners[i - 1]
            && strrchr(family->owners, family->owners[i]) == &family->owners[i]
            && programs[i] < programs[i - 1]) {
            return false;
        }
    }
    return true;
}

static void
explore_family(const family *family, double share)
{
    int programs[MAX_ACTORS] = {0};
    uint64_t first = n_scripts, states = n_states, steps = n_steps, ends = n_ends, all = 0;
    double due = 1;
    clock_t began = clock();
    for (bool more = true; more;) {
        if (is_in_order(family, programs)) {
            all++;
            if (due >= 1) {
                script script;
                build(&script, family, programs);
                explore(&script);
                due -= 1;
            }
            due += share * family->percent / 100;
        }
        more = false;
        for (int i = family->n_actors - 1; i >= 0 && !more; i--) {
            more = ++programs[i] < family->menus[i]->n;
            programs[i] = more ? programs[i] : 0;
        }
    }
    printf("%-34s %7llu of %7llu scripts %10llu states %10llu steps %9llu ends %6.1f s\n",
           family->name, (unsigned long long)(n_scripts - first), (unsigned long long)all,
           (unsigned long long)(n_states - states), (unsigned long long)(n_steps - steps),
           (unsigned long long)(n_ends - ends), (double)(clock() - began) / CLOCKS_PER_SEC);
    fflush(stdout);
}

static void
explore_families(double share)
{
    static menu any, waiting, wide, nested, shared_owner, meddling;
    /* Two keys. */
    add_single(&waiting, GET, 2);
    add_single(&waiting, HOPE, 2);
    any = waiting;
    add_single(&any, TRY, 2);
    add_changed(&any, (op){.verb = UP, .slot = 0}, 2);
    add_changed(&any, (op){.verb = HOPE_UP, .slot = 0}, 2);
    add_changed(&any, (op){.verb = DOWN, .slot = 0}, 2);
    add_nested(&nested, GET, 2, false);
    add_nested(&nested, HOPE, 2, true);
    add_single(&shared_owner, GET, 2);
    add_nested(&shared_owner, GET, 2, true);
    add_meddling(&meddling);
    /* Three keys. */
    add_single(&wide, GET, 3);
    add_single(&wide, HOPE, 3);
    const family families[] = {
        {"2 keys, 3 owners, all verbs", 3, "xyz", {&any, &any, &any}, 2.5},
        {"2 keys, 3 nameless, all verbs", 3, "---", {&any, &any, &any}, 0.5},
        {"2 keys, 3 owners, 2 hold and wait", 3, "xyz", {&nested, &nested, &any}, 0.03},
        {"2 keys, 3 owners hold and wait", 3, "xyz", {&nested, &nested, &nested}, 0.02},
        {"2 keys, an owner's 2 threads", 3, "xxy", {&shared_owner, &shared_owner, &nested}, 0.05},
        {"2 keys, 2 owners' 4 threads", 4, "xxyy", {&waiting, &waiting, &waiting, &waiting}, 0.1},
        {"2 keys, 4 owners", 4, "wxyz", {&waiting, &waiting, &waiting, &waiting}, 1},
        {"2 keys, 3 threads, a meddler", 4, "xyz-", {&any, &waiting, &waiting, &meddling}, 0.1},
        {"2 keys, nested, a meddler", 3, "xy-", {&nested, &any, &meddling}, 0.5},
        {"3 keys, 3 owners", 3, "xyz", {&wide, &wide, &wide}, 0.5},
    };
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        explore_family(&families[i], share);
    }
}

int
main(int argc, char **argv)
{
    if (argc > 1 && strchr(argv[1], ':') != NULL) {
        script script;
        if (!script_parse(&script, argv[1])) {
            fprintf(stderr, "explore: this is no script: %s\n", argv[1]);
            return 2;
        }
        explore(&script);
    } else {
        explore_families(argc > 1 ? atof(argv[1]) : 1);
    }
    printf(
        "explored %llu scripts in all orders: %llu states, %llu steps, %llu ends; %llu deadlocks "
        "and %llu timeouts on the way\n",
        (unsigned long long)n_scripts, (unsigned long long)n_states, (unsigned long long)n_steps,
        (unsigned long long)n_ends, (unsigned long long)n_deadlocks,
        (unsigned long long)n_timeouts);
    return 0;
}
