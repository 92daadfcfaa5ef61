"""What the image of the emulated board runs at power-on: the node that its memory tells of, or nothing."""

from firmware.hosts.micro import memory


def main() -> None:
    """Return at once when there is no node: then the board has a prompt, and its memory to itself."""
    import uctypes

    told = memory.decode(uctypes.bytearray_at(memory.MEMORY_AT, memory.FLASH_AT))
    if told is not None:
        from firmware.hosts.micro import emulated

        emulated.run(told)


if __name__ == "__main__":
    main()
