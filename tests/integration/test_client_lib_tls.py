# SPDX-License-Identifier: Apache-2.0
"""libmicroreg over TLS: who is trusted, and under which name."""

import http.server
import os
import shutil
import ssl
import subprocess
import threading

import pytest

import clientlib
from clientlib import Client, Failed

pytestmark = pytest.mark.skipif(not shutil.which("openssl"),
                                reason="openssl is missing")


def make_certificate(folder, name):
    """A certificate that signs itself; (certificate, key)."""
    cert, key = (os.path.join(folder, f"{name}.{end}") for end in ("crt", "key"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", key,
         "-out", cert, "-subj", f"/CN={name}", "-addext",
         f"subjectAltName=DNS:{name}"], check=True, capture_output=True)
    return cert, key


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.tokens.append(self.headers.get("X-Consul-Token"))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *args):
        pass


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server whose certificate is for registry.test and that wants ours."""
    folder = str(tmp_path_factory.mktemp("tls"))
    cert, key = make_certificate(folder, "registry.test")
    ours = make_certificate(folder, "client.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ours[0])
    server = Quiet(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.tokens = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.address = f"127.0.0.1:{server.server_port}"
    server.options = {"ca_file": cert, "cert_file": ours[0], "key_file": ours[1],
                      "timeout_ms": 1500}
    yield server
    server.shutdown()


def failure(address, **options):
    with Client(address, **options) as client:
        with pytest.raises(Failed) as failed:
            client.list()
    return failed.value


def test_the_name_of_the_certificate_can_be_given(secure):
    options = dict(secure.options, server_name="registry.test", token="t1")
    with Client("https://" + secure.address, **options) as client:
        assert client.list() == []
    with Client(secure.address, secure=True, **options) as client:
        assert client.list() == []
    assert secure.tokens[-1] == "t1"


def test_another_name_is_denied(secure):
    failed = failure("https://" + secure.address, **secure.options)
    assert failed.code == clientlib.DENIED, failed
    assert secure.address in failed.text


def test_an_unknown_certificate_is_denied(secure):
    options = dict(secure.options, server_name="registry.test")
    del options["ca_file"]
    failed = failure("https://" + secure.address, **options)
    assert failed.code == clientlib.DENIED, failed


def test_insecure_looks_at_nothing(secure):
    options = dict(secure.options, insecure=True)
    del options["ca_file"]
    with Client("https://" + secure.address, **options) as client:
        assert client.list() == []


def test_plain_http_to_a_secure_server_is_an_error(secure):
    assert failure(secure.address, timeout_ms=1000).code < 0


def test_a_ca_file_that_is_not_there_is_named(secure):
    failed = failure("https://" + secure.address, ca_file="/nonexistent.pem")
    assert failed.code == clientlib.DENIED, failed
    assert "/nonexistent.pem" in failed.text
