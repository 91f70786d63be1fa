"""A host beside the one under test: echo, HTTP and DNS, all on its own addresses. Each line that it
prints is something that arrived."""
import http.server, json, socket, socketserver, struct, sys, threading

names = json.loads(sys.argv[1])          # name -> list of answers, each a list of addresses; the last one stays
four, six = sys.argv[2], sys.argv[3]

def say(*what):
    print(*what, flush=True)

def thread(work, *args):
    threading.Thread(target=work, args=args, daemon=True).start()

def echo(family, address, port):
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(512)
        while True:
            one, peer = listener.accept()
            say('tcp', port)
            thread(converse, one)

def converse(one):
    # Says back what it heard when the other side has said all: half-closed both ways.
    with one:
        total = 0
        try:
            while data := one.recv(65536):
                total += len(data)
                if data.startswith(b'WAIT'):
                    one.sendall(b'waited\n')
                    continue
                one.sendall(data)
            one.sendall(b'end %d\n' % total)
        except OSError:
            pass

def datagrams(family, address, port):
    with socket.socket(family, socket.SOCK_DGRAM) as sink:
        sink.bind((address, port))
        while True:
            data, peer = sink.recvfrom(65536)
            say('udp', port)
            sink.sendto(data, peer)

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ('page %s of %s' % (self.path, self.headers['Host'])).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        say('http', self.headers.get('Host'))

def answer(question):
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]].decode())
        at += 1 + question[at]
    kind = struct.unpack('!H', question[at + 1:at + 3])[0]
    name = '.'.join(labels).lower()
    say('dns', name, {1: 'A', 28: 'AAAA'}.get(kind, kind))
    known = names.get(name)
    found = []
    if known:
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        current = known[0]
        for address in current:
            if (':' in address) == (family == socket.AF_INET6) and family:
                raw = socket.inet_pton(family, address)
                found.append(b'\xc0\x0c' + struct.pack('!HHIH', kind, 1, 1, len(raw)) + raw)
        # The next one who asks for an address that is there hears the next answer.
        if found and len(known) > 1:
            known.pop(0)
    flags = 0x8180 if known else 0x8183
    head = question[:2] + struct.pack('!HHHHH', flags, 1, len(found), 0, 0)
    return head + question[12:at + 5] + b''.join(found)

def resolver(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        while True:
            question, peer = server.recvfrom(4096)
            try:
                server.sendto(answer(question), peer)
            except (IndexError, struct.error):
                say('dns malformed')

for port in (7000, 7001, 7002):
    thread(echo, socket.AF_INET, four, port)
    thread(echo, socket.AF_INET6, six, port)
for port in (443, 7000):
    thread(datagrams, socket.AF_INET, four, port)
http.server.ThreadingHTTPServer.address_family = socket.AF_INET
pages = http.server.ThreadingHTTPServer((four, 8080), Page)
thread(pages.serve_forever)
thread(resolver, four)
say('ready')
threading.Event().wait()
