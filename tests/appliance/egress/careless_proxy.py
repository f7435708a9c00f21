"""A proxy that asks nobody: what attacks meet where there is no gateway."""

import socket
import socketserver
import threading


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Proxy(socketserver.BaseRequestHandler):
    def handle(self):
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.request.recv(65536)
            if not data:
                return
            head += data
        line, rest = head.split(b"\r\n", 1)
        method, target, _ = line.split(b" ", 2)
        if method == b"CONNECT":
            host, port = target.rsplit(b":", 1)
            rest = rest.split(b"\r\n\r\n", 1)[1]
        else:
            authority, _, path = target.removeprefix(b"http://").partition(b"/")
            host, colon, port = authority.rpartition(b":")
            if not colon or b"]" in port:
                host, port = authority, b"80"
            rest = method + b" /" + path + b" HTTP/1.1\r\n" + rest
        server = socket.create_connection((host.decode().strip("[]"), int(port)), 3)
        server.settimeout(None)
        if method == b"CONNECT":
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        server.sendall(rest)
        threading.Thread(target=pump, args=(server, self.request), daemon=True).start()
        pump(self.request, server)

    def finish(self):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, *_):
        pass


Server(("127.0.0.1", 3128), Proxy).serve_forever()
