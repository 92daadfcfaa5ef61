// The prompt that a board has on its serial port, raw REPL included: MicroPython's own, which its Unix port leaves out.
// With it a process on a PTY can be flashed and watched as a board is.
#include <termios.h>

#include "py/obj.h"
#include "py/runtime.h"
#include "shared/readline/readline.h"
#include "shared/runtime/pyexec.h"

// Whether Ctrl-C is a signal (a program runs) or a key (the prompt waits). What was typed ahead stays, as in a UART.
void clawland_repl_interruptible(bool on) {
    struct termios mode;
    if (tcgetattr(0, &mode) == 0) {
        mode.c_lflag = on ? mode.c_lflag | ISIG : mode.c_lflag & ~ISIG;
        tcsetattr(0, TCSANOW, &mode);
    }
}

// serve(): until Ctrl-D, which asks for a soft reset.
static mp_obj_t clawland_repl_serve(void) {
    clawland_repl_interruptible(false);
    readline_init0();
    while ((pyexec_mode_kind == PYEXEC_MODE_RAW_REPL ? pyexec_raw_repl() : pyexec_friendly_repl()) == 0) {
    }
    clawland_repl_interruptible(true);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_0(clawland_repl_serve_obj, clawland_repl_serve);

static const mp_rom_map_elem_t clawland_repl_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_clawland_repl) },
    { MP_ROM_QSTR(MP_QSTR_serve), MP_ROM_PTR(&clawland_repl_serve_obj) },
};
static MP_DEFINE_CONST_DICT(clawland_repl_globals, clawland_repl_globals_table);

const mp_obj_module_t clawland_repl_module = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&clawland_repl_globals,
};
MP_REGISTER_MODULE(MP_QSTR_clawland_repl, clawland_repl_module);
