"""The devices of the board mps2-an385 (ARM's application notes 385 and DDI 0479C) that a node needs, as QEMU has them.

All take `mem32`, which is `machine.mem32` on the board: the 32-bit word at an address, read as a signed number. No
device has an interrupt handler: interrupts do nothing but wake the processor.
"""

CLOCK_KHZ = 25000
TIMER0, TIMER1 = 0x40000000, 0x40001000
UARTS = (0x40004000, 0x40005000, 0x40006000)

_INTERRUPT_ENABLE, _INTERRUPT_PENDING_CLEAR = 0xE000E100, 0xE000E280
_WAKES = 1 << 0 | 1 << 9  # what is received by the first UART, and the second timer
_CTRL, _VALUE, _RELOAD, _TIMER_STATUS = 0x0, 0x4, 0x8, 0xC
_DATA, _STATE, _UART_CTRL, _UART_STATUS, _BAUD = 0x0, 0x4, 0x8, 0xC, 0x10
_FULL_TO_SEND, _RECEIVED = 1, 2

TICKS_PERIOD_MS = 160000
LONGEST_MS = 60000  # whoever counts ticks has to look more often than once in half their period
PATIENCE = 32  # how often to look for the next character, which QEMU brings a moment after the last was taken
READ_BYTES = 512


class Timers:
    """The first timer counts milliseconds, the second wakes the processor."""

    def __init__(self, mem32, wait_for_interrupt) -> None:
        """Starts to count from 0. `wait_for_interrupt()` stops the processor until a device asks for it."""
        self._mem32 = mem32
        self._wait = wait_for_interrupt
        mem32[TIMER0 + _CTRL] = 0
        self._last = TICKS_PERIOD_MS * CLOCK_KHZ - 1
        mem32[TIMER0 + _RELOAD] = mem32[TIMER0 + _VALUE] = self._last
        mem32[TIMER0 + _CTRL] = 1
        mem32[_INTERRUPT_ENABLE] = _WAKES

    def ticks_ms(self) -> int:
        """Milliseconds since the start, from 0 up to `TICKS_PERIOD_MS` and then from 0 again."""
        return (self._last - (self._mem32[TIMER0 + _VALUE] & 0xFFFFFFFF)) // CLOCK_KHZ

    def idle(self, wait_ms: int, uart: "Uart") -> None:
        """Stand still until `uart` has received something or `wait_ms` have passed; perhaps less, at most a minute."""
        mem32 = self._mem32
        if wait_ms > LONGEST_MS or wait_ms < 0:
            wait_ms = LONGEST_MS
        if wait_ms:
            mem32[TIMER1 + _RELOAD] = mem32[TIMER1 + _VALUE] = wait_ms * CLOCK_KHZ
            mem32[TIMER1 + _CTRL] = 9  # count, and ask for the processor at the end
            self._wait()
            mem32[TIMER1 + _CTRL] = 0
            mem32[TIMER1 + _TIMER_STATUS] = 1
        uart.calm()
        mem32[_INTERRUPT_PENDING_CLEAR] = _WAKES


def ticks_diff(new: int, old: int) -> int:
    """How long it is from `old` to `new`, both of `Timers.ticks_ms`, less than `TICKS_PERIOD_MS` apart."""
    return (new - old) % TICKS_PERIOD_MS


class Uart:
    """A UART that never blocks. It holds one character each way; QEMU keeps the others until that is taken."""

    def __init__(self, mem32, number: int) -> None:
        self._mem32 = mem32
        self._base = UARTS[number]
        mem32[self._base + _BAUD] = 16
        mem32[self._base + _UART_CTRL] = 1 | 2 | 8  # send, receive, and wake the processor for what is received

    def calm(self) -> None:
        """Ask for the processor no more for what has been received so far; it is still there to be read."""
        self._mem32[self._base + _UART_STATUS] = 2

    def read(self) -> bytes:
        """What has been received, at most `READ_BYTES`."""
        mem32, state, data = self._mem32, self._base + _STATE, self._base + _DATA
        found = bytearray()
        looks = 0
        while looks < PATIENCE and len(found) < READ_BYTES:
            if mem32[state] & _RECEIVED:
                found.append(mem32[data] & 0xFF)
                looks = 0
            elif not found:
                break
            else:
                looks += 1
        return bytes(found)

    def write(self, data: bytes) -> int:
        """Send as much as is taken at once; how many bytes that was."""
        mem32, state, port = self._mem32, self._base + _STATE, self._base + _DATA
        count = 0
        for byte in data:
            if mem32[state] & _FULL_TO_SEND:
                break
            mem32[port] = byte
            count += 1
        return count

    def write_all(self, data: bytes) -> None:
        """Send all of it, however long it takes; for a device that always takes more."""
        while data:
            data = data[self.write(data) :]


class MemoryFlash:
    """The device of a `firmware.hosts.micro.ring.Ring` in memory that outlives the loss of power, as flash does."""

    def __init__(self, window, sectors: int) -> None:
        """`window(at, size)`: bytes of that memory, to read and write in place.

        Small windows, because MicroPython moves all that is behind bytes that it replaces in an array."""
        self.sectors = sectors
        self._window = window

    def read(self, at: int, size: int) -> bytes:
        return bytes(self._window(at, size))

    def write(self, at: int, data: bytes) -> None:
        self._window(at, len(data))[:] = data

    def erase(self, at: int, size: int) -> None:
        for begin in range(at, at + size, 256):
            self.write(begin, b"\xff" * min(256, at + size - begin))
