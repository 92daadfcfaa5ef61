# The features of a usual board with Wi-Fi, and no library that this machine may lack.
MICROPY_PY_BTREE = 0
MICROPY_PY_FFI = 0
MICROPY_PY_SSL = 0
MICROPY_PY_TERMIOS = 0
MICROPY_PY_THREAD = 0
MICROPY_PY_BLUETOOTH = 0
MICROPY_VFS_FAT = 0
MICROPY_VFS_LFS1 = 0
MICROPY_VFS_LFS2 = 0
include $(PROJECT)/scripts/boards/crypto/crypto.mk
# For clawland_repl.
SHARED_SRC_C_EXTRA += runtime/pyexec.c
