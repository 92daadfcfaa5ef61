# What MicroPython's port to QEMU lacks for a node: to run by itself at power-on, to stand still until something comes,
# and to do without semihosting, through which whatever runs on the board could open the files of this machine.
SRC_USERMOD_C += $(USERMOD_DIR)/clawland_mps2.c
LDFLAGS_USERMOD += -Wl,--wrap=pyexec_friendly_repl -Wl,--wrap=mp_semihosting_init
include $(PROJECT)/scripts/boards/crypto/crypto.mk
