"""AES (FIPS 197), one block at a time and encryption only, for boards whose MicroPython has no `cryptolib`.

Slow, and its time may tell of the key to whoever holds the board: hardware or a library is better where there is one.
"""

BLOCK_BYTES = 16


def _double(value: int) -> int:
    return (value << 1) ^ (0x11B if value & 0x80 else 0)


def _make_box() -> bytes:
    """The S-box: inverses in GF(2^8) by powers of 3, then the affine map (sections 5.1.1 and 4.2)."""
    box = bytearray(256)
    power, inverse = 1, 1
    for _ in range(255):
        power = power ^ _double(power)
        for shift in (1, 2, 4):  # divided by 3
            inverse ^= inverse << shift
        inverse &= 0xFF
        if inverse & 0x80:
            inverse ^= 0x09
        bits = inverse
        for turn in (1, 2, 3, 4):
            bits ^= (inverse << turn | inverse >> (8 - turn)) & 0xFF
        box[power & 0xFF] = bits ^ 0x63
    box[0] = 0x63
    return bytes(box)


_BOX = _make_box()


class Aes:
    """`encrypt` takes 16 bytes; the key has 16, 24 or 32."""

    def __init__(self, key: bytes) -> None:
        words = [list(key[at : at + 4]) for at in range(0, len(key), 4)]
        if len(key) not in (16, 24, 32):
            raise ValueError("an AES key has 16, 24 or 32 bytes")
        count, rounds, constant = len(words), len(words) + 6, 1
        for number in range(count, 4 * (rounds + 1)):
            word = list(words[-1])
            if number % count == 0:
                word = [_BOX[b] for b in word[1:] + word[:1]]
                word[0] ^= constant
                constant = _double(constant)
            elif count == 8 and number % count == 4:
                word = [_BOX[b] for b in word]
            words.append([a ^ b for a, b in zip(word, words[number - count])])
        self._keys = [b"".join([bytes(word) for word in words[at : at + 4]]) for at in range(0, len(words), 4)]

    def encrypt(self, block: bytes) -> bytes:
        """One block, encrypted."""
        state = [a ^ b for a, b in zip(block, self._keys[0])]
        for key in self._keys[1:-1]:
            state = [a ^ b for a, b in zip(_mix(_shift(state)), key)]
        return bytes([a ^ b for a, b in zip(_shift(state), self._keys[-1])])


def _shift(state: "list[int]") -> "list[int]":
    """SubBytes and ShiftRows."""
    return [_BOX[state[(at + 4 * (at % 4)) % 16]] for at in range(16)]


def _mix(state: "list[int]") -> "list[int]":
    """MixColumns."""
    found = []
    for at in range(0, 16, 4):
        column = state[at : at + 4]
        every = column[0] ^ column[1] ^ column[2] ^ column[3]
        found += [column[n] ^ every ^ _double(column[n] ^ column[(n + 1) % 4]) for n in range(4)]
    return found
