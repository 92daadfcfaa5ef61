// The emulated board runs its node at power-on, before there is a prompt, and sleeps between what it has to do.
#include <stdbool.h>

#include "py/obj.h"
#include "py/runtime.h"
#include "shared/runtime/pyexec.h"

// Stop the processor until a device asks for it. Interrupts are masked: they wake it, and no handler is needed.
static mp_obj_t clawland_mps2_wait_for_interrupt(void) {
    __asm volatile ("dsb\n wfi" ::: "memory");
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_0(clawland_mps2_wait_for_interrupt_obj, clawland_mps2_wait_for_interrupt);

static const mp_rom_map_elem_t clawland_mps2_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_clawland_mps2) },
    { MP_ROM_QSTR(MP_QSTR_wait_for_interrupt), MP_ROM_PTR(&clawland_mps2_wait_for_interrupt_obj) },
};
static MP_DEFINE_CONST_DICT(clawland_mps2_globals, clawland_mps2_globals_table);

const mp_obj_module_t clawland_mps2_module = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&clawland_mps2_globals,
};
MP_REGISTER_MODULE(MP_QSTR_clawland_mps2, clawland_mps2_module);

// main() of the port knows nothing but the prompt: it comes when the node's program ends, which it does at once on a
// board that was given no node. Nothing in this image handles interrupts, so they are masked for good.
int __real_pyexec_friendly_repl(void);
int __wrap_pyexec_friendly_repl(void);
int __wrap_pyexec_friendly_repl(void) {
    static bool started;
    if (!started) {
        started = true;
        __asm volatile ("cpsid i");
        pyexec_frozen_module("firmware/hosts/micro/power_on.py", false);
    }
    return __real_pyexec_friendly_repl();
}

// The port asks the host for a console here, and the board hangs when there is no semihosting. Its UART is console enough.
void __wrap_mp_semihosting_init(void);
void __wrap_mp_semihosting_init(void) {
}
