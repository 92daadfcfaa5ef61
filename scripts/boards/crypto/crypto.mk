# `cryptolib` for boards that come without one: MicroPython's own module upon the AES of Mbed TLS, as ESP32 and Pico W
# have it. Nothing else of Mbed TLS is built.
CRYPTO_C := $(addprefix lib/mbedtls/library/,aes.c platform_util.c)
CRYPTO_FLAGS = -I$(TOP)/lib/mbedtls/include -I$(PROJECT)/scripts/boards/crypto \
	-DMICROPY_SSL_MBEDTLS=1 -DMBEDTLS_CONFIG_FILE='<clawland_mbedtls.h>'
SRC_THIRDPARTY_C += $(CRYPTO_C)
CFLAGS += -DMICROPY_PY_CRYPTOLIB=1
$(BUILD)/extmod/modcryptolib.o $(addprefix $(BUILD)/,$(CRYPTO_C:.c=.o)): CFLAGS += $(CRYPTO_FLAGS)
