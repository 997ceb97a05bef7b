import GrenacheAccess
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@testable import GrenacheGrape

@Suite("A grape, over real sockets", .timeLimit(.minutes(2)))
struct GrapeNodeTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("what is announced at one grape is found at the other")
  func twoGrapes() async throws {
    let (host, client) = (try authority.host(), try authority.worker("rpc_test", "own"))
    try await withGrape(tls: host) { first in
      let bootstrap = [Endpoint(first.dht)]
      try await withGrape(tls: host, bootstrap: bootstrap) { second in
        let announced = try await post(
          "{\"rid\":\"1\",\"data\":[\"rpc_test\",1337]}", "/announce", to: second.api, as: client)
        #expect(announced.status == 200 && announced.body == "1")
        for grape in [first, second] {
          let found = try await post(
            "{\"rid\":\"1\",\"data\":\"rpc_test\"}", "/lookup", to: grape.api, as: client)
          #expect(found.body == "[\"127.0.0.1:1337\"]")
          #expect(found.fields == ["Date", "Connection", "Keep-Alive", "Content-Length"])
        }
        let own = try await post(
          "{\"data\":[\"own\",0]}", "/announce", to: first.api, as: client)
        #expect(own.body == "1")
        let port = try await post("{\"data\":\"own\"}", "/lookup", to: second.api, as: client)
        #expect(port.body == "[\"127.0.0.1:\(first.dht.port)\"]")
      }
    }
  }

  @Test("a grape alone: no node to query, but it keeps the announcement itself")
  func alone() async throws {
    let client = try authority.worker("svc")
    try await withGrape(tls: try authority.host()) { grape in
      let announced = try await post(
        "{\"data\":[\"svc\",1]}", "/announce", to: grape.api, as: client)
      #expect(announced.status == 200 && announced.body == "\"No nodes to query\"")
      let found = try await post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: client)
      #expect(found.body == "[\"127.0.0.1:1\"]")
      let none = try await post("{\"data\":\"nobody\"}", "/lookup", to: grape.api, as: client)
      #expect(none.status == 200 && none.body == "[]")
    }
  }

  private func payload(_ count: Int) -> [UInt8] {
    let start = Array("{\"data\":\"svc\",\"x\":\"".utf8)
    return start + [UInt8](repeating: 0x61, count: count - start.count - 2) + Array("\"}".utf8)
  }

  @Test(
    "a body at the limit is taken, what is past it answered with 413; the connection is kept",
    arguments: [(8_192, 200), (8_193, 413), (8_194, 413), (1 << 20, 413)], [false, true])
  func payloadLimit(_ size: (bytes: Int, status: Int), _ isChunked: Bool) async throws {
    let body = payload(size.bytes)
    try await withPlaintextGrape { grape in
      let connection = try PlainConnection(grape.api)
      for _ in 0..<2 {
        let answer = try connection.post(body, "/lookup", isChunked: isChunked)
        #expect(answer.status == size.status && answer.isKept)
        #expect(answer.body == (size.status == 200 ? "[]" : "ERR_GRAPE_PAYLOAD_SIZE"))
      }
    }
  }

  @Test("a body of which not even the rest is read is answered at once, and the connection closed")
  func payloadFarBeyond() async throws {
    try await withPlaintextGrape { grape in
      let connection = try PlainConnection(grape.api)
      try connection.sendHead("/lookup", "Content-Length: \(GrapeAPI.refusedBytesMax + 1)")
      let answer = try connection.answer()
      #expect(answer.status == 413 && answer.body == "ERR_GRAPE_PAYLOAD_SIZE" && !answer.isKept)
    }
  }

  @Test("P26 with certificates and without a policy a grape does not run")
  func noPolicy() async throws {
    let host = try authority.host()
    let error = await #expect(throws: GrapeError.self) {
      try await withGrape(tls: host, configure: { $0.access = nil }) { _ in }
    }
    #expect(error?.description.contains("access policy") == true)
  }

  @Test("P26 only a certificate that names a service may announce it; looking up is open")
  func announcers() async throws {
    let client = try authority.client()
    let worker = try authority.worker("svc", "rest:*")
    try await withGrape(tls: try authority.host()) { grape in
      for (service, tls, isAllowed) in [
        ("svc", client, false), ("svc", worker, true), ("rest:a", worker, true),
        ("rest", worker, false), ("svc2", worker, false),
      ] {
        let answer = try await post(
          "{\"data\":[\"\(service)\",1]}", "/announce", to: grape.api, as: tls)
        if isAllowed {
          #expect(answer.body == "\"No nodes to query\"")
        } else {
          #expect(answer.status == 403 && answer.body == "ERR_GRAPE_NOT_PERMITTED")
        }
      }
      let stolen = try await post("{\"data\":\"svc2\"}", "/lookup", to: grape.api, as: client)
      #expect(stolen.body == "[]")
    }
  }

  @Test("P26 of hundreds of announcements without the right to it, none is accepted")
  func tricks() async throws {
    let client = try authority.client()
    let worker = try authority.worker("svc", "rest:*", "a b")
    // Names that look like those of the certificate, or that other ways of comparing would take for them.
    let names =
      [
        "SVC", "svc ", " svc", "svc\\u0000", "svc\\u0000x", "svc:", "svc*", "sv*", "*", "", "rest",
        "rest*", "Rest:a", "res", "rest\\u003b", "ѕvс", "svc\\n", "../svc", "svc/..", "a%20b",
        "a+b",
        "%73vc", "svc,rest:a", "grenache:svc", "worker", "client.test", "127.0.0.1",
      ].map { "\"\($0)\"" } + ["[115,118,99,0]", "[371,118,99,32]", "[42]", "[]"]
    try await withGrape(tls: try authority.host()) { grape in
      var (refused, asked) = (0, 0)
      for (tls, extra) in [(client, ["\"svc\"", "\"rest:a\"", "\"a b\""]), (worker, [])] {
        let kept = try await KeptClient(tls, grape.api)
        for name in names + extra {
          for port in ["0", "1", "4001.0", "65535", "1,\"127.0.0.1\"", "1,\"10.0.0.1\""] {
            let answer = try await kept.post("{\"data\":[\(name),\(port)]}", "/announce")
            asked += 1
            if answer.status == 403, answer.body == "ERR_GRAPE_NOT_PERMITTED" { refused += 1 }
          }
        }
      }
      #expect(asked > 350 && refused == asked, "\(asked - refused) of \(asked) were accepted")
      let kept = try await KeptClient(worker, grape.api)
      #expect(try await kept.status("announcements") == 0)
      _ = try await kept.post("{\"data\":[[115,118,99],1]}", "/announce")
      #expect(try await kept.status("announcements") == 1, "and with the right, it is")
    }
  }

  @Test("P26 a policy of the grape's own decides, from the next request on")
  func policy() async throws {
    let client = try authority.client()
    let access = AccessControl(
      AccessPolicy([
        .init("all", allow: [.announce], on: .patterns(["a*"]), to: [.dns("client.test")])
      ]))
    try await withGrape(tls: try authority.host(), configure: { $0.access = access }) { grape in
      let allowed = try await post("{\"data\":[\"ab\",1]}", "/announce", to: grape.api, as: client)
      #expect(allowed.status == 200)
      let denied = try await post("{\"data\":\"ab\"}", "/lookup", to: grape.api, as: client)
      #expect(denied.status == 403)
      access.policy = .byCertificate
      let found = try await post("{\"data\":\"ab\"}", "/lookup", to: grape.api, as: client)
      #expect(found.body == "[\"127.0.0.1:1\"]")
      let again = try await post("{\"data\":[\"ab\",1]}", "/announce", to: grape.api, as: client)
      #expect(again.status == 403)
    }
  }

  @Test("P26 without a certificate of the authority there is no answer")
  func strangers() async throws {
    let stranger = try TestAuthority()
    let host = try authority.host()
    var outsider = try stranger.client()
    outsider.roots = host.roots
    let client = outsider
    try await withGrape(tls: host) { grape in
      let error = await #expect(throws: TransportError.self) {
        try await post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: client)
      }
      #expect(error?.code == .tlsFailed)
      #expect(error?.tls?.code == .refusedByPeer)
    }
  }

  @Test("BEP 32: grapes on IPv4 and IPv6 know each other in both networks")
  func dualStack() async throws {
    let (host, client) = (try authority.host(), try authority.worker("svc"))
    let both: @Sendable (inout GrapeConfiguration) -> Void = { $0.dhtHostIPv6 = "::1" }
    try await withGrape(tls: host, configure: both) { first in
      let bootstrap = [Endpoint(first.dht), Endpoint(host: "::1", port: first.dht.port)]
      try await withGrape(tls: host, bootstrap: bootstrap, configure: both) { second in
        try await eventually {
          let nodes = try await post("", "/nodes", to: second.api, as: client).body
          return nodes.contains("\"\(first.dht)\"") && nodes.contains(":\(first.dht.port)\"},{")
            && nodes.contains("[0:0:0:0:0:0:0:1]:\(first.dht.port)")
        }
        // Over each network the announcement counts for that network's address.
        let announced = try await post(
          "{\"data\":[\"svc\",9]}", "/announce", to: second.api, as: client)
        #expect(announced.body == "2")
        // It is one service on this host, whatever the network.
        let found = try await post("{\"data\":\"svc\"}", "/lookup", to: first.api, as: client).body
        #expect(found == "[\"127.0.0.1:9\"]")
      }
    }
  }

  @Test("garbage datagrams and a dead bootstrap node harm nothing")
  func garbage() async throws {
    let client = try authority.client()
    let dead = Endpoint(host: "127.0.0.1", port: 9)
    try await withGrape(tls: try authority.host(), bootstrap: [dead]) { grape in
      let loop = try EventLoopGroup.shared().next()
      try await loop.run { loop in
        let socket = try DatagramSocket(.loopback(port: 0))
        for text in ["", "garbage", "d1:y1:qe", "d1:rd2:id0:e1:t0:1:y1:re"] {
          socket.send(Array(text.utf8).span, to: grape.dht)
        }
        socket.closeDescriptor(on: loop)
      }
      let found = try await post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: client)
      #expect(found.body == "[]")
    }
  }
}
