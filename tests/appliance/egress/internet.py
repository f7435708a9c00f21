"""The Internet of a test: a name server, web servers with and without TLS, and an echo over UDP, at every address of a
namespace. Names lead where attackers would have them lead."""

import base64
import hashlib
import itertools
import socket
import socketserver
import ssl
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

A, CNAME = 1, 5

GOOD, EVIL, NAME_SERVER = "93.184.215.14", "93.184.215.15", "93.184.215.53"
METADATA, LAN, HOST = "169.254.169.254", "10.99.0.5", "11.0.0.1"

NAMES = {
    "good.test": GOOD,
    "api.good.test": GOOD,
    "evil.test": EVIL,
    "metadata.good.test": METADATA,
    "lan.good.test": LAN,
    "host.good.test": HOST,
    "loop.good.test": "127.0.0.1",
    "home.test": LAN,
}
ALIASES = {"cname.good.test": "lan.good.test"}
# By turns, so that the answer which is checked need not be the one that is used.
rebind = itertools.cycle([GOOD, METADATA])

asked = []
seen = []


def labels(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def answer(query):
    number, flags, count = struct.unpack(">HHH", query[:6])
    parts, at = [], 12
    while query[at]:
        parts.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
    question = query[12 : at + 5]
    name = ".".join(parts).lower()
    asked.append(name)
    records = []
    if name in ALIASES:
        records.append((name, CNAME, labels(ALIASES[name])))
        name = ALIASES[name]
    address = NAMES.get(name)
    if name == "rebind.good.test" and kind == A:
        address = next(rebind)
    elif name.endswith(".many.good.test"):
        address = GOOD
    if address and kind == A:
        records.append((name, A, socket.inet_aton(address)))
    code = 0 if records or address else 3
    head = struct.pack(">HHHHHH", number, 0x8180 | code, 1, len(records), 0, 0)
    body = b"".join(labels(n) + struct.pack(">HHIH", k, 1, 0, len(d)) + d for n, k, d in records)
    return head + question + body


class Names(socketserver.BaseRequestHandler):
    def handle(self):
        data, server = self.request
        server.sendto(answer(data), self.client_address)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        data, server = self.request
        server.sendto(data, self.client_address)


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        seen.append(self.path)
        if self.path == "/redirect":
            return self.say(302, "", location=f"http://{METADATA}/")
        if self.path == "/seen":
            return self.say(200, "\n".join(seen))
        if self.path == "/asked":
            return self.say(200, "\n".join(asked))
        if self.path.startswith("/bytes/"):
            return self.say(200, "x" * int(self.path.rsplit("/", 1)[1]))
        if self.headers.get("upgrade") == "echo":
            return self.echo()
        if self.headers.get("upgrade") == "websocket":
            return self.web_socket()
        self.say(200, f"{self.connection.getsockname()[0]} {self.headers.get('host')}\n")

    def do_POST(self):
        seen.append(self.path)
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("content-length", 0)))
        self.say(200, "posted\n")

    def echo(self):
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        while data := self.connection.recv(4096):
            self.connection.sendall(data)

    def web_socket(self):
        """Says each short message back (RFC 6455, sections 4.2.2 and 5.2)."""
        self.close_connection = True
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        head = "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        self.wfile.write(f"{head}sec-websocket-accept: {accept}\r\n\r\n".encode())
        while head := self.rfile.read(2):
            mask = self.rfile.read(4)
            masked = self.rfile.read(head[1] & 0x7F)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))
            self.wfile.write(bytes([head[0], len(data)]) + data)
            if head[0] & 0xF == 8:
                return

    def say(self, status, text, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Udp(socketserver.ThreadingUDPServer):
    allow_reuse_address = True


class Tls(ThreadingHTTPServer):
    def get_request(self):
        stream, address = super().get_request()
        return context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
servers = [
    Udp((NAME_SERVER, 53), Names),
    Udp((EVIL, 443), Echo),
    ThreadingHTTPServer(("0.0.0.0", 80), Web),
    Tls(("0.0.0.0", 443), Web),
]
for server in servers:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever).start()
print("ready", flush=True)
