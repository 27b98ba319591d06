# SPDX-License-Identifier: Apache-2.0
"""Targets for health checks: an HTTP server that answers as it is told, and a
gRPC health service on bare HTTP/2."""

import contextlib
import http.server
import socket
import struct
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.target.requests += 1
        action = self.server.target.action
        if callable(action):
            action(self)
            return
        status, body = action
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


class HttpTarget:
    """Answers every GET with `action`: (status, body) or a function."""

    def __init__(self, address):
        self.action = (200, b"ok")
        self.requests = 0
        self.server = _Quiet((address, 0), _Handler)
        self.server.target = self
        self.port = self.server.server_port
        self.url = f"http://{address}:{self.port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,),
                         daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def _literal(name, value):
    """A header field without indexing and without Huffman (RFC 7541, 6.2.2)."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def _frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + \
        struct.pack(">I", stream) + payload


class GrpcTarget:
    """grpc.health.v1.Health/Check; statuses: service name -> status number. An
    unknown service is NOT_FOUND. With statuses None the method is
    unimplemented."""

    def __init__(self, address):
        self.statuses = {"": 1}
        self.asked = []
        self.listener = socket.create_server((address, 0))
        self.address = f"{address}:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,),
                                 daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError, EOFError), connection:
            stream = connection.makefile("rwb")
            self._talk(stream)

    def _talk(self, stream):
        def read(n):
            data = stream.read(n)
            if len(data) < n:
                raise EOFError
            return data

        def write(*frames):
            stream.write(b"".join(frames))
            stream.flush()

        assert read(len(PREFACE)) == PREFACE
        write(_frame(SETTINGS, 0, 0))
        body = b""
        while True:
            head = read(9)
            payload = read(int.from_bytes(head[:3], "big"))
            kind, flags = head[3], head[4]
            number = int.from_bytes(head[5:], "big")
            if kind == SETTINGS and not flags & ACK:
                write(_frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                write(_frame(PING, ACK, 0, payload))
            elif kind == DATA:
                body += payload
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                write(*self._answer(number, body))

    def _answer(self, number, body):
        head = b"\x88" + _literal(b"content-type", b"application/grpc")
        service = body[7:].decode() if len(body) > 7 else ""
        self.asked.append(service)
        if self.statuses is None or service not in self.statuses:
            code, text = (b"12", b"no such method") if self.statuses is None \
                else (b"5", b"unknown service")
            return [_frame(HEADERS, END_STREAM | END_HEADERS, number,
                           head + _literal(b"grpc-status", code)
                           + _literal(b"grpc-message", text))]
        message = bytes([8, self.statuses[service]])
        return [_frame(HEADERS, END_HEADERS, number, head),
                _frame(DATA, 0, number, struct.pack(">BI", 0, len(message))
                       + message),
                _frame(HEADERS, END_STREAM | END_HEADERS, number,
                       _literal(b"grpc-status", b"0"))]
