"""Questions to a container's resolver and its answers, read and written apart from the product."""

from __future__ import annotations

import socket
import struct

from tests.network_servers import RESOLVER_ADDRESS

A, PTR, TXT, AAAA, OPT, AXFR, ANY = 1, 12, 16, 28, 41, 252, 255
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NAME_ERROR, NOT_IMPLEMENTED, REFUSED = range(6)


def wire(name):
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def question(name, kind=A, *, query_id=77, flags=0x100, extension=b"", record_class=1):
    counts = struct.pack("!HHHHHH", query_id, flags, 1, 0, 0, 1 if extension else 0)
    return counts + wire(name) + struct.pack("!HH", kind, record_class) + extension


def extension(size=4096, extended=0):
    return b"\0" + struct.pack("!HHIH", OPT, size, extended, 0)


class Answer:
    """What came back: the code, whether it was cut, and the contents of the records."""

    def __init__(self, message):
        self.message = message
        self.query_id, flags, questions, answers, _authorities, _more = struct.unpack_from(
            "!HHHHHH", message
        )
        self.code = flags & 15
        self.is_truncated = bool(flags & 0x200)
        self.contents = []
        place = 12
        for _question in range(questions):
            place = self._after_name(place) + 4
        for _answer in range(answers):
            place = self._after_name(place)
            kind, _class, _life, length = struct.unpack_from("!HHIH", message, place)
            self.contents.append((kind, message[place + 10 : place + 10 + length]))
            place += 10 + length

    def _after_name(self, place):
        while length := self.message[place]:
            if length >= 0xC0:
                return place + 2
            place += 1 + length
        return place + 1

    @property
    def addresses(self):
        families = {A: socket.AF_INET, AAAA: socket.AF_INET6}
        return [
            socket.inet_ntop(families[kind], content)
            for kind, content in self.contents
            if kind in families
        ]


def asking(served, kind=socket.SOCK_DGRAM):
    made = served.inside.open_socket(socket.AF_INET, kind)
    made.settimeout(20)
    made.connect((RESOLVER_ADDRESS, served.names_port))
    return made


def ask(served, message):
    with asking(served) as client:
        client.send(message)
        return Answer(client.recv(65535))


def ask_by_tcp(served, *messages):
    with asking(served, socket.SOCK_STREAM) as client:
        for message in messages:
            client.sendall(struct.pack("!H", len(message)) + message)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while part := client.recv(65535):
            received += part
    answers = []
    while received:
        length = struct.unpack_from("!H", received)[0]
        answers.append(Answer(received[2 : 2 + length]))
        received = received[2 + length :]
    return answers
