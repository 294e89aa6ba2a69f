#include "script.h"

#include <string.h>

const char script_key_names[MAX_SCRIPT_KEYS + 1] = "abcd";

static const char *const verbs[] = {"get",  "hope",  "try",   "put",  "up",   "hopeup", "down",
                                    "give", "clear", "close", "list", "grow", "shrink"};

enum { N_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static bool
has_slot(uint8_t verb)
{
    return verb <= GIVE;
}

static bool
has_keys(uint8_t verb)
{
    return verb <= TRY || verb == LIST;
}

static const char *
skip_spaces(const char *text)
{
    return text + strspn(text, " \n");
}

static bool
parse_owner(uint8_t *owner, char letter)
{
    *owner = letter == '-' ? 0 : (uint8_t)(letter - 't' + 1);
    return letter == '-' || (letter >= 't' && letter <= 'z');
}

/* Returns: the rest of the text, or NULL. */
static const char *
parse_op(op *op, const char *text)
{
    size_t size = strcspn(text, " ;|/\n");
    memset(op, 0, sizeof(*op));
    while (strlen(verbs[op->verb]) != size || strncmp(verbs[op->verb], text, size) != 0) {
        if (++op->verb == N_VERBS) {
            return NULL;
        }
    }
    text = skip_spaces(text + size);
    if (has_slot(op->verb)) {
        op->slot = (uint8_t)(*text - '0');
        if (op->slot >= MAX_SLOTS) {
            return NULL;
        }
        text = skip_spaces(text + 1);
    }
    if (op->verb == GIVE) {
        return parse_owner(&op->to, *text) ? skip_spaces(text + 1) : NULL;
    }
    while (has_keys(op->verb) && *text >= 'a' && *text < 'a' + MAX_SCRIPT_KEYS) {
        op->modes[*text - 'a'] = text[1] == '!' ? EXCLUSIVE : SHARED;
        text = skip_spaces(text + (text[1] == '!' ? 2 : 1));
    }
    return text;
}

bool
script_parse(script *script, const char *text)
{
    memset(script, 0, sizeof(*script));
    for (text = skip_spaces(text); *text != '\0'; text = skip_spaces(text)) {
        if (script->n_actors == MAX_ACTORS) {
            return false;
        }
        actor_script *actor = &script->actors[script->n_actors++];
        if (!parse_owner(&actor->owner, text[0]) || text[1] != ':') {
            return false;
        }
        for (text += 2; *text != '\0' && *text != '|';) {
            text = skip_spaces(text + (*text == ';'));
            if (*text == '/') {
                actor->n_first = actor->n_ops;
                text = skip_spaces(text + 1);
            }
            if (*text == '\0' || *text == '|') {
                break;
            }
            if (actor->n_ops == MAX_OPS
                || (text = parse_op(&actor->ops[actor->n_ops++], text)) == NULL) {
                return false;
            }
        }
        text += *text == '|';
    }
    return script->n_actors > 0;
}

void
script_print(const script *script, FILE *file)
{
    for (int i = 0; i < script->n_actors; i++) {
        const actor_script *actor = &script->actors[i];
        fprintf(file, "%s%c:", i > 0 ? " | " : "",
                actor->owner == 0 ? '-' : 't' + actor->owner - 1);
        for (int j = 0; j < actor->n_ops; j++) {
            const op *op = &actor->ops[j];
            fprintf(file, "%s %s", j == 0 ? "" : j == actor->n_first ? " /" : ";", verbs[op->verb]);
            if (has_slot(op->verb)) {
                fprintf(file, " %d", op->slot);
            }
            if (op->verb == GIVE) {
                fprintf(file, " %c", op->to == 0 ? '-' : 't' + op->to - 1);
            }
            for (int k = 0; k < MAX_SCRIPT_KEYS; k++) {
                if (op->modes[k] != ABSENT) {
                    fprintf(file, " %c%s", script_key_names[k],
                            op->modes[k] == EXCLUSIVE ? "!" : "");
                }
            }
        }
    }
    fprintf(file, "\n");
}
