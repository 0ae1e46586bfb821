"""A TLS peer that holds a certificate of the test's choice and misbehaves in the handshake: presents it, stalls, drips, runs away.

Knows nothing of riprap. Every deed prints JSON lines; the test knows what each must be.
"""
import json
import socket
import ssl
import subprocess
import sys
import threading
import time

HERE = "127.0.0.1"
MANAGED = "/srv/managed/hostile_peer"
SERVER_PORT, ROGUE_PORT = 7001, 7002


def context(server, name):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(f"/srv/peer/{name}.pem", f"/srv/peer/{'rsa' if name == 'rsa_key' else 'key'}.key")
    if server:
        made.load_verify_locations("/srv/peer/roots.pem")
        made.verify_mode = ssl.CERT_REQUIRED
        # Any client of ours will do: what is tried here is what the client makes of us.
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return made


def report(**fields):
    print(json.dumps(fields), flush=True)


def converse(wrapped):
    try:
        wrapped.sendall(b"word\n")
    except OSError:
        # Refused meanwhile: the alert came before the reset, and lies there to be read.
        pass
    return "spoke" if wrapped.recv(16) == b"word\n" else "closed"


def as_client(name):
    try:
        with socket.create_connection((HERE, SERVER_PORT), 30) as plain, context(False, name).wrap_socket(plain) as wrapped:
            return converse(wrapped)
    except ssl.SSLError as error:
        return error.reason or error.args[-1]
    except OSError as error:
        return error.strerror


def managed_client(word="word"):
    return subprocess.Popen([MANAGED, "connect", str(ROGUE_PORT), word], stdout=subprocess.PIPE, text=True)


def listen():
    listener = socket.create_server((HERE, ROGUE_PORT), backlog=64)
    listener.settimeout(30)
    return listener


def as_server(listener, name):
    client = managed_client()
    said = "no connection"
    try:
        plain, _ = listener.accept()
        plain.settimeout(30)
        with plain, context(True, name).wrap_socket(plain, server_side=True) as wrapped:
            said = "spoke"
            wrapped.sendall(wrapped.recv(16))
            wrapped.recv(16)
    except ssl.SSLError as error:
        said = error.reason or error.args[-1]
    except OSError as error:
        said = error.strerror
    return client.communicate()[0].strip(), said


def certificates(names):
    for name in names:
        report(role="client", name=name, outcome=as_client(name))
    listener = listen()
    for name in names:
        client, said = as_server(listener, name)
        report(role="server", name=name, outcome=said, client=client)


class Bio:
    """A TLS object whose records this program carries itself."""

    def __init__(self, server, name="good", made=None, session=None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = made or context(server, name)
        self.tls = made.wrap_bio(self.incoming, self.outgoing, server_side=server, session=session)

    def step(self):
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False

    def feed(self, plain):
        data = plain.recv(65536)
        if not data:
            raise OSError("closed")
        self.incoming.write(data)

    def records(self):
        data, found = self.outgoing.read(), []
        while data:
            size = 5 + int.from_bytes(data[3:5], "big")
            found.append(data[:size])
            data = data[size:]
        return found


def client_flights(plain, first, **options):
    """Sends the first flight by `first`, and gives the records of the second."""
    bio = Bio(False, **options)
    bio.step()
    first(bio.records())
    while not bio.step():
        bio.feed(plain)
    return bio, bio.records()


def send_drop_by_drop(plain, data, pause):
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in data:
        plain.sendall(bytes([byte]))
        if pause:
            time.sleep(pause)


def wait_for_end(plain):
    begun = time.monotonic()
    try:
        while plain.recv(65536):
            pass
        end = "closed"
    except OSError as error:
        end = error.strerror
    return end, time.monotonic() - begun


RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def without_share(hello):
    """Its key share is of another group, which the other end does not have: it asks for a second hello."""
    share = bytes.fromhex("003300260024001d0020")
    assert share in hello
    return hello.replace(share, share.replace(b"\x00\x1d", b"\x00\x1e"))


def stall_retried_client(halves):
    """So many halves of a second ClientHello."""
    with socket.create_connection((HERE, SERVER_PORT), 60) as plain:
        bio = Bio(False)
        bio.step()
        hello = b"".join(bio.records())
        plain.sendall(without_share(hello))
        retried = RETRY in plain.recv(65536)
        # As it was at first: it has the share that was asked for.
        plain.sendall(hello[: len(hello) * halves // 2])
        end, _ = wait_for_end(plain)
        report(role="client", point=f"retry {halves}", end=end, retried=retried)


def stall_client(point):
    """0: silence; 1: half a ClientHello; 2: a ClientHello; 3: bytes that never end; 4…: so many records of the second flight."""
    with socket.create_connection((HERE, SERVER_PORT), 60) as plain:
        bio = Bio(False)
        bio.step()
        hello = b"".join(bio.records())
        try:
            if point == 1:
                plain.sendall(hello[:100])
            elif point == 3:
                send_drop_by_drop(plain, hello, 0.3)
            elif point:
                plain.sendall(hello)
            if point > 3:
                while not bio.step():
                    bio.feed(plain)
                plain.sendall(b"".join(bio.records()[: point - 3]))
            end, _ = wait_for_end(plain)
        except OSError as error:
            end = error.strerror
        report(role="client", point=point, end=end)


def server_flight(plain, name="good"):
    """Its TLS object, and the records that a server answers a ClientHello with."""
    bio = Bio(True, name)
    while not (bio.feed(plain) or bio.step() or bio.outgoing.pending):
        pass
    return bio, bio.records()


def stall_server(plain, point, client):
    """So many records of the server's flight."""
    with plain:
        if point:
            plain.sendall(b"".join(server_flight(plain)[1][:point]))
        wait_for_end(plain)
        report(role="server", point=point, client=client.communicate()[0].strip())


def stall_retried_server(plain, client):
    """Asks for a second ClientHello, and says no more."""
    made = context(True, "good")
    made.set_ecdh_curve("prime256v1")
    bio = Bio(True, made=made)
    with plain:
        bio.feed(plain)
        bio.step()
        flight = b"".join(bio.records())
        plain.sendall(flight)
        bio.feed(plain)
        wait_for_end(plain)
        report(role="server", point="retry", client=client.communicate()[0].strip(), retried=RETRY in flight)


def together(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stalls():
    threads = [threading.Thread(target=stall_client, args=(point,)) for point in range(7)]
    together(threads + [threading.Thread(target=stall_retried_client, args=(halves,)) for halves in (0, 1)])
    listener, threads = listen(), []
    for point in range(7):
        client = managed_client()
        threads.append(threading.Thread(target=stall_server, args=(listener.accept()[0], point, client)))
    client = managed_client()
    threads.append(threading.Thread(target=stall_retried_server, args=(listener.accept()[0], client)))
    together(threads)


def drip():
    with socket.create_connection((HERE, SERVER_PORT), 60) as plain:
        bio, second = client_flights(plain, lambda records: send_drop_by_drop(plain, b"".join(records), 0))
        send_drop_by_drop(plain, b"".join(second), 0)
        bio.tls.write(b"word\n")
        plain.sendall(bio.outgoing.read())
        said = b""
        while not said:
            bio.feed(plain)
            try:
                said = bio.tls.read(16)
            except ssl.SSLWantReadError:
                pass
        report(name="drip", outcome="spoke" if said == b"word\n" else "garbled")


def leave():
    """A server whose chain is refused, and which is gone when the alert comes: its kernel answers that with a reset at once."""
    listener = listen()
    for name in ("expired", "foreign_root", "two_uris"):
        client = managed_client()
        plain, _ = listener.accept()
        with plain:
            plain.sendall(b"".join(server_flight(plain, name)[1]))
        report(name=name, client=client.communicate()[0].strip())


def serve_one(made):
    listener, client = listen(), managed_client()
    plain, _ = listener.accept()
    said = "spoke"
    try:
        with plain, made.wrap_socket(plain, server_side=True) as wrapped:
            converse(wrapped)
    except OSError as error:
        said = getattr(error, "reason", None) or error.strerror
    report(role="server", outcome=said, client=client.communicate()[0].strip())


def old():
    """Knows no version but TLS 1.2."""
    made = context(False, "good")
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection((HERE, SERVER_PORT), 30) as plain, made.wrap_socket(plain) as wrapped:
            report(role="client", outcome=converse(wrapped))
    except OSError as error:
        report(role="client", outcome=getattr(error, "reason", None) or error.strerror)
    made = context(True, "good")
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_2
    serve_one(made)


def unasking():
    """A server with a good SVID that wants none of its client."""
    made = context(True, "good")
    made.verify_mode = ssl.CERT_NONE
    serve_one(made)


if __name__ == "__main__":
    deed = sys.argv[1]
    if deed == "certificates":
        certificates(sys.argv[2:])
    else:
        {"stalls": stalls, "drip": drip, "leave": leave, "old": old, "unasking": unasking}[deed]()
