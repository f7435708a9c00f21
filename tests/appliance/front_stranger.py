"""Speaks to the front as strangers do. Ends with an error at the first answer that is not as it should be."""

import os
import socket
import ssl
import subprocess
import sys
import threading
import time

FRONT = "127.0.0.1"
HOST = "acme.example.org"


def curl(*arguments, code=0):
    command = ["curl", "--silent", "--insecure", "--include", "--max-time", "20",
               "--connect-to", "::" + FRONT + ":"]
    done = subprocess.run(command + list(arguments), capture_output=True, text=True)
    assert done.returncode == code, str((arguments, done))[:2000]
    return done.stdout


def tls(name=HOST):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection((FRONT, 443), 20), server_hostname=name)


def until_end(stream):
    data = b""
    try:
        while part := stream.recv(65536):
            data += part
    except (ConnectionResetError, ssl.SSLError):
        pass
    return data


def answers():
    for version in ["--http1.1", "--http2"]:
        for name in [HOST, "www.acme.com", "bolt.example.org"]:
            said = curl(version, f"https://{name}/headers?token=secret-token", "-H", "X-Forwarded-For: 6.6.6.6",
                        "-H", "X-Forwarded-User: root", "-H", "Forwarded: for=6.6.6.6", "-H", "X-Real-Ip: 6.6.6.6",
                        "-H", "Tailscale-User-Login: root")
            assert said.startswith("HTTP/2 200" if version == "--http2" else "HTTP/1.1 200"), said
            assert f"host: {name}\n" in said and "x-forwarded-proto: https\n" in said, said
            assert "x-forwarded-for: 127.0.0.1\n" in said and "x-real-ip: 127.0.0.1\n" in said, said
            assert "6.6.6.6" not in said and "root" not in said, said
            assert "strict-transport-security: max-age=" in said.lower(), said
    moved = curl(f"http://{HOST}/a?b=c")
    assert moved.startswith("HTTP/1.1 308") and f"Location: https://{HOST}/a?b=c" in moved, moved


def hsts(seconds):
    assert f"max-age={seconds}" in curl(f"https://{HOST}/headers")


def unknown(name):
    try:
        tls(name)
    except (ssl.SSLError, ConnectionResetError):
        pass
    else:
        raise AssertionError(f"{name} has a certificate")
    # 52: the server closed the connection without a word.
    curl(f"http://{name}/", code=52)


def given_up(name):
    # Its certificate is good until it ends, and the front may remember it; nobody answers by it.
    try:
        with tls(name) as stream:
            stream.sendall(b"GET /headers HTTP/1.1\r\nHost: " + name.encode() + b"\r\nConnection: close\r\n\r\n")
            said = until_end(stream)
            assert b" 200 " not in said.split(b"\r\n")[0], (name, said)
    except (ssl.SSLError, ConnectionResetError):
        pass
    curl(f"http://{name}/", code=52)


def strangers():
    for name in ["other.example.org", "evil.test", "www.bolt.example.org"]:
        unknown(name)
    curl(f"http://{FRONT}/", code=52)
    # A connection that was opened to one tenant does not lead to another, nor out of the directory of hosts.
    for name in ["bolt.example.org", "..", "*", "acme.example.org%00", ".", "../ingress/acme.sock"]:
        with tls() as stream:
            stream.sendall(b"GET /headers HTTP/1.1\r\nHost: " + name.encode() + b"\r\nConnection: close\r\n\r\n")
            said = until_end(stream)
            assert b" 200 " not in said.split(b"\r\n")[0], (name, said)


def large():
    size = 30 * 1024 * 1024
    with open("/root/large", "wb") as file:
        file.truncate(size)
    assert str(size) in curl("--data-binary", "@/root/large", "-H", "Expect:", f"https://{HOST}/sink")
    with tls() as stream:
        stream.sendall(b"GET /headers HTTP/1.1\r\nHost: acme.example.org\r\nX-Big: " + b"x" * 100_000 + b"\r\n\r\n")
        assert until_end(stream).startswith(b"HTTP/1.1 431")
    with open("/root/large", "wb") as file:
        file.truncate(2 * size)
    refused = curl("--http1.1", "--data-binary", "@/root/large", "-H", "Expect:", f"https://{HOST}/sink")
    assert " 200 " not in refused.split("\r\n")[0], refused
    os.remove("/root/large")


def smuggling():
    hidden = b"GET /counter HTTP/1.1\r\nHost: bolt.example.org\r\n\r\n"
    chunked = b"0\r\n\r\n" + hidden
    for head in [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(chunked),
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
    ]:
        with tls() as stream:
            stream.sendall(b"POST /sink HTTP/1.1\r\nHost: acme.example.org\r\n" + head + b"\r\n" + chunked)
            stream.settimeout(5)
            try:
                said = until_end(stream)
            except TimeoutError:
                said = b""
            # The first may be answered; the second is refused, or was never one.
            answered = said.count(b"HTTP/1.1 200")
            assert answered <= 1, (head, said)


def slow():
    streams = [tls() for _ in range(50)]
    for stream in streams:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: acme.example.org\r\n")
    plain = [socket.create_connection((FRONT, 443), 20) for _ in range(50)]
    answers()
    for stream in streams + plain:
        stream.settimeout(20)
        # Refused or closed, but not kept.
        assert b" 200 " not in until_end(stream)


def echo():
    stream = tls()
    stream.sendall(b"GET /echo HTTP/1.1\r\nHost: acme.example.org\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
                   b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    said = b""
    while b"\r\n\r\n" not in said:
        said += stream.recv(4096)
    assert said.startswith(b"HTTP/1.1 101"), said
    return stream


def says(stream, word):
    stream.sendall(word)
    heard = b""
    while len(heard) < len(word):
        part = stream.recv(4096)
        assert part, "the connection was cut"
        heard += part
    assert heard == word, heard


def sockets():
    with echo() as stream:
        says(stream, b"one")
        says(stream, b"two")


def stays(command):
    with echo() as stream:
        says(stream, b"before")
        subprocess.run(command, shell=True, check=True)
        deadline = time.monotonic() + 60
        while os.path.lexists("/var/lib/tenantd-front/hosts/bolt.example.org"):
            assert time.monotonic() < deadline, "the host is still known"
            time.sleep(0.1)
        says(stream, b"after")


def events():
    """The second event is sent only when the first has arrived: a front that waits for more would wait for ever."""
    path, link = "/run/tenantd/ingress/events.sock", "/var/lib/tenantd-front/hosts/events.example.org"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    os.symlink(path, link)
    arrived = threading.Event()

    def serve():
        client, _ = listener.accept()
        while b"\r\n\r\n" not in client.recv(65536):
            pass
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
        assert arrived.wait(20)
        client.sendall(b"data: 2\n\n")
        client.close()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    for attempt in range(60):
        try:
            stream = tls("events.example.org")
            break
        except (ssl.SSLError, OSError):
            time.sleep(0.5)
    with stream:
        stream.settimeout(20)
        stream.sendall(b"GET / HTTP/1.1\r\nHost: events.example.org\r\nConnection: close\r\n\r\n")
        said = b""
        while b"data: 1" not in said:
            said += stream.recv(4096)
        assert b"data: 2" not in said
        arrived.set()
        assert b"data: 2" in until_end(stream)
    os.remove(link)
    os.remove(path)


def everything():
    for step in [answers, strangers, large, smuggling, sockets, slow]:
        step()


STEPS = {"all": everything, "answers": answers, "events": events, "hsts": hsts, "stays": stays, "unknown": unknown, "given-up": given_up}
STEPS[sys.argv[1]](*sys.argv[2:])
