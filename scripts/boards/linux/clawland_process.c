// What a process on Linux needs beside MicroPython: to end in good order upon SIGTERM, and to have a file to itself.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include "py/obj.h"
#include "py/runtime.h"

static void interrupt(int signal_number) {
    (void)signal_number;
    mp_sched_keyboard_interrupt();
}

// SIGTERM is KeyboardInterrupt from now on, as Ctrl-C is.
static mp_obj_t clawland_process_stop_on_sigterm(void) {
    struct sigaction action = { .sa_handler = interrupt };
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_0(clawland_process_stop_on_sigterm_obj, clawland_process_stop_on_sigterm);

// lock(path): whether this process has the file to itself from now on, for as long as it lives. Raises OSError.
static mp_obj_t clawland_process_lock(mp_obj_t path) {
    int fd = open(mp_obj_str_get_str(path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        mp_raise_OSError(errno);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return mp_const_true;
    }
    int error = errno;
    close(fd);
    if (error != EWOULDBLOCK) {
        mp_raise_OSError(error);
    }
    return mp_const_false;
}
static MP_DEFINE_CONST_FUN_OBJ_1(clawland_process_lock_obj, clawland_process_lock);

static const mp_rom_map_elem_t clawland_process_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_clawland_process) },
    { MP_ROM_QSTR(MP_QSTR_stop_on_sigterm), MP_ROM_PTR(&clawland_process_stop_on_sigterm_obj) },
    { MP_ROM_QSTR(MP_QSTR_lock), MP_ROM_PTR(&clawland_process_lock_obj) },
};
static MP_DEFINE_CONST_DICT(clawland_process_globals, clawland_process_globals_table);

const mp_obj_module_t clawland_process_module = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&clawland_process_globals,
};
MP_REGISTER_MODULE(MP_QSTR_clawland_process, clawland_process_module);
