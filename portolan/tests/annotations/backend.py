"""A backend that says what it saw, and misbehaves when it is told to.

8080 and 8084 (HTTP): every answer is JSON: the pod, the peer, and the request.
    /set?path=P&status=N&delay=S   from now on P is answered so
    /seen?path=P                   how P was asked for: a list of [seconds, method, Host, port]
    /slow?s=S                      answers after S seconds
    /cookie                        sets the application's cookie
8081 (TCP) and 8082 (UDP): a PROXY protocol v2 header is read first, and told of.
8083 (TCP): tells the pod and the peer, and then sends back what comes, line by line.
"""

import http.server
import json
import os
import socket
import socketserver
import struct
import threading
import time
import urllib.parse

POD = os.environ["POD"]
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
behaviour = {}
seen = {}
lock = threading.Lock()


def plain(address):
    return address[0].removeprefix("::ffff:")


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        port = self.server.server_address[1]
        headers = {}
        status = 200
        body = {"pod": POD, "peer": plain(self.client_address), "port": self.client_address[1], "method": self.command,
                "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
        if url.path == "/set":
            behaviour[query["path"]] = (int(query.get("status", 200)), float(query.get("delay", 0)))
        elif url.path == "/seen":
            with lock:
                body = {"pod": POD, "seen": seen.get(query["path"], [])}
        elif url.path == "/slow":
            time.sleep(float(query["s"]))
        elif url.path == "/cookie":
            headers["Set-Cookie"] = "app=mine; Path=/"
        else:
            with lock:
                seen.setdefault(url.path, []).append([time.time(), self.command, self.headers.get("Host", ""), port])
            status, delay = behaviour.get(url.path, (200, 0))
            time.sleep(delay)
        length = int(self.headers.get("Content-Length", 0))
        if length:
            self.rfile.read(length)
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = handle_one

    def log_message(self, *_):
        pass


class HttpServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128
    daemon_threads = True


def proxied(header, rest):
    """The client that a PROXY v2 header names."""
    command, family = header[12], header[13]
    if command & 0xF == 0:
        return {"command": "LOCAL"}
    size, form = (4, socket.AF_INET) if family >> 4 == 1 else (16, socket.AF_INET6)
    source, target = (socket.inet_ntop(form, rest[i * size:(i + 1) * size]) for i in (0, 1))
    ports = struct.unpack("!HH", rest[2 * size:2 * size + 4])
    return {"source": source, "source_port": ports[0], "target": target, "target_port": ports[1],
            "transport": family & 0xF}


class Proxied(socketserver.StreamRequestHandler):
    def handle(self):
        answer = {"pod": POD, "peer": plain(self.client_address), "proxy": None}
        header = self.rfile.read(16)
        if header[:12] == SIGNATURE:
            answer["proxy"] = proxied(header, self.rfile.read(struct.unpack("!H", header[14:16])[0]))
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class Datagrams(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        answer = {"pod": POD, "peer": plain(self.client_address), "proxy": None}
        if data[:12] == SIGNATURE:
            length = struct.unpack("!H", data[14:16])[0]
            answer["proxy"], data = proxied(data, data[16:16 + length]), data[16 + length:]
        answer["text"] = data.decode()
        sock.sendto(json.dumps(answer).encode(), self.client_address)


class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(json.dumps({"pod": POD, "peer": plain(self.client_address)}).encode() + b"\n")
        for line in self.rfile:
            self.wfile.write(line)


class Tcp(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128


class Udp(socketserver.ThreadingUDPServer):
    address_family = socket.AF_INET6


servers = [HttpServer(("::", 8080), Http), HttpServer(("::", 8084), Http), Tcp(("::", 8081), Proxied),
           Udp(("::", 8082), Datagrams), Tcp(("::", 8083), Lines)]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
