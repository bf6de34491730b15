"""What comes to a published port on the machine's own addresses, by TCP and in datagrams."""

import asyncio
import contextlib
import hashlib
import os
import socket
import struct

import pytest

from engine.types import PublishedPort
from tests.network_servers import ServedContainer

PORT = 8080
INSIDE = "10.77.0.2"
INSIDE6 = "fd00:77::2"


@pytest.fixture
def published(request, world, tmp_path):
    """A container whose port 80 is at 8080 of the machine, by both protocols and families.

    A parameter is how many descriptors its server may open.
    """
    container = ServedContainer(world, tmp_path)
    try:
        container.join("10.77.0.1/24", f"{INSIDE}/24")
        container.write_view(addresses=(INSIDE,))
        ports = [
            PublishedPort(container_port=80, host_port=PORT, protocol=protocol)
            for protocol in ("tcp", "udp")
        ]
        container.serve(ports, names=False, most_descriptors=getattr(request, "param", 0))
        yield container
    finally:
        container.close()


@contextlib.asynccontextmanager
async def serve(published, answer, address="0.0.0.0"):
    """Have the container's port 80 served; `answer` gets reader and writer, and is waited for."""
    answering = set()

    async def answered(reader, writer):
        answering.add(asyncio.current_task())
        try:
            await answer(reader, writer)
        finally:
            await closed(writer)

    server = await asyncio.start_server(answered, sock=published.inside.listen(address, 80))
    async with server:
        yield
        server.close()
        async with asyncio.timeout(20):
            await asyncio.gather(*answering, return_exceptions=True)


async def connect(address="127.0.0.1"):
    return await asyncio.open_connection(address, PORT)


async def is_reset():
    """Whether a new connection is, which may come before it is known to be there."""
    try:
        reader, writer = await connect()
    except ConnectionResetError:
        return True
    try:
        await reader.read()
    except ConnectionResetError:
        return True
    finally:
        await closed(writer)
    return False


async def closed(writer):
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def tell_peer(_reader, writer):
    writer.write(writer.get_extra_info("peername")[0].encode())
    writer.write_eof()
    await closed(writer)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "192.0.2.10", "2001:db8::a"])
async def test_every_own_address_leads_to_the_container(published, address):
    async with serve(published, tell_peer):
        reader, writer = await connect(address)
        assert await reader.read() == b"10.77.0.1"
        await closed(writer)


async def test_both_directions_are_whole_and_at_once(published):
    sent = [os.urandom(1 << 20) * 24, os.urandom(1 << 20) * 24]

    async def exchange(reader, writer, content):
        async def write():
            writer.write(content)
            await writer.drain()
            writer.write_eof()

        received = hashlib.sha256()
        writing = asyncio.ensure_future(write())
        while part := await reader.read(1 << 20):
            received.update(part)
        await writing
        await closed(writer)
        return received.digest()

    inside = asyncio.get_running_loop().create_future()

    async def answer(reader, writer):
        inside.set_result(await exchange(reader, writer, sent[1]))

    async with serve(published, answer):
        outside = await exchange(*await connect(), sent[0])

    assert outside == hashlib.sha256(sent[1]).digest()
    assert await inside == hashlib.sha256(sent[0]).digest()


async def test_an_end_of_one_direction_leaves_the_other_open(published):
    async def answer(reader, writer):
        question = await reader.read()
        writer.write(b"heard " + question)
        writer.write_eof()
        await closed(writer)

    async with serve(published, answer):
        reader, writer = await connect()
        writer.write(b"everything")
        writer.write_eof()
        assert await reader.read() == b"heard everything"
        await closed(writer)


async def test_the_container_may_end_first_and_go_on_listening(published):
    heard = asyncio.get_running_loop().create_future()

    async def answer(reader, writer):
        writer.write_eof()
        heard.set_result(await reader.read())
        await closed(writer)

    async with serve(published, answer):
        reader, writer = await connect()
        assert await reader.read() == b""
        writer.write(b"still here")
        writer.write_eof()
        assert await heard == b"still here"
        await closed(writer)


async def test_a_reset_comes_out_as_a_reset(published):
    async def answer(reader, writer):
        await reader.read(1)
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()

    async with serve(published, answer):
        reader, writer = await connect()
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await closed(writer)


async def test_where_nobody_listens_the_connection_is_reset(published):
    assert await is_reset()


async def test_a_slow_reader_holds_its_writer_up_and_nobody_else(published):
    async def answer(reader, writer):
        with contextlib.suppress(ConnectionError):
            if await reader.read(1) == b"f":
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()
            writer.write(b"short")
        await closed(writer)

    async with serve(published, answer):
        flooded = [await connect() for _each in range(20)]
        for _reader, writer in flooded:
            writer.write(b"f")
        before = published.memory_bytes()
        for _turn in range(30):
            reader, writer = await connect()
            writer.write(b"s")
            assert await reader.read() == b"short"
            await closed(writer)
        assert published.memory_bytes() < before + (1 << 20)
        for _reader, writer in flooded:
            writer.transport.abort()


async def test_hundreds_of_connections_are_carried_and_none_is_left(published):
    async def answer(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        await closed(writer)

    async with serve(published, answer):
        reader, writer = await connect()
        writer.write(b"first\n")
        assert await reader.readline() == b"first\n"
        # But for its two ends and the pipe that was between them.
        idle = published.descriptors() - 4
        await closed(writer)
        for _round in range(2):
            connections = [await connect() for _each in range(300)]
            for number, (_reader, writer) in enumerate(connections):
                writer.write(b"%d\n" % number)
            lines = [await reader.readline() for reader, _writer in connections]
            assert lines == [b"%d\n" % number for number in range(300)]
            assert published.descriptors() >= idle + 600
            for _reader, writer in connections:
                await closed(writer)
            # What is left are pipes for the next ones; the last ends have yet to be heard.
            async with asyncio.timeout(20):
                while published.descriptors() > idle + 32:  # noqa: ASYNC110
                    await asyncio.sleep(0)
    assert published.is_serving()


# Those that are spared, four sockets of the port, and as much for two connections and datagrams.
@pytest.mark.parametrize("published", [400 + 4 + 2 * 2 * 6], indirect=True)
async def test_who_finds_no_room_waits_until_somebody_leaves(published):
    async def answer(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        await closed(writer)

    async with serve(published, answer):
        connections = [await connect() for _each in range(3)]
        for _reader, writer in connections:
            writer.write(b"hello\n")
        for reader, _writer in connections[:2]:
            assert await reader.readline() == b"hello\n"
        waiting = asyncio.ensure_future(connections[2][0].readline())
        # A whole exchange later it has not been let in.
        connections[0][1].write(b"again\n")
        assert await connections[0][0].readline() == b"again\n"
        assert not waiting.done()

        await closed(connections[1][1])

        assert await waiting == b"hello\n"
        for _reader, writer in (connections[0], connections[2]):
            await closed(writer)


async def test_the_address_of_a_container_that_moves_is_followed(published):
    async with serve(published, tell_peer):
        published.write_view()
        assert await is_reset()

        published.write_view(addresses=(INSIDE,))
        reader, writer = await connect()
        assert await reader.read() == b"10.77.0.1"
        await closed(writer)


async def test_a_container_with_both_families_hears_each_by_its_own(published):
    published.world.machine.add_address("veth-test", "fd00:77::1/64")
    published.inside.add_address("eth0", f"{INSIDE6}/64")
    published.write_view(addresses=(INSIDE, INSIDE6))
    async with serve(published, tell_peer), serve(published, tell_peer, "::"):
        for address, seen in (("127.0.0.1", b"10.77.0.1"), ("::1", b"fd00:77::1")):
            reader, writer = await connect(address)
            assert await reader.read() == seen
            await closed(writer)


# --- datagrams --------------------------------------------------------------------------------


class Echo(asyncio.DatagramProtocol):
    """Answers with what came and the port from which it came."""

    def connection_made(self, transport):
        self.transport = transport
        self.ports = set()

    def datagram_received(self, content, address):
        self.ports.add(address[1])
        self.transport.sendto(content + b" from %d" % address[1], address)


@contextlib.asynccontextmanager
async def echo(published):
    loop = asyncio.get_running_loop()
    bound = published.inside.listen("0.0.0.0", 80, socket.SOCK_DGRAM)
    transport, protocol = await loop.create_datagram_endpoint(Echo, sock=bound)
    try:
        yield protocol
    finally:
        transport.close()


async def exchange(client, content, address):
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(client, content, (address, PORT))
    async with asyncio.timeout(20):
        return await loop.sock_recvfrom(client, 65535)


def datagram_socket(published, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return published.world.machine.open_socket(family, socket.SOCK_DGRAM)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "192.0.2.10", "2001:db8::a"])
async def test_an_answer_comes_from_the_address_that_was_asked(published, address):
    async with echo(published):
        with datagram_socket(published, address) as client:
            content, source = await exchange(client, b"hello", address)
            assert content.startswith(b"hello from ")
            assert source[:2] == (address, PORT)


async def test_a_sender_keeps_its_port_and_two_have_two(published):
    async with echo(published) as server:
        with datagram_socket(published, "") as one, datagram_socket(published, "") as two:
            answers = [
                (await exchange(client, b"x", "127.0.0.1"))[0] for client in (one, two, one, two)
            ]
    assert answers[0] == answers[2] != answers[1] == answers[3]
    assert len(server.ports) == 2


def datagrams_for_nobody(published):
    """How many have come into the container to a port that nobody had (`NoPorts`)."""
    with published.inside.entered(), open("/proc/thread-self/net/snmp") as table:
        names, values = (line.split() for line in table if line.startswith("Udp:"))
        return int(values[names.index("NoPorts")])


@pytest.mark.parametrize("length", [0, 1, 1472, 60_000])
async def test_a_datagram_of_any_length_stays_one(published, length):
    async with echo(published):
        with datagram_socket(published, "") as client:
            content, _source = await exchange(client, b"x" * length, "127.0.0.1")
            assert content.startswith(b"x" * length + b" from ")


async def test_where_nobody_listens_a_later_datagram_finds_who_does(published):
    with datagram_socket(published, "") as client:
        await asyncio.get_running_loop().sock_sendto(client, b"lost", ("127.0.0.1", PORT))
        async with asyncio.timeout(20):
            while not datagrams_for_nobody(published):  # noqa: ASYNC110
                await asyncio.sleep(0)
        async with echo(published):
            content, _source = await exchange(client, b"found", "127.0.0.1")
            assert content.startswith(b"found")


async def test_senders_are_bounded_and_the_quiet_ones_give_way(published):
    async with echo(published) as server:
        with datagram_socket(published, "") as client:
            await exchange(client, b"x", "127.0.0.1")
        # But for the one that there is already.
        idle = published.descriptors() - 1
        for _each in range(700):
            with datagram_socket(published, "") as client:
                assert (await exchange(client, b"x", "127.0.0.1"))[0].startswith(b"x")
        assert len(server.ports) > 600
        assert published.descriptors() <= idle + 512
    assert published.is_serving()
