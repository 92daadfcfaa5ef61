"""A packet is slipped into a client's stream exactly between two of the client's own."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from clawsim.live.framing import Framing, publish_packet
from tests.live.wires import dial, others_pass, proxied

PACKETS = st.lists(st.builds(publish_packet, st.text(max_size=20), st.binary(max_size=400)), min_size=1, max_size=6)


def test_a_publish_packet_is_the_one_of_the_standard() -> None:
    assert publish_packet("a/b", b"hi") == b"\x30\x07\x00\x03a/bhi"
    assert publish_packet("t", b"x" * 321)[:3] == b"\x30\xc4\x02"  # 324 = 0x44 + 2 * 128


@given(PACKETS, st.integers(1, 50))
def test_edges_are_found_however_the_stream_is_cut_up(packets: list[bytes], size: int) -> None:
    stream = b"".join(packets)
    ends = {sum(map(len, packets[: i + 1])) for i in range(len(packets))}
    framing = Framing()
    for start in range(0, len(stream), size):
        chunk = stream[start : start + size]
        inside = [end - start for end in ends if start < end <= start + len(chunk)]
        assert framing.feed(chunk) == max(inside, default=None)
        assert framing.at_edge == (start + len(chunk) in ends)
    assert framing.packets == len(packets)


async def test_a_packet_is_slipped_in_between_two_of_the_client() -> None:
    first, second, ours = publish_packet("a", b"1" * 300), publish_packet("b", b"2"), publish_packet("c", b"3")
    async with proxied() as (proxy, broker):
        assert not proxy.slip_in("sensor-01", ours)
        reader, writer = await dial(proxy)
        writer.write(first[:100])
        await asyncio.wait_for(reader.readexactly(100), 5)
        assert proxy.slip_in("sensor-01", ours)
        await others_pass(proxy)
        writer.write(first[100:] + second[:1])
        await asyncio.wait_for(reader.readexactly(len(first) - 100 + len(ours) + 1), 5)
        writer.write(second[1:])
        await asyncio.wait_for(reader.readexactly(len(second) - 1), 5)
        assert first + ours + second in bytes(broker.heard).replace(b"still here 0still here 1still here 2", b"")
