// The features that an ESP32 and a Pico W have, and what the Unix port adds to them.
#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)
#include "ports/unix/variants/mpconfigvariant_common.h"
// While a program runs, Ctrl-C is a signal; at the prompt it is a key.
extern void mp_hal_stdio_mode_raw(void);
extern void mp_hal_stdio_mode_orig(void);
#define MICROPY_BOARD_BEFORE_PYTHON_EXEC(input_kind, exec_flags) mp_hal_stdio_mode_orig()
#define MICROPY_BOARD_AFTER_PYTHON_EXEC(input_kind, exec_flags, exception, result) mp_hal_stdio_mode_raw()
// What the prompt greets with; the usual words want a header that it does not read.
#define MICROPY_BANNER_MACHINE "Linux"
