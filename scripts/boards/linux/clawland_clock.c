// The machine's monotonic clock whole: MicroPython's ticks wrap, and a rehearsal's processes agree on a time in common.
#include <time.h>

#include "py/obj.h"
#include "py/runtime.h"

static mp_obj_t clawland_clock_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return mp_obj_new_int_from_ll((long long)now.tv_sec * 1000000000 + now.tv_nsec);
}
static MP_DEFINE_CONST_FUN_OBJ_0(clawland_clock_monotonic_ns_obj, clawland_clock_monotonic_ns);

static const mp_rom_map_elem_t clawland_clock_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_clawland_clock) },
    { MP_ROM_QSTR(MP_QSTR_monotonic_ns), MP_ROM_PTR(&clawland_clock_monotonic_ns_obj) },
};
static MP_DEFINE_CONST_DICT(clawland_clock_globals, clawland_clock_globals_table);

const mp_obj_module_t clawland_clock_module = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&clawland_clock_globals,
};
MP_REGISTER_MODULE(MP_QSTR_clawland_clock, clawland_clock_module);
