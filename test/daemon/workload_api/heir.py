# A connection to the Workload API that outlives the process which made it, whose number another one gets: prints who of them is answered.
# Run with the socket's path, by whoever may write ns_last_pid.
import os
import socket
import subprocess
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
TRIES = 500


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


HEAD = b"".join(
    field(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/SpiffeWorkloadAPI/FetchX509SVID"),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"workload.spiffe.io", b"true"),
    )
)


def read(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def ask(connection, stream):
    """Is there an SVID on this stream of the connection?"""
    try:
        connection.sendall(frame(HEADERS, END_HEADERS, stream, HEAD) + frame(DATA, END_STREAM, stream, bytes(5)))
        while True:
            head = read(connection, 9)
            payload = read(connection, int.from_bytes(head[:3], "big"))
            if int.from_bytes(head[5:], "big") == stream and head[3] == DATA and b"spiffe://" in payload:
                return "answered"
            if int.from_bytes(head[5:], "big") == stream and head[4] & END_STREAM:
                return "refused"
    except (OSError, EOFError):
        return "closed"


def connect(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(path)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
    return connection


def play(role, path):
    connection = connect(path)
    print(f"{role} {ask(connection, 1)}", flush=True)
    if role == "maker" and os.fork() > 0:
        os._exit(0)
    sys.stdin.readline()
    if role == "maker":
        print(f"heir {ask(connection, 3)}", flush=True)


def start(role, path):
    """Begins a process of that role, and repeats what it says first."""
    words = [sys.executable, __file__, path, role]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(child.stdout.readline(), end="", flush=True)
    return child


def start_as(pid, role, path):
    for _ in range(TRIES):
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(pid - 1))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            if os.getpid() != pid:
                os._exit(0)
            os.dup2(writer, 1)
            os.execv(sys.executable, [sys.executable, __file__, path, role])
        os.close(writer)
        if child == pid:
            print(os.fdopen(reader).readline(), end="", flush=True)
            return child
        os.close(reader)
        os.waitpid(child, 0)
    raise TimeoutError("the number came to another process")


if len(sys.argv) == 3:
    play(sys.argv[2], sys.argv[1])
    sys.exit(0)
maker = start("maker", sys.argv[1])
maker.wait()
start_as(maker.pid, "successor", sys.argv[1])
maker.stdin.write("\n")
maker.stdin.close()
print(maker.stdout.readline(), end="", flush=True)
