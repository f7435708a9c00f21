"""Attacks from inside a tenant's network. Each prints whether it got through; the same script runs without a gateway
as a control, where every one must."""

import json
import re
import socket
import ssl
import struct
import sys
import time
import uuid

PROXY = ("127.0.0.1", 3128)
GOOD, EVIL, NAME_SERVER = "93.184.215.14", "93.184.215.15", "93.184.215.53"
METADATA, LAN, HOST = "169.254.169.254", "10.99.0.5", "11.0.0.1"
LIMIT = 8


def connect(address):
    return socket.create_connection(address, LIMIT)


def talk(stream, request, end=b"\r\n\r\n"):
    stream.sendall(request)
    answer = b""
    while end not in answer:
        data = stream.recv(65536)
        if not data:
            break
        answer += data
    return answer


def get(url, more=""):
    """The answer to a plain request through the proxy."""
    host = url.removeprefix("http://").split("/")[0]
    with connect(PROXY) as proxy:
        request = f"GET {url} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"
        proxy.sendall(request.encode())
        answer = b""
        while data := proxy.recv(65536):
            answer += data
    return answer


def gets(url):
    return get(url).startswith(b"HTTP/1.1 200")


def tunnel(target):
    proxy = connect(PROXY)
    answer = talk(proxy, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    if not answer.startswith(b"HTTP/1.1 200"):
        proxy.close()
        raise OSError(answer.split(b"\r\n")[0].decode(errors="replace"))
    return proxy


def tunnels(target):
    """Whether a request through a tunnel is answered by the server at its end."""
    with tunnel(target) as stream:
        return talk(stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")


def shakes_hands(target, name):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with tunnel(target) as stream, context.wrap_socket(stream, server_hostname=name):
        return True


def plain(address, port=80):
    with connect((address, port)) as stream:
        return talk(stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")


def asks(server, name="evil.test"):
    query = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0)
    query += b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.settimeout(LIMIT)
        stream.sendto(query, (server, 53))
        return stream.recv(512)[:2] == query[:2]


def quic():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.settimeout(LIMIT)
        stream.connect((EVIL, 443))
        stream.send(b"hello")
        return stream.recv(512) == b"hello"


def raw(family, kind, protocol):
    with socket.socket(family, kind, protocol):
        return True


def rebinding():
    """One of its two addresses is the metadata's, by turns."""
    for _ in range(4):
        answer = get("http://rebind.good.test/")
        if answer.startswith(b"HTTP/1.1 200") and METADATA.encode() in answer:
            return True
    return False


def redirect():
    answer = get("http://good.test/redirect")
    where = re.search(rb"[Ll]ocation: (\S+)", answer)
    return gets(where[1].decode())


def host_header():
    """A listed host on the line, another one inside."""
    with tunnel("good.test:80") as stream:
        answer = talk(stream, b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        return b"HTTP/1.1 200" in answer


def smuggle(headers):
    """A second request that only one of two readers sees."""
    path = f"/smuggled-{uuid.uuid4()}".encode()
    inner = b"GET " + path + b" HTTP/1.1\r\nHost: good.test\r\n\r\n"
    body = b"0\r\n\r\n" + inner
    head = f"POST http://good.test/ HTTP/1.1\r\nHost: good.test\r\n{headers % len(body)}\r\n"
    with connect(PROXY) as proxy:
        proxy.settimeout(2)
        try:
            talk(proxy, head.encode() + body, end=b"never")
        except TimeoutError:
            pass
    # A server that is held up reads it later.
    end = time.monotonic() + 5
    while path not in get("http://good.test/seen"):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


ATTACKS = {
    "the metadata address": lambda: plain(METADATA),
    "the host's own address": lambda: plain(HOST),
    "a private network": lambda: plain(LAN),
    "a public address that nobody named": lambda: plain(EVIL),
    "an arbitrary name server": lambda: asks(NAME_SERVER),
    "UDP 443": quic,
    "a raw socket": lambda: raw(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "a packet socket": lambda: raw(socket.AF_PACKET, socket.SOCK_RAW, 0),
    "CONNECT to the metadata": lambda: tunnels(f"{METADATA}:80"),
    "CONNECT to the host's loopback": lambda: tunnels("127.0.0.1:80"),
    "CONNECT to the proxy itself": lambda: bool(tunnel("127.0.0.1:3128")),
    "CONNECT to a name that leads to the proxy": lambda: bool(tunnel("loop.good.test:3128")),
    "CONNECT to a public address": lambda: shakes_hands(f"{GOOD}:443", "good.test"),
    "CONNECT to a name that nobody listed": lambda: shakes_hands("evil.test:443", "evil.test"),
    "another name in the TLS hello": lambda: shakes_hands("good.test:443", "evil.test"),
    "no name in the TLS hello": lambda: shakes_hands("good.test:443", None),
    "another name in the Host header": host_header,
    "rebinding": rebinding,
    "a redirect to the metadata": redirect,
    "a name that leads to the metadata": lambda: gets("http://metadata.good.test/"),
    "a name that leads to a private network": lambda: gets("http://lan.good.test/"),
    "a name that leads to the host": lambda: gets("http://host.good.test/"),
    "a CNAME to a private network": lambda: gets("http://cname.good.test/"),
    "a length and chunks": lambda: smuggle("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n"),
} | {
    f"the metadata as {spelled}": lambda spelled=spelled: gets(f"http://{spelled}/")
    for spelled in [
        METADATA,
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
    ]
}

results = {}
for name, attack in ATTACKS.items():
    try:
        results[name] = "through" if attack() else "kept: answered otherwise"
    except (OSError, ssl.SSLError, TypeError) as error:
        results[name] = f"kept: {type(error).__name__}: {error}"
json.dump(results, sys.stdout)
