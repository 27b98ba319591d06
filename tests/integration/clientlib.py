# SPDX-License-Identifier: Apache-2.0
"""libmicroreg by ctypes: the shared library as a program would load it."""

import contextlib
import ctypes
import json
import os
import select

from cluster import binary

OK, NOTFOUND, STOPPED, TIMEOUT, INVALID = 0, -1, -2, -3, -4
UNAVAILABLE, CONNECT, PROTOCOL, DENIED, AGAIN = -5, -6, -7, -8, -10
REFUSED, FENCED = -11, -12
STALE, CONSISTENT, WATCHED, KEEP_ALIVE, MARKS, PREFIX = 1, 2, 4, 0x10, 0x100, 0x200


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("text", ctypes.c_char * 512)]


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("addresses", ctypes.c_char_p),
                ("timeout_ms", ctypes.c_int), ("progress_ms", ctypes.c_int),
                ("secure", ctypes.c_bool), ("insecure", ctypes.c_bool),
                ("ca_file", ctypes.c_char_p), ("cert_file", ctypes.c_char_p),
                ("key_file", ctypes.c_char_p), ("server_name", ctypes.c_char_p),
                ("token", ctypes.c_char_p), ("incarnation", ctypes.c_uint64),
                ("log", ctypes.c_void_p), ("log_arg", ctypes.c_void_p)]


class Stats(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "requests", "failovers", "streams", "stream_resets", "events",
        "collapses", "renewals", "reregistered")]


class KvOptions(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("has_cas", ctypes.c_bool),
                ("cas", ctypes.c_uint64), ("fence_key", ctypes.c_char_p),
                ("fence", ctypes.c_uint64)]


class SessionOptions(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("ttl_ms", ctypes.c_int64),
                ("lock_delay_ms", ctypes.c_int64), ("delete_keys", ctypes.c_bool)]


class Failed(Exception):
    """A call failed: its code and its text."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


def folder():
    """Where the library was built: beside the binary."""
    where = os.path.dirname(binary())
    beside = os.path.join(where, "release")
    return where if os.path.exists(os.path.join(where, "libmicroreg.so.0")) else beside


LIB = ctypes.CDLL(os.path.join(folder(), "libmicroreg.so.0"))
LIB.microreg_strerror.restype = ctypes.c_char_p
LIB.microreg_session_id.restype = ctypes.c_char_p
LIB.microreg_session_alive.restype = ctypes.c_bool


def call(function, *args):
    """Call with an error behind the arguments; raises Failed."""
    error = Error()
    code = function(*args, ctypes.byref(error))
    if code != OK:
        assert error.code == code, (error.code, code)
        raise Failed(code, error.text.decode())


def call_json(function, *args):
    """A call that hands out JSON."""
    text, length = ctypes.c_void_p(), ctypes.c_size_t()
    call(function, *args, ctypes.byref(text), ctypes.byref(length))
    try:
        return json.loads(ctypes.string_at(text, length.value))
    finally:
        LIB.microreg_free(text)


def service(name, *nodes, version="1", **more):
    """A service with nodes: ids, or (id, metadata)."""
    pairs = [n if isinstance(n, tuple) else (n, {}) for n in nodes]
    return {"name": name, "version": version, "metadata": None, "endpoints": [],
            "nodes": [{"id": i, "address": "127.0.0.1:80", "metadata": m}
                      for i, m in pairs], **more}


class Watch:
    def __init__(self, client, name, flags=0, keys=False):
        self.handle = ctypes.c_void_p()
        opener = LIB.microreg_kv_watch_open if keys else LIB.microreg_watch_open
        call(opener, client.handle, name.encode() if name is not None else None,
             ctypes.c_uint(flags), ctypes.byref(self.handle))

    def next(self, timeout=10.0):
        """The next event; None when nothing happens in time."""
        try:
            return call_json(LIB.microreg_watch_next_json, self.handle,
                             int(timeout * 1000))
        except Failed as failed:
            if failed.code == AGAIN:
                return None
            raise

    def take(self, timeout=10.0):
        """(action, node id, metadata) of the next event, which must come."""
        event = self.next(timeout)
        assert event, "no event came"
        node = event["service"]["nodes"][0]
        return event["action"], node["id"], node["metadata"]

    def fd(self):
        return LIB.microreg_watch_fd(self.handle)

    def readable(self, timeout=0.0):
        return bool(select.select([self.fd()], [], [], timeout)[0])

    def stop(self):
        LIB.microreg_watch_stop(self.handle)

    def close(self):
        LIB.microreg_watch_close(self.handle)
        self.handle = None


class Session:
    def __init__(self, client, ttl=0, lock_delay=-1):
        self.handle = ctypes.c_void_p()
        options = SessionOptions(b"test", ttl, lock_delay, False)
        call(LIB.microreg_session_open, client.handle, ctypes.byref(options),
             ctypes.byref(self.handle))

    def id(self):
        return LIB.microreg_session_id(self.handle).decode()

    def alive(self):
        return LIB.microreg_session_alive(self.handle)

    def lock(self, key, timeout=0.0):
        fence = ctypes.c_uint64()
        call(LIB.microreg_lock, self.handle, key.encode(), int(timeout * 1000),
             ctypes.byref(fence))
        return fence.value

    def unlock(self, key):
        call(LIB.microreg_unlock, self.handle, key.encode())

    def close(self):
        LIB.microreg_session_close(self.handle)


class Client:
    """A client; a context that closes it."""

    def __init__(self, addresses, **options):
        self.handle = ctypes.c_void_p()
        values = Options(size=ctypes.sizeof(Options), addresses=addresses.encode(),
                         **{k: v.encode() if isinstance(v, str) else v
                            for k, v in options.items()})
        call(LIB.microreg_open, ctypes.byref(values), ctypes.byref(self.handle))
        self.open = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.handle:
            for watch in self.open:
                if watch.handle:
                    watch.close()
            LIB.microreg_close(self.handle)
            self.handle = None

    def set_addresses(self, addresses):
        call(LIB.microreg_set_addresses, self.handle, addresses.encode())

    def register(self, body, ttl=0.0, flags=0):
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        call(LIB.microreg_register_json, self.handle, text,
             ctypes.c_size_t(len(text)), ctypes.c_int64(int(ttl * 1000)),
             ctypes.c_uint(flags))

    def deregister(self, body):
        text = json.dumps(body).encode()
        call(LIB.microreg_deregister_json, self.handle, text,
             ctypes.c_size_t(len(text)))

    def get(self, name, flags=0):
        return call_json(LIB.microreg_get_service_json, self.handle,
                         name.encode(), ctypes.c_uint(flags))

    def find(self, name, flags=0):
        """As get(), [] for none."""
        with contextlib.suppress(Failed):
            return self.get(name, flags)
        return []

    def list(self, flags=0):
        return call_json(LIB.microreg_list_services_json, self.handle,
                         ctypes.c_uint(flags))

    def watch(self, name, flags=0, keys=False):
        watch = Watch(self, name, flags, keys)
        self.open.append(watch)
        return watch

    def put(self, key, value, **conditions):
        options = KvOptions(**conditions)
        call(LIB.microreg_kv_put, self.handle, key.encode(), value,
             ctypes.c_size_t(len(value)), ctypes.byref(options))

    def cas(self, key, value, index):
        call(LIB.microreg_kv_cas, self.handle, key.encode(), value,
             ctypes.c_size_t(len(value)), ctypes.c_uint64(index))

    def delete(self, key):
        call(LIB.microreg_kv_delete, self.handle, key.encode(), None)

    def delete_tree(self, prefix):
        call(LIB.microreg_kv_delete_tree, self.handle, prefix.encode())

    def keys(self, prefix, recurse=True):
        return call_json(LIB.microreg_kv_list_json, self.handle, prefix.encode(),
                         ctypes.c_bool(recurse))

    def session(self, **options):
        return Session(self, **options)

    def stats(self):
        stats = Stats()
        LIB.microreg_get_stats(self.handle, ctypes.byref(stats))
        return stats
