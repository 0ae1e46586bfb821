# What no good client does, from a gRPC stack that is not ours: prints, as JSON, the status of each misdeed. Run by abuse.test.ts with the socket's path.
import json
import socket
import sys
import time

import grpc

path = sys.argv[1]
PREFIX = "/SpiffeWorkloadAPI/"
HEADER = ("workload.spiffe.io", "true")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
raw = lambda data: data
channel = grpc.insecure_channel("unix:" + path)


def unary(method, request=b"", metadata=(HEADER,), on=channel, prefix=PREFIX):
    call = on.unary_unary(prefix + method, request_serializer=raw, response_deserializer=raw)
    try:
        answer = call(request, metadata=metadata, timeout=10)
        return "OK" if prefix == PREFIX else answer.hex()
    except grpc.RpcError as error:
        return error.code().name


def stream(method, request=b"", metadata=(HEADER,), on=channel):
    call = on.unary_stream(PREFIX + method, request_serializer=raw, response_deserializer=raw)
    try:
        answers = call(request, metadata=metadata, timeout=10)
        next(answers)
        answers.cancel()
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    for _ in range(5000):
        try:
            connection.connect(path)
            return connection
        except BlockingIOError:
            # The queue of the listening socket is full for the moment.
            time.sleep(0.001)
    raise TimeoutError("the server accepts no more")


def half_open(count):
    """How many of these connections, that begin and say no more, are kept."""
    connections = []
    for _ in range(count):
        connection = connect()
        try:
            connection.sendall(PREFACE + SETTINGS)
        except OSError:
            pass
        connections.append(connection)
    kept = 0
    for connection in connections:
        try:
            kept += 1 if connection.recv(1) else 0
        except OSError:
            pass
    for connection in connections:
        connection.close()
    return kept


def send_and_leave(data):
    connection = connect()
    try:
        connection.sendall(data)
    except OSError:
        pass
    connection.close()


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


DATA, HEADERS, RST_STREAM, SETTINGS_FRAME, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4


def head(method):
    return b"".join(
        field(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", (PREFIX + method).encode()),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"workload.spiffe.io", b"true"),
        )
    )


def storm(frames, settings=SETTINGS):
    """Sends these frames on one connection, reads nothing, and says how many bytes of them left."""
    connection = connect()
    connection.settimeout(2)
    sent = 0
    try:
        connection.sendall(PREFACE + settings)
        for data in frames:
            connection.sendall(data)
            sent += len(data)
    except OSError:
        pass
    connection.close()
    return sent


def half_open_streams(count):
    """Streams of which each has begun a message and says no more."""
    for index in range(count):
        stream = 2 * index + 1
        yield frame(HEADERS, END_HEADERS, stream, head("FetchX509Bundles")) + frame(DATA, 0, stream, b"\x00\x00")


def resets(count, cut):
    """Streams that are reset: at once, or in the middle of a message."""
    for index in range(count):
        stream = 2 * index + 1
        begun = frame(HEADERS, END_HEADERS, stream, head("FetchX509SVID"))
        yield begun + (frame(DATA, 0, stream, b"\x00\x00\x00") if cut else b"") + frame(RST_STREAM, 0, stream, b"\x00\x00\x00\x08")


def endless_header(size):
    yield frame(HEADERS, 0, 1, head("FetchX509SVID"))
    piece = frame(CONTINUATION, 0, 1, b"".join(field(b"x-%05d" % n, b"y" * 100) for n in range(100)))
    for _ in range(size // len(piece)):
        yield piece


def unread(count):
    """Calls whose answers may not be sent: the window is shut."""
    for index in range(count):
        stream = 2 * index + 1
        yield frame(HEADERS, END_HEADERS, stream, head("FetchX509Bundles")) + frame(DATA, END_STREAM, stream, b"\x00" * 5)


def pings(count):
    for _ in range(count // 100):
        yield frame(PING, 0, 0, b"12345678") * 100


WINDOW_SHUT = frame(SETTINGS_FRAME, 0, 0, b"\x00\x04\x00\x00\x00\x00")

audience = b"\x0a\x01a"
HEALTH = "/grpc.health.v1.Health/"
report = {
    "good": [stream("FetchX509SVID"), unary("FetchJWTSVID", audience)],
    "no header": [stream("FetchX509SVID", metadata=()), unary("FetchJWTSVID", audience, metadata=())],
    "header twice": [stream("FetchX509Bundles", metadata=(HEADER, HEADER))],
    "header in capitals": [stream("FetchX509SVID", metadata=(("workload.spiffe.io", "TRUE"),))],
    "cut short": [unary("FetchJWTSVID", b"\x0a\x05a"), stream("FetchX509SVID", b"\xff")],
    "no UTF-8": [unary("FetchJWTSVID", b"\x0a\x01\xff")],
    "too large": [unary("ValidateJWTSVID", b"\x12\x80\x80\x40" + b"a" * (1 << 20))],
    "unknown call": [unary("FetchEverything"), stream("fetchX509SVID")],
    "health": [unary("Check", request, (), prefix=HEALTH) for request in (b"", b"\x0a\x11SpiffeWorkloadAPI", b"\x0a\x01x", b"\x0a")],
    "compressed bomb": [],
}
compressed = grpc.insecure_channel("unix:" + path, compression=grpc.Compression.Gzip)
report["compressed bomb"].append(unary("ValidateJWTSVID", b"\x12\x80\x80\x80\x02" + b"a" * (4 << 20), on=compressed))

for data in (b"", b"GET / HTTP/1.1\r\n\r\n", PREFACE[:7], PREFACE + SETTINGS[:4], b"\x16\x03\x01\x02\x00\x01", b"\xff" * 4096):
    send_and_leave(data)
# A frame that says it is 16 MiB, and one of a stream that was never opened.
send_and_leave(PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01")
send_and_leave(PREFACE + SETTINGS + b"\x00\x00\x05\x00\x00\x00\x00\x00\x07hello")

calls = []
for _ in range(300):
    call = channel.unary_stream(PREFIX + "FetchX509Bundles", request_serializer=raw, response_deserializer=raw)
    calls.append(call(b"", metadata=(HEADER,), timeout=10))
for call in calls:
    call.cancel()

storm(half_open_streams(1000))
storm(resets(2000, cut=False))
storm(resets(1000, cut=True))
storm(unread(100), WINDOW_SHUT)
storm(pings(500_000))
report["endless header"] = storm(endless_header(64 << 20)) < (32 << 20)
report["half open"] = half_open(1000)
# A server may end the connection of one that did all this; whoever comes back is served.
grpc.channel_ready_future(channel).result(timeout=10)
report["afterwards"] = [stream("FetchX509SVID"), unary("FetchJWTSVID", audience)]
print(json.dumps(report))
