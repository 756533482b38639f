"""A client of the lab: does what its one argument says, in JSON, and prints what came of it, in JSON.

{"do": "http", "to": [ADDRESS, PORT], "path", "headers", "n", "keep", "wait", "tls": {...}}   requests, one by one
{"do": "lines", "to", "n", "waits", "tls"}    connections that each read a line, then send one after each wait
{"do": "udp", "to", "n"}                      datagrams
{"do": "burst", "to", "n", "seconds"}         connections spread over the seconds; how many were let in
{"do": "side", "to", "slow", "n"}             one slow request, and others beside it
{"do": "ping", "to"}                          an ICMP echo
"""

import http.client
import json
import socket
import ssl
import struct
import sys
import threading
import time

told = json.loads(sys.argv[1])
HOST, PORT = told["to"]
TIMEOUT = told.get("timeout", 10)


def connect():
    sock = socket.create_connection((HOST, PORT), timeout=TIMEOUT)
    tls = told.get("tls")
    if tls is None:
        return sock, None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=tls["ca"])
    context.check_hostname = False
    if "alpn" in tls:
        context.set_alpn_protocols(tls["alpn"])
    if "most" in tls:
        context.maximum_version = getattr(ssl.TLSVersion, tls["most"])
    if "least" in tls:
        context.minimum_version = getattr(ssl.TLSVersion, tls["least"])
    if "ciphers" in tls:
        context.set_ciphers(tls["ciphers"])
    if "cert" in tls:
        context.load_cert_chain(tls["cert"], tls["key"])
    wrapped = context.wrap_socket(sock, server_hostname=tls.get("sni"))
    names = [name for kind, name in wrapped.getpeercert().get("subjectAltName", ()) if kind == "DNS"]
    return wrapped, {"version": wrapped.version(), "alpn": wrapped.selected_alpn_protocol(), "names": names}


def attempt(work):
    try:
        return work()
    except (OSError, ssl.SSLError, http.client.HTTPException, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def read(response):
    text = response.read().decode()
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    headers = {}
    for name, value in response.getheaders():
        headers[name.lower()] = value
    return {"status": response.status, "headers": headers, "body": body}


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock, self.tls = connect()


def request(connection, path=None):
    headers = {"Host": told.get("host", "example.test"), **told.get("headers", {})}
    connection.request(told.get("method", "GET"), path or told.get("path", "/"), headers=headers)
    answer = read(connection.getresponse())
    answer["tls"] = connection.tls
    return answer


def do_http():
    answers = []
    connection = None
    for i in range(told.get("n", 1)):
        if i and told.get("wait"):
            time.sleep(told["wait"])
        if connection is None or not told.get("keep"):
            connection = Connection(HOST, PORT, timeout=TIMEOUT)
            connection.auto_open = 0
            answer = attempt(lambda: connection.connect())
            if answer is not None:
                answers.append(answer)
                connection = None
                continue
        answers.append(attempt(lambda: request(connection)))
        if not told.get("keep"):
            connection.close()
    return answers


def do_lines():
    answers = []
    for _ in range(told.get("n", 1)):
        def one():
            sock, tls = connect()
            file = sock.makefile("rwb")
            if told.get("first"):
                file.write(told["first"].encode())
                file.flush()
            answer = json.loads(file.readline())
            answer["tls"] = tls
            answer["echoes"] = []
            for wait in told.get("waits", []):
                time.sleep(wait)
                file.write(b"still there\n")
                file.flush()
                answer["echoes"].append(file.readline().decode().strip())
            sock.close()
            return answer
        answers.append(attempt(one))
    return answers


def do_udp():
    answers = []
    family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
    for _ in range(told.get("n", 1)):
        def one():
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.settimeout(TIMEOUT)
            sock.sendto(b"hello", (HOST, PORT))
            return json.loads(sock.recv(4096))
        answers.append(attempt(one))
    return answers


def do_burst():
    let_in = []

    def one():
        try:
            socket.create_connection((HOST, PORT), timeout=0.9).close()
            let_in.append(1)
        except OSError:
            pass
    threads = []
    for _ in range(told["n"]):
        threads.append(threading.Thread(target=one))
        threads[-1].start()
        time.sleep(told["seconds"] / told["n"])
    for thread in threads:
        thread.join()
    return len(let_in)


def do_side():
    answers = {}

    def slow():
        connection = Connection(HOST, PORT, timeout=30)
        answers["slow"] = attempt(lambda: request(connection, f"/slow?s={told['slow']}"))
    thread = threading.Thread(target=slow)
    thread.start()
    time.sleep(0.5)
    answers["others"] = do_http()
    thread.join()
    return answers


def do_ping():
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.settimeout(TIMEOUT)
    packet = bytearray(struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"ahoy")
    total = sum(packet[i] << 8 | packet[i + 1] for i in range(0, len(packet), 2))
    total = (total & 0xFFFF) + (total >> 16)
    packet[2:4] = struct.pack("!H", ~total & 0xFFFF)
    sock.sendto(bytes(packet), (HOST, 0))
    answer, (source, _) = sock.recvfrom(1500)
    return {"from": source, "type": answer[20], "text": answer[28:].decode()}


print(json.dumps({"ping": do_ping, "http": do_http, "lines": do_lines, "udp": do_udp, "burst": do_burst, "side": do_side}[told["do"]]()))
