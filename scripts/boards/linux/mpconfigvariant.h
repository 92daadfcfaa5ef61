// The features that an ESP32 and a Pico W have, and what the Unix port adds to them.
#include <stdbool.h>

#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)
#include "ports/unix/variants/mpconfigvariant_common.h"
// What the prompt greets with; the usual words want a header that it does not read.
#define MICROPY_BANNER_MACHINE "Linux"
// See clawland_repl.c.
extern void clawland_repl_interruptible(bool on);
#define MICROPY_BOARD_BEFORE_PYTHON_EXEC(input_kind, exec_flags) clawland_repl_interruptible(true)
#define MICROPY_BOARD_AFTER_PYTHON_EXEC(input_kind, exec_flags, exception, result) clawland_repl_interruptible(false)
