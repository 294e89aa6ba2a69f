/* Small programs of several actors over a few keys: what the explorers run.
 *
 * As text, an actor is its owner (a letter from t to z, or - for nobody) and what it does:
 *
 *     x: get 1 a! b; put 1 | y: hope 2 b!; up 2; put 2 | -: clear
 *
 * get waits for ever, hope may time out at any moment, try does not wait; put releases; up
 * (hopeup) makes exclusive, down shared; give 1 z transfers; clear ends every grant, close closes
 * the table, list lists a key, grow and shrink resize the array of buckets. Numbers name requests,
 * of whichever actor. An actor whose request fails goes on with its next put.
 *
 * What is before a slash is done first, one actor after the other: "x: get 1 a! / put 1 | ...".
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define MAX_ACTORS 4
#define MAX_OPS 8
#define MAX_SLOTS 10
#define MAX_SCRIPT_KEYS 4

enum verb { GET, HOPE, TRY, PUT, UP, HOPE_UP, DOWN, GIVE, CLEAR, CLOSE, LIST, GROW, SHRINK };

enum { ABSENT = 0, SHARED = 1, EXCLUSIVE = 2 }; /* a key in a request */

typedef struct op {
    uint8_t verb;
    uint8_t slot;
    uint8_t to;                         /* an owner */
    uint8_t modes[MAX_SCRIPT_KEYS];
} op;

typedef struct actor_script {
    uint8_t owner;                      /* 0: nobody */
    uint8_t n_ops;
    uint8_t n_first;                    /* of them, before the slash */
    op ops[MAX_OPS];
} actor_script;

typedef struct script {
    int n_actors;
    actor_script actors[MAX_ACTORS];
} script;

/* Returns: false when the text is no script. */
bool script_parse(script *script, const char *text);
void script_print(const script *script, FILE *file);

/* The keys of scripts are a, b, c, d. */
extern const char script_key_names[MAX_SCRIPT_KEYS + 1];

#endif
