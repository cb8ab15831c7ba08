#include "member_set.h"

static size_t
home_of(const relib_member_set *set, const PyObject *object)
{
    return (size_t)(((uintptr_t)object >> 4) * 0x9E3779B97F4A7C15ull >> 32) & (set->slots - 1);
}

relib_member *
relib_member_set_find(const relib_member_set *set, const PyObject *object)
{
    if (set->index == NULL)
        return NULL;
    for (size_t i = home_of(set, object); set->index[i]; i = (i + 1) & (set->slots - 1))
        if (set->items[set->index[i] - 1].object == object)
            return &set->items[set->index[i] - 1];
    return NULL;
}

static void
index_item(relib_member_set *set, size_t position)
{
    size_t i = home_of(set, set->items[position].object);
    while (set->index[i])
        i = (i + 1) & (set->slots - 1);
    set->index[i] = (uint32_t)position + 1;
}

static int
grow(relib_member_set *set)
{
    size_t room = set->room ? set->room * 4 : 32;
    relib_member *items = PyMem_RawRealloc(set->items, room * sizeof(*items));
    if (items != NULL)
        set->items = items;
    uint32_t *index = PyMem_RawCalloc(room * 4, sizeof(*index));
    if (items == NULL || index == NULL) {
        PyMem_RawFree(index);
        return -1;
    }
    PyMem_RawFree(set->index);
    set->index = index;
    set->slots = room * 4;
    set->room = room;
    for (size_t i = 0; i < set->count; i++)
        index_item(set, i);
    return 0;
}

relib_member *
relib_member_set_add(relib_member_set *set, PyObject *object)
{
    relib_member *known = relib_member_set_find(set, object);
    if (known != NULL)
        return known;
    if (set->count == set->room && grow(set) < 0)
        return NULL;
    set->items[set->count] = (relib_member){object, 0, RELIB_RANKS, 0, 0};
    index_item(set, set->count);
    return &set->items[set->count++];
}

void
relib_member_set_free(relib_member_set *set)
{
    PyMem_RawFree(set->items);
    PyMem_RawFree(set->index);
}
