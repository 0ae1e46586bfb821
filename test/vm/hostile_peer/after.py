"""A TLS peer that is authenticated, and misbehaves on the connection that is under way: records that are none, keys changed, a resumption replayed.

Knows nothing of riprap. Every deed prints JSON lines; the test knows what each must be.
"""
import socket
import ssl
import subprocess
import sys
import time

from peer import HERE, ROGUE_PORT, SERVER_PORT, Bio, client_flights, context, listen, managed_client, report, server_flight, wait_for_end

GARBAGE = {
    "clear_text": b"GET / HTTP/1.0\r\n\r\n",
    "forged_record": b"\x17\x03\x03\x00\x20" + bytes(32),
    "long_record": b"\x17\x03\x03\x41\x01" + bytes(16641),
    "clear_alert": b"\x15\x03\x03\x00\x02\x01\x00",
    "late_ccs": b"\x14\x03\x03\x00\x01\x01",
    "hello_again": b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
}


def read_alert(bio, plain):
    """What the other end says before it goes: the alert that OpenSSL has read, or how TCP ended."""
    while True:
        try:
            bio.feed(plain)
        except OSError as error:
            return error.strerror or str(error)
        try:
            bio.tls.read(65536)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            return error.reason


def say(bio, plain, data):
    bio.tls.write(data)
    plain.sendall(bio.outgoing.read())


def hear(bio, plain):
    while True:
        try:
            return bio.tls.read(65536)
        except ssl.SSLWantReadError:
            bio.feed(plain)


def garbage_as_client(name, data):
    with socket.create_connection((HERE, SERVER_PORT), 60) as plain:
        bio, second = client_flights(plain, lambda records: plain.sendall(b"".join(records)))
        plain.sendall(b"".join(second))
        say(bio, plain, b"word\n")
        hear(bio, plain)
        plain.sendall(data)
        report(role="client", name=name, outcome=read_alert(bio, plain))


def garbage_as_server(listener, name, data):
    client = managed_client()
    plain, _ = listener.accept()
    with plain:
        bio, flight = server_flight(plain)
        plain.sendall(b"".join(flight))
        while not bio.step():
            bio.feed(plain)
        hear(bio, plain)
        plain.sendall(data)
        said = read_alert(bio, plain)
    report(role="server", name=name, outcome=said, client=client.communicate()[0].strip())


def garbage():
    listener = listen()
    for name, data in GARBAGE.items():
        garbage_as_client(name, data)
        garbage_as_server(listener, name, data)


def openssl(*words):
    """With every line as it is written."""
    with open("/srv/peer/good.pem") as good, open("/tmp/above.pem", "w") as above:
        # Of the first file it takes the leaf alone, of the second everything.
        above.write(good.read().split("-----END CERTIFICATE-----\n", 1)[1])
    peer = ["-cert", "/srv/peer/good.pem", "-cert_chain", "/tmp/above.pem", "-key", "/srv/peer/key.key"]
    return subprocess.Popen(
        ["stdbuf", "-oL", "openssl", *words, *peer], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )


def wait_line(program, beginning):
    for line in program.stdout:
        if line.startswith(beginning):
            return
    raise EOFError(f"no {beginning!r}")


def update_keys(program, letter):
    """OpenSSL's own programs change their key when they read this letter: `k` alone, `K` asks the other end to as well."""
    try:
        for _ in range(20):
            program.stdin.write(letter + "\n")
            program.stdin.flush()
            time.sleep(0.1)
    except OSError:
        pass


def update_as_client(letter):
    program = openssl("s_client", "-connect", f"{HERE}:{SERVER_PORT}")
    program.stdin.write("word\n")
    program.stdin.flush()
    wait_line(program, "word")
    update_keys(program, letter)
    report(role="client", name=letter, end=str(program.wait(30)))


def update_as_server(letter):
    program = openssl("s_server", "-accept", str(ROGUE_PORT), "-Verify", "3", "-CAfile", "/srv/peer/roots.pem", "-partial_chain")
    wait_line(program, "ACCEPT")
    client = managed_client()
    wait_line(program, "Secure Renegotiation")
    update_keys(program, letter)
    report(role="server", name=letter, client=client.communicate()[0].strip())
    program.kill()
    program.wait()


def key_update():
    for letter in ("k", "K"):
        update_as_client(letter)
        update_as_server(letter)


class Recorder:
    """A socket that keeps what was sent."""

    def __init__(self, plain):
        self.plain, self.sent = plain, b""
        self.recv = plain.recv

    def sendall(self, data):
        self.sent += data
        self.plain.sendall(data)


def speak(made, session):
    """A connection that says a word; its bytes, its TLS object."""
    with socket.create_connection((HERE, SERVER_PORT), 60) as plain:
        recorder = Recorder(plain)
        bio, second = client_flights(recorder, lambda records: recorder.sendall(b"".join(records)), made=made, session=session)
        recorder.sendall(b"".join(second))
        say(bio, recorder, b"word\n")
        # The ticket comes with the first byte.
        hear(bio, recorder)
        return recorder.sent, bio


def replay():
    """A resumption, and then every byte of its client once more."""
    made = context(False, "good")
    _, first = speak(made, None)
    sent, second = speak(made, first.tls.session)
    with socket.create_connection((HERE, SERVER_PORT), 60) as plain:
        plain.sendall(sent)
        answer = b""
        try:
            while data := plain.recv(65536):
                answer += data
            end = "closed"
        except OSError as error:
            end = error.strerror
    report(name="replay", resumed=second.tls.session_reused, outcome=end, answered=len(answer) > 0)


MAX_EARLY_DATA = 15  # the tag of that field in what OpenSSL writes of a session


def read_der(data):
    """Tag, header and content of each element."""
    while data:
        size, begin = data[1], 2
        if size & 0x80:
            begin += size & 0x7F
            size = int.from_bytes(data[2:begin], "big")
        yield data[0], data[: begin + size]
        data = data[begin + size :]


def allow_early_data(path):
    """Turns a session into one that may send early data: its server never said so, and knows the ticket all the same."""
    with open(path) as file:
        der = ssl.PEM_cert_to_DER_cert(file.read().replace("SSL SESSION PARAMETERS", "CERTIFICATE"))
    fields = [field for tag, field in read_der(der[4:]) if tag & 0x1F != MAX_EARLY_DATA or tag < 0xA0]
    where = next((n for n, field in enumerate(fields) if field[0] > 0xA0 + MAX_EARLY_DATA), len(fields))
    fields.insert(where, bytes([0xA0 + MAX_EARLY_DATA, 5, 2, 3]) + b"\x7f\xff\xff")
    body = b"".join(fields)
    changed = ssl.DER_cert_to_PEM_cert(der[:2] + len(body).to_bytes(2, "big") + body)
    with open(path, "w") as file:
        file.write(changed.replace("CERTIFICATE", "SSL SESSION PARAMETERS"))


def get_session(path):
    program = openssl("s_client", "-connect", f"{HERE}:{SERVER_PORT}", "-sess_out", path)
    program.stdin.write("word\n")
    program.stdin.flush()
    wait_line(program, "word")
    program.stdin.write("Q\n")
    program.stdin.flush()
    program.wait(30)


def send_early(size):
    """A resumption that says so many bytes before anybody has answered, and a word after it."""
    get_session("/tmp/session")
    allow_early_data("/tmp/session")
    with open("/tmp/early", "w") as file:
        file.write("early" * (size // 5))
    program = openssl("s_client", "-connect", f"{HERE}:{SERVER_PORT}", "-sess_in", "/tmp/session", "-early_data", "/tmp/early")
    program.stdin.write("word\n")
    program.stdin.flush()
    lines = []
    for line in program.stdout:
        lines.append(line.strip())
        if line == "word\n":
            break
    program.stdin.close()
    program.wait(30)
    told = next((line for line in lines if line.startswith("Early data was")), lines[-1])
    report(name=str(size), resumed=any(line.startswith("Reused") for line in lines), early=told, outcome=lines[-1])


def early_data():
    for size in (1000, 16000, 40000):
        send_early(size)


if __name__ == "__main__":
    {"early_data": early_data, "garbage": garbage, "key_update": key_update, "replay": replay}[sys.argv[1]]()
